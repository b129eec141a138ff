"""Exact figures of a program at given sizes: parameters, MACs, FLOPs, bytes, as totals and as a tree of rows.

A template is counted once, however often it is used. Rows fold the turns of a loop that cost the same into
one row with a count.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from archc.analysis.conventions import CONVENTIONS, Convention, Counted
from archc.analysis.figures import Cost, Figures, Part, Row
from archc.analysis.memory import Memory, Plan
from archc.analysis.receptive import Flow, Views, extents
from archc.analysis.setting import Setting
from archc.ir.dataflow import Same, Turn, needed, steps, values
from archc.ir.graph import (
    OUTER,
    Apply,
    Call,
    ChildEntry,
    Entry,
    Fused,
    ListEntry,
    OpEntry,
    Template,
    WeightEntry,
    is_live,
)
from archc.ir.program import Program
from archc.ir.sym import plain
from archc.ir.types import TensorType
from archc.ops.base import Weight


def count(
    program: Program,
    sizes: Mapping[str, int],
    dtype: str = "float32",
    convention: str = "exact",
    training: bool = False,
) -> Cost:
    """The figures of `program` where its symbols have the values `sizes`.

    Outputs that exist only in training, and what only they need, count where `training` is set. Raises
    KeyError for a symbol without a value or an unknown convention, ValueError for an unknown element type.
    """
    return Counter(program, Setting(sizes, dtype), CONVENTIONS[convention], training).cost()


# ---- weights


def units(template: Template) -> Iterator[OpEntry | ChildEntry | WeightEntry]:
    """The entries that this build has, lists taken apart."""
    bindings = {name: plain(scalar) for name, scalar in template.parameters} if template.entries else {}
    for entry in template.entries:
        if is_live(entry, bindings):
            yield from entry.items if isinstance(entry, ListEntry) else (entry,)


def own_weights(entry: Entry) -> tuple[Weight, ...]:
    """The weights of an entry, those of a child's template left out."""
    if isinstance(entry, OpEntry):
        return entry.weights
    return (entry.weight,) if isinstance(entry, WeightEntry) else ()


Holdings = Tally[tuple[str, str]]


def holdings(template: Template, known: dict[int, Holdings] | None = None) -> Holdings:
    """The elements of all weights that a template owns, by kind and element type; `known` are those of templates."""
    known = {} if known is None else known
    if id(template) not in known:
        found, children = Holdings(), Tally[int]()
        templates: dict[int, Template] = {}
        for entry in units(template):
            for weight in own_weights(entry):
                found[weight.kind, weight.dtype] += weight.elements
            if isinstance(entry, ChildEntry):
                children[id(entry.template)] += 1
                templates[id(entry.template)] = entry.template
        for number, times in children.items():
            for key, elements in holdings(templates[number], known).items():
                found[key] += times * elements
        known[id(template)] = found
    return known[id(template)]


def totals(held: Holdings) -> Figures:
    """Parameters and buffers."""
    params = sum(elements for (kind, _), elements in held.items() if kind == "param")
    return Figures(params, held.total() - params)


def owned(weights: Iterable[Weight]) -> Figures:
    """Parameters and buffers among weights."""
    params = buffers = 0
    for weight in weights:
        if weight.kind == "param":
            params += weight.elements
        else:
            buffers += weight.elements
    return Figures(params, buffers)


# ---- counting


