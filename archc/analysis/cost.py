"""Exact figures of a program at given sizes: parameters, MACs, FLOPs, bytes, as totals and as a tree of rows.

A template is counted once, however often it is used. Rows fold the turns of a loop that cost the same into one row
with a count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import prod

from archc.analysis.conventions import CONVENTIONS, Convention, Counted
from archc.analysis.memory import Memory
from archc.analysis.receptive import Flow, Seen, Views, extents
from archc.analysis.setting import Setting
from archc.ir.dataflow import Same, Step, Turn, steps, values
from archc.ir.graph import Apply, Call, ChildEntry, Entry, ListEntry, OpEntry, Template, WeightEntry, is_live
from archc.ir.program import Program
from archc.ir.sym import plain
from archc.ops.base import Weight


@dataclass(frozen=True)
class Figures:
    """What is counted: whole numbers, bytes where the name says so.

    `params` and `buffers` are elements; `others` are the operations besides the multiply-adds; `moved_bytes` are what
    operations read and write; `kept_bytes` what training keeps for the backward pass; `peak_bytes` the most that is
    held at once in inference, the inputs included.
    """

    params: int = 0
    buffers: int = 0
    macs: int = 0
    others: int = 0
    moved_bytes: int = 0
    kept_bytes: int = 0
    peak_bytes: int = 0

    @property
    def flops(self) -> int:
        return 2 * self.macs + self.others

    @property
    def intensity(self) -> float | None:
        """FLOPs for each byte moved."""
        return self.flops / self.moved_bytes if self.moved_bytes else None


@dataclass(frozen=True)
class Row:
    """A stage, block, turn or operation: the figures of one copy, of which there are `count`.

    `kind` is op, turn, loop's keyword or the role of the component; `what` the operation or component; `shape` the
    first result's. `shared`: its weights are counted elsewhere. `receptive` is what an element of the result sees of
    each input's axis, in the last copy.
    """

    name: str
    kind: str
    what: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    figures: Figures
    receptive: Seen
    count: int = 1
    shared: bool = False
    children: tuple[Row, ...] = ()

    @property
    def macs(self) -> int:
        """MACs of all copies."""
        return self.figures.macs * self.count

    @property
    def params(self) -> int:
        """Parameters of all copies, weights that are shared counted where they stand first."""
        return 0 if self.shared else self.figures.params * self.count


@dataclass(frozen=True)
class Cost:
    """The figures of a program. `reported` is the total that the convention's tool or table would print."""

    program: Program
    sizes: Mapping[str, int]
    dtype: str
    training: bool
    convention: Convention
    figures: Figures
    weight_bytes: int
    reported: int
    rows: tuple[Row, ...]
    operations: tuple[tuple[Counted, Figures, int], ...]


def count(
    program: Program,
    sizes: Mapping[str, int],
    dtype: str = "float32",
    convention: str = "exact",
    training: bool = False,
) -> Cost:
    """The figures of `program` where its symbols have the values `sizes`.

    Outputs that exist only in training, and what only they need, count where `training` is set. Raises KeyError for a
    symbol without a value or an unknown convention, ValueError for an unknown element type.
    """
    return Counter(program, Setting(sizes, dtype), CONVENTIONS[convention], training).cost()


# ---- weights


def entry_weights(entry: Entry) -> Iterator[Weight]:
    """The weights of an entry of a template, as far as this build has them."""
    match entry:
        case OpEntry(weights=weights):
            yield from weights
        case WeightEntry(weight=weight):
            yield weight
        case ChildEntry(template=template):
            yield from template_weights(template)
        case ListEntry(items=items):
            for item in items:
                yield from entry_weights(item)


def template_weights(template: Template) -> Iterator[Weight]:
    """Every weight that a template owns, once."""
    bindings = {name: plain(scalar) for name, scalar in template.parameters}
    for entry in template.entries:
        if is_live(entry, bindings):
            yield from entry_weights(entry)


def owned(weights: Iterator[Weight] | Sequence[Weight]) -> Figures:
    """Parameters and buffers among weights."""
    params = buffers = 0
    for weight in weights:
        if weight.kind == "param":
            params += weight.elements
        else:
            buffers += weight.elements
    return Figures(params, buffers)


# ---- counting


@dataclass(frozen=True)
class Part:
    """A step with its own figures, and its template if it is a call."""

    step: Apply | Call | Turn
    figures: Figures
    counted: Counted | None
    template: Template | None
    shared: bool

    @property
    def call(self) -> Apply | Call:
        return self.step.call if isinstance(self.step, Turn) else self.step


