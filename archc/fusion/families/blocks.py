"""Attention within blocks of positions that are each other's keys: scores, softmax and sums in one kernel, a program for
each block and head."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar

from archc.analysis.setting import Setting
from archc.backend.operand import Operand
from archc.fusion.attended import tables_beside
from archc.fusion.cores import Mixture, Offsets, Scores, Softmax
from archc.fusion.cost import Work, region_bytes
from archc.fusion.families.base import Family
from archc.fusion.view import Found, Refused, View, core_of
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused, Value
from archc.ir.sym import Scalar
from archc.where.base import Block, Form, Region, fixed
from archc.where.text import QUERIES, TAP, extents

if TYPE_CHECKING:
    from archc.backend.kernels import TwinWriter


MOST = 128  # members of a block: what a tile holds


class Blocks(Family):
    name: ClassVar[str] = "blocks"
    operator: ClassVar[str] = "BlockAttention"
    cores: ClassVar[tuple[type, ...]] = (Scores,)

    def find(self, view: View, place: int, core: Scores) -> Found | Refused | None:
        scores = view.step(place)
        q, k, *rest = values(scores.inputs)
        blocks = core.over.blocks(q.type.names_of_positions)
        if blocks is None:
            return Refused((place,), "its taps are no blocks of positions that are each other's keys")
        lead = tuple(name for name in q.type.names if name not in (*q.type.names_of_positions, "C"))
        if rest or lead[:1] != ("B",) or len(lead) > 2 or len(blocks) > 2:
            return Refused((place,), "kernels take [B, heads, positions, C] with one or two axes of positions")
        if all(block.kind == "whole" for block in blocks):
            return Refused((place,), "all positions see all: large products and a softmax, which are the library's")
        if prod(_members(block) for block in blocks) > MOST:
            return Refused((place,), "its blocks do not fit into one tile")
        places, numbers, bias, last = [place], list[Scalar](), None, scores.outputs[0]
        instead: dict[int, Apply] = {}
        while True:
            instead |= tables_beside(view, last, q)
            after = view.reader(last, instead)
            if after is None:
                return Refused(tuple(places), "its scores have more than one reader")
            step = view.step(after)
            places.append(after)
            (made,) = step.outputs
            kind = core_of(step)
            if isinstance(kind, Softmax) and kind.axis == TAP:
                break
            others = [v for v in values(step.inputs) if v.uid != last.uid]
            scale = _scale(step)
            if scale is not None and bias is None:
                numbers.append(scale[1])
            elif _adds(step) and bias is None and len(others) == 1 and _is_offset(view, others[0], core):
                bias = others[0]
            else:
                return Refused(tuple(places), f"`{step.op.name}` stands between its scores and their softmax")
            last = made
        final = view.reader(made)
        if final is None or not isinstance(mixture := core_of(view.step(final)), Mixture) or mixture.over != core.over:
            return Refused(tuple(places), "no sum over the same region follows the softmax")
        places.append(final)
        weights, v, *_ = values(view.step(final).inputs)
        if weights.uid != made.uid or _lead(v) != lead or _lead(k) != lead or not (_same(q, k) and _same(q, v)):
            return Refused(tuple(places), "queries, keys and values have different axes")
        geometry = [b.size for b in blocks if b.size is not None]
        geometry += [b.shift for b in blocks if b.shift is not None] if any(b.shift for b in blocks) else []
        if any(b.shift is not None for b in blocks) and any(b.shift is None for b in blocks):
            return Refused(tuple(places), "the map is a ring along some of its axes only")
        tensors, arguments = (q, k, v, *([bias] if bias else [])), ("q", "k", "v", *(["bias"] if bias else []))
        return Found(core, tuple(places), tensors, arguments, (*geometry, *numbers), tuple(instead.items()))

    def word(self, core: Scores) -> str:
        return f"attend_{core.over.name}" if core.over.name.isidentifier() else "attend"

    def order(self, region: Fused, value: Value) -> tuple[str, ...]:
        if value.uid in _bias(region):
            return (*(name for name in _lead(value)), QUERIES, TAP)
        return (*_lead(value), *region.inputs[0].type.names_of_positions, "C")

    def settings(self, region: Fused) -> list[str]:
        blocks, q = _blocks(region), region.inputs[0]
        kinds = ", ".join(f'"{block.kind}"' for block in blocks) + ("," if len(blocks) == 1 else "")
        scales = "".join(scale[0] for step in region.steps if (scale := _scale(step)) is not None)
        bias = [value for value in region.inputs if value.uid in _bias(region)]
        flags = {
            "shifted": any(b.shift is not None for b in blocks), "seam": any(b.seam for b in blocks),
            "bias": bool(bias), "shared_bias": bool(bias) and len(_lead(bias[0])) == 0,
        }  # fmt: skip
        heads = [] if len(_lead(q)) == 2 else ["heads=False"]
        return [f"kinds=({kinds})", f'scales="{scales}"', *heads, *(f"{name}=True" for name, on in flags.items() if on)]

    def work(self, region: Fused, setting: Setting) -> Work:
        """Two products of each block's tile, whose lanes are a power of two, and an exponential for each of its elements;
        the bias is read from the second-level cache."""
        scores, *_ = (setting.type(step.outputs[0].type) for step in region.steps)
        pairs = setting.number(scores.elements)
        channels = sum(setting.number(value.type["C"].size) for value in region.inputs[1:3])
        return Work(region_bytes(region, setting), 2 * pairs * channels, 8 * pairs, pairs)

    def twin(self, region: Fused, writer: TwinWriter) -> None:
        q = region.inputs[0]
        for value in region.inputs:
            if value.uid in _bias(region):
                names = q.type.names_of_positions
                form = Form(_over(region), names, extents(writer, writer.values[q.uid], names))
                writer.values[value.uid] = Operand("bias", value.type, self.order(region, value), where=form)
        writer.write(region.steps)


def _members(block: Block) -> int:
    """How many positions of an axis a block has at least."""
    return fixed(block.size) if block.size is not None else 1


def _scale(step: Apply) -> tuple[str, Scalar] | None:
    """`*` or `/` and the number, where the operation scales one tensor."""
    numbers = step.op.numbers
    if len(numbers) != 1 or len(list(values(step.inputs))) != 1 or not step.op.follows:
        return None
    sides = step.op.tile("a", "b")
    if sides == "a * b":
        return "*", numbers[0]
    return ("/", numbers[0]) if sides == "a / b" and isinstance(step.op.sides(["x"])[1], Scalar) else None


def _adds(step: Apply) -> bool:
    return step.op.follows and not step.op.numbers and len(step.inputs) == 2 and step.op.tile("a", "b") == "a + b"


def _is_offset(view: View, value: Value, core: Scores) -> bool:
    """Whether a tensor has a number for each query and tap of the region by where they lie to each other."""
    place = view.makers.get(value.uid)
    if place is None:
        return False
    kind = core_of(view.step(place))
    return isinstance(kind, Offsets) and kind.over == core.over and len(_lead(value)) <= 1 and "B" not in value.type


def _lead(value: Value) -> tuple[str, ...]:
    positions = value.type.names_of_positions
    return tuple(name for name in value.type.names if name not in (*positions, "C", TAP))


def _same(a: Value, b: Value) -> bool:
    """Whether two maps have the same positions."""
    return [(x.name, x.size) for x in a.type.positions] == [(x.name, x.size) for x in b.type.positions]


def _blocks(region: Fused) -> tuple[Block, ...]:
    blocks = _over(region).blocks(region.inputs[0].type.names_of_positions)
    assert blocks is not None
    return blocks


def _over(region: Fused) -> Region:
    assert isinstance(region.core, Scores)
    return region.core.over


def _bias(region: Fused) -> set[int]:
    return {
        tensor.uid
        for tensor, name in zip(region.tensors, region.arguments, strict=True)
        if name == "bias" and isinstance(tensor, Value)
    }


FAMILY = Blocks()
