"""Applying components: one template for each distinct use, written in place where it owns nothing of its own."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from archc.contract import Obligation, settle
from archc.diagnostics import ArchError, did_you_mean, fail
from archc.elaborate.frame import DEEPEST_CALLS, Conflict, Frame, Level, Scope, tensors_in
from archc.elaborate.values import (
    POISON,
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
from archc.elaborate.unused import unused
from archc.ir.graph import Call, ChildEntry, OpEntry, Relabel, Template, Value
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Const, Scalar, Var, const, plain
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Op, Weight
from archc.sizes import Size
from archc.source import Span
from archc.syntax import tree

KINDS = ("int", "float", "bool", "str", "size", "region", "path", "recipe", "module", "tensor")


@dataclass(eq=False)
class EntryRef:
    """An `entry` of a model, and the scope around it."""

    tree: tree.Entry
    scope: Scope


def is_tensor_decl(type: tree.TypeDecl) -> bool:
    return isinstance(type, tree.TensorDecl) or (isinstance(type, tree.Kind) and type.name == "tensor")


def place_op(
    label: str | None, op: Op, types: tuple[Any, ...], weights: tuple[Weight, ...], span: Span, scope: Scope
) -> str:  # fmt: skip
    """The entry that holds an operation's weights: under its label, else its own name."""
    level = scope.frame.level
    module = getattr(scope, "module_entry", None)
    del module
    name = op.name if label is None else scope.self_label if label == "_" else label
    entry = level.add(OpEntry(name, op, types, weights, span, functional=name == "" and not level.adopt))
    assert isinstance(entry, OpEntry)
    return entry.name


# ---- arguments to parameters


@dataclass
class Bound:
    """A component's parameters with what was given for them; `defaulted` were not given."""

    values: dict[str, Any]
    spans: dict[str, Span]
    defaulted: list[tree.Parameter]


def bind(ref: ComponentRef, args: list[Any], piped: Any, span: Span) -> Bound:
    """Match arguments to parameters by place and keyword. Raises ArchError E0203, E0204, E0205."""
    name, declared = ref.tree.name, ref.tree.parameters
    from archc.elaborate.calls import AxisName, unwrap

    values: dict[str, Any] = {}
    spans: dict[str, Span] = {}
    keywords = {a.keyword for a in args if a.keyword is not None}
    queue = [p for p in declared if p.name not in keywords]
    if piped is not None:
        first = next((p for p in queue if _takes(p.type, piped)), None)
        if first is None:
            raise fail("E0205", f"`{name}` takes no tensor that `|>` could give it", span)
        values[first.name], spans[first.name] = piped, span
        queue.remove(first)
    for a in args:
        if a.keyword is not None:
            if not any(p.name == a.keyword for p in declared):
                raise fail("E0203", f"`{name}` has no parameter `{a.keyword}`", a.span, "unknown parameter",
                           helps=did_you_mean(a.keyword, [p.name for p in declared]))  # fmt: skip
            target = a.keyword
        else:
            if not queue:
                raise fail("E0205", f"`{name}` takes {len(declared)} arguments", a.span, "one too many",
                           helps=(f"signature: {name}({', '.join(p.name for p in declared)})",))  # fmt: skip
            target = queue.pop(0).name
        value = unwrap(a.value)
        if value is None or isinstance(value, AxisName):
            wanted = next(p for p in declared if p.name == target)
            if a.axis is not None and isinstance(wanted.type, tree.Kind) and wanted.type.name == "str":
                value = const(a.axis)
            else:
                raise fail("E0201", f"nothing is called `{a.axis}` here", a.span, "unknown name")
        values[target], spans[target] = value, a.span
    missing = [p for p in declared if p.name not in values]
    for p in missing:
        if p.default is None:
            raise fail("E0204", f"`{name}` needs `{p.name}`", span,
                       helps=(f"signature: {name}({', '.join(q.name for q in declared)})",))  # fmt: skip
    return Bound(values, spans, missing)


