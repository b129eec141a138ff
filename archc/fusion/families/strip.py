"""Depthwise stencils: each lane makes several results side by side, so that a column is read once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from archc.backend.operand import Operand
from archc.fusion.cores import Stencil
from archc.fusion.families.base import LinearFamily
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused
from archc.ir.types import TensorType

if TYPE_CHECKING:
    from archc.backend.kernels import TwinWriter


class Strip(LinearFamily):
    name: ClassVar[str] = "strip"
    operator: ClassVar[str] = "Strip"
    cores: ClassVar[tuple[type, ...]] = (Stencil,)

    def word(self, core: Stencil) -> str:
        return f"depthwise{core.kernel}" + (f"_dilated{core.dilation}" if core.dilation > 1 else "")

    def channels(self, core: Stencil, whole: TensorType) -> str:
        return next(name for name in whole.names if name != "B" and name not in core.axes)

    def layout(self, core: Stencil, whole: TensorType) -> tuple[str, ...]:
        return "B", self.channels(core, whole), *core.axes

    def settings(self, region: Fused) -> list[str]:
        core = region.core
        assert isinstance(core, Stencil)
        return [f"kernel={core.kernel}", f"dilation={core.dilation}", f"bias={core.bias}", *super().settings(region)]

    def write_core(self, core: Apply, writer: TwinWriter) -> None:
        (source,) = values(core.inputs)
        stencil, result = core.op.core(source.type), core.outputs[0]
        assert isinstance(stencil, Stencil)
        parts = ["x", "weight", "bias" if stencil.bias else "None", f"padding={stencil.dilation * (stencil.kernel // 2)}"]
        parts += [f"dilation={stencil.dilation}"] if stencil.dilation > 1 else []
        text = f"F.conv2d({', '.join(parts)}, groups=x.shape[1])"
        writer.values[result.uid] = Operand(text, result.type, self.layout(stencil, result.type))


FAMILY = Strip()
