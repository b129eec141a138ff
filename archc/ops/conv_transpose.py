"""Transposed convolutions with weights of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.deploy.roles import Weighted
from archc.ir.sym import const
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import ZERO, Check, Code, Init, Op, OpError, Reach, Weight, arg
from archc.ops.checks import divides, fixed, floating, result_type, whole
from archc.ops.emission import call, each, fold, options
from archc.ops.slides import Slide, sizes, slide_axes, slides
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class ConvTranspose(Op):
    """The transpose of a convolution: every input position adds its kernel to the output, `stride` apart.

    The size becomes (size - 1) stride + dilation (kernel - 1) + 1 - 2 pad + output_pad. The weight is stored
    [in, out/groups, *kernel], as torch stores it.
    MACs: input positions x in x out/groups x product of the kernel.
    """

    name: ClassVar[str] = "conv_transpose"
    cost_class: ClassVar[str] = "conv"
    attributes: ClassVar[dict[str, str]] = {
        "out": "out_channels", "kernel": "kernel_size[0]", "stride": "stride[0]", "dilation": "dilation[0]",
        "groups": "groups",
    }  # fmt: skip
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> conv_transpose(x, 6, 2, stride=2)",
        "x: [B, C=4, H, W] -> conv_transpose(x, 6, [3, 4], stride=[2, 1], pad=[1, 0], output_pad=[1, 0])",
        "x: [B, C=4, H, W] -> conv_transpose(x, 6, 3, groups=2)",
        "x: [B, N, C=4] -> conv_transpose(x, 3, 3, dilation=2, bias=false)",
        "x: [B, heads=2, C=4, T, H, W] -> conv_transpose(x, 2, 2)",
        "x: [B, C=4, H, W] -> conv_transpose(x, 6, 3, on=(H))",
        "x: [B, heads=4, C=3, N] -> conv_transpose(x, 2, 2, axis=heads)",
    )
    out: Any = arg("int")
    kernel: Any = arg("size")
    stride: Any = arg("size", 1)
    pad: Any = arg("size", 0)
    output_pad: Any = arg("size", 0)
    groups: Any = arg("int", 1)
    dilation: Any = arg("size", 1)
    bias: Any = arg("bool", True)
    axis: Any = arg("axis", "C")
    on: Any = arg("axes", ("positions",))

    @property
    def _slides(self) -> tuple[Slide, ...]:
        return slides(self.on, self.kernel, self.stride, self.dilation, const(0))

    def _grown(self) -> list[tuple[Slide, int, int]]:
        """Per axis the kernel, what is cut off at either side, and what is added at the end."""
        cuts, extras = (
            sizes(v, len(self.on), name, 0)
            for v, name in ((self.pad, "pad"), (self.output_pad, "output_pad"))
        )
        return [(w, cut.value, extra.value) for w, cut, extra in zip(self._slides, cuts, extras, strict=True)]

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        floating(x, "`conv_transpose`")
        slide_axes(x, self.on, self.axis, "`conv_transpose`")
        width = fixed(x, self.axis, "`conv_transpose`")
        divides(check, self.groups, "groups", (width, "channels"), (whole(self.out, "out"), "output channels"))
        dims: dict[str, Dim | Size | int] = {self.axis: Dim.of(self.out)}
        for slide, cut, extra in self._grown():
            most = max(slide.stride.value, slide.dilation.value) - 1
            if extra > most:
                error = OpError(
                    f"`output_pad` is {extra}, and must be less than the stride or the dilation",
                    "E0213",
                    argument="output_pad",
                    help=f"it is at most {most} here",
                )
                check.refuse(error)
            size = (x[slide.axis].size - 1) * slide.stride.value + slide.span - 2 * cut + extra
            check.at_least(
                size, 1, f"something of {slide.axis} must be left when {cut} is cut off at both ends"
            )
            dims[slide.axis] = size
        return (x.resized(**dims),)

    def weights(self, x: TensorType) -> tuple[Weight, ...]:
        out = Dim.of(self.out)
        kernel = (Axis(slide.axis, Dim.of(slide.kernel)) for slide in self._slides)
        axes = (Axis("in", x[self.axis].dim), Axis("out", out // self.groups), *kernel)
        weight = Weight("weight", axes, Init("kaiming_uniform"))
        bias = Weight("bias", (Axis("out", out),), Init("fan_in_uniform"))
        return (weight, bias) if self.bias.value else (weight,)

    def macs(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        kernel = math.prod(slide.kernel.value for slide in self._slides)
        return xs[0].elements * (self.out.value // self.groups.value) * kernel

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ys[0].elements if self.bias.value else ZERO

    def channels(self, xs: Sequence[TensorType], constant: Sequence[bool]) -> Weighted:
        # At the border, and where kernels meet, not every tap counts: a shift of the operand is no bias.
        bias, biased = "bias" if self.bias.value else None, replace(self, bias=const(True))
        return Weighted(self.axis, "weight", bias, 1, 0, self.groups.value, True, biased)

    def reach(
        self, axis: str, operand: int, xs: Sequence[TensorType], ys: Sequence[TensorType]
    ) -> Reach | None:
        for slide, cut, _ in self._grown():
            if slide.axis == axis:
                stride = slide.stride.value
                low, high = Fraction(cut - slide.span + 1, stride), Fraction(cut, stride)
                return Reach(axis, Fraction(1, stride), low, high, exact=stride == 1)
        return Reach(axis) if axis != self.axis else None

    # ---- PyTorch

    def _options(self, code: Code) -> list[str]:
        count = len(self.on)
        return options(
            code,
            ("stride", sizes(self.stride, count, "stride"), 1),
            ("padding", sizes(self.pad, count, "pad", 0), 0),
            ("output_padding", sizes(self.output_pad, count, "output_pad", 0), 0),
            ("groups", self.groups, 1),
            ("dilation", sizes(self.dilation, count, "dilation"), 1),
        )

    def module(self, code: Code, x: TensorType) -> str:
        kernel = each(code, [w.kernel for w in self._slides])
        channels = [code.number(x[self.axis].dim), code.number(self.out)]
        bias = options(code, ("bias", self.bias, True))
        return call(f"nn.ConvTranspose{len(self.on)}d", channels, kernel, self._options(code), bias)

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        ride = tuple(name for name in x.order if name not in (self.axis, *self.on))
        x = x.to((*ride, self.axis, *self.on))
        given, unfold = fold(code, x, len(ride), 1) if ride else (x.text, "")
        if code.functional:
            bias = [code.weight("bias")] if self.bias.value else []
            function = f"F.conv_transpose{len(self.on)}d"
            text = call(function, given, code.weight("weight"), bias, self._options(code))
        else:
            text = call(code.child, given)
        return replace(x, text=text + unfold, type=result_type(self, x), binding=ATOM)

    # ---- meaning

    def reference(self, run: Run, x: Named) -> Named:
        """Every tap of the kernel adds its product to the places it falls on."""
        grown, groups = self._grown(), self.groups.value
        ride = tuple(name for name in x.names if name not in (self.axis, *self.on))
        data = x.to((*ride, self.axis, *self.on))
        lead, counts = data.shape[: len(ride)], data.shape[len(ride) + 1 :]
        data = data.unflatten(len(ride), (groups, -1)).flatten(-len(counts))
        weight = run.weight("weight").unflatten(0, (groups, -1))
        full = [
            (n - 1) * w.stride.value + w.span + extra for n, (w, _, extra) in zip(counts, grown, strict=True)
        ]
        total = data.new_zeros((*lead, self.out.value, *full))
        for tap in run.indices([w.kernel.value for w, _, _ in grown]):
            part = run.torch.einsum("...gip,gio->...gop", data, weight[(..., *tap)])
            firsts = [t * w.dilation.value for t, (w, _, _) in zip(tap, grown, strict=True)]
            places = tuple(
                slice(first, first + (n - 1) * w.stride.value + 1, w.stride.value)
                for first, n, (w, _, _) in zip(firsts, counts, grown, strict=True)
            )
            total[(..., *places)] += part.flatten(-3, -2).unflatten(-1, counts)
        kept = tuple(slice(cut, size - cut) for size, (_, cut, _) in zip(full, grown, strict=True))
        total = total[(..., *kept)]
        if self.bias.value:
            total = total + run.weight("bias").reshape(-1, *(1 for _ in counts))
        return run.named(total, (*ride, self.axis, *self.on))
