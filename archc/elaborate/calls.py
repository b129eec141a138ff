"""Applying operations and components: arguments to fields, tensors to operands, weights to labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archc.contract import Obligation, settle
from archc.diagnostics import ArchError, Diagnostic, did_you_mean, fail
from archc.elaborate import components
from archc.elaborate.frame import Scope, tensors_in
from archc.elaborate.scalars import FUNCTIONS, call_function
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
from archc.ir.graph import Apply, OpEntry, Value
from archc.ir.sym import Scalar
from archc.ir.sym import Apply as SymApply
from archc.ops.base import Op, OpError, Parameter, parameters
from archc.ops.table import OPERATIONS, OPERATORS
from archc.sizes import Size, SizeError
from archc.source import Span
from archc.syntax import tree
from archc.where.paths import PATHS, Path
from archc.where.regions import REGIONS, Region


@dataclass(frozen=True)
class Arg:
    """One argument of a call. `axis` is its text where it is a bare name, which may be an axis; `value` is None where
    the name stands for nothing else."""

    keyword: str | None
    value: Any
    axis: str | None
    span: Span


def arguments(call: tree.Call, scope: Scope) -> list[Arg]:
    """The arguments of a call, evaluated; a bare name that is unknown may still be an axis."""
    from archc.elaborate.expressions import evaluate, find

    result = []
    for argument in call.arguments:
        inner = argument.value
        while isinstance(inner, tree.Paren):
            inner = inner.expr
        if isinstance(inner, tree.Name):
            value = find(inner.name, scope)
            result.append(Arg(argument.keyword, value, inner.name, argument.span))
        elif isinstance(inner, tree.Unary) and isinstance(inner.operand, tree.Name) and find(inner.operand.name, scope) is None:
            result.append(Arg(argument.keyword, None, None, argument.span))
            evaluate(inner, scope)
        else:
            result.append(Arg(argument.keyword, evaluate(inner, scope), None, argument.span))
    return result


def pipe(left: Any, right: tree.Expr, expr: tree.Expr, scope: Scope) -> Any:
    """`left |> right`: `right` is applied to `left` as its first tensor."""
    if isinstance(left, Poison):
        return POISON
    if isinstance(left, Many) and left.is_tuple:
        raise fail("E0219", "several results cannot be piped", expr.span, helps=("name them first: `a, b = ...`",))
    if not isinstance(left, (Value, Many)):
        raise fail("E0219", f"`|>` needs a tensor on its left, and this is {kind_of(left)}", expr.span)
    label = None
    if isinstance(right, tree.Labelled):
        label, right = right.label, right.call
    while isinstance(right, tree.Paren):
        right = right.expr
    if isinstance(right, tree.Call):
        return call(right, scope, left, label)
    from archc.elaborate.expressions import evaluate, find_callable

    target = find_callable(right.name, scope) if isinstance(right, tree.Name) else evaluate(right, scope)
    if target is None:
        assert isinstance(right, tree.Name)
        target = unknown_callable(right.name, right.span, scope)
    return invoke(target, [], left, label, right.span, scope)


def unknown_callable(name: str, span: Span, scope: Scope) -> Any:
    """Raises ArchError E0201 for a call of something unknown."""
    known = [*scope.env, *scope.file.names, *OPERATIONS, *REGIONS, *PATHS, *FUNCTIONS]
    raise fail("E0201", f"no operation or component is called `{name}`", span, "unknown name", helps=did_you_mean(name, known))


def call(expr: tree.Call, scope: Scope, piped: Any, label: str | None) -> Any:
    """A call, with `piped` as its first tensor if there is one."""
    from archc.elaborate.expressions import evaluate, find_callable

    function = expr.function
    while isinstance(function, tree.Paren):
        function = function.expr
    args = arguments(expr, scope)
    if any(isinstance(a.value, Poison) for a in args):
        return POISON
    if isinstance(function, tree.Name):
        name = function.name
        target = find_callable(name, scope)
        compile_time = piped is None and all(isinstance(a.value, Scalar) and a.keyword is None for a in args)
        if name in FUNCTIONS and compile_time and args and not isinstance(target, (FnRef, ComponentRef)):
            return call_function(name, [a.value for a in args], expr.span)
        if name in FUNCTIONS and name in ("zip", "enumerate", "len", "reversed") and isinstance(target, (OpRef, type(None))):
            return _list_function(name, args, expr.span)
        if target is None and name in REGIONS:
            return _make_value(REGIONS[name], args, expr.span)
        if target is None and name in PATHS:
            return _make_value(PATHS[name], args, expr.span)
        if target is None:
            if name in FUNCTIONS:
                return call_function(name, [a.value for a in args], expr.span)
            target = unknown_callable(name, function.span, scope)
    else:
        target = evaluate(function, scope)
    return invoke(target, args, piped, label, expr.span, scope)


def _list_function(name: str, args: list[Arg], span: Span) -> Any:
    """`zip`, `enumerate`, `len` and `reversed` of lists that hold tensors or recipes."""
    from archc.elaborate.expressions import items_of
    from archc.ir.sym import const

    lists = [items_of(a.value, tree.Name("", span=a.span)) for a in args]
    match name:
        case "len":
            return const(len(lists[0]))
        case "reversed":
            return Many(tuple(reversed(lists[0])))
        case "enumerate":
            return Many(tuple(Many((const(i), item)) for i, item in enumerate(lists[0])))
    if len({len(items) for items in lists}) != 1:
        shown = " and ".join(str(len(items)) for items in lists)
        raise fail("E0343", f"`zip` needs lists of equal length, and these have {shown}", span)
    return Many(tuple(Many(parts) for parts in zip(*lists, strict=True)))


def invoke(target: Any, args: list[Arg], piped: Any, label: str | None, span: Span, scope: Scope) -> Any:
    """Apply `target`: with tensors it is an application, without a recipe."""
    match target:
        case Poison():
            return POISON
        case Recipe():
            bound = [Arg(keyword, value, axis_text(value), s) for keyword, value, s in target.arguments]
            bound = [Arg(a.keyword, None if isinstance(a.value, AxisName) else a.value, a.axis, a.span) for a in bound]
            return invoke(target.target, _join(bound, args), piped, label, span, scope)
        case FnRef():
            return components.call_fn(target, args, piped, span, scope)
        case Module():
            tensors = ([piped] if piped is not None else []) + [a.value for a in args]
            return components.use_module(target, tensors, args, piped, span, scope)
        case OpRef(op=op):
            return _invoke_op(op, args, piped, label, span, scope)
        case ComponentRef():
            if piped is None and not any(_is_tensor(a.value) for a in args) and _takes_tensors(target):
                return _recipe(target, args, span)
            return components.apply_component(target, args, piped, label, span, scope)
        case components.EntryRef():
            return components.call_entry(target, args, piped, span, scope)
    raise fail("E0202", f"{kind_of(target)} cannot be called", span)


def _join(bound: list[Arg], args: list[Arg]) -> list[Arg]:
    """The arguments of a recipe and of its use: tensors first, as in a direct call."""
    tensors = [a for a in args if a.keyword is None and _is_tensor(a.value)]
    return tensors + bound + [a for a in args if a not in tensors]


@dataclass(frozen=True)
class AxisName:
    """A bare name in the arguments of a recipe that stands for nothing but, perhaps, an axis."""

    name: str


def axis_text(value: Any) -> str | None:
    if isinstance(value, (AxisName, Named)):
        return value.name
    return None


@dataclass(frozen=True)
class Named:
    """A value in the arguments of a recipe that was written as a bare name."""

    name: str
    value: Any


def _recipe(target: Any, args: list[Arg], span: Span) -> Recipe:
    kept = []
    for a in args:
        value = a.value
        if a.axis is not None:
            value = AxisName(a.axis) if value is None else Named(a.axis, value)
        kept.append((a.keyword, value, a.span))
    return Recipe(target, tuple(kept), span)


def unwrap(value: Any) -> Any:
    """A recipe's argument as it was evaluated."""
    return value.value if isinstance(value, Named) else value


