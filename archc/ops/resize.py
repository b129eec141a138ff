"""Axes resampled to other sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import size_of
from archc.ir.types import Dim, TensorType
from archc.ops.base import Check, Code, Op, OpError, Reach, arg, need
from archc.ops.checks import choice, floating, result_type
from archc.ops.emission import fold, tuple_of
from archc.ops.move import integer
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run

A = -0.75  # of the cubic kernel, as torch has it
TAPS = {"nearest": 1, "bilinear": 2, "bicubic": 4}
# What torch calls the modes, by the number of axes.
NAMES = {
    ("nearest", 1): "nearest",
    ("nearest", 2): "nearest",
    ("nearest", 3): "nearest",
    ("bilinear", 1): "linear",
    ("bilinear", 2): "bilinear",
    ("bilinear", 3): "trilinear",
    ("bicubic", 2): "bicubic",
}


@dataclass(frozen=True)
class Resize(Op):
    """Resample axes to the sizes given, `resize(x, H=h, W=w)`, in any of the modes of torch's `interpolate`.

    With `align` the corner pixels of both grids meet, else the corners of their outer pixels. "bicubic" is
    Keys' kernel with a = -0.75, its taps clamped to the edge. FLOPs: taps of the mode (1, 4, 16) for each
    element.
    """

    name: ClassVar[str] = "resize"
    saves: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> resize(x, H=5, W=7)",
        'x: [B, C=4, H, W] -> resize(x, H=2 * x.H, W=2 * x.W, mode="bilinear")',
        'x: [B, C=4, H, W] -> resize(x, W=11, H=4, mode="bicubic")',
        'x: [C=4, Hp=5, Wp=7] -> resize(x, Hp=3, Wp=9, mode="bicubic", align=true)',
        'x: [B, N, C=4] -> resize(x, N=13, mode="bilinear", align=true)',
        'x: [heads=2, a=4, b=5] -> resize(x, a=7, b=3, mode="bilinear")',
    )
    sizes: Any = arg("sizes")
    mode: Any = arg("str", "nearest")
    align: Any = arg("bool", False)

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        floating(x, "`resize`")
        mode = choice(self.mode, "mode", tuple(TAPS))
        if not self.sizes:
            raise OpError("`resize` needs an axis with its new size", "E0204", help="write `resize(x, H=h, W=w)`")
        if (mode, len(self.sizes)) not in NAMES:
            raise OpError(
                f'`resize` in the mode "{mode}" does not work on {len(self.sizes)} axes at once',
                "E0303",
                argument="mode",
                help="bicubic takes two axes, the other modes one to three",
            )
        if self.align.value and mode == "nearest":
            raise OpError('`align` means nothing in the mode "nearest"', "E0213", argument="align")
        dims: dict[str, Dim | Size | int] = {}
        for name, size in self.sizes.items():
            check.at_least(need(x, name, "`resize`").size, 1, f"`resize` needs something along {name}")
            check.at_least(size_of(integer(size, name, 1)), 1, f"the new {name} must be at least 1")
            dims[name] = Dim.of(size)
        return (x.resized(**dims),)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ys[0].elements * TAPS[self.mode.value] ** len(self.sizes)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        if axis not in self.sizes:
            return Reach(axis)
        from fractions import Fraction

        old, new = xs[0][axis].size.constant, ys[0][axis].size.constant
        if not old or not new or self.align.value:
            return None
        stride = Fraction(old, new)
        reach = {"nearest": 1, "bilinear": 1, "bicubic": 2}[self.mode.value]
        return Reach(axis, stride, (stride - 1) / 2 - reach, (stride - 1) / 2 + reach, False)

    def torch(self, code: Code, x: Operand) -> Operand:
        type = result_type(self, x)
        x = x.merged(code)
        names = [name for name in x.type.names if name in self.sizes]
        ride = tuple(name for name in x.order if name not in names)
        x = x.to((*ride, *names))
        sizes = tuple_of([code.number(self.sizes[name]) for name in names])
        mode = NAMES[self.mode.value, len(names)]
        extra = "" if mode == "nearest" else f', mode="{mode}"'
        extra += ", align_corners=True" if self.align.value else ""
        if len(ride) == 1:
            return Operand(f"F.interpolate({x.atom}[None], {sizes}{extra})[0]", type, x.order)
        if not ride:
            return Operand(f"F.interpolate({x.atom}[None, None], {sizes}{extra})[0, 0]", type, x.order)
        order = x.order
        text, unfold = fold(code, x, len(ride), 2)
        return replace(x, text=f"F.interpolate({text}, {sizes}{extra}){unfold}", type=type, order=order, binding=ATOM)

    # ---- meaning

    def reference(self, run: Run, x: Named) -> Named:
        data, mode, align = x.data, run.number(self.mode), run.number(self.align)
        for name, size in self.sizes.items():
            n, m = x.size(name), run.number(size)
            weights = run.torch.zeros(m, n, dtype=run.torch.float64)
            for i in range(m):
                for place, weight in taps(mode, align, n, m, i):
                    weights[i, place] += weight
            data = run.torch.tensordot(data.movedim(x.at(name), -1), weights, dims=([-1], [1])).movedim(-1, x.at(name))
        return run.named(data, x.names)


def taps(mode: str, align: bool, n: int, m: int, i: int) -> list[tuple[int, float]]:
    """The places (of n) that place i of m is made from, with their weights."""
    if mode == "nearest":
        return [(min(i * n // m, n - 1), 1.0)]
    at = i * (n - 1) / (m - 1) if align and m > 1 else 0.0 if align else (i + 0.5) * n / m - 0.5
    if mode == "bilinear":
        at = max(at, 0.0)
        low = min(math.floor(at), n - 1)
        return [(low, 1 - (at - low)), (min(low + 1, n - 1), at - low)]
    low = math.floor(at)
    return [(min(max(low + j, 0), n - 1), cubic(abs(at - low - j))) for j in (-1, 0, 1, 2)]


def cubic(t: float) -> float:
    """Keys' interpolation kernel (1981)."""
    if t <= 1:
        return ((A + 2) * t - (A + 3)) * t * t + 1
    return ((A * t - 5 * A) * t + 8 * A) * t - 4 * A if t < 2 else 0.0
