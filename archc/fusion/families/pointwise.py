"""Linear maps of the channels as one matrix product, the channels innermost."""

from __future__ import annotations

from typing import ClassVar

from archc.fusion.cores import Matmul
from archc.fusion.families.base import LinearFamily
from archc.ir.graph import Fused
from archc.ir.types import TensorType


class Pointwise(LinearFamily):
    name: ClassVar[str] = "pointwise"
    operator: ClassVar[str] = "Pointwise"
    cores: ClassVar[tuple[type, ...]] = (Matmul,)

    def refuses(self, core: Matmul, followers: int) -> str:
        return "" if followers else "a matrix product alone is the library's"

    def word(self, core: Matmul) -> str:
        return "linear"

    def channels(self, core: Matmul, whole: TensorType) -> str:
        return core.axis

    def layout(self, core: Matmul, whole: TensorType) -> tuple[str, ...]:
        others = (name for name in whole.names if name != core.axis and name not in core.behind)
        return *others, core.axis, *core.behind

    def settings(self, region: Fused) -> list[str]:
        core = region.core
        assert isinstance(core, Matmul)
        behind = [f"behind={len(core.behind)}"] if core.behind else []
        return [f"bias={core.bias}", *behind, *super().settings(region)]


FAMILY = Pointwise()