def _takes_tensors(ref: ComponentRef) -> bool:
    return any(
        isinstance(p.type, tree.TensorDecl)
        or (isinstance(p.type, tree.Kind) and p.type.name == "tensor")
        or (isinstance(p.type, tree.ListDecl) and components.is_tensor_decl(p.type.item))
        for p in ref.tree.parameters
    )


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (Value, Deferred)) or bool(tensors_in(value))


# ---- operations


def _operand_names(op: type[Op]) -> list[tuple[str, str]]:
    """(name, suffix) of the operands: suffix is "" (required), "?" (may be missing) or "*" (a list of tensors)."""
    return [(word.rstrip("?*"), word[-1] if word[-1] in "?*" else "") for word in op.operands.split()]


def _invoke_op(op: type[Op], args: list[Arg], piped: Any, label: str | None, span: Span, scope: Scope) -> Any:
    args = [Arg(a.keyword, unwrap(a.value), a.axis, a.span) for a in args]
    twin = getattr(op, "alternative", None)
    positional = [a for a in args if a.keyword is None]
    if twin is not None:
        rest = positional if piped is not None else positional[1:]
        if rest and isinstance(rest[0].value, (Value, Scalar)) and not _names_an_axis(rest[0], piped if piped is not None else positional[0].value):
            op = OPERATORS[twin]
    names = _operand_names(op)
    operands: dict[str, Any] = {}
    rest = list(positional)
    if piped is not None and names:
        operands[names[0][0]] = piped
    for name, suffix in names:
        if name in operands:
            continue
        keyword = next((a for a in args if a.keyword == name), None)
        if keyword is not None:
            operands[name] = keyword.value
            continue
        if not rest:
            break
        candidate = rest[0].value
        wants_list = suffix == "*"
        if (isinstance(candidate, Many) and wants_list) or isinstance(candidate, (Value, Deferred)):
            operands[name] = candidate
            rest.pop(0)
        elif isinstance(candidate, Scalar) and any(p.name == name for p in parameters(op)):
            break
        else:
            break
    keywords = [a for a in args if a.keyword is not None and a.keyword not in {n for n, _ in names}]
    fields_given: dict[str, Any] = {}
    if not operands and any(s != "?" for _, s in names):
        return _recipe(OpRef(op), args, span)
    for (name, suffix), position in zip(names, range(len(names)), strict=True):
        if name not in operands and suffix == "" and not any(p.name == name for p in parameters(op)):
            missing = f"`{op.name}` takes {len(names)} tensors, and its {_ordinal(position)} (`{name}`) is missing"
            raise fail("E0204", missing, span, helps=(f"signature: {signature(op)}",))
    ordered: list[Any] = []
    like = next((t for v in operands.values() for t in tensors_in(v)), None)
    for name, suffix in names:
        value = operands.get(name)
        if isinstance(value, Scalar) and value.value is None:
            value = None
        if isinstance(value, Deferred):
            if like is None:
                raise fail("E0220", f"`{value.op.name}` needs a tensor beside it", span)
            value = settle_deferred(value, like, scope)
        if isinstance(value, Many):
            value = tuple(value.items)
        if value is None and suffix == "" and not getattr(op, "deferred", False):
            continue  # a number stands in its place
        ordered.append(value)
    _bind_fields(op, rest, keywords, operands, names, fields_given, span)
    if getattr(op, "deferred", False) and operands.get("like") is None:
        return Deferred(_construct(op, fields_given, span, scope), tuple(v for v in ordered if v is not None), span)
    return apply_op(op, ordered, fields_given, label, span, scope, args)


