"""A writer for every component of the standard library."""

from __future__ import annotations

from collections.abc import Callable

from whole_specs import places
from whole_specs.author import Author, Operand, Type, Unfit
from whole_specs.operations import (
    HEADS,
    LINE,
    MAP,
    TOKENS,
    Result,
    any_float,
    channelled,
    condition,
    floating,
    generic,
    small,
    spatial,
    with_channels,
    within,
)
from whole_specs.sizes import Size, product

LIBRARY: dict[str, Callable[[Author], Result]] = {}


def component(file: str, *names: str) -> Callable[[Callable[[Author, str], Result]], Callable[[Author, str], Result]]:
    def add(write: Callable[[Author, str], Result]) -> Callable[[Author, str], Result]:
        for name in names:

            def one(a: Author, name: str = name) -> Result:
                made = write(a, name)
                a.uses(f"std.{file}.{name}")
                a.imports.setdefault(f"std.{file}", set()).add(name)
                return made

            LIBRARY[f"std.{file}.{name}"] = one
        return write

    return add


def _width(x: Operand) -> int:
    width = x.type.fixed("C")
    assert width is not None
    return width


def _linear(a: Author, label: str, given: int, out: int, x: Type, bias: bool = True) -> None:
    a.owns(label, {"weight": (out, given), **({"bias": (out,)} if bias else {})})
    a.costs(x.without("C").elements * (given * out))


@component("activations", "leaky_relu", "relu6", "hardsigmoid", "hardswish", "log_sigmoid", "elu_plus_one")
def activation(a: Author, name: str) -> Result:
    x = generic(a)
    return a.made(name, x.type.exact(), x, *(a.pick([(), ("0.2",)]) if name == "leaky_relu" else ()))


