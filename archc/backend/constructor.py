"""Writing `__init__`: what a class owns, made from its parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archc.backend.python import attribute_name, identifier, literal, quoted
from archc.backend.writer import ClassNames, Line
from archc.ir.graph import (
    Branch,
    Call,
    ChildEntry,
    Entry,
    Guard,
    ListEntry,
    OpEntry,
    Repeat,
    Statement,
    Value,
    WeightEntry,
)
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Const, Scalar, Sym, Var, turns_of, variables
from archc.ops.base import Weight

if TYPE_CHECKING:
    from archc.backend.classes import ClassWriter


def python_type(value: Scalar | None, kind: str | None = None) -> str:
    """The annotation of a constructor's parameter, from its value and, where it is declared, its kind."""
    if value is None:
        return "Any"
    if kind in ("size", "float"):
        return {"size": "int | Sequence[int]", "float": "float"}[kind]
    match value.value:
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "str"
        case tuple() as items:
            inner = {python_type(i) for i in items}
            one = next(iter(inner)) if len(inner) == 1 else "float" if inner == {"int", "float"} else "Any"
            return f"Sequence[{one}]"
        case _:
            return "Any"


class Constructor:
    """Writes the assignments of `__init__`, noting which parameters they read."""

    def __init__(self, owner: ClassWriter) -> None:
        self.owner = owner
        self.used: dict[str, None] = {}
        self.locals_made: set[str] = set()
        self.lets: list[Line] = []
        self.scopes: list[set[str]] = []
        self.others: set[int] = set()
        self.indent = 8
        from archc.backend.python import Expressions

        self.expressions = Expressions(self._variable, self._no_extent, owner.needs.helper, owner.needs.define)
        self.functional = False
        # For a loop whose results are tapped: what to note of each turn, given the channels it ends with.
        self.taps: dict[str, Callable[[str], list[Line]]] = {}

    # `Code` for the constructors of operations.
    def number(self, value: Any) -> str:
        sym = value.sym if isinstance(value, (Scalar,)) else value.sym if hasattr(value, "size") else value
        if isinstance(value, Scalar) and isinstance(value.value, tuple) and isinstance(sym, Const):
            return literal(tuple(i.value for i in value.value))
        assert sym is not None, value
        return self.expressions.write(self.owner.names.resolve(sym))

    def helper(self, name: str) -> str:
        return self.owner.needs.helper(name)

    def _no_extent(self, extent: Any) -> str:
        raise AssertionError("a constructor cannot read the size of an input")

    def _variable(self, var: Var) -> str:
        if any(var.name in scope for scope in self.scopes):
            return identifier(var.name)
        if var.definition is not None:
            if var.name in self.locals_made:
                return identifier(var.name)
            from archc.backend.writer import short

            definition = self.owner.names.resolve(var.definition)
            if (
                isinstance(definition, Const)
                or short(definition)
                or any(v in scope for scope in self.scopes for v in variables(definition))
            ):
                text = self.expressions.write(definition)
                return f"({text})" if " " in text else text
            text = self.expressions.write(definition)
            self.locals_made.add(var.name)
            self.lets.append(Line(8, f"{identifier(var.name)} = {text}"))
            return identifier(var.name)
        self.used.setdefault(var.name)
        return identifier(var.name)

    def let_lines(self) -> list[Line]:
        return self.lets

    def kept_lines(self) -> list[Line]:
        lines = []
        for name, var in self.owner.names.kept.items():
            text = (
                self._variable(var)
                if var.definition is None
                else self.expressions.write(self.owner.names.resolve(var.definition))
            )
            lines.append(Line(8, f"self.{self.owner.attribute(name)} = {text}"))
        return lines

    # ---- entries

    def lines_of(self, entries: tuple[Entry, ...]) -> list[Line]:
        lines: list[Line] = []
        open_guards: tuple[Guard, ...] = ()
        for entry in _with_lists(entries):
            if entry.guards != open_guards:
                lines += self._guard(entry.guards, open_guards)
                open_guards = entry.guards
            self.indent = 8 + 4 * len(entry.guards)
            lines += self.entry(entry)
            self.indent = 8
        return lines

    def _guard(self, guards: tuple[Guard, ...], before: tuple[Guard, ...]) -> list[Line]:
        common, others = 0, set(self.others)
        while common < min(len(guards), len(before)) and guards[common] == before[common]:
            common += 1
        lines = []
        for depth in range(common, len(guards)):
            guard = guards[depth]
            opposite = depth < len(before) and before[depth].condition == guard.condition and depth == common
            self.others = {d for d in self.others if d < depth}  # the depths at which an `else` is open
            if opposite and depth not in others:
                lines.append(Line(8 + 4 * depth, "else:"))
                self.others.add(depth)
                continue
            text = self.expressions.write(self.owner.names.resolve(guard.condition))
            from archc.backend.writer import negated

            lines.append(Line(8 + 4 * depth, f"if {text if guard.truth else negated(text)}:"))
        return lines

    def entry(self, entry: Entry) -> list[Line]:
        match entry:
            case WeightEntry(weight=weight):
                return self.weight(weight)
            case OpEntry(functional=True, weights=weights):
                return [line for w in weights for line in self.weight(w)]
            case OpEntry() | ChildEntry():
                return [Line(self.indent, f"self.{attribute_name(entry.name)} = {self.unit(entry)}")]
            case ListEntry():
                return self.list(entry)
        raise AssertionError(entry)

    def unit(self, entry: OpEntry | ChildEntry) -> str:
        """The constructor call of a child."""
        if isinstance(entry, OpEntry):
            text = entry.op.module(self, *entry.types)  # type: ignore[arg-type]
            assert text is not None, entry.op
            return text
        template, args = entry.template, dict(entry.args)
        while template.unit is not None:  # a turn that is nothing but its child
            inner = template.unit
            if isinstance(inner, OpEntry):
                return self.unit(inner)
            template, args = inner.template, dict(inner.args)
        made = self.owner.classes.of(template)
        given = []
        for name in made.parameters:
            given.append(
                self.expressions.write(self.owner.names.resolve(args[name].sym if name in args else Var(name)))
            )
        return f"{made.name}({', '.join(given)})"

    def _units(self, items: Sequence[OpEntry | ChildEntry]) -> list[str]:
        """The constructor calls of a list; copies, which say the same of their arguments, are written once."""
        known: dict[Any, str] = {}
        texts = []
        for item in items:
            key = (id(item),)
            if isinstance(item, ChildEntry):
                key = (id(item.template), *(id(value.sym) for _, value in item.args))
            if key not in known:
                known[key] = self.unit(item)
            texts.append(known[key])
        return texts

    def list(self, entry: ListEntry) -> list[Line]:
        name = attribute_name(entry.name)
        loop = next((s for s in _loops(self.owner.template.body) if _loop_of(s, entry.name)), None)
        if loop is None:  # a list of modules that the spec writes out
            texts = ", ".join(self.unit(item) for item in entry.items)
            return [Line(self.indent, f"self.{name} = nn.ModuleList([{texts}])")]
        targets = set(loop.targets)
        saved_used = dict(self.used)
        self.scopes.append(targets)
        texts = self._units(entry.items)
        self.scopes.pop()
        rolled = len(set(texts)) == 1
        phis = [p for p in loop.phis]
        over = self._over(loop)
        del saved_used
        if rolled and not phis and entry.name not in self.taps:
            if over == "range(1)" and not targets:
                return [Line(self.indent, f"self.{name} = nn.ModuleList([{texts[0]}])")]
            return [
                Line(
                    self.indent,
                    f"self.{name} = nn.ModuleList({texts[0]} for {self._targets(loop, texts[0])} in {over})",
                )
            ]
        lines = [Line(self.indent, f"self.{name} = nn.ModuleList()")]
        for phi in phis:
            self.locals_made.add(phi.var.name)
            lines.append(
                Line(
                    self.indent,
                    f"{identifier(phi.var.name)} = {self.expressions.write(self.owner.names.resolve(phi.first))}",
                )
            )
        if rolled:
            inner = [Line(self.indent + 4, f"self.{name}.append({texts[0]})")]
            self.scopes.append(targets)
            for phi in phis:
                inner.append(
                    Line(
                        self.indent + 4,
                        f"{identifier(phi.var.name)} = {self.expressions.write(self.owner.names.resolve(phi.next))}",
                    )
                )
            if entry.name in self.taps:
                inner += self.taps[entry.name](self._channels(loop))
            self.scopes.pop()
            shown = self._targets(loop, " ".join(line.text for line in inner))
            return [*lines, Line(self.indent, f"for {shown} in {over}:"), *inner]
        lines += self._as_many(loop)
        for number, text in enumerate(texts):
            lines += self._unrolled(loop, number, name, text, phis)
            if entry.name in self.taps:
                lines += [
                    replace(line, indent=line.indent - 4)
                    for line in self.taps[entry.name](self._channels(loop, number))
                ]
        return lines

    def _channels(self, loop: Repeat, number: int = -1) -> str:
        """The channels with which a turn ends, as an expression at its end."""
        value = tapped(loop.turns[number])
        assert value is not None
        dim = value.type["C"].dim
        inside = next(
            o
            for o, v in zip(loop.turns[number].template.outputs, loop.turns[number].outputs, strict=True)
            if v is value
        )
        sym = dim.sym if dim.sym is not None and not isinstance(dim.sym, Const) else inside.type["C"].dim.sym
        return self.number(sym if sym is not None else dim)

    def _as_many(self, loop: Repeat) -> list[Line]:
        """Turns that are different classes are written one by one: another number of them is refused."""
        if loop.iterable is None:
            return []
        return self._only_for(turns_of(loop.keyword, loop.iterable.sym), len(loop.turns))

    def assumed_lines(self, assumed: Iterable[tuple[Sym, int]]) -> list[Line]:
        """Refuses lists of lengths that the class is not written for."""
        return [line for length, count in assumed for line in self._only_for(length, count)]

    def _only_for(self, count: Sym, known: int) -> list[Line]:
        count = self.owner.names.resolve(count)
        if isinstance(count, Const) or not variables(count):
            return []
        text = self.expressions.write(count)
        message = quoted(f"compiled for {text} == {known}: compile the spec for another")
        return [Line(self.indent, f"if {text} != {known}:"), Line(self.indent + 4, f"raise ValueError({message})")]

    def _unrolled(self, loop: Repeat, number: int, name: str, text: str, phis: list[Any]) -> list[Line]:
        """One turn of a loop whose turns are different classes."""
        lines = []
        args = dict(loop.turns[number].args)
        for target in loop.targets:
            if target in args and mentions_word(target, text):
                lines.append(
                    Line(self.indent, f"{identifier(target)} = {self._item(loop, target, number, args[target])}")
                )
        lines.append(Line(self.indent, f"self.{name}.append({text})"))
        for phi in phis:
            self.scopes.append(set(loop.targets))
            lines.append(
                Line(
                    self.indent,
                    f"{identifier(phi.var.name)} = {self.expressions.write(self.owner.names.resolve(phi.next))}",
                )
            )
            self.scopes.pop()
        return lines

    def _item(self, loop: Repeat, target: str, number: int, value: Scalar) -> str:
        from archc.ir.sym import plain

        if loop.keyword in ("repeat", "loop") or loop.iterable is None:
            return str(number)
        sym = loop.iterable.sym
        at = loop.targets.index(target)
        if isinstance(sym, SymApply) and sym.op == "enumerate":
            if at == 0:
                return str(number)
            return self.expressions.write(self.owner.names.resolve(SymApply("index", (sym.args[0], Const(number)))))
        if isinstance(sym, SymApply) and sym.op == "zip":
            return self.expressions.write(self.owner.names.resolve(SymApply("index", (sym.args[at], Const(number)))))
        if len(loop.targets) == 1 and isinstance(sym, Var):
            return self.expressions.write(self.owner.names.resolve(SymApply("index", (sym, Const(number)))))
        return literal(plain(value))

    def _over(self, loop: Repeat) -> str:
        if loop.iterable is None:  # a list of tensors or recipes, of which each turn knows its own
            return f"range({len(loop.turns)})"
        return loop_iterable(loop, self.expressions, self.owner.names)

    def _targets(self, loop: Repeat, text: str) -> str:
        return (
            ", ".join(identifier(t) if mentions_word(t, text) else "_" for t in loop.targets) if loop.targets else "_"
        )

    # ---- weights

    def weight(self, weight: Weight) -> list[Line]:
        name = self.owner.attribute(weight.name)
        shape = ", ".join(self.number(axis.dim) for axis in weight.axes)
        sized = f"({shape},)" if len(weight.axes) == 1 else f"({shape})"
        args = [self.number(a) for a in weight.init.args]
        dtype = {"int": ", dtype=torch.long", "bool": ", dtype=torch.bool"}.get(weight.dtype, "")
        value, then = initial(weight, sized, args, dtype)
        pad = self.indent
        if weight.kind == "param":
            if then.startswith("wrap:"):
                return [Line(pad, f"self.{name} = {then[5:].format(f'nn.Parameter(torch.empty({sized}))')}")]
            return [Line(pad, f"self.{name} = nn.Parameter({value})")]
        persistent = "" if weight.kind != "table" else ", persistent=False"
        if weight.kind == "counter":
            return [Line(pad, f"self.register_buffer({quoted(name)}, torch.tensor(0))")]
        value = then[5:].format(value) if then.startswith("wrap:") else value
        annotation = Line(pad, f"self.{name}: Tensor")
        return [annotation, Line(pad, f"self.register_buffer({quoted(name)}, {value}{persistent})")]


