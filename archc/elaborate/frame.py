"""What is being built while a spec is elaborated: the build of one variant, and the template under construction.

A `Session` is one variant. A `Frame` is one template: it collects statements and owns a `Level` of entries. A `Scope` is a
component's names over a frame; a component that owns nothing, or that is nothing but one operation, is written into the
frame of its caller, so that several scopes may share a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field, replace
from typing import Any

from archc.contract import Obligation, settle
from archc.diagnostics import MOST_FINDINGS, ArchError, Diagnostic, fail
from archc.elaborate.names import check_label
from archc.elaborate.trail import Use, refuse_circles, traced
from archc.elaborate.values import FileNames, Many
from archc.ir import graph
from archc.ir.graph import Entry, Guard, InitRule, ListEntry, OpEntry, Statement, Template, Value, WeightEntry
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Comprehension, Const, Extent, Scalar, Sym, Var, variables
from archc.ir.types import Axis, Dim, TensorType
from archc.records import dataclass
from archc.sizes import Size
from archc.source import Span
from archc.syntax import tree

DEEPEST_CALLS = 64
MOST_OBLIGATIONS = 1_000  # of the shipped specs, the largest has 38
MOST_NODES = 20_000  # operations, calls and turns that are written one by one
MOST_STEPS = 200_000  # expressions that are computed
MOST_UNROLLED = 200_000  # operations, where those of a block that is used many times count each time


class Conflict(Exception):
    """`_:` met other weights in its level: it must be written into the level instead of being it."""


@dataclass
class Session:
    """Everything that one variant shares.

    `forced` lets a mistake pass after which shapes can still be told: it is noted in `overruled`, and what follows takes
    the sizes for right. So one learns what PyTorch itself makes of a mistake; no command does it.
    """

    diagnostics: list[Diagnostic] = field(default_factory=list)
    obligations: dict[tuple[Any, ...], Obligation] = field(default_factory=dict)
    settled: dict[tuple[Any, ...], str] = field(default_factory=dict)
    templates: dict[Any, Any] = field(default_factory=dict)
    inert: dict[Any, Any] = field(default_factory=dict)  # what `archc.elaborate.inert` has read off the texts
    demands: dict[Any, tuple[Obligation, ...]] = field(default_factory=dict)  # what each template asks of its sizes
    symbols: list[str] = field(default_factory=list)
    uids: int = 0
    nodes: int = 0
    steps: int = 0
    counted: dict[int, tuple[Template, int]] = field(default_factory=dict)
    trail: list[Use] = field(default_factory=list)  # the calls around what is being elaborated
    ghosts: int = 0
    sizes_only: bool = False  # nothing but the obligations is wanted: turns that are copies may be left out
    guards: tuple[Any, ...] = ()
    least: dict[str, int] = field(default_factory=dict)  # sizes of states may be 0, all others are at least 1
    forced: bool = False
    overruled: list[Diagnostic] = field(default_factory=list)

    def uid(self) -> int:
        self.uids += 1
        return self.uids

    def count(self, span: Span) -> None:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise fail("E0404", f"the graph has more than {MOST_NODES:,} operations, calls and turns after unrolling", span)

    def step(self, span: Span) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise fail("E0404", f"more than {MOST_STEPS:,} expressions are computed", span)

    def refuse(self, error: ArchError) -> None:
        """Raise `error`, unless mistakes are let pass."""
        if not self.forced:
            raise error
        self.overruled += error.diagnostics

    def report(self, error: ArchError) -> None:
        """Note the findings and go on; inside an arm that this build does not take, they end that arm instead."""
        if self.ghosts:
            raise error
        for found in error.diagnostics:
            diagnostic = traced(found, self.trail)
            if not any(replace(known, uses=diagnostic.uses) == diagnostic for known in self.diagnostics):
                self.diagnostics.append(diagnostic)
        if len(self.diagnostics) >= MOST_FINDINGS:
            raise ArchError(self.diagnostics)

    @contextmanager
    def using(self, use: Use) -> Iterator[None]:
        """Elaborate what a call stands for: what is found there tells how it was reached. Raises ArchError E0403."""
        refuse_circles(use, self.trail)
        self.count(use.span)
        if len(self.trail) == DEEPEST_CALLS:
            raise fail("E0403", f"calls nest more than {DEEPEST_CALLS} deep", use.span)
        self.trail.append(use)
        try:
            yield
        except ArchError as error:
            raise ArchError(traced(d, self.trail) for d in error.diagnostics) from None
        finally:
            self.trail.pop()

    def settle(self, obligation: Obligation) -> str:
        """How an obligation ends on its own; many operations of a network ask the same."""
        key = (obligation.kind, obligation.left, obligation.right, obligation.guards, *self.least.items())
        if key not in self.settled:
            self.settled[key] = settle(obligation, self.least)
        return self.settled[key]

    def oblige(self, obligation: Obligation) -> None:
        if not self.ghosts:
            key = (obligation.kind, obligation.left, obligation.right, obligation.guards)
            if key in self.obligations or len(self.obligations) > MOST_OBLIGATIONS:
                return  # known, or refused already
            self.obligations[key] = obligation
            if len(self.obligations) > MOST_OBLIGATIONS:
                why = f"the operations state more than {MOST_OBLIGATIONS:,} different needs of input sizes"
                raise ArchError([Diagnostic("E0404", why, obligation.span)])

    @contextmanager
    def apart(self) -> Iterator[dict[tuple[Any, ...], Obligation]]:
        """Gives what is obliged meanwhile, which stays apart from the rest."""
        outer, self.obligations = self.obligations, {}
        try:
            yield self.obligations
        finally:
            self.obligations = outer

    @contextmanager
    def ghost(self) -> Iterator[None]:
        """Elaborate what this build does not run: nothing is obliged and the first error ends it."""
        self.ghosts += 1
        try:
            yield
        finally:
            self.ghosts -= 1


@dataclass
class Level:
    """The entries of a template under construction. `adopt` lets one `_:` be the whole level."""

    adopt: bool = True
    reuse: bool = False
    entries: list[Entry] = field(default_factory=list)
    guards: tuple[Guard, ...] = ()

    def find(self, name: str) -> Entry | None:
        return next((e for e in self.entries if e.name == name), None)

    def add(self, entry: Entry) -> Entry:
        """Add an entry. Raises ArchError E0401 where its name is taken, Conflict where `_:` cannot be the whole level."""
        entry = replace(entry, guards=self.guards)
        check_label(entry.name, entry.span)
        known = self.find(entry.name) if self.reuse else None
        if known is not None and type(known) is type(entry) and _same(entry, known):
            return known
        taken = {name: e for e in self.entries for name in _names(e)}
        if self.adopt and self.entries and (entry.name == "" or any(e.name == "" for e in self.entries)):
            raise Conflict
        for name in _names(entry):
            other = taken.get(name)
            if other is not None and not _exclusive(entry.guards, other.guards):
                raise fail(
                    "E0401", f"two sets of weights would be called `{name}`", entry.span, "again",
                    related=_labels((other.span, "first")),
                    helps=(f"give one of them another label, e.g. `{name}2: ...`",
                           f"to share one set of weights, write `module {name} = ...` above both"),
                )  # fmt: skip
        self.entries.append(entry)
        return entry


def _labels(*pairs: tuple[Span, str]) -> tuple[Any, ...]:
    from archc.diagnostics import Label

    return tuple(Label(span, text) for span, text in pairs)


def _names(entry: Entry) -> tuple[str, ...]:
    if isinstance(entry, OpEntry) and entry.name == "":
        return tuple(weight.name for weight in entry.weights)
    return (entry.name,)


def _exclusive(a: tuple[Guard, ...], b: tuple[Guard, ...]) -> bool:
    return any(x.condition == y.condition and x.truth != y.truth for x in a for y in b)


def _same(a: Entry, b: Entry) -> bool:
    """Whether both entries hold weights of the same names and shapes."""

    def shapes(entry: Entry) -> list[tuple[str, tuple[int, ...]]]:
        match entry:
            case OpEntry(weights=weights):
                return [(w.name, w.shape) for w in weights]
            case WeightEntry(name=name, weight=weight):
                return [(name, weight.shape)]
            case ListEntry(items=items):
                return [(f"{i}.{n}", s) for i, item in enumerate(items) for n, s in shapes(item)]
            case _:
                return [(f"{e.name}.{n}", s) for e in entry.template.entries for n, s in shapes(e)]

    return shapes(a) == shapes(b)


@dataclass(eq=False)
class Frame:
    """A template under construction. The turn of a loop is a frame of its own with a `parent`."""

    session: Session
    name: str
    parent: Frame | None = None
    level: Level = field(default_factory=Level)
    body: list[Statement] = field(default_factory=list)
    inputs: list[tuple[Value, Value]] = field(default_factory=list)  # (outside, inside), captured
    outputs: list[tuple[Value, Value]] = field(default_factory=list)  # (inside, outside), of a closed turn
    owned: set[int] = field(default_factory=set)
    inits: list[InitRule] = field(default_factory=list)
    parameters: dict[str, Scalar] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    phi_names: set[str] = field(default_factory=set)
    turn_names: frozenset[str] = frozenset()  # the variables of the loop, in a turn
    retyped: dict[int, TensorType] = field(default_factory=dict)
    called: dict[int, str] = field(default_factory=dict)  # the author's names for what a turn reads
    closed_into: dict[int, Frame] = field(default_factory=dict)  # uid -> the closed turn that made the value
    assumed: dict[Sym, int] = field(default_factory=dict)  # lengths of lists that what is written rests on
    exported: dict[int, Value] = field(default_factory=dict)
    export_types: dict[int, TensorType] = field(default_factory=dict)

    def value(self, type: TensorType, span: Span, name: str = "") -> Value:
        made = Value(self.session.uid(), type, span, name)
        self.owned.add(made.uid)
        return made

    def made(self, value: Value) -> bool:
        """Whether the value was made here, or in a finished turn of a loop here."""
        return value.uid in self.owned or value.uid in self.exported or value.uid in self.closed_into

    def use(self, value: Value) -> Value:
        """The value as this frame sees it: its own, one captured from around a loop, or the result of a finished turn."""
        if value.uid in self.owned:
            return value
        if value.uid in self.exported:
            return self.exported[value.uid]
        turn = self.closed_into.get(value.uid)
        if turn is not None:
            return self._export(value, turn)
        for outside, inside in self.inputs:
            if outside.uid == value.uid:
                return inside
        if self.parent is None:
            raise AssertionError(f"value {value.uid} of another template is used in {self.name}")
        outside = self.parent.use(value)
        for known, inside in self.inputs:
            if known.uid == outside.uid:
                return inside
        name = "" if outside.name in self.called.values() else outside.name
        inside = self.value(self.retyped.get(value.uid, outside.type), outside.span, self.called.get(value.uid, name))
        self.inputs.append((outside, inside))
        return inside

    def _export(self, value: Value, turn: Frame) -> Value:
        inside = turn.use(value) if value.uid not in turn.owned else value
        outside = self.value(self.export_types.get(value.uid, inside.type), inside.span, inside.name)
        turn.outputs.append((inside, outside))
        self.exported[value.uid] = outside
        return outside

    def close(self, turn: Frame) -> None:
        """Values made in `turn` may be used here from now on, as its results."""
        for uid in turn.owned | turn.exported.keys() | turn.closed_into.keys():
            self.closed_into[uid] = turn

    def add(self, statement: Statement) -> None:
        self.body.append(statement)

    # ---- numbers that are sizes of values of another frame

    def localise(self, item: Any) -> Any:
        """`item` (an operation, region, Scalar ...) with every `Extent` on a value that this frame may read."""
        return rewrite(item, self._local_sym)

    def _local_sym(self, sym: Sym) -> Sym:
        match sym:
            case Extent(value=uid, axis=axis) if uid not in self.owned:
                known = self.session.templates.get(("value", uid))
                return Extent(self.use(known).uid, axis) if known is not None else sym
            case SymApply(op, args, fn):
                local = tuple(self._local_sym(a) for a in args)
                return sym if local == args else SymApply(op, local, fn)
            case _:
                return sym


def rewrite(item: Any, change: Any) -> Any:
    """A structure of frozen dataclasses, tuples and dicts with `change` applied to the Sym of every Scalar in it."""
    from dataclasses import fields, is_dataclass

    if isinstance(item, Scalar):
        sym = change(item.sym)
        value = tuple(rewrite(i, change) for i in item.value) if isinstance(item.value, tuple) else item.value
        return item if sym is item.sym and value is item.value else Scalar(value, sym)
    if isinstance(item, tuple):
        made = tuple(rewrite(i, change) for i in item)
        return item if all(a is b for a, b in zip(made, item, strict=True)) else made
    if isinstance(item, dict):
        return {key: rewrite(i, change) for key, i in item.items()}
    if isinstance(item, (Value, Span, Size, TensorType, Axis, Dim)) or not is_dataclass(item) or isinstance(item, type):
        return item
    if type(item).__eq__ is object.__eq__:
        return item  # a reference to a component or variant, whose text refers to itself
    changed = {}
    for f in fields(item):
        if f.init:
            old = getattr(item, f.name)
            new = rewrite(old, change)
            if new is not old:
                changed[f.name] = new
    return replace(item, **changed) if changed else item


def reads(item: Any, names: frozenset[str]) -> bool:
    """Whether a Scalar in a structure of frozen dataclasses, tuples and dicts reads one of the variables `names`."""
    found = []

    def look(sym: Sym) -> Sym:
        found.append(mentions(sym, names))
        return sym

    rewrite(item, look)
    return any(found)


@dataclass(eq=False)
class Scope:
    """A component's names over a frame. `self_label` is what `_:` stands for here."""

    frame: Frame
    file: FileNames
    env: dict[str, Any]
    component: tree.Component | None
    self_label: str = ""
    sizes: dict[str, Scalar] = field(default_factory=dict)
    returned: tuple[Any, ...] | None = None
    model: Any = None
    signature: frozenset[str] = frozenset()

    @property
    def session(self) -> Session:
        return self.frame.session


