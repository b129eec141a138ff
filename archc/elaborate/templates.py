"""One template for each distinct use of a component."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

from archc.contract import Obligation
from archc.diagnostics import ArchError, fail
from archc.elaborate.binding import (
    Bound,
    bind_defaults,
    bind_sizes,
    check_kind,
    check_sizes,
    fit,
    still_missing,
)
from archc.elaborate.frame import MOST_UNROLLED, Conflict, Frame, Level, Scope, Session, taken_apart, tensors_in
from archc.elaborate.inert import is_inert
from archc.elaborate.reading import assigned_names
from archc.elaborate.unused import unused
from archc.elaborate.values import (
    ComponentRef,
    Deferred,
    FnRef,
    Many,
    Module,
    OpRef,
    Poison,
    Recipe,
    kind_of,
)
from archc.ir.graph import Template, Value, unrolled
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Const, Scalar, Var, plain
from archc.ir.types import Dim, TensorType
from archc.ops.base import Op
from archc.sizes import Size
from archc.source import Span
from archc.syntax import tree
from archc.where.base import Region


def run_body(ref: ComponentRef, scope: Scope) -> tuple[Any, ...] | None:
    """The results of a component's body, or None where errors were reported."""
    from archc.elaborate.statements import run_statements

    before = len(scope.session.diagnostics)
    run_statements(ref.tree.body, scope)
    if scope.returned is None:
        if len(scope.session.diagnostics) == before:
            raise fail(
                "E0214", f"`{ref.tree.name}` returns nothing", ref.tree.span, helps=("end its body with `return ...`",)
            )
        return None
    if any(isinstance(r, Poison) for r in scope.returned):
        return None
    if ref.tree.results and len(ref.tree.results) != len(scope.returned):
        raise fail(
            "E0214",
            f"`{ref.tree.name}` promises {len(ref.tree.results)} results and returns {len(scope.returned)}",
            ref.tree.span,
        )
    for promised, result in zip(ref.tree.results, scope.returned, strict=False):
        check_result(promised, result, ref.tree.name, scope)
    return scope.returned


def check_result(promised: tree.TypeDecl, result: Any, owner: str, scope: Scope) -> None:
    """Raises ArchError E0308 where a result does not have the promised axes."""
    if not isinstance(promised, tree.TensorDecl) or not isinstance(result, Value):
        return
    names = [a.name for a in promised.axes if isinstance(a, tree.AxisDecl)]
    whole = len(names) == len(promised.axes)
    found = list(result.type.names)
    if (
        (whole and found != names)
        or (not whole and any(n not in found for n in names))
        or promised.dtype != result.type.dtype
    ):
        error = fail("E0308", f"`{owner}` promises {promised.span.text} and returns {result.type}", promised.span)
        scope.session.refuse(error)
        return
    for axis in promised.axes:
        if isinstance(axis, tree.AxisDecl) and axis.size is not None:
            _check_promised_size(axis, result, owner, scope)


def _check_promised_size(axis: tree.AxisDecl, result: Value, owner: str, scope: Scope) -> None:
    """A size that is written with an axis of a result holds. A fresh name states nothing."""
    from archc.elaborate.expressions import evaluate, find

    assert axis.size is not None
    if isinstance(axis.size, tree.Name) and find(axis.size.name, scope) is None:
        return
    wanted = evaluate(axis.size, scope)
    if not isinstance(wanted, Scalar) or not isinstance(wanted.value, (int, Size)):
        return
    size = result.type[axis.name].size
    why = f"`{owner}` promises {axis.name} = {axis.size.span.text}, which is {wanted.value}, and returns {result.type}"
    obligation = Obligation("equal", size, Size.of(wanted.value), axis.span, why, "E0308", scope.session.guards)
    verdict = scope.session.settle(obligation)
    if verdict == "refused":
        scope.session.refuse(fail("E0308", why, axis.span))
    if verdict == "depends":
        scope.session.oblige(obligation)