def initial(weight: Weight, sized: str, args: list[str], dtype: str) -> tuple[str, str]:
    """The value a weight starts with, or the statement that fills an empty one."""
    match weight.init.kind:
        case "fill" if args[0] in ("0", "0.0"):
            return f"torch.zeros({sized}{dtype})", ""
        case "fill" if args[0] in ("1", "1.0"):
            return f"torch.ones({sized}{dtype})", ""
        case "zeros":
            return f"torch.zeros({sized}{dtype})", ""
        case "ones":
            return f"torch.ones({sized}{dtype})", ""
        case "fill":
            return f"torch.full({sized}, {_real(args[0]) if weight.dtype == 'float' else args[0]}{dtype})", ""
        case "eye":
            return f"torch.eye({sized[1:-1]})", ""
        case "kaiming_uniform":
            return f"torch.empty({sized})", "wrap:nn.init.kaiming_uniform_({}, a=math.sqrt(5))"
        case "fan_in_uniform":
            return f"torch.zeros({sized})", ""
        case kind:
            call = init_call(kind, "{}", args)
            return f"torch.empty({sized})", f"wrap:{call}"


def _real(text: str) -> str:
    """A number as a float: torch takes the element type of a tensor from it."""
    if re.fullmatch(r"-?\d+", text):
        return f"{text}.0"
    return text if re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", text) else f"float({text})"


