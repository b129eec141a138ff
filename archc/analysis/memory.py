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
from archc.ir.graph import Apply, Template, WeightEntry
from archc.records import dataclass


@dataclass(frozen=True)
class Event:
    """One step: storages read, storages made, storages saved for the backward pass, the template if it is a call.

    `noted` are bytes that only the backward pass reads, `beside` those that are held while the step runs, besides
    its operands and results.
    """

    reads: tuple[int, ...]
    makes: tuple[int, ...]
    saves: frozenset[int]
    noted: int
    beside: int
    callee: Template | None


@dataclass(frozen=True)
class Plan:
    """A template's storages: numbers below `inputs` are its inputs'; `bytes` of each, what results lie in.

    `saved` are the storages that training keeps and that the caller can see, `inside` the bytes of the
    others. `needs` says of each result whether it needs a gradient.
    """

    inputs: int
    bytes: tuple[int, ...]
    events: tuple[Event, ...]
    results: tuple[int, ...]
    saved: frozenset[int]
    inside: int
    needs: tuple[bool, ...]

    @property
    def kept(self) -> int:
        """Bytes that training keeps of what the template reads and makes, every storage once."""
        return self.inside + sum(self.bytes[storage] for storage in self.saved)


@dataclass(frozen=True)
class Facts:
    """What an operation says of its memory: whether it is a view, whether it has parameters, what it saves, and the
    bytes of its notes; each with the operand whose gradient asks for it, or none."""

    view: bool
    owns: bool
    saved: tuple[tuple[str, str], ...]
    notes: tuple[tuple[int, str], ...]


