"""Neighborhoods: every query has its own taps around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.fusion.cores import Line
from archc.ir.sym import Const, Scalar, apply, const, size_of
from archc.ops.base import Check, Code, OpError, Reach, arg, per_axis
from archc.records import dataclass
from archc.sizes import Size
from archc.where.base import STAYS, Course, NoCourse, Places, fixed, numbers, one_of, same_positions, steady, unvaried
from archc.where.single import Single
from archc.where.text import TAP, bound, product_text, then, tuple_text

if TYPE_CHECKING:
    from archc.reference.named import Run


@dataclass(frozen=True)
class Neighborhood(Single):
    """k taps around the query, d apart: k(i, u) = i + d (u - (k - 1) / 2), k odd.

    `edge="shift"` moves the taps so that all of them are on the map (neighborhood attention, Hassani et al.
    2023, arXiv:2204.07143): with r = i mod d, q = i div d and n the number of positions with that r, k(i, u)
    = (clip(q - k div 2, 0, n - k) + u) d + r.
    """

    name: ClassVar[str] = "neighborhood"
    size: Any = arg("size")
    dilation: Any = arg("any", const(1))
    edge: Any = arg("str", "drop")
    on: Any = arg("axes", None)

    @property
    def rule(self) -> str | None:
        return one_of(self.edge, ("drop", "zero", "shift", "wrap", "clamp", "reflect"), "edge")

    def check(self, check: Check, at: Places) -> None:
        same_positions(check, at, self.name)
        moved = self.axes(at.names)
        sizes = numbers(self.size, len(moved), "size")
        dilations = numbers(self.dilation, len(moved), "dilation", fixed=False)
        for name, size, dilation in zip(moved, sizes, dilations, strict=True):
            k, d, n = fixed(size), size_of(dilation), at.key(name).size
            if k % 2 == 0:
                raise OpError(f"a neighborhood has an odd size, and {k} is even", "E0213", argument="size",
                              help=f"the nearest are {k - 1} and {k + 1}")  # fmt: skip
            if d.constant is None:
                check.at_least(d, 1, f"the dilation along {name} must be at least 1")
            if self.rule == "shift":
                check.at_least(n, d * k, f"a neighborhood of {k}, {d} apart, must fit into {name}")
            elif self.rule == "reflect":
                check.at_least(
                    n, d * (k // 2) + 1, f"a reflected neighborhood of {k}, {d} apart, needs that much {name}"
                )

    def counts(self, at: Places) -> tuple[Size, ...]:
        return tuple(Size.of(fixed(k)) for k in numbers(self.size, len(self.axes(at.names)), "size"))

    def count(self, code: Code, k: Operand, at: Places) -> str:
        return product_text([code.number(size) for size in numbers(self.size, len(self.axes(at.names)), "size")])

    def lines(self, at: Places) -> tuple[Line, ...]:
        count = len(self.axes(at.names))
        known = [steady(k, d) for k, d in zip(per_axis(self.size, count), per_axis(self.dilation, count), strict=True)]
        where = {"drop": "around", "zero": "around", "shift": "shifted"}.get(self.rule or "")
        if where is None or not all(known):
            return ()
        return tuple(Line(where, *numbers) for numbers in known if numbers)

    def reach(self, at: Places, axis: str) -> Reach | None:
        moved = self.axes(at.names)
        if axis not in moved:
            return Reach(axis)
        place = moved.index(axis)
        d = size_of(per_axis(self.dilation, len(moved))[place]).constant
        (down, _) = self.span(at)[place]
        if d is None or self.rule == "wrap" or down.constant is None:
            return None
        return Reach(axis, 1, -d * down.constant, d * down.constant, self.rule != "shift")

    def course(self, place: int, count: int) -> Course:
        size, dilation = per_axis(self.size, count)[place], unvaried(per_axis(self.dilation, count)[place])
        if self.rule not in ("drop", "zero", "shift"):
            raise NoCourse("keys beyond the edge are taken from the map a second time")
        half = Scalar(fixed(size) // 2, apply("//", size.sym, Const(2)))
        return replace(STAYS, halo=half, step=None if dilation == const(1) else dilation, edge=self.rule)

    # ---- meaning

    def _numbers(self, run: Run, place: int) -> tuple[int, int]:
        """(size, dilation) along a moved axis, in this run."""
        size, dilation = run.number(self.size), run.number(self.dilation)
        return (size[place] if isinstance(size, list) else size), (
            dilation[place] if isinstance(dilation, list) else dilation
        )

    def tap(self, run: Run, place: int, sizes: tuple[int, int], i: int, u: int) -> int:
        k, d = self._numbers(run, place)
        if self.rule != "shift":
            return i + d * (u - (k - 1) // 2)
        r, q = i % d, i // d
        n = (sizes[1] - r + d - 1) // d
        return (min(max(q - k // 2, 0), n - k) + u) * d + r

    def unit(self, run: Run, place: int, size: int) -> int:
        return self._numbers(run, place)[1]

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        reach = [(c.constant or 1) - 1 if self.rule == "shift" else (c.constant or 1) // 2 for c in self.counts(at)]
        return tuple((Size.of(r), Size.of(r)) for r in reach)

    # ---- PyTorch

    def rows(self, code: Code, place: int, size: str, device: str, count: int) -> str:
        """The text of the taps along one axis, [position, tap]."""
        k, d = per_axis(self.size, count)[place], per_axis(self.dilation, count)[place]
        parts = [size, code.number(k), code.number(d), device]
        parts += [f'"{self.rule}"'] if self.rule not in ("drop", "zero") else []
        return f"{code.helper('neighborhood_taps')}({', '.join(parts)})"

    def relative(self, code: Code, table: Operand, at: Places, sizes: Sequence[str], centre: str | None) -> Operand:
        moved, count = self.axes(at.names), len(sizes)
        lead = table.order[: len(table.order) - count]
        middle = [f"centre={centre}"] if centre else []
        kernels = per_axis(self.size, count)
        if self.rule == "shift":
            table = bound(code, table, "table")
            rows = []
            for size, k, d in zip(sizes, kernels, per_axis(self.dilation, count), strict=True):
                parts = (size, code.number(k), code.number(d), f"{table}.device")
                rows.append(f"{code.helper('neighborhood_offsets')}({', '.join(parts)})")
            parts = [str(table), f"[{', '.join(rows)}]", *middle]
            text = f"{code.helper('relative_taps')}({', '.join(parts)})"
            return then(table, text, (*lead, *moved, TAP))
        halves = [Scalar(-(k.value // 2), apply("neg", apply("//", k.sym, Const(2)))) for k in kernels]
        parts = [str(table), tuple_text(["1"] * count), tuple_text([code.number(k) for k in kernels])]
        parts += [f"start={tuple_text([code.number(h) for h in halves])}", *middle]
        text = f"{code.helper('relative_bias')}({', '.join(parts)})"
        shape = ", ".join(["-1"] * len(lead) + list(sizes) + ["-1"])
        return then(table, f"{text}.expand({shape})", (*lead, *moved, TAP))
