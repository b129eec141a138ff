"""The graph IR as text that people read: `print_program`. The same program always gives the same text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from archc.ir.graph import (
    Apply,
    Assign,
    Branch,
    Call,
    ChildEntry,
    Entry,
    Guard,
    ListEntry,
    OpEntry,
    Operand,
    Relabel,
    Repeat,
    Statement,
    Template,
    Value,
    WeightEntry,
)
from archc.ir.program import Program
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Comprehension, Const, Extent, Scalar, Sym, Var, plain
from archc.ir.types import TensorType
from archc.ops.base import Op, parameters
from archc.source import Span

INFIX = ("+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "and", "or")


def print_program(program: Program) -> str:
    """Every template once, the model last; values are `%n` in the order in which they are made."""
    printer = _Printer()
    lines = [f"program {program.name} of {program.model}  # {_place(program.span)}"]
    lines += [f"  {name} = {_literal(scalar)}" for name, scalar in program.parameters]
    for entry in program.entry_points:
        lines += ["", *printer.template(entry.template)]
    lines += ["", *printer.template(program.root)]
    lines.append("")
    for given in program.inputs:
        default = f" = {given.default}" if given.default is not None else ""
        lines.append(f"{given.kind} {given.name}: {given.value.type} is {printer.value(given.value)}{default}")
    for output in program.outputs:
        when = f" when {output.when}" if output.when else ""
        lines.append(f"{output.kind} {output.name}{when} = {printer.operand(output.value)}  # {_place(output.span)}")
    lines += [f"requires {line}" for line in dict.fromkeys(o.why for o in program.obligations)]
    return "\n".join(lines) + "\n"


class _Printer:
    """Numbers values and templates in the order in which they are met."""

    def __init__(self) -> None:
        self.values: dict[int, int] = {}
        self.names: dict[int, str] = {}
        self.kept: list[Template] = []

    def value(self, value: Value) -> str:
        return f"%{self.values.setdefault(value.uid, len(self.values))}"

    def operand(self, operand: Operand) -> str:
        if isinstance(operand, tuple):
            return f"[{', '.join(map(self.value, operand))}]"
        return "none" if operand is None else self.value(operand)

    def template(self, template: Template) -> list[str]:
        """The template and, before it, those that it uses and that are not printed yet."""
        before = [
            line for inner in _callees(template.body) if id(inner) not in self.names for line in self.inner(inner)
        ]
        number = len(self.kept)
        self.kept.append(template)
        self.names[id(template)] = f"{template.name}#{number}"
        lines = [f"{template.role} {self.names[id(template)]}  # {_place(template.span)}"]
        lines += [f"  {name} = {_literal(scalar)}" for name, scalar in template.parameters]
        lines += [f"  in {self.value(v)}{' ' + v.name if v.name else ''}: {v.type}" for v in template.inputs]
        for entry in template.entries:
            lines += [f"  {line}" for line in self.entry(entry)]
        lines += [f"  {line}" for line in self.body(template.body)]
        lines.append(f"  out {', '.join(map(self.value, template.outputs))}")
        return [*before, *lines]

    def inner(self, template: Template) -> list[str]:
        return [] if id(template) in self.names else [*self.template(template), ""]

    def entry(self, entry: Entry) -> Iterator[str]:
        guards = "".join(f" if {_guard(guard)}" for guard in entry.guards)
        name = entry.name or "_"
        match entry:
            case OpEntry(op=op, weights=weights):
                shapes = ", ".join(f"{w.name}{list(w.shape)}" for w in weights)
                yield f"owns {name}: {op.name} {shapes}{guards}"
            case ChildEntry(template=template):
                yield f"owns {name}: {self.names.get(id(template), template.name)}{guards}"
            case WeightEntry(weight=weight):
                yield f"owns {name}: {weight.kind} {list(weight.shape)} {weight.dtype}{guards}"
            case ListEntry(items=items):
                yield f"owns {name}: list of {len(items)}{guards}"
                for number, item in enumerate(items):
                    for line in self.entry(item):
                        yield f"  {number} {line}"

    def body(self, body: Iterable[Statement]) -> Iterator[str]:
        for statement in body:
            yield from self.statement(statement)

    def statement(self, statement: Statement) -> Iterator[str]:
        match statement:
            case Apply(op=op, inputs=inputs, entry=entry, span=span):
                arguments = ", ".join([*map(self.operand, inputs), *_arguments(op)])
                yield f"{self.made(statement)} = {op.name}({arguments}){_owner(entry)}  # {_place(span)}"
            case Call(template=template, inputs=inputs, args=args, entry=entry, span=span):
                arguments = ", ".join([*map(self.operand, inputs), *(f"{n}={_literal(s)}" for n, s in args)])
                name = self.names[id(template)]
                yield f"{self.made(statement)} = {name}({arguments}){_owner(entry)}  # {_place(span)}"
            case Relabel(source, target):
                yield f"{self.value(target)}: {target.type} = {self.value(source)}"
            case Assign(name=name, value=value):
                yield f"let {name} = {self.operand(value)}"
            case Repeat(keyword=keyword, label=label, turns=turns, phis=phis, span=span):
                yield f"{keyword}{' ' + label if label else ''}:  # {_place(span)}"
                yield from (f"  {phi.var.name} = {show(phi.first)}, then {show(phi.next)}" for phi in phis)
                yield from (f"  {line}" for line in self.body(turns))
            case Branch():
                yield from self.branch(statement)

    def branch(self, branch: Branch) -> Iterator[str]:
        taken = {True: "taken", False: "not taken", None: "by the sizes"}[branch.taken]
        yield f"if {show(branch.condition.sym)}:  # {taken}, {_place(branch.span)}"
        for word, arm in (("", branch.then), ("else:", branch.otherwise)):
            if word and (arm is None or arm):
                yield word
            yield from (("  not for these numbers",) if arm is None else (f"  {line}" for line in self.body(arm)))
        for merge in branch.merges:
            arms = " or ".join("nothing" if v is None else self.value(v) for v in (merge.then, merge.otherwise))
            yield f"{self.value(merge.result)}: {merge.result.type} = {merge.name} of {arms}"

    def made(self, statement: Apply | Call) -> str:
        return ", ".join(f"{self.value(v)}: {v.type}" for v in statement.outputs) or "nothing"


def _callees(body: Iterable[Statement]) -> Iterator[Template]:
    for statement in body:
        match statement:
            case Call(template=template):
                yield template
            case Repeat(turns=turns):
                yield from _callees(turns)
            case Branch(then=then, otherwise=otherwise):
                yield from _callees((then or ()) + (otherwise or ()))


def _arguments(op: Op) -> Iterator[str]:
    """The arguments that differ from their defaults."""
    for parameter in parameters(type(op)):
        value = getattr(op, parameter.name)
        if parameter.required or value != parameter.default:
            yield f"{parameter.name}={_literal(value)}"


def _literal(value: Any) -> str:
    """A compile-time value: numbers as they are, axes by name, regions and paths with their arguments."""
    match value:
        case Scalar():
            return _literal(plain(value))
        case TensorType():
            return str(value)
        case None | True | False:
            return {None: "none", True: "true", False: "false"}[value]
        case str():
            return value
        case list() | tuple():
            return f"[{', '.join(map(_literal, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}: {_literal(item)}' for key, item in value.items())}}}"
        case _ if is_dataclass(value) and not isinstance(value, type):
            inner = [_literal(getattr(value, f.name)) for f in fields(value) if f.repr and f.compare]
            return f"{getattr(value, 'name', type(value).__name__.lower())}({', '.join(inner)})"
        case _:
            return str(value)


def show(sym: Sym) -> str:
    """An expression as the spec would write it."""
    match sym:
        case Const(value):
            return _literal(value)
        case Var(name):
            return name
        case Extent(value, axis):
            return f"size({value}, {axis})"
        case SymApply("if", (condition, then, otherwise)):
            return f"({show(then)} if {show(condition)} else {show(otherwise)})"
        case SymApply("neg", (inner,)):
            return f"-{show(inner)}"
        case SymApply("index", (items, at)):
            return f"{show(items)}[{show(at)}]"
        case SymApply("slice", (items, low, high)):
            ends = ("" if end == Const(None) else show(end) for end in (low, high))
            return f"{show(items)}[{':'.join(ends)}]"
        case SymApply("list", items):
            return f"[{', '.join(map(show, items))}]"
        case SymApply(op, (left, right)) if op in INFIX:
            return f"({show(left)} {op} {show(right)})"
        case SymApply(op, args, fn):
            return f"{fn.name if fn is not None else op}({', '.join(map(show, args))})"
        case Comprehension(expr, targets, iterable):
            return f"[{show(expr)} for {', '.join(targets)} in {show(iterable)}]"


def _owner(entry: str | None) -> str:
    return "" if entry is None else f" with {entry or '_'}"


def _guard(guard: Guard) -> str:
    return show(guard.condition) if guard.truth else f"not {show(guard.condition)}"


def _place(span: Span) -> str:
    return f"{span.source.name}:{span.line}"
