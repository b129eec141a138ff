"""Kernels that slide along axes: their sizes, their texts, and their meaning as a list of taps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from archc.ir.sym import Apply, Const, Scalar, Sym, apply, const
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, Note, OpError, Reach, capitals, need, per_axis
from archc.ops.checks import distinct, optional, shown, whole
from archc.ops.emission import call, tuple_of
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Run

WIDE = 32  # a kernel of this width is most likely the width of a tensor


@dataclass(frozen=True)
class Slide:
    """A kernel along one axis. `pad` is None for TensorFlow's "same": ceil(size / stride) windows."""

    axis: str
    kernel: Scalar
    stride: Scalar
    dilation: Scalar
    pad: Scalar | None

    @property
    def span(self) -> int:
        """How many elements the kernel spans."""
        return self.dilation.value * (self.kernel.value - 1) + 1

    def margins(self, size: int) -> tuple[int, int]:
        """The padding before and behind an axis of `size`."""
        if self.pad is not None:
            return self.pad.value, self.pad.value
        missing = max((-(-size // self.stride.value) - 1) * self.stride.value + self.span - size, 0)
        return missing // 2, missing - missing // 2

    def seen(self, size: int) -> Reach:
        """What a result sees of an axis of `size`."""
        before, _ = self.margins(size)
        return Reach(self.axis, self.stride.value, -before, self.span - 1 - before)

    def steps(self, check: Check, size: Size, ceil: bool = False) -> Size:
        """How many windows there are along an axis of `size`.

        With `ceil`, a last window may reach beyond the padding, if it starts before the padding at the end
        (as torch has it).
        """
        stride = self.stride.value
        if self.pad is None:
            return size.ceil_div(stride)
        pad, padded = self.pad.value, size + 2 * self.pad.value
        if ceil:
            steps = (size + min(2 * pad - self.span + stride, pad)).ceil_div(stride)
            check.at_least(steps, 1, f"a kernel that spans {self.span} must start in {self.axis}, padded by {pad}")
            return steps
        why = f"a kernel that spans {self.span} must fit into {self.axis}" + (f", padded by {pad}" if pad else "")
        check.at_least(padded, self.span, why)
        return (padded - self.span) // stride + 1


def undecided(given: Sequence[Slide]) -> tuple[Slide, ...]:
    """The windows, without the values of what builds may differ in."""

    def plain(number: Scalar) -> Scalar:
        return number if isinstance(number.sym, Const) else Scalar(None, number.sym)

    return tuple(
        Slide(w.axis, plain(w.kernel), plain(w.stride), plain(w.dilation), None if w.pad is None else plain(w.pad))
        for w in given
    )


def slide_axes(x: TensorType, on: tuple[str, ...], axis: str | None, what: str) -> tuple[str, ...]:
    """The axes that kernels slide along, in their order. Raises OpError where there is no such operation."""
    if not 1 <= len(on) <= 3:
        small = not on and any(name.islower() and len(name) == 1 for name in x.names)
        raise OpError(
            f"{what} works on 1 to 3 position axes, and {x} has {len(on)}",
            "E0303",
            help=capitals(x) if small else "name the axes with `on=(H, W)`, or merge axes with `rearrange`",
        )
    distinct(on, "on")
    for name in on:
        need(x, name, what)
        if name == axis:
            raise OpError(f"{what} mixes the axis {name} and cannot slide along it too", "E0213", argument="on")
    return on


def sizes(value: Scalar, count: int, name: str, least: int = 1) -> tuple[Scalar, ...]:
    """A whole number for each of `count` axes. Raises OpError."""
    try:
        items = per_axis(value, count)
    except OpError as error:
        raise OpError(f"`{name}`: {error.message}", error.code, argument=name) from None
    for item in items:
        whole(item, name, least)
    return items


def slides(on: tuple[str, ...], kernel: Scalar, stride: Scalar, dilation: Scalar, pad: Any) -> tuple[Slide, ...]:
    """The kernel along every axis; without a padding, the one by `default_padding`. Raises OpError."""
    count = len(on)
    kernels, strides = sizes(kernel, count, "kernel"), sizes(stride, count, "stride")
    dilations = sizes(dilation, count, "dilation")
    pads: Sequence[Scalar | None]
    pad = optional(pad, "pad")
    if pad is None:
        pads = [default_padding(*numbers) for numbers in zip(kernels, strides, dilations, strict=True)]
    elif pad.value == "tf":
        pads = [None] * count
    elif isinstance(pad.value, str):
        raise OpError(f'`pad` is a number, one per axis or "tf", and here it is {shown(pad)}', "E0213", argument="pad")
    else:
        pads = sizes(pad, count, "pad", 0)
    rows = zip(on, kernels, strides, dilations, pads, strict=True)
    return tuple(Slide(*row) for row in rows)


def default_padding(kernel: Scalar, stride: Scalar, dilation: Scalar) -> Scalar:
    """0 for patches (kernel <= stride), else what keeps the size at stride 1.

    Raises OpError for even kernels.
    """
    if kernel.sym == stride.sym and kernel.value == stride.value:
        return const(0)  # a patch, whatever its size
    if kernel.value <= stride.value:
        value = 0
    elif kernel.value % 2:
        value = dilation.value * (kernel.value // 2)
    else:
        raise OpError(
            "an even kernel needs its padding written",
            "E0217",
            argument="kernel",
            label=f"{kernel.value} is even and larger than the stride",
            help="write `pad=n`, or `pad=0` for none"
            if kernel.value < WIDE
            else "the width of the input is read from the tensor: the arguments are `out, kernel, stride`",
        )
    return Scalar(value, _padding_sym(kernel.sym, stride.sym, dilation.sym))


def _padding_sym(*syms: Sym) -> Sym:
    """The default padding as an expression of kernel, stride and dilation."""
    kernel, stride, dilation = syms
    if isinstance(kernel, Const) and isinstance(stride, Const) and isinstance(dilation, Const):
        k, s, d = kernel.value, stride.value, dilation.value
        return Const(0 if k <= s else d * (k // 2))  # type: ignore[operator]
    # `7 if i == 0 else 3` over `4 if i == 0 else 2` is `3 if i == 0 else 1`.
    condition = next((sym.args[0] for sym in syms if isinstance(sym, Apply) and sym.op == "if"), None)
    if condition is not None:
        arms = [[_arm(sym, condition, place) for sym in syms] for place in (1, 2)]
        return apply("if", condition, *(_padding_sym(*arm) for arm in arms))
    same = apply("*", dilation, apply("//", kernel, Const(2)))
    if stride == Const(1):
        return same
    return apply("if", apply("<=", kernel, stride), Const(0), same)


def _arm(sym: Sym, condition: Sym, place: int) -> Sym:
    """The expression where the condition holds (1) or not (2)."""
    chosen = isinstance(sym, Apply) and sym.op == "if" and sym.args[0] == condition
    return sym.args[place] if isinstance(sym, Apply) and chosen else sym


# ---- PyTorch


def padded_same(code: Code, x: str, given: Sequence[Slide], fill: str = "") -> str:
    """`x` padded as TensorFlow does, its innermost axes being those of the windows."""
    rows = [[w.kernel for w in given], [w.stride for w in given]]
    if any(w.dilation.value != 1 or not isinstance(w.dilation.sym, Const) for w in given):
        rows.append([w.dilation for w in given])
    texts = [tuple_of([code.number(value) for value in row]) for row in rows]
    return call(code.helper("pad_same"), x, texts, [fill] if fill else [])


def bordered(x: TensorType, given: Sequence[Slide]) -> tuple[Note, ...]:
    """What is read in place of `x` where "tf" padding makes a copy with a border. Sizes are numbers here."""
    if all(slide.pad is not None for slide in given):
        return ()
    sizes = {slide.axis: x[slide.axis].size.constant or 0 for slide in given}
    wide = {slide.axis: sizes[slide.axis] + sum(slide.margins(sizes[slide.axis])) for slide in given}
    return (Note(x.dtype, x.resized(**wide).elements),)


ZERO_PAD = const(0)


def pads(given: Sequence[Slide]) -> list[Scalar]:
    """What torch is told to pad; "tf" padding has been done before."""
    return [w.pad if w.pad is not None else ZERO_PAD for w in given]


# ---- meaning


def frame(
    run: Run, data: Any, given: Sequence[Slide], fill: float, ceil: bool = False, beyond: float | None = None
) -> Any:
    """`data` with its innermost axes padded by `fill` so that every window lies inside.

    What the last windows of `ceil` reach beyond the padding is filled with `beyond` (else with `fill`).
    """
    counts = data.shape[data.ndim - len(given) :]
    inner = [slide.margins(size) for slide, size in zip(given, counts, strict=True)]
    padded = _surrounded(run, data, inner, fill)
    outer = []
    for slide, size, (before, after) in zip(given, counts, inner, strict=True):
        needed = (count_steps(slide, size, ceil) - 1) * slide.stride.value + slide.span
        outer.append((0, max(needed - size - before - after, 0)))
    return _surrounded(run, padded, outer, fill if beyond is None else beyond)


def _surrounded(run: Run, data: Any, margins: Sequence[tuple[int, int]], fill: float) -> Any:
    """`data` with margins around its innermost axes."""
    shape = list(data.shape)
    for back, (before, after) in enumerate(reversed(margins), start=1):
        shape[-back] += before + after
    result = data.new_full(shape, fill)
    ends = zip(margins, data.shape[data.ndim - len(margins) :], strict=True)
    result[(..., *(slice(before, before + size) for (before, _), size in ends))] = data
    return result


def count_steps(slide: Slide, size: int, ceil: bool = False) -> int:
    """How many windows there are, counted one by one."""
    stride = slide.stride.value
    if slide.pad is None:
        return len(range(0, size, stride))
    pad = slide.pad.value
    if not ceil:
        return len(range(0, size + 2 * pad - slide.span + 1, stride))
    starts = range(0, size + pad, stride)
    return sum(1 for start in starts if start < size + 2 * pad - slide.span + stride)


def taps(run: Run, data: Any, given: Sequence[Slide], steps: Sequence[int]) -> list[tuple[tuple[int, ...], Any]]:
    """Every index into the kernel, with the elements of framed `data` that it meets in all windows."""
    result = []
    for tap in run.indices([w.kernel.value for w in given]):
        cut = tuple(
            slice(t * w.dilation.value, t * w.dilation.value + (n - 1) * w.stride.value + 1, w.stride.value)
            for t, w, n in zip(tap, given, steps, strict=True)
        )
        result.append((tap, data[(..., *cut)]))
    return result
