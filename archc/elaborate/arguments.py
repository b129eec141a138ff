"""Arguments of calls, and how they become the fields of an operation, region or path."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Any

from archc.diagnostics import ArchError, Diagnostic, Label, did_you_mean, fail
from archc.elaborate.frame import tensors_in
from archc.elaborate.habits import keyword_helps
from archc.elaborate.operations import op_error
from archc.elaborate.values import (
    Deferred,
    Many,
    help_kind,
    kind_of,
)
from archc.ir.graph import Value
from archc.ir.sym import Scalar
from archc.ops.base import Op, OpError, Parameter, parameters
from archc.records import dataclass
from archc.sizes import Size
from archc.source import Span
from archc.where.paths import PATHS, Path
from archc.where.regions import REGIONS, Region


@dataclass(frozen=True)
class Arg:
    """One argument of a call. `axis` is its text where it is a bare name, which may be an axis, `names` where it is
    several such names in brackets; `value` is None where they stand for nothing else in `scope`."""

    keyword: str | None
    value: Any
    axis: str | None
    names: tuple[str, ...]
    span: Span
    scope: Any = field(default=None, compare=False)


def unknown(a: Arg) -> ArchError:
    """E0201 for a bare name that should stand for a value."""
    from archc.elaborate.expressions import find, unknown_name

    names = (a.axis,) if a.axis is not None else a.names
    return unknown_name(next(n for n in names if a.scope is None or find(n, a.scope) is None), a.span, a.scope)


@dataclass(frozen=True)
class AxisName:
    """Bare names in the arguments of a recipe that stand for nothing but, perhaps, axes."""

    name: str | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Named:
    """A value in the arguments of a recipe that was written as a bare name, or as several in brackets."""

    name: str | None
    value: Any
    names: tuple[str, ...] = ()


def axis_text(value: Any) -> str | None:
    return value.name if isinstance(value, (AxisName, Named)) else None


def axis_texts(value: Any) -> tuple[str, ...]:
    return value.names if isinstance(value, (AxisName, Named)) else ()


def unwrap(value: Any) -> Any:
    """A recipe's argument as it was evaluated."""
    return value.value if isinstance(value, Named) else value


def is_tensor(value: Any) -> bool:
    return isinstance(value, (Value, Deferred)) or bool(tensors_in(value))


def operand_names(op: type[Op]) -> list[tuple[str, str]]:
    """(name, suffix) of the operands: suffix is "" (required), "?" (may be missing) or "*" (a list of tensors)."""
    return [(word.rstrip("?*"), word[-1] if word[-1] in "?*" else "") for word in op.operands.split()]


def signature(op: type[Op]) -> str:
    """`conv(x, out, kernel, stride=1, ...)`, for messages."""
    shown = [name + ("=none" if suffix == "?" else "") for name, suffix in operand_names(op)]
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


def bind_fields(
    op: type[Op], positional: list[Arg], keywords: list[Arg], operands: dict[str, Any], given: dict[str, Any],
    span: Span,
) -> list[Arg]:  # fmt: skip
    """Fill the fields of an operation; the arguments come back, each with the name of what it fills as its keyword."""
    named = list(keywords)
    tensors = [t for v in operands.values() for t in tensors_in(v)]
    fields = parameters(op)
    queue = [p for p in fields if p.kind != "sizes" and p.name not in operands and p.name not in given]
    for a in positional:
        if not queue:
            raise fail(
                "E0205",
                f"`{op.name}` takes fewer arguments: {len(positional)} are too many",
                a.span,
                "one too many",
                helps=(f"signature: {signature(op)}",),
            )
        target = queue[0]
        refuse_twice(op.name, target.name, a, keywords)
        named.append(replace(a, keyword=target.name))
        if target.kind == "axes":
            given[target.name] = (*given.get(target.name, ()), *_axes(a, tensors, op))
            continue
        queue.pop(0)
        given[target.name] = _field(op, target, a, tensors)
    sizes = next((p for p in fields if p.kind == "sizes"), None)
    unknown: list[Arg] = []
    for a in keywords:
        target = next((p for p in fields if p.name == a.keyword and p.kind != "sizes"), None)
        if target is not None:
            given[target.name] = _axes(a, tensors, op) if target.kind == "axes" else _field(op, target, a, tensors)
        elif sizes is not None and a.keyword is not None and not _foreign_keyword(op, a.keyword, tensors):
            given.setdefault(sizes.name, {})[a.keyword] = _field(op, Parameter(a.keyword, "any"), a, tensors)
        else:
            unknown.append(a)
    if unknown:
        raise ArchError(_unknown_keyword(op, a) for a in unknown)
    for p in fields:
        if p.required and p.name not in given and p.kind not in ("sizes", "axes"):
            raise fail("E0204", f"`{op.name}` needs `{p.name}`", span, f"`{p.name}` is missing",
                       helps=(f"signature: {signature(op)}",))  # fmt: skip
    return named


