"""Bilinear reads at computed places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, Op, OpError, Reach, arg, need
from archc.ops.checks import floating, result_type
from archc.ops.region import share
from archc.records import dataclass
from archc.sizes import Size
from archc.where.text import bound

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Sample(Op):
    """The map x read at real-valued places, bilinearly, zeros outside.

    `at` gives them in the unit box: along `axis` first x (the last position axis), then y; 0 and 1 are the
    outer edges of the map, so pixel i of n has its centre at (i + 0.5) / n. What rides along in both pairs up
    by name. The result has the axes of x without its positions, then the further axes of `at`. MACs: 4 per
    element.
    """

    name: ClassVar[str] = "sample"
    operands: ClassVar[str] = "x at"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W], p: [B, Q=5, xy=2] -> sample(x, p, xy)",
        "x: [B, heads=2, C=4, H, W], p: [B, Q=5, heads=2, point=3, xy=2] -> sample(x, p, xy)",
        "x: [C=4, H, W], p: [Q=5, xy=2] -> sample(x, p, xy)",
    )
    axis: Any = arg("axis", "xy")

    def infer(self, check: Check, x: TensorType, at: TensorType) -> tuple[TensorType, ...]:
        floating(x, "`sample`")
        floating(at, "`sample`")
        if len(x.positions) != 2:
            raise OpError(f"`sample` reads a map with two position axes, and this is {x}", "E0303")
        pair = need(at, self.axis, "`sample`")
        if pair.size.constant != 2:
            raise OpError(f"a place is a pair (x, y), and {self.axis} is {pair.size}", "E0301", argument="axis")
        places = {axis.name for axis in x.positions}
        clash = next((axis.name for axis in at.axes if axis.name in places), None)
        if clash is not None:
            raise OpError(
                f"the places of `sample` lie on {clash}, which is an axis of the map itself",
                "E0301",
                help=f'`rename(at, {clash}="...")` gives the axis of the places a name of its own',
            )
        if self.axis in x:
            raise OpError(f"the map of `sample` has the axis {self.axis} of the places: {x}", "E0301", argument="axis")
        share(check, x, at, [axis.name for axis in x.axes], "sample")
        kept = [axis for axis in x.axes if not axis.is_position]
        new = [axis for axis in at.axes if axis.name != self.axis and axis.name not in x]
        return (x.with_axes((*kept, *new)),)

    def macs(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ys[0].elements * 4

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return Reach(axis) if operand == 1 else None

    def torch(self, code: Code, x: Operand, at: Operand) -> Operand:
        type = result_type(self, x, at)
        x, at = x.merged(code), at.merged(code)
        positions = tuple(axis.name for axis in x.type.positions)
        new = tuple(n for n in at.order if n not in x.type and n != self.axis)
        # grid_sample has one batch axis, one of channels and two of places: what both have is the batch.
        shared = tuple(n for n in x.order if n in at.order)
        rest = tuple(n for n in x.order if n not in shared and n not in positions)
        x, at = x.to((*shared, *rest, *positions)), at.to((*shared, *new, self.axis))
        x = bound(code, x)
        at = bound(code, at, "at")
        s, r, q = len(shared), len(rest), len(new)
        image = x.text if r == 1 else f"{x}.unsqueeze({s})" if r == 0 else f"{x}.flatten({s}, {s + r - 1})"
        grid = at.text if q == 1 else f"{at}.unsqueeze({s})" if q == 0 else f"{at}.flatten({s}, {s + q - 1})"
        fold = f".flatten(0, {s - 1})" if s > 1 else "[None]" if s == 0 else ""
        image, grid = image + fold, grid + fold
        text = f"F.grid_sample({image}, 2 * {grid}[:, None] - 1, align_corners=False)[:, :, 0]"
        if s != 1:
            text += "[0]" if s == 0 else f".unflatten(0, {x}.shape[:{s}])"
        if q != 1:
            text += f".squeeze({s + 1})" if q == 0 else f".unflatten({s + 1}, {at}.shape[{s}:{s + q}])"
        if r != 1:
            text += f".squeeze({s})" if r == 0 else f".unflatten({s}, {x}.shape[{s}:{s + r}])"
        return Operand(text, type, (*shared, *rest, *new))

    def reference(self, run: Run, x: Named, at: Named) -> Named:
        assert x.type is not None
        torch = run.torch
        tall, wide = (axis.name for axis in x.type.positions)
        h, w = x.size(tall), x.size(wide)
        places = at.last(self.axis)
        points = tuple(name for name in at.names if name != self.axis)
        column, row = places[..., 0] * w - 0.5, places[..., 1] * h - 0.5
        data = x.last(tall, wide)
        rest = tuple(name for name in x.names if name not in (tall, wide))
        total, names = 0, rest
        # Every pixel weighs in with the product of two tents, which are zero a pixel away.
        for i, j in run.indices((h, w)):
            weight = (1 - (row - i).abs()).clamp(min=0) * (1 - (column - j).abs()).clamp(min=0)
            (value, tent), names = run.align(run.named(data[..., i, j], rest), run.named(weight, points))
            total = total + value * tent
        if h * w == 0:
            total = torch.zeros(0)
        return run.named(total, names)
