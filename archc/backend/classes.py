"""Templates become classes: one for each distinct text, with the author's parameters where the numbers differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from archc.backend.needs import Needs
from archc.backend.operand import Operand
from archc.backend.python import class_name, identifier, lay_out, literal, quoted
from archc.backend.writer import ClassNames, Line, Writer, count_uses, laid_out, note_names, without_unused
from archc.ir.graph import (
    Branch,
    Call,
    ChildEntry,
    Entry,
    Guard,
    InitRule,
    ListEntry,
    OpEntry,
    Repeat,
    Statement,
    Template,
    Value,
    WeightEntry,
)
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Const, Scalar, Sym, Var, variables, walk
from archc.ir.types import TensorType
from archc.ops.base import Weight
from archc.source import Span

LAST = "last"  # channels innermost


@dataclass(frozen=True)
class Signature:
    """The physical orders of a method's tensors, as places in their types."""

    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[str, ...], ...]


@dataclass
class Emitted:
    """A written class. `parameters` are the constructor's, in order; `permutes` counts the moves of axes in it."""

    name: str
    parameters: tuple[str, ...]
    signature: Signature
    text: list[str]
    permutes: int
    rules: tuple[InitRule, ...]
    template: Template


@dataclass
class Classes:
    """All classes of a file, in an order in which each stands before its use."""

    needs: Needs
    show: Any  # span -> "van.arch:12"
    inputs: frozenset[str] = frozenset()
    emitted: list[Emitted] = field(default_factory=list)
    by_template: dict[int, Emitted] = field(default_factory=dict)
    by_text: dict[tuple[Any, ...], Emitted] = field(default_factory=dict)
    folded: dict[Any, dict[str, Sym]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def of(self, template: Template) -> Emitted:
        """The class of a template, written at its first use."""
        if id(template) not in self.by_template:
            self.by_template[id(template)] = self._make(template)
        return self.by_template[id(template)]

    def _make(self, template: Template) -> Emitted:
        bindings = self.folded.get(_group(template), {})
        drafts = []
        for layout in ("", LAST):
            if layout and not _may_move(template):
                continue
            draft = ClassWriter(self, template, bindings, self.needs, layout)
            drafts.append(draft)
            draft.write("{name}")
        best = min(drafts, key=lambda d: d.permutes())
        text = tuple(best.text)
        key = (template.name, text, best.signature())
        if key not in self.by_text:
            name = self._name(template)
            lines = [line for raw in best.raw for line in _render(raw, name)]
            made = Emitted(name, tuple(best.parameters), best.signature(), lines, best.permutes(), template.inits, template)
            self.by_text[key] = made
            self.emitted.append(made)
        return self.by_text[key]

    def _name(self, template: Template) -> str:
        base = class_name(template.name.rstrip("s") if template.role == "turn" and len(template.name) > 3 else template.name)
        prefix = next((class_name(str(word)) for word in _structural(template)), "")
        for candidate in (base, prefix + base, *(f"{base}{n}" for n in range(2, 1000))):
            if candidate not in self.names and candidate not in ("Tensor", "Any", "F", "Sequence", "Callable"):
                self.names.add(candidate)
                return candidate
        raise AssertionError(template.name)


def _render(raw: Line, name: str) -> list[str]:
    return lay_out(raw.indent, raw.text.replace("{name}", name), raw.comment) if raw.text else [""]


def _group(template: Template) -> Any:
    return (template.span, template.role)


def _structural(template: Template) -> Iterable[str]:
    """The regions and paths that a template's operations use: what tells two classes of one component apart."""
    for statement in template.body:
        op = getattr(statement, "op", None)
        for name in ("over", "along"):
            value = getattr(op, name, None)
            word = getattr(value, "name", None)
            if isinstance(word, str) and word.isidentifier():
                yield word
        if isinstance(statement, Call):
            yield from _structural(statement.template)


def _may_move(template: Template) -> bool:
    """Whether a class may take its tensors with the channels innermost: not models and stages, whose results are tapped."""
    if template.role not in ("mixer", "block"):
        return False
    return any("C" in v.type and v.type.names[-1] != "C" and len(v.type.axes) > 2 for v in (*template.inputs, *template.outputs))


def fold_constants(root: Template, roots: Iterable[Template]) -> dict[Any, dict[str, Sym]]:
    """Parameters that every use of a component sets to one and the same constant: they need not be parameters."""
    seen: set[int] = set()
    given: dict[Any, dict[str, set[Sym]]] = defaultdict(lambda: defaultdict(set))

    def go(template: Template) -> None:
        if id(template) in seen:
            return
        seen.add(id(template))
        entries(template.entries)
        calls(template.body)

    def entries(items: tuple[Entry, ...]) -> None:
        for entry in items:
            match entry:
                case ChildEntry(template=child, args=args):
                    note(child, args)
                case ListEntry(items=inner):
                    entries(inner)
                case _:
                    pass

    def calls(body: tuple[Statement, ...]) -> None:
        for statement in body:
            match statement:
                case Branch(then=then, otherwise=otherwise):
                    calls(then or ())
                    calls(otherwise or ())
                case Repeat(turns=turns):
                    for turn in turns:
                        go(turn.template)
                case Call(template=child):
                    go(child)
                case _:
                    pass

    def note(child: Template, args: tuple[tuple[str, Scalar], ...]) -> None:
        if child.role != "turn":
            for name, value in args:
                given[_group(child)][name].add(value.sym)
        go(child)

    for template in (root, *roots):
        go(template)
    return {
        group: {name: next(iter(syms)) for name, syms in names.items() if len(syms) == 1 and _constant(next(iter(syms)))}
        for group, names in given.items()
    }


def _constant(sym: Sym) -> bool:
    return isinstance(sym, Const) or (isinstance(sym, SymApply) and sym.op == "list" and all(_constant(a) for a in sym.args))


class ClassWriter:
    """Writes one class. It is also the `owner` that its methods ask about entries, signatures and loops."""

    def __init__(self, classes: Classes, template: Template, bindings: dict[str, Sym], needs: Needs, layout: str) -> None:
        self.classes, self.template, self.needs, self.layout = classes, template, needs, layout
        own = {name: Const(None) for name in ()}
        self.names = ClassNames({**own, **bindings}, set(classes.inputs))
        self.raw: list[Line] = []
        self.text: list[str] = []
        self.parameters: list[str] = []
        self.loop_children: list[dict[str, str]] = []
        self.attributes: dict[str, str] = {}
        self.moves = 0
        self.feature_lists: list[tuple[Repeat, str]] = []
        self.checkpointed = False

    # ---- what methods ask

    def attribute(self, name: str) -> str:
        """The attribute of `self` that holds a number or weight: the name, kept apart from modules of the same name."""
        taken = {e.name for e in self.template.entries if not isinstance(e, WeightEntry)}
        return f"{identifier(name)}_" if name in taken else identifier(name)

    def path(self, entry: str) -> str:
        parts = entry.split(".")
        return parts[0] + "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in parts[1:])

    def entry(self, name: str | None) -> Entry | None:
        if name is None:
            return None
        for frame in reversed(self.loop_children):
            if name == "" and "" in frame:
                return None
        return next((e for e in self.template.entries if e.name == name), None)

    def child_text(self, entry: str) -> str:
        for frame in reversed(self.loop_children):
            if entry in frame:
                return frame[entry]
        return f"self.{self.path(entry)}" if entry else "self"

    def comment(self, type: TensorType, span: Span) -> str:
        shown = ", ".join(a.name for a in type.axes)
        return f"[{shown}] {self.classes.show(span)}"

    def signature(self, call: Call | None = None) -> Signature:
        if call is not None:
            if call.template.role == "entry":
                return _logical_signature(call.template)
            return self.classes.of(call.template).signature
        if not self.layout:
            return _logical_signature(self.template)
        return Signature(
            tuple(_channels_last(v.type) for v in self.template.inputs),
            tuple(tuple(v.type.names[p] for p in _channels_last(v.type)) for v in self.template.outputs),
        )

    def permutes(self) -> int:
        return self.moves

    # ---- the class

    def write(self, name: str) -> None:
        template = self.template
        forward = self._forward(template, "forward")
        init = self._init()
        inputs = ", ".join(_axes_text(v.type, o) for v, o in zip(template.inputs, self.signature().inputs, strict=True))
        outputs = ", ".join(f"[{', '.join(o)}]" for o in self.signature().outputs)
        doc = template.doc.strip().split("\n")[0].rstrip(".")
        summary = f"{doc}. {inputs} -> {outputs}" if doc else f"{inputs} -> {outputs}"
        where = self.classes.show(template.span)
        self.raw = [
            Line(0, f"class {name}(nn.Module):"),
            *docstring(4, f"{summary}  ({where})"),
            Line(0, ""),
            *init,
            Line(0, ""),
            *forward,
        ]
        self.text = [f"{line.indent}|{line.text}|{line.comment}" for line in self.raw]

    def method(self, template: Template, method: str) -> list[Line]:
        """A further method over the same weights."""
        return self._forward(template, method)

    def _forward(self, template: Template, method: str) -> list[Line]:
        writer = self.writer(template)
        arguments = []
        for value, order in zip(template.inputs, self.signature().inputs if template is self.template else _logical_signature(template).inputs, strict=True):
            name = identifier(value.name or "x")
            while name in writer.taken:
                name += "_"
            writer.taken.add(name)
            arguments.append(name)
            if value.type.dtype == "float" or len(arguments) == 1:
                writer.anchor = name
            writer.values[value.uid] = Operand(name, value.type, tuple(value.type.names[p] for p in order))
        writer.write(template.body)
        signature = self.signature() if template is self.template else _logical_signature(template)
        results = []
        for value, order in zip(template.outputs, signature.outputs, strict=True):
            operand = writer.operand(value)
            if operand.where is not None:
                operand = operand.where.merge(writer, operand)
            results.append(operand.to(order).text)
        writer.emit(f"return {', '.join(_result_texts(results, template))}")
        writer.lines = without_unused(writer.lines)
        self.moves += sum(line.text.count(".permute(") + line.text.count(".transpose(") for line in writer.lines)
        kinds = ", ".join(f"{a}: Tensor" for a in arguments)
        returns = "Tensor" if len(results) == 1 else f"tuple[{', '.join(['Tensor'] * len(results))}]"
        return [Line(4, f"def {method}(self, {kinds}) -> {returns}:"), *merge_return(writer.lines)]

    def writer(self, template: Template) -> Writer:
        writer = Writer(self.names, self.needs, self, count_uses(template.body, template.outputs))
        writer.author = note_names(template.body)
        return writer

    # ---- __init__

    def _init(self, extra: tuple[str, ...] = ()) -> list[Line]:
        construct = Constructor(self)
        body = construct.lines_of(self.template.entries)
        kept = construct.kept_lines()
        lets = construct.let_lines()
        order = [name for name, _ in self.template.parameters]
        used = [n for n in construct.used if n not in construct.locals_made]
        self.parameters = sorted(used, key=lambda n: order.index(n) if n in order else len(order))
        arguments = ", ".join(["self", *(f"{identifier(n)}: {self._kind(n)}" for n in self.parameters)])
        lines = [Line(4, f"def __init__({arguments}) -> None:"), Line(8, "super().__init__()"), *kept, *lets, *body]
        return lines

    def _kind(self, name: str) -> str:
        value = next((v for n, v in self.template.parameters if n == name), None)
        return python_type(value)

    # ---- loops

    def write_loop(self, writer: Writer, loop: Repeat) -> None:
        if not loop.turns:
            return
        LoopWriter(self, writer, loop).write()


def merge_return(lines: list[Line]) -> list[Line]:
    """`y = f(x)` followed by `return y` is `return f(x)`."""
    if len(lines) >= 2 and lines[-1].text.startswith("return "):
        name = lines[-1].text[len("return ") :]
        before = lines[-2]
        if name.isidentifier() and before.indent == lines[-1].indent and before.text.startswith(f"{name} = "):
            return [*lines[:-2], Line(before.indent, f"return {before.text[len(name) + 3 :]}", before.comment)]
    return lines


def _result_texts(texts: list[str], template: Template) -> list[str]:
    return texts


def _axes_text(type: TensorType, order: tuple[int, ...]) -> str:
    return f"[{', '.join(type.names[p] for p in order)}]"


def docstring(indent: int, text: str) -> list[Line]:
    safe = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if indent + len(safe) + 6 <= 88:
        return [Line(indent, f'"""{safe}"""')]
    head, _, place = safe.rpartition("  (")
    first = head if indent + len(head) + 3 <= 88 else head[: 88 - indent - 3].rsplit(" ", 1)[0]
    rest = head[len(first) :].strip()
    lines = [Line(indent, f'"""{first}'), Line(0, "")]
    if rest:
        lines += [Line(indent, rest)]
    return [*lines, Line(indent, f"({place}"), Line(indent, '"""')]


def _logical_signature(template: Template) -> Signature:
    return Signature(
        tuple(tuple(range(len(v.type.axes))) for v in template.inputs), tuple(v.type.names for v in template.outputs)
    )


def _channels_last(type: TensorType) -> tuple[int, ...]:
    names = type.names
    if "C" not in names:
        return tuple(range(len(names)))
    at = names.index("C")
    return tuple(p for p in range(len(names)) if p != at) + (at,)


def python_type(value: Scalar | None) -> str:
    """The annotation of a constructor's parameter."""
    if value is None:
        return "Any"
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


# ---- __init__


class Constructor:
    """Writes the assignments of `__init__`, noting which parameters they read."""

    def __init__(self, owner: ClassWriter) -> None:
        self.owner = owner
        self.used: dict[str, None] = {}
        self.locals_made: set[str] = set()
        self.lets: list[Line] = []
        self.scopes: list[set[str]] = []
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
            if isinstance(definition, Const) or short(definition) or any(
                v in scope for scope in self.scopes for v in variables(definition)
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
            text = self._variable(var) if var.definition is None else self.expressions.write(self.owner.names.resolve(var.definition))
            lines.append(Line(8, f"self.{self.owner.attribute(name)} = {text}"))
        return lines

    # ---- entries

    def lines_of(self, entries: tuple[Entry, ...]) -> list[Line]:
        lines: list[Line] = []
        open_guards: tuple[Guard, ...] = ()
        for entry in entries:
            if entry.guards != open_guards:
                lines += self._guard(entry.guards, open_guards)
                open_guards = entry.guards
            self.indent = 8 + 4 * len(entry.guards)
            lines += self.entry(entry)
            self.indent = 8
        return lines

    def _guard(self, guards: tuple[Guard, ...], before: tuple[Guard, ...]) -> list[Line]:
        common = 0
        while common < min(len(guards), len(before)) and guards[common] == before[common]:
            common += 1
        lines = []
        for depth in range(common, len(guards)):
            guard = guards[depth]
            if depth < len(before) and before[depth].condition == guard.condition and depth == common:
                lines.append(Line(8 + 4 * depth, "else:"))
                continue
            text = self.expressions.write(self.owner.names.resolve(guard.condition))
            from archc.backend.writer import _negated

            lines.append(Line(8 + 4 * depth, f"if {text if guard.truth else _negated(text)}:"))
        return lines

    def entry(self, entry: Entry) -> list[Line]:
        match entry:
            case WeightEntry(weight=weight):
                return self.weight(weight)
            case OpEntry(functional=True, weights=weights):
                return [line for w in weights for line in self.weight(w)]
            case OpEntry() | ChildEntry():
                return [Line(self.indent, f"self.{identifier(entry.name)} = {self.unit(entry)}")]
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
            given.append(self.expressions.write(self.owner.names.resolve(args[name].sym if name in args else Var(name))))
        return f"{made.name}({', '.join(given)})"

    def list(self, entry: ListEntry) -> list[Line]:
        name = identifier(entry.name)
        loop = next((s for s in _loops(self.owner.template.body) if _loop_of(s, entry.name)), None)
        assert loop is not None, entry.name
        targets = set(loop.targets)
        saved_used = dict(self.used)
        self.scopes.append(targets)
        texts = [self.unit(item) for item in entry.items]
        self.scopes.pop()
        rolled = len(set(texts)) == 1
        phis = [p for p in loop.phis]
        over = self._over(loop)
        del saved_used
        if rolled and not phis and entry.name not in self.taps:
            if over == "range(1)" and not targets:
                return [Line(self.indent, f"self.{name} = nn.ModuleList([{texts[0]}])")]
            return [Line(self.indent, f"self.{name} = nn.ModuleList({texts[0]} for {self._targets(loop, texts[0])} in {over})")]
        lines = [Line(self.indent, f"self.{name} = nn.ModuleList()")]
        for phi in phis:
            self.locals_made.add(phi.var.name)
            lines.append(Line(self.indent, f"{identifier(phi.var.name)} = {self.expressions.write(self.owner.names.resolve(phi.first))}"))
        if rolled:
            inner = [Line(self.indent + 4, f"self.{name}.append({texts[0]})")]
            self.scopes.append(targets)
            for phi in phis:
                inner.append(Line(self.indent + 4, f"{identifier(phi.var.name)} = {self.expressions.write(self.owner.names.resolve(phi.next))}"))
            if entry.name in self.taps:
                inner += self.taps[entry.name](self._channels(loop))
            self.scopes.pop()
            shown = self._targets(loop, " ".join(line.text for line in inner))
            return [*lines, Line(self.indent, f"for {shown} in {over}:"), *inner]
        for number, text in enumerate(texts):
            lines += self._unrolled(loop, number, name, text, phis)
            if entry.name in self.taps:
                lines += [replace(line, indent=line.indent - 4) for line in self.taps[entry.name](self._channels(loop, number))]
        return lines

    def _channels(self, loop: Repeat, number: int = 0) -> str:
        """The channels with which a turn ends, as an expression at its end."""
        value = tapped(loop.turns[number])
        assert value is not None
        dim = value.type["C"].dim
        inside = next(o for o, v in zip(loop.turns[number].template.outputs, loop.turns[number].outputs, strict=True) if v is value)
        sym = dim.sym if dim.sym is not None and not isinstance(dim.sym, Const) else inside.type["C"].dim.sym
        return self.number(sym if sym is not None else dim)

    def _unrolled(self, loop: Repeat, number: int, name: str, text: str, phis: list[Any]) -> list[Line]:
        """One turn of a loop whose turns are different classes."""
        lines = []
        args = dict(loop.turns[number].args)
        for target in loop.targets:
            if target in args and _word(target, text):
                lines.append(Line(self.indent, f"{identifier(target)} = {self._item(loop, target, number, args[target])}"))
        lines.append(Line(self.indent, f"self.{name}.append({text})"))
        for phi in phis:
            self.scopes.append(set(loop.targets))
            lines.append(Line(self.indent, f"{identifier(phi.var.name)} = {self.expressions.write(self.owner.names.resolve(phi.next))}"))
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
        return literal(plain(value))

    def _over(self, loop: Repeat) -> str:
        return loop_iterable(loop, self.expressions, self.owner.names)

    def _targets(self, loop: Repeat, text: str) -> str:
        return ", ".join(identifier(t) if _word(t, text) else "_" for t in loop.targets) if loop.targets else "_"

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
            return f"torch.full({sized}, {args[0]}{dtype})", ""
        case "eye":
            return f"torch.eye({sized[1:-1]})", ""
        case "kaiming_uniform":
            return f"torch.empty({sized})", "wrap:nn.init.kaiming_uniform_({}, a=math.sqrt(5))"
        case "fan_in_uniform":
            return f"torch.zeros({sized})", ""
        case kind:
            call = init_call(kind, "{}", args)
            return f"torch.empty({sized})", f"wrap:{call}"


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
            return f"nn.init.uniform_({target}, -{bound}, {bound})"
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


def _word(name: str, text: str) -> bool:
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


def _loop_of(loop: Repeat, name: str) -> bool:
    return bool(loop.turns) and loop.turns[0].entry in (f"{name}.0", name)


def loop_iterable(loop: Repeat, expressions: Any, names: ClassNames) -> str:
    """What the `for` of a rolled loop runs over."""
    if loop.keyword in ("repeat", "loop"):
        assert loop.iterable is not None
        return f"range({expressions.write(names.resolve(loop.iterable.sym))})"
    assert loop.iterable is not None, "a loop over tensors is written turn by turn"
    return expressions.iterable(names.resolve(loop.iterable.sym))


# ---- loops in methods


class LoopWriter:
    """A loop in a method: rolled where all turns read the same, else written turn by turn."""

    def __init__(self, owner: ClassWriter, writer: Writer, loop: Repeat) -> None:
        self.owner, self.writer, self.loop = owner, writer, loop
        self.first = loop.turns[0]
        self.entry = None if self.first.entry is None else self.first.entry.split(".")[0] if loop.keyword != "loop" else self.first.entry

    def write(self) -> None:
        loop, writer = self.loop, self.writer
        if not self._uniform():
            self._unrolled()
            return
        carried = self._carried()
        names = self._enter(carried)
        module = self._module_name()
        lines_before = len(writer.lines)
        header_at = lines_before
        writer.emit("")  # the header, once the body is known
        with writer.nested():
            results = self._turn(self.first, names, module)
            appended = self._appends(results)
        body = " ".join(line.text for line in writer.lines[header_at + 1 :])
        writer.lines[header_at].text = self._header(module, body)
        if appended:
            for lst in appended.values():
                writer.lines.insert(header_at, Line(writer.indent, f"{lst}: list[Tensor] = []"))
        self._leave(results, appended)

    # A turn reads the same as the first where its class, inputs and results are the same.
    def _uniform(self) -> bool:
        loop = self.loop
        if loop.iterable is None and loop.keyword not in ("repeat", "loop"):
            return False
        shapes = []
        for turn in loop.turns:
            owner = self._turn_class(turn)
            kinds = tuple(len(v.type.axes) for v in turn.inputs), len(turn.outputs)
            body = None if owner is not None else _shape_of(turn.template, self.owner.classes)
            shapes.append((owner.signature if owner is not None else None, kinds, body))
        if len(set(map(repr, shapes))) != 1:
            return False
        return self._carried() is not None

    def _turn_class(self, turn: Call) -> Emitted | None:
        """The class of a turn that is a module of its own; None where its body stands in the loop."""
        if turn.template.entries and turn.template.unit is None:
            return self.owner.classes.of(turn.template)
        return None

    def _carried(self) -> dict[int, int] | None:
        """Input place -> output place of the turn before; None where turns are wired differently."""
        turns = self.loop.turns
        if len(turns) == 1:
            return self._carried_by_name()
        wiring: dict[int, int] | None = None
        for before, after in zip(turns, turns[1:], strict=False):
            produced = {v.uid: i for i, v in enumerate(before.outputs)}
            now: dict[int, int] = {}
            if len(after.inputs) != len(before.inputs):
                return None
            for place, (value, earlier) in enumerate(zip(after.inputs, before.inputs, strict=True)):
                assert isinstance(value, Value) and isinstance(earlier, Value)
                if value.uid in produced:
                    now[place] = produced[value.uid]
                elif value.uid != earlier.uid:
                    return None
            if wiring is not None and now != wiring:
                return None
            wiring = now
        return wiring

    def _carried_by_name(self) -> dict[int, int]:
        inside = self.first.template.inputs
        return {
            place: out
            for place, value in enumerate(inside)
            for out, name in enumerate(self.loop.names)
            if name and name == value.name
        }

    def _enter(self, carried: dict[int, int] | None) -> dict[int, Operand]:
        """Bring what the turns hand on into variables. Gives each input of a turn as the body reads it."""
        writer = self.writer
        operands: dict[int, Operand] = {}
        carried = carried or {}
        signature = self._turn_class(self.first)
        for place, value in enumerate(self.first.inputs):
            assert isinstance(value, Value)
            operand = writer.logical(writer.operand(value))
            if place in carried:
                out = carried[place]
                hint = self._name(out)
                name = identifier(hint)
                alive = [u for u, o in writer.values.items() if writer._mentions(o, name) and writer.uses[u] > 0 and u != value.uid]
                if writer.uses[value.uid] > 0 or alive or (operand.text != name and name in writer.taken and self._held(name, value)):
                    if operand.text == name or alive:
                        writer._clear(name)
                        operand = writer.values.get(value.uid, operand) if operand.text == name else operand
                if operand.text != name:
                    writer.emit(f"{name} = {operand.text}")
                writer.taken.add(name)
                operand = replace(operand, text=name, binding=100)
            elif not operand.text.replace(".", "").replace("_", "").isalnum():
                name = writer.fresh(value.name or "x")
                writer.emit(f"{name} = {operand.text}")
                operand = replace(operand, text=name, binding=100)
            operands[place] = operand
        del signature
        return operands

    def _held(self, name: str, value: Value) -> bool:
        return any(o.text == name and self.writer.uses[u] > 0 for u, o in self.writer.values.items() if u != value.uid)

    def _name(self, out: int) -> str:
        name = self.loop.names[out] if out < len(self.loop.names) else ""
        return name or self.first.template.outputs[out].name or "y"

    def _module_name(self) -> str:
        if self.entry is None:
            return ""
        if self.loop.keyword == "loop":
            return f"self.{self.owner.path(self.entry)}"
        base = self.entry[:-1] if self.entry.endswith("s") and len(self.entry) > 3 else f"{self.entry}_turn"
        return self.writer.fresh(base)

    def _header(self, module: str, body: str) -> str:
        loop, names = self.loop, self.owner.names
        used = [t for t in loop.targets if _word(t, body)]
        over = loop_iterable(loop, self.writer.expressions, names) if used or self.entry is None or loop.keyword == "loop" else ""
        if self.entry is None or loop.keyword == "loop":
            shown = ", ".join(identifier(t) if t in used else "_" for t in loop.targets) or "_"
            return f"for {shown} in {over}:"
        listed = f"self.{self.owner.path(self.entry)}"
        if not used:
            return f"for {module} in {listed}:"
        shown = ", ".join(identifier(t) if t in used else "_" for t in loop.targets)
        if loop.keyword == "repeat":
            return f"for {shown}, {module} in enumerate({listed}):"
        return f"for ({shown}), {module} in zip({over}, {listed}):" if len(loop.targets) > 1 else f"for {shown}, {module} in zip({over}, {listed}):"

    def _turn(self, turn: Call, names: dict[int, Operand], module: str) -> list[Operand]:
        """One turn's body, or the call of its module; the results are bound to their names."""
        writer, template = self.writer, turn.template
        made = self._turn_class(turn)
        if made is not None:
            arguments = [
                writer.arranged(names[i], made.signature.inputs[i]).text for i in range(len(turn.inputs))
            ]
            targets = [identifier(self._name(i)) for i in range(len(turn.outputs))]
            for t in targets:
                writer.taken.add(t)
            call = f"{module}({', '.join(arguments)})"
            if self.owner.checkpointed:
                call = f"{self.writer.helper('run')}({', '.join(['self.grad_checkpointing', module, *arguments])})"
            comment = self.owner.comment(turn.outputs[0].type, turn.span) if turn.outputs else ""
            writer.emit(f"{', '.join(targets)} = {call}" if targets else call, comment)
            return [
                Operand(t, v.type, tuple(v.type.names[template.outputs[i].type.names.index(n)] for n in made.signature.outputs[i]))
                for i, (t, v) in enumerate(zip(targets, turn.outputs, strict=True))
            ]
        for i, value in enumerate(template.inputs):
            writer.values[value.uid] = replace(names[i], type=value.type)
        uses = count_uses(template.body, template.outputs)
        for uid, number in uses.items():
            writer.uses[uid] += number
        # What the body reads in every turn must not be given away in the first.
        steady = [v.uid for i, v in enumerate(template.inputs) if i not in (self._carried() or {})]
        for uid in steady:
            writer.uses[uid] += 1
        writer.author.update(note_names(template.body))
        self.owner.loop_children.append({"": module} if self.entry is not None else {})
        saved = writer.locals
        writer.locals = writer.locals | frozenset(self.loop.targets)
        try:
            writer.write(template.body)
            results = []
            for i, value in enumerate(template.outputs):
                operand = writer.logical(writer.operand(value))
                name = identifier(self._name(i))
                if operand.text != name:
                    writer.bind(value.uid, operand, name)
                writer.taken.add(name)
                results.append(Operand(name, turn.outputs[i].type, operand.order))
        finally:
            writer.locals = saved
            self.owner.loop_children.pop()
        for uid in steady:
            writer.uses[uid] -= 1
        return results

    def _appends(self, results: list[Operand]) -> dict[int, str]:
        """Results of turns before the last that somebody reads later are collected in a list."""
        writer, loop = self.writer, self.loop
        wanted: dict[int, str] = {}
        handed = {v.uid for turn in loop.turns for v in turn.inputs if isinstance(v, Value)}
        for i in range(len(results)):
            later = 0
            for turn in loop.turns[:-1]:
                uid = turn.outputs[i].uid
                later += writer.uses[uid] - sum(1 for t in loop.turns for v in t.inputs if isinstance(v, Value) and v.uid == uid)
            if later > 0:
                wanted[i] = writer.fresh(f"{self._name(i)}s")
                writer.emit(f"{wanted[i]}.append({results[i].text})")
        del handed
        return wanted

    def _leave(self, results: list[Operand], appended: dict[int, str]) -> None:
        writer, loop = self.writer, self.loop
        for turn in loop.turns[1:]:
            for value in turn.inputs:
                if isinstance(value, Value):
                    writer.uses[value.uid] -= 1
        for number, turn in enumerate(loop.turns):
            for i, value in enumerate(turn.outputs):
                last = number == len(loop.turns) - 1
                text = results[i].text if last else f"{appended[i]}[{number}]" if i in appended else ""
                if text:
                    order = tuple(value.type.names[results[i].type.names.index(n)] for n in results[i].order)
                    writer.values[value.uid] = Operand(text, value.type, order)

    def _unrolled(self) -> None:
        writer, loop = self.writer, self.loop
        for number, turn in enumerate(loop.turns):
            names = {}
            for i, value in enumerate(turn.inputs):
                assert isinstance(value, Value)
                names[i] = writer.logical(writer.operand(value))
            module = "" if self.entry is None else f"self.{self.owner.path(turn.entry or '')}"
            bindings = dict(self.owner.names.bindings)
            args = dict(turn.args)
            for target in loop.targets:
                if target in args and isinstance(args[target].value, (int, float, str, bool)):
                    self.owner.names.bindings[target] = Const(args[target].value)
            results = self._turn_once(turn, names, module)
            self.owner.names.bindings = bindings
            for value, result in zip(turn.outputs, results, strict=True):
                order = tuple(value.type.names[result.type.names.index(n)] for n in result.order)
                writer.values[value.uid] = replace(result, type=value.type, order=order)
        del number

    def _turn_once(self, turn: Call, names: dict[int, Operand], module: str) -> list[Operand]:
        saved, self.first = self.first, turn
        try:
            made = self._turn_class(turn)
            if made is not None:
                targets = [self._free(i) for i in range(len(turn.outputs))]
                arguments = [self.writer.arranged(names[i], made.signature.inputs[i]).text for i in range(len(turn.inputs))]
                self.writer.emit(f"{', '.join(targets)} = {module}({', '.join(arguments)})")
                return [
                    Operand(t, v.type, tuple(v.type.names[turn.template.outputs[i].type.names.index(n)] for n in made.signature.outputs[i]))
                    for i, (t, v) in enumerate(zip(targets, turn.outputs, strict=True))
                ]
            writer, template = self.writer, turn.template
            for i, value in enumerate(template.inputs):
                writer.values[value.uid] = replace(names[i], type=value.type)
            for uid, number in count_uses(template.body, template.outputs).items():
                writer.uses[uid] += number
            writer.author.update(note_names(template.body))
            self.owner.loop_children.append({"": module} if self.entry is not None else {})
            writer.write(template.body)
            self.owner.loop_children.pop()
            return [
                replace(writer.logical(writer.operand(v)), type=turn.outputs[i].type) for i, v in enumerate(template.outputs)
            ]
        finally:
            self.first = saved

    def _free(self, out: int) -> str:
        name = identifier(self._name(out))
        self.writer._clear(name)
        self.writer.taken.add(name)
        return name


def _shape_of(template: Template, classes: Classes) -> Any:
    """What the body of a turn does, without its numbers: turns that do the same are written once."""

    def go(body: tuple[Statement, ...]) -> list[Any]:
        shape: list[Any] = []
        for statement in body:
            match statement:
                case Call(template=child, inputs=inputs):
                    shape.append(("call", classes.of(child).signature, len(inputs)))
                case Branch(then=then, otherwise=otherwise):
                    shape.append(("if", go(then or ()), go(otherwise or ())))
                case Repeat(turns=turns):
                    shape.append(("loop", [go(t.template.body) for t in turns[:1]]))
                case _:
                    op = getattr(statement, "op", None)
                    shape.append((type(statement).__name__, getattr(op, "name", None), _numbers(op)))
        return shape

    return go(template.body)


def _numbers(op: Any) -> Any:
    """An operation's arguments as the module would compute them."""
    from archc.elaborate.frame import rewrite

    seen: list[str] = []

    def note(sym: Sym) -> Sym:
        seen.append(repr([p for p in walk(sym) if not (isinstance(p, Const) and False)]))
        return sym

    if op is not None:
        rewrite(op, note)
    return [text for text in seen if "Extent" not in text]


__all__ = ["ClassWriter", "Classes", "Counter", "Emitted", "fold_constants", "laid_out"]