def _names_an_axis(arg: Arg, first: Any) -> bool:
    return arg.axis is not None and isinstance(first, Value) and (arg.axis in first.type or arg.axis == "positions")


def _ordinal(n: int) -> str:
    return ("first", "second", "third", "fourth", "fifth")[n] if n < 5 else f"{n + 1}th"


def signature(op: type[Op]) -> str:
    """`conv(x, out, kernel, stride=1, ...)`, for messages."""
    shown = [name + ("=none" if suffix == "?" else "") for name, suffix in _operand_names(op)]
    for p in parameters(op):
        if p.kind == "sizes":
            shown.append("AXIS=size, ...")
        elif p.required:
            shown.append(p.name)
        else:
            default = p.default.value if isinstance(p.default, Scalar) else p.default
            words = {None: "none", True: "true", False: "false"}
            text = words.get(default) if default is None or isinstance(default, bool) else str(default)
            if isinstance(p.default, tuple):
                text = p.default[0] if p.default else "()"
            shown.append(f"{p.name}={text}")
    return f"{op.name}({', '.join(shown)})"


def _bind_fields(
    op: type[Op], positional: list[Arg], keywords: list[Arg], operands: dict[str, Any],
    names: list[tuple[str, str]], given: dict[str, Any], span: Span,
) -> None:  # fmt: skip
    first = next((t for v in operands.values() for t in tensors_in(v)), None)
    fields = parameters(op)
    queue = [p for p in fields if p.kind != "sizes" and p.name not in {k.keyword for k in keywords} and p.name not in operands]
    for a in positional:
        if not queue:
            raise fail("E0205", f"`{op.name}` takes fewer arguments", a.span, "one too many", helps=(f"signature: {signature(op)}",))
        target = queue[0]
        if target.kind == "axes":
            given[target.name] = (*given.get(target.name, ()), *_axes(a, first, op))
            continue
        queue.pop(0)
        given[target.name] = _field(op, target, a, first)
    sizes = next((p for p in fields if p.kind == "sizes"), None)
    for a in keywords:
        target = next((p for p in fields if p.name == a.keyword and p.kind != "sizes"), None)
        if target is not None:
            given[target.name] = _axes(a, first, op) if target.kind == "axes" else _field(op, target, a, first)
        elif sizes is not None and a.keyword is not None:
            given.setdefault(sizes.name, {})[a.keyword] = _field(op, Parameter(a.keyword, "any"), a, first)
        else:
            legal = [p.name for p in fields if p.kind != "sizes"]
            raise fail("E0203", f"`{op.name}` has no argument `{a.keyword}`", a.span, "unknown argument",
                       helps=did_you_mean(a.keyword or "", legal) or (f"signature: {signature(op)}",))  # fmt: skip
    for p in fields:
        if p.required and p.name not in given and p.kind not in ("sizes", "axes"):
            raise fail("E0204", f"`{op.name}` needs `{p.name}`", span, helps=(f"signature: {signature(op)}",))


