"""Partition of every component into what kernels compute together and what PyTorch computes.

Operations say what a kernel may be built around (`Op.core`); families of kernels say how much of what stands around such
a core they take (`Family.find`). The plan asks them in order and knows neither.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from archc.fusion.families import families
from archc.fusion.view import Found, Refused, View, read_in, readers
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
    Repeat,
    Statement,
    Template,
    Value,
)
from archc.ir.program import Program
from archc.records import dataclass


@dataclass(frozen=True)
class Region:
    """Operations of the component `template` that one operator computes; or, where `fused` is None, that a kernel could
    be built around and is not: then `why` says why."""

    template: Template
    family: str
    steps: tuple[Apply, ...]
    fused: Fused | None
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
            entries = tuple(self.entry(e) for e in template.entries)
            body = self.body(template.body, template, readers(template))
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

    def body(self, body: tuple[Statement, ...], template: Template, counts: Counter[int]) -> tuple[Statement, ...]:
        view = View(body, template, counts)
        fused: dict[int, Fused] = {}  # by the place of the last operation
        refused: dict[int, Region] = {}
        for family in families():
            for place in range(len(body)):
                if not view.free(place):
                    continue
                step = view.step(place)
                core = step.op.core(*(v.type for v in step.inputs if isinstance(v, Value)))
                if not isinstance(core, family.cores):
                    continue
                match family.find(view, place, core):
                    case Found() as found if _read_between(view, found):
                        why = "a result is read before the last operation"
                        refused[place] = Region(template, family.name, tuple(map(view.step, found.places)), None, why)
                    case Found() as found:
                        made = _fused(family.name, view, found)
                        fused[max(found.places)] = made
                        view.taken.update(found.places)
                        self.found.append(Region(template, family.name, made.steps, made))
                    case Refused(places=places, why=why):
                        refused[place] = Region(template, family.name, tuple(map(view.step, places)), None, why)
        self.found += [region for place, region in refused.items() if place not in view.taken]
        inner = {v.uid for made in fused.values() for step in made.steps for v in step.outputs} - {
            v.uid for made in fused.values() for v in made.outputs
        }
        result: list[Statement] = []
        for place, statement in enumerate(body):
            if place in fused:
                result.append(fused[place])
            elif isinstance(statement, Assign) and isinstance(statement.value, Value) and statement.value.uid in inner:
                continue  # the author's name for a result that a kernel keeps to itself
            elif place not in view.taken:
                result.append(self.statement(statement, template, counts))
        return tuple(result)

    def statement(self, statement: Statement, template: Template, counts: Counter[int]) -> Statement:
        match statement:
            case Call(template=inner):
                return replace(statement, template=self.template(inner))
            case Repeat(turns=turns):
                return replace(statement, turns=tuple(replace(t, template=self.template(t.template)) for t in turns))
            case Branch(then=then, otherwise=otherwise):
                arms = [None if arm is None else self.body(arm, template, counts) for arm in (then, otherwise)]
                return replace(statement, then=arms[0], otherwise=arms[1])
            case _:
                return statement


def _read_between(view: View, found: Found) -> bool:
    """Whether a statement between the operations, which stand where the last one stood, reads what they make."""
    made = {v.uid for place in found.places for v in view.step(place).outputs}
    between = [view.body[p] for p in range(min(found.places), max(found.places)) if p not in found.places]
    last = {v.uid for v in view.step(max(found.places)).outputs}
    counts = read_in(tuple(s for s in between if not isinstance(s, Assign)))
    counts.update(v.uid for s in between if isinstance(s, Assign) for v in values((s.value,)) if view.readers[v.uid] > 1)
    return any(counts[uid] for uid in made - last)


def _fused(family: str, view: View, found: Found) -> Fused:
    steps = tuple(view.step(place) for place in sorted(found.places))
    read = Counter(v.uid for step in steps for v in values(step.inputs))
    outputs = tuple(v for step in steps for v in step.outputs if view.readers[v.uid] > read[v.uid])
    return Fused(family, found.core, steps, found.tensors, found.arguments, found.numbers, outputs, steps[0].span)

