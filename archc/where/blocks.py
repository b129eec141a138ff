"""Regions in which blocks of queries share their keys: windows, grids and blocks with a halo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.fusion.cores import Line
from archc.ir.sym import Scalar
from archc.ops.base import Check, Code, OpError, Reach, arg
from archc.records import dataclass
from archc.sizes import Size
from archc.where.base import Block, Course, Form, Places, fixed, numbers, one_of, same_positions, steady
from archc.where.local import Local
from archc.where.text import GROUPS, QUERIES, TAP, arrange, product_text, then, trailing, tuple_text

if TYPE_CHECKING:
    from archc.reference.named import Run


@dataclass(frozen=True)
class Blocks(Local):
    """What window, grid and halo have in common: queries that share their keys lie in blocks."""

    grouped: ClassVar[bool] = True
    helper: ClassVar[str] = "window"  # the helpers are `<helper>_partition` and `<helper>_merge`

    def cut(self, count: int) -> tuple[Scalar, ...]:
        """The queries of a block along each of `count` moved axes."""
        raise NotImplementedError

    def count(self, code: Code, k: Operand, at: Places) -> str:
        return product_text([code.number(b) for b in self.cut(len(self.axes(at.names)))])

    def _blocks(self, names: Sequence[str], kind: str) -> tuple[Block, ...]:
        moved = self.axes(names)
        sizes = dict(zip(moved, self.cut(len(moved)), strict=True))
        return tuple(Block(kind, sizes[name]) if name in sizes else Block("alone") for name in names)

    @property
    def ragged(self) -> bool:
        """Whether the last block of an axis may hang over the edge of the map."""
        return False

    def gathered(self, at: Places) -> Size:
        ride, moved = self._split(at)
        total = math.prod((axis.size for axis in at.q if axis.name in ride), start=self.taps(at))
        for name, block in zip(moved, self.cut(len(moved)), strict=True):
            total = total * next(axis.size for axis in at.q if axis.name == name).ceil_div(fixed(block))
        return total

    def reach(self, at: Places, axis: str) -> Reach | None:
        moved = self.axes(at.names)
        if axis not in moved:
            return Reach(axis)
        down, up = (end.constant for end in self.span(at)[moved.index(axis)])
        if down is None or up is None:
            return None
        return Reach(axis, 1, -down, up, down == up == 0)

    def _split(self, at: Places) -> tuple[tuple[str, ...], tuple[str, ...]]:
        moved = self.axes(at.names)
        return tuple(name for name in at.names if name not in moved), moved

    def _arranged(self, x: Operand, at: Places) -> tuple[Operand, tuple[str, ...]]:
        """`x` as (lead, ride, moved, last) with a last axis for sure, and the names of the lead."""
        ride, moved = self._split(at)
        last = trailing(x, at.names)
        x = arrange(x, (*ride, *moved), last)
        lead = x.order[: len(x.order) - len(ride) - len(moved) - len(last)]
        if not last:
            x = then(x, f"{x.atom}[..., None]", (*x.order, "@last"))
        return x, lead

    def _folded(self, x: Operand, lead: tuple[str, ...], ride: int) -> str:
        """The text of `x` with the axes that ride along folded into the groups behind them."""
        return f"{x.atom}.flatten({len(lead)}, {len(lead) + ride})" if ride else x.text

    def queries(self, code: Code, x: Operand, at: Places) -> Operand:
        ride, moved = self._split(at)
        x, lead = self._arranged(x, at)
        size = tuple_text([code.number(b) for b in self.cut(len(moved))])
        if self.ragged:
            x = replace(x, text=f"{code.helper('pad_to_multiple')}({x}, {size})", binding=ATOM)
        last = x.order[-1]
        x = replace(x, text=f"{code.helper(self.helper + '_partition')}({x}, {size})", binding=ATOM)
        x = then(x, self._folded(x, lead, len(ride)), (*lead, GROUPS, QUERIES, last))
        return then(x, f"{x.atom}[..., 0]", x.order[:-1]) if last == "@last" else x

    def keys(self, code: Code, x: Operand, at: Places) -> Operand:
        x = self.queries(code, x, at)
        order = tuple(TAP if name == QUERIES else name for name in x.order)
        return replace(x, order=order)

    def merge(self, code: Code, x: Operand, form: Form) -> Operand:
        at_names = form.axes
        moved = self.axes(at_names)
        ride = tuple(name for name in at_names if name not in moved)
        sizes = dict(zip(at_names, form.extents, strict=True))
        block = [code.number(b) for b in self.cut(len(moved))]
        last = tuple(n for n in (TAP, "C") if n in x.order)[:1]
        lead = tuple(n for n in x.order if n not in (GROUPS, QUERIES, *last))
        x = self._completed(x, lead, last, block, [sizes[n] for n in ride], [sizes[n] for n in moved])
        text = x.text if last else f"{x.atom}[..., None]"
        if ride:
            atom = x.atom if last else text
            text = f"{atom}.unflatten({len(lead)}, ({', '.join(sizes[n] for n in ride)}, -1))"
        shape = [sizes[name] for name in moved]
        if self.ragged:
            whole = [
                f"-(-{n} // {b}) * {b}" if not n.isdigit() or not b.isdigit() else str(-(-int(n) // int(b)) * int(b))
                for n, b in zip(shape, block, strict=True)
            ]
            text = f"{code.helper(self.helper + '_merge')}({text}, {tuple_text(block)}, {tuple_text(whole)})"
            text += f"[..., {', '.join(f':{n}' for n in shape)}, :]"
        else:
            text = f"{code.helper(self.helper + '_merge')}({text}, {tuple_text(block)}, {tuple_text(shape)})"
        if not last:
            text += "[..., 0]"
        return replace(x, text=text, order=(*lead, *ride, *moved, *last), binding=ATOM, where=None)

    def _completed(
        self,
        x: Operand,
        lead: tuple[str, ...],
        last: tuple[str, ...],
        block: Sequence[str],
        ride: Sequence[str],
        moved: Sequence[str],
    ) -> Operand:
        """`x` with both `@groups` and `@queries`, repeated where it lacks one."""
        x = x.to((*lead, *(n for n in (GROUPS, QUERIES) if n in x.order), *last))
        if GROUPS in x.order and QUERIES in x.order:
            return x
        missing = QUERIES if GROUPS in x.order else GROUPS
        if missing == QUERIES:
            count, where = product_text(block), len(lead) + 1
        else:
            parts = [f"-(-{n} // {b})" if self.ragged else f"({n} // {b})" for n, b in zip(moved, block, strict=True)]
            count, where = product_text([*ride, *parts]), len(lead)
        shape = ["-1"] * (where) + [count] + ["-1"] * (len(lead) + 1 + len(last) - where)
        order = list(x.order)
        order.insert(where, missing)
        return then(x, f"{x.atom}.unsqueeze({where}).expand({', '.join(shape)})", tuple(order))

    def _bias(
        self,
        code: Code,
        table: Operand,
        taps: Sequence[str],
        centre: str | None,
        **given: Sequence[str] | None,
    ) -> Operand:
        """The table at `centre + start + tap - step * query` along every axis, in the region's form."""
        queries = [code.number(b) for b in self.cut(len(taps))]
        parts = [str(table), tuple_text(queries), tuple_text(taps)]
        parts += [f"{name}={tuple_text(texts)}" for name, texts in given.items() if texts]
        parts += [f"centre={centre}"] if centre else []
        text = f"{code.helper('relative_bias')}({', '.join(parts)})"
        if len(taps) > 1:
            text += f".flatten(-{len(taps) + 1}, -2)"
        lead = table.order[: len(table.order) - len(taps)]
        return then(table, text, (*lead, QUERIES, TAP))


