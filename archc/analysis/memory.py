"""What a template keeps in memory: tensors by the storage they share, how long each is held, what training saves.

Everything is known of a template before it is known where it stands, so forty copies are looked at once.
Figures are bytes of the program's own graph, operation by operation: fused kernels keep less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from archc.analysis.setting import Setting
from archc.ir.dataflow import Same, Step, Turn, reads, steps_and_names, values
from archc.ir.graph import Apply, Assign, Call, Fused, Owned, Template, Value, WeightEntry
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

    `ends` are for each event the storages that nothing holds after it. `saved` are the storages that training keeps
    and that the caller can see, `inside` the bytes of the others. `needs` says of each result whether it needs a
    gradient.
    """

    inputs: int
    bytes: tuple[int, ...]
    events: tuple[Event, ...]
    ends: tuple[tuple[int, ...], ...]
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


class Scope:
    """The variables of a template's method, as the module is written, and until which event each holds its storage.

    What the author names, what is read more than once and each of several results is a variable; anything else is an
    expression within its reader. A variable holds its tensor until its name is given to another one, or else until
    the method returns.
    """

    def __init__(self, template: Template, flow: Sequence[Step | Assign]) -> None:
        self._named = {s.value.uid for s in flow if isinstance(s, Assign) and isinstance(s.value, Value)}
        self._uses = Counter(value.uid for s in flow if not isinstance(s, Assign) for value in reads(s))
        self._uses.update(value.uid for value in template.outputs)
        self._variables = {value.uid for value in template.inputs}
        self._holds: dict[str | int, int] = {}  # the storage, by the author's name or the number of the value
        self._until: dict[int, int] = {}

    def _bind(self, value: Value, name: str | int, place: int, event: int) -> None:
        self._variables.add(value.uid)
        before = self._holds.get(name, place)
        if before != place:
            self._until[before] = event
        self._holds[name] = place

    def name(self, assign: Assign, storage: dict[int, int], event: int) -> None:
        """The author's name; no new variable where the tensor is in one already."""
        value = assign.value
        if isinstance(value, Value) and value.uid not in self._variables:
            self._bind(value, assign.name, storage[value.uid], event)

    def same(self, step: Same) -> None:
        if step.source.uid in self._variables:
            self._variables.add(step.target.uid)

    def results(self, step: Apply | Fused | Call | Turn, storage: dict[int, int], event: int) -> None:
        """What a step makes. A loop's variables get their next tensors at the end of each turn."""
        if isinstance(step, Turn):
            for value, name in zip(step.call.outputs, step.loop.names, strict=False):
                self._bind(value, name, storage[value.uid], event)
            return
        for value in step.outputs:
            if value.uid not in self._named and self._uses[value.uid] > (len(step.outputs) == 1):
                self._bind(value, value.uid, storage[value.uid], event)

    def ends(self, events: Sequence[Event], kept: set[int]) -> tuple[tuple[int, ...], ...]:
        """For each event the storages that neither a variable nor a later event holds after it, `kept` left out."""
        last: dict[int, int] = {}
        for number, event in enumerate(events):
            last |= dict.fromkeys((*event.reads, *event.makes), number)
        for place, number in self._until.items():
            last[place] = max(last.get(place, 0), number)
        found: list[list[int]] = [[] for _ in events]
        for place in last.keys() - kept - set(self._holds.values()):
            found[last[place]].append(place)
        return tuple(map(tuple, found))


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
        flow = list(steps_and_names(template.body, setting.decider(template)))
        scope = Scope(template, flow)
        for step in flow:
            if isinstance(step, Assign):
                scope.name(step, storage, len(events) - 1)
                continue
            if isinstance(step, Same):
                scope.same(step)
                storage[step.target.uid] = storage[step.source.uid]
                wanted[step.target.uid] = wanted[step.source.uid]
                continue
            call = step.call if isinstance(step, Turn) else step
            read = tuple(storage[value.uid] for value in values(call.inputs))
            first = len(sizes)
            if isinstance(call, Fused):
                event = self._region(call, read, storage, sizes, wanted)
            elif isinstance(call, Apply):
                owns = call.entry in learned
                event = self._operation(call, read, storage, sizes, wanted, owns, training)
            else:
                asked = tuple(wanted[value.uid] for value in values(call.inputs))
                plan = self.plan(call.template, asked, training)
                places: dict[int, int] = dict(enumerate(read))
                for value, place, need in zip(call.outputs, plan.results, plan.needs, strict=True):
                    if place not in places:
                        places[place] = len(sizes)
                        sizes.append(plan.bytes[place])
                    storage[value.uid] = places[place]
                    wanted[value.uid] = need
                escaped = frozenset([places[place] for place in plan.saved])
                event = Event(read, tuple(range(first, len(sizes))), escaped, plan.inside, 0, call.template)
            scope.results(step, storage, len(events))
            events.append(event)
            saved |= event.saves
            inside += event.noted
        results = tuple(storage[value.uid] for value in template.outputs)
        visible = frozenset(s for s in saved if s < len(template.inputs) or s in results)
        inside += sum(sizes[s] for s in saved - visible)
        grads = tuple(wanted[value.uid] for value in template.outputs)
        ends = scope.ends(events, {*results, *range(len(template.inputs))})
        return Plan(len(template.inputs), tuple(sizes), tuple(events), ends, results, visible, inside, grads)

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

    def _region(
        self, region: Fused, reads: tuple[int, ...], storage: dict[int, int], sizes: list[int], wanted: dict[int, bool]
    ) -> Event:
        """A fused region: it keeps what it reads, and computes the rest again in the backward pass."""
        first = len(sizes)
        for value in region.outputs:
            storage[value.uid] = len(sizes)
            sizes.append(self.setting.bytes(value.type))
        learns = any(isinstance(tensor, Owned) for tensor in region.tensors)
        needed = learns or any(wanted[value.uid] for value in region.inputs)
        wanted |= {value.uid: needed and value.type.dtype == "float" for value in region.outputs}
        saves = frozenset(reads) if needed else frozenset[int]()
        return Event(reads, tuple(range(first, len(sizes))), saves, 0, 0, None)

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

        Its inputs are held by the caller until it ends, as the arguments of a Python function are. An estimate of what
        the written module holds: copies in another layout, and what one operation composes of several, are not known
        here.
        """
        known = self._peaks.get(id(template))
        if known is None:
            known = self._peaks[id(template)] = self._run(self.plan(template, training=False))
        return known

    def _run(self, plan: Plan) -> tuple[int, int]:
        now = high = 0
        for event, ends in zip(plan.events, plan.ends, strict=True):
            if event.callee is None:
                final = sum(plan.bytes[s] for s in event.makes)
                above = final + event.beside
            else:
                above, final = self.peak(event.callee)
            high, now = max(high, now + above), now + final
            now -= sum(plan.bytes[s] for s in ends)
        # Variables that live until the method returns end with it.
        return high, sum(plan.bytes[s] for s in set(plan.results) if s >= plan.inputs)


def _any(wanted: dict[int, bool], apply: Apply, name: str) -> bool:
    """Whether an operand needs a gradient."""
    return any(wanted[value.uid] for value in values(_named(apply, name)))


def _named(apply: Apply, name: str) -> tuple[Any, ...]:
    """The operands that an operation calls `name`; `operands` are all."""
    if name == "operands":
        return apply.inputs
    names = [word.rstrip("?*") for word in apply.op.operands.split()]
    return tuple(x for word, x in zip(names, apply.inputs, strict=False) if word == name)