def _axes(a: Arg, first: Value | None, op: type[Op]) -> tuple[str, ...]:
    if isinstance(a.value, Many) and a.axis is None:
        raise fail("E0206", "axes are named one by one", a.span)
    if a.axis == "positions" and first is not None and "positions" not in first.type:
        return tuple(axis.name for axis in first.type.positions)
    return (_axis(a, first, op),)


def _axis(a: Arg, first: Value | None, op: type[Op]) -> str:
    if a.axis is not None and (first is None or a.axis in first.type):
        return a.axis
    if isinstance(a.value, Scalar) and isinstance(a.value.value, str):
        return a.value.value
    if a.axis is not None:
        new_axis_ok = getattr(op, "makes_axis", False)
        if new_axis_ok or first is None:
            return a.axis
        raise fail("E0302", f"the operand of `{op.name}` has no axis `{a.axis}`: it is {first.type}", a.span, "no such axis",
                   helps=did_you_mean(a.axis, first.type.names))  # fmt: skip
    raise fail("E0206", f"the name of an axis is needed here, and this is {kind_of(a.value)}", a.span)


KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


def _field(op: type[Op], p: Parameter, a: Arg, first: Value | None) -> Any:
    value = unwrap(a.value)
    if p.kind == "axis":
        return _axis(a, first, op)
    if value is None and a.axis is not None:
        if p.kind == "any" and first is not None and a.axis in first.type:
            return a.axis
        known = [*OPERATIONS, *(first.type.names if first is not None else ())]
        raise fail("E0201", f"nothing is called `{a.axis}` here", a.span, "unknown name", helps=did_you_mean(a.axis, known))
    if p.kind == "region" and not isinstance(value, Region):
        raise fail("E0206", f"`{op.name}` needs a region for `{p.name}`, and this is {kind_of(value)}", a.span,
                   helps=("regions are " + ", ".join(sorted(REGIONS)),))  # fmt: skip
    if p.kind == "path" and not isinstance(value, (Path, Many)):
        raise fail("E0206", f"`{op.name}` needs a path for `{p.name}`, and this is {kind_of(value)}", a.span,
                   helps=("paths are " + ", ".join(sorted(PATHS)),))  # fmt: skip
    if p.kind in ("region", "path", "any", "recipe"):
        return value.items if isinstance(value, Many) else value
    if isinstance(value, Value):
        raise fail("E0111", f"a tensor's value is used for `{p.name}`, which must be known at compile time", a.span,
                   helps=("a count or size comes from sizes (`x.C`) and parameters",))  # fmt: skip
    if not isinstance(value, Scalar):
        raise fail("E0206", f"`{p.name}` needs a number, and this is {kind_of(value)}", a.span)
    _check_kind(op.name, p, value, a.span)
    return value


