"""Places picked along an axis: `x[N=1:]`, `x[C=0]`, `x[box=[1, 0]]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.ir.sym import Scalar, size_of
from archc.ir.types import Dim, TensorType
from archc.ops.base import Check, Code, OpError, Reach, arg, need
from archc.ops.checks import result_type, shown
from archc.ops.move import integer, items
from archc.ops.split import Layout
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Pick(Layout):
    """`x[N=1:]` a range, `x[C=0]` one place (the axis goes), `x[box=[1, 0, 2]]` several places in that order.

    Negative numbers count from the end. A range must lie within the axis: nothing is cut off in silence.
    """

    name: ClassVar[str] = "pick"
    operator: ClassVar[str] = "pick"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, N, C=4] -> x[N=1:]",
        "x: [B, N, C=4] -> x[N=:2]",
        "x: [B, N, C=4] -> x[N=:-1]",
        "x: [B, N, C=4] -> x[C=0]",
        "x: [B, N, C=4] -> x[N=-1]",
        "x: [B, N, C=4] -> x[C=[1, 0, 3, 3]]",
    )
    axis: Any = arg("axis")
    start: Any = arg("any", None)
    stop: Any = arg("any", None)
    index: Any = arg("any", None)
    list: Any = arg("any", None)

    def _from_end(self, value: Scalar, size: Size) -> Size:
        """A place counted from the front."""
        number = size_of(value)
        return size + number if number.constant is not None and number.constant < 0 else number

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        axis = need(x, self.axis, "an index")
        size, name = axis.size, self.axis
        if self.index is not None:
            place = integer(self.index, "index")
            at = self._from_end(place, size)
            self._inside(check, size, at, f"there is no place {shown(place)} along {name}")
            return (x.without(name),)
        if self.list is not None:
            places = items(self.list) or ()
            if not 1 <= len(places) <= 100_000:
                raise OpError("an index lists at least one place", "E0213", argument="list")
            for place in places:
                place = integer(place, "list")
                self._inside(check, size, self._from_end(place, size), f"there is no place {shown(place)} along {name}")
            return (x.resized(**{name: len(places)}),)
        first, last = self._bounds(axis.dim)
        where = f"the range lies within {name}"
        for low, high in ((Size.of(0), first), (first, last), (last, size)):
            if low.constant is not None and high.constant is not None and low.constant > high.constant:
                told = f"the range {first} to {last} does not lie within {name} = {size}"
                check.refuse(OpError(told, "E0213", argument="stop"))
            if low.constant != 0:
                check.at_least(high, low, where)
        return (x.resized(**{name: self._length(axis.dim)}),)

    def _inside(self, check: Check, size: Size, at: Size, why: str) -> None:
        known, place = size.constant, at.constant
        if known is not None and place is not None and not 0 <= place < known:
            legal = f"0 to {known - 1} are legal"
            check.refuse(OpError(f"{why}: it has {known}", "E0213", argument="index", label=legal))
        if place is None or place < 0:
            check.at_least(at, 0, why)
        check.at_least(size, at + 1, why)

    def _bounds(self, dim: Dim) -> tuple[Size, Size]:
        first = Size.of(0) if self.start is None else self._from_end(integer(self.start, "start"), dim.size)
        last = dim.size if self.stop is None else self._from_end(integer(self.stop, "stop"), dim.size)
        return first, last

    def _length(self, dim: Dim) -> Dim:
        """The size of a range, with the expression that makes it where it is fixed."""
        first, last = self._bounds(dim)
        length = last - first
        if length.constant is None:
            return Dim.of(length)

        def end(value: Scalar | None, default: Dim) -> Dim:
            if value is None:
                return default
            negative = isinstance(value.value, int) and value.value < 0
            return dim + value if negative else Dim.of(value)

        exact = end(self.stop, dim) - end(self.start, Dim.of(0))
        return exact if exact.size == length else Dim.of(length)

    def is_view(self, *xs: Any) -> bool:
        return self.list is None

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        if axis != self.axis:
            return Reach(axis)
        if self.index is not None or self.list is not None:
            return None
        first, _ = self._bounds(xs[0][axis].dim)
        return None if first.constant is None else Reach(axis, 1, first.constant, first.constant)

    # ---- PyTorch

    def torch(self, code: Code, x: Operand) -> Operand:
        type = result_type(self, x)
        x = x.merged(code)
        at = x.at(self.axis)
        if self.index is not None:
            order = tuple(name for name in x.order if name != self.axis)
            return Operand(f"{x.atom}{_subscript(at, len(x.order), code.number(self.index))}", type, order)
        if self.list is not None:
            places = ", ".join(code.number(place) for place in items(self.list) or ())
            return Operand(f"{x.atom}{_subscript(at, len(x.order), f'[{places}]')}", type, x.order)
        start = "" if self.start is None else code.number(self.start)
        stop = "" if self.stop is None else code.number(self.stop)
        if not start and not stop:
            return x
        return Operand(f"{x.atom}{_subscript(at, len(x.order), f'{start}:{stop}')}", type, x.order)

    # ---- meaning

    def reference(self, run: Run, x: Named) -> Named:
        data, n = x.last(self.axis), x.size(self.axis)
        rest = tuple(name for name in x.names if name != self.axis)
        if self.index is not None:
            return run.named(data[..., run.number(self.index) % n], rest)
        if self.list is not None:
            places = [run.number(place) % n for place in items(self.list) or ()]
        else:
            start = 0 if self.start is None else run.number(self.start)
            stop = n if self.stop is None else run.number(self.stop)
            places = list(range(start + n if start < 0 else start, stop + n if stop < 0 else stop))
        return run.named(data[..., run.torch.tensor(places, dtype=run.torch.long)], (*rest, self.axis))


def _subscript(at: int, rank: int, text: str) -> str:
    """`[:, 1:]`, or `[..., 1:]` for the last axis."""
    if at == rank - 1 and rank > 1:
        return f"[..., {text}]"
    return f"[{', '.join([*[':'] * at, text])}]"
