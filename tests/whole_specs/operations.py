"""A writer for every operation: how a call of it looks, what it gives, needs, owns and costs.

Shapes, needs and costs are said here a second time, from the definitions in `grammar/README.md` and torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from whole_specs import places
from whole_specs.author import Author, Operand, Type, Unfit
from whole_specs.sizes import Size, product

MAP, TOKENS, VECTOR, VIDEO = "[B, C=4, H, W]", "[B, N, C=4]", "[B, C=4]", "[B, C=2, T, H, W]"
HEADS, OTHER_MAP, WIDE = "[B, heads=2, C=4, H, W]", "[B, C=4, H=Hz, W=Wz]", "[B, C=6, H, W]"
IDS, MASK = "int[B, N]", "bool[B, N]"
LINE = "[B, C=4, N]"


@dataclass(frozen=True)
class Several:
    """The text of a call with several results."""

    text: str
    types: tuple[Type, ...]


Result = Operand | Several
OPERATIONS: dict[str, Callable[[Author], Result]] = {}


def operation(*names: str) -> Callable[[Callable[[Author, str], Result]], Callable[[Author, str], Result]]:
    def add(write: Callable[[Author, str], Result]) -> Callable[[Author, str], Result]:
        for name in names:

            def one(a: Author, name: str = name) -> Result:
                made = write(a, name)
                a.uses(name)
                return made

            OPERATIONS[name] = one
        return write

    return add


# ---- operands


def floating(t: Type) -> bool:
    return t.dtype == "float" and "tap" not in t


def with_channels(t: Type) -> bool:
    return floating(t) and t.fixed("C") is not None


def small(x: Type, most: int = 60_000) -> bool:
    """Whether a tensor stays small enough to be run in the interpreter."""
    return bool(np.median(x.elements.at) <= most)


def any_float(a: Author) -> Operand:
    return a.tensor(floating, MAP, TOKENS, VECTOR, VIDEO)


def channelled(a: Author) -> Operand:
    return a.tensor(with_channels, MAP, TOKENS, VECTOR, VIDEO, HEADS)


def a_map(a: Author) -> Operand:
    return a.tensor(lambda t: with_channels(t) and len(t.positions) == 2, MAP, WIDE, HEADS, OTHER_MAP)


def spatial(a: Author) -> Operand:
    return a.tensor(lambda t: with_channels(t) and 1 <= len(t.positions) <= 3, MAP, TOKENS, LINE, VIDEO, WIDE)


def generic(a: Author) -> Operand:
    """A tensor without ties, for what jumps."""
    return a.tensor(lambda t: floating(t) and t.raw and bool(t.axes), MAP, TOKENS, VECTOR)


def condition(a: Author, inside: Type | None = None) -> Operand:
    """A tensor of truth values, whose axes lie within a type."""

    def fits(t: Type) -> bool:
        return within(t, inside) if inside is not None else True

    if a.seldom():
        return a.tensor(lambda t: t.dtype == "bool" and "tap" not in t and fits(t), MASK)
    x = a.tensor(lambda t: floating(t) and t.raw and fits(t), MAP, TOKENS)
    a.uses("greater")
    return Operand(f"{x.inner} > 0", x.type.of("bool").exact(), False)


def whole(a: Author) -> Operand:
    """A tensor of whole numbers."""
    return a.tensor(lambda t: t.dtype == "int" and "tap" not in t, IDS)


def within(small: Type, large: Type | None) -> bool:
    return large is not None and all(n in large and large[n].same(s) for n, s in small.axes)


def axis_of(a: Author, x: Type, *, fixed: bool = False, positions: bool = False, batch: bool = False) -> str:
    names = [n for n, s in x.axes if (batch or n != "B") and (not fixed or s.constant is not None)]
    return a.pick([n for n in names if not positions or n in x.positions])


def same_everywhere(x: Type, y: Type) -> bool:
    return set(x.names) == set(y.names) and within(x, y)


# ---- one element at a time


@operation("abs", "sigmoid", "relu", "silu", "softplus", "identity", "tanh", "sin", "cos", "erf")
def pointwise(a: Author, name: str) -> Result:
    x = any_float(a)
    type = x.type if name in ("identity", "sin", "tanh", "silu") else x.type.exact()
    return a.made(name, type, x)


@operation("sqrt", "log", "exp")
def guarded(a: Author, name: str) -> Result:
    x = any_float(a)
    if name == "exp":
        return Operand(f"exp(tanh({x.text}))", x.type)
    return Operand(f"{name}(abs({x.text}) + 1)", x.type.exact())


@operation("sign", "floor", "round")
def stepping(a: Author, name: str) -> Result:
    x = generic(a)
    return a.made(name, x.type.exact(), x)


@operation("gelu")
def gelu(a: Author, name: str) -> Result:
    return a.made("gelu", (x := any_float(a)).type.exact(), x, *a.pick([(), ('"tanh"',)]))


@operation("clamp")
def clamp(a: Author, name: str) -> Result:
    x = generic(a)
    return a.made("clamp", x.type.exact(), x, *a.pick([("-0.5", "0.5"), ("max=0.25",), ("min=-0.25",)]))


@operation("stop_gradient")
def stop_gradient(a: Author, name: str) -> Result:
    return a.made("stop_gradient", (x := any_float(a)).type, x)


@operation("cast")
def cast(a: Author, name: str) -> Result:
    kind = a.pick(["float of bool", "float of int", "int", "bool"])
    if kind == "int":
        x = generic(a)
        return Operand(f"cast(3 * {x.inner}, int)", x.type.of("int").exact())
    if kind == "bool":
        x = whole(a)
        return Operand(f"cast({x.text}, bool)", x.type.of("bool").exact())
    x = condition(a) if kind == "float of bool" else whole(a)
    return Operand(f"cast({x.text}, float)", x.type.of("float").exact())


# ---- arithmetic

SIGNS = {"add": "+", "subtract": "-", "multiply": "*"}
COMPARISONS = {"less": "<", "greater": ">", "at_most": "<=", "at_least": ">="}


def two_sides(a: Author, fits: Callable[[Type], bool], *made: str) -> tuple[Operand, Operand, Type]:
    """Two tensors, the axes of one within the other's; sizes that differ somewhere become a need."""
    x = a.tensor(fits, *made)

    def beside(t: Type) -> bool:
        short, long = sorted((t, x.type), key=lambda one: len(one.axes))
        return fits(t) and set(short.names) <= set(long.names) and all(_may_meet(t[n], x.type[n]) for n in short.names)

    y = a.tensor(beside)
    long, short = (x.type, y.type) if set(x.type.names) >= set(y.type.names) else (y.type, x.type)
    for name in short.names:
        a.equal(x.type[name], y.type[name], f"both have {name}")
    if a.coin():
        x, y = y, x
    return x, y, long