def _check_kind(owner: str, p: Parameter, value: Scalar, span: Span) -> None:
    """Raises ArchError E0206 where a compile-time argument has the wrong kind, E0304 for a size that depends on the inputs."""
    raw = value.value
    if raw is None and not p.required and (p.default is None or (isinstance(p.default, Scalar) and p.default.value is None)):
        return
    if p.kind in ("int", "size") and isinstance(raw, Size):
        raise fail("E0304", f"`{p.name}` of `{owner}` must be a number, and {raw} depends on the sizes of the inputs", span)
    if p.kind == "size":
        ok = (isinstance(raw, int) and not isinstance(raw, bool)) or (
            isinstance(raw, tuple) and all(isinstance(i.value, int) and not isinstance(i.value, bool) for i in raw)
        )
        wanted = "a whole number, or one per axis"
    elif p.kind == "list":
        ok, wanted = isinstance(raw, tuple), "a list"
    elif p.kind in KINDS:
        ok = isinstance(raw, KINDS[p.kind]) and (p.kind == "bool" or not isinstance(raw, bool))
        wanted = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a string"}[p.kind]
    else:
        return
    if not ok:
        raise fail("E0206", f"`{p.name}` of `{owner}` needs {wanted}, and this is {kind_of(value)}", span)


def _make_value(cls: Any, args: list[Arg], span: Span) -> Any:
    """A region or path from its call."""
    given: dict[str, Any] = {}
    fields = parameters(cls)
    positional = [a for a in args if a.keyword is None]
    queue = [p for p in fields if p.name not in {a.keyword for a in args}]
    for a in positional:
        if not queue:
            raise fail("E0205", f"`{cls.name}` takes fewer arguments", a.span, helps=(f"signature: {signature_of(cls)}",))
        p = queue[0]
        if p.kind == "axes":
            if a.axis is None:
                raise fail("E0206", "the name of an axis is needed here", a.span)
            given[p.name] = (*given.get(p.name, ()), a.axis)
            continue
        queue.pop(0)
        given[p.name] = _value_field(cls, p, a)
    for a in args:
        if a.keyword is None:
            continue
        p = next((p for p in fields if p.name == a.keyword), None)  # type: ignore[assignment]
        if p is None:
            raise fail("E0203", f"`{cls.name}` has no argument `{a.keyword}`", a.span,
                       helps=did_you_mean(a.keyword, [p.name for p in fields]))  # fmt: skip
        given[p.name] = _value_field(cls, p, a)
    missing = [p.name for p in fields if p.required and p.name not in given]
    if missing:
        raise fail("E0204", f"`{cls.name}` needs `{missing[0]}`", span, helps=(f"signature: {signature_of(cls)}",))
    try:
        return cls(**given)
    except OpError as error:
        raise op_error(error, span) from None


def signature_of(cls: Any) -> str:
    return f"{cls.name}({', '.join(p.name for p in parameters(cls))})"


def _value_field(cls: Any, p: Parameter, a: Arg) -> Any:
    value = unwrap(a.value)
    if p.kind in ("region", "path"):
        wanted = Region if p.kind == "region" else Path
        if not isinstance(value, wanted):
            raise fail("E0206", f"`{cls.name}` needs a {p.kind} for `{p.name}`, and this is {kind_of(value)}", a.span)
        return value
    if p.kind in ("axis", "axes"):
        if a.axis is None:
            raise fail("E0206", "the name of an axis is needed here", a.span)
        return a.axis
    if p.kind == "any":
        return value
    if value is None:
        raise fail("E0201", f"nothing is called `{a.axis}` here", a.span, "unknown name")
    if not isinstance(value, Scalar):
        raise fail("E0206", f"`{p.name}` of `{cls.name}` needs a number, and this is {kind_of(value)}", a.span)
    _check_kind(cls.name, p, value, a.span)
    return value


def _construct(op: type[Op], given: dict[str, Any], span: Span, scope: Scope) -> Op:
    fields = {p.name: p for p in parameters(op)}
    for name, p in fields.items():
        if name not in given and p.kind == "sizes":
            given[name] = {}
    try:
        return scope.frame.localise(op(**given))
    except OpError as error:
        raise op_error(error, span) from None


def op_error(error: OpError, span: Span, args: list[Arg] | None = None) -> ArchError:
    """An operation's refusal, with the place it is about."""
    place = span
    if args and error.argument:
        place = next((a.span for a in args if a.keyword == error.argument), span)
    return ArchError([Diagnostic(error.code, error.message, place, error.label, helps=(error.help,) if error.help else ())])