def key_of(value: Any) -> Any:
    """A hashable key of a value: what it is, not where it came from."""
    match value:
        case Scalar(value=raw):
            return tuple(key_of(i) for i in raw) if isinstance(raw, tuple) else (type(raw).__name__, raw)
        case Value(type=shape):
            return (shape.dtype, tuple((a.name, a.size, a.order) for a in shape.axes))
        case Many(items=items):
            return tuple(key_of(i) for i in items)
        case tuple():
            return tuple(key_of(i) for i in value)
        case Recipe(target=target, arguments=arguments):
            return ("recipe", key_of(target), tuple((k, key_of(_unnamed(v))) for k, v, _ in arguments))
        case OpRef(op=op):
            return op.name
        case Deferred(op=op, inputs=inputs):
            return ("deferred", key_of(op), key_of(inputs))
        case dict():
            return tuple(sorted((k, key_of(v)) for k, v in value.items()))
        case _ if is_dataclass(value) and not isinstance(value, type):
            return (
                (type(value).__name__, *(key_of(getattr(value, f.name)) for f in fields(value)))
                if not isinstance(value, (ComponentRef, FnRef))
                else id(value)
            )
        case _:
            return value


def _decisive(ref: ComponentRef, name: str, value: Any, session: Session) -> Any:
    """What the template of a component depends on of one of its arguments."""
    return ("inert", type(value.value)) if is_inert(ref, name, value, session.inert) else key_of(value)


def _unnamed(value: Any) -> Any:
    from archc.elaborate.arguments import unwrap

    return unwrap(value)


def fresh(name: str, taken: dict[str, Any]) -> str:
    """`name`, or the first of name_2, name_3 ... that is free."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


def size_name(axis: str, taken: dict[str, Any]) -> str:
    """What the size of an axis is called in the module: the field's word for channels, else the axis in small letters."""
    if axis == "C":
        return next((n for n in ("dim", "channels", "width") if n not in taken), None) or fresh("dim", taken)
    return fresh(axis.lower(), taken)


def template_for(
    ref: ComponentRef, bound: Bound, span: Span, scope: Scope
) -> tuple[Template | None, tuple[tuple[str, Scalar], ...]]:  # fmt: skip
    """The template of a component for these arguments, and the compile-time arguments in the caller's terms."""
    session = scope.session
    passed: list[tuple[str, Scalar]] = []
    # A size may not be called like anything that the body binds: the turns of a loop would take one for the other.
    taken: dict[str, Any] = dict.fromkeys([*(p.name for p in ref.tree.parameters), *assigned_names(ref.tree.body)])
    env: dict[str, Any] = {}
    inputs: list[tuple[tree.Parameter, Value, TensorType, dict[str, str]]] = []
    for p in ref.tree.parameters:
        value = bound.values.get(p.name)
        if isinstance(p.type, tree.TensorDecl) and isinstance(value, Value):
            names = fit(p, value, ref.tree.name, span, session, bound)
            inputs.append((p, value, value.type.renamed(names), names))
    # Sizes first, then the numbers, as a careful engineer orders a constructor.
    retyped: dict[str, TensorType] = {}
    shared: dict[str, str] = {}
    for p, _value, type, _ in inputs:
        decls = {a.name: a for a in p.type.axes if isinstance(a, tree.AxisDecl)}  # type: ignore[union-attr]
        axes = []
        for axis in type.axes:
            decl = decls.get(axis.name)
            dim = axis.dim
            literal = decl is not None and decl.size is not None and not isinstance(decl.size, tree.Name)
            if dim.constant is not None and not (literal and isinstance(dim.sym, Const)):
                written = decl.size.name if decl is not None and isinstance(decl.size, tree.Name) else axis.name
                if written in shared:
                    variable = shared[written]
                else:
                    variable = size_name(written, taken)
                    shared[written] = variable
                    taken[variable] = None
                    passed.append(
                        (variable, Scalar(dim.constant, dim.sym if dim.sym is not None else Const(dim.constant)))
                    )
                dim = Dim(dim.size, Var(variable))
            axes.append(axis.sized(dim))
        retyped[p.name] = type.with_axes(axes)
    for p in ref.tree.parameters:
        if p.name in bound.values:
            if p.name not in retyped:
                env[p.name] = lift(bound.values[p.name], p.name, passed, taken)
        elif isinstance(p.default, (tree.Number, tree.Constant, tree.String)) and p.default.value is not None:
            value = Scalar(p.default.value, Const(p.default.value))
            check_kind(ref.tree.name, p, value, p.default.span)
            passed.append((p.name, value))
            env[p.name] = Scalar(value.value, Var(p.name))
    key = (
        id(ref), tuple((n, _decisive(ref, n, v, session)) for n, v in bound.values.items() if not isinstance(v, Value)),
        tuple((p.name, t.dtype, tuple((a.name, a.size, a.dim.sym is None, a.order) for a in t.axes)) for p, _, t, _ in inputs),
        tuple(p.name for p in bound.defaulted), session.guards, bool(session.ghosts),
        tuple(p.name for p in ref.tree.parameters if isinstance(bound.values.get(p.name), Many)),
    )  # fmt: skip
    # Lists of tensors are part of the inputs too.
    lists = {n: v for n, v in bound.values.items() if isinstance(v, Many) and tensors_in(v)}
    if key not in session.templates:
        with session.apart() as own:
            session.templates[key] = _build(ref, bound, span, scope, env, inputs, retyped, lists, tuple(passed))
        session.demands[key] = tuple(own.values())
    # An entry and the model itself may use one template, and each has a contract of its own.
    for obligation in session.demands[key]:
        session.oblige(obligation)
    return session.templates[key], tuple(passed)


