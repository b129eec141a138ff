"""Depthwise stencils: each lane makes several results side by side, so that a column is read once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from archc.backend.operand import Operand
from archc.fusion.cores import Stencil
from archc.fusion.families.base import LinearFamily
from archc.ir.graph import Fused, Value

if TYPE_CHECKING:
    from archc.backend.kernels import TwinWriter


class Strip(LinearFamily):
    name: ClassVar[str] = "strip"
    operator: ClassVar[str] = "Strip"
    cores: ClassVar[tuple[type, ...]] = (Stencil,)

    def word(self, core: Stencil) -> str:
        return f"depthwise{core.kernel}" + (f"_dilated{core.dilation}" if core.dilation > 1 else "")

    def order(self, region: Fused, value: Value) -> tuple[str, ...]:
        names, core = value.type.names, region.core
        assert isinstance(core, Stencil)
        channels = (name for name in names if name != "B" and name not in core.axes)
        return ("B", *channels, *core.axes)

    def settings(self, region: Fused) -> list[str]:
        core = region.core
        assert isinstance(core, Stencil)
        return [f"kernel={core.kernel}", f"dilation={core.dilation}", f"bias={core.bias}"]

    def twin(self, region: Fused, writer: TwinWriter) -> None:
        core, first = region.core, region.steps[0].outputs[0]
        assert isinstance(core, Stencil)
        parts = ["x", "weight", "bias" if core.bias else "None", f"padding={core.dilation * (core.kernel // 2)}"]
        parts += [f"dilation={core.dilation}"] if core.dilation > 1 else []
        text = f"F.conv2d({', '.join(parts)}, groups=x.shape[1])"
        writer.values[first.uid] = Operand(text, first.type, self.order(region, first))
        writer.write(region.steps[1:])


FAMILY = Strip()