def refuse_twice(owner: str, target: str, a: Arg, args: list[Arg]) -> None:
    """Raises ArchError E0205 where an argument by place falls to what is given by name as well."""
    again = next((k for k in args if k.keyword == target), None)
    if again is not None:
        raise fail("E0205", f"`{target}` of `{owner}` is given twice", a.span, "by place",
                   related=(Label(again.span, "by name"),))  # fmt: skip


def _unknown_keyword(op: type[Op], a: Arg) -> Diagnostic:
    keyword, legal = a.keyword or "", [p.name for p in parameters(op) if p.kind != "sizes"]
    helps = keyword_helps(keyword, legal) or (*did_you_mean(keyword, legal), f"signature: {signature(op)}")
    return Diagnostic("E0203", f"`{op.name}` has no argument `{keyword}`", a.span, "unknown argument", helps=helps)


def _foreign_keyword(op: type[Op], keyword: str, tensors: list[Value]) -> bool:
    """Whether a keyword is what another library calls an argument, and no axis."""
    known = any(keyword in t.type for t in tensors) or keyword[:1].isupper()
    return not known and bool(keyword_helps(keyword, [p.name for p in parameters(op)]))


def _axes(a: Arg, tensors: list[Value], op: type[Op]) -> tuple[str, ...]:
    if a.names:
        return tuple(_axis(Arg(None, None, name, (), a.span), tensors, op) for name in a.names)
    if a.axis == "positions" and tensors and "positions" not in tensors[0].type:
        return tuple(axis.name for axis in tensors[0].type.positions)
    return (_axis(a, tensors, op),)


def _axis(a: Arg, tensors: list[Value], op: type[Op]) -> str:
    if a.axis is not None and (not tensors or any(a.axis in t.type for t in tensors)):
        return a.axis
    if isinstance(a.value, Scalar) and isinstance(a.value.value, str):
        return a.value.value
    if a.axis is not None:
        if getattr(op, "makes_axis", False):
            return a.axis
        first = tensors[0]
        helps = did_you_mean(a.axis, first.type.names)
        if not helps:
            helps = (f"its axes are {', '.join(first.type.names)}; `rename` gives an axis another name",)
        message = f"the operand of `{op.name}` has no axis `{a.axis}`: it is {first.type}"
        raise fail("E0302", message, a.span, "no such axis", helps=helps)
    known = f"axes are known by name: {', '.join(tensors[0].type.names)}" if tensors else "axes are known by name"
    raise fail("E0206", f"the name of an axis is needed here, and this is {kind_of(a.value)}", a.span, helps=(known,))