class Checker:
    """Collects what a shape rule demands: proved in silence, refused as an error, else part of the contract."""

    def __init__(self, scope: Scope, span: Span) -> None:
        self.scope, self.span = scope, span

    def equal(self, left: Size, right: Size, why: str, code: str = "E0331") -> None:
        self._state(Obligation("equal", left, right, self.span, why, code, self.scope.session.guards))

    def divides(self, divisor: Size, size: Size, why: str, code: str = "E0312") -> None:
        self._state(Obligation("divides", size, divisor, self.span, why, code, self.scope.session.guards))

    def at_least(self, size: Size, least: Size | int, why: str, code: str = "E0333") -> None:
        self._state(Obligation("at_least", size, Size.of(least), self.span, why, code, self.scope.session.guards))

    def _state(self, obligation: Obligation) -> None:
        verdict = settle(obligation)
        if verdict == "refused":
            raise OpError(obligation.why, obligation.code, label=_refusal(obligation))
        if verdict == "depends":
            symbols = obligation.left.symbols | obligation.right.symbols
            if "B" in symbols:
                raise OpError(f"{obligation.why}: this would restrict the batch", obligation.code, label=_refusal(obligation))
            self.scope.session.oblige(obligation)


def _refusal(o: Obligation) -> str:
    match o.kind:
        case "equal":
            return f"{o.left} here, {o.right} there"
        case "divides":
            return f"{o.left} is not a multiple of {o.right}"
        case _:
            return f"{o.left} is less than {o.right}"


def apply_op(
    op: type[Op], operands: list[Any], given: dict[str, Any], label: str | None, span: Span, scope: Scope,
    args: list[Arg] | None = None,
) -> Any:  # fmt: skip
    """An operation on tensors: checks it, makes its weights under `label`, adds it to the frame.

    Raises ArchError with the operation's own codes.
    """
    frame = scope.frame
    given = dict(given)
    first = next((t for v in operands for t in (v if isinstance(v, tuple) else (v,)) if isinstance(t, Value)), None)
    for p in parameters(op):
        if p.kind == "axes" and p.name not in given and p.default == ("positions",) and first is not None:
            given[p.name] = tuple(axis.name for axis in first.type.positions)
    instance = _construct(op, given, span, scope)
    inputs = tuple(tuple(frame.use(t) for t in v) if isinstance(v, tuple) else v if v is None else frame.use(v) for v in operands)
    extra = tuple(frame.use(v) for v in getattr(instance, "tensors", ()))
    types = [tuple(t.type for t in v) if isinstance(v, tuple) else v if v is None else v.type for v in inputs + extra]
    scope.session.count(span)
    try:
        results = instance.infer(Checker(scope, span), *types)
        weights = instance.weights(*types)
    except OpError as error:
        raise op_error(error, span, args) from None
    except (SizeError, OverflowError) as error:
        raise fail("E0404", f"a size is too large: {error}", span) from None
    for type in results:
        if len(set(type.names)) != len(type.names):
            raise fail("E0301", f"the result would have two axes of one name: {type}", span)
    entry = None
    if weights:
        entry = components.place_op(label, instance, tuple(types), weights, span, scope)
    elif label is not None and label != "_":
        pass  # a label on something without weights is a remark
    outputs = tuple(frame.value(type, span) for type in results)
    frame.add(Apply(instance, inputs + extra, outputs, span, entry))
    return outputs[0] if len(outputs) == 1 else Many(outputs, True)


def settle_deferred(deferred: Deferred, like: Value, scope: Scope) -> Value:
    """The waiting operation, with the positions of `like`."""
    frame = scope.frame
    inputs = tuple(frame.use(t) for t in deferred.inputs) + (frame.use(like),)
    op = frame.localise(deferred.op)
    try:
        results = op.infer(Checker(scope, deferred.span), *(t.type for t in inputs))
    except OpError as error:
        raise op_error(error, deferred.span) from None
    outputs = tuple(frame.value(type, deferred.span) for type in results)
    frame.add(Apply(op, inputs, outputs, deferred.span, None))
    return outputs[0]


__all__ = ["Arg", "OpEntry", "SymApply", "apply_op", "call", "invoke", "pipe"]
