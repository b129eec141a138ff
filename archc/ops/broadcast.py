"""The type of an operator's result: whose axes it has, and of which element type."""

from __future__ import annotations

from dataclasses import replace

from archc.ir.sym import Apply, Scalar, walk
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Check, OpError
from archc.ops.checks import numbered_alike, shown
from archc.sizes import Size

Side = Scalar | TensorType


def dtype_of(side: Side) -> str:
    """float, int or bool. Raises OpError for a compile-time value that is no number."""
    if isinstance(side, TensorType):
        return side.dtype
    match side.value:
        case bool():
            return "bool"
        case int() | Size():
            return "int"
        case None | str() | tuple():
            raise OpError(f"arithmetic on a tensor takes a number, and this is {shown(side)}", "E0213")
        case _:
            return "float"  # also what is known only when the sizes of the inputs are


def simpler(a: Dim, b: Dim) -> Dim:
    """Of two equal sizes, the one whose expression says it more simply."""

    def weight(dim: Dim) -> tuple[bool, int, int]:
        if dim.sym is None:
            return True, 0, len(str(dim.size))
        parts = list(walk(dim.sym))
        return any(isinstance(part, Apply) and part.op == "if" for part in parts), len(parts), 0

    return b if weight(b) < weight(a) else a


def mended(a: TensorType, b: TensorType) -> str:
    """How the axes of one side come to lie within the other's: a new name, if one axis of each side is left over."""
    left, right = ([n for n in x.names if n not in y] for x, y in ((a, b), (b, a)))
    if len(right) == 1 and any(a[n].size == b[right[0]].size for n in left):
        same = next(n for n in left if a[n].size == b[right[0]].size)
        return f'if {right[0]} of the right is {same} of the left: `rename(right, {right[0]}="{same}")`'
    return (
        "`expand` adds an axis, `rename` gives one another name, `dot` sums a product, "
        f"`mean(x, {left[0]})` removes one"
    )


def broadcast(check: Check, a: TensorType, b: TensorType, symbol: str) -> tuple[Axis, ...]:
    """The axes of `a symbol b`.

    Raises OpError where neither side's axes lie within the other's, or sizes differ.
    """
    large, small = (a, b) if set(a.names) >= set(b.names) else (b, a)
    if not set(large.names) >= set(small.names):
        left, right = (", ".join(n for n in x.names if n not in y) for x, y in ((a, b), (b, a)))
        raise OpError(
            f"`{symbol}` of {a} and {b}: the axes of one side must all be axes of the other",
            "E0301",
            label=f"only the left has {left}, only the right {right}",
            help=mended(a, b),
        )
    axes = []
    for axis in large.axes:
        if axis.name not in small:
            axes.append(axis)
            continue
        left, right = a[axis.name].dim, b[axis.name].dim
        if left.constant is not None and right.constant is not None and left.constant != right.constant:
            what = "channels" if axis.name == "C" else f"axes `{axis.name}`"
            stretched = "axes of size 1 do not stretch: take the axis out, and it is broadcast by name"
            error = OpError(
                f"the {what} do not match: {axis.name} is {left} on the left and {right} on the right",
                "E0331" if axis.is_position else "E0301",
                label=f"{a} {symbol} {b}",
                help=stretched
                if 1 in (left.constant, right.constant)
                else f"make both {left} or both {right}: `linear` and `conv` say how many channels come out"
                if axis.name == "C"
                else "",
            )
            check.refuse(error)
        check.equal(left.size, right.size, f"both sides of `{symbol}` have the axis {axis.name}")
        first, second = (left, right) if large is a else (right, left)
        axes.append(replace(numbered_alike(a[axis.name], b[axis.name], f"`{symbol}`"), dim=simpler(first, second)))
    return tuple(axes)
