"""What shape rules ask of operands and compile-time arguments, said once. Every function raises OpError."""

from __future__ import annotations

import math
from typing import Any

from archc.ir.sym import Scalar
from archc.ir.types import Axis, TensorType
from archc.ops.base import Check, OpError, need
from archc.sizes import Size

# No number in an architecture is larger, and products of a few of them still fit everywhere.
LARGEST = 2**31 - 1


class Trust:
    """A `Check` for operands that have been checked: it believes everything."""

    def equal(self, left: Size, right: Size, why: str, code: str = "E0331") -> None: ...
    def divides(self, divisor: Size, size: Size, why: str, code: str = "E0312") -> None: ...
    def at_least(self, size: Size, least: Size | int, why: str, code: str = "E0333") -> None: ...
    def refuse(self, error: OpError) -> None: ...


def result_type(op: Any, *operands: Any) -> TensorType:
    """The type of the (first) result of `op` on checked operands, given as anything with a `type`."""
    return op.infer(Trust(), *(x.type for x in operands))[0]


def numbered_alike(a: Axis, b: Axis, what: str) -> Axis:
    """One axis that two operands have in common, where it numbers the same axes in the same order."""
    if a.contradicts(b):
        first, second = (", ".join(axis.order) for axis in (a, b))
        raise OpError(
            f"{what}: `{a.name}` numbers [{first}] row by row on one side and [{second}] on the other",
            "E0309",
            help="bring both maps into one order before their axes are merged or their taps are taken, "
            f'e.g. `rearrange("{" ".join(b.order)} -> {" ".join(a.order)}")`',
        )
    return a if a.order else b


def floating(x: TensorType, what: str) -> None:
    """`x` holds real numbers."""
    if x.dtype != "float":
        raise OpError(
            f"{what} works on real numbers, and its operand is {x}",
            "E0305",
            help="write `cast(x, float)` first",
        )


def numeric(x: TensorType, what: str) -> None:
    """`x` holds numbers, not truth values."""
    if x.dtype == "bool":
        raise OpError(
            f"{what} works on numbers, and its operand is {x}",
            "E0305",
            help="write `cast(x, int)` or `cast(x, float)` first",
        )


def fixed(x: TensorType, axis: str, what: str) -> int:
    """The size of an axis that must not depend on the inputs, because weights are made for it."""
    size = need(x, axis, what).size
    if size.constant is None:
        raise OpError(
            f"{what} makes weights for the axis `{axis}`, and its size {size} depends on the inputs",
            "E0304",
            help="give the size a number, or take it from a parameter of the model",
        )
    if size.constant < 1:
        raise OpError(f"{what} makes weights for the axis `{axis}`, and nothing of it is left: {x}", "E0213")
    return size.constant


def whole(value: Scalar, name: str, least: int = 1) -> int:
    """A whole number of at least `least`."""
    number = value.value
    if isinstance(number, bool) or not isinstance(number, int):
        halves = "`/` gives a real number: write `//`" if isinstance(number, float) else ""
        raise OpError(f"`{name}` must be a whole number, and is {shown(value)}", "E0213", argument=name, help=halves)
    if number < least:
        raise OpError(f"`{name}` must be at least {least}, and is {number}", "E0213", argument=name)
    if number > LARGEST:
        raise OpError(f"`{name}` must be at most {LARGEST}", "E0213", argument=name, label="this number is too large")
    return number


def real(value: Scalar, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A number from `low` to `high`, neither infinite nor absurdly large."""
    number = value.value
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise OpError(f"`{name}` must be a number, and is {shown(value)}", "E0213", argument=name)
    if not (-LARGEST <= number <= LARGEST and low <= number <= high):
        bounds = (math.isfinite(low), math.isfinite(high))
        kind = {
            (True, True): f"a number from {low:g} to {high:g}",
            (True, False): f"a finite number of at least {low:g}",
            (False, True): f"a finite number of at most {high:g}",
        }.get(bounds, "a finite number")
        raise OpError(f"`{name}` must be {kind}, and is {number}", "E0213", argument=name)
    return number


def scalar(value: Any, name: str) -> Scalar:
    """An argument of kind `any` that must be a number, a word or a list of them."""
    if not isinstance(value, Scalar):
        raise OpError(
            f"`{name}` must be known at compile time: a number, not a tensor, a region or an axis",
            "E0213",
            argument=name,
        )
    return value


def optional(value: Any, name: str) -> Scalar | None:
    """The same, or None where it is left out."""
    absent = value is None or (isinstance(value, Scalar) and value.value is None)
    return None if absent else scalar(value, name)


def choice(value: Scalar, name: str, options: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value.value, str) or value.value not in options:
        raise OpError(f"`{name}` must be {quoted(options)}, and is {shown(value)}", "E0213", argument=name)
    return value.value


def distinct(axes: tuple[str, ...], name: str) -> None:
    """No axis is named twice."""
    twice = [axis for i, axis in enumerate(axes) if axis in axes[:i]]
    if twice:
        raise OpError(f"the axis `{twice[0]}` is named twice", "E0213", argument=name)


def divides(check: Check, groups: Scalar, name: str, *widths: tuple[int, str]) -> int:
    """A number of groups that divides every width; each comes with the words for it."""
    count = whole(groups, name)
    for width, what in widths:
        if width % count:
            common = math.gcd(*(w for w, _ in widths))
            error = OpError(
                f"{count} groups do not divide {width} {what}",
                "E0321",
                argument=name,
                label=f"{width} % {count} = {width % count}",
                help=f"what divides: {listed_divisors(common)}",
            )
            check.refuse(error)
    return count


def listed_divisors(number: int) -> str:
    """The divisors of a number in a message, the first of them where there are many."""
    fits = [str(d) for d in range(1, min(number, 4096) + 1) if number % d == 0]
    return ", ".join(fits[:16]) + (", ..." if len(fits) > 16 or number > 4096 else "")


def shown(value: Scalar) -> str:
    """A compile-time value in a message."""
    match value.value:
        case None:
            return "none"
        case bool(truth):
            return "true" if truth else "false"
        case str(text):
            return f'"{text}"'
        case tuple(items):
            return "a list" if len(items) > 8 else f"[{', '.join(shown(item) for item in items)}]"
        case int() | float() | Size():
            return str(value.value)
        case _:
            return "something else"


def quoted(options: tuple[str, ...]) -> str:
    """`"avg" or "max"`."""
    words = [f'"{option}"' for option in options]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
