"""Combinations of two regions on axes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.fusion.cores import Line
from archc.ops.base import Check, Code, OpError, Reach
from archc.records import dataclass
from archc.sizes import Size
from archc.where.base import STAYS, NoCourse, Piece, Places, Region
from archc.where.blocks import Grid, Window
from archc.where.lines import Everywhere, Self
from archc.where.neighborhood import Neighborhood
from archc.where.single import Single
from archc.where.text import product_text

if TYPE_CHECKING:
    from archc.reference.named import Run


@dataclass(frozen=True)
class Product(Single):
    """Every tap of R along R's axes with every tap of Q along Q's; R's taps are the slow ones.

    A part without `on=` takes the axes that the other leaves.
    """

    name: ClassVar[str] = "*"
    left: Region
    right: Region

    def _parts(self, names: Sequence[str]) -> tuple[tuple[Any, tuple[str, ...]], tuple[Any, tuple[str, ...]]]:
        """Each part with the axes it moves along. Raises OpError."""
        for part in (self.left, self.right):
            if not isinstance(part, (Everywhere, Self, Window, Grid, Neighborhood, Product)) or part.rule == "zero":
                raise OpError(
                    f"`*` does not combine `{part.name}` with another region",
                    "E0213",
                    argument="over",
                    help="it combines everywhere, self, window, grid and neighborhood on axes of their own",
                )
        told = [isinstance(part, Product) or getattr(part, "on", None) is not None for part in (self.left, self.right)]
        mine = (
            self.left.axes(names)
            if told[0]
            else tuple(n for n in names if not told[1] or n not in self.right.axes(names))
        )
        theirs = self.right.axes(names) if told[1] else tuple(n for n in names if n not in mine)
        if set(mine) & set(theirs) or not mine or not theirs:
            raise OpError(
                "the parts of a product of regions move along axes of their own",
                "E0213",
                argument="over",
                help="name the axes, as in `window(2, on=T) * everywhere`",
            )
        return (self.left, mine), (self.right, theirs)

    def _places(self, at: Places) -> tuple[tuple[Any, Places], ...]:
        """Each part with its part of the map."""
        return tuple(
            (part, Places(*(tuple(axis for axis in side if axis.name in names) for side in (at.q, at.k))))
            for part, names in self._parts(at.names)
        )

    def axes(self, names: Sequence[str]) -> tuple[str, ...]:
        (_, mine), (_, theirs) = self._parts(names)
        return mine + theirs

    @property
    def rule(self) -> str | None:
        return "drop" if self.gaps else None

    @property
    def gaps(self) -> bool:
        return self.left.gaps or self.right.gaps

    @property
    def absent(self) -> bool:
        return self.gaps

    def check(self, check: Check, at: Places) -> None:
        if {axis.name for axis in at.k} != set(at.names):
            raise OpError("a product of regions needs queries and keys on the same axes", "E0301", argument="over")
        moved = self.axes(at.names)
        for axis in at.q:
            if axis.name not in moved:
                check.equal(at.key(axis.name).size, axis.size, f"queries and keys must have the same {axis.name}")
        for part, here in self._places(at):
            part.check(check, here)

    def counts(self, at: Places) -> tuple[Size, ...]:
        return tuple(count for part, here in self._places(at) for count in part.counts(here))

    def count(self, code: Code, k: Operand, at: Places) -> str:
        return product_text([part.count(code, k, here) for part, here in self._places(at)])

    def lines(self, at: Places) -> tuple[Line, ...]:
        parts = [part.lines(here) for part, here in self._places(at)]
        return tuple(line for lines in parts for line in lines) if all(parts) else ()

    def reach(self, at: Places, axis: str) -> Reach | None:
        for part, here in self._places(at):
            if axis in here.names:
                return part.reach(here, axis)
        return Reach(axis)

    def pieces(self, at: Places) -> tuple[Piece, ...]:
        found = {name: course for part, here in self._places(at) for name, course in part.pieces(here)[0].courses}
        if self.axes(at.names) != tuple(name for name in at.names if name in found):
            raise NoCourse("its taps do not run in the order of the axes")
        return (Piece(tuple((name, found.get(name, STAYS)) for name in at.names)),)

    # ---- meaning

    def along(self, run: Run, at: Places, name: str, settled: bool) -> Any:
        part, here = next((part, here) for part, here in self._places(at) if name in here.names)
        return part.along(run, here, name, settled)

    def steps(self, run: Run, at: Places, name: str) -> Any:
        part, here = next((part, here) for part, here in self._places(at) if name in here.names)
        return part.steps(run, here, name)

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        raise OpError(
            "`relative` is not defined for a product of regions",
            "E0213",
            argument="over",
            help="add a table for each part, or write the positions' own terms",
        )

    # ---- PyTorch

    def places(self, code: Code, x: Operand, moved: Sequence[str]) -> str:
        rows = []
        for part, names in self._parts([name for name in x.type.names if name in moved]):
            for place, name in enumerate(names):
                rows.append(part.rows(code, place, code.extent(x, name), f"{x}.device", len(names)))
        return code.let(f"[{', '.join(rows)}]", "taps")
