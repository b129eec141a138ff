"""What a region is: a map from a query position and a tap number to a key position, or to none.

A region is a compile-time value. It says how many taps a query has, what it needs of the sizes, which key each tap
is (`index`, the meaning), and how the emitted module gathers keys. Two ways of gathering exist:

- grouped: queries that share one set of keys lie together, so that scores are one batched matrix product. Tensors
  over taps then stay in the region's own form: `(lead, "@groups", "@queries", "tap")`.
- single: every query has keys of its own, which lie in the order of the map: `(lead, positions, "tap", "C")`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import Scalar, plain, size_of
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Check, Code, OpError, Reach, per_axis
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run

# What may be said again later: a number, or one that the module keeps.
KEPT = re.compile(r"\d+|self\.\w+")
GROUPS, QUERIES, TAP = "@groups", "@queries", "tap"


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


@dataclass(frozen=True)
class Region:
    """Base of all regions. `grouped` says which way of gathering it uses, `local` that it relates a map to itself."""

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

    def queried(self, k: Sequence[Axis]) -> tuple[Axis, ...]:
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
    def gaps(self) -> bool:
        """Whether some taps may be none: score -inf, weight 0."""
        raise NotImplementedError

    @property
    def leaks(self) -> bool:
        """Whether `keys` gives values also for taps that are none."""
        return False

    def reach(self, at: Places, axis: str) -> Reach | None:
        """What a query sees of the keys along a position axis, where sizes are numbers; None where it may be all."""
        return None if axis in self.axes(at.names) else Reach(axis)

    # ---- meaning

    def index(self, run: Run, at: Places) -> tuple[Any, Any]:
        """The key of every tap as a flat position [P, K], and which taps are there [P, K].

        A tap that is there without a key (`edge="zero"`) has position -1, as have taps that are none.
        """
        raise NotImplementedError

    def taken(self, run: Run, x: Named, at: Places) -> tuple[Iterator[tuple[Any, Any]], tuple[str, ...]]:
        """For each tap, the value of `x` at its key for every query (0 without one) and where the tap is there.

        Also gives the axes of the values; the truth values have the position axes of the queries.
        """
        index, valid = self.index(run, at)
        keys = [axis.name for axis in at.k]
        data = x.last(*keys)
        rest = tuple(name for name in x.names if name not in keys)
        data = data.reshape(*data.shape[: len(rest)], math.prod(data.shape[len(rest) :]))
        sizes = [run.size(axis.size) for axis in at.q]

        def turns() -> Iterator[tuple[Any, Any]]:
            for u in range(index.shape[1]):
                value = data[..., index[:, u].clamp(min=0)].masked_fill(index[:, u] < 0, 0)
                yield value.reshape(*data.shape[:-1], *sizes), valid[:, u].reshape(sizes)

        return turns(), (*rest, *at.names)

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        """For every axis it moves along, how far offsets reach down and up."""
        raise NotImplementedError

    def offsets(self, run: Run, at: Places) -> Any:
        """For every axis it moves along, (key - query) / unit before any rule for the edge, as [axes, P, K]."""
        raise NotImplementedError

    # ---- PyTorch

    def queries(self, code: Code, x: Operand, at: Places) -> Operand:
        """The queries, with their last axis (`C` or `tap`) innermost, in the region's form."""
        raise NotImplementedError

    def keys(self, code: Code, x: Operand, at: Places) -> Operand:
        """The keys as (lead, "@groups", "tap", last) or (lead, positions, "tap", last); zeros where a tap has none."""
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
        from archc.where.compose import Product

        return Product(self, other)


@dataclass(frozen=True)
class Form:
    """How a tensor over taps lies: in the form of `region` over the positions `axes`, whose sizes are `extents`."""

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
        """`x`, which lies in the order of the map, in this form. None where it has some of the positions only."""
        mine = [name for name in self.axes if name in x.order]
        if not mine:
            return replace(x, where=self)
        if len(mine) < len(self.axes):
            return None
        at = Places(x.type.positions, x.type.positions)
        return replace(self.region.queries(code, x, at), where=self)


# ---- small things that several regions say


def chosen(on: Any, names: Sequence[str], region: str) -> tuple[str, ...]:
    """The axes that `on=` names, or all. Raises OpError for an axis that is not there."""
    if on is None:
        return tuple(names)
    given = plain(on) if isinstance(on, Scalar) else on
    given = [given] if isinstance(given, str) else list(given or ())
    for name in given:
        if name not in names:
            have = ", ".join(names) or "none"
            raise OpError(f"`{region}` is on `{name}`, and the position axes are {have}", "E0302", argument="on")
    if len(set(given)) != len(given) or not given:
        raise OpError(f"`{region}` needs each of its axes once", "E0213", argument="on")
    return tuple(name for name in names if name in given)


