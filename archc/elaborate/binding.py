"""Arguments to parameters, tensors to signatures."""

from __future__ import annotations

from typing import Any

from archc.contract import Obligation
from archc.diagnostics import ArchError, Diagnostic, Label, did_you_mean, fail
from archc.elaborate.frame import Scope, Session
from archc.elaborate.trail import in_library
from archc.elaborate.values import (
    ComponentRef,
    Deferred,
    FnRef,
    Many,
    Module,
    OpRef,
    Poison,
    Recipe,
    help_kind,
    kind_of,
)
from archc.ir.graph import Value
from archc.ir.sym import Scalar, const
from archc.ir.types import TensorType
from archc.records import dataclass
from archc.sizes import Size
from archc.source import Span
from archc.syntax import tree


def is_tensor_decl(type: tree.TypeDecl) -> bool:
    return isinstance(type, tree.TensorDecl) or (isinstance(type, tree.Kind) and type.name == "tensor")


@dataclass
class Bound:
    """A component's parameters with what was given for them; `defaulted` were not given."""

    values: dict[str, Any]
    spans: dict[str, Span]
    defaulted: list[tree.Parameter]


def bind(ref: ComponentRef, args: list[Any], piped: Any, span: Span) -> Bound:
    """Match arguments to parameters by place and keyword. Raises ArchError E0203, E0204, E0205."""
    name, declared = ref.tree.name, ref.tree.parameters
    from archc.elaborate.arguments import AxisName, refuse_twice, unknown, unwrap

    values: dict[str, Any] = {}
    spans: dict[str, Span] = {}
    keywords = [a for a in args if a.keyword is not None]
    queue = list(declared)
    foreign: tuple[Diagnostic, ...] = ()
    if piped is not None:
        first = next((p for p in queue if _takes(p.type, piped) and p.name not in {a.keyword for a in keywords}), None)
        if first is None:
            raise fail(
                "E0205", f"`{name}` takes no tensor that `|>` could give it", span, helps=(signature_of(ref.tree),)
            )
        values[first.name], spans[first.name] = piped, span
        queue.remove(first)
    for a in args:
        if a.keyword is not None:
            if not any(p.name == a.keyword for p in declared):
                foreign += fail("E0203", f"`{name}` has no parameter `{a.keyword}`", a.span, "unknown parameter",
                                helps=(*did_you_mean(a.keyword, [p.name for p in declared]), signature_of(ref.tree)),
                                ).diagnostics  # fmt: skip
                continue
            target = a.keyword
        else:
            if not queue:
                raise fail("E0205", f"`{name}` takes {counted(declared)}", a.span, "one too many",
                           helps=(signature_of(ref.tree),))  # fmt: skip
            target = queue.pop(0).name
            refuse_twice(name, target, a, keywords)
        value = unwrap(a.value)
        if value is None or isinstance(value, AxisName):
            wanted = next(p for p in declared if p.name == target)
            if a.axis is not None and isinstance(wanted.type, tree.Kind) and wanted.type.name == "str":
                value = const(a.axis)
            else:
                raise unknown(a)
        values[target], spans[target] = value, a.span
    if foreign:
        raise ArchError(foreign)
    missing = [p for p in declared if p.name not in values]
    for p in missing:
        if p.default is None:
            raise fail("E0204", f"`{name}` needs `{p.name}`", span, f"`{p.name}` is missing", related=declared_at(p),
                       helps=(signature_of(ref.tree),))  # fmt: skip
    return Bound(values, spans, missing)


def signature_of(component: tree.Component | tree.Function) -> str:
    """`signature: layer(x, ratio=4)`, for messages."""
    shown = [p.name if p.default is None else f"{p.name}={p.default.span.text}" for p in component.parameters]
    return f"signature: {component.name}({', '.join(shown)})"


def counted(parameters: tuple[tree.Parameter, ...]) -> str:
    """`1 argument`, `3 arguments`."""
    return f"{len(parameters)} argument{'s' * (len(parameters) != 1)}"


def declared_at(parameter: tree.Parameter) -> tuple[Label, ...]:
    """Where a parameter is declared, unless that is in the standard library."""
    return () if in_library(parameter.span.source) else (Label(parameter.span, "declared here"),)


