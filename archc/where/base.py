"""What a region is: a map from a query position and a tap number to a key position, or to none.

A region is a compile-time value. It says how many taps a query has, what it needs of the sizes, which key
each tap is (`index`, the meaning), and how the emitted module gathers keys. Two ways of gathering exist:

- grouped: queries that share one set of keys lie together, so that scores are one batched matrix product.
Tensors
  over taps then stay in the region's own form: `(lead, "@groups", "@queries", "tap")`.
- single: every query has keys of its own, which lie in the order of the map: `(lead, positions, "tap", "C")`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.ir.sym import Const, Scalar, const, plain, size_of
from archc.ir.types import Axis
from archc.ops.base import Check, Code, OpError, Reach, per_axis
from archc.records import dataclass
from archc.sizes import Size
from archc.where.text import GROUPS, QUERIES, TAP

if TYPE_CHECKING:
    from archc.fusion.cores import Line
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Places:
    """The position axes of the queries and of the keys."""

    q: tuple[Axis, ...]
    k: tuple[Axis, ...]
    extra: tuple[Any, ...] = ()  # the tensors that the region carries: their types, texts or values

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.q)

    def key(self, name: str) -> Axis:
        return next(axis for axis in self.k if axis.name == name)

    def carrying(self, extra: Sequence[Any]) -> Places:
        return replace(self, extra=tuple(extra))


@dataclass(frozen=True)
class Block:
    """How a region takes an axis apart into groups of positions that are each other's keys.

    `kind` is window (`size` side by side), grid (`size` spread evenly), whole (all), or alone (one). The axis is a ring
    that begins at `shift`; nobody sees over the `seam`.
    """

    kind: str
    size: Scalar | None = None
    shift: Scalar | None = None
    seam: bool = False


class NoCourse(Exception):
    """A region is no sum of courses along the axes; the reason in words."""


@dataclass(frozen=True)
class Course:
    """A region along one axis as arithmetic, which kernels evaluate.

    Positions are counted on the map rolled by `roll`; of each `step` of them one belongs to a line of places m (with
    `parts` = g, lines have g places). The queries of a line lie in blocks of `block`, or all in one (None). Those of block
    j see the keys `base` j - `halo` + u of the line, 0 <= u < base + 2 halo (`base` is None where it is `block`). Beyond
    its ends there is no key (`edge` "drop"), or a zero ("zero"), or all keys move until they are on it ("shift"). Nobody
    sees across the `seam` of a rolled map. Offsets are measured from where a query lies among the keys, or where `coarse`
    from the first key of its block, one for each query.
    """

    block: Scalar | None = None
    base: Scalar | None = None
    halo: Scalar | None = None
    step: Scalar | None = None
    parts: Scalar | None = None
    roll: Scalar | None = None
    edge: str = "drop"
    seam: bool = False
    coarse: bool = False

    @property
    def stays(self) -> bool:
        """Whether a query sees its own place alone."""
        return self.block is not None and self.block.value == 1 and self.base is None and self.halo is None

    @property
    def whole(self) -> bool:
        """Whether a query sees all of the axis."""
        return self == Course()


@dataclass(frozen=True)
class Piece:
    """A region, or a summand of one: a course along each position axis, every combination of which is a tap, those of the last
    axis the fastest. `own`: but for the query's own position, whose taps are none."""

    courses: tuple[tuple[str, Course], ...]
    own: bool = False


STAYS = Course(block=const(1))


