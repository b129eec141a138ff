"""Regions and paths, with what they need of sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from whole_specs.author import Author, Operand, Type, Unfit
from whole_specs.sizes import Size, product

MAP, TOKENS, HEADS, LINE = "[B, C=4, H, W]", "[B, N, C=4]", "[B, heads=2, C=4, H, W]", "[B, C=4, N]"


@dataclass(frozen=True)
class Region:
    """A region as text. `offsets`: how far keys lie from queries along each axis, where a table could be read."""

    text: str
    taps: Size
    queries: tuple[tuple[str, Size], ...]
    offsets: tuple[int, ...] = ()
    key: Operand | None = None
    uses: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Path:
    text: str
    ways: int | None = None
    uses: frozenset[str] = field(default_factory=frozenset)


def attended(a: Author) -> Operand:
    return a.tensor(
        lambda t: (
            t.dtype == "float"
            and "tap" not in t
            and t.fixed("C") is not None
            and 1 <= len(t.positions) <= 2
            and bool(np.median(t.elements.at) < 8000)
        ),
        MAP,
        TOKENS,
        HEADS,
        LINE,
    )


def riding(x: Type) -> list[tuple[str, Size]]:
    return [(n, s) for n, s in x.axes if n not in x.positions and n != "C"]


def region(a: Author, x: Type, keys: bool = True, tensors: bool = True) -> Region:
    """A region over the positions of `x`; with `keys`, it may look into another tensor; with `tensors`, carry one."""
    kinds: list[Callable[[Author, Type], Region]] = [everywhere, window, neighborhood, grid, halo, itself]
    kinds += [shifted, product_of, union, difference]
    kinds += [row, column] if len(x.positions) == 2 else []
    kinds += [elsewhere] if keys else []
    kinds += [restricted] if tensors else []
    kinds += [picked] if tensors and len(x.positions) == 1 else []
    return a.pick(kinds)(a, x)


def _at(x: Type) -> tuple[tuple[str, Size], ...]:
    return tuple((n, x[n]) for n in x.positions)


def _sizes(a: Author, options: tuple[int, ...], count: int) -> tuple[str, list[int]]:
    if count > 1 and a.seldom():
        sizes = [a.pick(options) for _ in range(count)]
        return f"[{', '.join(map(str, sizes))}]", sizes
    text, size = a.number(options)
    return text, [size] * count


def itself(a: Author, x: Type) -> Region:
    return Region("self", Size.of(1), _at(x), (0,) * len(x.positions), uses=frozenset({"self"}))


def everywhere(a: Author, x: Type) -> Region:
    taps = product(s for _, s in _at(x))
    return Region("everywhere", taps, _at(x), uses=frozenset({"everywhere"}))


def elsewhere(a: Author, x: Type) -> Region:
    """All of another tensor."""
    key = a.tensor(
        lambda t: (
            t.dtype == "float"
            and "tap" not in t
            and t.fixed("C") == x.fixed("C")
            and 1 <= len(t.positions) <= 2
            and [n for n, _ in riding(t)] == [n for n, _ in riding(x)]
            and all(t[n].same(s) for n, s in riding(x))
        ),
        f"[B, M, C={x.fixed('C')}]",
    )
    taps = product(s for _, s in _at(key.type))
    return Region("everywhere", taps, _at(x), key=key, uses=frozenset({"everywhere"}))


def row(a: Author, x: Type) -> Region:
    return Region("row", x[x.positions[1]], _at(x), uses=frozenset({"row"}))


def column(a: Author, x: Type) -> Region:
    return Region("column", x[x.positions[0]], _at(x), uses=frozenset({"column"}))


def window(a: Author, x: Type) -> Region:
    text, sizes = _sizes(a, (2, 3, 1), len(x.positions))
    edge = a.pick(["", ', edge="drop"', ', edge="zero"'])
    for n, w in zip(x.positions, sizes, strict=True):
        if not edge:
            a.divides(w, x[n], f"a window of {w} divides {n}")
    offsets = tuple(w - 1 for w in sizes)
    taps = Size.of(int(np.prod(sizes)))
    return Region(f"window({text}{edge})", taps, _at(x), offsets, uses=frozenset({"window"}))


def grid(a: Author, x: Type) -> Region:
    text, sizes = _sizes(a, (2, 3, 1), len(x.positions))
    for n, g in zip(x.positions, sizes, strict=True):
        a.divides(g, x[n], f"a grid of {g} divides {n}")
    offsets = tuple(g - 1 for g in sizes)
    taps = Size.of(int(np.prod(sizes)))
    return Region(f"grid({text})", taps, _at(x), offsets, uses=frozenset({"grid"}))


def halo(a: Author, x: Type) -> Region:
    text, blocks = _sizes(a, (2, 1, 3), len(x.positions))
    around = a.pick([1, 2, 0])
    edge = a.pick(["", ', edge="zero"'])
    for n, b in zip(x.positions, blocks, strict=True):
        a.divides(b, x[n], f"a block of {b} divides {n}")
    offsets = tuple(b - 1 + around for b in blocks)
    taps = Size.of(int(np.prod([b + 2 * around for b in blocks])))
    text = f"halo({text}, {around}{edge})"
    return Region(text, taps, _at(x), offsets, uses=frozenset({"halo"}))


def neighborhood(a: Author, x: Type) -> Region:
    text, sizes = _sizes(a, (3, 1, 5), len(x.positions))
    d = a.pick([1, 1, 2])
    edge = a.pick(["drop", "zero", "shift", "wrap", "clamp", "reflect"])
    for n, k in zip(x.positions, sizes, strict=True):
        if edge == "shift":
            a.least(x[n], d * k, f"a neighborhood fits into {n}")
        if edge == "reflect":
            a.least(x[n], d * (k // 2) + 1, f"a reflected neighborhood fits into {n}")
    args = [text, *([f"dilation={d}"] if d > 1 else []), *([f'edge="{edge}"'] if edge != "drop" else [])]
    # A window that slides at the border looks up to k - 1 steps to one side.
    offsets = tuple(k - 1 if edge == "shift" else k // 2 for k in sizes)
    offsets = () if edge in ("wrap", "clamp", "reflect") else offsets
    taps = Size.of(int(np.prod(sizes)))
    text = f"neighborhood({', '.join(args)})"
    return Region(text, taps, _at(x), offsets, uses=frozenset({"neighborhood"}))


def simple(a: Author, x: Type) -> Region:
    return a.pick([window, neighborhood, grid, itself])(a, x)


def shifted(a: Author, x: Type) -> Region:
    inner = a.pick([window, neighborhood, grid])(a, x)
    shift = a.pick([1, -1, 2])
    edge = a.pick(["", ', edge="drop"'])
    text = f"shifted({inner.text}, {shift}{edge})"
    return Region(text, inner.taps, _at(x), uses=inner.uses | {"shifted"})


def union(a: Author, x: Type) -> Region:
    one = a.pick([simple, *([row, column] if len(x.positions) == 2 else [])])(a, x)
    two = a.pick([simple, *([row, column] if len(x.positions) == 2 else [])])(a, x)
    uses = one.uses | two.uses | {"union"}
    return Region(f"{one.text} + {two.text}", one.taps + two.taps, _at(x), uses=uses)


def difference(a: Author, x: Type) -> Region:
    one = a.pick([neighborhood, everywhere, window, *([row, column] if len(x.positions) == 2 else [])])(a, x)
    two = a.pick([itself, neighborhood])(a, x)
    # Where all taps are taken away, the softmax over none is not a number.
    extra = neighborhood_of_one(x)
    uses = one.uses | two.uses | {"difference", "union"}
    text = f"({one.text} - {two.text}) + {extra.text}"
    return Region(text, one.taps + extra.taps, _at(x), uses=uses)


def neighborhood_of_one(x: Type) -> Region:
    return Region("self", Size.of(1), _at(x))


def product_of(a: Author, x: Type) -> Region:
    if len(x.positions) != 2:
        raise Unfit
    h, w = x.positions
    k, j = a.pick([3, 1]), a.pick([2, 3])
    a.divides(j, x[w], f"a window of {j} divides {w}")
    text = f"neighborhood({k}, on={h}) * window({j}, on={w})"
    return Region(text, Size.of(k * j), _at(x), uses=frozenset({"product", "neighborhood", "window"}))


def restricted(a: Author, x: Type) -> Region:
    """A window, of which a tensor of truth values takes taps away; `self` stays, so that some tap is left."""
    k = a.pick([3, 1])
    taps = k ** len(x.positions)
    dims = ", ".join(f"{n}={_symbol(a, x[n])}" if _symbol(a, x[n]) != n else n for n in x.positions)
    if not a.frame.root:
        raise Unfit
    name = a.add_input(f"bool[B, {dims}, tap={taps}]")
    a.read(name)
    text = f"(neighborhood({k}) & {name}) + self"
    uses = frozenset({"restricted", "union", "neighborhood", "self"})
    return Region(text, Size.of(taps + 1), _at(x), uses=uses)


def _symbol(a: Author, size: Size) -> str:
    found = [n for n, s in a.symbols.items() if s.same(size)]
    if size.constant is not None:
        return str(size.constant)
    if not found:
        raise Unfit
    return found[0]


def picked(a: Author, x: Type) -> Region:
    """The nearest few, by sorted positions that the network computes."""
    (n,) = x.positions
    source = a.tensor(lambda t: t.dtype == "float" and t.raw and set(t.names) == {"B", n, "C"} and t[n].same(x[n]))
    if "M" in x:
        raise Unfit
    a.least(x[n], 2, "two places")
    index = f'argsort(dot({source.text}, {source.text} |> rename({n}="m"), C), m)[m=:2] |> rename(m="tap")'
    a.costs(source.type.without("C").elements * x[n] * source.type["C"])
    a.frame.fresh += 1
    name = f"i{a.frame.fresh}"
    a.line(f"{name} = {index}")
    a.uses("argsort", "dot", "rename", "pick")
    return Region(f"picked({name})", Size.of(2), _at(x), uses=frozenset({"picked"}))


# ---- paths


def path(a: Author, x: Type) -> Path:
    kinds: list[Callable[[Author, Type], Path]] = [raster, reverse, windowed, every, several]
    kinds += [snake, diagonal, cross] if len(x.positions) == 2 else []
    return a.pick(kinds)(a, x)


def raster(a: Author, x: Type) -> Path:
    orders = [x.positions, x.positions[::-1], x.positions[-1:]]
    return Path(f"raster({', '.join(a.pick(orders))})", uses=frozenset({"raster"}))


def snake(a: Author, x: Type) -> Path:
    return Path(f"snake({', '.join(a.pick([x.positions, x.positions[::-1]]))})", uses=frozenset({"snake"}))


def diagonal(a: Author, x: Type) -> Path:
    return Path(f"diagonal({', '.join(x.positions)})", uses=frozenset({"diagonal"}))


def cross(a: Author, x: Type) -> Path:
    return Path(f"cross({', '.join(x.positions)})", 4, frozenset({"cross"}))


def _one(a: Author, x: Type) -> Path:
    return a.pick([raster, *([snake, diagonal] if len(x.positions) == 2 else [])])(a, x)


def reverse(a: Author, x: Type) -> Path:
    inner = _one(a, x)
    return Path(f"-{inner.text}", uses=inner.uses | {"reverse"})


def windowed(a: Author, x: Type) -> Path:
    return _blocked(a, x, "windowed")


def every(a: Author, x: Type) -> Path:
    return _blocked(a, x, "every")


def _blocked(a: Author, x: Type, name: str) -> Path:
    over = x.positions
    inner = a.pick([f"raster({', '.join(over)})", *([f"snake({', '.join(over)})"] if len(over) == 2 else [])])
    text, sizes = _sizes(a, (2, 3, 1), len(over))
    for n, s in zip(over, sizes, strict=True):
        a.divides(s, x[n], f"`{name}` cuts {n} by {s}")
    return Path(f"{name}({text}, {inner})", uses=frozenset({name}))


def several(a: Author, x: Type) -> Path:
    one, two = _one(a, x), reverse(a, x)
    return Path(f"[{one.text}, {two.text}]", 2, one.uses | two.uses | {"several"})
