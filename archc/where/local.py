"""Regions that are one map per axis: in several axes the taps are all combinations, the last axis fastest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archc.backend.operand import Operand
from archc.ops.base import Code
from archc.records import dataclass
from archc.sizes import Size
from archc.where.base import STAYS, Course, Form, NoCourse, Piece, Places, Region, chosen, one_of
from archc.where.emit import spread

if TYPE_CHECKING:
    from archc.reference.named import Run

EDGES = (None, "drop", "zero", "wrap", "clamp", "reflect")
# Keys that a tap outside the map may have: none (drop), a zero that takes part (zero), or a real one.
NONE, ZERO = -2, -1


def settle(edge: str | None, raw: int, size: int) -> int:
    """The position that a tap at `raw` has on an axis of `size`, or ZERO, or NONE."""
    if 0 <= raw < size:
        return raw
    match edge:
        case "wrap":
            return raw % size
        case "clamp":
            return min(max(raw, 0), size - 1)
        case "reflect":
            period = max(2 * (size - 1), 1)
            raw %= period
            return raw if raw < size else period - raw
        case "zero":
            return ZERO
        case _:
            return NONE


@dataclass(frozen=True)
class Local(Region):
    """A region whose taps along an axis depend on the position along that axis alone.

    Subclasses say `count` (taps along an axis), `tap` (the formula), `unit` (what an offset is measured in),
    and have the fields `edge` and `on`.
    """

    def axes(self, names: Sequence[str]) -> tuple[str, ...]:
        return chosen(getattr(self, "on", None), names, self.name)

    @property
    def rule(self) -> str | None:
        """What a tap outside the map is."""
        return one_of(getattr(self, "edge", None), EDGES, "edge")

    @property
    def gaps(self) -> bool:
        return self.rule == "drop"

    def counts(self, at: Places) -> tuple[Size, ...]:
        """How many taps there are along each axis it moves along."""
        raise NotImplementedError

    def taps(self, at: Places) -> Size:
        total = Size.of(1)
        for count in self.counts(at):
            total = total * count
        return total

    def course(self, place: int, count: int) -> Course:
        """The region along moved axis `place` of `count`. Raises NoCourse."""
        raise NoCourse(f"the keys of `{self.name}` are not known by arithmetic")

    def pieces(self, at: Places) -> tuple[Piece, ...]:
        moved = self.axes(at.names)
        if {axis.name for axis in at.k} != set(at.names):
            raise NoCourse("its keys lie on axes of their own")
        courses = {name: self.course(place, len(moved)) for place, name in enumerate(moved)}
        return (Piece(tuple((name, courses.get(name, STAYS)) for name in at.names)),)

    # ---- meaning

    def tap(self, run: Run, place: int, sizes: tuple[int, int], i: int, u: int) -> int:
        """Tap `u` of query `i` along moved axis `place`, for `sizes` (queries, keys); may leave the map."""
        raise NotImplementedError

    def unit(self, run: Run, place: int, size: int) -> int:
        """What offsets along moved axis number `place` are measured in."""
        return 1

    def origin(self, i: int, place: int) -> int:
        """The position among the keys from which offsets of query `i` are measured."""
        return i

    def index(self, run: Run, at: Places) -> tuple[Any, Any]:
        torch = run.torch
        moved, counts = self.axes(at.names), [run.size(count) for count in self.counts(at)]
        sizes = [run.size(axis.size) for axis in at.q]
        flat, absent, zero, stride = 0, False, False, 1
        for axis in reversed(at.k):
            where, size = at.names.index(axis.name), run.size(axis.size)
            if axis.name in moved:
                place = moved.index(axis.name)
                grid = self.along(run, at, axis.name, settled=True)
                shape = [1] * (len(sizes) + len(moved))
                shape[where], shape[len(sizes) + place] = grid.shape
            else:
                grid = torch.arange(size)
                shape = [size if i == where else 1 for i in range(len(sizes))] + [1] * len(moved)
            grid = grid.reshape(shape)
            flat, absent, zero = flat + grid * stride, absent | (grid == NONE), zero | (grid == ZERO)
            stride *= size
        full = (*sizes, *counts)
        flat, absent, zero = (t.expand(full).reshape(-1, math.prod(counts)) for t in (flat, absent, zero))
        return flat.masked_fill(absent | zero, -1), ~absent

    def along(self, run: Run, at: Places, name: str, settled: bool) -> Any:
        """The taps along one moved axis, [queries, taps]: as the formula has them, or settled by the edge."""
        place = self.axes(at.names).index(name)
        queries, keys = (run.size(next(a for a in side if a.name == name).size) for side in (at.q, at.k))
        count = run.size(self.counts(at)[place])
        rows = [[self.tap(run, place, (queries, keys), i, u) for u in range(count)] for i in range(queries)]
        if settled:
            rows = [[settle(self.rule, raw, keys) for raw in row] for row in rows]
        return run.torch.tensor(rows, dtype=run.torch.long).reshape(queries, count)

    def steps(self, run: Run, at: Places, name: str) -> Any:
        """The offsets along one moved axis, [queries, taps]."""
        place = self.axes(at.names).index(name)
        raw = self.along(run, at, name, settled=False)
        start = run.torch.tensor([self.origin(i, place) for i in range(raw.shape[0])], dtype=run.torch.long)
        return (raw - start[:, None]) // self.unit(run, place, run.size(at.key(name).size))

    def offsets(self, run: Run, at: Places) -> Any:
        torch = run.torch
        moved, counts = self.axes(at.names), [run.size(count) for count in self.counts(at)]
        sizes = [run.size(axis.size) for axis in at.q]
        result = []
        for place, name in enumerate(moved):
            where = at.names.index(name)
            grid = self.steps(run, at, name)
            shape = [1] * (len(sizes) + len(moved))
            shape[where], shape[len(sizes) + place] = grid.shape
            result.append(grid.reshape(shape).expand(*sizes, *counts).reshape(-1, math.prod(counts)))
        return torch.stack(result)

    # ---- PyTorch

    def rows(self, code: Code, place: int, size: str, device: str, count: int) -> str:
        """The text of the taps along one axis of `size`, [position, tap]."""
        raise NotImplementedError

    def relative(self, code: Code, table: Operand, at: Places, sizes: Sequence[str], centre: str | None) -> Operand:
        """The table at the offsets of the taps, in the region's form; its offset axes lie innermost.

        `sizes` are the extents of the moved axes; `centre` is a text only where it is not the middle of the
        table.
        """
        raise NotImplementedError

    def bias(self, code: Code, table: Operand, at: Places, sizes: dict[str, str], centre: str | None) -> Operand:
        moved = self.axes(at.names)
        y = self.relative(code, table, at, [sizes[name] for name in moved], centre)
        if self.grouped:
            return replace(y, where=Form(self, at.names, tuple(sizes[name] for name in at.names)))
        return spread(y, at.names, [sizes[name] for name in at.names])
