"""What is used more than once with the same weights: shared modules and entries; and compile-time functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from archc.diagnostics import did_you_mean, fail
from archc.elaborate.binding import (
    Bound,
    bind,
    bind_defaults,
    bind_sizes,
    check_kind,
    check_sizes,
    counted,
    declared_at,
    fit,
    signature_of,
    still_missing,
)
from archc.elaborate.components import call_template
from archc.elaborate.frame import Frame, Level, Scope, mentions, reads, tensors_in
from archc.elaborate.templates import doc_of, finish, run_body
from archc.elaborate.trail import Use
from archc.elaborate.values import (
    POISON,
    ComponentRef,
    FnRef,
    Module,
)
from archc.ir.graph import OUTER, Apply, Call, ChildEntry, OpEntry, Template, Value
from archc.ir.sym import Const, Scalar, plain
from archc.ir.types import TensorType
from archc.records import dataclass
from archc.source import Span
from archc.syntax import tree


@dataclass(eq=False)
class EntryRef:
    """An `entry` of a model, and the scope around it."""

    tree: tree.Entry
    scope: Scope


def call_fn(ref: FnRef, args: list[Any], piped: Any, span: Span, scope: Scope) -> Any:
    """A compile-time function; with tensors its expression is written in place."""
    from archc.elaborate.arguments import refuse_twice, unknown, unwrap
    from archc.elaborate.expressions import evaluate
    from archc.ir.sym import Apply

    declared = ref.tree.parameters
    given: dict[str, Any] = {}
    queue = list(declared)
    if piped is not None and queue:
        given[queue.pop(0).name] = piped
    for a in args:
        if a.keyword is None and not queue:
            raise fail("E0205", f"`{ref.tree.name}` takes {counted(declared)}", a.span, "one too many",
                       helps=(signature_of(ref.tree),))  # fmt: skip
        if a.keyword is not None and a.keyword not in {p.name for p in declared}:
            raise fail("E0203", f"`{ref.tree.name}` has no parameter `{a.keyword}`", a.span, "unknown parameter",
                       helps=(*did_you_mean(a.keyword, [p.name for p in declared]), signature_of(ref.tree)))  # fmt: skip
        value = unwrap(a.value)
        if value is None:
            raise unknown(a)
        target = a.keyword
        if target is None:
            target = queue.pop(0).name
            refuse_twice(ref.tree.name, target, a, args)
        given[target] = value
    inner = Scope(scope.frame, ref.file, {}, None, model=scope.model)
    for p in declared:
        if p.name in given:
            inner.env[p.name] = given[p.name]
        elif p.default is not None:
            inner.env[p.name] = evaluate(p.default, inner)
        else:
            raise fail("E0204", f"`{ref.tree.name}` needs `{p.name}`", span, f"`{p.name}` is missing",
                       related=declared_at(p), helps=(signature_of(ref.tree),))  # fmt: skip
    values = [inner.env[p.name] for p in declared]
    with scope.session.using(Use(ref, span, given)):
        result = evaluate(ref.tree.body, inner)
    if isinstance(result, Scalar) and all(isinstance(v, Scalar) for v in values):
        syms = tuple(v.sym for v in values)
        if all(isinstance(s, Const) for s in syms) or not ref.definition.parameters:
            return result
        from archc.elaborate.scalars import from_value

        sym = Apply(ref.tree.name, syms, ref.definition)
        return from_value(plain(result), sym) if isinstance(result.value, tuple) else Scalar(result.value, sym)
    return result


def use_module(module: Module, tensors: list[Any], args: list[Any], piped: Any, span: Span, scope: Scope) -> Any:
    """One more use of a shared module: the first makes its weights, all have the same."""
    from archc.elaborate import calls

    level: Level = module.level
    if scope.frame.level is not level and not _within(scope.frame, level):
        raise fail("E0406", f"`{module.name}` belongs to another component", span,
                   helps=("use it where it is declared, or declare it here",))  # fmt: skip
    home = scope.frame
    while home.level is not level:
        assert home.parent is not None
        home = home.parent
    saved = level.reuse, level.guards
    level.reuse, level.guards = True, ()
    frame, own, mark = scope.frame, scope.frame.level, len(scope.frame.body)
    frame.level = level  # in the turn of a loop: the weights stand outside, the application in the turn
    try:
        result = calls.invoke(module.recipe, args, piped, module.name, span, scope)
    finally:
        frame.level = own
        level.reuse, level.guards = saved
    if home is not frame:
        _built_outside(module, level, frame, home, span)
        frame.body[mark:] = [_from_inside(s, module.name, _depth(frame, home)) for s in frame.body[mark:]]
    return result


def _built_outside(module: Module, level: Level, frame: Frame, home: Frame, span: Span) -> None:
    """Raises ArchError E0407 where the weights of a module from outside of a loop depend on the turn."""
    entry, inner = level.find(module.name), set[str]()
    while frame is not home:
        assert frame.parent is not None
        inner |= frame.turn_names | frame.parent.phi_names
        frame = frame.parent
    names = frozenset(inner)
    if isinstance(entry, OpEntry):
        sizes = [a.dim.sym for t in entry.types if isinstance(t, TensorType) for a in t.axes if a.dim.sym is not None]
        depends = reads(entry.op, names) or any(mentions(sym, names) for sym in sizes) or entry.functional
    else:
        depends = isinstance(entry, ChildEntry) and reads(entry.args, names)
    if depends:
        raise fail("E0407", f"the module `{module.name}` is built outside of the loop, and what it is built with "
                   "depends on the turn", span, helps=("declare it in the loop, or give its sizes numbers",))  # fmt: skip


def _depth(frame: Frame, home: Frame) -> int:
    depth = 0
    while frame is not home:
        assert frame.parent is not None
        frame, depth = frame.parent, depth + 1
    return depth


def _from_inside(statement: Any, name: str, depth: int) -> Any:
    """A statement of a turn that applies an entry of what stands around the loop."""
    if isinstance(statement, (Apply, Call)) and statement.entry == name:
        return replace(statement, entry=OUTER * depth + name)
    return statement


def _within(frame: Frame, level: Level) -> bool:
    current: Frame | None = frame
    while current is not None:
        if current.level is level:
            return True
        current = current.parent
    return False


def call_entry(ref: EntryRef, args: list[Any], piped: Any, span: Span, scope: Scope) -> Any:
    """A model's own entry called from its body: the same weights again."""
    level = scope.frame.level
    as_component = tree.Component(
        "entry", ref.tree.name, ref.tree.parameters, ref.tree.results, ref.tree.body, span=ref.tree.span
    )
    component = ComponentRef(as_component, ref.scope.file)
    bound = bind(component, args, piped, span)
    for p in ref.tree.parameters:
        if p.name in bound.values:
            check_kind(ref.tree.name, p, bound.values[p.name], bound.spans[p.name])
    with scope.session.using(Use(component, span, bound.values, bound.spans)):
        values = [bound.values[p.name] for p in ref.tree.parameters if p.name in bound.values]
        made = entry_template(ref, values, bound, level, span)
    if made is None:
        return POISON
    return call_template(made, (), component, bound, span, scope, None)


