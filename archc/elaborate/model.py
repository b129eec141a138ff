"""A variant of a model, elaborated into a program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import field, replace
from typing import Any

from archc.diagnostics import ArchError, Diagnostic, Label, closest_slip, did_you_mean, fail, in_order
from archc.elaborate.arguments import Arg, unknown, unwrap
from archc.elaborate.assigning import bind_name
from archc.elaborate.binding import Bound, check_kind, counted, declared_at, signature_of
from archc.elaborate.calls import arguments
from archc.elaborate.expressions import evaluate, size_of_axis
from archc.elaborate.frame import Frame, Level, Scope, Session, known_length, taken_apart, tensors_in
from archc.elaborate.loader import BindingRef, Library
from archc.elaborate.modules import EntryRef, entry_template
from archc.elaborate.names import check_label
from archc.elaborate.owned import init_rule
from archc.elaborate.starts import check_starts
from archc.elaborate.statements import run_statements
from archc.elaborate.templates import doc_of, finish, kinds_of, lift
from archc.elaborate.trail import Use
from archc.elaborate.values import POISON, ComponentRef, FileNames, Many, Poison, kind_of
from archc.ir.graph import Value
from archc.ir.program import EntryPoint, Input, Output, Program
from archc.ir.sym import Apply, Const, Scalar, Var
from archc.ir.types import Axis, Dim, TensorType
from archc.records import dataclass
from archc.sizes import Size
from archc.source import Span
from archc.syntax import tree


@dataclass
class Model:
    """What only a model has, while it is elaborated."""

    session: Session
    present: dict[str, bool]
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    entries: list[EntryPoint] = field(default_factory=list)
    claims: list[tree.Claim] = field(default_factory=list)
    rules: list[tree.Rule] = field(default_factory=list)
    matches: list[tree.Matches] = field(default_factory=list)
    optional: list[str] = field(default_factory=list)

    # ---- inputs

    def declare_input(self, statement: tree.Declare, scope: Scope) -> None:
        """`input x: [B, C=3, H, W]`: the sizes that the spec does not fix are symbols."""
        if not isinstance(statement.type, tree.TensorDecl):
            raise fail("E0222", f"an {statement.keyword} needs axes, e.g. `[B, C=3, H, W]`", statement.type.span)
        default = None
        if statement.value is not None:
            value = evaluate(statement.value, scope) if not _is_word(statement.value, "empty") else None
            default = "empty" if value is None else "none" if value.value is None else repr(value.value)
        if default == "none" and statement.keyword == "input":
            self.optional.append(statement.name)
            if len(self.optional) > 4:
                raise fail("E0404", "a model has at most 4 optional inputs", statement.span)
            if not self.present.get(statement.name, True):
                scope.env[statement.name] = Scalar(None, Const(None))
                return
        known = set(self.session.symbols)
        axes = tuple(self._axis(axis, statement, scope) for axis in statement.type.axes)
        if statement.keyword == "state":
            self.session.least |= {s: 0 for s in self.session.symbols if s not in known}
        value = scope.frame.value(TensorType(statement.type.dtype, axes), statement.span, statement.name)
        if any(i.name == statement.name for i in self.inputs):
            first = next(i.value.span for i in self.inputs if i.name == statement.name)
            raise fail("E0405", f"the input `{statement.name}` is declared twice", statement.span, "again",
                       related=(Label(first, "first"),))  # fmt: skip
        self.inputs.append(Input(statement.name, value, statement.keyword, default))
        scope.env[statement.name] = value
        if statement.keyword == "state":
            scope.env[f"next {statement.name}"] = value  # unless it is set, a state stays as it is
        # What a size is called is the name after `=`, or the axis: `H=Hz` binds Hz.
        for axis in axes:
            if axis.size.constant is None and str(axis.size) in self.session.symbols:
                size = size_of_axis(value, axis.name, scope)
                if scope.env.setdefault(str(axis.size), size) is size:
                    scope.sizes[str(axis.size)] = size

    def _axis(self, axis: tree.AxisDecl | tree.Rest, statement: tree.Declare, scope: Scope) -> Axis:
        if not isinstance(axis, tree.AxisDecl):
            raise fail("E0222", "the axes of an input are all written out", axis.span)
        if axis.size is None and isinstance(scope.env.get(axis.name), Scalar) and axis.name not in scope.sizes:
            raise fail("E0311", f"the size of {axis.name} is left open here, and the model has a parameter `{axis.name}`",
                       axis.span, helps=(f"write `{axis.name}={axis.name}` where the parameter is the size",
                                         "or give the parameter another name"))  # fmt: skip
        if axis.size is None:
            return Axis(axis.name, Dim.of(self._symbol(axis.name)))
        inner = axis.size
        if isinstance(inner, tree.Name) and inner.name not in scope.env:
            return Axis(axis.name, Dim.of(self._symbol(inner.name)))
        size = evaluate(inner, scope)
        if isinstance(size, Poison):
            raise ArchError([])
        if not isinstance(size, Scalar) or isinstance(size.value, bool) or not isinstance(size.value, (int, Size)):
            raise fail("E0206", f"the size of `{axis.name}` must be a whole number", axis.span)
        if isinstance(size.value, int) and not 1 <= size.value < 2**31:
            raise fail("E0213", f"the size of `{axis.name}` must be at least 1, and is {size.value}", axis.span)
        return Axis(axis.name, Dim(Size.of(size.value), size.sym if isinstance(size.value, int) else None))

    def _symbol(self, name: str) -> Size:
        if name not in self.session.symbols:
            self.session.symbols.append(name)
        return Size.symbol(name)

    def presence(self, value: Any, answer: Scalar, op: str) -> Scalar:
        """`x == none` for an optional input: known in this build, asked again when the module runs."""
        name = next((i.name for i in self.inputs if isinstance(value, Value) and i.value.uid == value.uid), None)
        if name in self.optional:
            return Scalar(answer.value, Apply("==" if op == "==" else "!=", (Var(name), Const(None))))
        return answer

    # ---- outputs

    def bind_output(self, statement: tree.Bind, scope: Scope) -> None:
        """`output`, `exit`, `loss`, `next`."""
        value = evaluate(statement.value, scope)
        if isinstance(value, Poison):
            for name in statement.targets:
                scope.env[name] = POISON
            return
        parts = (value,) if len(statement.targets) == 1 else taken_apart(value) if isinstance(value, Many) else ()
        if len(parts) != len(statement.targets):
            raise fail("E0208", f"{len(statement.targets)} names for {len(parts) or 1} results", statement.span)
        if statement.when not in (None, "training"):
            found = re.search(rf"\bwhen\s+{statement.when}\b", statement.span.text)
            start, end = found.span() if found is not None else (0, len(statement.span.text))
            at = Span(statement.span.source, statement.span.start + start, statement.span.start + end)
            raise fail("E0213", f"an output exists always or `when training`, not `when {statement.when}`", at)
        for name, part in zip(statement.targets, parts, strict=True):
            tensors = tensors_in(part)
            if not tensors:
                raise fail("E0206", f"the output `{name}` must be a tensor, and this is {kind_of(part)}",
                           statement.value.span, helps=_whole_list(statement.value, scope))  # fmt: skip
            if any(o.name == name and o.kind == statement.keyword for o in self.outputs):
                first = next(o.span for o in self.outputs if o.name == name)
                raise fail("E0405", f"the output `{name}` is given twice", statement.span, "again",
                           related=(Label(first, "first"),))  # fmt: skip
            if statement.keyword == "next":
                self._set_next(name, part, statement, scope)
                continue
            used = tuple(scope.frame.use(t) for t in tensors)
            self.outputs.append(
                Output(
                    name,
                    used[0] if isinstance(part, Value) else used,
                    statement.keyword,
                    statement.when,
                    statement.span,
                    known_length(part),
                )
            )
            if name not in scope.env:
                bind_name(name, part, statement, scope)

    def _set_next(self, name: str, value: Any, statement: tree.Bind, scope: Scope) -> None:
        """`next keys = ...`: what the state holds at the next call; in an arm of a branch it may stay as it is."""
        state = next((i for i in self.inputs if i.name == name and i.kind == "state"), None)
        if state is None:
            raise fail("E0201", f"there is no state called `{name}`", statement.span,
                       helps=did_you_mean(name, [i.name for i in self.inputs if i.kind == "state"]))  # fmt: skip
        if not isinstance(value, Value) or value.type.names != state.value.type.names:
            raise fail(
                "E0308", f"the state `{name}` is {state.value.type}, and this is {kind_of(value)}", statement.span
            )
        scope.env[f"next {name}"] = scope.frame.use(value)

    def states_out(self, scope: Scope) -> None:
        """The states as they are after this call are outputs too, after all others."""
        for i in self.inputs:
            value = scope.env.get(f"next {i.name}")
            if i.kind == "state" and isinstance(value, Value):
                self.outputs.append(Output(i.name, scope.frame.use(value), "next", None, i.value.span))

    # ---- entries and facts

    def declare_entry(self, statement: tree.Entry, scope: Scope) -> None:
        """A further method: checked for its own declared inputs, whose sizes are symbols of their own."""
        check_label(statement.name, statement.span)
        ref = EntryRef(statement, scope)
        values = []
        symbols: dict[str, None] = {}
        for p in statement.parameters:
            if not isinstance(p.type, tree.TensorDecl):
                raise fail("E0222", "the parameters of an entry are tensors", p.span)
            axes = []
            for axis in p.type.axes:
                if not isinstance(axis, tree.AxisDecl):
                    raise fail("E0222", "the axes of an input are all written out", axis.span)
                size = evaluate(axis.size, scope) if axis.size is not None and not _fresh(axis.size, scope) else None
                if isinstance(size, Scalar) and isinstance(size.value, int):
                    axes.append(Axis(axis.name, Dim(Size.of(size.value), size.sym)))
                else:
                    word = axis.size.name if isinstance(axis.size, tree.Name) else axis.name
                    symbols.setdefault(word)
                    axes.append(Axis(axis.name, Dim.of(Size.symbol(word))))
            values.append(Value(self.session.uid(), TensorType(p.type.dtype, tuple(axes)), p.span, p.name))
        bound = _bound_of(statement, values)
        with self.session.apart() as own:
            made = entry_template(ref, values, bound, scope.frame.level, statement.span)
        if made is not None:
            self.entries.append(EntryPoint(statement.name, made, tuple(symbols), tuple(own.values())))
        scope.env[statement.name] = ref

    def fact(self, statement: tree.Claim | tree.Weights | tree.Matches) -> None:
        match statement:
            case tree.Claim():
                self.claims.append(statement)
            case tree.Weights(rules=rules):
                self.rules += rules
            case tree.Matches():
                self.matches.append(statement)


def _whole_list(expr: tree.Expr, scope: Scope) -> tuple[str, ...]:
    """Help where an operation was given a list, took it for no tensor, and became a recipe."""
    match expr:
        case tree.Call(function=tree.Name(name=name), arguments=arguments):
            given = [scope.env.get(a.value.name) for a in arguments if isinstance(a.value, tree.Name)]
            if any(isinstance(v, Many) for v in given):
                return (f"`{name}` takes one tensor; `total(xs)` of `std.layout` adds the tensors of a list",)
    return ()


def _bound_of(statement: tree.Entry, values: list[Value]) -> Any:
    names = [p.name for p in statement.parameters]
    return Bound(dict(zip(names, values, strict=True)), {n: statement.span for n in names}, [])


def _fresh(expr: tree.Expr, scope: Scope) -> bool:
    return isinstance(expr, tree.Name) and expr.name not in scope.env


def _is_word(expr: tree.Expr, word: str) -> bool:
    return isinstance(expr, tree.Name) and expr.name == word


# ---- variants


@dataclass(frozen=True)
class Variant:
    """A model with arguments: what a binding stands for, through the bindings it refers to."""

    name: str
    model: ComponentRef
    arguments: tuple[tuple[str, Any, Span], ...]
    facts: tuple[tree.Fact, ...]
    span: Span
    file: FileNames
    call: Span


def variant_names(library: Library) -> list[str]:
    """The variants bound in the file itself, in order."""
    return list(library.main.bindings)


def variant(library: Library, name: str) -> Variant:
    """The variant `name` of a file. Raises ArchError E0801 where there is none, E0802 where it binds no model."""
    if name in library.main.bindings:
        return _resolve(BindingRef(library.main.bindings[name], library.main), 0)
    raise fail("E0801", f"{library.main.file.source.name} binds no variant `{name}`",
               helps=did_you_mean(name, library.main.bindings) or _bound_in(library))  # fmt: skip


def _bound_in(library: Library) -> tuple[str, ...]:
    """Help for a variant that a file does not bind: those that it binds, or how one is bound."""
    if library.main.bindings:
        return ("variants: " + ", ".join(library.main.bindings),)
    models = [r.tree for r in library.main.names.values() if isinstance(r, ComponentRef) and r.tree.role == "model"]
    return tuple(f"it binds none yet: `mine = {m.name}(...)` makes one of its model" for m in models[:1])


def _resolve(ref: BindingRef, depth: int) -> Variant:
    expr, file = ref.tree.value, ref.file
    if depth > 32:
        raise fail("E0403", f"`{ref.tree.name}` refers to itself", ref.tree.span)
    call = expr
    while isinstance(call, tree.Paren):
        call = call.expr
    args: list[Arg] = []
    if isinstance(call, tree.Call):
        scope = Scope(Frame(Session(), ref.tree.name), file, {}, None)
        args = arguments(call, scope)
        call = call.function
    if not isinstance(call, tree.Name):
        raise fail("E0802", f"`{ref.tree.name}` must be a model with arguments", ref.tree.span)
    target = file.names.get(call.name)
    if isinstance(target, BindingRef):
        base = _resolve(target, depth + 1)
    elif isinstance(target, ComponentRef) and target.tree.role == "model":
        base = Variant(ref.tree.name, target, (), (), ref.tree.span, file, expr.span)
    elif target is None:
        raise fail(
            "E0201",
            f"no model is called `{call.name}`",
            call.span,
            "unknown name",
            helps=did_you_mean(call.name, file.names),
        )
    else:
        raise fail("E0802", f"`{call.name}` is not a model", call.span, helps=("a variant is a model with arguments",))
    declared = base.model.tree.parameters
    given = list(base.arguments)
    for position, a in enumerate(args):
        name = a.keyword
        if name is None:
            if position >= len(declared):
                raise fail("E0205", f"`{call.name}` takes {counted(declared)}", a.span, "one too many",
                           helps=(signature_of(base.model.tree),))  # fmt: skip
            name = declared[position].name
        if not any(p.name == name for p in declared):
            raise fail("E0203", f"`{base.model.tree.name}` has no parameter `{name}`", a.span, "unknown parameter",
                       helps=(*did_you_mean(name, [p.name for p in declared]), signature_of(base.model.tree)))  # fmt: skip
        if a.value is None:
            raise unknown(a)
        given = [g for g in given if g[0] != name] + [(name, unwrap(a.value), a.span)]
    # Claims and recorded answers are about one variant; weights and initialisers hold for what is made from it too.
    kept = tuple(f for f in base.facts if isinstance(f, (tree.Weights, tree.Init)))
    return Variant(ref.tree.name, base.model, tuple(given), kept + ref.tree.facts, ref.tree.span, file, expr.span)


def overridden(base: Variant, **arguments: Any) -> Variant:
    """The variant with other arguments (plain values), as the factory of the generated module takes them."""
    from archc.ir.sym import const

    given = [g for g in base.arguments if g[0] not in arguments]
    return replace(base, arguments=(*given, *((n, const(v), base.span) for n, v in arguments.items())))


def check_without(library: Library, chosen: Variant, absent: Sequence[str]) -> None:
    """Checks the network that a variant is where the optional inputs `absent` are not given. Raises ArchError."""
    try:
        elaborate(library, chosen, dict.fromkeys(absent, False))
    except ArchError as error:
        names = " and ".join(f"`{name}`" for name in absent)
        test = " and ".join(f"{name} != none" for name in absent)
        note = f"this is the network without {names}, which may be left out: `if {test} {{ ... }}`"
        raise ArchError([replace(d, helps=(*d.helps, note)) for d in error.diagnostics]) from None


def _misspelled_sizes(session: Session, parameters: list[str]) -> list[Diagnostic]:
    """The findings; where a size depends on the inputs, with what it may misspell: an unknown name is a free size."""
    found = []
    for d in session.diagnostics:
        meant = ((s, closest_slip(s, parameters)) for s in session.symbols) if d.code == "E0304" else ()
        helps = tuple(f"`{s}` is a free size of an input: did you mean `{word}`?" for s, word in meant if word is not None)
        found.append(replace(d, helps=(*helps, *d.helps)) if helps else d)
    return found


def elaborate(
    library: Library, chosen: Variant, present: dict[str, bool] | None = None, session: Session | None = None
) -> Program:
    """The program of a variant. `present` says which optional inputs are given (all, unless said otherwise); a `session`
    of the caller's tells them what was overruled.

    Raises ArchError with every independent mistake that was found.
    """
    ref, session = chosen.model, session or Session()
    frame = Frame(session, ref.tree.name, level=Level(adopt=False))
    model = Model(session, present or {})
    scope = Scope(frame, ref.file, {}, ref.tree, "", model=model)
    passed: list[tuple[str, Scalar]] = []
    given = {name: (value, span) for name, value, span in chosen.arguments}
    for p in ref.tree.parameters:
        if p.name in given:
            value, span = given[p.name]
            check_kind(ref.tree.name, p, value, span)
        elif p.default is not None:
            value = evaluate(p.default, scope)
            check_kind(ref.tree.name, p, value, p.default.span)
        else:
            raise fail("E0204", f"`{ref.tree.name}` needs `{p.name}`", chosen.call, f"`{p.name}` is missing",
                       related=declared_at(p), helps=(signature_of(ref.tree),))  # fmt: skip
        taken: dict[str, Any] = {}
        scope.env[p.name] = lift(value, p.name, passed, taken)
    frame.parameters = dict(passed)
    frame.kinds = kinds_of(ref)
    numbers = {name: value for name, (value, _) in given.items()}
    with session.using(Use(ref, chosen.call, numbers)) if numbers else nullcontext():
        run_statements(ref.tree.body, scope)
    session.diagnostics = _misspelled_sizes(session, [p.name for p in ref.tree.parameters])
    for fact in chosen.facts:
        match fact:
            case tree.Init():
                frame.inits.append(init_rule(fact, Scope(frame, chosen.file, scope.env, ref.tree, "", model=model)))
            case tree.Doc():
                pass
            case _:
                model.fact(fact)
    if session.diagnostics:
        raise ArchError(in_order(session.diagnostics))
    model.states_out(scope)
    if not model.inputs:
        raise fail(
            "E0803", f"`{ref.tree.name}` has no input", ref.tree.span, helps=("write `input image: [B, C=3, H, W]`",)
        )
    if not model.outputs:
        raise fail("E0803", f"`{ref.tree.name}` has no output", ref.tree.span, helps=("write `output logits = ...`",))
    results = tuple(Many(o.value) if isinstance(o.value, tuple) else o.value for o in model.outputs)
    root = finish(
        frame,
        ref.tree.name,
        "model",
        [i.value for i in model.inputs],
        results,
        tuple(passed),
        ref.tree.span,
        doc_of(ref.tree.body),
    )
    session.diagnostics += check_starts(root)
    if session.diagnostics:
        raise ArchError(in_order(session.diagnostics))
    source = library.main.file.source
    doc = next((item.text for item in ref.file.file.items if isinstance(item, tree.Doc)), "")
    return Program(
        chosen.name, ref.tree.name, root.doc or doc, source, library.sources, chosen.span, root, tuple(passed),
        tuple(model.inputs), tuple(model.outputs), tuple(model.entries), tuple(session.symbols),
        tuple(session.obligations.values()), tuple(model.claims), tuple(model.rules), tuple(model.matches),
        kinds=tuple(frame.kinds.items()), least=tuple(session.least.items()),
    )  # fmt: skip


__all__ = ["Diagnostic", "Model", "Variant", "elaborate", "overridden", "variant", "variant_names"]