def init_call(kind: str, target: str, args: list[str]) -> str:
    """The torch call that fills `target` in place."""
    match kind, args:
        case "normal", [std]:
            return f"nn.init.normal_({target}, std={std})"
        case "normal", [mean, std]:
            return f"nn.init.normal_({target}, {mean}, {std})"
        case "trunc_normal", [std]:
            return f"nn.init.trunc_normal_({target}, std={std})"
        case "trunc_normal", [mean, std]:
            return f"nn.init.trunc_normal_({target}, {mean}, {std})"
        case "uniform", [bound]:
            low = f"-{bound}" if re.fullmatch(r"[\w.]+", bound) else f"-({bound})"
            return f"nn.init.uniform_({target}, {low}, {bound})"
        case "uniform", [low, high]:
            return f"nn.init.uniform_({target}, {low}, {high})"
        case "xavier_uniform" | "xavier_normal", [gain]:
            return f"nn.init.{kind}_({target}, gain={gain})"
        case "xavier_uniform" | "xavier_normal" | "kaiming_uniform" | "kaiming_normal" | "zeros" | "ones" | "eye", []:
            return f"nn.init.{kind}_({target})"
        case "fill", ["0" | "0.0"]:
            return f"nn.init.zeros_({target})"
        case "fill", ["1" | "1.0"]:
            return f"nn.init.ones_({target})"
        case "fill", [value]:
            return f"nn.init.constant_({target}, {value})"
    raise AssertionError((kind, args))


