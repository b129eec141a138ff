"""A table read at the offset between each tap and its query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.fusion.cores import Offsets
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, Op, OpError, Reach, arg
from archc.ops.checks import result_type, whole
from archc.ops.region import Over, like_extents, no_taps, tap_axis
from archc.records import dataclass
from archc.sizes import Size
from archc.where.base import Places, chosen
from archc.where.text import TAP, once, opened

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Relative(Over, Op):
    """table[.., (key - query) / unit + centre] for every query and tap: biases by offset.

    The last axes of the table are the offsets (`[heads, dy, dx]`), one for each axis that the region moves
    along, or one for each that `on` names. The centre is (size - 1) / 2 unless given. The unit is the
    dilation of a neighborhood, the stride of a grid, else 1.
    """

    name: ClassVar[str] = "relative"
    operands: ClassVar[str] = "table like?"
    deferred: ClassVar[bool] = True
    makes_axis: ClassVar[bool] = True  # `on` names axes of the scores, not of the table
    saves: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = (
        "s: [B, heads=2, H, W, tap=9], t: [heads=2, dy=5, dx=5] -> s + relative(t, window(3))",
        's: [B, H, W, tap=9], t: [dy=5, dx=5] -> s + relative(t, neighborhood(3, dilation=2, edge="shift"))',
        "s: [B, H, W, tap=16], t: [dy=9, dx=9] -> s + relative(t, halo(2, 1), centre=4)",
        "s: [B, H, W, tap=16], t: [dx=9] -> s + relative(t, halo(2, 1), on=W)",
    )
    over: Any = arg("region")
    centre: Any = arg("any", None)
    on: Any = arg("axes", None)

    def _at(self, like: TensorType, extra: Sequence[Any]) -> Places:
        return self.places(like.positions, self.over.keyed(like.positions), extra)

    def _measured(self, at: Places) -> tuple[str, ...]:
        """The position axes whose offsets the table has."""
        return tuple(n for n in self.over.axes(at.names) if n in chosen(self.on, self.over.axes(at.names), self.name))

    def _offsets(self, table: TensorType, at: Places) -> tuple[str, ...]:
        """The axes of the table that are offsets, in the order of the positions."""
        count = len(self._measured(at))
        if len(table.axes) < count:
            message = f"the table needs an axis of offsets for each of {count} position axes, and is {table}"
            raise OpError(message, "E0303")
        return table.names[len(table.axes) - count :]

    def infer(self, check: Check, table: TensorType, like: TensorType, *extra: TensorType) -> tuple[TensorType, ...]:
        at = self._at(like, extra)
        if not at.q:
            raise OpError(f"`relative` needs a tensor with position axes beside it, and {like} has none", "E0302")
        no_taps(table, "the table of `relative`")
        self.over.check(check, at)
        span = dict(zip(self.over.axes(at.names), self.over.span(at), strict=True))
        offsets = self._offsets(table, at)
        for name, (down, up) in span.items():
            if name not in self._measured(at) and (down.constant is None or up.constant is None):
                raise OpError(f"`on` leaves out {name}, along which the offsets depend on the inputs", "E0304")
        for axis in table.axes:
            if axis.is_position and axis.name not in offsets:
                raise OpError(
                    f"the axes of a table ride along or are offsets, and {axis.name} is a position axis",
                    "E0301",
                )
        for name, axis in zip(self._measured(at), offsets, strict=True):
            down, up = span[name]
            size = table[axis].size
            if size.constant is None:
                raise OpError(f"the table of `relative` has a fixed size, and {axis} is {size}", "E0304")
            if self.centre is None and size.constant % 2 == 0:
                raise OpError(
                    f"{axis} is {size}, and a table without a middle needs its `centre`",
                    "E0213",
                    help="give the table an odd size, or write `centre=n`",
                )
            middle = (size.constant - 1) // 2 if self.centre is None else whole(self.centre, "centre", 0)
            for reach, room in ((down, middle), (up, size.constant - 1 - middle)):
                check.at_least(
                    Size.of(room),
                    reach,
                    f"the offsets along {name} must fit into {axis} of the table",
                    "E0331",
                )
        rest = tuple(axis for axis in table.axes if axis.name not in offsets)
        return (table.with_axes((*rest, *at.q, tap_axis(self.over, at))),)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def core(self, table: TensorType, like: TensorType, *extra: TensorType) -> Offsets:
        return Offsets(self.over, self._measured(self._at(like, extra)), self.centre)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return Reach(axis)

    def torch(self, code: Code, table: Operand, like: Operand, *extra: Operand) -> Operand:
        at, code = self._at(like.type, extra), once(code)
        type = result_type(self, table, like, *extra)
        table = self._completed(table.merged(code).last(*self._offsets(table.type, at)), at)
        centre = None if self.centre is None else code.number(self.centre)
        y = self.over.bias(code, table, at, like_extents(code, like, at.names), centre)
        return replace(y, type=type)

    def _completed(self, table: Operand, at: Places) -> Operand:
        """The table with an axis of offsets for every axis that the region moves along: the same along new ones."""
        measured, moved = self._measured(at), self.over.axes(at.names)
        if len(measured) == len(moved):
            return table
        rest = table.order[: len(table.order) - len(measured)]
        axes = dict(zip(measured, table.order[len(rest) :], strict=True))
        order = (*rest, *(axes.get(name, f"@{name}") for name in moved))
        shape = ["-1"] * len(rest)
        for name, (down, up) in zip(moved, self.over.span(at), strict=True):
            reach = max(down.constant or 0, up.constant or 0)
            centre = reach if self.centre is None else max(self.centre.value, reach)
            shape.append("-1" if name in measured else str(centre + reach + 1))
        table = opened(table, order)
        return replace(table, text=f"{table.atom}.expand({', '.join(shape)})")

    def reference(self, run: Run, table: Named, like: Named, *extra: Named) -> Named:
        assert like.type is not None and table.type is not None
        at = self._at(like.type, extra)
        axes = self._offsets(table.type, at)
        data = table.last(*axes)
        rest = tuple(name for name in table.names if name not in axes)
        places = []
        offsets = dict(zip(self.over.axes(at.names), self.over.offsets(run, at), strict=True))
        for axis, name in zip(axes, self._measured(at), strict=True):
            offset = offsets[name]
            centre = (table.size(axis) - 1) // 2 if self.centre is None else run.number(self.centre)
            places.append(offset + centre)
        found = data[(..., *places)]
        sizes = [run.size(axis.size) for axis in at.q]
        return run.named(found.reshape(*found.shape[: len(rest)], *sizes, found.shape[-1]), (*rest, *at.names, TAP))