def lift(value: Any, name: str, passed: list[tuple[str, Scalar]], taken: dict[str, Any]) -> Any:
    """A compile-time argument in the component's own terms; the numbers in it are noted in `passed` in the caller's."""
    from archc.elaborate.scalars import from_value

    match value:
        case Scalar(value=raw):
            passed.append((name, value))
            if isinstance(raw, tuple):
                return from_value(plain(value), Var(name))
            return Scalar(raw, Var(name))
        case Value() | Many():
            return value
        case Recipe(target=target, arguments=arguments, span=span):
            lifted = []
            for number, (keyword, inner, s) in enumerate(arguments):
                lifted.append((keyword, _lift_named(inner, f"{name}_{keyword or number}", passed, taken), s))
            return Recipe(target, tuple(lifted), span)
        case _ if is_dataclass(value) and not isinstance(value, (type, ComponentRef, FnRef, OpRef, Module)):
            changed = {}
            for f in fields(value):
                inner = getattr(value, f.name)
                made = _lift_field(inner, f"{name}_{f.name}", passed, taken)
                if made is not inner:
                    changed[f.name] = made
            return replace(value, **changed) if changed else value
        case _:
            return value


def _lift_named(value: Any, name: str, passed: list[tuple[str, Scalar]], taken: dict[str, Any]) -> Any:
    from archc.elaborate.arguments import Named

    if isinstance(value, Named):
        return Named(value.name, _lift_field(value.value, name, passed, taken), value.names)
    return _lift_field(value, name, passed, taken)


def _lift_field(inner: Any, name: str, passed: list[tuple[str, Scalar]], taken: dict[str, Any]) -> Any:
    if isinstance(inner, Scalar):
        if isinstance(inner.sym, Const):
            return inner
        if (
            isinstance(inner.sym, SymApply)
            and inner.sym.op == "list"
            and all(isinstance(a, Const) for a in inner.sym.args)
        ):
            return inner
        variable = fresh(name, taken)
        taken[variable] = None
        return lift(inner, variable, passed, taken)
    if isinstance(inner, tuple):
        made = tuple(_lift_field(i, f"{name}_{n}", passed, taken) for n, i in enumerate(inner))
        return inner if all(a is b for a, b in zip(made, inner, strict=True)) else made
    if is_dataclass(inner) and not isinstance(inner, (type, Value, Span)):
        return lift(inner, name, passed, taken)
    return inner


def _build(
    ref: ComponentRef, bound: Bound, span: Span, scope: Scope, env: dict[str, Any], inputs: list[Any],
    retyped: dict[str, TensorType], lists: dict[str, Any], passed: tuple[tuple[str, Scalar], ...],
) -> Template | None:  # fmt: skip
    """Elaborate a component into a template of its own; None where it has errors, which are reported."""
    for adopt in (True, False):
        frame = Frame(
            scope.session, ref.tree.name, level=Level(adopt=adopt), parameters=dict(passed), kinds=kinds_of(ref)
        )
        inner = Scope(frame, ref.file, dict(env), ref.tree, "", model=scope.model)
        late: list[Any] = []
        ordered: list[Value] = []
        for p in ref.tree.parameters:
            if p.name in retyped:
                value = frame.value(retyped[p.name], p.span, p.name)
                ordered.append(value)
                inner.env[p.name] = value
                assert isinstance(p.type, tree.TensorDecl)
                bind_sizes(p.type, value, ref.tree.name, bound.spans[p.name], inner, late)
            elif p.name in lists:
                inner.env[p.name] = _copy_list(lists[p.name], p, frame, ordered)
            elif isinstance(bound.values.get(p.name), Value):  # a parameter of kind `tensor`
                given = bound.values[p.name]
                value = frame.value(given.type, p.span, p.name)
                ordered.append(value)
                inner.env[p.name] = value
            elif captured(env.get(p.name)):
                inner.env[p.name] = with_tensors(env[p.name], partial(_copy, p, frame, ordered))
        try:
            bind_defaults(ref, still_missing(bound, inner.env), inner)
            check_sizes(ref.tree.name, inner, late)
            results = run_body(ref, inner)
        except Conflict:
            continue
        if results is None:
            return None
        return finish(
            frame, ref.tree.name, ref.tree.role, ordered, results, passed, ref.tree.span, doc_of(ref.tree.body)
        )
    raise AssertionError("a level in which `_:` is written out has no conflicts")