def tapped(turn: Call) -> Value | None:
    """What a dense head taps of a stage: its map."""
    return next((v for v in turn.outputs if v.type.positions and "C" in v.type), None)


def mentions_word(name: str, text: str) -> bool:
    import re

    return re.search(rf"(?<![\w.]){re.escape(identifier(name))}(?!\w)", text) is not None


def _loops(body: tuple[Statement, ...]) -> Iterable[Repeat]:
    for statement in body:
        match statement:
            case Repeat():
                yield statement
            case Branch(then=then, otherwise=otherwise):
                yield from _loops(then or ())
                yield from _loops(otherwise or ())
            case _:
                pass


def _with_lists(entries: tuple[Entry, ...]) -> list[Entry]:
    """The entries, with those called `heads.0`, `heads.1` ... as one list."""
    found: list[Entry] = []
    for entry in entries:
        name, _, number = entry.name.rpartition(".")
        if not name or not number.isdigit() or not isinstance(entry, (OpEntry, ChildEntry)):
            found.append(entry)
            continue
        last = found[-1] if found else None
        if isinstance(last, ListEntry) and last.name == name and len(last.items) == int(number):
            found[-1] = replace(last, items=(*last.items, entry))
        else:
            found.append(ListEntry(name, (entry,), entry.span, entry.guards))
    return found


def _loop_of(loop: Repeat, name: str) -> bool:
    return bool(loop.turns) and loop.turns[0].entry in (f"{name}.0", name)


def loop_iterable(loop: Repeat, expressions: Any, names: ClassNames) -> str:
    """What the `for` of a rolled loop runs over."""
    if loop.keyword in ("repeat", "loop"):
        assert loop.iterable is not None
        return f"range({expressions.write(names.resolve(loop.iterable.sym))})"
    assert loop.iterable is not None, "a loop over tensors is written turn by turn"
    return expressions.iterable(names.resolve(loop.iterable.sym))