def _takes(type: tree.TypeDecl, value: Any) -> bool:
    if isinstance(value, (Value, Deferred)):
        return is_tensor_decl(type)
    return isinstance(type, tree.ListDecl)


def check_kind(owner: str, p: tree.Parameter, value: Any, span: Span) -> None:
    """Raises ArchError E0206 where a value does not have its parameter's kind."""
    from archc.where.paths import Path
    from archc.where.regions import Region

    def scalar(kind: str, v: Any) -> bool:
        if not isinstance(v, Scalar):
            return False
        raw = v.value
        whole = isinstance(raw, (int, Size)) and not isinstance(raw, bool)
        match kind:
            case "int":
                return whole
            case "float":
                return whole or isinstance(raw, float) or type(raw).__name__ == "Unknown"
            case "bool":
                return isinstance(raw, bool)
            case "str":
                return isinstance(raw, str)
            case _:
                return whole or (isinstance(raw, tuple) and all(scalar("int", i) for i in raw))

    def fits(type: tree.TypeDecl, v: Any) -> bool:
        match type:
            case tree.TensorDecl():
                return isinstance(v, (Value, Deferred))
            case tree.ListDecl(item=item):
                items = v.items if isinstance(v, Many) else v.value if isinstance(v, Scalar) else None
                return isinstance(items, tuple) and all(fits(item, i) for i in items)
            case tree.Kind(name=name):
                match name:
                    case "region":
                        return isinstance(v, Region)
                    case "path":
                        return isinstance(v, (Path, Many))
                    case "recipe":
                        return isinstance(v, (Recipe, ComponentRef, OpRef, FnRef, Module))
                    case "module":
                        return isinstance(v, (Module, Many))
                    case "tensor":
                        return isinstance(v, (Value, Deferred, Scalar))
                    case _:
                        return scalar(name, v)
        return False

    if isinstance(p.type, tree.Kind) and p.type.name not in KINDS:
        raise fail("E0221", f"there is no kind `{p.type.name}`", p.type.span, helps=did_you_mean(p.type.name, KINDS))
    if isinstance(value, Scalar) and value.value is None and isinstance(p.default, tree.Constant) and p.default.value is None:
        return
    if not fits(p.type, value):
        wanted = "a tensor" if isinstance(p.type, tree.TensorDecl) else f"`{p.type.span.text}`"
        raise fail("E0206", f"`{p.name}` of `{owner}` needs {wanted}, and this is {kind_of(value)}", span)


# ---- tensors to signatures


def fit(decl: tree.TensorDecl, type: TensorType, owner: str, span: Span) -> dict[str, str]:
    """Caller's axis names to the signature's. Raises ArchError E0306 (axes at other places), E0307 (rank), E0305 (dtype)."""
    if decl.dtype != type.dtype and not (decl.dtype == "float" and not decl.axes[:0] and type.dtype == "int" and False):
        raise fail("E0305", f"`{owner}` takes {decl.dtype} tensors here, and this is {type}", span)
    named = [a for a in decl.axes if isinstance(a, tree.AxisDecl)]
    if len(named) != len(decl.axes):
        for a in named:
            if a.name not in type:
                raise fail("E0307", f"`{owner}` needs an axis `{a.name}`, and its operand is {type}", span)
        return {}
    if len(named) != len(type.axes):
        raise fail("E0307", f"`{owner}` takes {len(named)} axes, [{', '.join(a.name for a in named)}], and its operand is {type}", span)
    names = {theirs: ours.name for theirs, ours in zip(type.names, named, strict=True)}
    for theirs, ours in names.items():
        if theirs != ours and ours in type.names:
            raise fail("E0306", f"`{owner}` takes [{', '.join(a.name for a in named)}], and `{ours}` stands elsewhere in {type}", span,
                       helps=("`rearrange` changes the order of axes",))  # fmt: skip
    return names