def number_at(value: Scalar, place: int) -> Scalar:
    """A size argument along moved axis number `place`."""
    return value.value[place] if isinstance(value.value, tuple) else value


@dataclass(frozen=True)
class Window(Blocks):
    """Windows side by side, each attending to itself: k(i, u) = w floor(i / w) + u. w must divide the map.

    `edge="drop"` allows maps that it does not divide: the last windows are smaller.
    """

    name: ClassVar[str] = "window"
    size: Any = arg("size")
    edge: Any = arg("str", None)
    on: Any = arg("axes", None)

    def cut(self, count: int) -> tuple[Scalar, ...]:
        return numbers(self.size, count, "size")

    @property
    def ragged(self) -> bool:
        return self.rule is not None

    def blocks(self, names: Sequence[str]) -> tuple[Block, ...] | None:
        return self._blocks(names, "window") if self.rule in (None, "drop") else None

    def check(self, check: Check, at: Places) -> None:
        one_of(self.edge, (None, "drop", "zero"), "edge")
        same_positions(check, at, self.name)
        moved = self.axes(at.names)
        for name, size in zip(moved, self.cut(len(moved)), strict=True):
            if self.ragged:
                continue
            try:
                check.divides(Size.of(fixed(size)), at.key(name).size, f"a window of {fixed(size)} must divide {name}")
            except OpError as error:
                error.help += '; `window(..., edge="drop")` lets the last windows be smaller' if error.help else ""
                raise

    def counts(self, at: Places) -> tuple[Size, ...]:
        return tuple(Size.of(fixed(b)) for b in self.cut(len(self.axes(at.names))))

    def lines(self, at: Places) -> tuple[Line, ...]:
        sizes = steady(*self.cut(len(self.axes(at.names))))
        return tuple(Line("blocks", size, block=size) for size in sizes or ())

    def course(self, place: int, count: int) -> Course:
        return Course(block=self.cut(count)[place], edge=self.rule or "drop")

    def tap(self, run: Run, place: int, sizes: tuple[int, int], i: int, u: int) -> int:
        w = fixed(number_at(self.size, place))
        return w * (i // w) + u

    def relative(self, code: Code, table: Operand, at: Places, sizes: Sequence[str], centre: str | None) -> Operand:
        return self._bias(code, table, [code.number(b) for b in self.cut(len(sizes))], centre)

    def rows(self, code: Code, place: int, size: str, device: str, count: int) -> str:
        return f"{code.helper('window_taps')}({size}, {code.number(self.cut(count)[place])}, {device})"

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        return tuple((c - 1, c - 1) for c in self.counts(at))


@dataclass(frozen=True)
class Grid(Blocks):
    """g x g positions spread evenly over the map see each other: k(i, u) = (i mod s) + s u with s = S / g."""

    name: ClassVar[str] = "grid"
    helper: ClassVar[str] = "grid"
    size: Any = arg("size")
    on: Any = arg("axes", None)

    def cut(self, count: int) -> tuple[Scalar, ...]:
        return numbers(self.size, count, "size")

    def blocks(self, names: Sequence[str]) -> tuple[Block, ...]:
        return self._blocks(names, "grid")

    def check(self, check: Check, at: Places) -> None:
        same_positions(check, at, self.name)
        moved = self.axes(at.names)
        for name, size in zip(moved, self.cut(len(moved)), strict=True):
            check.divides(Size.of(fixed(size)), at.key(name).size, f"a grid of {fixed(size)} must divide {name}")

    def counts(self, at: Places) -> tuple[Size, ...]:
        return tuple(Size.of(fixed(b)) for b in self.cut(len(self.axes(at.names))))

    def lines(self, at: Places) -> tuple[Line, ...]:
        sizes = steady(*self.cut(len(self.axes(at.names))))
        return tuple(Line("blocks", size, step=0) for size in sizes or ())

    def course(self, place: int, count: int) -> Course:
        return Course(parts=self.cut(count)[place])

    def tap(self, run: Run, place: int, sizes: tuple[int, int], i: int, u: int) -> int:
        s = sizes[1] // fixed(number_at(self.size, place))
        return i % s + s * u

    def unit(self, run: Run, place: int, size: int) -> int:
        return size // fixed(number_at(self.size, place))

    def reach(self, at: Places, axis: str) -> Reach | None:
        return None if axis in self.axes(at.names) else Reach(axis)

    def relative(self, code: Code, table: Operand, at: Places, sizes: Sequence[str], centre: str | None) -> Operand:
        return self._bias(code, table, [code.number(b) for b in self.cut(len(sizes))], centre)

    def rows(self, code: Code, place: int, size: str, device: str, count: int) -> str:
        return f"{code.helper('grid_taps')}({size}, {code.number(self.cut(count)[place])}, {device})"

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        return tuple((c - 1, c - 1) for c in self.counts(at))
