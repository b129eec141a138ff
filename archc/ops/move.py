"""Values that change their place along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import Scalar
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, OpError, Reach, arg, need
from archc.ops.checks import LARGEST, distinct, shown
from archc.ops.split import Layout
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


def integer(value: Any, argument: str, low: int = -LARGEST) -> Scalar:
    """A whole number, or a size that depends on the inputs. Raises OpError."""
    number = value.value if isinstance(value, Scalar) else None
    known = number.constant if isinstance(number, Size) else number
    if isinstance(number, Size) and known is None:
        return value
    if isinstance(known, bool) or not isinstance(known, int) or not low <= known <= LARGEST:
        said = shown(value) if isinstance(value, Scalar) else "something else"
        least = f" of at least {low}" if low > -LARGEST else ""
        raise OpError(f"`{argument}` must be a whole number{least}, and is {said}", "E0213", argument=argument)
    return value


def items(value: Any) -> tuple[Any, ...] | None:
    """The members of a pair or list, None for a single number."""
    if isinstance(value, tuple):
        return value
    return value.value if isinstance(value, Scalar) and isinstance(value.value, tuple) else None


@dataclass(frozen=True)
class Roll(Layout):
    """Every value moves by s places along an axis, round the end: y[i] = x[(i - s) mod n]."""

    name: ClassVar[str] = "roll"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> roll(x, H=1, W=-2)",
        "x: [B, N] -> roll(x, N=9)",
    )
    shifts: Any = arg("sizes")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        if not self.shifts:
            raise OpError("`roll` needs an axis with its shift", "E0204", help="write `roll(x, H=1)`")
        for name, shift in self.shifts.items():
            need(x, name, "`roll`")
            integer(shift, name)
        return (x,)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis in self.shifts else Reach(axis)

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        shifts = [code.number(shift) for shift in self.shifts.values()]
        dims = [str(x.at(name)) for name in self.shifts]
        if len(dims) == 1:
            text = f"{x.atom}.roll({shifts[0]}, {dims[0]})"
        else:
            text = f"{x.atom}.roll(({', '.join(shifts)}), ({', '.join(dims)}))"
        return replace(x, text=text, binding=ATOM)

    def reference(self, run: Run, x: Named) -> Named:
        data = x.data
        for name, shift in self.shifts.items():
            n, s = x.size(name), run.number(shift)
            data = data.index_select(
                x.at(name), run.torch.tensor([(i - s) % n for i in range(n)], dtype=run.torch.long)
            )
        return run.named(data, x.names)


@dataclass(frozen=True)
class Flip(Layout):
    """Backwards along axes: y[i] = x[n - 1 - i]."""

    name: ClassVar[str] = "flip"
    examples: ClassVar[tuple[str, ...]] = ("x: [B, C=4, H, W] -> flip(x, H, W)", "x: [B, C=4] -> flip(x, C)")
    axes: Any = arg("axes")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        if not self.axes:
            raise OpError("`flip` needs the axes to turn round", "E0302", help="write `flip(x, H)`")
        distinct(self.axes, "axes")
        for name in self.axes:
            need(x, name, "`flip`")
        return (x,)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis in self.axes else Reach(axis)

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        return replace(x, text=f"{x.atom}.flip({', '.join(str(x.at(name)) for name in self.axes)})", binding=ATOM)

    def reference(self, run: Run, x: Named) -> Named:
        data = x.data
        for name in self.axes:
            n = x.size(name)
            data = data.index_select(x.at(name), run.torch.tensor([n - 1 - i for i in range(n)], dtype=run.torch.long))
        return run.named(data, x.names)