class Counter:
    """Counts templates, each once."""

    def __init__(self, program: Program, setting: Setting, convention: Convention, training: bool) -> None:
        self.program, self.setting, self.convention, self.training = program, setting, convention, training
        self.memory = Memory(setting)
        self.flow = Flow(setting)
        self._counted: dict[int, tuple[Template, tuple[Part, ...], Figures]] = {}
        self._holdings: dict[int, Holdings] = {}

    def cost(self) -> Cost:
        root = self.root()
        # Training has all outputs, whichever mode is counted, and no use for gradients of the model's inputs.
        whole = self.memory.plan(self.program.root, needs=[False] * len(self.program.root.inputs))
        parts = tuple(self._parts(root))
        figures = self._total(root, parts, whole)
        weights = holdings(self.program.root, self._holdings)
        seen = {value.uid: self.flow.start(i, value) for i, value in enumerate(root.inputs)}
        return Cost(
            self.program, self.setting.sizes, self.setting.dtype, self.training, self.convention, figures,
            sum(elements * self.setting.element(dtype) for (_, dtype), elements in weights.items()),
            self.convention.total(figures.macs, figures.others),
            parts,
            lambda: self.rows(root, parts, seen),
        )  # fmt: skip

    def root(self) -> Template:
        """The model's template with the outputs, and the steps, that this mode has."""
        root = self.program.root
        wanted = [o for o in self.program.outputs if self.training or o.when != "training"]
        outputs = tuple(v for o in wanted for v in values((o.value,)))
        if len(wanted) == len(self.program.outputs):
            return root
        # Loops and branches are taken apart, which no analysis minds.
        body = needed(steps(root.body, self.setting.decider(root)), outputs)
        return replace(root, outputs=outputs, body=body)  # type: ignore[arg-type]

    def template(self, template: Template) -> tuple[tuple[Part, ...], Figures]:
        known = self._counted.get(id(template))
        if known is None:
            parts = tuple(self._parts(template))
            plan = self.memory.plan(template)
            known = self._counted[id(template)] = (template, parts, self._total(template, parts, plan))
        return known[1], known[2]

    def _total(self, template: Template, parts: Sequence[Part], plan: Plan) -> Figures:
        """The figures of a template with these parts; `plan` is that of its training."""
        own = totals(holdings(template, self._holdings))
        held = sum(self.setting.bytes(value.type) for value in template.inputs)
        return Figures(
            own.params, own.buffers,
            sum(p.figures.macs for p in parts), sum(p.figures.others for p in parts),
            sum(p.figures.moved_bytes for p in parts),
            plan.kept, held + self.memory.peak(template)[0],
        )  # fmt: skip

    def _parts(self, template: Template, used: set[str] | None = None) -> Iterator[Part]:
        """The steps with their figures. `used` are entries whose weights are counted already."""
        used = set() if used is None else used
        entries = {entry.name: entry for entry in template.entries}
        sources: dict[int, str] = {}
        for step in steps(template.body, self.setting.decider(template)):
            if isinstance(step, Same):
                sources[step.target.uid] = sources.get(step.source.uid, "")
                continue
            call = step.call if isinstance(step, Turn) else step
            if isinstance(call, Call) and call.entry is None and call.template.entries:
                # A method of the model: its weights are the model's own, which other methods may share.
                inner = tuple(self._parts(call.template, used))
                mine = [p.figures for p in inner if not p.shared]
                own = {"params": sum(f.params for f in mine), "buffers": sum(f.buffers for f in mine)}
                figures = self._total(call.template, inner, self.memory.plan(call.template))
                yield Part(step, replace(figures, **own), (), inner)
                continue
            if isinstance(call, Fused):
                yield self._region(call, entries, sources, used)
                continue
            shared = _shared(call.entry, used)
            if isinstance(call, Apply):
                yield self._operation(call, entries.get(call.entry or ""), sources, shared)
            else:
                inner, figures = self.template(call.template)
                yield Part(step, figures, (), inner, shared)

    def _operation(self, apply: Apply, entry: Entry | None, sources: dict[int, str], shared: bool) -> Part:
        setting, op = self.setting, apply.op
        xs, ys = setting.sized(apply)
        weights = op.weights(*xs)
        macs, others = setting.number(op.macs(xs, ys)), setting.number(op.flops(xs, ys))
        read = tuple({value.uid: value for value in values(apply.inputs)}.values())
        view = op.is_view(*xs)
        # A view of a recurrence's states is still the recurrence's result.
        work = sources.get(read[0].uid, "") if view and read else op.work()
        sources |= {value.uid: work for value in apply.outputs}
        read_types = tuple(setting.type(value.type) for value in read)
        counted = Counted(
            op.work(), tuple(sources.get(v.uid, "") for v in read), read_types, tuple(ys), macs, others,
            any(w.kind == "param" for w in weights),
        )  # fmt: skip
        macs, others = self.convention.weigh(counted)
        inside, outside = sum(map(setting.bytes, read_types)), sum(map(setting.bytes, ys))
        moved = 0 if view else inside + outside + sum(setting.weight_bytes(w) for w in weights)
        own = owned(own_weights(entry) if isinstance(entry, WeightEntry) else weights)
        figures = Figures(own.params, own.buffers, macs, others, moved, 0, inside + (0 if view else outside))
        return Part(apply, figures, (counted,), (), shared)

    def _region(self, region: Fused, entries: dict[str, Entry], sources: dict[int, str], used: set[str]) -> Part:
        """A fused region: the arithmetic of its operations, and the bytes of what goes in and comes out."""
        setting = self.setting
        parts = [
            self._operation(step, entries.get(step.entry or ""), sources, _shared(step.entry, used))
            for step in region.steps
        ]
        inside = sum(setting.bytes(value.type) for value in {v.uid: v for v in region.inputs}.values())
        outside = sum(setting.bytes(value.type) for value in region.outputs)
        weights = [w for s in region.steps for w in s.op.weights(*(setting.operand(x) for x in s.inputs))]
        figures = Figures(
            sum(p.figures.params for p in parts), sum(p.figures.buffers for p in parts),
            sum(p.figures.macs for p in parts), sum(p.figures.others for p in parts),
            inside + outside + sum(map(setting.weight_bytes, weights)), 0, inside + outside,
        )  # fmt: skip
        return Part(region, figures, tuple(c for p in parts for c in p.counted), (), any(p.shared for p in parts))

    # ---- rows

    def rows(self, template: Template, parts: Sequence[Part], seen: Views) -> tuple[Row, ...]:
        """The rows of a template, whose inputs see `seen` of the model's inputs."""
        known = self.flow.through(template, seen)
        rows = []
        for _, group in groupby(parts, key=_Alike()):
            copies = list(group)
            rows.append(self._row(copies, known))
        return tuple(rows)

    def _row(self, copies: list[Part], known: Views) -> Row:
        part = copies[-1]
        call = part.call
        first = self.setting.type(call.outputs[0].type) if call.outputs else None
        axes = first.names if first is not None else ()
        shape = self.setting.shape(first) if first is not None else ()
        seen = extents(known.get(call.outputs[0].uid, {}), self.program.inputs) if call.outputs else ()
        sets = sum(not copy.shared for copy in copies)
        if isinstance(call, Apply):
            name = (call.entry or call.op.name).lstrip(OUTER)
            return Row(name, "op", call.op.name, axes, shape, part.figures, seen, len(copies), sets)
        if isinstance(call, Fused):
            name = next((step.entry for step in call.steps if step.entry), call.family).lstrip(OUTER)
            what = " + ".join(step.op.name for step in call.steps)
            return Row(name, "op", what, axes, shape, part.figures, seen, len(copies), sets)
        template = call.template
        views = {
            i.uid: known.get(v.uid, {}) for i, v in zip(template.inputs, values(call.inputs), strict=True)
        }
        children = self.rows(template, part.inner, views)
        name, kind, what = (call.entry or template.name).lstrip(OUTER), template.role, template.name
        if isinstance(part.step, Turn):
            name = _turn_name(copies)
            if part.step.loop.keyword == "stage":
                kind = "stage"
            elif (
                kind == "turn" and len(children) == 1 and children[0].count == 1 and children[0].kind != "op"
            ):
                # A turn that is nothing but a block is shown as the block.
                (only,) = children
                kind, what, children = only.kind, only.what, only.children
        return Row(name, kind, what, axes, shape, part.figures, seen, len(copies), sets, children)


