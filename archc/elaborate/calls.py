"""Calls: what is called, with which arguments, on which tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from archc.diagnostics import Label, fail
from archc.elaborate import components, modules
from archc.elaborate.arguments import (
    Arg,
    AxisName,
    Named,
    axis_text,
    axis_texts,
    bind_fields,
    is_tensor,
    make_value,
    operand_names,
    signature,
    unknown,
    unwrap,
)
from archc.elaborate.binding import is_tensor_decl
from archc.elaborate.frame import Scope, taken_apart, tensors_in
from archc.elaborate.habits import call_helps
from archc.elaborate.operations import apply_op, construct, settle_deferred
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
from archc.ir.graph import Value
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Scalar
from archc.ops.base import Op, parameters
from archc.ops.table import OPERATIONS, OPERATORS
from archc.source import Span
from archc.syntax import tree
from archc.where.paths import PATHS
from archc.where.regions import REGIONS


def arguments(call: tree.Call, scope: Scope) -> list[Arg]:
    """The arguments of a call, evaluated; a bare name that is unknown may still be an axis."""
    from archc.elaborate.expressions import evaluate, find

    result = []
    for argument in call.arguments:
        inner = argument.value
        while isinstance(inner, tree.Paren):
            inner = inner.expr
        if isinstance(inner, tree.Name):
            result.append(Arg(argument.keyword, find(inner.name, scope), inner.name, (), argument.span, scope))
            continue
        names: tuple[str, ...] = ()
        if isinstance(inner, (tree.TupleExpr, tree.ListExpr)) and all(isinstance(i, tree.Name) for i in inner.items):
            names = tuple(i.name for i in inner.items if isinstance(i, tree.Name))
        value = None if any(find(name, scope) is None for name in names) else evaluate(inner, scope)
        if isinstance(value, Many) and value.items and all(isinstance(i, Scalar) for i in value.items):
            value = Scalar(value.items, SymApply("list", tuple(i.sym for i in value.items)))
        result.append(Arg(argument.keyword, value, None, names, argument.span, scope))
    return result


def pipe(left: Any, right: tree.Expr, expr: tree.Expr, scope: Scope) -> Any:
    """`left |> right`: `right` is applied to `left` as its first tensor."""
    if isinstance(left, Poison):
        return POISON
    if isinstance(left, Many) and left.is_tuple:
        raise fail("E0219", "several results cannot be piped", expr.span, helps=("name them first: `a, b = ...`",))
    if not isinstance(left, (Value, Many)):
        first = expr.left if isinstance(expr, tree.Pipe) else expr
        raise fail("E0219", f"`|>` needs a tensor on its left, and this is {kind_of(left)}", first.span,
                   **_as_made(left, first.span, scope))  # fmt: skip
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


def _as_made(value: Any, read: Span, scope: Scope) -> dict[str, Any]:
    """Where a recipe was made that is read as a tensor, and how it would be applied."""
    if not isinstance(value, Recipe):
        return {}
    made = value.span
    text = made.text if "\n" not in made.text and len(made.text) <= 40 else f"{made.text.partition('(')[0]}(...)"
    apart = made.source is read.source and made != read
    tensor = next((n for n, v in reversed(scope.env.items()) if isinstance(v, Value) and n.isidentifier()), "x")
    related = (Label(made, "without its tensor this is a recipe"),) if apart else ()
    return {"related": related, "helps": (f"give it its tensor: `{tensor} |> {text}`",)}


def unknown_callable(name: str, span: Span, scope: Scope) -> Any:
    """Raises ArchError E0201 for a call of something unknown."""
    known = [*scope.env, *scope.file.names, *OPERATIONS, *REGIONS, *PATHS, *FUNCTIONS]
    raise fail("E0201", f"no operation or component is called `{name}`", span, "unknown name",
               helps=call_helps(name, known))  # fmt: skip


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
        if isinstance(target, Scalar) and (name in REGIONS or name in PATHS):
            target = None  # as with operations, a number of the same name does not hide what is called
        compile_time = piped is None and all(isinstance(a.value, Scalar) and a.keyword is None for a in args)
        if name in FUNCTIONS and compile_time and args and not isinstance(target, (FnRef, ComponentRef)):
            return call_function(name, [a.value for a in args], expr.span)
        if (
            name in FUNCTIONS
            and name in ("zip", "enumerate", "len", "reversed")
            and isinstance(target, (OpRef, type(None)))
        ):
            return _list_function(name, args, expr.span)
        if target is None and name in REGIONS:
            return make_value(REGIONS[name], args, expr.span)
        if target is None and name in PATHS:
            return make_value(PATHS[name], args, expr.span)
        if target is None:
            if name in FUNCTIONS:
                return call_function(name, [_known(a, name) for a in args], expr.span)
            target = unknown_callable(name, function.span, scope)
    else:
        target = evaluate(function, scope)
    return invoke(target, args, piped, label, expr.span, scope)


def _known(argument: Arg, function: str) -> Scalar:
    """An argument of a compile-time function. Raises ArchError E0201, E0206 where it is no number, string or list."""
    if argument.value is None:
        raise unknown(argument)
    if not isinstance(argument.value, Scalar):
        raise fail("E0206", f"`{function}` works on numbers, not on {kind_of(argument.value)}", argument.span)
    return argument.value


def _list_function(name: str, args: list[Arg], span: Span) -> Any:
    """`zip`, `enumerate`, `len` and `reversed` of lists that hold tensors or recipes."""
    from archc.elaborate.expressions import items_of
    from archc.ir.sym import const

    least, most = FUNCTIONS[name]
    if not least <= len(args) <= most:
        wanted = "a list" if most == 1 else "lists"
        raise fail("E0205", f"`{name}` takes {wanted}, and {len(args)} were given", span)
    if name == "len" and isinstance(args[0].value, Value):
        axes = ", ".join(f"`x.{axis}`" for axis in args[0].value.type.names)
        raise fail("E0208", f"`len` counts the items of a list, and this is {kind_of(args[0].value)}", args[0].span,
                   helps=(f"its sizes are {axes}",))  # fmt: skip
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
            bound = [
                Arg(keyword, None if isinstance(value, AxisName) else value, axis_text(value), axis_texts(value), s)
                for keyword, value, s in target.arguments
            ]
            return invoke(target.target, _join(bound, args), piped, label, span, scope)
        case FnRef():
            return modules.call_fn(target, args, piped, span, scope)
        case Module():
            if label is not None:
                raise fail("E0409", f"`{label}` would name weights, and those of the module `{target.name}` have a name",
                           span, helps=(f"leave the label out: `{target.name}`", "for weights of its own, label the "
                           "operation or component that the module is made of"))  # fmt: skip
            tensors = ([piped] if piped is not None else []) + [a.value for a in args]
            return modules.use_module(target, tensors, args, piped, span, scope)
        case OpRef(op=op):
            return _invoke_op(op, args, piped, label, span, scope)
        case ComponentRef():
            if piped is None and not any(is_tensor(a.value) for a in args) and _takes_tensors(target):
                return recipe(target, args, span)
            return components.apply_component(target, args, piped, label, span, scope)
        case modules.EntryRef():
            return modules.call_entry(target, args, piped, span, scope)
    related = (
        (Label(target.span, "made here"),) if isinstance(target, Value) and target.span.source is span.source else ()
    )
    raise fail("E0202", f"{kind_of(target)} cannot be called", span, related=related)


def _join(bound: list[Arg], args: list[Arg]) -> list[Arg]:
    """The arguments of a recipe and of its use: tensors first, as in a direct call."""
    tensors = [a for a in args if a.keyword is None and is_tensor(a.value)]
    return tensors + bound + [a for a in args if a not in tensors]


def recipe(target: Any, args: list[Arg], span: Span) -> Recipe:
    kept = []
    for a in args:
        value = a.value
        if a.axis is not None or a.names:
            value = AxisName(a.axis, a.names) if value is None else Named(a.axis, value, a.names)
        kept.append((a.keyword, value, a.span))
    return Recipe(target, tuple(kept), span)


def _takes_tensors(ref: ComponentRef) -> bool:
    return any(
        isinstance(p.type, tree.TensorDecl)
        or (isinstance(p.type, tree.Kind) and p.type.name == "tensor")
        or (isinstance(p.type, tree.ListDecl) and is_tensor_decl(p.type.item))
        for p in ref.tree.parameters
    )


def _invoke_op(op: type[Op], args: list[Arg], piped: Any, label: str | None, span: Span, scope: Scope) -> Any:
    args = [replace(a, value=unwrap(a.value)) for a in args]
    positional = [a for a in args if a.keyword is None]
    op = _elementwise_twin(op, positional, piped)
    names = operand_names(op)
    operands, given, rest = _match_operands(op, args, positional, piped)
    if not operands and any(suffix != "?" for _, suffix in names):
        return recipe(OpRef(op), args, span)
    ordered: list[Any] = []
    like = next((t for v in operands.values() for t in tensors_in(v)), None)
    for position, (name, suffix) in enumerate(names):
        value = operands.get(name)
        if isinstance(value, Scalar) and value.value is None:
            value = None
        if isinstance(value, Deferred):
            if like is None:
                raise fail("E0220", f"`{value.op.name}` needs a tensor beside it", span)
            value = settle_deferred(value, like, scope)
        if value is None and suffix == "":
            if name in given:
                continue  # a number stands in its place
            missing = f"`{op.name}` takes {len(names)} tensors, and its {_ordinal(position)} (`{name}`) is missing"
            raise fail("E0204", missing, span, helps=(f"signature: {signature(op)}",))
        if suffix == "*" and isinstance(value, Value):
            raise fail("E0206", f"`{op.name}` takes a list of tensors in brackets, as in `{op.name}([a, b])`", span,
                       helps=(f"signature: {signature(op)}",))  # fmt: skip
        if suffix != "*" and isinstance(value, Many):
            raise fail("E0206", f"`{op.name}` takes one tensor, and this is {kind_of(value)}", span,
                       helps=("one of them is `xs[0]`; for each of them: `[f(x) for x in xs]`",
                              f"signature: {signature(op)}"))  # fmt: skip
        for item in taken_apart(value) if isinstance(value, Many) else ():
            if not isinstance(item, Value):
                raise fail("E0206", f"`{op.name}` takes tensors, and its list holds {kind_of(item)}", span)
        ordered.append(tuple(value.items) if isinstance(value, Many) else value)
    keywords = [a for a in args if a.keyword is not None and a.keyword not in {n for n, _ in names}]
    tensors = [replace(a, keyword=name) for name, value in operands.items() for a in args if a.value is value]
    args = [*bind_fields(op, rest, keywords, operands, given, span), *tensors]
    if getattr(op, "deferred", False) and operands.get("like") is None:
        return Deferred(construct(op, given, span, scope), tuple(v for v in ordered if v is not None), span)
    return apply_op(op, ordered, given, label, span, scope, args)


def _elementwise_twin(op: type[Op], positional: list[Arg], piped: Any) -> type[Op]:
    """`max(x, C)` reduces an axis; `max(x, y)` and `max(x, 0.1)` compare element by element."""
    twin = getattr(op, "alternative", None)
    if twin is None:
        return op
    first, rest = (
        (piped, positional) if piped is not None else (positional[0].value if positional else None, positional[1:])
    )
    both = isinstance(first, (Value, Scalar)) and len(rest) == 1 and isinstance(rest[0].value, (Value, Scalar))
    return OPERATORS[twin] if both and not _names_an_axis(rest[0], first) else op


def _match_operands(
    op: type[Op], args: list[Arg], positional: list[Arg], piped: Any
) -> tuple[dict[str, Any], dict[str, Any], list[Arg]]:  # fmt: skip
    """Which tensors are which operands, the numbers that stand in place of tensors, and the arguments that are left."""
    fields = {p.name for p in parameters(op)}
    rest = list(positional)
    operands: dict[str, Any] = {}
    given: dict[str, Any] = {}
    for number, (name, suffix) in enumerate(operand_names(op)):
        if number == 0 and piped is not None:
            operands[name] = piped
            continue
        keyword = next((a for a in args if a.keyword == name), None)
        if keyword is not None:
            (given if isinstance(keyword.value, Scalar) and name in fields else operands)[name] = keyword.value
            continue
        candidate = rest[0].value if rest else None
        if isinstance(candidate, (Value, Deferred)) or (isinstance(candidate, Many) and suffix == "*"):
            operands[name] = candidate
        elif isinstance(candidate, Scalar) and name in fields:
            given[name] = candidate
        else:
            break
        rest.pop(0)
    return operands, given, rest


def _names_an_axis(arg: Arg, first: Any) -> bool:
    return arg.axis is not None and isinstance(first, Value) and (arg.axis in first.type or arg.axis == "positions")


def _ordinal(n: int) -> str:
    return ("first", "second", "third", "fourth", "fifth")[n] if n < 5 else f"{n + 1}th"


KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