class Counter:
    """Counts templates, each once."""

    def __init__(self, program: Program, setting: Setting, convention: Convention, training: bool) -> None:
        self.program, self.setting, self.convention, self.training = program, setting, convention, training
        self.memory = Memory(setting)
        self.flow = Flow(setting)
        self._counted: dict[int, tuple[Template, tuple[Part, ...], Figures]] = {}
        self._weights: dict[int, Figures] = {}

    def cost(self) -> Cost:
        root = self.root()
        parts, figures = self.template(root)
        weights = list(template_weights(self.program.root))
        seen = {value.uid: self.flow.start(i, value) for i, value in enumerate(root.inputs)}
        return Cost(
            self.program, self.setting.sizes, self.setting.dtype, self.training, self.convention, figures,
            sum(self.setting.weight_bytes(w) for w in weights),
            self.convention.total(figures.macs, figures.others),
            self.rows(root, parts, seen),
            tuple(self.operations(parts, 1)),
        )  # fmt: skip

    def root(self) -> Template:
        """The model's template with the outputs, and the steps, that this mode has."""
        root = self.program.root
        wanted = [o for o in self.program.outputs if self.training or o.when != "training"]
        outputs = tuple(v for o in wanted for v in values((o.value,)))
        if len(wanted) == len(self.program.outputs):
            return root
        return replace(root, outputs=outputs, body=_needed(root, {v.uid for v in outputs}, self.setting))

    def template(self, template: Template) -> tuple[tuple[Part, ...], Figures]:
        known = self._counted.get(id(template))
        if known is None:
            parts = tuple(self._parts(template))
            known = self._counted[id(template)] = (template, parts, self._total(template, parts))
        return known[1], known[2]

    def _total(self, template: Template, parts: Sequence[Part]) -> Figures:
        own = self._weights.setdefault(id(template), owned(template_weights(template)))
        held = sum(self.setting.bytes(value.type) for value in template.inputs)
        return Figures(
            own.params, own.buffers,
            sum(p.figures.macs for p in parts), sum(p.figures.others for p in parts),
            sum(p.figures.moved_bytes for p in parts),
            self.memory.plan(template).kept, held + self.memory.peak(template)[0],
        )  # fmt: skip

    def _parts(self, template: Template) -> Iterator[Part]:
        used: set[str] = set()
        sources: dict[int, str] = {}
        for step in steps(template.body, self.setting.decider(template)):
            if isinstance(step, Same):
                sources[step.target.uid] = sources.get(step.source.uid, "")
                continue
            call = step.call if isinstance(step, Turn) else step
            shared = call.entry is not None and call.entry in used
            if call.entry is not None:
                used.add(call.entry)
            if isinstance(call, Apply):
                yield self._operation(call, sources, shared)
            else:
                yield Part(step, self.template(call.template)[1], None, call.template, shared)

    def _operation(self, apply: Apply, sources: dict[int, str], shared: bool) -> Part:
        setting, op = self.setting, apply.op
        xs = [setting.operand(x) for x in apply.inputs]
        ys = [setting.type(y.type) for y in apply.outputs]
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
        own = owned(weights)
        figures = Figures(own.params, own.buffers, macs, others, moved, 0, inside + (0 if view else outside))
        return Part(apply, figures, counted, None, shared)

    def operations(self, parts: Sequence[Part], times: int) -> Iterator[tuple[Counted, Figures, int]]:
        """Every operation with its figures and how often it runs, templates taken apart once for each use."""
        for part in parts:
            if part.counted is not None:
                yield part.counted, part.figures, times
            elif part.template is not None:
                yield from self.operations(self.template(part.template)[0], times)

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
        shared = copies[0].shared
        if isinstance(call, Apply):
            name = call.entry or call.op.name
            return Row(name, "op", call.op.name, axes, shape, part.figures, seen, len(copies), shared)
        template, inner = call.template, self.template(call.template)[0]
        views = {i.uid: known.get(v.uid, {}) for i, v in zip(template.inputs, values(call.inputs), strict=True)}
        children = self.rows(template, inner, views)
        kind, name = template.role, call.entry or template.name
        if isinstance(part.step, Turn):
            kind = "stage" if part.step.loop.keyword == "stage" else "turn"
            name = _turn_name(copies)
            if len(children) == 1 and len(inner) == 1 and inner[0].template is not None and kind == "turn":
                # A turn that is nothing but a block is shown as the block.
                only = children[0]
                kind, template, children = only.kind, inner[0].template, only.children
        return Row(name, kind, template.name, axes, shape, part.figures, seen, len(copies), shared, children)


class _Alike:
    """Groups turns of one loop that cost the same; anything else stands alone."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, part: Part) -> object:
        self.number += 1
        if not isinstance(part.step, Turn) or part.step.loop.keyword == "stage":
            return self.number
        shapes = tuple(str(v.type) for v in part.step.call.outputs)
        return id(part.step.loop), part.figures, shapes


def _turn_name(copies: Sequence[Part]) -> str:
    """The entry of a turn, `blocks.{0..2}` for several; without weights, the loop's label and the number."""
    steps = [copy.step for copy in copies if isinstance(copy.step, Turn)]
    names = [s.call.entry or f"{s.loop.label or s.loop.keyword}.{s.number}" for s in steps]
    if len(set(names)) == 1:
        return names[0]
    stem = names[0].rpartition(".")[0]
    return f"{stem}.{{{steps[0].number}..{steps[-1].number}}}"


def _needed(root: Template, wanted: set[int], setting: Setting) -> tuple[Apply | Call, ...]:
    """The steps of the model that `wanted` values need, loops and branches taken apart."""
    found: list[Step] = []
    for step in reversed(list(steps(root.body, setting.decider(root)))):
        match step:
            case Same(source, target):
                makes, reads = [target], [source]
            case Turn(call=call):
                makes, reads = list(call.outputs), list(values(call.inputs))
            case Apply() | Call():
                makes, reads = list(step.outputs), list(values(step.inputs))
        if any(value.uid in wanted for value in makes):
            wanted |= {value.uid for value in reads}
            found.append(step)
    return tuple(found[::-1])  # type: ignore[return-value]


__all__ = ["Cost", "Counted", "Counter", "Figures", "Row", "count", "prod", "template_weights"]