def entry_template(ref: EntryRef, values: list[Any], bound: Bound, level: Level, span: Span) -> Template | None:
    """A method of the model: a template over the model's own level."""
    outer = ref.scope
    frame = Frame(outer.session, ref.tree.name, level=level)
    env = {name: value for name, value in outer.env.items() if not tensors_in(value)}
    inner = Scope(frame, outer.file, env, None, model=outer.model)
    ordered: list[Value] = []
    late: list[Any] = []
    for p, value in zip(ref.tree.parameters, values, strict=False):
        if isinstance(p.type, tree.TensorDecl) and isinstance(value, Value):
            type = value.type.renamed(fit(p, value, ref.tree.name, span, outer.session))
            made = frame.value(type, p.span, p.name)
            ordered.append(made)
            inner.env[p.name] = made
            bind_sizes(p.type, made, ref.tree.name, span, inner, late)
        else:
            inner.env[p.name] = value
    component = ComponentRef(
        tree.Component(
            "entry", ref.tree.name, ref.tree.parameters, ref.tree.results, ref.tree.body, span=ref.tree.span
        ),
        outer.file,
    )
    bind_defaults(component, still_missing(bound, inner.env), inner)
    check_sizes(ref.tree.name, inner, late)
    saved = level.reuse
    level.reuse = True
    try:
        results = run_body(component, inner)
    finally:
        level.reuse = saved
    if results is None:
        return None
    # Which of the model's weights there are depends on the model's numbers.
    numbers = tuple(outer.frame.parameters.items())
    return finish(frame, ref.tree.name, "entry", ordered, results, numbers, ref.tree.span, doc_of(ref.tree.body))