def declared_size(decl: tree.AxisDecl, scope: Scope) -> str | None:
    """The name that an axis of a signature binds: its own, or the fresh name after `=`."""
    if decl.size is None:
        return decl.name
    inner = decl.size
    if isinstance(inner, tree.Name) and inner.name not in scope.env and inner.name[0].isalpha():
        from archc.elaborate.expressions import find

        return inner.name if find(inner.name, scope) is None else None
    return None


def bind_sizes(decl: tree.TensorDecl, value: Value, owner: str, span: Span, scope: Scope, late: list[Any]) -> None:
    """Bind the sizes of a signature to those of a tensor; a name met again, or an expression, is checked at the end."""
    from archc.elaborate.expressions import size_of_axis

    for axis in decl.axes:
        if not isinstance(axis, tree.AxisDecl):
            continue
        size = size_of_axis(value, axis.name, scope)
        name = declared_size(axis, scope)
        if name is not None and name not in scope.sizes:
            scope.sizes[name] = size
            scope.env[name] = size
        else:
            late.append((axis, name, size, value, span))


def check_sizes(owner: str, scope: Scope, late: list[Any]) -> None:
    """The sizes that a signature states twice. Raises ArchError E0301 where they cannot agree."""
    from archc.elaborate.expressions import evaluate

    for axis, name, size, value, span in late:
        wanted = scope.sizes[name] if name is not None else evaluate(axis.size, scope)
        if isinstance(wanted, Poison):
            continue
        if not isinstance(wanted, Scalar) or not isinstance(wanted.value, (int, Size)):
            raise fail("E0206", "the size of an axis must be a whole number", axis.span)
        obligation = Obligation(
            "equal", Size.of(size.value), Size.of(wanted.value), span,
            f"`{owner}` needs {axis.name} = {wanted.value}, and its operand is {value.type}", "E0301", scope.session.guards,
        )  # fmt: skip
        verdict = settle(obligation)
        if verdict == "refused":
            raise fail("E0301", obligation.why, span, f"{axis.name} is {size.value}", helps=(f"signature: {axis.span.text}",))
        if verdict == "depends":
            scope.session.oblige(obligation)


# ---- application


def apply_component(ref: ComponentRef, args: list[Any], piped: Any, label: str | None, span: Span, scope: Scope) -> Any:
    """A component applied to tensors."""
    if ref.tree.role == "model":
        raise fail("E0216", f"`{ref.tree.name}` is a model and cannot be part of another component", span)
    bound = bind(ref, args, piped, span)
    if any(isinstance(v, Poison) for v in bound.values.values()):
        return POISON
    bound.values = {name: _seen(value, scope.frame) for name, value in bound.values.items()}
    for p in ref.tree.parameters:
        if p.name in bound.values:
            check_kind(ref.tree.name, p, bound.values[p.name], bound.spans[p.name])
    session = scope.session
    session.depth += 1
    try:
        if session.depth > DEEPEST_CALLS:
            raise fail("E0403", f"components call each other more than {DEEPEST_CALLS} deep", span,
                       helps=("a component may not use itself",))  # fmt: skip
        return _apply_bound(ref, bound, label, span, scope)
    finally:
        session.depth -= 1


def _seen(value: Any, frame: Frame) -> Any:
    """The tensors of an argument as the frame sees them."""
    match value:
        case Value():
            return frame.use(value)
        case Many(items=items):
            return Many(tuple(_seen(i, frame) for i in items), value.is_tuple)
        case _:
            return value


def _apply_bound(ref: ComponentRef, bound: Bound, label: str | None, span: Span, scope: Scope) -> Any:
    if any(isinstance(v, (Deferred, Module)) or _modules_in(v) for v in bound.values.values()):
        return inline(ref, bound, _label_here(ref, label, scope), span, scope)
    made, passed = template_for(ref, bound, span, scope)
    if made is None:
        return POISON
    level = scope.frame.level
    name = _label_here(ref, label, scope)
    if not made.entries:
        return inline(ref, bound, "", span, scope)
    if made.unit is not None:
        return inline(ref, bound, name, span, scope)
    again = level.reuse and level.find("") is not None
    if name == "" and not (level.adopt and (again or not level.entries)):
        if level.adopt:
            raise Conflict
        return inline(ref, bound, "", span, scope)
    entry = level.add(ChildEntry(name, made, passed, span))
    return _call(made, passed, ref, bound, span, scope, entry.name)