@dataclass(frozen=True)
class Region:
    """Base of all regions. `grouped` says how it gathers, `local` that it relates a map to itself."""

    name: ClassVar[str]
    grouped: ClassVar[bool] = False
    local: ClassVar[bool] = True

    @property
    def tensors(self) -> tuple[Any, ...]:
        """The graph values that it carries."""
        return ()

    @property
    def shares(self) -> bool:
        """Whether queries share their keys, so that scores are matrix products."""
        return self.grouped

    # ---- shapes

    def axes(self, names: Sequence[str]) -> tuple[str, ...]:
        """The position axes it moves along; it stays where it is on the others."""
        raise NotImplementedError

    def queried(self, k: Sequence[Axis], extra: Sequence[Any] = ()) -> tuple[Axis, ...]:
        """The query positions that belong to the key positions `k`."""
        return tuple(k)

    def keyed(self, q: Sequence[Axis]) -> tuple[Axis, ...]:
        """The key positions that belong to the query positions `q`."""
        return tuple(q)

    def check(self, check: Check, at: Places) -> None:
        """What must hold of the sizes. Raises OpError, or states it through `check`."""
        raise NotImplementedError

    def taps(self, at: Places) -> Size:
        """K, the number of taps of a query."""
        raise NotImplementedError

    @property
    def copies(self) -> bool:
        """Whether keys are gathered into a new tensor."""
        return True

    @property
    def parts(self) -> tuple[Region, ...]:
        """The regions that it is written as the sum of."""
        return (self,)

    def gathered(self, at: Places) -> Size:
        """How many positions the gathered keys have: those of each query, or of each group of queries."""
        return math.prod((axis.size for axis in at.q), start=self.taps(at))

    def blanked(self, at: Places) -> Size:
        """How many taps of a query have their weight set to 0 where there is no key."""
        return self.taps(at) if self.gaps else Size.of(0)

    def numbered(self, at: Places) -> tuple[str, ...]:
        """The position axes in the order in which the taps run along them, the slowest first."""
        return self.axes(at.names)

    @property
    def gaps(self) -> bool:
        """Whether some taps may be none: score -inf, weight 0."""
        raise NotImplementedError

    @property
    def leaks(self) -> bool:
        """Whether `keys` gives values also for taps that are none."""
        return False

    def lines(self, at: Places) -> tuple[Line, ...]:
        """Where the taps are along each of the axes `numbered`, as kernels compute them; none where they cannot."""
        return ()

    def reach(self, at: Places, axis: str) -> Reach | None:
        """What a query sees of the keys along a position axis, where sizes are numbers; None: maybe all."""
        return None if axis in self.axes(at.names) else Reach(axis)

    def blocks(self, names: Sequence[str]) -> tuple[Block, ...] | None:
        """Along each of the position axes `names`, the blocks that the taps of a query are; None where they are none."""
        return None

    def pieces(self, at: Places) -> tuple[Piece, ...]:
        """It as a sum of courses along the axes. Raises NoCourse."""
        raise NoCourse(f"the keys of `{self.name}` are not known by arithmetic")

    @property
    def sizes(self) -> tuple[Scalar, ...]:
        """The numbers that it was written with, those of its parts included."""
        found: list[Scalar] = []
        for held in (getattr(self, f.name) for f in fields(self)):
            for item in held if isinstance(held, tuple) else (held,):
                if isinstance(item, Region):
                    found += item.sizes
                elif isinstance(item, Scalar):
                    found += item.value if isinstance(item.value, tuple) else (item,)
        return tuple(found)

    # ---- meaning

    def index(self, run: Run, at: Places) -> tuple[Any, Any]:
        """The key of every tap as a flat position [P, K], and which taps are there [P, K].

        A tap that is there without a key (`edge="zero"`) has position -1, as have taps that are none.
        """
        raise NotImplementedError

    def taken(self, run: Run, x: Named, at: Places) -> Iterator[tuple[Named, Named]]:
        """For each tap, the value of `x` at the key of every query (0 without one), and where it is there."""
        index, valid = self.index(run, at)
        keys = [axis.name for axis in at.k]
        data = x.last(*keys)
        rest = tuple(name for name in x.names if name not in keys)
        data = data.reshape(*data.shape[: len(rest)], math.prod(data.shape[len(rest) :]))
        sizes = [run.size(axis.size) for axis in at.q]

        for u in range(index.shape[1]):
            value = data[..., index[:, u].clamp(min=0)].masked_fill(index[:, u] < 0, 0)
            value = run.named(value.reshape(*data.shape[:-1], *sizes), (*rest, *at.names))
            yield value, run.named(valid[:, u].reshape(sizes), at.names)

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        """For every axis it moves along, how far offsets reach down and up."""
        raise NotImplementedError

    def offsets(self, run: Run, at: Places) -> Any:
        """(key - query) / unit along each axis it moves along, before any rule for the edge: [axes, P, K]."""
        raise NotImplementedError

    # ---- PyTorch

    def queries(self, code: Code, x: Operand, at: Places) -> Operand:
        """The queries, with their last axis (`C` or `tap`) innermost, in the region's form."""
        raise NotImplementedError

    def keys(self, code: Code, x: Operand, at: Places) -> Operand:
        """The keys: (lead, "@groups", "tap", last) or (lead, positions, "tap", last); zeros without a key."""
        raise NotImplementedError

    def merge(self, code: Code, x: Operand, form: Form) -> Operand:
        """Back from the region's form to the map, its positions in any order."""
        raise NotImplementedError

    def count(self, code: Code, k: Operand, at: Places) -> str:
        """The number of taps as a text, where `k` are the keys in the order of the map."""
        return str(self.taps(at).constant)

    def scores(self, code: Code, q: Operand, k: Operand, at: Places) -> Operand:
        """sum_C q[i] k[k(i, u)], and -inf where there is no tap."""
        from archc.where import emit

        return emit.scores(self, code, q, k, at)

    def mix(self, code: Code, w: Operand, v: Operand, at: Places) -> Operand:
        """sum_u w[i, u] v[k(i, u)], in the order of the map."""
        from archc.where import emit

        return emit.mix(self, code, w, v, at)

    def mask(self, code: Code, k: Operand, at: Places) -> Operand | None:
        """Which taps are there, in the region's form; None where all are."""
        from archc.where import emit

        return emit.mask(self, code, k, at) if self.gaps else None

    def look(self, code: Code, x: Operand, at: Places) -> Operand:
        """x[k(i, u)], in the order of the map with the taps innermost."""
        from archc.where import emit

        return emit.look(self, code, x, at)

    def bias(self, code: Code, table: Operand, at: Places, sizes: dict[str, str], centre: str | None) -> Operand:
        """`relative`: the table, its offset axes innermost, read at the offsets of every tap."""
        raise NotImplementedError

    # ---- what may be written with it

    def __add__(self, other: Region) -> Region:
        from archc.where.compose import Union

        return Union(self, other)

    def __sub__(self, other: Region) -> Region:
        from archc.where.compose import difference

        return difference(self, other)

    def __mul__(self, other: Region) -> Region:
        from archc.where.product import Product

        return Product(self, other)


