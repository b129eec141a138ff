"""Linear maps of the channels as one matrix product, the channels innermost; of what pointwise operations make, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from archc.fusion.cores import Matmul, Norm
from archc.fusion.cost import Work, flops_of, of_library
from archc.fusion.epilogue import Prologue, defined
from archc.fusion.families.base import LinearFamily, pointwise, read_first, varying
from archc.fusion.view import Found, Refused, View, busy, core_of, fused_of
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused, Value
from archc.ir.types import TensorType

if TYPE_CHECKING:
    from archc.analysis.setting import Setting

TILE = 256  # channels that make a prologue together (`tile_for`)
WIDEST = 3 * TILE  # of a product with one: to write and read what it makes takes as long as to make it three times


class Pointwise(LinearFamily):
    name: ClassVar[str] = "pointwise"
    operator: ClassVar[str] = "Pointwise"
    cores: ClassVar[tuple[type, ...]] = (Matmul,)
    rank: ClassVar[int] = 2  # what may follow another core does that, rather than go before a product

    def refuses(self, core: Matmul, followers: int) -> str:
        return "" if followers else "a matrix product alone is the library's"

    def word(self, core: Matmul) -> str:
        return "linear"

    def channels(self, core: Matmul, whole: TensorType) -> str:
        return core.axis

    def layout(self, core: Matmul, whole: TensorType) -> tuple[str, ...]:
        others = (name for name in whole.names if name != core.axis and name not in core.behind)
        return *others, core.axis, *core.behind

    def around(self, view: View, place: int, core: Matmul) -> Found | Refused:
        found = super().around(view, place, core)
        return found if isinstance(found, Refused) else self._behind_prologue(view, place, found) or found

    def _behind_prologue(self, view: View, place: int, found: Found) -> Found | None:
        """The same with the pointwise operations that make what the product is of, where a kernel is the place for them."""
        core, (source, *rest) = found.core, found.tensors
        assert isinstance(core, Matmul) and isinstance(source, Value)
        last = view.maker(source)

        def admits(step: Apply) -> bool:
            return not step.op.draws and pointwise(step, source.type, core.axis)

        if last is None or not admits(view.step(last)):
            return None
        if (view.step(place).outputs[0].type[core.axis].size.constant or 0) > WIDEST:
            return None
        before = view.cone(last, admits, leaf=-1)
        first = [view.step(p) for p in before]
        if not busy(first):
            return None
        read, names = read_first(first)
        makers = [view.makers[v.uid] for v in read if v.uid in view.makers]
        # A norm, whose rows a program holds, is the better place for what follows it.
        if not read or any(isinstance(core_of(view.step(p)), Norm) for p in makers):
            return None
        # In the backward pass the prologue is made once more, not twice: what is behind the product must not need it.
        bare = fused_of(self.name, view, found)
        if not self.epilogue(bare).passes_on or {v.uid for v in read[1:]} & {v.uid for v in bare.inputs[1:]}:
            return None
        tensors, arguments = (read[0], *rest, *read[1:]), (*found.arguments, *names)
        return Found(core, (*before, *found.places), tensors, arguments, varying([*first, *bare.steps]))

    def prologue(self, steps: Sequence[Apply]) -> tuple[Apply, ...]:
        at = next(at for at, step in enumerate(steps) if not step.op.follows)
        needed, found = {v.uid for v in values(steps[at].inputs)}, []
        for step in reversed(steps[:at]):
            if step.outputs[0].uid in needed:
                needed |= {v.uid for v in values(step.inputs)}
                found.append(step)
        return tuple(reversed(found))

    def _prologue(self, region: Fused) -> Prologue | None:
        first, core = self.prologue(region.steps), region.core
        if not first:
            return None
        assert isinstance(core, Matmul)
        source, names = region.inputs[0], read_first(first)[1]
        given = slice(len(region.tensors) - len(names), None)
        return Prologue(region, first, given, source, core.axis, bias=False, earlier=len(self.epilogue(region).stride_of))

    def _again(self, region: Fused, setting: Setting) -> int:
        """How often its kernel makes the prologue besides once."""
        core = region.core
        assert isinstance(core, Matmul)
        return -(-setting.number(self.started(region).type[core.axis].size) // TILE) - 1

    def work(self, region: Fused, setting: Setting) -> Work:
        work, first = super().work(region, setting), of_library(self.prologue(region.steps), setting)
        return replace(work, slots=work.slots + self._again(region, setting) * sum(one.slots for one in first))

    def extra_flops(self, region: Fused, setting: Setting) -> int:
        return self._again(region, setting) * flops_of(self.prologue(region.steps), setting)

    def operator_of(self, region: Fused) -> str:
        return "ProloguePointwise" if self.prologue(region.steps) else self.operator

    def functions(self, name: str, region: Fused) -> dict[str, list[str]]:
        found, prologue = super().functions(name, region), self._prologue(region)
        if prologue is None:
            return found
        return {
            f"{name}_epilogue": found[f"{name}_epilogue"],
            f"{name}_prologue": defined(f"{name}_prologue", prologue.forward()),
            f"{name}_gradient": defined(f"{name}_gradient", prologue.backward()),
        }

    def settings(self, region: Fused) -> list[str]:
        core, prologue = region.core, self._prologue(region)
        assert isinstance(core, Matmul)
        behind = [f"behind={len(core.behind)}"] if core.behind else []
        before = [f"before={prologue.kinds()}"] if prologue is not None and prologue.operands else []
        return [f"bias={core.bias}", *behind, *super().settings(region), *before]


FAMILY = Pointwise()