def _modules_in(value: Any) -> bool:
    return isinstance(value, Many) and any(isinstance(i, (Module, Deferred)) for i in value.items)


def _label_here(ref: ComponentRef, label: str | None, scope: Scope) -> str:
    return ref.tree.name if label is None else scope.self_label if label == "_" else label


def _call(
    made: Template, passed: tuple[tuple[str, Scalar], ...], ref: ComponentRef, bound: Bound, span: Span, scope: Scope,
    entry: str | None,
) -> Any:  # fmt: skip
    frame = scope.frame
    frame.session.count(span)
    inputs: list[Any] = []
    back: dict[str, str] = {}
    for p in ref.tree.parameters:
        value = bound.values.get(p.name)
        for tensor in tensors_in(value):
            inputs.append(frame.use(tensor))
            if isinstance(p.type, tree.TensorDecl):
                for theirs, ours in fit(p.type, tensor.type, ref.tree.name, span).items():
                    back.setdefault(ours, theirs)
    arguments = tuple((name, frame.localise(value)) for name, value in passed)
    known = {name: value.sym for name, value in arguments}
    outputs = tuple(frame.value(_outside(v.type, back, known), span) for v in made.outputs)
    frame.add(Call(made, tuple(inputs), outputs, arguments, span, entry))
    results = [outputs[i] if isinstance(i, int) else Many(tuple(outputs[j] for j in i)) for i in _result_shape(made)]
    return results[0] if len(results) == 1 else Many(tuple(results), True)


def _result_shape(made: Template) -> list[Any]:
    """Where each result lies among the outputs: an index, or the indices of a list."""
    return [i[0] if len(i) == 1 and i[0] >= 0 else tuple(i) for i in made.lists] if made.lists else list(range(len(made.outputs)))


def _outside(type: TensorType, back: dict[str, str], args: dict[str, Any]) -> TensorType:
    """A result's type in the caller's terms: its axis names, and its sizes' expressions over its own variables."""
    from archc.ir.sym import substitute

    axes = []
    for axis in type.axes:
        sym = axis.dim.sym
        if sym is not None:
            sym = substitute(sym, args)
        axes.append(Axis(back.get(axis.name, axis.name), Dim(axis.size, sym)))
    return type.with_axes(axes)


def inline(ref: ComponentRef, bound: Bound, self_label: str, span: Span, scope: Scope) -> Any:
    """The component's body written into the caller's frame."""
    inner = Scope(scope.frame, ref.file, {}, ref.tree, self_label, model=scope.model)
    late: list[Any] = []
    back: dict[str, str] = {}
    for p in ref.tree.parameters:
        if p.name not in bound.values:
            continue
        value = bound.values[p.name]
        if isinstance(p.type, tree.TensorDecl) and isinstance(value, Value):
            names = fit(p.type, value.type, ref.tree.name, span)
            for theirs, ours in names.items():
                back.setdefault(ours, theirs)
            if any(a != b for a, b in names.items()):
                value = _relabel(value, names, inner)
            bind_sizes(p.type, value, ref.tree.name, bound.spans[p.name], inner, late)
        inner.env[p.name] = value
    bind_defaults(ref, bound, inner)
    check_sizes(ref.tree.name, inner, late)
    results = run_body(ref, inner)
    if results is None:
        return POISON
    outside = tuple(_relabel_result(r, back, inner) for r in results)
    return outside[0] if len(outside) == 1 else Many(outside, True)


def _relabel(value: Value, names: dict[str, str], scope: Scope) -> Value:
    frame = scope.frame
    value = frame.use(value)
    renamed = frame.value(value.type.renamed(names), value.span, value.name)
    frame.add(Relabel(value, renamed))
    return renamed


