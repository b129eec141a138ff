"""Attention of all positions to all: the library's, `F.scaled_dot_product_attention`, which has no scores in memory either.

Its kernels are as good as any here for dense blocks as large as that; what they lack is a table of offsets, read where it
lies. Smaller blocks would have to be copied together for them, which costs more than they gain below some 2500 keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from archc.backend.operand import Operand
from archc.fusion.attended import attended, riding
from archc.fusion.cores import Scores
from archc.fusion.families.base import Family
from archc.fusion.view import Found, Refused, View
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused, Value
from archc.ir.sym import Const, Scalar
from archc.where.text import TAP, tuple_text

if TYPE_CHECKING:
    from archc.backend.kernels import TwinWriter


class Library(Family):
    name: ClassVar[str] = "sdpa"
    operator: ClassVar[str] = ""
    cores: ClassVar[tuple[type, ...]] = (Scores,)
    rank: ClassVar[int] = -1

    def find(self, view: View, place: int, core: Scores) -> Found | Refused | None:
        q, _, *masks = values(view.step(place).inputs)
        blocks = core.over.blocks(q.type.names_of_positions)
        if masks or not blocks or not all(block.kind == "whole" for block in blocks):
            return None
        found = attended(view, place, core)
        if isinstance(found, str) or found.tables or len(riding(found.q)) > 2:
            return None
        steps = [view.step(at) for at in found.places]
        scales, bias = _scales(steps), list(found.maps)
        if scales is None or not all(_rectangular(m, found.q) for m in bias):
            return None
        numbers = tuple({n.sym: n for n in scales if not isinstance(n.sym, Const)}.values())
        arguments = ("q", "k", "v", "bias")[: 3 + len(bias)]
        return Found(core, found.places, (found.q, found.k, found.v, *bias), arguments, numbers, tuple(found.instead.items()))

    def word(self, core: Scores) -> str:
        return "attend_everywhere"

    def order(self, region: Fused, value: Value) -> tuple[str, ...]:
        q = region.inputs[0]
        names = (*riding(q), *value.type.names_of_positions, TAP, "C")
        return tuple(name for name in names if name in value.type)

    def twin(self, region: Fused, writer: TwinWriter) -> None:
        q, k, v, *bias = region.inputs
        lead = len(riding(q))
        texts = [_flat(name, value, lead) for name, value in zip("qkv", (q, k, v), strict=True)]
        if bias:
            texts.append(f"attn_mask={_mask(bias[0], q)}")
        scales = _scales(region.steps)
        assert scales is not None
        factors = " * ".join(writer.number(scale) for scale in scales) or "1.0"
        texts.append(f"scale={factors}")
        text = f"F.scaled_dot_product_attention({', '.join(texts)})"
        text += ".squeeze(1)" if lead == 1 else ""
        count = len(q.type.names_of_positions)
        if count > 1:
            text += f".unflatten({lead}, {tuple_text([f'q.shape[{lead + at}]' for at in range(count)])})"
        y = region.outputs[0]
        writer.values[y.uid] = Operand(text, y.type, self.order(region, y))


def _flat(name: str, value: Value, lead: int) -> str:
    """[B, heads, positions, C]"""
    count = len(value.type.names_of_positions)
    text = f"{name}.flatten({lead}, {lead + count - 1})" if count > 1 else name
    return f"{text}.unsqueeze(1)" if lead == 1 else text


def _mask(bias: Value, q: Value) -> str:
    """What is added to the scores, as [B, heads, positions, keys] with 1 where it lacks an axis."""
    places = q.type.names_of_positions
    text, steps = "bias.to(q.dtype)", [":" if name in bias.type else "None" for name in riding(q)]
    steps += ["None"] * (2 - len(steps))
    if not any(name in bias.type for name in places):
        steps += ["None"]
    elif len(places) > 1:
        text += f".flatten(-{len(places) + 1}, -2)"
    while steps and steps[0] == "None":
        steps.pop(0)  # the library broadcasts from the right
    return f"{text}[{', '.join([*steps, '...'])}]" if "None" in steps else text


def _rectangular(bias: Value, q: Value) -> bool:
    """Whether it has numbers for all keys, and for all positions or none."""
    there = {name in bias.type for name in q.type.names_of_positions}
    return bias.type.dtype == "float" and TAP in bias.type and len(there) == 1


def _scales(steps: list[Apply] | tuple[Apply, ...]) -> list[Scalar] | None:
    """The numbers that scores are multiplied with before one tensor at most is added; None for any other chain."""
    scales, added = list[Scalar](), False
    for step in steps:
        if not step.op.follows:
            continue
        if not step.op.numbers and step.op.tile("a", "b") == "a + b" and not added:
            added = True
        elif len(step.op.numbers) == 1 and len(list(values(step.inputs))) == 1 and step.op.tile("a", "b") == "a * b" and not added:
            scales += step.op.numbers
        else:
            return None
    return scales


FAMILY = Library()