def _field(op: type[Op], p: Parameter, a: Arg, tensors: list[Value]) -> Any:
    value = unwrap(a.value)
    if p.kind == "axis":
        return _axis(a, tensors, op)
    if value is None:
        if p.kind == "any" and a.axis is not None and any(a.axis in t.type for t in tensors):
            return a.axis
        raise unknown(a)
    if p.kind == "region" and not isinstance(value, Region):
        raise fail("E0206", f"`{op.name}` needs a region for `{p.name}`, and this is {kind_of(value)}", a.span,
                   helps=("regions are " + ", ".join(sorted(REGIONS)),))  # fmt: skip
    if p.kind == "path" and not isinstance(value, (Path, Many)):
        raise fail("E0206", f"`{op.name}` needs a path for `{p.name}`, and this is {kind_of(value)}", a.span,
                   helps=("paths are " + ", ".join(sorted(PATHS)),))  # fmt: skip
    if p.kind in ("region", "path", "any", "recipe"):
        return value.items if isinstance(value, Many) else value
    if isinstance(value, Value):
        related, helps = _hidden(a, value)
        raise fail("E0111", f"a tensor's value is used for `{p.name}`, which must be known at compile time", a.span,
                   related=related, helps=helps or ("a count or size comes from sizes (`x.C`) and parameters",))  # fmt: skip
    if not isinstance(value, Scalar):
        raise fail("E0206", f"`{p.name}` needs a number, and this is {kind_of(value)}", a.span)
    _check_kind(op.name, p, value, a.span, _by_place(op, a))
    return value


def _hidden(a: Arg, value: Any) -> tuple[tuple[Label, ...], tuple[str, ...]]:
    """Labels and help where a name was a parameter, and a line of the body gave it to a tensor."""
    component = a.scope.component if a.scope is not None else None
    declared = next((p for p in component.parameters if p.name == a.axis), None) if component is not None else None
    if declared is None or not isinstance(value, Value) or value.span.source is not declared.span.source:
        return (), ()
    labels = (
        Label(declared.span, f"`{a.axis}` is this parameter"),
        Label(value.span, "until it is a tensor from here on"),
    )
    return labels, (f"give the parameter or the tensor another name than `{a.axis}`",)


def _by_place(op: type[Op], a: Arg) -> tuple[str, ...]:
    """Help where an argument by place may stand one place too far behind."""
    if a.keyword is not None:
        return ()
    if any(p.kind == "sizes" for p in parameters(op)):
        return ("sizes are given by axis, as in `H=7, W=7`", f"signature: {signature(op)}")
    width = "the width of the input is read from the tensor and not given"
    return (*((width,) if any(p.name == "out" for p in parameters(op)) else ()), f"signature: {signature(op)}")


KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


def _check_kind(owner: str, p: Parameter, value: Scalar, span: Span, helps: tuple[str, ...] = ()) -> None:
    """Raises ArchError E0206 where a compile-time argument has the wrong kind, E0304 for a size that depends on the inputs."""
    raw = value.value
    if (
        raw is None
        and not p.required
        and (p.default is None or (isinstance(p.default, Scalar) and p.default.value is None))
    ):
        return
    if p.kind in ("int", "size") and isinstance(raw, Size):
        raise fail(
            "E0304", f"`{p.name}` of `{owner}` must be a number, and {raw} depends on the sizes of the inputs", span
        )
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
        mended = help_kind(value, wanted, span.text)
        numeric = p.kind in ("int", "size", "float", "list")
        helps = (mended or helps) if numeric else (helps or mended)
        raise fail("E0206", f"`{p.name}` of `{owner}` needs {wanted}, and this is {kind_of(value)}", span,
                   helps=helps)  # fmt: skip


def make_value(cls: Any, args: list[Arg], span: Span) -> Any:
    """A region or path from its call."""
    given: dict[str, Any] = {}
    fields = parameters(cls)
    positional = [a for a in args if a.keyword is None]
    queue = list(fields)
    for a in positional:
        if not queue:
            raise fail(
                "E0205", f"`{cls.name}` takes fewer arguments", a.span, helps=(f"signature: {signature_of(cls)}",)
            )
        p = queue[0]
        refuse_twice(cls.name, p.name, a, args)
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
        if p.kind == "axes" and a.names:
            return a.names
        if a.axis is None:
            raise fail("E0206", "the name of an axis is needed here", a.span)
        return a.axis
    if p.kind == "any":
        return value
    if value is None:
        raise unknown(a)
    if not isinstance(value, Scalar):
        related, helps = _hidden(a, value)
        raise fail("E0206", f"`{p.name}` of `{cls.name}` needs a number, and this is {kind_of(value)}", a.span,
                   related=related, helps=helps)  # fmt: skip
    _check_kind(cls.name, p, value, a.span)
    return value