def _relabel_result(result: Any, back: dict[str, str], scope: Scope) -> Any:
    if isinstance(result, Many):
        return Many(tuple(_relabel_result(r, back, scope) for r in result.items), result.is_tuple)
    if isinstance(result, Value) and any(back.get(n, n) != n for n in result.type.names):
        names = {n: back.get(n, n) for n in result.type.names}
        if len(set(names.values())) != len(names):
            names = {n: n for n in names}
        return _relabel(result, names, scope)
    return result


def bind_defaults(ref: ComponentRef, bound: Bound, scope: Scope) -> None:
    """Defaults are computed where the component stands, over what was given."""
    from archc.elaborate.expressions import evaluate

    for p in bound.defaulted:
        assert p.default is not None
        value = evaluate(p.default, scope)
        if not isinstance(value, Poison):
            check_kind(ref.tree.name, p, value, p.span)
        scope.env[p.name] = value


def run_body(ref: ComponentRef, scope: Scope) -> tuple[Any, ...] | None:
    """The results of a component's body, or None where errors were reported."""
    from archc.elaborate.statements import run_statements

    before = len(scope.session.diagnostics)
    run_statements(ref.tree.body, scope)
    if scope.returned is None:
        if len(scope.session.diagnostics) == before:
            raise fail("E0214", f"`{ref.tree.name}` returns nothing", ref.tree.span, helps=("end its body with `return ...`",))
        return None
    if any(isinstance(r, Poison) for r in scope.returned):
        return None
    if ref.tree.results and len(ref.tree.results) != len(scope.returned):
        raise fail("E0214", f"`{ref.tree.name}` promises {len(ref.tree.results)} results and returns {len(scope.returned)}", ref.tree.span)
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
    if (whole and found != names) or (not whole and any(n not in found for n in names)) or promised.dtype != result.type.dtype:
        raise fail("E0308", f"`{owner}` promises {promised.span.text} and returns {result.type}", promised.span)


# ---- templates


def key_of(value: Any) -> Any:
    """A hashable key of a value: what it is, not where it came from."""
    match value:
        case Scalar(value=raw):
            return tuple(key_of(i) for i in raw) if isinstance(raw, tuple) else (type(raw).__name__, raw)
        case Value(type=shape):
            return (shape.dtype, tuple((a.name, a.size) for a in shape.axes))
        case Many(items=items):
            return tuple(key_of(i) for i in items)
        case tuple():
            return tuple(key_of(i) for i in value)
        case Recipe(target=target, arguments=arguments):
            return ("recipe", key_of(target), tuple((k, key_of(_unnamed(v))) for k, v, _ in arguments))
        case OpRef(op=op):
            return op.name
        case dict():
            return tuple(sorted((k, key_of(v)) for k, v in value.items()))
        case _ if is_dataclass(value) and not isinstance(value, type):
            return (type(value).__name__, *(key_of(getattr(value, f.name)) for f in fields(value))) if not isinstance(
                value, (ComponentRef, FnRef)
            ) else id(value)
        case _:
            return value