@dataclass(frozen=True)
class Form:
    """How a tensor over taps lies: in the form of `region` over the positions `axes`, of sizes `extents`."""

    region: Region
    axes: tuple[str, ...]
    extents: tuple[str, ...] = field(compare=False)

    def merge(self, code: Code, x: Operand) -> Operand:
        """`x` in the order of the map: what rides along, the positions, then taps or channels."""
        if GROUPS in x.order or QUERIES in x.order:
            x = self.region.merge(code, x, self)
        last = tuple(name for name in (TAP, "C") if name in x.order)[:1]
        lead = tuple(name for name in x.order if name not in (*self.axes, *last))
        positions = tuple(name for name in self.axes if name in x.order)
        return replace(x, where=None).to((*lead, *positions, *last))

    def enter(self, code: Code, x: Operand) -> Operand | None:
        """`x`, which lies in the order of the map, in this form; None where it lacks some positions."""
        mine = [name for name in self.axes if name in x.order]
        if not mine:
            return replace(x, where=self)
        if len(mine) < len(self.axes):
            return None
        at = Places(x.type.positions, x.type.positions)
        return replace(self.region.queries(code, x, at), where=self)


# ---- small things that several regions say


def unvaried(number: Scalar) -> Scalar:
    """A number that is the same for all inputs, or raises NoCourse."""
    if not isinstance(number.value, int) and size_of(number).constant is None:
        raise NoCourse("how its keys lie depends on the size of the map")
    return number



def chosen(on: Any, names: Sequence[str], region: str) -> tuple[str, ...]:
    """The axes that `on=` names, or all. Raises OpError for an axis that is not there."""
    if on is None:
        return tuple(names)
    given = plain(on) if isinstance(on, Scalar) else on
    given = [given] if isinstance(given, str) else list(given or ())
    for name in given:
        if name not in names:
            have = ", ".join(names) or "none"
            raise OpError(
                f"`{region}` is on `{name}`, and the position axes are {have}",
                "E0302",
                argument="on",
                help="a region in two axes wants the map: keep H and W until it has been used"
                if len(names) == 1
                else "",
            )
    if len(set(given)) != len(given) or not given:
        raise OpError(f"`{region}` needs each of its axes once", "E0213", argument="on")
    return tuple(name for name in names if name in given)


def numbers(value: Scalar, count: int, what: str, least: int = 1, fixed: bool = True) -> tuple[Scalar, ...]:
    """One number for each axis, checked. Raises OpError."""
    if not isinstance(value, Scalar):
        raise OpError(f"`{what}` must be known at compile time: a number, or one for each axis", "E0213", argument=what)
    result = per_axis(value, count)
    for number in result:
        if isinstance(number.value, Size) and number.value.constant is None:
            if fixed:
                raise OpError(f"`{what}` must be a fixed number, and is {number.value}", "E0304", argument=what)
            continue
        known = number.value.constant if isinstance(number.value, Size) else number.value
        if not isinstance(known, int) or isinstance(known, bool) or known < least:
            raise OpError(
                f"`{what}` must be a whole number of at least {least}, and is {known}", "E0213", argument=what
            )
    return result


def fixed(number: Scalar) -> int:
    """A number that `numbers` found to be the same for all input sizes."""
    value = size_of(number).constant
    assert value is not None
    return value


def steady(*values: Scalar) -> tuple[int, ...] | None:
    """Whole numbers that are the same in every build; None where one is not."""
    return tuple(map(fixed, values)) if all(isinstance(value.sym, Const) for value in values) else None


def one_of(value: Scalar | None, options: Sequence[str | None], what: str) -> str | None:
    """A word out of `options`. Raises OpError."""
    word = value.value if isinstance(value, Scalar) else value
    if word not in options:
        legal = ", ".join(f'"{option}"' for option in options if option)
        raise OpError(f"`{what}` is one of {legal}, not {word!r}", "E0213", argument=what)
    return word


def same_positions(check: Check, at: Places, region: str, stride: Sequence[int] = ()) -> None:
    """Local regions relate a map to itself: the same axes, of equal sizes (times `stride`)."""
    names = {axis.name for axis in at.k}
    if names != set(at.names):
        raise OpError(
            f"`{region}` relates a map to itself: the queries lie on [{', '.join(at.names)}], "
            f"the keys on [{', '.join(a.name for a in at.k)}]",
            "E0301",
            help="give both the same position axes, or use `everywhere`",
        )
    for axis, step in zip(at.q, stride or (1,) * len(at.q), strict=True):
        why = f"queries and keys of `{region}` must have the same {axis.name}"
        if step != 1:
            why = f"`{region}` with stride {step} needs keys {step} times as many as queries along {axis.name}"
        check.equal(at.key(axis.name).size, axis.size * step, why)