class Memory:
    """Plans and peaks of templates under one setting, each made once.

    `training` says in which mode a plan is made: what does nothing in inference gives back its operand there.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._plans: dict[tuple[int, bool, tuple[bool, ...]], tuple[Template, Plan]] = {}
        self._peaks: dict[int, tuple[int, int]] = {}
        self._known: dict[int, tuple[Apply, Facts]] = {}

    def plan(self, template: Template, needs: Sequence[bool] | None = None, training: bool = True) -> Plan:
        """`needs` says of each input whether it needs a gradient; left out, all do."""
        needs = tuple(needs) if needs is not None else (True,) * len(template.inputs)
        key = (id(template), training, needs)
        known = self._plans.get(key)
        if known is None:
            known = self._plans[key] = (template, self._make(template, needs, training))
        return known[1]

    def _make(self, template: Template, needs: tuple[bool, ...], training: bool) -> Plan:
        setting = self.setting
        storage = {value.uid: number for number, value in enumerate(template.inputs)}
        wanted = {v.uid: need and v.type.dtype == "float" for v, need in zip(template.inputs, needs, strict=True)}
        sizes = [setting.bytes(value.type) for value in template.inputs]
        learned = {e.name for e in template.entries if isinstance(e, WeightEntry) and e.weight.kind == "param"}
        events: list[Event] = []
        inside = 0
        saved: set[int] = set()
        for step in steps(template.body, setting.decider(template)):
            if isinstance(step, Same):
                storage[step.target.uid] = storage[step.source.uid]
                wanted[step.target.uid] = wanted[step.source.uid]
                continue
            call = step.call if isinstance(step, Turn) else step
            reads = tuple(storage[value.uid] for value in values(call.inputs))
            first = len(sizes)
            if isinstance(call, Apply):
                owns = call.entry in learned
                event = self._operation(call, reads, storage, sizes, wanted, owns, training)
            else:
                asked = tuple(wanted[value.uid] for value in values(call.inputs))
                plan = self.plan(call.template, asked, training)
                places: dict[int, int] = dict(enumerate(reads))
                for value, place, need in zip(call.outputs, plan.results, plan.needs, strict=True):
                    if place not in places:
                        places[place] = len(sizes)
                        sizes.append(plan.bytes[place])
                    storage[value.uid] = places[place]
                    wanted[value.uid] = need
                escaped = frozenset([places[place] for place in plan.saved])
                event = Event(reads, tuple(range(first, len(sizes))), escaped, plan.inside, 0, call.template)
            events.append(event)
            saved |= event.saves
            inside += event.noted
        results = tuple(storage[value.uid] for value in template.outputs)
        visible = frozenset(s for s in saved if s < len(template.inputs) or s in results)
        inside += sum(sizes[s] for s in saved - visible)
        grads = tuple(wanted[value.uid] for value in template.outputs)
        return Plan(len(template.inputs), tuple(sizes), tuple(events), results, visible, inside, grads)

    def _operation(
        self,
        apply: Apply,
        reads: tuple[int, ...],
        storage: dict[int, int],
        sizes: list[int],
        wanted: dict[int, bool],
        owns: bool,
        training: bool,
    ) -> Event:
        setting, op = self.setting, apply.op
        facts = self._facts(apply)
        first = len(sizes)
        if facts.view or (op.idle and not training):
            # Without an operand it is a weight, which is no activation.
            base = reads[0] if reads else len(sizes)
            if not reads:
                sizes.append(0)
            storage |= {value.uid: base for value in apply.outputs}
        else:
            for value in apply.outputs:
                storage[value.uid] = len(sizes)
                sizes.append(setting.bytes(value.type))
        needed = owns or facts.owns or any(wanted[value.uid] for value in values(apply.inputs))
        for value in apply.outputs:
            wanted[value.uid] = needed and op.differentiable and value.type.dtype == "float"
        saves: set[int] = set()
        noted = 0
        if needed and op.differentiable:
            for name, of in facts.saved:
                if not of or _any(wanted, apply, of):
                    kept = apply.outputs if name == "result" else values(_named(apply, name))
                    saves |= {storage[value.uid] for value in kept}
            noted = sum(size for size, of in facts.notes if not of or _any(wanted, apply, of))
        beside = 0 if op.idle and not training else sum(size for size, _ in facts.notes)
        return Event(reads, tuple(range(first, len(sizes))), frozenset(saves), noted, beside, None)

    def _facts(self, apply: Apply) -> Facts:
        known = self._known.get(id(apply))
        if known is None:
            setting, op = self.setting, apply.op
            types = [setting.operand(x) for x in apply.inputs]
            notes = op.notes(types, [setting.type(value.type) for value in apply.outputs])
            facts = Facts(
                op.is_view(*types),
                any(weight.kind == "param" for weight in op.weights(*types)),
                tuple((name, of) for name, _, of in (word.partition(":") for word in op.saved(*types).split())),
                tuple((setting.number(n.elements) * setting.element(n.dtype), n.of) for n in notes),
            )
            known = self._known[id(apply)] = (apply, facts)
        return known[1]

    def peak(self, template: Template) -> tuple[int, int]:
        """(highest, final) bytes above what is held when the template begins.

        Its inputs are held by the caller until it ends, as the arguments of a Python function are.
        """
        known = self._peaks.get(id(template))
        if known is None:
            known = self._peaks[id(template)] = self._run(self.plan(template, training=False))
        return known

    def _run(self, plan: Plan) -> tuple[int, int]:
        last: dict[int, int] = {}
        for number, event in enumerate(plan.events):
            last |= dict.fromkeys((*event.reads, *event.makes), number)
        kept = {*plan.results, *range(plan.inputs)}
        now = high = 0
        for number, event in enumerate(plan.events):
            if event.callee is None:
                final = sum(plan.bytes[s] for s in event.makes)
                above = final + event.beside
            else:
                above, final = self.peak(event.callee)
            high, now = max(high, now + above), now + final
            now -= sum(plan.bytes[s] for s in {*event.reads, *event.makes} - kept if last[s] == number)
        return high, now


def _any(wanted: dict[int, bool], apply: Apply, name: str) -> bool:
    """Whether an operand needs a gradient."""
    return any(wanted[value.uid] for value in values(_named(apply, name)))


def _named(apply: Apply, name: str) -> tuple[Any, ...]:
    """The operands that an operation calls `name`; `operands` are all."""
    if name == "operands":
        return apply.inputs
    names = [word.rstrip("?*") for word in apply.op.operands.split()]
    return tuple(x for word, x in zip(names, apply.inputs, strict=False) if word == name)
