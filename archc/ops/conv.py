"""Convolutions with weights of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.deploy.roles import Weighted
from archc.fusion.cores import Matmul, Stencil
from archc.ir.sym import Const, Scalar, const
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import ZERO, Check, Code, Init, Note, Op, Reach, Weight, arg
from archc.ops.checks import divides, fixed, floating, result_type, whole
from archc.ops.emission import call, each, fold, options
from archc.ops.slides import Slide, bordered, count_steps, frame, padded_same, pads, slide_axes, slides, taps, undecided
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Conv(Op):
    """Convolution over the position axes (`on`), mixing the channel axis (`axis`), with new weights.

    `pad` is a number, one per axis, "tf" (TensorFlow's "same": `ceil(size / stride)`, the odd pixel at the
    end), or left out: 0 where kernel <= stride, else what keeps the size at stride 1. Other axes ride along.
    MACs: output positions x out x in/groups x product of the kernel.
    """

    name: ClassVar[str] = "conv"
    classes: ClassVar[tuple[str, ...]] = ("nn.Conv1d", "nn.Conv2d", "nn.Conv3d")
    attributes: ClassVar[dict[str, str]] = {
        "out": "out_channels", "kernel": "kernel_size[0]", "stride": "stride[0]", "dilation": "dilation[0]",
        "groups": "groups",
    }  # fmt: skip
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> conv(x, 6, 3)",
        "x: [B, C=4, H, W] -> conv(x, 6, [3, 5], stride=[2, 1], bias=false)",
        "x: [B, C=4, N] -> conv(x, 6, 4, stride=4)",
        "x: [B, C=4, T, H, W] -> conv(x, 6, 3, groups=2, pad=[0, 1, 2])",
        'x: [B, C=4, H, W] -> conv(x, 4, 3, stride=2, pad="tf", groups=4)',
        'x: [B, C=4, N] -> conv(x, 4, 4, dilation=2, pad="tf")',
        "x: [B, N, C=4] -> conv(x, 6, 3, dilation=2)",
        "x: [B, C=4, H, W] -> conv(x, 6, 3, on=(W))",
        "x: [B, heads=4, C=3, H, W] -> conv(x, 2, 1, axis=heads)",
        "x: [C=4, H, W] -> conv(x, 6, 3, pad=0)",
    )
    out: Any = arg("int")
    kernel: Any = arg("size")
    stride: Any = arg("size", 1)
    dilation: Any = arg("size", 1)
    groups: Any = arg("int", 1)
    pad: Any = arg("any", None)
    bias: Any = arg("bool", True)
    axis: Any = arg("axis", "C")
    on: Any = arg("axes", ("positions",))

    @property
    def _slides(self) -> tuple[Slide, ...]:
        return slides(self.on, self.kernel, self.stride, self.dilation, self.pad)

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        floating(x, "`conv`")
        slide_axes(x, self.on, self.axis, "`conv`")
        width = fixed(x, self.axis, "`conv`")
        divides(check, self.groups, "groups", (width, "channels"), (whole(self.out, "out"), "output channels"))
        dims: dict[str, Dim | Size | int] = {self.axis: Dim.of(self.out)}
        for slide in self._slides:
            dims[slide.axis] = slide.steps(check, x[slide.axis].size)
        return (x.resized(**dims),)

    # ---- weights and cost

    def weights(self, x: TensorType) -> tuple[Weight, ...]:
        out = Axis("out", Dim.of(self.out))
        kernel = (Axis(slide.axis, Dim.of(slide.kernel)) for slide in self._slides)
        axes = (out, Axis("in", x[self.axis].dim // self.groups), *kernel)
        weight = Weight("weight", axes, Init("kaiming_uniform"))
        return (weight, Weight("bias", (out,), Init("fan_in_uniform"))) if self.bias.value else (weight,)

    def macs(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        kernel = math.prod(slide.kernel.value for slide in self._slides)
        return ys[0].elements * (xs[0][self.axis].size // self.groups.value) * kernel

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ys[0].elements if self.bias.value else ZERO

    def reach(
        self, axis: str, operand: int, xs: Sequence[TensorType], ys: Sequence[TensorType]
    ) -> Reach | None:
        for slide in self._slides:
            if slide.axis == axis:
                return slide.seen(xs[0][axis].size.constant or 0)
        return Reach(axis) if axis != self.axis else None

    def channels(self, xs: Sequence[TensorType], constant: Sequence[bool]) -> Weighted:
        padded = any(slide.pad is None or slide.pad.value for slide in self._slides)
        bias, biased = "bias" if self.bias.value else None, replace(self, bias=const(True))
        return Weighted(self.axis, "weight", bias, 0, 1, self.groups.value, padded, biased)

    def core(self, x: TensorType) -> Stencil | Matmul | None:
        """A linear map of the channels, or a stencil over each of them."""
        given = self._slides
        if [n.value for s in given for n in (s.kernel, s.stride, s.pad) if n] == [1, 1, 0] * len(given):
            fixed = all(isinstance(n.sym, Const) for s in given for n in (s.kernel, s.stride, s.pad) if n)
            return Matmul(self.axis, bool(self.bias.value), self.on) if fixed and self.groups.value == 1 else None
        if not self._depthwise(x) or len(given) > 2 or set(x.names) != {"B", self.axis, *self.on}:
            return None
        return Stencil(undecided(given), bool(self.bias.value))

    @property
    def numbers(self) -> tuple[Scalar, ...]:
        return tuple(n for w in self._slides for n in (w.stride, w.dilation, w.pad, *([w.kernel] * (w.pad is None))) if n)

    def _depthwise(self, x: TensorType) -> bool:
        return self.groups.value == self.out.value == x[self.axis].size.constant

    # ---- PyTorch

    def _options(self, code: Code, groups: bool = True) -> list[str]:
        given = self._slides
        return options(
            code,
            ("stride", [w.stride for w in given], 1),
            ("padding", pads(given), 0),
            ("dilation", [w.dilation for w in given], 1),
            *([("groups", self.groups, 1)] if groups else []),
        )

    def saved(self, x: TensorType) -> str:
        return self.saves if all(slide.pad is not None for slide in self._slides) else ""

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        return bordered(xs[0], self._slides)

    def _dilated(self, x: TensorType) -> bool:
        """Whether it is a depthwise convolution with dilation: the helpers have one that is faster on CPUs."""
        given = self._slides
        if len(given) != 2 or not self._depthwise(x):
            return False
        fixed = all(isinstance(n.sym, Const) for slide in given for n in (slide.stride, slide.dilation))
        return fixed and {s.stride.value for s in given} == {1} and {s.dilation.value for s in given} != {1}

    def module(self, code: Code, x: TensorType) -> str:
        kernel = each(code, [w.kernel for w in self._slides])
        channels = [code.number(x[self.axis].dim), code.number(self.out)]
        bias = options(code, ("bias", self.bias, True))
        name = code.helper("DilatedConv2d") if self._dilated(x) else f"nn.Conv{len(self.on)}d"
        return call(name, channels, kernel, self._options(code), bias)

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        ride = tuple(name for name in x.order if name not in (self.axis, *self.on))
        x = x.to((*ride, self.axis, *self.on))
        # torch takes one batch axis or none.
        given, unfold = fold(code, x, len(ride), 1) if ride else (x.text, "")
        if any(slide.pad is None for slide in self._slides):
            given = padded_same(code, given, self._slides)
        if code.functional:
            weights = [code.weight("weight"), *([code.weight("bias")] if self.bias.value else [])]
            if self._dilated(x.type):
                text = call(code.helper("dilated_depthwise"), given, weights, self._options(code, groups=False))
            elif self._depthwise(x.type):
                numbers = [*self._options(code, groups=False), f"groups={weights[0]}.shape[0]"]
                text = call(f"F.conv{len(self.on)}d", given, weights, numbers)
            else:
                text = call(f"F.conv{len(self.on)}d", given, weights, self._options(code))
        else:
            text = call(code.child, given)
        return replace(x, text=text + unfold, type=result_type(self, x), binding=ATOM)

    # ---- meaning

    def reference(self, run: Run, x: Named) -> Named:
        """A sum over kernel taps of a channel contraction: nothing of torch's convolutions is used."""
        given, groups = self._slides, self.groups.value
        ride = tuple(name for name in x.names if name not in (self.axis, *self.on))
        data = x.to((*ride, self.axis, *self.on))
        steps = [count_steps(w, x.size(w.axis)) for w in given]
        data = frame(run, data, given, fill=0)
        data = data.unflatten(len(ride), (groups, -1))
        weight = run.weight("weight").unflatten(0, (groups, -1))
        total: Any = 0
        for tap, piece in taps(run, data, given, steps):
            part = run.torch.einsum("...gip,goi->...gop", piece.flatten(-len(steps)), weight[(..., *tap)])
            total = total + part.unflatten(-1, steps)
        total = total.flatten(len(ride), len(ride) + 1)
        if self.bias.value:
            total = total + run.weight("bias").reshape(-1, *(1 for _ in steps))
        return run.named(total, (*ride, self.axis, *self.on))