def _may_meet(s: Size, t: Size) -> bool:
    return s.constant == t.constant and bool((s.at == t.at).mean() > 0.02)


def combined(x: Operand, y: Operand, long: Type) -> Type:
    """Of two sides, the longer's axes in its order; the left's where both have the same."""
    if set(x.type.names) == set(y.type.names):
        long = x.type
    return long


@operation(*SIGNS)
def arithmetic(a: Author, name: str) -> Result:
    sign = SIGNS[name]
    if a.coin():
        x, y, long = two_sides(a, floating, MAP, TOKENS)
        return Operand(f"{x.inner} {sign} {y.inner}", combined(x, y, long).exact(), False)
    x = any_float(a)
    number = a.pick(["2", "0.5", "1"])
    text = f"{x.inner} {sign} {number}" if a.coin() else f"{number} {sign} {x.inner}"
    return Operand(text, x.type, False)


@operation("divide", "power", "remainder", "floor_divide")
def dividing(a: Author, name: str) -> Result:
    if name == "divide":
        if a.coin():
            x, y, long = two_sides(a, floating, MAP, TOKENS)
            return Operand(f"{x.inner} / (abs({y.text}) + 1)", combined(x, y, long).exact(), False)
        x = any_float(a)
        return Operand(a.pick([f"{x.inner} / 2", f"1 / (abs({x.text}) + 1)"]), x.type.exact(), False)
    if name == "power":
        x = any_float(a)
        text = a.pick([f"{x.inner} ** 2", f"(abs({x.text}) + 1) ** 0.5", f"2 ** tanh({x.text})"])
        return Operand(text, x.type.exact(), False)
    sign = "%" if name == "remainder" else "//"
    if a.coin():
        x = generic(a)
        return Operand(f"{x.inner} {sign} 0.75", x.type.exact(), False)
    x = whole(a)
    return Operand(a.pick([f"{x.inner} {sign} 3", f"{x.inner} {sign} ({x.inner} * {x.inner} + 1)"]), x.type, False)


@operation("maximum", "minimum")
def extremum(a: Author, name: str) -> Result:
    word = {"maximum": "max", "minimum": "min"}[name]
    if a.coin():
        x, y, long = two_sides(a, lambda t: floating(t) and t.raw, MAP, TOKENS)
        if x.text == y.text:
            raise Unfit
        return Operand(f"{word}({x.text}, {y.text})", combined(x, y, long).exact())
    x = generic(a)
    return Operand(f"{word}({x.text}, 0.1)", x.type.exact())


@operation("negative", "not")
def sign_change(a: Author, name: str) -> Result:
    if name == "negative":
        x = any_float(a)
        return Operand(f"-{x.inner}", x.type, False)
    x = condition(a)
    return Operand(f"not {x.inner}", x.type, False)


@operation(*COMPARISONS)
def comparison(a: Author, name: str) -> Result:
    x = generic(a)
    return Operand(f"{x.inner} {COMPARISONS[name]} {a.pick(['0', '0.25'])}", x.type.of("bool").exact(), False)


@operation("equal", "not_equal")
def equality(a: Author, name: str) -> Result:
    x, sign = whole(a), "==" if name == "equal" else "!="
    return Operand(a.pick([f"{x.inner} {sign} 1", f"2 {sign} {x.inner}"]), x.type.of("bool").exact(), False)


@operation("both", "either")
def logic(a: Author, name: str) -> Result:
    x = condition(a)
    y = condition(a, x.type)
    return Operand(f"{_grouped(x)} {'and' if name == 'both' else 'or'} {_grouped(y)}", x.type, False)


def _grouped(x: Operand) -> str:
    return x.text if x.atom else f"({x.text})"


# ---- layout


@operation("rename")
def rename(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: len(t.axes) >= 2 and "tap" not in t, MAP, TOKENS)
    old = axis_of(a, x.type)
    new = a.pick(["k", "M", "e"])
    if new in x.type:
        raise Unfit
    return a.made("rename", x.type.renamed({old: new}), x, f'{old}="{new}"')