@component("layout", "split_heads")
def split_heads(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: with_channels(t) and "B" in t and "heads" not in t, MAP, TOKENS)
    text, heads = a.number([h for h in (2, 1, 4) if _width(x) % h == 0])
    at = x.type.names.index("C")
    axes = [*x.type.axes[:at], ("heads", Size.of(heads)), ("C", Size.of(_width(x) // heads)), *x.type.axes[at + 1 :]]
    return a.made(name, x.type.with_axes(axes), x, text)


@component("layout", "merge_heads")
def merge_heads(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: with_channels(t) and t.fixed("heads") is not None and "B" in t, HEADS)
    first = min(x.type.names.index("heads"), x.type.names.index("C"))
    total = _width(x) * (x.type.fixed("heads") or 0)
    before = [(n, s) for n, s in x.type.axes[:first] if n not in ("heads", "C")]
    after = [(n, s) for n, s in x.type.axes[first:] if n not in ("heads", "C")]
    return a.made(name, x.type.with_axes([*before, ("C", Size.of(total)), *after]), x)


def _maps(t: Type) -> bool:
    return floating(t) and t.names == ("B", "C", "H", "W") and t.fixed("C") is not None


@component("layout", "pad_to", "crop_like")
def bordered(a: Author, name: str) -> Result:
    x = a.tensor(_maps, MAP)
    if name == "pad_to":
        text, by = a.number([2, 3, 4])
        grown = {n: x.type[n].up(by) * by for n in "HW"}
        return a.made(name, x.type.resized(**grown).exact(), x, text)
    like = a.tensor(_maps, MAP, "[B, C=4, H=Hz, W=Wz]")
    for n in "HW":
        a.least(x.type[n], like.type[n], f"{n} is cropped")
    return a.made(name, x.type.resized(H=like.type["H"], W=like.type["W"]), x, like.text)


@component("layout", "all")
def all_of(a: Author, name: str) -> Result:
    x = condition(a)
    axis = a.pick([n for n in x.type.names if n != "B"])
    return Operand(f'all({x.text}, "{axis}")', x.type.without(axis))


@component("layout", "total")
def total(a: Author, name: str) -> Result:
    x = any_float(a)
    y = a.tensor(lambda t: floating(t) and t.names == x.type.names and within(t, x.type))
    return Operand(f"total([{x.text}, {y.text}])", x.type.exact())


@component("conv", "dwconv")
def dwconv(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: with_channels(t) and "B" in t and 1 <= len(t.positions) <= 3, MAP, LINE)
    text, kernel = a.number([3, 5, 1])
    stride = a.pick([1, 2])
    width, type = _width(x), x.type
    for n in x.type.positions:
        # Kernels that are no larger than their stride are patches; others keep the size.
        pad = 0 if kernel <= stride else kernel // 2
        a.least(x.type[n] + 2 * pad, kernel, f"the kernel fits into {n}")
        type = type.resized(**{n: (x.type[n] + (2 * pad - kernel)) // stride + 1})
    label, said = a.label(name)
    a.owns(label, {"weight": (width, 1, *(kernel,) * len(x.type.positions)), "bias": (width,)})
    a.costs(type.elements * kernel ** len(x.type.positions))
    return a.made(name, type.exact(), x, text, *([f"stride={stride}"] if stride > 1 else []), label=said)


@component("mlp", "mlp", "swiglu", "squeeze_excite")
def layers(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: with_channels(t) and "B" in t and 1 <= len(t.positions) <= 3, MAP, TOKENS)
    width = _width(x)
    label, said = a.label(name)
    text, number = a.number([2, 1, 4])
    args = [text]
    if name == "mlp":
        _linear(a, f"{label}.fc1", width, number * width, x.type)
        _linear(a, f"{label}.fc2", number * width, width, x.type)
        args += a.pick([[], ["act=relu"], ["act=silu"]])
    elif name == "swiglu":
        _linear(a, f"{label}.gate_proj", width, 2 * number, x.type, bias=False)
        _linear(a, f"{label}.down_proj", number, width, x.type, bias=False)
    else:
        ones = (1,) * len(x.type.positions)
        for n in x.type.positions:
            a.least(x.type[n], 1, f"a mean over {n}")
        a.owns(f"{label}.fc1", {"weight": (number, width, *ones), "bias": (number,)})
        a.owns(f"{label}.fc2", {"weight": (width, number, *ones), "bias": (width,)})
        a.costs(x.type.without("C", *x.type.positions).elements * (2 * number * width))
    return a.made(name, x.type.exact(), x, *args, label=said)


@component("norm", "abn", "grn")
def norm(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: with_channels(t) and "B" in t and t.positions and len(t.axes) <= 4, MAP, TOKENS)
    width = _width(x)
    label, said = a.label(name)
    a.owns(label, {"weight": (width,), "bias": (width,)})
    if name == "abn":
        a.owns(label, {"running_mean": (width,), "running_var": (width,), "num_batches_tracked": ()})
    return a.made(name, x.type.exact(), x, *(a.pick([(), ("act=relu",)]) if name == "abn" else ()), label=said)


@component("regularise", "drop_path")
def drop_path(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: floating(t) and t.names[:1] == ("B",), MAP, TOKENS)
    return a.made(name, x.type, x, a.pick(["0.1", "0.0"]))


@component("attention", "attend", "dynconv")
def attend(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: places_fit(t) and "B" in t, MAP, TOKENS, LINE)
    region = places.region(a, x.type, keys=False)
    a.uses("correlate", "aggregate", "softmax", *region.uses)
    if name == "attend":
        scores = x.type.without("C").elements * region.taps
        a.costs(scores * x.type["C"] * 2)
        return Operand(f"attend({x.text}, {x.text}, {x.text}, {region.text})", x.type.exact())
    if region.taps.constant is None or "union" in region.uses or "shifted" in region.uses:
        raise Unfit
    label, said = a.label("linear")
    taps = region.taps.constant
    _linear(a, label, _width(x), taps, x.type)
    a.costs(x.type.elements * region.taps)
    return Operand(f"dynconv({x.text}, {x.text} |> {said}linear({taps}), {region.text})", x.type.exact())


def places_fit(t: Type) -> bool:
    return with_channels(t) and 1 <= len(t.positions) <= 2 and small(t, 8000)


@component("attention", "linear_attention")
def linear_attention(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: places_fit(t) and "B" in t and "e" not in t, MAP, TOKENS, HEADS)
    width = _width(x)
    state = x.type.without(*x.type.positions).elements * width
    places_ = product(x.type[n] for n in x.type.positions)
    a.costs(state * places_)
    a.costs(x.type.elements)
    a.costs(x.type.elements * width)
    y = a.pick([x.text, f"tanh({x.text})"])
    return Operand(f"linear_attention({x.text}, {y}, {x.text})", _channels_last(x.type).exact())


def _channels_last(x: Type) -> Type:
    """`dot(q, state, C)` gives the axes of q, and then those of the state."""
    return x.with_axes([*x.without("C").axes, ("C", x["C"])])


@component("recurrence", "gated_linear", "selective_scan")
def recurrence(a: Author, name: str) -> Result:
    x = a.tensor(lambda t: places_fit(t) and "B" in t and {"e", "s", "way"}.isdisjoint(t.names), MAP, TOKENS)
    path = places.path(a, x.type)
    if path.ways is not None:
        raise Unfit
    a.uses("recur", *path.uses)
    width = _width(x)
    if name == "gated_linear":
        a.costs(x.type.elements * width)
        a.costs(x.type.elements * width)
        gate = f"sigmoid({x.text})"
        return Operand(
            f"gated_linear({x.text}, {x.text}, {x.text}, {gate}, {path.text})", _channels_last(x.type).exact()
        )
    states, rank = a.pick([2, 3]), a.pick([1, 2])
    label, said = a.label(name)
    a.owns(label, {"a_log": (width, states), "dt_bias": (width,), "skip": (width,)})
    _linear(a, f"{label}.x_proj", width, rank + 2 * states, x.type, bias=False)
    _linear(a, f"{label}.dt_proj", rank, width, x.type, bias=False)
    a.costs(x.type.elements * states)  # the states
    a.costs(x.type.elements * states)  # what is read of them
    return a.made(name, x.type.exact(), x, path.text, f"states={states}", f"rank={rank}", label=said)


__all__ = ["LIBRARY", "channelled", "spatial"]
