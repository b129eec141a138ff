"""Linear maps of the channels as one matrix product, the channels innermost."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from archc.backend.operand import Operand
from archc.fusion.cores import Matmul
from archc.fusion.families.base import LinearFamily
from archc.ir.graph import Fused, Value

if TYPE_CHECKING:
    from archc.backend.kernels import TwinWriter


class Pointwise(LinearFamily):
    name: ClassVar[str] = "pointwise"
    operator: ClassVar[str] = "Pointwise"
    cores: ClassVar[tuple[type, ...]] = (Matmul,)

    def refuses(self, core: Matmul, followers: int) -> str:
        return "" if followers else "a matrix product alone is the library's"

    def word(self, core: Matmul) -> str:
        return "linear"

    def order(self, region: Fused, value: Value) -> tuple[str, ...]:
        core = region.core
        assert isinstance(core, Matmul)
        return (*(name for name in value.type.names if name != core.axis), core.axis)

    def settings(self, region: Fused) -> list[str]:
        assert isinstance(region.core, Matmul)
        return [f"bias={region.core.bias}"]

    def twin(self, region: Fused, writer: TwinWriter) -> None:
        core, first = region.core, region.steps[0].outputs[0]
        assert isinstance(core, Matmul)
        text = f"F.linear(x, weight.flatten(1){', bias' if core.bias else ''})"
        writer.values[first.uid] = Operand(text, first.type, self.order(region, first))
        writer.write(region.steps[1:])


FAMILY = Pointwise()