@operation("rearrange")
def rearrange(a: Author, name: str) -> Result:
    kind = a.pick(["take apart", "merge", "order", "space to depth", "there and back"])
    if kind == "merge":
        x = a_map(a)
        h, w = x.type.positions
        first, second = a.pick([(h, w), (w, h)])
        if "P" in x.type:
            raise Unfit
        size = x.type[h] * x.type[w]
        type = _listed(x.type, [h, w], [("P", size)])
        return a.made("rearrange", type, x, f'"{h} {w} -> P=({first} {second})"')
    if kind == "order":
        x = a.tensor(lambda t: len(t.axes) >= 3 and "tap" not in t, MAP, TOKENS)
        names = [n for n in x.type.names if n != "B"]
        turned = names[::-1]
        type = _listed(x.type, names, [(n, x.type[n]) for n in turned])
        return a.made("rearrange", type, x, f'"{" ".join(names)} -> {" ".join(turned)}"')
    x = channelled(a)
    width = x.type.fixed("C")
    assert width is not None
    if kind == "space to depth":
        if len(x.type.positions) != 2 or {"a", "b"} & set(x.type.names):
            raise Unfit
        h, w = x.type.positions
        for n in (h, w):
            a.divides(2, x.type[n], f"2 divides {n}")
        new = [("C", Size.of(4 * width)), (h, x.type[h] // 2), (w, x.type[w] // 2)]
        type = _listed(x.type, [h, w, "C"], new)
        return a.made("rearrange", type, x, f'"{h}=({h} a) {w}=({w} b) C -> C=(a b C) {h} {w}"', "a=2", "b=2")
    divisors = [d for d in (2, 1, 4) if width % d == 0]
    text, count = a.number(divisors)
    if kind == "take apart":
        if "g" in x.type:
            raise Unfit
        type = _listed(x.type, ["C"], [("g", Size.of(count)), ("C", Size.of(width // count))])
        return a.made("rearrange", type, x, '"C=(g C) -> g C"', f"g={text}")
    pattern = a.pick(['"C=(g C) -> C=(C g)"', '"C=(g d) -> C=(d g)"'])
    return a.made("rearrange", x.type.resized(C=width), x, pattern, f"g={text}")


def _listed(x: Type, listed: Sequence[str], new: Sequence[tuple[str, Size]]) -> Type:
    """The axes listed in a pattern stand where the first of them stood."""
    first = min(x.names.index(n) for n in listed)
    before = [(n, s) for n, s in x.axes[:first] if n not in listed]
    after = [(n, s) for n, s in x.axes[first:] if n not in listed]
    return x.with_axes([*before, *new, *after])


@operation("split")
def split(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and t.fixed("C") not in (None, 1), MAP, WIDE, TOKENS)
    width = x.type.fixed("C")
    assert width is not None
    if a.coin():
        sizes = a.pick([[1, width - 1], [width - 1, 1]])
        text, _ = a.call("split", x, f"[{sizes[0]}, {sizes[1]}]", "C")
    else:
        count, parts = a.number([d for d in (2, 3) if width % d == 0])
        sizes = [width // parts] * parts
        text, _ = a.call("split", x, count, *a.pick([("C",), ()]))
    return Several(text, tuple(x.type.resized(C=n) for n in sizes))


@operation("unstack")
def unstack(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and any(1 < (s.constant or 0) <= 4 for _, s in t.axes), HEADS, VECTOR)
    axis = a.pick([n for n, s in x.type.axes if 1 < (s.constant or 0) <= 4])
    text, _ = a.call("unstack", x, axis)
    return Several(text, (x.type.without(axis),) * (x.type.fixed(axis) or 0))


@operation("cat")
def cat(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and bool(t.axes), MAP, TOKENS)
    axis = axis_of(a, x.type)
    others = [x.type.without(axis)]

    def beside(t: Type) -> bool:
        return floating(t) and axis in t and same_everywhere(t.without(axis), others[0])

    y = a.tensor(beside)
    total = x.type[axis] + y.type[axis]
    items = [x.text, y.text]
    if a.seldom():
        items.append(x.text)
        total = total + x.type[axis]
    type = x.type.resized(**{axis: total})
    return Operand(f"cat([{', '.join(items)}]{'' if axis == 'C' and a.coin() else f', {axis}'})", type)


@operation("stack")
def stack(a: Author, name: str) -> Result:
    x = any_float(a)
    y = a.tensor(lambda t: floating(t) and same_everywhere(t, x.type))
    axis = a.pick(["way", "k"])
    if axis in x.type:
        raise Unfit
    return Operand(f"stack([{x.text}, {y.text}], {axis})", _behind_batch(x.type, (axis, Size.of(2))))


def _behind_batch(x: Type, *new: tuple[str, Size]) -> Type:
    begin = 1 if x.names[:1] == ("B",) else 0
    return x.with_axes([*x.axes[:begin], *new, *x.axes[begin:]])


@operation("expand")
def expand(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and len(t.axes) <= 3 and small(t, 2000), VECTOR, TOKENS)
    if a.coin() and a.frame.sizes:
        size = a.pick(sorted(a.frame.sizes))
        if size in x.type:
            raise Unfit
        type = x.type.with_axes([(size, a.frame.sizes[size]), *x.type.axes])
        return a.made("expand", type.exact(), x, f"{size}={size}")
    text, n = a.number([2, 3, 1])
    if "k" in x.type:
        raise Unfit
    return a.made("expand", x.type.with_axes([("k", Size.of(n)), *x.type.axes]).exact(), x, f"k={text}")


@operation("pad")
def pad(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and bool(t.positions), MAP, TOKENS)
    axes = a.some(x.type.positions, 1)
    mode = a.pick(["zeros", "reflect", "replicate", "circular"])
    type, texts = x.type, []
    for n in axes:
        low, high = a.pick([(1, 1), (0, 1), (2, 0)])
        texts.append(f"{n}={low}" if low == high else f"{n}=({low}, {high})")
        size = x.type[n]
        for end in (low, high):
            if end:
                least = {"zeros": 0, "reflect": end + 1, "replicate": 1, "circular": end}[mode]
                a.least(size, least, f"padding {n}")
        type = type.resized(**{n: size + (low + high)})
    texts += [f'mode="{mode}"'] if mode != "zeros" else a.pick([[], ["value=-1.5"]])
    return a.made("pad", type.exact(), x, *texts)


@operation("roll", "flip")
def moved(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and bool(t.axes), MAP, TOKENS)
    axes = a.some(x.type.names, 1)
    if name == "flip":
        return a.made("flip", x.type, x, *axes)
    return a.made("roll", x.type, x, *(f"{n}={a.pick([1, -2, 7])}" for n in axes))


@operation("resize")
def resize(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and 1 <= len(t.positions) <= 2 and small(t), MAP, TOKENS)
    mode = a.pick(["nearest", "bilinear", "bicubic"])
    axes = list(x.type.positions) if mode == "bicubic" else a.some(x.type.positions, 1)
    if mode == "bicubic" and len(axes) != 2:
        raise Unfit
    align = mode != "nearest" and a.coin()
    type, texts = x.type, []
    for n in axes:
        a.least(x.type[n], 1, f"something along {n}")
        if a.coin():
            text = a.extent(x, n)
            texts.append(f"{n}=2 * {text}")
            size = x.type[n] * 2
        else:
            text, number = a.number([5, 1, 3])
            texts.append(f"{n}={text}")
            size = Size.of(number)
        type = type.resized(**{n: size})
    texts += [f'mode="{mode}"'] if mode != "nearest" else []
    return a.made("resize", type.exact(), x, *texts, *(["align=true"] if align else []))


@operation("pick")
def pick(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and any(n != "B" for n in t.names), MAP, TOKENS)
    axis = axis_of(a, x.type)
    size = x.type[axis]
    kind = a.pick(["one", "from", "to", "less", "list", "last"])
    if kind in ("one", "last"):
        a.least(size, 1, f"a place along {axis}")
        return Operand(f"{x.inner}[{axis}={0 if kind == 'one' else -1}]", x.type.without(axis))
    if kind == "list":
        places = a.pick([[0], [1, 0], [2, 0, 2, 1]])
        a.least(size, max(places) + 1, f"places along {axis}")
        return Operand(f"{x.inner}[{axis}={places}]", x.type.resized(**{axis: len(places)}).exact())
    if kind == "from":
        a.least(size, 1, f"from 1 along {axis}")
        return Operand(f"{x.inner}[{axis}=1:]", x.type.resized(**{axis: size - 1}))
    if kind == "to":
        a.least(size, 2, f"to 2 along {axis}")
        return Operand(f"{x.inner}[{axis}=:2]", x.type.resized(**{axis: 2}))
    a.least(size, 1, f"all but the last along {axis}")
    return Operand(f"{x.inner}[{axis}=:-1]", x.type.resized(**{axis: size - 1}))


# ---- choice


@operation("where")
def where(a: Author, name: str) -> Result:
    x = any_float(a)
    c = condition(a, x.type)
    # The axes are those of the first of the largest.
    type = c.type.of("float") if len(c.type.axes) == len(x.type.axes) else x.type
    if a.coin():
        y = a.tensor(lambda t: floating(t) and within(t, x.type))
        return Operand(f"where({c.text}, {x.text}, {y.text})", type.exact())
    return Operand(f"where({c.text}, {x.text}, {a.pick(['0', '-0.5'])})", type.exact())


@operation("argsort", "argmax", "top_k")
def ranking(a: Author, name: str) -> Result:
    x = generic(a)
    axis = axis_of(a, x.type)
    if name == "argsort":
        return a.made("argsort", x.type.of("int").exact(), x, axis)
    if name == "argmax":
        a.least(x.type[axis], 1, f"something along {axis}")
        return a.made("argmax", x.type.without(axis).of("int").exact(), x, axis)
    text, k = a.number([1, 2])
    a.least(x.type[axis], k, f"{k} along {axis}")
    taken = x.type.resized(**{axis: k})
    if x.type.fixed(axis) is not None and k > (x.type.fixed(axis) or 0):
        raise Unfit
    return Several(a.call("top_k", x, text, axis)[0], (taken, taken.of("int").exact()))


@operation("gather")
def gather(a: Author, name: str) -> Result:
    x = generic(a)
    axis = axis_of(a, x.type)
    a.uses("argsort")
    index = f"argsort({x.text}, {axis})"
    if a.coin():
        a.least(x.type[axis], 2, f"2 along {axis}")
        return Operand(f"gather({x.text}, {index}[{axis}=:2], {axis})", x.type.resized(**{axis: 2}))
    return Operand(f"gather({x.text}, {index}, {axis})", x.type)


@operation("scatter")
def scatter(a: Author, name: str) -> Result:
    x = generic(a)
    axis = axis_of(a, x.type)
    a.uses("argsort")
    if a.coin():
        a.least(x.type[axis], 1, f"1 along {axis}")
        text = f"scatter({x.text}, argsort({x.text}, {axis})[{axis}=:1], {a.pick(['1', '0.5'])}, {axis})"
        return Operand(text, x.type.exact())
    return Operand(f"scatter({x.text} * 0, argsort({x.text}, {axis}), {x.text}, {axis})", x.type.exact())


@operation("sample")
def sample(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and len(t.positions) == 2 and t.names[:1] == ("B",), MAP, HEADS)
    at = a.tensor(
        lambda t: floating(t) and t.fixed("C") == 2 and t.names[:1] == ("B",) and not set(t.positions) & {"H", "W"},
        "[B, N, C=2]",
        "[B, Q=3, C=2]",
    )
    if set(at.type.names) & set(x.type.positions):
        raise Unfit
    new = [(n, s) for n, s in at.type.axes if n != "C" and n not in x.type]
    kept = [(n, s) for n, s in x.type.axes if n not in x.type.positions]
    if any(n in at.type and not at.type[n].same(s) for n, s in kept if n != "C"):
        raise Unfit
    type = x.type.with_axes([*kept, *new]).exact()
    a.costs(type.elements * 4)
    places = f'sigmoid({at.text}) |> rename(C="xy")'
    return Operand(f"sample({x.text}, {places}, xy)", type)


# ---- contraction


@operation("dot")
def dot(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and small(t), MAP, TOKENS, VECTOR)
    if "k" in x.type or not a.coin():
        y = a.tensor(lambda t: floating(t) and within(t, x.type))
        axes = a.pick([["C"], *([n] for n in y.type.names), []])
        if not set(axes) <= set(y.type.names):
            raise Unfit
        type = x.type.without(*axes)
        total = type.elements * product(x.type[n] for n in axes)
        a.costs(total if axes else Size.of(0))
        return Operand(f"dot({', '.join([x.text, y.text, *axes])})", type.exact())
    # An outer product of the channels, summed over positions: the state of linear attention.
    y = a.tensor(lambda t: floating(t) and "C" in t and within(t.without("C"), x.type) and t.fixed("C") is not None)
    axes = list(x.type.positions)
    if not axes or not set(axes) <= set(y.type.names) or "k" in y.type:
        raise Unfit
    type = x.type.without(*axes)
    type = type.with_axes([*type.axes, ("k", y.type["C"])])
    a.costs(type.elements * product(x.type[n] for n in axes))
    return Operand(f'dot({x.text}, {y.text} |> rename(C="k"), positions)', type.exact())


def _weighted(a: Author, op: str, x: Operand, type: Type, weights: dict[str, Sequence[int]], *args: str) -> Result:
    label, text = a.label(op)
    a.owns(label, weights)
    return a.made(op, type, x, *args, label=text)


WIDTHS = (4, 6, 2, 8, 1)


@operation("linear")
def linear(a: Author, name: str) -> Result:
    axis = "C"
    if a.seldom(6):
        x = a.tensor(lambda t: floating(t) and any(s.constant for n, s in t.axes if n not in "BC"), HEADS)
        axis = a.pick([n for n, s in x.type.axes if s.constant and n not in "BC"])
    else:
        x = channelled(a)
    text, out = a.number(WIDTHS)
    given = x.type.fixed(axis)
    if given is None:
        raise Unfit
    type = x.type.resized(**{axis: out})
    a.costs(type.elements * given)
    bias = not a.seldom()
    weights = {"weight": (out, given), **({"bias": (out,)} if bias else {})}
    args = [text, *([] if bias else ["bias=false"]), *([f"axis={axis}"] if axis != "C" else [])]
    return _weighted(a, "linear", x, type.exact(), weights, *args)


def _sized(a: Author, options: Sequence[int], count: int) -> tuple[str, list[int]]:
    """A size argument: one number, or one for each axis."""
    if count > 1 and a.seldom():
        sizes = [a.pick(options) for _ in range(count)]
        return f"[{', '.join(map(str, sizes))}]", sizes
    text, size = a.number(options)
    return text, [size] * count


def _slide(a: Author, x: Operand) -> tuple[list[str], str]:
    """The axes that a kernel slides along, and the argument that says so."""
    axes = list(x.type.positions)
    if len(axes) > 1 and a.seldom(6):
        axes = [a.pick(axes)]
        return axes, f"on=({axes[0]})"
    return axes, ""


@operation("conv")
def conv(a: Author, name: str) -> Result:
    x = spatial(a)
    on, where = _slide(a, x)
    given = x.type.fixed("C")
    assert given is not None
    kernel_text, kernel = _sized(a, (3, 1, 2, 5, 4), len(on))
    stride_text, stride = _sized(a, (1, 2, 3), len(on))
    dilation_text, dilation = _sized(a, (1, 1, 2), len(on))
    kind = a.pick(["unsaid", "zero", "number", "tf"])
    out_text, out = a.number((given, *WIDTHS))
    if "C" in a.frame.scalars and a.frame.scalars["C"] == given and a.coin():
        out_text, out = "C", given
    groups_text, groups = "1", 1
    if a.seldom():
        groups_text, groups = a.number([g for g in (1, 2, given) if given % g == 0 and out % g == 0])
    pads = [0] * len(on)
    if kind == "number":
        pads = [a.pick([0, 1, 2])] * len(on)
    type = x.type.resized(C=out)
    for n, k, s, d, p in zip(on, kernel, stride, dilation, pads, strict=True):
        size = x.type[n]
        if kind == "tf":
            type = type.resized(**{n: size.up(s)})
            continue
        if kind == "unsaid":
            if k > s and k % 2 == 0:
                raise Unfit
            p = 0 if k <= s else d * (k // 2)
        span = d * (k - 1) + 1
        a.least(size + 2 * p, span, f"the kernel fits into {n}")
        type = type.resized(**{n: (size + (2 * p - span)) // s + 1})
    a.costs(type.elements * (given // groups) * math.prod(kernel))
    bias = not a.seldom()
    args = [out_text, kernel_text]
    args += [f"stride={stride_text}"] if set(stride) != {1} else []
    args += [f"dilation={dilation_text}"] if set(dilation) != {1} else []
    args += [f"groups={groups_text}"] if groups_text != "1" else []
    args += {"unsaid": [], "zero": ["pad=0"], "number": [f"pad={pads[0]}"], "tf": ['pad="tf"']}[kind]
    args += [] if bias else ["bias=false"]
    args += [where] if where else []
    weights = {"weight": (out, given // groups, *kernel), **({"bias": (out,)} if bias else {})}
    return _weighted(a, "conv", x, type.exact(), weights, *args)


@operation("conv_transpose")
def conv_transpose(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: with_channels(t) and 1 <= len(t.positions) <= 3 and small(t, 20_000), MAP, LINE)
    on, where = _slide(a, x)
    given = x.type.fixed("C")
    assert given is not None
    kernel_text, kernel = _sized(a, (2, 3, 1), len(on))
    stride_text, stride = _sized(a, (1, 2, 3), len(on))
    pad_text, pads = _sized(a, (0, 1), len(on))
    dilation_text, dilation = _sized(a, (1, 1, 2), len(on))
    extra = 1 if min(stride) > 1 and a.seldom() else 0
    out_text, out = a.number(WIDTHS)
    groups = a.pick([1, 2]) if given % 2 == 0 and out % 2 == 0 else 1
    type = x.type.resized(C=out)
    for n, k, s, d, p in zip(on, kernel, stride, dilation, pads, strict=True):
        size = (x.type[n] - 1) * s + (d * (k - 1) + 1 - 2 * p + extra)
        a.least(size, 1, f"something of {n} is left")
        type = type.resized(**{n: size})
    a.costs(x.type.elements * (out // groups) * math.prod(kernel))
    args = [out_text, kernel_text]
    args += [f"stride={stride_text}"] if set(stride) != {1} else []
    args += [f"pad={pad_text}"] if set(pads) != {0} else []
    args += [f"output_pad={extra}"] if extra else []
    args += [f"groups={groups}"] if groups > 1 else []
    args += [f"dilation={dilation_text}"] if set(dilation) != {1} else []
    args += [where] if where else []
    weights = {"weight": (given, out // groups, *kernel), "bias": (out,)}
    return _weighted(a, "conv_transpose", x, type.exact(), weights, *args)


@operation("convolve")
def convolve(a: Author, name: str) -> Result:
    """With the kernels that an input, or a small map, holds."""
    x = a_map(a)
    h, w = x.type.positions
    kernels = ("[B, out=2, C=4, kh=3, kw=2]", "[B, out=4, C=2, kh=1, kw=3]", "[out=3, C=4, kh=2, kw=2]")
    k = a.tensor(
        lambda t: floating(t) and {"out", "C"} < set(t.names) and t.names[-2:] == ("kh", "kw") and len(t.axes) <= 5,
        *kernels,
    )
    if x.type.names[:1] != ("B",) or not set(x.type.names) <= {"B", "C", h, w}:
        raise Unfit
    if "B" in k.type and not k.type["B"].same(x.type["B"]):
        raise Unfit
    given, inner, out = x.type.fixed("C"), k.type.fixed("C"), k.type.fixed("out")
    if not given or not inner or not out or given % inner or out % (given // inner):
        raise Unfit
    groups = given // inner
    stride_text, stride = _sized(a, (1, 2), 2)
    p = a.pick([0, 1])
    type = x.type.resized(C=out)
    for n, kernel, s in zip((h, w), ("kh", "kw"), stride, strict=True):
        size = x.type[n] + 2 * p
        a.least(k.type[kernel], 1, "a kernel")
        a.least(size, k.type[kernel], f"the kernel fits into {n}")
        type = type.resized(**{n: (size - k.type[kernel]) // s + 1})
    a.costs(type.elements * inner * k.type["kh"] * k.type["kw"])
    args = [f"stride={stride_text}"] if set(stride) != {1} else []
    args += [f"pad={p}"] if p else []
    args += [f"groups={groups}"] if groups > 1 else []
    return Operand(f"convolve({', '.join([x.text, k.text, *args])})", type.exact())


@operation("embed")
def embed(a: Author, name: str) -> Result:
    ids = a.tensor(lambda t: t.dtype == "int" and "C" not in t and "tap" not in t, IDS)
    vocab, dim = a.pick([5, 11]), a.pick([4, 2])
    label, text = a.label("embed")
    a.owns(label, {"weight": (vocab, dim)})
    type = Type("float", (*ids.type.axes, ("C", Size.of(dim))))
    return Operand(f"{text}embed({ids.inner} % {vocab}, {vocab}, {dim})", type, False)


@operation("lstm")
def lstm(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: with_channels(t) and len(t.positions) == 1, TOKENS, LINE)
    (axis,) = x.type.positions
    given, size = x.type.fixed("C"), a.pick([3, 2])
    assert given is not None
    layers, both = a.pick([1, 2]), a.coin()
    a.least(x.type[axis], 1, "one step")
    ends = [""] if not both else ["", "_reverse"]
    weights: dict[str, Sequence[int]] = {}
    macs = Size.of(0)
    steps = x.type.without("C").elements
    for layer in range(layers):
        width = given if layer == 0 else size * len(ends)
        for end in ends:
            tail = f"_l{layer}{end}"
            weights |= {f"weight_ih{tail}": (4 * size, width), f"weight_hh{tail}": (4 * size, size)}
            weights |= {f"bias_ih{tail}": (4 * size,), f"bias_hh{tail}": (4 * size,)}
            macs = macs + steps * (4 * size * (width + size))
    a.costs(macs)
    args = [str(size), *([f"layers={layers}"] if layers > 1 else []), *(["both=true"] if both else [])]
    return _weighted(a, "lstm", x, x.type.resized(C=size * len(ends)).exact(), weights, *args)


# ---- norms


@operation("batch_norm", "standardize")
def batch_norm(a: Author, name: str) -> Result:
    # torch's gradient of BatchNorm3d in evaluation is wrong for some orders in memory where the last two axes are 1
    # (torch 2.13, CPU).
    x = a.tensor(lambda t: with_channels(t) and 2 <= len(t.axes) <= 4, MAP, TOKENS, VECTOR)
    width = x.type.fixed("C")
    assert width is not None
    weights: dict[str, Sequence[int]] = {"weight": (width,), "bias": (width,)} if name == "batch_norm" else {}
    weights |= {"running_mean": (width,), "running_var": (width,), "num_batches_tracked": ()}
    return _weighted(a, name, x, x.type, weights, *a.pick([(), ("eps=0.001",), ("momentum=0.2",)]))


@operation("layer_norm", "rms_norm")
def layer_norm(a: Author, name: str) -> Result:
    x = channelled(a)
    axes = ["C"]
    others = [n for n, s in x.type.axes if n not in "BC" and s.constant is not None]
    if others and a.coin():
        axes = a.pick([[*others[:1], "C"], ["C", *others[:1]]])
    shape = tuple(x.type.fixed(n) or 0 for n in axes)
    weights = {"weight": shape, **({"bias": shape} if name == "layer_norm" else {})}
    args = [*([", ".join(axes)] if axes != ["C"] else []), *a.pick([[], ["eps=0.001"]])]
    return _weighted(a, name, x, x.type.exact(), weights, *args)


@operation("group_norm")
def group_norm(a: Author, name: str) -> Result:
    x = channelled(a)
    width = x.type.fixed("C")
    assert width is not None
    text, groups = a.number([g for g in (1, 2, 3, 4) if width % g == 0])
    a.least(product(x.type[n] for n in x.type.positions) * (width // groups), 2, "two elements in a group")
    return _weighted(a, name, x, x.type.exact(), {"weight": (width,), "bias": (width,)}, text)


# ---- pools and reductions


@operation("max_pool", "avg_pool")
def pool(a: Author, name: str) -> Result:
    if name == "max_pool":
        x = a.tensor(lambda t: floating(t) and t.raw and 1 <= len(t.positions) <= 3, MAP, TOKENS, VIDEO)
    else:
        x = a.tensor(lambda t: floating(t) and 1 <= len(t.positions) <= 3, MAP, TOKENS, VIDEO)
    on, where = _slide(a, x)
    kernel_text, kernel = _sized(a, (2, 3, 1), len(on))
    stride_text, stride = _sized(a, (2, 1, 3), len(on)) if a.coin() else ("", kernel)
    pad = a.pick(["none", "one", "tf"])
    ceil = pad != "tf" and a.seldom()
    index = name == "max_pool" and pad != "tf" and a.seldom(6)
    p = 1 if pad == "one" else 0
    if p and min(kernel) < 2:
        raise Unfit
    type = x.type
    for n, k, s in zip(on, kernel, stride, strict=True):
        size = x.type[n]
        if name == "avg_pool" and len(on) == 3 and pad != "tf":
            a.least(size, k, f"torch wants the kernel to fit into {n} without padding")
        if pad == "tf":
            type = type.resized(**{n: size.up(s)})
        elif ceil:
            # torch: the last window starts inside of the map or of the padding before it.
            steps = (size + (2 * p - k)).up(s) + 1
            steps = Size(np.where((steps.at - 1) * s >= size.at + p, steps.at - 1, steps.at))
            a.least(steps, 1, f"a kernel starts in {n}")
            type = type.resized(**{n: steps})
        else:
            a.least(size + 2 * p, k, f"a kernel fits into {n}")
            type = type.resized(**{n: (size + (2 * p - k)) // s + 1})
    args = [kernel_text, *([f"stride={stride_text}"] if stride_text else [])]
    args += {"none": [], "one": ["pad=1"], "tf": ['pad="tf"']}[pad]
    args += ["count_pad=true"] if name == "avg_pool" and pad != "tf" and a.seldom() else []
    args += ["ceil=true"] if ceil else []
    args += [where] if where else []
    type = type.exact()
    if index:
        return Several(a.call(name, x, *args, "index=true")[0], (type, type.of("int")))
    return a.made(name, type, x, *args)


@operation("adaptive_pool")
def adaptive_pool(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and t.raw and 1 <= len(t.positions) <= 3, MAP, TOKENS)
    axes = a.some(x.type.positions, 1)
    type, args = x.type, []
    for n in axes:
        text, size = a.number([2, 1, 3])
        a.least(x.type[n], 1, f"something along {n}")
        type = type.resized(**{n: size})
        args.append(f"{n}={text}")
    return a.made("adaptive_pool", type.exact(), x, *args, *a.pick([[], ['kind="max"']]))


@operation("sum", "mean", "max", "min", "var")
def reduction(a: Author, name: str) -> Result:
    x = generic(a) if name in ("max", "min") else a.tensor(lambda t: floating(t) and bool(t.axes), MAP, TOKENS)
    positions = list(x.type.positions)
    axes = a.pick([positions or ["C"], ["C"], [x.type.names[-1]]])
    if not set(axes) <= set(x.type.names):
        raise Unfit
    if name != "sum":
        for n in axes:
            a.least(x.type[n], 1, f"something along {n}")
    keep = a.seldom()
    said = ["positions"] if axes == positions and a.coin() else axes
    extra = ["keep=true"] if keep else []
    if name == "var" and a.seldom():
        a.least(product(x.type[n] for n in axes), 2, "two elements")
        extra.append("unbiased=true")
    type = x.type.resized(**dict.fromkeys(axes, 1)) if keep else x.type.without(*axes)
    return a.made(name, type if name == "mean" else type.exact(), x, *said, *extra)


@operation("any")
def any_of(a: Author, name: str) -> Result:
    x = condition(a)
    if not x.type.axes:
        raise Unfit
    axis = a.pick(list(x.type.names))
    return a.made("any", x.type.without(axis), x, axis)


@operation("softmax", "cumsum")
def along(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and any(n != "B" for n in t.names), MAP, TOKENS)
    axis = axis_of(a, x.type)
    if name == "softmax":
        a.least(x.type[axis], 1, f"something along {axis}")
    return a.made(name, x.type.exact(), x, axis)


# ---- sources and training


@operation("index", "full")
def source(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and any(n != "B" for n in t.names), MAP, TOKENS)
    axis = axis_of(a, x.type)
    size = a.extent(x, axis)
    if name == "index":
        return Operand(f"{x.inner} + index({axis}={size}) * 0.1", x.type.exact(), False)
    if a.coin():
        return Operand(f"full(0.5, like={x.text})", x.type.exact())
    return Operand(f"{x.inner} * full({a.pick(['0.5', '2'])}, {axis}={size})", x.type.exact(), False)


@operation("dropout")
def dropout(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and "B" in t, MAP, TOKENS)
    whole = a.pick([(), ("whole=B",), *([("whole=C",)] if "C" in x.type else [])])
    return a.made("dropout", x.type, x, a.pick(["0.1", "0.0"]), *whole)


@operation("param")
def param(a: Author, name: str) -> Result:
    """A tensor of its own beside one of the scope."""
    if not a.frame.owning:
        raise Unfit
    x = channelled(a)
    width = x.type.fixed("C")
    assert width is not None
    kind = a.pick(["param", "buffer", "const"])
    a.frame.fresh += 1
    own = f"w{a.frame.fresh}"
    size = "C" if a.frame.scalars.get("C") == width else f"C={width}"
    if kind == "const":
        a.line(f"const {own}: [{size}] = index(C={width}) / {width}")
    else:
        start = a.pick(["1", "0.5", "normal(0.02)"])
        a.line(f"{kind} {own}: [{size}] = {start}{a.pick(['', ' with (decay=false)']) if kind == 'param' else ''}")
        a.owns("_", {own: (width,)})
    sign = a.pick(["+", "*"])
    return Operand(f"{x.inner} {sign} {own}", x.type.exact(), False)


# ---- where times how


@operation("correlate", "aggregate")
def attention(a: Author, name: str) -> Result:
    """Scores, softmax and the weighted sum, over a region."""
    x = places.attended(a)
    region = places.region(a, x.type)
    kept = places.riding(x.type)
    scores = product(s for _, s in [*kept, *region.queries]) * region.taps
    channels = x.type["C"]
    key = x.text
    if region.key is not None:
        key, width = region.key.text, region.key.type["C"]
        a.equal(channels, width, "queries and keys")
    a.uses("correlate", "aggregate", "softmax", *region.uses)
    a.costs(scores * channels)
    type = x.type
    a.costs(type.elements * region.taps)
    score = f"correlate({x.text}, {key}, {region.text})"
    form = a.pick(["plain", "scaled", "attend", *(["bias"] if region.offsets and a.frame.owning else [])])
    if form == "attend" or "valid" in region.uses:
        a.imports.setdefault("std.attention", set()).add("attend")
        return Operand(f"attend({x.text}, {key}, {key}, {region.text})", type.exact())
    if form == "scaled":
        score = f"({score} * 0.5)"
    if form == "bias":
        a.uses("relative")
        a.frame.fresh += 1
        own = f"w{a.frame.fresh}"
        sizes = [2 * n + 1 for n in region.offsets]
        names = [f"d{i}" for i in range(len(sizes))]
        heads = [("heads", x.type.fixed("heads"))] if x.type.fixed("heads") else []
        axes = [*heads, *zip(names, sizes, strict=True)]
        a.line(f"param {own}: [{', '.join(f'{n}={s}' for n, s in axes)}] = trunc_normal(0.02)")
        a.owns("_", {own: tuple(s or 0 for _, s in axes)})
        score = f"({score} + relative({own}, {region.text}))"
    return Operand(f"aggregate(softmax({score}, tap), {key}, {region.text})", type.exact())


@operation("look", "valid")
def look(a: Author, name: str) -> Result:
    x = places.attended(a)
    region = places.region(a, x.type, keys=False, tensors=name == "look")
    a.uses("look", *region.uses)
    if name == "valid":
        a.uses("valid", "cast", "sum")
        text = f"sum(look({x.text}, {region.text}) * cast(valid({region.text}, like={x.text}), float), tap)"
        return Operand(text, x.type.exact())
    how = a.pick(["mean", "max", "sum"])
    a.uses(how)
    if how != "sum":
        a.least(region.taps, 1, "one tap")
    return Operand(f"look({x.text}, {region.text}) |> {how}(tap)", x.type.exact(), False, True)


@operation("relative")
def relative(a: Author, name: str) -> Result:
    if not a.frame.owning:
        raise Unfit
    x = places.attended(a)
    region = places.region(a, x.type, keys=False, tensors=False)
    if not region.offsets:
        raise Unfit
    a.uses("relative", "look", "sum", *region.uses)
    a.frame.fresh += 1
    own = f"w{a.frame.fresh}"
    sizes = [2 * n + 1 for n in region.offsets]
    axes = [(f"d{i}", s) for i, s in enumerate(sizes)]
    a.line(f"param {own}: [{', '.join(f'{n}={s}' for n, s in axes)}] = trunc_normal(0.02)")
    a.owns("_", {own: tuple(s for _, s in axes)})
    return Operand(f"sum(look({x.text}, {region.text}) * relative({own}, {region.text}), tap)", x.type.exact())


@operation("recur")
def recur(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: with_channels(t) and 1 <= len(t.positions) <= 2 and small(t, 20_000), MAP, TOKENS)
    decay = a.tensor(lambda t: floating(t) and within(t, x.type))
    path = places.path(a, x.type)
    a.uses("recur", *path.uses)
    gate = a.pick([f"sigmoid({decay.text})", f"exp(-abs({decay.text}))"])
    type = x.type if path.ways is None else _behind_batch(x.type, ("way", Size.of(path.ways)))
    a.costs(type.elements)
    text = f"recur({gate}, {x.text}, {path.text})"
    if path.ways is None:
        return Operand(text, x.type.exact())
    if "way" in x.type:
        raise Unfit
    return Operand(f"{text} |> {a.pick(['sum', 'mean'])}(way)", x.type.exact(), False, True)
