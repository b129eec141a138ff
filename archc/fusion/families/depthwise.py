"""Stencils over each channel by itself: depthwise convolutions and means, and what stands around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from archc.fusion.cores import Stencil
from archc.fusion.families.base import LinearFamily
from archc.ir.graph import Fused
from archc.ir.sym import Scalar
from archc.ir.types import TensorType
from archc.ops.slides import pads


class Depthwise(LinearFamily):
    name: ClassVar[str] = "depthwise"
    operator: ClassVar[str] = "Depthwise"
    cores: ClassVar[tuple[type, ...]] = (Stencil,)

    def refuses(self, core: Stencil, followers: int) -> str:
        return "a mean alone is the library's" if core.mean and not followers else ""

    def word(self, core: Stencil) -> str:
        """`depthwise7_dilated3`, as far as it is the same along all axes and in every build."""
        if core.mean:
            return "mean"
        kernels = {str(slide.kernel.value) for slide in core.slides}
        dilations = {str(slide.dilation.value) for slide in core.slides}
        kernel = "".join(kernels) if len(kernels) == 1 else ""
        dilation = "".join(dilations) if len(dilations) == 1 else ""
        return f"depthwise{kernel if kernel.isdigit() else ''}" + f"_dilated{dilation}" * (dilation.isdigit() and dilation != "1")

    def channels(self, core: Stencil, whole: TensorType) -> str:
        axes = [slide.axis for slide in core.slides]
        return next(name for name in whole.names if name != "B" and name not in axes)

    def layout(self, core: Stencil, whole: TensorType) -> tuple[str, ...]:
        return "B", self.channels(core, whole), *(slide.axis for slide in core.slides)

    def settings(self, region: Fused) -> list[str]:
        core = region.core
        assert isinstance(core, Stencil)
        slides, names = core.slides, {number.sym: f'"n{at}"' for at, number in enumerate(region.numbers)}

        def text(numbers: Sequence[Scalar]) -> str:
            each = [names.get(number.sym, str(number.value)) for number in numbers]
            return each[0] if len(set(each)) == 1 else f"({', '.join(each)})"

        padding = '"tf"' if any(w.pad is None for w in slides) else text(pads(slides))
        found = [("stride", text([w.stride for w in slides]), "1"), ("padding", padding, "0")]
        found += [("dilation", text([w.dilation for w in slides]), "1")]
        found += [("mean", text([w.kernel for w in slides]) if core.mean else "None", "None")]
        found += [("counted", str(core.counted), "False"), ("bias", str(core.bias), "True")]
        found += [("behind", str(len(slides)), "2"), ("plain", str(self.epilogue(region).passes_on), "False")]
        parts = [f"{name}={given}" for name, given, usual in found if given != usual]
        return [*parts, *super().settings(region)]


FAMILY = Depthwise()
