"""What a family of kernels is asked, and what those that are built around one linear core share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.fusion.cores import Matmul, Stencil
from archc.fusion.cost import Work, of_region
from archc.fusion.epilogue import Epilogue, axes_of, defined
from archc.fusion.view import Found, Refused, View, busy
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Drawn, Fused, Value
from archc.ir.sym import Const, Scalar
from archc.ir.types import TensorType

if TYPE_CHECKING:
    from archc.analysis.setting import Setting
    from archc.backend.kernels import TwinWriter


class Family:
    """`name` is that of its file of kernels, `operator` that of the class in it; it takes the cores of the classes
    `cores`. Families of smaller `rank` choose first."""

    name: ClassVar[str]
    operator: ClassVar[str]
    cores: ClassVar[tuple[type[Any], ...]]
    rank: ClassVar[int] = 0

    def find(self, view: View, place: int, core: Any) -> Found | Refused | None:
        """What it computes together around the operation at `place`, or why it leaves that to the library."""
        raise NotImplementedError

    def word(self, core: Any) -> str:
        """The core in a word, for the name of the operator."""
        raise NotImplementedError

    def prologue(self, steps: Sequence[Apply]) -> tuple[Apply, ...]:
        """Those of a region's operations that make what its core works on."""
        return ()

    def words(self, core: Any, steps: Sequence[Apply]) -> list[str]:
        """What a region computes, in words: its prologue, its core, and what is around it."""
        first = self.prologue(steps)
        rest = [step.op.name for step in steps if step.op.follows and step not in first]
        return [*(step.op.name for step in first), self.word(core), *rest]

    def operator_of(self, region: Fused) -> str:
        """The class of operators that computes it."""
        return self.operator

    def order(self, region: Fused, value: Value) -> tuple[str, ...]:
        """The order of axes in which the operator takes `value`, or gives it as a result."""
        raise NotImplementedError

    def functions(self, name: str, region: Fused) -> dict[str, list[str]]:
        """The functions of the kernels that are the region's own: the text of each by its name, in the order in which
        the operator is made with them."""
        return {}

    def laid_out(self, region: Fused, order: tuple[str, ...]) -> Fused:
        """The region where its first tensor lies in `order`, for a family that takes maps as they lie."""
        return region

    def settings(self, region: Fused) -> list[str]:
        """The keyword arguments with which the operator is made."""
        return []

    def work(self, region: Fused, setting: Setting) -> Work:
        """What its kernel does in a forward pass, at the sizes and element type of `setting`."""
        return of_region(region, setting)

    def extra_flops(self, region: Fused, setting: Setting) -> int:
        """How many FLOPs its kernel carries out in a forward pass besides those of the operations: on padding, or again."""
        return 0

    def twin(self, region: Fused, writer: TwinWriter) -> None:
        """Writes what the operator computes in plain PyTorch, up to the results."""
        writer.write(region.steps)


class LinearFamily(Family):
    """A core with one map, weights and maybe a bias, and pointwise operations behind it; before it too, for a family that
    says which."""

    def refuses(self, core: Any, followers: int) -> str:
        """Why a library is as good for the core with so many operations behind it; empty where it is not."""
        return ""

    def channels(self, core: Any, whole: TensorType) -> str:
        """The axis of channels of a map."""
        raise NotImplementedError

    def layout(self, core: Any, whole: TensorType) -> tuple[str, ...]:
        """The order of axes in which the operator takes maps and gives its result."""
        raise NotImplementedError

    def find(self, view: View, place: int, core: Any) -> Found | Refused | None:
        found = self.around(view, place, core)
        if isinstance(found, Refused):
            return found
        steps = [view.step(p) for p in found.places]
        why = self.refuses(core, busy(steps) - 1)
        return Refused(found.places, why) if why else found

    def around(self, view: View, place: int, core: Any) -> Found | Refused:
        """The core with the pointwise operations behind it."""
        owned = view.weights(place) if view.step(place).entry is not None else ()
        if owned is None:
            return Refused((place,), "its weights are not in a module of their own")
        step = view.step(place)
        start = step.outputs[0]
        places = around(view, place, start, self.channels(core, start.type))
        steps = [view.step(p) for p in places]
        (source,) = values(step.inputs)
        tensors, arguments = operands(steps, start)
        return Found(
            core,
            tuple(places),
            (source, *owned, *tensors),
            ("x", *(weight.name for weight in owned), *arguments),
            varying(steps),
        )

    def started(self, region: Fused) -> Value:
        """What the epilogue starts from: the result of the core."""
        return next(step for step in region.steps if not step.op.follows).outputs[0]

    def order(self, region: Fused, value: Value) -> tuple[str, ...]:
        whole = self.started(region).type
        layout, channels = region.layout or self.layout(region.core, whole), self.channels(region.core, whole)
        if len(value.type.axes) == len(whole.axes):
            return layout
        # The channels of a smaller one are innermost.
        rows = tuple(name for name in layout if name in value.type and name != channels)
        return rows + (channels,) * (channels in value.type)

    def epilogue(self, region: Fused) -> Epilogue:
        start, core, first = self.started(region), region.core, self.prologue(region.steps)
        assert isinstance(core, (Stencil, Matmul))
        chain = [s for s in region.steps if s.op.follows and s not in first]
        given = slice(1, len(region.tensors) - len(read_first(first)[1]))
        return Epilogue(region, chain, given, start, self.channels(core, start.type), core.bias)

    def functions(self, name: str, region: Fused) -> dict[str, list[str]]:
        epilogue = self.epilogue(region)
        return {
            f"{name}_epilogue": defined(f"{name}_epilogue", epilogue.forward()),
            f"{name}_gradient": defined(f"{name}_gradient", epilogue.backward()),
        }

    def settings(self, region: Fused) -> list[str]:
        return self.epilogue(region).settings()

    def twin(self, region: Fused, writer: TwinWriter) -> None:
        core = next(step for step in region.steps if not step.op.follows)
        source, first = region.inputs[0], self.prologue(region.steps)
        # Operations behind the core may read the source too: as an operand of its own.
        operand = writer.values[source.uid]
        writer.values[source.uid] = replace(operand, text=region.arguments[0])
        writer.write(first)
        self.write_core(core, writer)
        writer.values[source.uid] = operand
        writer.write(tuple(step for step in region.steps if step is not core and step not in first))

    def write_core(self, core: Apply, writer: TwinWriter) -> None:
        """Writes the core in plain PyTorch."""
        writer.write((core,))