def numbers(value: Scalar, count: int, what: str, least: int = 1, fixed: bool = True) -> tuple[Scalar, ...]:
    """One number for each axis, checked. Raises OpError."""
    result = per_axis(value, count)
    for number in result:
        if isinstance(number.value, Size) and number.value.constant is None:
            if fixed:
                raise OpError(f"`{what}` must be a fixed number, and is {number.value}", "E0304", argument=what)
            continue
        known = number.value.constant if isinstance(number.value, Size) else number.value
        if not isinstance(known, int) or isinstance(known, bool) or known < least:
            raise OpError(f"`{what}` must be a whole number of at least {least}, and is {known}", "E0213", argument=what)
    return result


def fixed(number: Scalar) -> int:
    """A number that `numbers` found to be the same for all input sizes."""
    value = size_of(number).constant
    assert value is not None
    return value


def one_of(value: Scalar | None, options: Sequence[str | None], what: str) -> str | None:
    """A word out of `options`. Raises OpError."""
    word = value.value if isinstance(value, Scalar) else value
    if word not in options:
        legal = ", ".join(f'"{option}"' for option in options if option)
        raise OpError(f"`{what}` is one of {legal}, not {word!r}", "E0213", argument=what)
    return word


def tuple_text(texts: Sequence[str]) -> str:
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def product_text(texts: Sequence[str]) -> str:
    """A product of extents, multiplied out where all are numbers."""
    if all(text.isdigit() for text in texts):
        return str(math.prod(int(text) for text in texts))
    return " * ".join(tight(text) for text in texts if text != "1") or "1"


def tight(text: str) -> str:
    """An expression as an operand of `*` and `//`."""
    return text if re.fullmatch(r"[\w.]+(\[[^]]*\])?", text) else f"({text})"


class Once:
    """The `Code` of one operation, in which an expression that is let twice gets one name.

    The names that it gives are new and never change: what they say of a shape may be said again later.
    """

    def __init__(self, code: Code) -> None:
        self.code, self.names = code, dict[str, str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.code, name)

    def let(self, text: str, hint: str) -> str:
        if text not in self.names:
            self.names[text] = self.code.let(text, hint)
        return self.names[text]


def bound(code: Code, x: Operand, hint: str = "x") -> Operand:
    """`x` under a name, for text that mentions it more than once."""
    if x.text.isidentifier():
        return x
    return replace(x, text=code.let(x.text, hint), binding=ATOM)


def extents(code: Code, x: Operand, names: Sequence[str]) -> tuple[str, ...]:
    """The sizes of axes: numbers, or texts that stay valid when the variable `x` is given another value."""
    texts = []
    for name in names:
        text = code.extent(x, name)
        steady = KEPT.fullmatch(text) or isinstance(code, Once) and x.text in code.names.values()
        texts.append(text if steady else code.let(text, f"size_{name.lower()}"))
    return tuple(texts)


def opened(x: Operand, order: Sequence[str]) -> Operand:
    """`x`, whose axes come in the order of `order`, with an axis of size 1 for each that it lacks."""
    steps = [":" if name in x.order else "None" for name in order]
    if "None" not in steps:
        return x
    last = len(steps) - steps[::-1].index("None")
    full, short = ", ".join(steps[:last]), ", ".join(["...", *steps[steps.index("None") :]])
    return then(x, f"{x.atom}[{min(full, short, key=len)}]", tuple(order))


def arrange(x: Operand, positions: Sequence[str], last: Sequence[str]) -> Operand:
    """`x` with what rides along first (in the order of its type), then the positions, then `last`."""
    tail = (*positions, *last)
    lead = tuple(name for name in x.type.names if name not in tail)
    return x.to((*lead, *tail))


def trailing(x: Operand, positions: Sequence[str]) -> tuple[str, ...]:
    """The axis that lies innermost in the region's form: taps, else channels, else none."""
    return next(((name,) for name in (TAP, "C") if name in x.order and name not in positions), ())


def then(x: Operand, text: str, order: tuple[str, ...]) -> Operand:
    return replace(x, text=text, order=order, binding=ATOM)


def same_positions(check: Check, at: Places, region: str, stride: Sequence[int] = ()) -> None:
    """Local regions relate a map to itself: the same axes, of equal sizes (times `stride`)."""
    names = {axis.name for axis in at.k}
    if names != set(at.names):
        raise OpError(f"`{region}` relates a map to itself: the queries lie on [{', '.join(at.names)}], "
                      f"the keys on [{', '.join(a.name for a in at.k)}]", "E0301",
                      help="give both the same position axes, or use `everywhere`")  # fmt: skip
    for axis, step in zip(at.q, stride or (1,) * len(at.q), strict=True):
        why = f"queries and keys of `{region}` must have the same {axis.name}"
        if step != 1:
            why = f"`{region}` with stride {step} needs keys {step} times as many as queries along {axis.name}"
        check.equal(at.key(axis.name).size, axis.size * step, why)


def probe(text: str, positions: Sequence[Axis]) -> Operand:
    """A map with one channel, in the order (positions, C): masks and numbers of positions are made from such."""
    axes = (*positions, Axis("C", Dim.of(1)))
    return Operand(text, TensorType("int", axes), tuple(axis.name for axis in axes))
