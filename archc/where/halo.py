"""Blocks of queries that also see what lies around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.fusion.cores import Line
from archc.ir.sym import Const, Scalar, apply
from archc.ir.types import Axis
from archc.ops.base import Check, Code, OpError, Reach, arg, per_axis
from archc.records import dataclass
from archc.sizes import Size
from archc.where.base import Course, Form, Places, fixed, numbers, one_of, same_positions, steady
from archc.where.blocks import Blocks, number_at
from archc.where.emit import query_sizes
from archc.where.text import GROUPS, TAP, bound, product_text, then, tuple_text

if TYPE_CHECKING:
    from archc.reference.named import Run


@dataclass(frozen=True)
class Halo(Blocks):
    """Blocks of b that also see h positions on every side: k(i, u) = b floor(i / b) - h + u, 0 <= u < b + 2h.

    With `stride=s` the queries lie on every s-th position (b / s of them in a block). Taps outside the map
    are none, or with `edge="zero"` a key and value 0 that take part (HaloNet, Vaswani et al. 2021). Offsets
    are measured from the query's position, or with `query="coarse"` from its number on the strided map.
    """

    name: ClassVar[str] = "halo"
    block: Any = arg("size")
    halo: Any = arg("size")
    stride: Any = arg("size", 1)
    edge: Any = arg("str", "drop")
    query: Any = arg("str", "fine")
    on: Any = arg("axes", None)

    def _steps(self, count: int) -> list[tuple[int, int, int]]:
        """(block, halo, stride) for each axis."""
        steps = []
        for block, halo, stride in zip(
            numbers(self.block, count, "block"),
            numbers(self.halo, count, "halo", 0),
            numbers(self.stride, count, "stride"),
            strict=True,
        ):
            if fixed(block) % fixed(stride):
                raise OpError(
                    f"the stride {fixed(stride)} must divide the block of {fixed(block)}",
                    "E0321",
                    argument="stride",
                )
            steps.append((fixed(block), fixed(halo), fixed(stride)))
        return steps

    def cut(self, count: int) -> tuple[Scalar, ...]:
        self._steps(count)
        blocks, strides = per_axis(self.block, count), per_axis(self.stride, count)
        return tuple(
            b if fixed(s) == 1 else Scalar(fixed(b) // fixed(s), apply("//", b.sym, s.sym))
            for b, s in zip(blocks, strides, strict=True)
        )

    def _ratios(self, axes: Sequence[Axis]) -> tuple[int, ...]:
        moved = self.axes([axis.name for axis in axes])
        steps = dict(zip(moved, self._steps(len(moved)), strict=True))
        return tuple(steps[axis.name][2] if axis.name in steps else 1 for axis in axes)

    def queried(self, k: Sequence[Axis], extra: Sequence[Any] = ()) -> tuple[Axis, ...]:
        return tuple(
            axis if ratio == 1 else axis.sized(axis.dim // ratio)
            for axis, ratio in zip(k, self._ratios(k), strict=True)
        )

    def keyed(self, q: Sequence[Axis]) -> tuple[Axis, ...]:
        return tuple(
            axis if ratio == 1 else axis.sized(axis.dim * ratio)
            for axis, ratio in zip(q, self._ratios(q), strict=True)
        )

    def check(self, check: Check, at: Places) -> None:
        one_of(self.edge, ("drop", "zero"), "edge")
        one_of(self.query, ("fine", "coarse"), "query")
        same_positions(check, at, self.name, self._ratios(at.q))
        moved = self.axes(at.names)
        for name, (block, _, _) in zip(moved, self._steps(len(moved)), strict=True):
            check.divides(Size.of(block), at.key(name).size, f"a block of {block} must divide {name}")

    def counts(self, at: Places) -> tuple[Size, ...]:
        return tuple(Size.of(b + 2 * h) for b, h, _ in self._steps(len(self.axes(at.names))))

    def count(self, code: Code, k: Operand, at: Places) -> str:
        moved = len(self.axes(at.names))
        pairs = zip(numbers(self.block, moved, "block"), numbers(self.halo, moved, "halo", 0), strict=True)
        sizes = [
            Scalar(fixed(b) + 2 * fixed(h), apply("+", b.sym, apply("*", Const(2), h.sym))) for b, h in pairs
        ]
        return product_text([code.number(size) for size in sizes])

    def course(self, place: int, count: int) -> Course:
        base, halo = per_axis(self.block, count)[place], per_axis(self.halo, count)[place]
        edge = "drop" if self.rule is None else self.rule
        coarse = self.query.value == "coarse" and self.cut(count)[place] != base
        return Course(block=self.cut(count)[place], base=base, halo=halo, edge=edge, coarse=coarse)

    def tap(self, run: Run, place: int, sizes: tuple[int, int], i: int, u: int) -> int:
        b, h, s = (fixed(number_at(v, place)) for v in (self.block, self.halo, self.stride))
        return b * (i * s // b) - h + u

    def origin(self, i: int, place: int) -> int:
        if self.query.value == "coarse":
            return self._coarse_origin(i, place)
        return i * fixed(number_at(self.stride, place))

    def reach(self, at: Places, axis: str) -> Reach | None:
        moved = self.axes(at.names)
        if axis not in moved:
            return Reach(axis)
        b, h, s = self._steps(len(moved))[moved.index(axis)]
        return Reach(axis, s, -(b - s + h), b - 1 + h, False)

    def lines(self, at: Places) -> tuple[Line, ...]:
        count = len(self.axes(at.names))
        if steady(*(n for v in (self.block, self.halo, self.stride) for n in per_axis(v, count))) is None:
            return ()
        return tuple(Line("blocks", b + 2 * h, block=b, stride=s) for b, h, s in self._steps(count))

    def _coarse_origin(self, i: int, place: int) -> int:
        """The start of the block, and the query's number within it."""
        b, s = (fixed(number_at(v, place)) for v in (self.block, self.stride))
        return b * (i * s // b) + i % (b // s)

    def keys(self, code: Code, x: Operand, at: Places) -> Operand:
        ride, moved = self._split(at)
        x, lead = self._arranged(x, at)
        x = bound(code, x, "k")
        last = x.order[-1]
        text = f"{code.helper('take_taps')}({x}, {self._places(code, x, moved)}, absent=True)"
        if len(ride) + len(moved) > 1:
            text += f".flatten({len(lead)}, {len(lead) + len(ride) + len(moved) - 1})"
        x = then(x, text, (*lead, GROUPS, TAP, last))
        return then(x, f"{x.atom}[..., 0]", x.order[:-1]) if last == "@last" else x

    def _places(self, code: Code, x: Operand, moved: Sequence[str]) -> str:
        """The name of the taps of every block along all axes of a map."""
        rows = []
        for name, block, halo in zip(
            moved, per_axis(self.block, len(moved)), per_axis(self.halo, len(moved)), strict=True
        ):
            parts = (code.extent(x, name), code.number(block), code.number(halo), f"{x}.device")
            rows.append(f"{code.helper('halo_taps')}({', '.join(parts)})")
        return code.let(f"[{', '.join(rows)}]", "taps")

    def mask(self, code: Code, k: Operand, at: Places) -> Operand | None:
        if not self.gaps or len(self.axes(at.names)) < len(at.names):
            return super().mask(code, k, at)
        k, _ = self._arranged(k, at)
        k = bound(code, k, "k")
        sizes = tuple_text([code.extent(k, name) for name in at.names])
        text = f"{code.helper('taps_inside')}({self._places(code, k, at.names)}, {sizes})"
        if len(at.names) > 1:
            text += f".flatten(0, {len(at.names) - 1})"
        form = Form(self, at.names, query_sizes(code, k, at))
        return Operand(code.let(text, "valid"), k.type, (GROUPS, TAP), where=form)

    def relative(self, code: Code, table: Operand, at: Places, sizes: Sequence[str], centre: str | None) -> Operand:
        count = len(sizes)
        blocks, halos, strides = (per_axis(v, count) for v in (self.block, self.halo, self.stride))
        reach = [
            Scalar(fixed(b) + 2 * fixed(h), apply("+", b.sym, apply("*", Const(2), h.sym)))
            for b, h in zip(blocks, halos, strict=True)
        ]
        start = [code.number(Scalar(-fixed(h), apply("neg", h.sym))) for h in halos]
        step = [code.number(s) for s in strides]
        if self.query.value == "coarse" or all(fixed(s) == 1 for s in strides):
            step = None
        return self._bias(code, table, [code.number(r) for r in reach], centre, start=start, step=step)

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        coarse = self.query.value == "coarse"
        return tuple(
            (Size.of((b // s - 1) * (1 if coarse else s) + h), Size.of(b + h - 1))
            for b, h, s in self._steps(len(self.axes(at.names)))
        )
