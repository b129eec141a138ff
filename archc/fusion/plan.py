"""Partition of every component into what kernels compute together and what PyTorch computes.

Operations say what a kernel may be built around (`Op.core`); families of kernels say how much of what stands around such
a core they take (`Family.find`). The plan asks them in order and knows neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from archc.analysis.setting import Setting
from archc.fusion.cores import Core
from archc.fusion.cost import of_library
from archc.fusion.families import families, family
from archc.fusion.view import Found, Refused, View, core_of, fused_of, outputs_of, read_in, readers
from archc.ir.dataflow import Turn, steps, values
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
    core: Core
    steps: tuple[Apply, ...]
    fused: Fused | None
    why: str = ""


def fuse(program: Program, setting: Setting | None = None) -> tuple[Program, tuple[Region, ...]]:
    """The program with fused regions in the place of their operations, and what was found.

    With the sizes and the element type of a `setting`, a region is fused only where its kernel has less to do there than
    the library's operations one after another. Components of one text are alike in that: the sum over all decides.
    """
    found = _Plan({})
    made = found.program(program)
    if setting is None:
        return made, tuple(found.found)
    dear = _dear(program, found.found, setting)
    if not dear:
        return made, tuple(found.found)
    chosen = _Plan(dear)
    return chosen.program(program), tuple(chosen.found)


Place = tuple[object, ...]  # a core, and the operations of its region in the text


def _dear(program: Program, found: list[Region], setting: Setting) -> dict[Place, str]:
    """The regions that the library computes in less time, with the reason."""
    times: dict[Place, list[float]] = {}
    runs = calls(program, setting)
    for region in found:
        if region.fused is not None:
            total = times.setdefault(_place(region.fused.core, region.steps), [0.0, 0.0])
            count = runs.get(id(region.template), 0)
            total[0] += count * family(region.family).work(region.fused, setting).seconds
            total[1] += count * sum(work.seconds for work in of_library(region.steps, setting))
    return {
        place: f"the library's operations have less to do: {1e6 * library:.0f} us, one kernel {1e6 * kernel:.0f} us"
        for place, (kernel, library) in times.items()
        if kernel > library
    }


def calls(program: Program, setting: Setting) -> Counter[int]:
    """How often each template runs in a forward pass, by its identity."""
    inner: dict[int, tuple[Template, Counter[int]]] = {}

    def of(template: Template) -> Counter[int]:
        if id(template) not in inner:
            total = Counter({id(template): 1})
            for step in steps(template.body, setting.decider(template)):
                call = step.call if isinstance(step, Turn) else step
                if isinstance(call, Call):
                    total.update(of(call.template))
            inner[id(template)] = template, total
        return inner[id(template)][1]

    runs = Counter(of(program.root))
    for entry in program.entry_points:
        if not runs[id(entry.template)]:
            runs.update(of(entry.template))
    return runs


def _place(core: Core, operations: Iterable[Apply]) -> Place:
    return (core, *(step.span for step in operations))


class _Plan:
    """`dear` are regions that are left to the library."""

    def __init__(self, dear: dict[Place, str]) -> None:
        self.dear = dear
        self.made: dict[int, tuple[Template, Template]] = {}
        self.found: list[Region] = []

    def program(self, program: Program) -> Program:
        root = self.template(program.root)
        entries = tuple(replace(e, template=self.template(e.template)) for e in program.entry_points)
        return replace(program, root=root, entry_points=entries)

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
        instead: dict[int, Apply] = {}
        for kind in families():
            for place in range(len(body)):
                if not view.free(place):
                    continue
                step = view.step(place)
                core = core_of(step)
                if core is None or not isinstance(core, kind.cores):
                    continue
                match kind.find(view, place, core):
                    case Found() as found if _read_between(view, found):
                        why = "a result is read before the last operation"
                        refused[place] = Region(template, kind.name, core, tuple(map(view.step, found.places)), None, why)
                    case Found() as found if why := self.dear.get(_place(found.core, map(view.step, sorted(found.places)))):
                        refused[place] = Region(template, kind.name, core, tuple(map(view.step, found.places)), None, why)
                    case Found() as found:
                        made = fused_of(kind.name, view, found)
                        fused[max(found.places)] = made
                        instead |= dict(found.instead)
                        view.taken.update(found.places)
                        self.found.append(Region(template, kind.name, core, made.steps, made))
                    case Refused(places=places, why=why):
                        refused[place] = Region(template, kind.name, core, tuple(map(view.step, places)), None, why)
        self.found += [region for place, region in refused.items() if place not in view.taken]
        inner = {v.uid for made in fused.values() for step in made.steps for v in step.outputs} - {
            v.uid for made in fused.values() for v in made.outputs
        }
        result: list[Statement] = []
        for place, statement in enumerate(body):
            statement = instead.get(place, statement)
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
    outputs = {v.uid for v in outputs_of(view, found)} - {v.uid for v in view.step(max(found.places)).outputs}
    left = {*found.places, *(place for place, _ in found.instead)}
    between = [view.body[p] for p in range(min(found.places), max(found.places)) if p not in left]
    named = {v.uid for s in between if isinstance(s, Assign) for v in values((s.value,))}
    return any(read_in(tuple(between))[uid] or uid in named for uid in outputs)
