"""What is used more than once with the same weights: shared modules and entries; and compile-time functions."""

from __future__ import annotations

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
from archc.elaborate.frame import Frame, Level, Scope, tensors_in
from archc.elaborate.templates import doc_of, finish, run_body
from archc.elaborate.trail import Use
from archc.elaborate.values import (
    POISON,
    ComponentRef,
    FnRef,
    Module,
)
from archc.ir.graph import Template, Value
from archc.ir.sym import Const, Scalar, plain
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
    from archc.elaborate.arguments import unwrap
    from archc.elaborate.expressions import evaluate
    from archc.ir.sym import Apply

    declared = ref.tree.parameters
    given: dict[str, Any] = {}
    queue = [p for p in declared if p.name not in {a.keyword for a in args}]
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
            raise fail("E0201", f"nothing is called `{a.axis}` here", a.span, "unknown name")
        given[a.keyword or queue.pop(0).name] = value
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
    try:
        if home is not scope.frame:
            raise fail("E0407", f"the shared module `{module.name}` is used inside a loop that makes weights", span,
                       helps=("use `loop`, or write the uses one by one",))  # fmt: skip
        return calls.invoke(module.recipe, args, piped, module.name, span, scope)
    finally:
        level.reuse, level.guards = saved


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
    with scope.session.using(Use(component, span, bound.values)):
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
            type = value.type.renamed(fit(p.type, value.type, ref.tree.name, span, outer.session))
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
    return finish(frame, ref.tree.name, "entry", ordered, results, (), ref.tree.span, doc_of(ref.tree.body))
