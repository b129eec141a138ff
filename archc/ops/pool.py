"""Pools: the greatest or the mean of what a window sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.deploy.roles import Through
from archc.fusion.cores import Stencil
from archc.ir.sym import Scalar, const
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, Note, Op, OpError, Reach, arg
from archc.ops.checks import floating, result_type
from archc.ops.emission import call, each, fold, options
from archc.ops.slides import Slide, bordered, count_steps, frame, padded_same, pads, slide_axes, slides, taps, undecided
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run

ONE = const(1)


@dataclass(frozen=True)
class Pool(Op):
    """What the sliding pools share: `kernel`, `stride` (the kernel, if left out), `pad`, `ceil` and `on`.

    Every axis but those of `on` rides along. FLOPs: product of the kernel per output.
    """

    function: ClassVar[str]
    fill: ClassVar[str]  # what "tf" pads with, "" for zeros

    def slides(self) -> tuple[Slide, ...]:
        """The kernel along every axis of `on`."""
        raise NotImplementedError

    def shrunk(self, check: Check, x: TensorType, slides: Sequence[Slide], ceil: bool) -> TensorType:
        """The result type."""
        dims: dict[str, Size] = {}
        for slide in slides:
            if slide.pad is None and ceil:
                raise OpError(
                    '`pad="tf"` rounds up already', "E0213", argument="ceil", help="leave `ceil` out"
                )
            if slide.pad is not None and slide.pad.value > slide.span // 2:
                error = OpError(
                    f"`pad` is {slide.pad.value}, more than half of the kernel (it spans {slide.span})",
                    "E0213",
                    argument="pad",
                    help=f"at most {slide.span // 2}, else a window could lie in the padding",
                )
                check.refuse(error)
            dims[slide.axis] = slide.steps(check, x[slide.axis].size, ceil)
        return x.resized(**dims)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ys[0].elements * math.prod(slide.kernel.value for slide in self.slides())

    def saved(self, *xs: TensorType) -> str:
        return self.saves if all(slide.pad is not None for slide in self.slides()) else ""

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        return bordered(xs[0], self.slides())

    def reach(
        self, axis: str, operand: int, xs: Sequence[TensorType], ys: Sequence[TensorType]
    ) -> Reach | None:
        size = xs[0][axis].size.constant or 0
        return next((slide.seen(size) for slide in self.slides() if slide.axis == axis), Reach(axis))

    def pooled(self, code: Code, x: Operand, extra: Sequence[str]) -> tuple[str, str, tuple[str, ...]]:
        """The call, what unfolds the axes of a result, and the order of the result."""
        slides = self.slides()
        names = tuple(slide.axis for slide in slides)
        x = x.merged(code)
        ride = tuple(name for name in x.order if name not in names)
        x = x.to((*ride, *names))
        given, unfold = fold(code, x, len(ride), 2)
        if any(slide.pad is None for slide in slides):
            given = padded_same(code, given, slides, self.fill)
        stride = [w.stride for w in slides]
        strides = [] if stride == [w.kernel for w in slides] else [f"stride={each(code, stride)}"]
        numbers = [*strides, *options(code, ("padding", pads(slides), 0)), *extra]
        text = call(
            f"F.{self.function}{len(slides)}d", given, each(code, [w.kernel for w in slides]), numbers
        )
        return text, unfold, x.order


def stepped(stride: Scalar | None, kernel: Scalar) -> Scalar:
    """The stride, which is the kernel where none is written."""
    return kernel if stride is None or stride.value is None else stride


@dataclass(frozen=True)
class MaxPool(Pool):
    """The greatest element of each window. Padding never wins.

    With `index`, also where it stood: its number among the positions of the input, row by row.
    """

    name: ClassVar[str] = "max_pool"
    function: ClassVar[str] = "max_pool"
    fill: ClassVar[str] = 'value=float("-inf")'
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> max_pool(x, 3, stride=2, pad=1)",
        "x: [B, N, C=4] -> max_pool(x, 3, stride=2, ceil=true)",
        "x: [B, heads=2, C=4, H, W] -> max_pool(x, [2, 3], dilation=[1, 2])",
        'x: [B, C=4, T, H, W] -> max_pool(x, 3, stride=2, pad="tf")',
        "x: [B, C=4, H, W] -> max_pool(x, 2, index=true)",
        "x: [B, C=4, H, W] -> max_pool(x, 2, on=(W))",
    )
    kernel: Any = arg("size")
    stride: Any = arg("size", None)
    pad: Any = arg("any", const(0))
    ceil: Any = arg("bool", False)
    dilation: Any = arg("size", 1)
    index: Any = arg("bool", False)
    on: Any = arg("axes", ("positions",))

    def slides(self) -> tuple[Slide, ...]:
        return slides(
            self.on,
            self.kernel,
            stepped(self.stride, self.kernel),
            self.dilation,
            const(0) if self.pad is None else self.pad,
        )

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        """Where the greatest elements stood."""
        return (*super().notes(xs, ys), Note("int", ys[0].elements))

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        floating(x, "`max_pool`")
        slide_axes(x, self.on, None, "`max_pool`")
        y = self.shrunk(check, x, self.slides(), self.ceil.value)
        if not self.index.value:
            return (y,)
        if any(slide.pad is None for slide in self.slides()):
            raise OpError(
                '`index` with `pad="tf"` would count the padding',
                "E0213",
                argument="index",
                help="write `pad=n`",
            )
        return y, replace(y, dtype="int")

    def torch(self, code: Code, x: Operand) -> Operand | tuple[Operand, ...]:
        extra = options(
            code, ("dilation", [w.dilation for w in self.slides()], 1), ("ceil_mode", self.ceil, False)
        )
        if self.index.value:
            extra.append("return_indices=True")
        text, unfold, order = self.pooled(code, x, extra)
        y = result_type(self, x)
        if not self.index.value:
            return Operand(text + unfold, y, order)
        both = code.let(text, "pooled")
        return (
            Operand(f"{both}[0]{unfold}", y, order),
            Operand(f"{both}[1]{unfold}", replace(y, dtype="int"), order),
        )

    def reference(self, run: Run, x: Named) -> Named | tuple[Named, ...]:
        slides = self.slides()
        names = tuple(slide.axis for slide in slides)
        data, order = x.last(*names), (*(n for n in x.names if n not in names), *names)
        sizes = data.shape[-len(names) :]
        place = run.torch.arange(math.prod(sizes)).reshape(sizes).expand(data.shape)
        steps = [count_steps(w, n, self.ceil.value) for w, n in zip(slides, sizes, strict=True)]
        rows = [
            taps(run, frame(run, t, slides, f, self.ceil.value), slides, steps)
            for t, f in ((data, -math.inf), (place, -1))
        ]
        best, where = rows[0][0][1], rows[1][0][1]
        for (_, piece), (_, at) in zip(*rows, strict=True):
            better = (piece > best) | (where < 0)
            best, where = run.torch.where(better, piece, best), run.torch.where(better, at, where)
        return (
            (run.named(best, order), run.named(where, order)) if self.index.value else run.named(best, order)
        )


@dataclass(frozen=True)
class AvgPool(Pool):
    """The mean of the elements that each window sees or, with `count_pad`, also of the zeros of the padding.

    `pad="tf"` counts its zeros (as timm's AvgPool2dSame).
    """

    name: ClassVar[str] = "avg_pool"
    function: ClassVar[str] = "avg_pool"
    fill: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> avg_pool(x, 3, stride=2, pad=1)",
        "x: [B, C=4, H, W] -> avg_pool(x, 3, stride=2, pad=1, count_pad=true, ceil=true)",
        "x: [B, N, C=4] -> avg_pool(x, 3, stride=2, ceil=true)",
        "x: [B, C=4, T, H, W] -> avg_pool(x, [1, 2, 2])",
        'x: [B, C=4, H, W] -> avg_pool(x, 2, pad="tf")',
        "x: [B, C=4, H, W] -> avg_pool(x, 2, on=(H))",
    )
    kernel: Any = arg("size")
    stride: Any = arg("size", None)
    pad: Any = arg("any", const(0))
    count_pad: Any = arg("bool", False)
    ceil: Any = arg("bool", False)
    on: Any = arg("axes", ("positions",))

    def slides(self) -> tuple[Slide, ...]:
        return slides(
            self.on,
            self.kernel,
            stepped(self.stride, self.kernel),
            ONE,
            const(0) if self.pad is None else self.pad,
        )

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        floating(x, "`avg_pool`")
        slide_axes(x, self.on, None, "`avg_pool`")
        if len(self.on) == 3 and self.slides()[0].pad is not None:
            for slide in self.slides():
                why = f"torch averages over three axes only where the kernel fits into {slide.axis} without its padding"
                check.at_least(x[slide.axis].size, slide.kernel.value, why)
        return (self.shrunk(check, x, self.slides(), self.ceil.value),)

    def channels(self, xs: Sequence[TensorType], constant: Sequence[bool]) -> Through:
        slides = self.slides()
        zeros = any(slide.pad is None for slide in slides) or bool(
            self.count_pad.value and any(slide.pad is not None and slide.pad.value for slide in slides)
        )
        return Through(0, tuple(name for name in xs[0].names if name not in self.on), means=not zeros)

    @property
    def numbers(self) -> tuple[Scalar, ...]:
        return tuple(n for w in self.slides() for n in (w.kernel, w.stride, w.pad) if n)

    def core(self, x: TensorType) -> Stencil | None:
        given = self.slides()
        if self.ceil.value or len(given) > 2 or set(x.names) != {"B", "C", *self.on}:
            return None
        counted = bool(self.count_pad.value) or any(w.pad is None for w in given)
        return Stencil(undecided(given), mean=True, counted=counted)

    def torch(self, code: Code, x: Operand) -> Operand:
        extra = options(code, ("ceil_mode", self.ceil, False))
        if any(pad.value != 0 for pad in pads(self.slides())):
            extra += options(code, ("count_include_pad", self.count_pad, True))
        text, unfold, order = self.pooled(code, x, extra)
        return Operand(text + unfold, result_type(self, x), order)

    def reference(self, run: Run, x: Named) -> Named:
        slides = self.slides()
        names = tuple(slide.axis for slide in slides)
        data, order = x.last(*names), (*(n for n in x.names if n not in names), *names)
        sizes = data.shape[-len(names) :]
        steps = [count_steps(w, n, self.ceil.value) for w, n in zip(slides, sizes, strict=True)]
        counted = float(self.count_pad.value or slides[0].pad is None)
        # What counts is averaged beside the data; what `ceil` adds beyond the padding never counts.
        ones = frame(run, data.new_ones(sizes), slides, counted, self.ceil.value, beyond=0)
        total = sum(
            piece for _, piece in taps(run, frame(run, data, slides, 0, self.ceil.value), slides, steps)
        )
        return run.named(total / sum(piece for _, piece in taps(run, ones, slides, steps)), order)