def captured(value: Any) -> list[Value]:
    """The tensors of an argument, those that a region or a bias carries included, in order."""
    found: list[Value] = []
    with_tensors(value, lambda tensor: found.append(tensor) or tensor)
    return found


def with_tensors(value: Any, change: Callable[[Value], Value]) -> Any:
    """An argument with `change` applied to every tensor in it."""
    match value:
        case Value():
            return change(value)
        case tuple():
            return tuple(with_tensors(v, change) for v in value)
        case Many(items=items):
            return replace(value, items=with_tensors(items, change))
        case Region() | Deferred() | Op():
            parts = {f.name: getattr(value, f.name) for f in fields(value)}
            made = {name: with_tensors(part, change) for name, part in parts.items()}
            return replace(value, **{name: part for name, part in made.items() if part is not parts[name]})
        case _:
            return value


def _copy(p: tree.Parameter, frame: Frame, ordered: list[Value], tensor: Value) -> Value:
    made = frame.value(tensor.type, p.span, tensor.name or p.name)
    ordered.append(made)
    return made


def _copy_list(value: Any, p: tree.Parameter, frame: Frame, ordered: list[Value]) -> Any:
    if isinstance(value, Value):
        made = frame.value(value.type, p.span, p.name)
        ordered.append(made)
        return made
    if isinstance(value, Many):
        return Many(tuple(_copy_list(v, p, frame, ordered) for v in taken_apart(value)), value.is_tuple)
    return value


def kinds_of(ref: ComponentRef) -> dict[str, str]:
    """The declared kind of each parameter, as the spec writes it."""
    return {p.name: p.type.span.text for p in ref.tree.parameters}


def doc_of(body: tuple[tree.Statement, ...]) -> str:
    return next((s.text for s in body if isinstance(s, tree.Doc)), "")


def finish(
    frame: Frame, name: str, role: str, inputs: list[Value], results: tuple[Any, ...],
    passed: tuple[tuple[str, Scalar], ...], span: Span, doc: str,
) -> Template:  # fmt: skip
    """The finished template of a frame. Raises ArchError E0214 for results that are no tensors."""
    outputs: list[Value] = []
    shape: list[tuple[int, ...]] = []
    for result in results:
        if isinstance(result, Deferred):
            raise fail("E0220", f"`{result.op.name}` needs a tensor beside it", result.span)
        if isinstance(result, Many) and role != "model":
            taken_apart(result)
        tensors = tensors_in(result)
        if not isinstance(result, (Value, Many)) or (isinstance(result, Many) and len(tensors) != len(result.items)):
            raise fail("E0214", f"`{name}` returns {kind_of(result)}, and a result must be a tensor", span)
        start = len(outputs)
        outputs += [frame.use(t) for t in tensors]
        indices = tuple(range(start, len(outputs)))
        shape.append(indices if isinstance(result, Value) else (-1, *indices))
    nested = any(s and s[0] == -1 for s in shape)
    from archc.elaborate.loops import settle_body

    settle_body(frame)
    if not frame.session.ghosts and role != "entry":
        for diagnostic in unused(tuple(frame.body), outputs, name):
            if frame.session.forced:
                frame.session.overruled.append(diagnostic)
            else:
                frame.session.report(ArchError([diagnostic]))
    made = Template(
        name, role, doc, passed, tuple(inputs), tuple(outputs), tuple(frame.body), tuple(frame.level.entries), span,
        tuple(frame.inits), tuple(s[1:] if s[0] == -1 else (s[0], -2) for s in shape) if nested else (),
        tuple(frame.kinds.items()), tuple(frame.assumed.items()),
    )  # fmt: skip
    if unrolled(made, frame.session.counted) > MOST_UNROLLED:
        raise fail("E0404", f"`{name}` comes to more than {MOST_UNROLLED:,} operations, all calls carried out", span)
    return made
