"""Regions that span whole axes (everywhere, rows, columns), and the query's own position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.fusion.cores import Line
from archc.ops.base import Check, Code, OpError, Reach, arg
from archc.records import dataclass
from archc.sizes import Size
from archc.where.base import STAYS, Block, Course, Form, Places, chosen, same_positions
from archc.where.local import Local
from archc.where.text import GROUPS, QUERIES, TAP, arrange, product_text, then, trailing, tuple_text

if TYPE_CHECKING:
    from archc.reference.named import Run


@dataclass(frozen=True)
class Span(Local):
    """Regions that span whole axes of the keys and stay where they are on the others."""

    grouped: ClassVar[bool] = True

    @property
    def gaps(self) -> bool:
        return False

    def check(self, check: Check, at: Places) -> None:
        moved = self.axes(at.names)
        for axis in at.q:
            if axis.name not in moved:
                if axis.name not in {a.name for a in at.k}:
                    raise OpError(
                        f"`{self.name}` stays at one {axis.name}, and the keys have no axis {axis.name}",
                        "E0302",
                    )
                check.equal(
                    at.key(axis.name).size,
                    axis.size,
                    f"queries and keys of `{self.name}` must have the same {axis.name}",
                )
        if not self._spanned(at):
            raise OpError(f"`{self.name}` needs keys with a position axis", "E0302")

    def blocks(self, names: Sequence[str]) -> tuple[Block, ...]:
        moved = self.axes(names)
        return tuple(Block("whole" if name in moved else "alone") for name in names)

    def course(self, place: int, count: int) -> Course:
        return Course()

    def _ride(self, at: Places) -> tuple[str, ...]:
        moved = self.axes(at.names)
        return tuple(name for name in at.names if name not in moved)

    def _spanned(self, at: Places) -> tuple[str, ...]:
        ride = self._ride(at)
        return tuple(axis.name for axis in at.k if axis.name not in ride)

    def gathered(self, at: Places) -> Size:
        return math.prod((axis.size for axis in at.k), start=Size.of(1))

    def numbered(self, at: Places) -> tuple[str, ...]:
        return self._spanned(at)

    def counts(self, at: Places) -> tuple[Size, ...]:
        return tuple(at.key(name).size for name in self._spanned(at))

    def lines(self, at: Places) -> tuple[Line, ...]:
        moved = self.axes(at.names)
        return (Line("blocks", 0),) * len(moved) if moved == self._spanned(at) else ()

    # ---- meaning

    def index(self, run: Run, at: Places) -> tuple[Any, Any]:
        torch, spanned = run.torch, self._spanned(at)
        sizes, counts = [run.size(a.size) for a in at.q], [run.size(c) for c in self.counts(at)]
        flat = torch.zeros((), dtype=torch.long)
        for axis in at.k:
            # u where the axis is spanned, the query's own place where it is not.
            where = len(sizes) + spanned.index(axis.name) if axis.name in spanned else at.names.index(axis.name)
            n = run.size(axis.size)
            shape = [n if i == where else 1 for i in range(len(sizes) + len(counts))]
            flat = flat * n + torch.arange(n).reshape(shape)
        index = flat.expand(*sizes, *counts).reshape(math.prod(sizes), math.prod(counts))
        return index, torch.ones_like(index, dtype=torch.bool)

    def tap(self, run: Run, place: int, sizes: tuple[int, int], i: int, u: int) -> int:
        return u

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        return tuple((at.key(name).size - 1, at.key(name).size - 1) for name in self.axes(at.names))

    # ---- PyTorch

    def rows(self, code: Code, place: int, size: str, device: str, count: int) -> str:
        return f"torch.arange({size}, device={device}).expand({size}, -1)"

    def count(self, code: Code, k: Operand, at: Places) -> str:
        return product_text([code.extent(k, name) for name in self._spanned(at)])

    def _flat(self, x: Operand, ride: tuple[str, ...], moved: tuple[str, ...], inner: str) -> Operand:
        """`x` with the axes that it stays on as the groups and those it spans as `inner`."""
        last = trailing(x, (*ride, *moved))
        x = arrange(x, (*ride, *moved), last)
        lead = x.order[: len(x.order) - len(ride) - len(moved) - len(last)]
        text, at = x.atom, len(lead)
        if len(moved) > 1:
            text += f".flatten({at + len(ride)}, {at + len(ride) + len(moved) - 1})"
        if len(ride) > 1:
            text += f".flatten({at}, {at + len(ride) - 1})"
        order = (*lead, *((GROUPS,) if ride else ()), *((inner,) if moved else ()), *last)
        return then(x, text, order) if text != x.atom else replace(x, order=order)

    def queries(self, code: Code, x: Operand, at: Places) -> Operand:
        return self._flat(x, self._ride(at), self.axes(at.names), QUERIES)

    def keys(self, code: Code, x: Operand, at: Places) -> Operand:
        return self._flat(x, self._ride(at), self._spanned(at), TAP)

    def merge(self, code: Code, x: Operand, form: Form) -> Operand:
        moved = self.axes(form.axes)
        ride = tuple(name for name in form.axes if name not in moved)
        sizes = dict(zip(form.axes, form.extents, strict=True))
        last = tuple(n for n in (TAP, "C") if n in x.order)[:1]
        lead = tuple(n for n in x.order if n not in (GROUPS, QUERIES, *last))
        x = x.to((*lead, *(n for n in (GROUPS, QUERIES) if n in x.order), *last))
        for where, token, names in ((len(lead), GROUPS, ride), (len(lead) + bool(ride), QUERIES, moved)):
            if names and token not in x.order:
                count = product_text([sizes[name] for name in names])
                shape = ", ".join(count if i == where else "-1" for i in range(len(x.order) + 1))
                order = (*x.order[:where], token, *x.order[where:])
                x = then(x, f"{x.atom}.unsqueeze({where}).expand({shape})", order)
        text = x.atom
        if len(moved) > 1:
            text += f".unflatten({len(lead) + bool(ride)}, {tuple_text([sizes[n] for n in moved])})"
        if len(ride) > 1:
            text += f".unflatten({len(lead)}, {tuple_text([sizes[n] for n in ride])})"
        binding = x.binding if text == x.atom else ATOM
        text = x.text if text == x.atom else text
        return replace(x, text=text, order=(*lead, *ride, *moved, *last), binding=binding, where=None)

    def relative(self, code: Code, table: Operand, at: Places, sizes: Sequence[str], centre: str | None) -> Operand:
        parts = [str(table), tuple_text(sizes), tuple_text(sizes)] + ([f"centre={centre}"] if centre else [])
        text = f"{code.helper('relative_bias')}({', '.join(parts)})"
        if len(sizes) > 1:
            text += f".flatten(-{len(sizes) + 1}, -2)"
        return then(table, text, (*table.order[: len(table.order) - len(sizes)], QUERIES, TAP))


@dataclass(frozen=True)
class Everywhere(Span):
    """Every key: k(i, u) = u. With `on=` the span of some axes only, for each place on the others apart.

    The keys may lie on other axes than the queries (pooled keys, a memory, other tokens).
    """

    name: ClassVar[str] = "everywhere"
    local: ClassVar[bool] = False
    on: Any = arg("axes", None)

    @property
    def copies(self) -> bool:
        return self.on is not None


@dataclass(frozen=True)
class Row(Span):
    """The query's row: all places along the last position axis. k((y, x), u) = (y, u)."""

    name: ClassVar[str] = "row"
    place: ClassVar[int] = -1

    def axes(self, names: Sequence[str]) -> tuple[str, ...]:
        if len(names) < 2:
            raise OpError(f"`{self.name}` needs a map of at least two position axes, and has {len(names)}", "E0303")
        return (names[self.place],)


