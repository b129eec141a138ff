"""The statements of a component as a family of kernels sees them: who makes a tensor, and who alone reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import field

from archc.fusion.cores import Core
from archc.ir.dataflow import values
from archc.ir.graph import (
    Apply,
    Assign,
    Branch,
    Call,
    Drawn,
    Fused,
    OpEntry,
    Owned,
    Relabel,
    Repeat,
    Statement,
    Template,
    Value,
)
from archc.ir.sym import Scalar
from archc.records import dataclass


def core_of(step: Apply) -> Core | None:
    """What a kernel could be built around, of an operation."""
    return step.op.core(*(v.type for v in step.inputs if isinstance(v, Value)))


def busy(steps: Iterable[Apply]) -> int:
    """How many of the operations compute anything: a view does not."""
    return sum(not step.op.is_view(*(v.type for v in values(step.inputs))) for step in steps)


@dataclass(frozen=True)
class Found:
    """What a family would compute together: the places of the operations, and what its operator is called with.

    `instead` are operations that stay, and read something else: by their places.
    """

    core: Core
    places: tuple[int, ...]
    tensors: tuple[Value | Owned | Drawn, ...]
    arguments: tuple[str, ...]
    numbers: tuple[Scalar, ...] = ()
    instead: tuple[tuple[int, Apply], ...] = ()


@dataclass(frozen=True)
class Refused:
    """What a family could be built around, and why it is not: a reason for the report, in words."""

    places: tuple[int, ...]
    why: str


@dataclass(eq=False)
class View:
    """One list of statements of `template`: a body, or an arm of a branch. Places count from 0."""

    body: tuple[Statement, ...]
    template: Template
    readers: Counter[int]  # how often each value is read in the component, results included
    taken: set[int] = field(default_factory=set)  # the places that regions hold
    makers: dict[int, int] = field(init=False)  # the place of the operation that makes a value
    users: dict[int, list[int]] = field(init=False)  # the places of the operations that read it

    def __post_init__(self) -> None:
        self.makers, self.users = {}, {}
        for place, statement in enumerate(self.body):
            if isinstance(statement, Apply):
                for value in statement.outputs:
                    self.makers[value.uid] = place
                for value in values(statement.inputs):
                    self.users.setdefault(value.uid, []).append(place)

    def step(self, place: int) -> Apply:
        step = self.body[place]
        assert isinstance(step, Apply)
        return step

    def free(self, place: int) -> bool:
        """Whether the statement is an operation that no region holds yet."""
        return place not in self.taken and isinstance(self.body[place], Apply)

    def reader(self, value: Value, but: Collection[int] = ()) -> int | None:
        """The place of the operation that alone reads `value`, and once, those at `but` left out; None where there is none
        here."""
        users = self.users.get(value.uid, [])
        places = [place for place in users if place not in but]
        if self.readers[value.uid] == len(users) and len(places) == 1 and self.free(places[0]):
            return places[0]
        return None

    def maker(self, value: Value) -> int | None:
        """The place of the operation that makes `value` for one reader alone; None where there is none here."""
        place = self.makers.get(value.uid)
        return place if place is not None and self.readers[value.uid] == 1 and self.free(place) else None

    def weights(self, place: int) -> tuple[Owned, ...] | None:
        """The weights of the operation, None where they are not in a module of their own in this component."""
        step = self.step(place)
        entry = next((e for e in self.template.entries if e.name == step.entry), None)
        if step.entry is None or not isinstance(entry, OpEntry) or entry.functional or entry.guards:
            return None
        return tuple(Owned(step.entry, weight.name) for weight in entry.weights if weight.kind == "param")

    def cone(self, place: int, admits: Callable[[Apply], bool], leaf: int) -> list[int]:
        """The places of the operation at `place` and of those that it alone needs: of each that `admits` takes, all that
        it makes is read by the others, and by them only. What the one at `leaf` reads stays outside."""
        inside: dict[int, Apply] = {place: self.step(place)}
        read = Counter(v.uid for v in values(self.step(place).inputs))
        for before in range(place - 1, -1, -1):
            if self.free(before):
                step = self.step(before)
                if all(0 < read[v.uid] == self.readers[v.uid] for v in step.outputs) and admits(step):
                    inside[before] = step
                    if before != leaf:
                        read.update(v.uid for v in values(step.inputs))
        return sorted(inside)


def outputs_of(view: View, found: Found) -> tuple[Value, ...]:
    """What the operations make for others than themselves."""
    steps = [view.step(place) for place in sorted(found.places)]
    read = Counter(v.uid for step in steps for v in values(step.inputs))
    read.update(v.uid for place, _ in found.instead for v in values(view.step(place).inputs))
    read.subtract(v.uid for _, step in found.instead for v in values(step.inputs))
    return tuple(v for step in steps for v in step.outputs if view.readers[v.uid] > read[v.uid])


def fused_of(family: str, view: View, found: Found) -> Fused:
    """The operations as one, by a family's name."""
    steps = tuple(view.step(place) for place in sorted(found.places))
    outputs = outputs_of(view, found)
    return Fused(family, found.core, steps, found.tensors, found.arguments, found.numbers, outputs, steps[0].span)


def read_in(body: tuple[Statement, ...]) -> Counter[int]:
    """How often statements read each value."""

    def go(body: tuple[Statement, ...]) -> Iterator[Value]:
        for statement in body:
            match statement:
                case Apply(inputs=inputs) | Call(inputs=inputs):
                    yield from values(inputs)
                case Relabel(input=source):
                    yield source
                case Repeat(turns=turns):
                    for turn in turns:
                        yield from values(turn.inputs)
                case Branch(then=then, otherwise=otherwise, merges=merges):
                    yield from go((*(then or ()), *(otherwise or ())))
                    yield from (v for m in merges for v in (m.then, m.otherwise) if v is not None)
                case Assign(value=tuple() as several):
                    yield from several
                case _:
                    pass

    return Counter(value.uid for value in go(body))


def readers(template: Template) -> Counter[int]:
    """How often each value is read in a component, results included."""
    return read_in(template.body) + Counter(value.uid for value in template.outputs)