def _takes(type: tree.TypeDecl, value: Any) -> bool:
    if isinstance(value, (Value, Deferred)):
        return is_tensor_decl(type)
    return isinstance(type, tree.ListDecl)


def check_kind(owner: str, p: tree.Parameter, value: Any, span: Span, signature: str = "") -> None:
    """Raises ArchError E0206 where a value does not have its parameter's kind; `signature` is that of the owner."""
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

    if (
        isinstance(value, Scalar)
        and value.value is None
        and isinstance(p.default, tree.Constant)
        and p.default.value is None
    ):
        return
    if not fits(p.type, value):
        wanted = "a tensor" if isinstance(p.type, tree.TensorDecl) else f"`{p.type.span.text}`"
        at = declared_at(p) if p.default is None or p.default.span != span else ()
        raise fail("E0206", f"`{p.name}` of `{owner}` needs {wanted}, and this is {kind_of(value)}", span, related=at,
                   helps=(*help_kind(value, wanted, span.text), *filter(None, [signature])))  # fmt: skip


ELEMENTS = {"float": "real numbers", "int": "whole numbers", "bool": "truth values"}


def fit(
    p: tree.Parameter, value: Value, owner: str, span: Span, session: Session, bound: Bound | None = None
) -> dict[str, str]:
    """Caller's axis names to the signature's. Raises ArchError E0306 (axes at other places), E0307 (rank), E0305 (dtype).

    `span` is the call, `bound` all that it gives, if that is known.
    """
    decl, type = p.type, value.type
    assert isinstance(decl, tree.TensorDecl)
    if decl.dtype != type.dtype:
        told = f"`{p.name}` of `{owner}` takes {ELEMENTS[decl.dtype]}, and this is {type}, of {ELEMENTS[type.dtype]}"
        others = [q for q in bound.defaulted if isinstance(q.type, tree.TensorDecl)] if bound is not None else []
        meant = [q.name for q in others if isinstance(q.type, tree.TensorDecl) and q.type.dtype == type.dtype]
        instead = tuple(f"`{name}=` of `{owner}` takes {ELEMENTS[type.dtype]}" for name in meant[:1])
        at = bound.spans.get(p.name, span) if bound is not None else span
        raise fail("E0305", told, at, related=_sources(p, value, span), helps=(*_of_elements(decl.dtype, value), *instead))
    named = [a for a in decl.axes if isinstance(a, tree.AxisDecl)]
    if len(named) != len(decl.axes):
        for a in named:
            if a.name not in type:
                raise fail("E0307", f"`{owner}` needs an axis `{a.name}`, and its operand is {type}", span,
                           related=_sources(p, value, span))  # fmt: skip
        return {}
    if len(named) != len(type.axes):
        takes = f"`{owner}` takes {len(named)} axes, [{', '.join(a.name for a in named)}]"
        raise fail("E0307", f"{takes}, and its operand is {type}", span, related=_sources(p, value, span),
                   helps=_merged(type, [a.name for a in named]))  # fmt: skip
    names = {theirs: ours.name for theirs, ours in zip(type.names, named, strict=True)}
    for theirs, ours in names.items():
        if theirs != ours and ours in type.names:
            takes = ", ".join(a.name for a in named)
            told = f"`{owner}` takes [{takes}], and `{ours}` stands elsewhere in {type}"
            helps = _reordered(list(type.names), [a.name for a in named])
            session.refuse(fail("E0306", told, span, f"`{theirs}` stands where `{ours}` should", helps=helps))
    return names


def _sources(p: tree.Parameter, value: Value, span: Span) -> tuple[Label, ...]:
    """The parameter of a signature that an operand does not fit, and where the operand was made."""
    here = value.span
    apart = here.source is span.source and here.line != span.line and not here.start <= span.start < here.end
    made = (
        (Label(here, f"`{value.name}` is declared here" if value.name else f"{value.type} is made here"),)
        if apart and not in_library(here.source)
        else ()
    )
    return (*(() if in_library(p.span.source) else (Label(p.span, f"takes {p.type.span.text}"),)), *made)