@dataclass(frozen=True)
class Column(Row):
    """The query's column: all places along the last position axis but one. k((y, x), u) = (u, x)."""

    name: ClassVar[str] = "column"
    place: ClassVar[int] = -2


@dataclass(frozen=True)
class Self(Local):
    """The query's own position: k(i, 0) = i."""

    name: ClassVar[str] = "self"

    def axes(self, names: Sequence[str]) -> tuple[str, ...]:
        return chosen(None, names, self.name)

    @property
    def gaps(self) -> bool:
        return False

    def check(self, check: Check, at: Places) -> None:
        same_positions(check, at, self.name)

    def counts(self, at: Places) -> tuple[Size, ...]:
        return (Size.of(1),) * len(at.q)

    def lines(self, at: Places) -> tuple[Line, ...]:
        return (Line("around", 1),) * len(at.q)

    def course(self, place: int, count: int) -> Course:
        return STAYS

    def tap(self, run: Run, place: int, sizes: tuple[int, int], i: int, u: int) -> int:
        return i

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        return ((Size.of(0), Size.of(0)),) * len(at.q)

    def reach(self, at: Places, axis: str) -> Reach | None:
        return Reach(axis)

    def rows(self, code: Code, place: int, size: str, device: str, count: int) -> str:
        return f"torch.arange({size}, device={device})[:, None]"

    def queries(self, code: Code, x: Operand, at: Places) -> Operand:
        return arrange(x, at.names, trailing(x, at.names))

    def keys(self, code: Code, x: Operand, at: Places) -> Operand:
        last = trailing(x, at.names)
        x = arrange(x, at.names, last)
        where = len(x.order) - len(last)
        return then(x, f"{x.atom}.unsqueeze({where})", (*x.order[:where], TAP, *last))

    def relative(self, code: Code, table: Operand, at: Places, sizes: Sequence[str], centre: str | None) -> Operand:
        count = len(sizes)
        parts = [str(table), tuple_text(["1"] * count), tuple_text(["1"] * count)] + (
            [f"centre={centre}"] if centre else []
        )
        text = f"{code.helper('relative_bias')}({', '.join(parts)})"
        lead = table.order[: len(table.order) - count]
        shape = ", ".join(["-1"] * len(lead) + list(sizes) + ["1"])
        return then(table, f"{text}.expand({shape})", (*lead, *at.names, TAP))
