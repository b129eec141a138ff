"""Sums over the taps of a region with weights of each position, and scores of queries and keys that are a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from archc.backend.operand import Operand
from archc.fusion.cores import Line, Mixture, Scores, Softmax, Taps
from archc.fusion.cost import Work, region_bytes
from archc.fusion.families.base import Family, follows
from archc.fusion.view import Found, Refused, View, core_of
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused, Value
from archc.ir.sym import Const, Scalar
from archc.where.base import Places
from archc.where.text import TAP

if TYPE_CHECKING:
    from archc.analysis.setting import Setting
    from archc.backend.kernels import TwinWriter

# A kernel on tensor cores multiplies tiles of queries and keys: so many pairs of them for one that is a tap.
PAIRS = 3
# Instructions of a lane, as compiled: on vector units for a multiply-add, on tensor cores for a weight and 64 channels.
FMA, WEIGHT = 2.4, 72


class Dynamic(Family):
    name: ClassVar[str] = "dynamic"
    operator: ClassVar[str] = "Aggregate"
    cores: ClassVar[tuple[type, ...]] = (Mixture, Scores)
    rank: ClassVar[int] = 10  # whole attention is taken before its parts

    def find(self, view: View, place: int, core: Mixture | Scores) -> Found | Refused | None:
        step = view.step(place)
        inputs, scored = list(values(step.inputs)), isinstance(core, Scores)
        # What is no attention of one kernel is two, but where queries share their keys: those are products of the library.
        around = behind(view, step) if scored else before(view, inputs[0])
        part = any(isinstance(core_of(view.step(p)), Mixture if scored else Scores) for p in around)
        taps = taps_of(core, inputs)
        why = unfit(taps, inputs)
        if part and core.over.grouped:
            why = "queries share their keys: batched matrix products, which are the library's"
        if why:
            return None if part and scored else Refused((place,), why)  # why it is no attention has been said
        if scored:
            return Found(taps, (place,), tuple(inputs), ("q", "k"))
        places, weights = prologue(view, inputs[0])
        return Found(taps, (*places, place), (inputs[1], weights), ("x", "w"))

    def word(self, core: Taps | Mixture | Scores) -> str:
        if isinstance(core, Taps):
            scored, over = core.scored, core.over
        else:
            scored, over = isinstance(core, Scores), core.over.name
        return f"{'correlate' if scored else 'aggregate'}_{over if over.isidentifier() else 'region'}"

    def operator_of(self, region: Fused) -> str:
        return "Correlate" if taps_in(region).scored else self.operator

    def order(self, region: Fused, value: Value) -> tuple[str, ...]:
        lead, positions = axes(region)
        (last,) = (name for name in value.type.names if name not in (*lead, *positions))
        return (*(name for name in (*lead, *positions) if name in value.type), last)

    def settings(self, region: Fused) -> list[str]:
        core, (lead, positions) = taps_in(region), axes(region)
        given = [" ".join(self.order(region, value)[:-1]) for value in region.inputs]
        taps = "".join(f"{written(line)}, " for line in core.lines)
        kinds = [f'axes="{" ".join((*lead, *positions))}"', f'given=("{given[0]}", "{given[1]}")']
        kinds.append(f"taps=({taps.rstrip() if len(core.lines) == 1 else taps.rstrip(', ')})")
        if core.scored:
            return (['none=float("-inf")'] if core.gaps else []) + kinds
        return (["softmax=True"] if softmax_of(region) else []) + kinds

    def functions(self, name: str, region: Fused) -> dict[str, list[str]]:
        chain = [step for step in region.steps if step.op.follows]
        if not chain:
            return {}
        lines, slopes, last = [], [], "z"
        for at, step in enumerate(chain):
            given = step.op.sides([last for _ in values(step.inputs)])
            sides = [repr(float(str(s.value))) if isinstance(s, Scalar) else s for s in given]
            lines.append(f"    v{at} = {step.op.tile(*sides)}")
            terms = zip(sides, step.op.slopes(*sides, result=f"v{at}"), strict=True)
            slopes.append(" + ".join(f"({slope})" for side, slope in terms if side == last))
            last = f"v{at}"
        product = " * ".join(slope if " + " not in slope else f"({slope})" for slope in slopes)
        return {
            f"{name}_weight": [f"def {name}_weight(z):", *lines, f"    return {last}"],
            f"{name}_slope": [f"def {name}_slope(z):", *lines, f"    return {product}"],
        }

    def twin(self, region: Fused, writer: TwinWriter) -> None:
        q, k = region.inputs
        if q.uid == k.uid:  # two arguments all the same
            order, (step,) = self.order(region, q), region.steps
            k = replace(k, uid=-1)
            writer.values |= {q.uid: Operand("q", q.type, order), k.uid: Operand("k", k.type, order)}
            writer.write((replace(step, inputs=(q, k)),))
        else:
            writer.write(region.steps)

    def work(self, region: Fused, setting: Setting) -> Work:
        core_step = region.steps[-1]
        xs, ys = setting.sized(core_step)
        macs, channels = setting.number(core_step.op.macs(xs, ys)), setting.number(xs[1]["C"].size)
        weights = macs // max(channels, 1)
        slots = min(int(FMA * macs), WEIGHT * weights * -(-channels // 64))
        special = PAIRS * weights if softmax_of(region) else 0
        return Work(region_bytes(region, setting), 2 * PAIRS * macs, slots, special)

    def extra_flops(self, region: Fused, setting: Setting) -> int:
        return self.work(region, setting).matrix // PAIRS * (PAIRS - 1)


FAMILY = Dynamic()


def taps_of(core: Mixture | Scores, inputs: Sequence[Value]) -> Taps:
    """The taps of an operation with a region."""
    first, keys = inputs[0].type.positions, inputs[1].type.positions
    over, scored = core.over, isinstance(core, Scores)
    at = Places(over.queried(keys) if over.local and not scored and not over.tensors else first, keys)
    shared = over.shares and not over.copies
    lines = () if shared or over.tensors else over.lines(at)
    return Taps(scored, over.name, over.numbered(at) if lines else (), lines, shared, over.gaps)


def taps_in(region: Fused) -> Taps:
    """The core of a region of this family."""
    assert isinstance(region.core, Taps)
    return region.core


def unfit(core: Taps, inputs: Sequence[Value]) -> str:
    """Why the kernels do not take a region, or its operands; empty where they do."""
    if core.shared:
        return "all queries share all keys: a matrix product, which is the library's"
    if not core.lines:
        return f"where the taps of `{core.over}` are is not a formula with the same numbers in every build"
    if len(core.axes) > 2:
        return f"its taps lie along {len(core.axes)} axes, and the kernels have two"
    if not core.scored and "C" in inputs[0].type:
        return "each channel has weights of its own"
    if "C" not in inputs[1].type:
        return "there are no channels that share the weights"
    return ""


def axes(region: Fused) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The axes of the result but for the last: what rides along, and those that the region moves along."""
    core, names = taps_in(region), region.steps[-1].outputs[0].type.names
    last = TAP if core.scored else "C"
    return tuple(name for name in names if name not in (*core.axes, last)), core.axes


