"""Pointwise operations one after another, and norms of the channels with what follows them: each row is read once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from archc.fusion.cores import Elementwise, Norm
from archc.fusion.epilogue import Epilogue
from archc.fusion.families.base import LinearFamily, around, large, learns, operands, pointwise, varying
from archc.fusion.view import Found, Refused, View, busy
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused, Value
from archc.ir.types import TensorType

if TYPE_CHECKING:
    from archc.backend.kernels import TwinWriter

WIDEST = 8192  # channels of a norm whose row a program holds


class Rows(LinearFamily):
    name: ClassVar[str] = "rows"
    operator: ClassVar[str] = "Rows"
    cores: ClassVar[tuple[type, ...]] = (Elementwise, Norm)
    rank: ClassVar[int] = 100  # takes what the others leave

    def word(self, core: Elementwise | Norm) -> str:
        return "rows" if isinstance(core, Elementwise) else core.word

    def operator_of(self, region: Fused) -> str:
        return "Rows" if isinstance(region.core, Elementwise) else "NormRows"

    def channels(self, core: Elementwise | Norm, whole: TensorType) -> str:
        if isinstance(core, Norm):
            return core.axis
        return "C" if "C" in whole else whole.names[-1]

    def find(self, view: View, place: int, core: Elementwise | Norm) -> Found | Refused | None:
        step = view.step(place)
        start = step.outputs[0]
        owned = view.weights(place)
        if isinstance(core, Norm):
            if owned is None:
                return Refused((place,), "its weights are not in a module of their own")
            if (start.type[core.axis].size.constant or 0) > WIDEST:
                return Refused((place,), f"more than {WIDEST} channels are more than a program holds")
        if "B" not in start.type:
            return None  # a parameter: small
        places = around(view, place, start, self.channels(core, start.type))
        steps = [view.step(p) for p in places]
        if busy(steps) < 2:
            return Refused((place,), f"a {'norm' if isinstance(core, Norm) else 'pointwise operation'} alone is the library's")
        numbers = varying([s for s in steps if s.op.follows])
        if owned is not None and isinstance(core, Norm):
            tensors, arguments = operands(steps, start)
            (source,) = values(step.inputs)
            return Found(core, tuple(places), (source, *owned, *tensors), ("x", *(w.name for w in owned), *arguments), numbers)
        tensors, _ = operands(steps, steps[-1].outputs[0])
        # The first of the largest maps is what the kernel starts from.
        source = next((t for t in tensors if isinstance(t, Value) and large(t, start)), None)
        if source is None or not learns(steps, source):
            return None
        if not all(pointwise(s, source.type, self.channels(core, source.type)) for s in steps):
            return None
        tensors, arguments = operands(steps, source)
        return Found(core, tuple(places), (source, *tensors), ("x", *arguments), numbers)

    def started(self, region: Fused) -> Value:
        return region.inputs[0] if isinstance(region.core, Elementwise) else super().started(region)

    def laid_out(self, region: Fused, order: tuple[str, ...]) -> Fused:
        whole = self.started(region).type
        if order and isinstance(region.core, Norm):
            order = (*(name for name in order if name != region.core.axis), region.core.axis)
        return replace(region, layout=order if order[:1] == whole.names[:1] else ())

    def layout(self, core: Elementwise | Norm, whole: TensorType) -> tuple[str, ...]:
        channels = self.channels(core, whole)
        return whole.names if isinstance(core, Elementwise) else (*(n for n in whole.names if n != channels), channels)

    def epilogue(self, region: Fused) -> Epilogue:
        start = self.started(region)
        chain = [s for s in region.steps if s.op.follows]
        return Epilogue(region, chain, slice(1, None), start, self.channels(core_of(region), start.type), bias=False)

    def settings(self, region: Fused) -> list[str]:
        start, core = self.started(region), core_of(region)
        given = self.epilogue(region).settings()
        if isinstance(core, Norm):
            return [f"eps={core.eps!r}", *([] if core.centred else ["centred=False"]), *given]
        layout = self.order(region, start)
        behind = len(layout) - 1 - layout.index(self.channels(core, start.type))
        return [*([f"behind={behind}"] if behind else []), *given]

    def twin(self, region: Fused, writer: TwinWriter) -> None:
        if isinstance(region.core, Norm):
            super().twin(region, writer)
        else:
            writer.write(region.steps)

    def write_core(self, core: Apply, writer: TwinWriter) -> None:
        (source,) = values(core.inputs)
        norm, given = core.op.core(source.type), writer.values[source.uid]
        assert isinstance(norm, Norm)
        weights = "weight, bias" if norm.centred else "weight"
        writer.values[core.outputs[0].uid] = replace(
            given, text=f"F.{norm.word}(x, weight.shape, {weights}, eps={norm.eps!r})"
        )


def core_of(region: Fused) -> Elementwise | Norm:
    assert isinstance(region.core, (Elementwise, Norm))
    return region.core


FAMILY = Rows()
