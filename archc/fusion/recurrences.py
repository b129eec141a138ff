"""What stands around a recurrence along paths: the products that its decay and update are, and what reads its states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from archc.fusion.cores import Contraction, Recurrence
from archc.fusion.families.base import Family
from archc.fusion.view import View, core_of
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused, Value
from archc.ir.sym import Const, Scalar
from archc.ir.types import TensorType
from archc.records import dataclass
from archc.where.paths import Path

if TYPE_CHECKING:
    from archc.ops.base import Code

GROUPS = "bw0123456789rsf"  # the letters of axes, in the order in which operators take them


@dataclass(frozen=True)
class Sides:
    """The two sides of a product of tensors, made by the operation at `place`."""

    place: int
    left: Value
    right: Value

    def orders(self) -> tuple[tuple[Value, Value], ...]:
        return (self.left, self.right), (self.right, self.left)


def product(view: View, value: Value) -> Sides | None:
    """The product of two tensors, not summed, that `value` is for one reader alone."""
    place = view.maker(value)
    if place is None or not _multiplies(view.step(place)):
        return None
    left, right = values(view.step(place).inputs)
    return Sides(place, left, right)


def _multiplies(step: Apply) -> bool:
    inputs = list(values(step.inputs))
    if len(inputs) != 2:
        return False
    if isinstance(core := core_of(step), Contraction):
        return not core.axes
    return step.op.follows and step.op.slopes("a", "b", result="y") == ("b", "a")


def exponent(view: View, value: Value) -> tuple[int, Value] | None:
    """The place of the operation that makes `value`, and its operand, where it is the exponential: its own derivative."""
    place = view.maker(value)
    if place is None or not view.step(place).op.follows:
        return None
    inputs = list(values(view.step(place).inputs))
    if len(inputs) != 1 or len(view.step(place).op.sides(inputs)) != 1:
        return None
    return (place, inputs[0]) if view.step(place).op.slopes("x", result="y") == ("y",) else None


def added(view: View, value: Value) -> tuple[int, Value] | None:
    """The place of the operation that alone reads `value` and adds a tensor to it, and that tensor."""
    place = view.reader(value)
    if place is None or not view.step(place).op.follows:
        return None
    step, others = view.step(place), [v for v in values(view.step(place).inputs) if v.uid != value.uid]
    if len(others) != 1 or step.op.slopes("a", "b", result="y") != ("1.0", "1.0"):
        return None
    return place, others[0]


def summed(view: View, states: Value) -> tuple[int, Value, tuple[str, ...]] | None:
    """Where the states are read by a product that is summed over axes: its place, its other side, and the axes."""
    place = view.reader(states)
    if place is None:
        return None
    inputs = list(values(view.step(place).inputs))
    core = core_of(view.step(place))
    if not isinstance(core, Contraction) or not core.axes:
        return None
    (other,) = [v for v in inputs if v.uid != states.uid] or [states]
    return None if other is states else (place, other, core.axes)


def lettered(core: Recurrence, states: TensorType, summed: Iterable[str], free: Iterable[str]) -> Recurrence:
    """The core with the letters of its axes: b, w, digits for those of the paths, s for `summed`, f for `free`, r else."""
    digits = {name: str(at) for at, name in enumerate(n for n in states.names if n in core.over)}
    letters: dict[str, str] = {"way": "w"} | digits | dict.fromkeys(summed, "s") | dict.fromkeys(free, "f")
    letters |= {"B": "b"} | {name: "r" for name in states.names if name not in letters and name != "B"}
    places = {name: at for at, name in enumerate(states.names)}
    names = sorted(letters, key=lambda name: (GROUPS.index(letters[name]), places.get(name, -1)))
    return replace(core, letters=tuple((name, letters[name]) for name in names))


def features(core: Recurrence, type: TensorType) -> frozenset[str]:
    """The axes of a state: all but the batch, the way and those of the paths."""
    return frozenset(name for name in type.names if name not in ("B", "way", *core.over))


def fits(core: Recurrence, tensors: Sequence[Value]) -> bool:
    """Whether the tensors are several, and each has all axes of a letter or none, so that they are one axis to a kernel."""
    if len({tensor.uid for tensor in tensors}) < len(tensors):
        return False
    for tensor in tensors:
        has = {letter for name, letter in core.letters if name in tensor.type}
        if any(letter in has and name not in tensor.type for name, letter in core.letters if letter in "rsf"):
            return False
    return True


def unfit(core: Recurrence) -> str:
    """Why kernels do not walk the paths of a recurrence; empty where they do."""
    if any(set(way.over) != set(core.over) for way in core.ways):
        return "its paths run over different axes"
    if len({way.lattices() for way in core.ways}) > 1:
        return "its paths are different numbers of sequences"
    if not all(isinstance(number.sym, Const) for way in core.ways for number in way.numbers()):
        return "the sizes of its path vary from build to build"
    return ""


def extent(type: TensorType, axes: Iterable[str]) -> int | None:
    """How many elements the axes have; None where that is known when the module runs."""
    total = 1
    for name in axes:
        if (size := type[name].size.constant) is None:
            return None
        total *= size
    return total


class RecurrenceFamily(Family):
    """Operators that take tensors in the order of the letters of their axes, and walk paths."""

    cores: ClassVar[tuple[type, ...]] = (Recurrence,)

    def order(self, region: Fused, value: Value) -> tuple[str, ...]:
        assert isinstance(region.core, Recurrence)
        return tuple(name for name, _ in region.core.letters if name in value.type)

    def settings(self, region: Fused) -> list[str]:
        core = region.core
        assert isinstance(core, Recurrence)
        letters = dict(core.letters)
        given = [v for v in (*region.tensors, *region.outputs) if isinstance(v, Value)]
        *axes, result = ("".join(letters[name] for name in self.order(region, value)) for value in given)
        folded = ", ".join(f'"{one}"' for one in axes)
        return [
            f"axes=({folded}{',' if len(axes) == 1 else ''})",
            f'result="{result}"',
            f"ways=[{', '.join(_way(core, way) for way in core.ways)}]",
        ]


def _way(core: Recurrence, path: Path) -> str:
    """The text of a path as kernels walk it."""
    forward, reverse = path.unreversed()
    letters, code = dict(core.letters), cast("Code", _Text())
    parts = [letters[name] for name in forward.over]
    if reverse:
        parts.append("reverse=True")
    if not forward.plain:
        sizes = [f"n{at}" for at in range(len(forward.over))]
        parts.append(f"order=lambda {', '.join(sizes)}, device: {forward.order(code, sizes, 'device')}")
    if forward.lattices() != 1:
        parts.append(f"count={forward.count(code)}")
    return f"Way({', '.join(parts)})"


class _Text:
    """What the text of an order asks of the file: helpers, which the PyTorch path of the operator has there too."""

    def helper(self, name: str) -> str:
        return name

    def number(self, value: Scalar) -> str:
        return repr(value.value)
