"""What a template keeps in memory: tensors by the storage they share, when each is last read, what training
saves.

Everything is known of a template before it is known where it stands, so forty copies are looked at once.
Figures are bytes of the program's own graph, operation by operation: fused kernels keep less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archc.analysis.setting import Setting
from archc.ir.dataflow import Same, Turn, steps, values
from archc.ir.graph import Apply, Template
from archc.records import dataclass

# Bytes of an element of what some operations note for their backward pass.
NOTES = {"mask": 1, "index": 8}


@dataclass(frozen=True)
class Event:
    """One step: storages read, storages made, storages saved for the backward pass, the template if it is a
    call.

    `noted` are bytes that only the backward pass reads.
    """

    reads: tuple[int, ...]
    makes: tuple[int, ...]
    saves: frozenset[int]
    noted: int
    callee: Template | None


@dataclass(frozen=True)
class Plan:
    """A template's storages: numbers below `inputs` are its inputs'; `bytes` of each, what results lie in.

    `saved` are the storages that training keeps and that the caller can see, `inside` the bytes of the
    others.
    """

    inputs: int
    bytes: tuple[int, ...]
    events: tuple[Event, ...]
    results: tuple[int, ...]
    saved: frozenset[int]
    inside: int

    @property
    def kept(self) -> int:
        """Bytes that training keeps of what the template reads and makes, every storage once."""
        return self.inside + sum(self.bytes[storage] for storage in self.saved)


class Memory:
    """Plans and peaks of templates under one setting, each made once."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._plans: dict[int, tuple[Template, Plan]] = {}
        self._peaks: dict[tuple[int, tuple[tuple[int, int], ...]], tuple[int, int]] = {}

    def plan(self, template: Template) -> Plan:
        known = self._plans.get(id(template))
        if known is None:
            known = self._plans[id(template)] = (template, self._make(template))
        return known[1]

    def _make(self, template: Template) -> Plan:
        setting = self.setting
        storage = {value.uid: number for number, value in enumerate(template.inputs)}
        sizes = [setting.bytes(value.type) for value in template.inputs]
        events: list[Event] = []
        inside = 0
        saved: set[int] = set()
        for step in steps(template.body, setting.decider(template)):
            if isinstance(step, Same):
                storage[step.target.uid] = storage[step.source.uid]
                continue
            call = step.call if isinstance(step, Turn) else step
            reads = tuple(storage[value.uid] for value in values(call.inputs))
            first = len(sizes)
            if isinstance(call, Apply):
                event = self._operation(call, reads, storage, sizes)
            else:
                plan = self.plan(call.template)
                places: dict[int, int] = dict(enumerate(reads))
                for value, place in zip(call.outputs, plan.results, strict=True):
                    if place not in places:
                        places[place] = len(sizes)
                        sizes.append(plan.bytes[place])
                    storage[value.uid] = places[place]
                escaped = frozenset(places[place] for place in plan.saved if place in places)
                hidden = sum(plan.bytes[place] for place in plan.saved if place not in places)
                event = Event(
                    reads, tuple(range(first, len(sizes))), escaped, plan.inside + hidden, call.template
                )
            events.append(event)
            saved |= event.saves
            inside += event.noted
        results = tuple(storage[value.uid] for value in template.outputs)
        visible = frozenset(s for s in saved if s < len(template.inputs) or s in results)
        inside += sum(sizes[s] for s in saved - visible)
        return Plan(len(template.inputs), tuple(sizes), tuple(events), results, visible, inside)

    def _operation(
        self, apply: Apply, reads: tuple[int, ...], storage: dict[int, int], sizes: list[int]
    ) -> Event:
        setting = self.setting
        types = [setting.operand(x) for x in apply.inputs]
        first = len(sizes)
        if apply.op.is_view(*types):
            # Without an operand it is a weight, which is no activation.
            base = reads[0] if reads else len(sizes)
            if not reads:
                sizes.append(0)
            storage |= {value.uid: base for value in apply.outputs}
        else:
            for value in apply.outputs:
                storage[value.uid] = len(sizes)
                sizes.append(setting.bytes(value.type))
        saves: set[int] = set()
        noted = 0
        for name in apply.op.saved(*types).split():
            if name in NOTES:
                noted += NOTES[name] * setting.number(apply.op.noted(*types))
            elif name == "result":
                saves |= {storage[value.uid] for value in apply.outputs}
            else:
                saves |= {storage[v.uid] for x in _named(apply, name) for v in values((x,))}
        return Event(reads, tuple(range(first, len(sizes))), frozenset(saves), noted, None)

    def peak(self, template: Template, dying: Sequence[tuple[int, int]] = ()) -> tuple[int, int]:
        """(highest, final) bytes above what is held when the template begins.

        `dying` are inputs that nobody reads afterwards, with their bytes: each is freed after its last use.
        """
        key = (id(template), tuple(dying))
        if key not in self._peaks:
            self._peaks[key] = self._run(self.plan(template), dict(dying))
        return self._peaks[key]

    def _run(self, plan: Plan, dying: dict[int, int]) -> tuple[int, int]:
        last: dict[int, int] = {}
        for number, event in enumerate(plan.events):
            last |= dict.fromkeys((*event.reads, *event.makes), number)
        kept = {*plan.results, *(s for s in range(plan.inputs) if s not in dying)}
        worth = {**dict(enumerate(plan.bytes)), **dying}
        now = high = -sum(size for s, size in dying.items() if s not in last and s not in kept)
        high = max(high, 0)
        for number, event in enumerate(plan.events):
            ends = {s for s in (*event.reads, *event.makes) if last[s] == number and s not in kept}
            if event.callee is None:
                now += sum(plan.bytes[s] for s in event.makes)
                high = max(high, now)
                now -= sum(worth[s] for s in ends)
                continue
            # What is handed over once and not read again may be freed inside, unless it comes back.
            back = self.plan(event.callee).results
            once = [(i, s) for i, s in enumerate(event.reads) if s in ends and event.reads.count(s) == 1]
            given = [(i, worth[s]) for i, s in once if i not in back]
            above, final = self.peak(event.callee, given)
            high = max(high, now + above)
            handed = {event.reads[i] for i, _ in given}
            now += final - sum(worth[s] for s in ends - handed)
        return high, now


def _named(apply: Apply, name: str) -> tuple[Any, ...]:
    """The operands that an operation calls `name`; `operands` are all."""
    if name == "operands":
        return apply.inputs
    names = [word.rstrip("?*") for word in apply.op.operands.split()]
    return tuple(x for word, x in zip(names, apply.inputs, strict=False) if word == name)