def _shared(entry: str | None, used: set[str]) -> bool:
    """Whether the weights of an entry are counted elsewhere; from now on they are."""
    shared = entry is not None and (entry in used or entry.startswith(OUTER))
    if entry is not None:
        used.add(entry)
    return shared


class _Alike:
    """Groups turns of one loop that cost the same; anything else stands alone."""

    def __init__(self) -> None:
        self.number = 0
        self._shown: dict[int, str] = {}

    def __call__(self, part: Part) -> object:
        self.number += 1
        if not isinstance(part.step, Turn) or part.step.loop.keyword == "stage":
            return self.number
        return id(part.step.loop), part.figures, tuple(self._show(v.type) for v in part.step.call.outputs)

    def _show(self, type: TensorType) -> str:
        if id(type) not in self._shown:
            self._shown[id(type)] = str(type)
        return self._shown[id(type)]


def _turn_name(copies: Sequence[Part]) -> str:
    """The entry of a turn, `blocks.{0..2}` for several; without weights, the loop's label and the number."""
    steps = [copy.step for copy in copies if isinstance(copy.step, Turn)]
    names = [s.call.entry or f"{s.loop.label or s.loop.keyword}.{s.number}" for s in steps]
    if len(set(names)) == 1:
        return names[0]
    stem = names[0].rpartition(".")[0]
    return f"{stem}.{{{steps[0].number}..{steps[-1].number}}}"
