"""Regions made of regions: one softmax over both, one without the other, combinations, and shifted maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, SUM, Operand
from archc.ir.types import Axis
from archc.ops.base import Check, Code, OpError, Reach
from archc.records import dataclass
from archc.sizes import Size
from archc.where.base import Form, NoCourse, Piece, Places, Region
from archc.where.emit import logical, query_sizes, taps_of_queries, there, weights_in_form, without
from archc.where.lines import Self, Span
from archc.where.picked import Restricted
from archc.where.text import TAP, bound, extents, then

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Union(Region):
    """R's taps, then Q's: one softmax goes over both."""

    name: ClassVar[str] = "+"
    left: Region
    right: Region

    @property
    def local(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.left.local or self.right.local

    @property
    def shares(self) -> bool:
        return self.left.shares and self.right.shares

    @property
    def tensors(self) -> tuple[Any, ...]:
        return self.left.tensors + self.right.tensors

    def _parts(self, at: Places) -> tuple[tuple[Region, Places], tuple[Region, Places]]:
        """Both regions, each with the tensors that it carries."""
        mine = len(self.left.tensors)
        return (self.left, at.carrying(at.extra[:mine])), (self.right, at.carrying(at.extra[mine:]))

    def taken(self, run: Run, x: Named, at: Places) -> Iterator[tuple[Named, Named]]:
        for part, here in self._parts(at):
            yield from part.taken(run, x, here)

    def pieces(self, at: Places) -> tuple[Piece, ...]:
        if self.tensors:
            raise NoCourse("summands carry tensors")
        return tuple(piece for part, here in self._parts(at) for piece in part.pieces(here))

    def axes(self, names: Sequence[str]) -> tuple[str, ...]:
        moved = {*self.left.axes(names), *self.right.axes(names)}
        return tuple(name for name in names if name in moved)

    def queried(self, k: Sequence[Axis], extra: Sequence[Any] = ()) -> tuple[Axis, ...]:
        return self.left.queried(k, extra)

    def keyed(self, q: Sequence[Axis]) -> tuple[Axis, ...]:
        return self.left.keyed(q)

    @property
    def gaps(self) -> bool:
        return self.left.gaps or self.right.gaps

    def check(self, check: Check, at: Places) -> None:
        for part, here in self._parts(at):
            part.check(check, here)

    @property
    def parts(self) -> tuple[Region, ...]:
        return self.left.parts + self.right.parts

    def blanked(self, at: Places) -> Size:
        left, right = (part.blanked(here) for part, here in self._parts(at))
        return left + right

    def gathered(self, at: Places) -> Size:
        left, right = (part.gathered(here) for part, here in self._parts(at))
        return left + right

    def taps(self, at: Places) -> Size:
        left, right = (part.taps(here) for part, here in self._parts(at))
        return left + right

    def numbered(self, at: Places) -> tuple[str, ...]:
        left, right = (part.numbered(here) for part, here in self._parts(at))
        return left + right

    def reach(self, at: Places, axis: str) -> Reach | None:
        left, right = (part.reach(here, axis) for part, here in self._parts(at))
        if left is None or right is None or left.stride != right.stride:
            return None
        return Reach(
            axis,
            left.stride,
            min(left.low, right.low),
            max(left.high, right.high),
            left == right and left.exact,
        )

    def index(self, run: Run, at: Places) -> tuple[Any, Any]:
        parts = [part.index(run, here) for part, here in self._parts(at)]
        return run.torch.cat([p[0] for p in parts], 1), run.torch.cat([p[1] for p in parts], 1)

    def count(self, code: Code, k: Operand, at: Places) -> str:
        left, right = (part.count(code, k, here) for part, here in self._parts(at))
        return str(int(left) + int(right)) if left.isdigit() and right.isdigit() else f"{left} + {right}"

    def scores(self, code: Code, q: Operand, k: Operand, at: Places) -> Operand:
        q, k = bound(code, q.last("C"), "q"), bound(code, k.last("C"), "k")
        left, right = (logical(code, part.scores(code, q, k, here)) for part, here in self._parts(at))
        return then(left, f"torch.cat([{left}, {right.to(left.order)}], dim=-1)", left.order)

    def mix(self, code: Code, w: Operand, v: Operand, at: Places) -> Operand:
        w = bound(code, logical(code, w).last(TAP), "w")
        v = bound(code, v, "v")
        (first, at_first), (second, at_second) = self._parts(at)
        cut = first.count(code, v, at_first)
        left = first.mix(code, replace(w, text=f"{w}[..., :{cut}]"), v, at_first)
        right = second.mix(code, replace(w, text=f"{w}[..., {cut}:]"), v, at_second)
        return replace(left, text=f"{left.inside(SUM)} + {right.to(left.order).inside(SUM + 1)}", binding=SUM)

    def look(self, code: Code, x: Operand, at: Places) -> Operand:
        x = bound(code, x)
        left, right = (part.look(code, x, here) for part, here in self._parts(at))
        return then(left, f"torch.cat([{left}, {right.to(left.order)}], dim=-1)", left.order)

    def mask(self, code: Code, k: Operand, at: Places) -> Operand | None:
        if not self.gaps:
            return None
        sizes = query_sizes(code, k, at)
        parts = [there(part, code, k, here, sizes) for part, here in self._parts(at)]
        return Operand(code.let(f"torch.cat([{', '.join(parts)}], dim=-1)", "valid"), k.type, (*at.names, TAP))

    def bias(self, code: Code, table: Operand, at: Places, sizes: dict[str, str], centre: str | None) -> Operand:
        table = bound(code, table, "table")
        left, right = (logical(code, part.bias(code, table, here, sizes, centre)) for part, here in self._parts(at))
        return then(left, f"torch.cat([{left}, {right.to(left.order)}], dim=-1)", left.order)

    def offsets(self, run: Run, at: Places) -> Any:
        return run.torch.cat([part.offsets(run, here) for part, here in self._parts(at)], 2)

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        if len({part.axes(here.names) for part, here in self._parts(at)}) > 1:
            message = "`relative` needs regions that move along the same axes, and the parts of this union do not"
            raise OpError(
                message,
                "E0213",
                argument="over",
                help="give each part scores and a bias of its own, and `cat` them along `tap`",
            )
        pairs = zip(*(part.span(here) for part, here in self._parts(at)), strict=True)
        return tuple((Size.maximum(a, c), Size.maximum(b, d)) for (a, b), (c, d) in pairs)


def difference(left: Region, right: Region) -> Region:
    """`left - right`, brought into the form that `Difference` takes."""
    if isinstance(right, Union):
        return difference(difference(left, right.left), right.right)
    if isinstance(left, Restricted):
        return Restricted(difference(left.region, right), left.allowed)
    if isinstance(left, Union):
        return Union(difference(left.left, right), difference(left.right, right))
    if isinstance(left, Difference):
        return Difference(left.left, (*left.others, right))
    return Difference(left, (right,))


@dataclass(frozen=True)
class Difference(Region):
    """R's taps, none where the key is also one of another region's. The slot stays, and is counted."""

    name: ClassVar[str] = "-"
    left: Region
    others: tuple[Region, ...]

    @property
    def local(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.left.local

    @property
    def shares(self) -> bool:
        return self.left.shares

    def axes(self, names: Sequence[str]) -> tuple[str, ...]:
        return self.left.axes(names)

    def queried(self, k: Sequence[Axis], extra: Sequence[Any] = ()) -> tuple[Axis, ...]:
        return self.left.queried(k, extra)

    def keyed(self, q: Sequence[Axis]) -> tuple[Axis, ...]:
        return self.left.keyed(q)

    @property
    def gaps(self) -> bool:
        return True

    def check(self, check: Check, at: Places) -> None:
        parts = (self.left, *self.others)
        if any(isinstance(other, Difference) for other in self.others) or any(part.tensors for part in parts):
            raise OpError(
                "`-` takes plain regions: no difference on the right, no region that carries a tensor",
                "E0213",
                argument="over",
                help="`R & mask` takes taps away by a mask",
            )
        for part in parts:
            part.check(check, at)

    def pieces(self, at: Places) -> tuple[Piece, ...]:
        others = [piece for region in self.others for piece in region.pieces(at)]
        if not all(course.stays for piece in others for _, course in piece.courses):
            raise NoCourse("taps are taken away that another region has than `self`")
        return tuple(replace(piece, own=True) for piece in self.left.pieces(at))

    def gathered(self, at: Places) -> Size:
        return self.left.gathered(at)

    def taps(self, at: Places) -> Size:
        return self.left.taps(at)

    def numbered(self, at: Places) -> tuple[str, ...]:
        return self.left.numbered(at)

    def reach(self, at: Places, axis: str) -> Reach | None:
        return self.left.reach(at, axis)

    def count(self, code: Code, k: Operand, at: Places) -> str:
        return self.left.count(code, k, at)

    def index(self, run: Run, at: Places) -> tuple[Any, Any]:
        index, valid = self.left.index(run, at)
        for region in self.others:
            other, real = region.index(run, at)
            for u in range(other.shape[1]):
                valid = valid & ~((index == other[:, u : u + 1]) & real[:, u : u + 1] & (index >= 0))
        return index.masked_fill(~valid, -1), valid

    def _mask(self, code: Code, k: Operand, at: Places, sizes: tuple[str, ...]) -> str:
        """True where R's key is none of Q's. Positions are numbered from 1, so that 0 stands for no key."""
        shape = [code.extent(k, axis.name) for axis in at.k]
        count = " * ".join(shape)
        numbered = f"torch.arange(1, {count} + 1, device={k.atom}.device).view({', '.join((*shape, '1'))})"
        ids = code.let(numbered, "place")
        mine = taps_of_queries(self.left, code, ids, at, sizes)
        tests = []
        for region in self.others:
            theirs = taps_of_queries(region, code, ids, at, sizes)
            if region.taps(at).constant == 1:
                tests.append(f"{mine} != {theirs}")
            else:
                tests.append(f"({mine}[..., :, None] != {theirs}[..., None, :]).all(-1)")
        text = tests[0] if len(tests) == 1 else " & ".join(f"({test})" for test in tests)
        if self.left.gaps:
            text = f"({text}) & {there(self.left, code, k, at, sizes)}"
        return code.let(text, "valid")

    def mask(self, code: Code, k: Operand, at: Places) -> Operand:
        return Operand(self._mask(code, k, at, query_sizes(code, k, at)), k.type, (*at.names, TAP))

    def _own(self, code: Code, k: Operand, at: Places) -> str | None:
        """Where tap and query are one position, in the form of whole axes: the diagonal. Else None."""
        if not isinstance(self.left, Span) or [type(other) for other in self.others] != [Self]:
            return None
        k = bound(code, k, "k")
        return code.let(f"torch.eye({self.left.count(code, k, at)}, dtype=torch.bool, device={k}.device)", "own")

    def scores(self, code: Code, q: Operand, k: Operand, at: Places) -> Operand:
        q, k = bound(code, q.last("C"), "q"), bound(code, k.last("C"), "k")
        own = self._own(code, k, at)
        if own is not None:
            s = self.left.scores(code, q, k, at)
            return replace(s, text=f'{s.atom}.masked_fill({own}, float("-inf"))', binding=ATOM)
        mask = self._mask(code, k, at, extents(code, q, at.names))
        s = logical(code, self.left.scores(code, q, k, at))
        return then(s, f'{s.atom}.masked_fill(~{mask}, float("-inf"))', s.order)

    def mix(self, code: Code, w: Operand, v: Operand, at: Places) -> Operand:
        v = bound(code, v if "C" not in v.order else v.last("C"), "v")
        own = self._own(code, v, at)
        if own is not None and all(name in w.type for name in at.names):
            w = weights_in_form(self.left, code, w, at, ())
            return self.left.mix(
                code,
                replace(
                    w,
                    text=f"{w.atom}.masked_fill({own}, 0.0)",
                    binding=ATOM,
                    where=Form(self.left, at.names, query_sizes(code, v, at)),
                ),
                v,
                at,
            )
        mask = Operand(self._mask(code, v, at, query_sizes(code, v, at)), v.type, (*at.names, TAP))
        w = logical(code, w)
        rest = tuple(axis for axis in w.type.axes if axis.name not in mask.order)
        type = w.type.with_axes((*rest, *at.q, w.type[TAP]))
        return self.left.mix(code, replace(without(w, mask), type=type), v, at)

    def look(self, code: Code, x: Operand, at: Places) -> Operand:
        x = bound(code, x)
        mask = self._mask(code, x, at, query_sizes(code, x, at))
        y = self.left.look(code, x, at)
        return then(y, f"{y.atom}.masked_fill(~{mask}, 0)", y.order)

    def bias(self, code: Code, table: Operand, at: Places, sizes: dict[str, str], centre: str | None) -> Operand:
        return logical(code, self.left.bias(code, table, at, sizes, centre))

    def offsets(self, run: Run, at: Places) -> Any:
        return self.left.offsets(run, at)

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        return self.left.span(at)