def _of_elements(wanted: str, value: Value) -> tuple[str, ...]:
    """How a tensor comes to hold what a parameter takes."""
    shown = value.name or "x"
    match wanted:
        case "bool":
            axes = ", ".join(value.type.names)
            return (f"truth values are declared `bool[{axes}]`, or made by comparing: `{shown} > 0`",)
        case "int":
            return (f"indices are declared `int[...]`; `cast({shown}, int)` cuts real numbers",)
        case _:
            return (f"`cast({shown}, float)` makes real numbers of them",)


def _merged(type: TensorType, wanted: list[str]) -> tuple[str, ...]:
    """How the positions of an operand become the one position of a signature."""
    by_name = "`[B, C, ...]` in the signature takes axes by name, however many there are"
    places = [axis.name for axis in type.positions]
    ours = [name for name in wanted if name not in type.names]
    if len(places) == 1 and len(ours) == 2 and all(name[0].isupper() for name in ours):
        apart = f'`|> rearrange("{places[0]}=({" ".join(ours)}) -> {" ".join(ours)}", {ours[0]}=...)`'
        return (f"{apart} makes a map of the sequence", by_name)
    if len(places) < 2 or len(ours) != 1 or {*wanted} - {*ours} != {*type.names} - {*places}:
        return (by_name,)
    found, target = list(type.names), [f"{n}=({' '.join(places)})" if n in ours else n for n in wanted]
    while found and target and found[0] == target[0]:
        found, target = found[1:], target[1:]
    while found and target and found[-1] == target[-1]:
        found, target = found[:-1], target[:-1]
    return (f'`|> rearrange("{" ".join(found)} -> {" ".join(target)}")` merges the positions', by_name)


def _reordered(found: list[str], wanted: list[str]) -> tuple[str, ...]:
    """The rearrangement that brings the axes that both have to the places of the signature."""
    rest = iter(name for name in found if name not in wanted)
    order = [name if name in found else next(rest) for name in wanted]
    first = next(i for i, (a, b) in enumerate(zip(found, order, strict=True)) if a != b)
    change = f'"{" ".join(found[first:])} -> {" ".join(order[first:])}"'
    return f"to change the order: `|> rearrange({change})`", "`[B, C, ...]` in the signature takes axes by name"


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
        verdict = scope.session.settle(obligation)
        if verdict == "refused":
            told = f"{axis.name} is {size.value} here"
            related, helps = _first_met(axis, name, scope), _own_name(axis, name)
            scope.session.refuse(fail("E0301", obligation.why, span, told, related=related, helps=helps))
        if verdict == "depends":
            scope.session.oblige(obligation)


def _first_met(axis: tree.AxisDecl, name: str | None, scope: Scope) -> tuple[Label, ...]:
    """Where the signature said the size that an axis must have."""
    if name is None or scope.component is None or in_library(axis.span.source):
        return ()
    axes = [a for p in scope.component.parameters if isinstance(p.type, tree.TensorDecl) for a in p.type.axes]
    named = [a for a in axes if isinstance(a, tree.AxisDecl) and (a.size is None or a.size.span.text == name)]
    first = next((a for a in named if (a.name if a.size is None else a.size.span.text) == name), None)
    again = (Label(axis.span, f"so it is {scope.sizes[name].value} here too"),)
    return (Label(first.span, f"`{name}` is {scope.sizes[name].value}"), *again) if first is not None else ()


def _own_name(axis: tree.AxisDecl, name: str | None) -> tuple[str, ...]:
    """How a signature lets a size differ."""
    return (f"a width of its own has a name of its own: `{axis.name}={axis.name}2`",) if name == axis.name else ()


def bind_defaults(ref: ComponentRef, bound: Bound, scope: Scope) -> None:
    """Defaults are computed where the component stands, over what was given."""
    from archc.elaborate.expressions import evaluate

    for p in bound.defaulted:
        assert p.default is not None
        value = evaluate(p.default, scope)
        if not isinstance(value, Poison):
            check_kind(ref.tree.name, p, value, p.default.span)
        scope.env[p.name] = value


def still_missing(bound: Bound, env: dict[str, Any]) -> Bound:
    return Bound(bound.values, bound.spans, [p for p in bound.defaulted if p.name not in env])