def taken_apart(value: Many) -> tuple[Any, ...]:
    """The items of a list, for something that is written once for each of them: its length is fixed from here on."""
    length = known_length(value)
    if value.growth is not None and length is not None:
        _component_frame(value.growth.frame).assumed[length[0]] = length[1]
    return value.items


def known_length(value: Any) -> tuple[Sym, int] | None:
    """The length of a list that grew, in the terms of the component in which it did, and in this build."""
    if not isinstance(value, Many) or value.growth is None:
        return None
    known = _component_frame(value.growth.frame).parameters
    length = value.growth.length
    return (length, len(value.items)) if all(name in known for name in variables(length)) else None


def _component_frame(frame: Frame) -> Frame:
    while frame.parent is not None:
        frame = frame.parent
    return frame


def tensors_in(value: Any) -> list[Value]:
    """The tensors of a value, in order."""
    match value:
        case Value():
            return [value]
        case Many(items=items):
            return [t for item in items for t in tensors_in(item)]
        case _:
            return []


def mentions(sym: Sym, names: frozenset[str]) -> bool:
    """Whether an expression reads one of the variables `names`."""
    match sym:
        case Var(name, definition):
            return name in names or (definition is not None and mentions(definition, names))
        case SymApply(_, args):
            return any(mentions(a, names) for a in args)
        case Comprehension(expr, targets, iterable):
            return mentions(expr, names - set(targets)) or mentions(iterable, names)
        case _:
            return False


__all__ = [
    "Conflict",
    "Const",
    "Frame",
    "Level",
    "Scope",
    "Session",
    "graph",
    "mentions",
    "reads",
    "rewrite",
    "taken_apart",
    "tensors_in",
]
