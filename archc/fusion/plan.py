"""Partition of every component into what kernels compute together and what PyTorch computes.

A kernel is built around a core (`Op.core`) and takes the operations behind it as long as each is the one reader of the
result so far, computes element by element, and reads nothing but maps of the same shape that are there already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from archc.fusion.families import FAMILIES
from archc.ir.dataflow import values
from archc.ir.graph import (
    Apply,
    Assign,
    Branch,
    Call,
    ChildEntry,
    Entry,
    Fused,
    ListEntry,
    OpEntry,
    Relabel,
    Repeat,
    Statement,
    Template,
    Value,
)
from archc.ir.program import Program
from archc.records import dataclass

@dataclass(frozen=True)
class Region:
    """A fused region, or an operation that a kernel could be built around and is not: then `why` says why."""

    component: str
    what: str
    family: str
    operations: int
    why: str = ""


def fuse(program: Program) -> tuple[Program, tuple[Region, ...]]:
    """The program with fused regions in the place of their operations, and what was found."""
    plan = _Plan()
    root = plan.template(program.root)
    entries = tuple(replace(e, template=plan.template(e.template)) for e in program.entry_points)
    return replace(program, root=root, entry_points=entries), tuple(plan.found)


class _Plan:
    def __init__(self) -> None:
        self.made: dict[int, tuple[Template, Template]] = {}
        self.found: list[Region] = []

    def template(self, template: Template) -> Template:
        """The template with fused regions; the same one for the same one."""
        if id(template) not in self.made:
            body = self.body(template.body, template, _readers(template))
            entries = tuple(self.entry(e) for e in template.entries)
            self.made[id(template)] = template, replace(template, body=body, entries=entries)
        return self.made[id(template)][1]

    def entry(self, entry: Entry) -> Any:
        match entry:
            case ChildEntry(template=template):
                return replace(entry, template=self.template(template))
            case ListEntry(items=items):
                return replace(entry, items=tuple(self.entry(item) for item in items))
            case _:
                return entry

    def body(self, body: tuple[Statement, ...], template: Template, readers: Counter[int]) -> tuple[Statement, ...]:
        fused: dict[int, Fused] = {}  # by the place of the last operation
        inside: set[int] = set()
        for place, statement in enumerate(body):
            if isinstance(statement, Apply) and place not in inside:
                region = self.region(body, place, template, readers)
                if region is not None:
                    places, made = region
                    fused[places[-1]] = made
                    inside.update(places)
        kept = {v.uid for made in fused.values() for step in made.steps[:-1] for v in step.outputs}
        result: list[Statement] = []
        for place, statement in enumerate(body):
            if place in fused:
                result.append(fused[place])
            elif isinstance(statement, Assign) and isinstance(statement.value, Value) and statement.value.uid in kept:
                continue  # the author's name for a result that a kernel keeps to itself
            elif place not in inside:
                result.append(self.statement(statement, template, readers))
        return tuple(result)

    def statement(self, statement: Statement, template: Template, readers: Counter[int]) -> Statement:
        match statement:
            case Call(template=inner):
                return replace(statement, template=self.template(inner))
            case Repeat(turns=turns):
                return replace(statement, turns=tuple(replace(t, template=self.template(t.template)) for t in turns))
            case Branch(then=then, otherwise=otherwise):
                arms = [None if arm is None else self.body(arm, template, readers) for arm in (then, otherwise)]
                return replace(statement, then=arms[0], otherwise=arms[1])
            case _:
                return statement

    def region(
        self, body: tuple[Statement, ...], place: int, template: Template, readers: Counter[int]
    ) -> tuple[list[int], Fused] | None:
        """The region around the operation at `place`: the places of its operations, and what stands for them."""
        first = body[place]
        assert isinstance(first, Apply)
        core = first.op.core(*(v.type for v in first.inputs if isinstance(v, Value)))
        if core is None:
            return None
        entry = next((e for e in template.entries if e.name == first.entry), None)
        if not isinstance(entry, OpEntry) or entry.functional:
            return None
        places, steps, maps = [place], [first], dict[int, Value]()
        for at in range(place + 1, len(body)):
            step, last = body[at], steps[-1].outputs[0]
            if isinstance(step, Assign):
                continue
            if readers[last.uid] != 1 or not isinstance(step, Apply) or not _follows(step, last):
                break
            others = [v for v in values(step.inputs) if v.uid != last.uid]
            if any(_alike(v, last) is False for v in others):
                break
            maps |= {v.uid: v for v in others}
            places.append(at)
            steps.append(step)
        source = next(values(first.inputs))
        family = FAMILIES[type(core)]
        why = family.refuses(core, len(steps) - 1)
        self.found.append(Region(template.name, " + ".join(s.op.name for s in steps), family.name, len(steps), why))
        if why:
            return None
        return places, Fused(core, tuple(steps), (source, *maps.values()), steps[-1].outputs, first.span)


def _follows(step: Apply, last: Value) -> bool:
    inputs = list(values(step.inputs))
    return step.op.follows and any(v.uid == last.uid for v in inputs) and len(step.outputs) == 1


def _alike(other: Value, last: Value) -> bool:
    """Whether a tensor has the axes of the result so far, in the same order and of the same sizes."""
    return [(a.name, a.size) for a in other.type.axes] == [(a.name, a.size) for a in last.type.axes]


def _readers(template: Template) -> Counter[int]:
    """How often each value is read in a component, results included."""
    counts: Counter[int] = Counter(value.uid for value in template.outputs)

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
                case _:
                    pass

    counts.update(value.uid for value in go(template.body))
    return counts
