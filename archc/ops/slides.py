"""Kernels that slide along axes: their sizes, their texts, and their meaning as a list of taps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archc.ir.sym import Apply, Const, Scalar, apply, const
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, OpError, literal, need, per_axis
from archc.ops.checks import distinct, optional, shown, whole
from archc.ops.emission import call, tuple_of
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Run


@dataclass(frozen=True)
class Slide:
    """A kernel along one axis. `pad` is None for TensorFlow's "same": `ceil(size / stride)`, the odd pixel at the end."""

    axis: str
    kernel: Scalar
    stride: Scalar
    dilation: Scalar
    pad: Scalar | None

    @property
    def reach(self) -> int:
        """How many elements the kernel spans."""
        return self.dilation.value * (self.kernel.value - 1) + 1

    def steps(self, check: Check, size: Size, ceil: bool = False) -> Size:
        """How many windows there are along an axis of `size`.

        With `ceil`, a last window may reach beyond the padding, if it starts before the padding at the end (as torch
        has it).
        """
        stride = self.stride.value
        if self.pad is None:
            return size.ceil_div(stride)
        pad, padded = self.pad.value, size + 2 * self.pad.value
        if ceil:
            steps = (size + min(2 * pad - self.reach + stride, pad)).ceil_div(stride)
            check.at_least(steps, 1, f"a kernel that spans {self.reach} must start in {self.axis}, padded by {pad}")
            return steps
        why = f"a kernel that spans {self.reach} must fit into {self.axis}" + (f", padded by {pad}" if pad else "")
        check.at_least(padded, self.reach, why)
        return (padded - self.reach) // stride + 1


def slide_axes(x: TensorType, on: tuple[str, ...], axis: str | None, what: str) -> tuple[str, ...]:
    """The axes that kernels slide along, in the order given. Raises OpError where torch has no such operation."""
    if not 1 <= len(on) <= 3:
        raise OpError(f"{what} works on 1 to 3 position axes, and {x} has {len(on)}", "E0303",
                      help="name the axes with `on=(H, W)`, or merge axes with `rearrange`")  # fmt: skip
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


def slides(
    on: tuple[str, ...], kernel: Scalar, stride: Scalar, dilation: Scalar, pad: Any
) -> tuple[Slide, ...]:
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
    """0 for patches (kernel <= stride), else what keeps the size at stride 1. Raises OpError for even kernels."""
    if kernel.value <= stride.value:
        value = 0
    elif kernel.value % 2:
        value = dilation.value * (kernel.value // 2)
    else:
        raise OpError("an even kernel needs its padding written", "E0217", argument="kernel",
                      label=f"{kernel.value} is even and larger than the stride",
                      help="write `pad=n`, or `pad=0` for none")  # fmt: skip
    syms = kernel.sym, stride.sym, dilation.sym
    if all(isinstance(sym, Const) for sym in syms):
        return literal(value)
    same = apply("*", dilation.sym, apply("//", kernel.sym, Const(2)))
    if isinstance(same, Apply) and same.op == "*" and isinstance(kernel.sym, Const):
        same = apply("*", Const(kernel.value // 2), dilation.sym)
    if isinstance(stride.sym, Const) and stride.value == 1:
        return Scalar(value, same)
    return Scalar(value, apply("if", apply("<=", kernel.sym, stride.sym), Const(0), same))


# ---- PyTorch


def padded_same(code: Code, x: str, given: Sequence[Slide], fill: str = "") -> str:
    """`x` padded as TensorFlow does, its innermost axes being those of the windows."""
    rows = [[w.kernel for w in given], [w.stride for w in given]]
    if any(w.dilation.value != 1 or not isinstance(w.dilation.sym, Const) for w in given):
        rows.append([w.dilation for w in given])
    texts = [tuple_of([code.number(value) for value in row]) for row in rows]
    return call(code.helper("pad_same"), x, texts, [fill] if fill else [])


ZERO_PAD = const(0)


def pads(given: Sequence[Slide]) -> list[Scalar]:
    """What torch is told to pad; "tf" padding has been done before."""
    return [w.pad if w.pad is not None else ZERO_PAD for w in given]


# ---- meaning


def frame(run: Run, data: Any, given: Sequence[Slide], fill: float, ceil: bool = False, beyond: float | None = None) -> Any:
    """`data` with its innermost axes padded by `fill` so that every window lies inside.

    What the last windows of `ceil` reach beyond the padding is filled with `beyond` (else with `fill`).
    """
    for back, window in enumerate(reversed(given), start=1):
        size, stride = data.shape[-back], window.stride.value
        if window.pad is None:
            missing = max((-(-size // stride) - 1) * stride + window.reach - size, 0)
            before, after = missing // 2, missing - missing // 2
        else:
            before = after = window.pad.value
        over = max((count_steps(window, size, ceil) - 1) * stride + window.reach - (size + before + after), 0)
        parts = [(before, fill), None, (after, fill), (over, fill if beyond is None else beyond)]
        shape = list(data.shape)
        pieces = []
        for part in parts:
            if part is not None:
                shape[-back] = part[0]
            pieces.append(data if part is None else data.new_full(shape, part[1]))
        data = run.torch.cat(pieces, data.ndim - back)
    return data


def count_steps(window: Slide, size: int, ceil: bool = False) -> int:
    """How many windows there are, counted one by one."""
    stride = window.stride.value
    if window.pad is None:
        return len(range(0, size, stride))
    pad = window.pad.value
    if not ceil:
        return len(range(0, size + 2 * pad - window.reach + 1, stride))
    starts = range(0, size + pad, stride)
    return sum(1 for start in starts if start < size + 2 * pad - window.reach + stride)


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