def around(view: View, place: int, start: Value, channels: str) -> list[int]:
    """The places of the most operations around the one at `place` that end in one result: they work element by element
    on maps with the axes of `start`, and on tensors with some of them."""

    def admits(step: Apply) -> bool:
        return step is view.step(place) or pointwise(step, start.type, channels)

    # What a core reads is its own operand; a first pointwise operation is like those before it.
    leaf = -1 if view.step(place).op.follows else place
    for last in range(len(view.body) - 1, place, -1):
        if view.free(last) and admits(view.step(last)) and view.step(last).outputs[0].type.dtype == "float":
            places = view.cone(last, admits, leaf)
            if place in places and (view.step(place).op.follows or learns([view.step(p) for p in places], start)):
                return places
    return [place]


def learns(steps: Sequence[Apply], start: Value) -> bool:
    """Whether a gradient flows from the result of pointwise operations to `start`."""
    reached = {start.uid}
    for step in steps:
        tensors = list(values(step.inputs))
        if step.op.follows and any(v.uid in reached for v in tensors):
            given = [*tensors, None] if step.op.draws else tensors
            sides = step.op.sides(given)
            slopes = step.op.slopes(*("x" for _ in sides), result="y")
            if any(slope and isinstance(s, Value) and s.uid in reached for s, slope in zip(sides, slopes, strict=True)):
                reached.add(step.outputs[0].uid)
    return steps[-1].outputs[0].uid in reached


def pointwise(step: Apply, whole: TensorType, channels: str) -> bool:
    """Whether an operation works element by element on maps with the axes of `whole`."""
    if not step.op.follows or len(step.outputs) != 1:
        return False
    kinds = [axes_of(v.type, whole, channels) for v in (*values(step.inputs), *step.outputs)]
    return (
        None not in kinds
        and kinds[-1] == "NPC"
        and all(v.type.dtype in ("float", "bool") for v in (*values(step.inputs), *step.outputs))
        and (not step.op.draws or whole.names[0] == "B")
    )


def follows(step: Apply, last: Value) -> bool:
    """Whether an operation makes numbers element by element of `last` and of maps of the same axes and sizes."""
    sizes = [(a.name, a.size) for a in last.type.axes]
    return (
        step.op.follows
        and not step.op.draws
        and len(step.outputs) == 1
        and all([(a.name, a.size) for a in v.type.axes] == sizes for v in values(step.inputs))
        and all(v.type.dtype == "float" for v in (*values(step.inputs), *step.outputs))
    )


def operands(steps: Sequence[Apply], start: Value) -> tuple[tuple[Value | Drawn, ...], tuple[str, ...]]:
    """What pointwise operations read besides `start` and each other's results, and what their kernel calls it."""
    made = {start.uid} | {step.outputs[0].uid for step in steps}
    maps = {v.uid: v for step in steps if step.op.follows for v in values(step.inputs) if v.uid not in made}
    drawn = [Drawn(step) for step in steps if step.op.follows and step.op.draws]
    names = *(f"m{at}" for at in range(len(maps))), *(f"kept{at}" for at in range(len(drawn)))
    return (*maps.values(), *drawn), names


def read_first(steps: Sequence[Apply]) -> tuple[list[Value], tuple[str, ...]]:
    """What the operations of a prologue read: a map of all axes that their gradient flows to, then the rest; and what
    their kernel calls the rest."""
    if not steps:
        return [], ()
    whole = steps[-1].outputs[0]
    tensors = [t for t in operands(steps, whole)[0] if isinstance(t, Value)]
    source = next((t for t in tensors if large(t, whole) and learns(steps, t)), None)
    if source is None:
        return [], ()
    rest = [t for t in tensors if t is not source]
    return [source, *rest], tuple(f"p{at}" for at in range(len(rest)))


def large(value: Value, whole: Value) -> bool:
    """Whether `value` is a map with as many axes as `whole`."""
    return value.type.dtype == "float" and len(value.type.axes) == len(whole.type.axes)


def varying(steps: Sequence[Apply]) -> tuple[Scalar, ...]:
    """The numbers of some operations that builds of one text may differ in: a kernel is given them."""
    found = {n.sym: n for step in steps for n in step.op.numbers if not isinstance(n.sym, Const)}
    return tuple(found.values())
