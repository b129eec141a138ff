"""A region on a map that is rolled round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.ir.sym import Scalar, apply
from archc.ops.base import Check, Code, OpError, Reach, arg
from archc.records import dataclass
from archc.sizes import Size
from archc.where import emit
from archc.where.base import Block, Form, Piece, Places, Region, numbers, one_of, unvaried
from archc.where.emit import query_sizes
from archc.where.local import Local
from archc.where.text import TAP, arrange, probe, then, trailing, tuple_text

if TYPE_CHECKING:
    from archc.reference.named import Run


@dataclass(frozen=True)
class Shifted(Region):
    """R at (i + s) mod S, its taps moved back by s mod S: windows that start s places before the map.

    The map is taken as a ring. `edge="drop"` takes away the taps that lie on the other side of the seam (the
    mask of shifted windows, Liu et al. 2021, arXiv:2103.14030, where the shift is written as s = -3).
    """

    name: ClassVar[str] = "shifted"
    region: Any = arg("region")
    shift: Any = arg("any")
    edge: Any = arg("str", "wrap")

    @property
    def grouped(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.region.grouped

    def axes(self, names: Sequence[str]) -> tuple[str, ...]:
        return self.region.axes(names)

    @property
    def gaps(self) -> bool:
        return self.region.gaps or self.edge.value == "drop"

    @property
    def leaks(self) -> bool:
        return self.edge.value == "drop"

    def blocks(self, names: Sequence[str]) -> tuple[Block, ...] | None:
        inner, moved = self.region.blocks(names), self.axes(names)
        if inner is None:
            return None
        shifts = dict(zip(moved, self._shifts(len(moved)), strict=True))
        seam = self.edge.value == "drop"
        return tuple(
            Block(block.kind, block.size, shifts[name], seam) if name in shifts else block
            for name, block in zip(names, inner, strict=True)
        )

    def pieces(self, at: Places) -> tuple[Piece, ...]:
        moved = self.axes(at.names)
        shifts = dict(zip(moved, map(unvaried, self._shifts(len(moved))), strict=True))
        seam = self.edge.value == "drop"
        return tuple(
            replace(
                piece,
                courses=tuple(
                    (name, replace(course, roll=shifts[name], seam=seam) if name in shifts else course)
                    for name, course in piece.courses
                ),
            )
            for piece in self.region.pieces(at)
        )

    def _shifts(self, count: int) -> tuple[Scalar, ...]:
        return numbers(self.shift, count, "shift", least=-(2**31), fixed=False)

    def check(self, check: Check, at: Places) -> None:
        one_of(self.edge, ("wrap", "drop"), "edge")
        if not isinstance(self.region, Local) or self.region.queried(at.k) != tuple(at.k):
            raise OpError(
                "`shifted` takes one region that relates a map to itself, without a stride",
                "E0213",
                argument="region",
            )
        self._shifts(len(self.axes(at.names)))
        self.region.check(check, at)

    def taps(self, at: Places) -> Size:
        return self.region.taps(at)

    def gathered(self, at: Places) -> Size:
        return self.region.gathered(at)

    def reach(self, at: Places, axis: str) -> Reach | None:
        # On the ring, queries beside the seam see the far end of the map, unless it is cut there.
        return self.region.reach(at, axis) if self.edge.value == "drop" else super().reach(at, axis)

    def numbered(self, at: Places) -> tuple[str, ...]:
        return self.region.numbered(at)

    def count(self, code: Code, k: Operand, at: Places) -> str:
        return self.region.count(code, k, at)

    # ---- meaning

    def _moved(self, run: Run, at: Places) -> Any:
        """For each flat position, the flat position (i + s) mod S."""
        torch = run.torch
        sizes = [run.size(axis.size) for axis in at.q]
        moved = self.axes(at.names)
        shifts = dict(zip(moved, [run.number(s) for s in self._shifts(len(moved))], strict=True))
        flat = torch.arange(math.prod(sizes)).reshape(sizes)
        for place, name in enumerate(at.names):
            if name in shifts:
                flat = flat.index_select(place, (torch.arange(sizes[place]) + shifts[name]) % sizes[place])
        return flat.reshape(-1)

    def index(self, run: Run, at: Places) -> tuple[Any, Any]:
        torch = run.torch
        to = self._moved(run, at)
        back = torch.argsort(to)
        index, valid = self.region.index(run, at)
        index, valid = index[to], valid[to]
        moved = torch.where(index >= 0, back[index.clamp(min=0)], index)
        if self.edge.value == "drop":
            side = self._side(run, at)
            valid = valid & ((side[:, None] == side[moved.clamp(min=0)]) | (moved < 0))
            moved = moved.masked_fill(~valid, -1)
        return moved, valid

    def _side(self, run: Run, at: Places) -> Any:
        """For each flat position, which axes wrap round the seam when s is added, as a number."""
        sizes = [run.size(axis.size) for axis in at.q]
        moved = self.axes(at.names)
        shifts = dict(zip(moved, [run.number(s) for s in self._shifts(len(moved))], strict=True))
        sides = []
        for i in run.indices(sizes):
            wraps = [(p + shifts.get(name, 0) % n) // n for p, n, name in zip(i, sizes, at.names, strict=True)]
            sides.append(sum(w << place for place, w in enumerate(wraps)))
        return run.torch.tensor(sides)

    def offsets(self, run: Run, at: Places) -> Any:
        return self.region.offsets(run, at)[:, self._moved(run, at)]

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        return self.region.span(at)

    # ---- PyTorch

    def _rolled(self, code: Code, x: Operand, names: Sequence[str], back: bool = False) -> Operand:
        """`x` with position i at (i + s) mod S, or back."""
        moved = self.axes(names)
        shifts = [code.number(s) for s in self._shifts(len(moved))]
        if back:
            shifts = [code.number(Scalar(-s.value, apply("neg", s.sym))) for s in self._shifts(len(moved))]
        dims = ", ".join(str(x.at(name)) for name in moved)
        comma = "," if len(moved) == 1 else ""
        return then(x, f"{x.atom}.roll({tuple_text(shifts)}, dims=({dims}{comma}))", x.order)

    def queries(self, code: Code, x: Operand, at: Places) -> Operand:
        if not self.grouped:
            return arrange(x, at.names, trailing(x, at.names))
        return self.region.queries(code, self._rolled(code, x, at.names), at)

    def keys(self, code: Code, x: Operand, at: Places) -> Operand:
        keys = self.region.keys(code, self._rolled(code, x, at.names), at)
        return keys if self.grouped else self._rolled(code, keys, at.names, back=True)

    def merge(self, code: Code, x: Operand, form: Form) -> Operand:
        inner = Form(self.region, form.axes, form.extents)
        return self._rolled(code, inner.merge(code, replace(x, where=inner)), form.axes, back=True)

    def mask(self, code: Code, k: Operand, at: Places) -> Operand | None:
        inside = emit.mask(self, code, k, at) if self.region.gaps else None
        if self.edge.value != "drop":
            return inside
        moved = self.axes(at.names)
        shifts = dict(zip(moved, (code.number(s) for s in self._shifts(len(moved))), strict=True))
        sizes = [code.extent(k, name) for name in at.names]
        parts = (
            tuple_text(sizes),
            tuple_text([shifts.get(name, "0") for name in at.names]),
            f"{k.atom}.device",
        )
        # Sides count from 1 where some taps are zeros without a key: those are on no side, and are there.
        zeros = self.region.rule == "zero"
        side = code.let(f"{code.helper('seam_sides')}({', '.join(parts)})" + " + 1" * zeros, "side")
        queries, keys = self.queries(code, probe(side, at.q), at), self.keys(code, probe(side, at.k), at)
        theirs = f"{keys.atom}.transpose(-2, -1)" if self.grouped else f"{keys.atom}[..., 0]"
        if zeros:
            theirs = code.let(theirs, "theirs")
        text = f"({queries.atom} == {theirs}) | ({theirs} == 0)" if zeros else f"{queries.atom} == {theirs}"
        if inside is not None:
            text = f"({text}) & {inside.atom}" + (".unsqueeze(-2)" if self.grouped else "")
        order = (*(name for name in queries.order if name != "C"), TAP)
        form = Form(self, at.names, query_sizes(code, k, at)) if self.grouped else None
        return Operand(code.let(text, "valid"), k.type, order, where=form)

    def bias(self, code: Code, table: Operand, at: Places, sizes: dict[str, str], centre: str | None) -> Operand:
        y = self.region.bias(code, table, at, sizes, centre)
        if isinstance(y.where, Form):
            return replace(y, where=Form(self, at.names, y.where.extents))
        return self._rolled(code, y, at.names, back=True)