def _unnamed(value: Any) -> Any:
    from archc.elaborate.calls import unwrap

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
    taken: dict[str, Any] = {p.name: None for p in ref.tree.parameters}
    env: dict[str, Any] = {}
    inputs: list[tuple[tree.Parameter, Value, TensorType, dict[str, str]]] = []
    for p in ref.tree.parameters:
        value = bound.values.get(p.name)
        if isinstance(p.type, tree.TensorDecl) and isinstance(value, Value):
            names = fit(p.type, value.type, ref.tree.name, span)
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
                    passed.append((variable, Scalar(dim.constant, dim.sym if dim.sym is not None else Const(dim.constant))))
                dim = Dim(dim.size, Var(variable))
            axes.append(Axis(axis.name, dim))
        retyped[p.name] = type.with_axes(axes)
    for p in ref.tree.parameters:
        if p.name in bound.values:
            if p.name not in retyped:
                env[p.name] = lift(bound.values[p.name], p.name, passed, taken)
        elif isinstance(p.default, (tree.Number, tree.Constant, tree.String)) and p.default.value is not None:
            value = Scalar(p.default.value, Const(p.default.value))
            check_kind(ref.tree.name, p, value, p.span)
            passed.append((p.name, value))
            env[p.name] = Scalar(value.value, Var(p.name))
    key = (
        id(ref), tuple((n, key_of(v)) for n, v in bound.values.items() if not isinstance(v, Value)),
        tuple((p.name, t.dtype, tuple((a.name, a.size, a.dim.sym is None) for a in t.axes)) for p, _, t, _ in inputs),
        tuple(p.name for p in bound.defaulted), session.guards, bool(session.ghosts),
        tuple(p.name for p in ref.tree.parameters if isinstance(bound.values.get(p.name), Many)),
    )  # fmt: skip
    # Lists of tensors are part of the inputs too.
    lists = {n: v for n, v in bound.values.items() if isinstance(v, Many) and tensors_in(v)}
    if key not in session.templates:
        session.templates[key] = _build(ref, bound, span, scope, env, inputs, retyped, lists, tuple(passed))
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
        case _ if is_dataclass(value) and not isinstance(value, (ComponentRef, FnRef, OpRef, Module)):
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
    from archc.elaborate.calls import Named

    if isinstance(value, Named):
        return Named(value.name, _lift_field(value.value, name, passed, taken))
    return _lift_field(value, name, passed, taken)


def _lift_field(inner: Any, name: str, passed: list[tuple[str, Scalar]], taken: dict[str, Any]) -> Any:
    if isinstance(inner, Scalar):
        if isinstance(inner.sym, Const):
            return inner
        if isinstance(inner.sym, SymApply) and inner.sym.op == "list" and all(isinstance(a, Const) for a in inner.sym.args):
            return inner
        variable = fresh(name, taken)
        taken[variable] = None
        return lift(inner, variable, passed, taken)
    if isinstance(inner, tuple):
        made = tuple(_lift_field(i, f"{name}_{n}", passed, taken) for n, i in enumerate(inner))
        return inner if all(a is b for a, b in zip(made, inner, strict=True)) else made
    if is_dataclass(inner) and not isinstance(inner, (type, Value, Span, AxisLike)):
        return lift(inner, name, passed, taken)
    return inner


class AxisLike:
    """Nothing: keeps the isinstance check above short."""


def _build(
    ref: ComponentRef, bound: Bound, span: Span, scope: Scope, env: dict[str, Any], inputs: list[Any],
    retyped: dict[str, TensorType], lists: dict[str, Any], passed: tuple[tuple[str, Scalar], ...],
) -> Template | None:  # fmt: skip
    """Elaborate a component into a template of its own; None where it has errors, which are reported."""
    for adopt in (True, False):
        frame = Frame(scope.session, ref.tree.name, level=Level(adopt=adopt), parameters=dict(passed))
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
        try:
            bind_defaults(ref, _without(bound, inner.env), inner)
            check_sizes(ref.tree.name, inner, late)
            results = run_body(ref, inner)
        except Conflict:
            continue
        if results is None:
            return None
        return finish(frame, ref.tree.name, ref.tree.role, ordered, results, passed, ref.tree.span, doc_of(ref.tree.body))
    raise AssertionError("a level in which `_:` is written out has no conflicts")


def _without(bound: Bound, env: dict[str, Any]) -> Bound:
    return Bound(bound.values, bound.spans, [p for p in bound.defaulted if p.name not in env])