def written(line: Line) -> str:
    """The text of what operators are told of the taps along an axis."""
    named = [("step", line.step, 1), ("block", line.block, 0), ("stride", line.stride, 1)]
    parts = [line.where, str(line.count), *(f"{name}={value}" for name, value, usual in named if value != usual)]
    return f"Taps({', '.join(parts)})"


def softmax_of(region: Fused) -> bool:
    """Whether the weights go through a softmax."""
    return any(isinstance(core_of(step), Softmax) for step in region.steps)


def prologue(view: View, weights: Value) -> tuple[list[int], Value]:
    """The operations before the weights that the kernel computes as it goes, first ones first, and what they are made of:
    a softmax over the taps, and before it what works on each element alone."""
    places: list[int] = []
    place = view.maker(weights)
    if place is not None and core_of(view.step(place)) == Softmax(TAP):
        places.insert(0, place)
        (weights,) = values(view.step(place).inputs)
        place = view.maker(weights)
    while place is not None and alone(view.step(place)):
        places.insert(0, place)
        weights = next(iter(values(view.step(place).inputs)))
        place = view.maker(weights)
    return places, weights


def alone(step: Apply) -> bool:
    """Whether an operation computes each element from one of a single tensor, with the same numbers in every build."""
    given = {value.uid for value in values(step.inputs)}
    return (
        follows(step, step.outputs[0])
        and len(given) == 1
        and all(isinstance(number.sym, Const) for number in step.op.numbers)
    )


def behind(view: View, step: Apply) -> Iterator[int]:
    """The places of the operations that read what is made of its results, as long as there are taps."""
    todo = [value for value in step.outputs if TAP in value.type]
    while todo:
        for place in view.users.get(todo.pop().uid, ()):
            yield place
            todo += [value for value in view.step(place).outputs if TAP in value.type]


def before(view: View, value: Value) -> Iterator[int]:
    """The places of the operations that a tensor is made by, as long as there are taps."""
    todo = [value]
    while todo:
        place = view.makers.get(todo.pop().uid)
        if place is not None:
            yield place
            todo += [one for one in values(view.step(place).inputs) if TAP in one.type]