def _copy_list(value: Any, p: tree.Parameter, frame: Frame, ordered: list[Value]) -> Any:
    if isinstance(value, Value):
        made = frame.value(value.type, p.span, p.name)
        ordered.append(made)
        return made
    if isinstance(value, Many):
        return Many(tuple(_copy_list(v, p, frame, ordered) for v in value.items), value.is_tuple)
    return value


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
        tensors = tensors_in(result)
        if not isinstance(result, (Value, Many)) or (isinstance(result, Many) and len(tensors) != len(result.items)):
            raise fail("E0214", f"`{name}` returns {kind_of(result)}, and a result must be a tensor", span)
        start = len(outputs)
        outputs += [frame.use(t) for t in tensors]
        indices = tuple(range(start, len(outputs)))
        shape.append(indices if isinstance(result, Value) else (-1, *indices))
    nested = any(s and s[0] == -1 for s in shape)
    from archc.elaborate.statements import settle_body

    settle_body(frame)
    if not frame.session.ghosts and role != "entry":
        for diagnostic in unused(tuple(frame.body), outputs, name):
            frame.session.report(ArchError([diagnostic]))
    return Template(
        name, role, doc, passed, tuple(inputs), tuple(outputs), tuple(frame.body), tuple(frame.level.entries), span,
        tuple(frame.inits), tuple(s[1:] if s[0] == -1 else (s[0], -2) for s in shape) if nested else (),
    )  # fmt: skip


# ---- functions, modules, entries


def call_fn(ref: FnRef, args: list[Any], piped: Any, span: Span, scope: Scope) -> Any:
    """A compile-time function; with tensors its expression is written in place."""
    from archc.elaborate.calls import unwrap
    from archc.elaborate.expressions import evaluate
    from archc.ir.sym import Apply

    declared = ref.tree.parameters
    given: dict[str, Any] = {}
    queue = [p for p in declared if p.name not in {a.keyword for a in args}]
    if piped is not None and queue:
        given[queue.pop(0).name] = piped
    for a in args:
        if a.keyword is None and not queue:
            raise fail("E0205", f"`{ref.tree.name}` takes {len(declared)} arguments", a.span, "one too many")
        if a.keyword is not None and a.keyword not in {p.name for p in declared}:
            raise fail("E0203", f"`{ref.tree.name}` has no parameter `{a.keyword}`", a.span,
                       helps=did_you_mean(a.keyword, [p.name for p in declared]))  # fmt: skip
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
            raise fail("E0204", f"`{ref.tree.name}` needs `{p.name}`", span)
    values = [inner.env[p.name] for p in declared]
    session = scope.session
    session.depth += 1
    try:
        if session.depth > DEEPEST_CALLS:
            raise fail("E0403", f"functions call each other more than {DEEPEST_CALLS} deep", span)
        result = evaluate(ref.tree.body, inner)
    finally:
        session.depth -= 1
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
    saved = level.reuse
    level.reuse = True
    try:
        if home is not scope.frame:
            raise fail("E0407", f"the shared module `{module.name}` is used inside a loop that makes weights", span,
                       helps=("use `loop`, or write the uses one by one",))  # fmt: skip
        return calls.invoke(module.recipe, args, piped, module.name, span, scope)
    finally:
        level.reuse = saved


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
    as_component = tree.Component("entry", ref.tree.name, ref.tree.parameters, ref.tree.results, ref.tree.body, span=ref.tree.span)
    component = ComponentRef(as_component, ref.scope.file)
    bound = bind(component, args, piped, span)
    for p in ref.tree.parameters:
        if p.name in bound.values:
            check_kind(ref.tree.name, p, bound.values[p.name], bound.spans[p.name])
    made = entry_template(ref, [bound.values[p.name] for p in ref.tree.parameters if p.name in bound.values], bound, level, span)
    if made is None:
        return POISON
    return _call(made, (), component, bound, span, scope, None)


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
            type = value.type.renamed(fit(p.type, value.type, ref.tree.name, span))
            made = frame.value(type, p.span, p.name)
            ordered.append(made)
            inner.env[p.name] = made
            bind_sizes(p.type, made, ref.tree.name, span, inner, late)
        else:
            inner.env[p.name] = value
    component = ComponentRef(
        tree.Component("entry", ref.tree.name, ref.tree.parameters, ref.tree.results, ref.tree.body, span=ref.tree.span), outer.file
    )
    bind_defaults(component, _without(bound, inner.env), inner)
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


__all__ = ["ArchError", "EntryRef", "apply_component", "bind", "call_entry", "call_fn", "place_op", "use_module"]
