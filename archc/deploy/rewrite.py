"""The program in which the decisions are carried out, and what its weights are made of.

Calls that are decided alike share a template again, so that loops stay loops and classes are shared as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, replace
from itertools import count
from typing import Any

from archc.deploy.decide import Decisions, Insert, biased, change, composed
from archc.deploy.flat import Flat, Instance, Node
from archc.deploy.roles import Weighted
from archc.deploy.terms import ONE, ZERO, Term, number
from archc.elaborate.frame import rewrite as rewrite_numbers
from archc.fusion.view import read_in
from archc.ir.graph import (
    OUTER,
    Apply,
    Assign,
    Branch,
    Call,
    ChildEntry,
    Entry,
    ListEntry,
    OpEntry,
    Operand,
    Relabel,
    Repeat,
    Statement,
    Template,
    Value,
    WeightEntry,
)
from archc.ir.program import Program
from archc.ir.sym import Extent, Sym, Var, const, walk
from archc.ir.types import Axis, TensorType
from archc.ops.arithmetic import OPERATORS
from archc.ops.base import Init, Weight
from archc.ops.parameter import Parameter
from archc.records import dataclass
from archc.weights.keys import state_dict


@dataclass(frozen=True)
class Mixed:
    """The weight `key`, its slices scaled: `before` by the channels of the operand, `behind` by those of the result.

    `shape` is that of the weight; the role says which axes count channels.
    """

    key: str
    role: Weighted
    before: Term
    behind: Term


@dataclass(frozen=True)
class Shifted:
    """The bias `key` (none where there was none) of `weight`: behind * (bias + sum(weight * before)) + shift."""

    key: str | None
    weight: str
    role: Weighted
    before: Term
    behind: Term
    shift: Term


@dataclass(frozen=True)
class Vector:
    """One number for each channel."""

    term: Term


Recipe = Mixed | Shifted | Vector


def rewrite(program: Program, flat: Flat, found: Decisions) -> tuple[Program, dict[str, Recipe]]:
    """The program for deployment, and the tensors of its state dict that are not those of the same key."""
    writer = _Writer(flat, found)
    bodies = {id(t): writer.body(flat.roots[id(t)]) for t in _roots(program)}
    writer.weigh()
    entries = tuple(replace(point, template=bodies[id(point.template)].template) for point in program.entry_points)
    root = bodies[id(program.root)]
    before = set().union(*(referenced(t.body) for t in _roots(program)))
    now = set().union(*(referenced(bodies[id(t)].template.body) for t in _roots(program)))
    template = replace(root.template, entries=_used(root.template.entries, before, now))
    outputs = tuple(
        replace(
            output,
            value=tuple(map(root._value, output.value)) if isinstance(output.value, tuple) else root._value(output.value),
        )
        for output in program.outputs
    )
    made = replace(program, name=f"{program.name}_deploy", root=template, outputs=outputs, entry_points=entries)
    there = state_dict(made)
    return made, {key: recipe for key, recipe in writer.recipes.items() if key in there}


def _roots(program: Program) -> tuple[Template, ...]:
    return program.root, *(point.template for point in program.entry_points)


@dataclass(eq=False)
class _Writer:
    flat: Flat
    found: Decisions
    made: dict[int, _Body] = field(default_factory=dict)  # by signature
    recipes: dict[str, Recipe] = field(default_factory=dict)
    biased: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # by prefix: an operation, and the one with a bias
    sites: dict[Any, Instance] = field(default_factory=dict)
    numbers: dict[Any, int] = field(default_factory=dict)
    signatures: dict[int, int] = field(default_factory=dict)  # by identity of the instance
    uids: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        last = 0
        for instance in self.flat.instances:
            self.sites.setdefault((instance.prefix, id(instance.template)), instance)
            last = max(last, *(value.uid for value in _values_of(instance.template)), 0)
            for node in instance.nodes.values():
                if biased(node, self.found):
                    assert isinstance(node.role, Weighted) and node.statement is not None
                    self.biased[node.key] = node.statement.op, node.role.biased
        self.uids = count(last + 1)

    def body(self, instance: Instance) -> _Body:
        """The new text of an instance."""
        key = self.signature(instance)
        if key not in self.made:
            self.made[key] = _Body(self, instance)
            self.made[key].write()
        return self.made[key]

    def signature(self, instance: Instance) -> int:
        """Instances of one signature become one template."""
        if id(instance) not in self.signatures:
            groups = _groups(instance, self.found)
            nodes = tuple(
                (change(node, self.found), tuple(groups.get(one) for one in _inserts(node, self.found)))
                for node in instance.nodes.values()
            )
            children = tuple(self.signature(child) for child in instance.children.values())
            key = (id(instance.template), nodes, children)
            self.signatures[id(instance)] = self.numbers.setdefault(key, len(self.numbers))
        return self.signatures[id(instance)]

    # ---- weights

    def weigh(self) -> None:
        """What every changed weight is made of."""
        for instance in self.flat.instances:
            if not instance.live:
                continue
            for node in instance.nodes.values():
                self._weigh(node)
            for (name, part), one in zip(self.body(instance).named, _parts(instance, self.found), strict=True):
                assert part == one[0]
                self.recipes[instance.prefix + name] = Vector(one[1])

    def _weigh(self, node: Node) -> None:
        before, behind = self.found.before.get(node.number, ()), self.found.behind.get(node.number, ())
        role = node.role
        if not (before or behind) or not isinstance(role, Weighted):
            return
        (a, b), (s, t) = composed(before), composed(behind)
        weight, bias = node.key + role.weight, None if role.bias is None else node.key + role.bias
        if a != ONE or s != ONE:
            self.recipes[weight] = Mixed(weight, role, a, s)
        if bias is not None or biased(node, self.found):
            self.recipes[bias or f"{node.key}bias"] = Shifted(bias, weight, role, b, s, t)


def _inserts(node: Node, found: Decisions) -> tuple[Insert | None, ...]:
    return tuple(found.inserts.get((node.number, place)) for place in range(len(node.inputs)))


def _groups(instance: Instance, found: Decisions) -> dict[Insert | None, int]:
    """What is inserted in an instance, numbered in the order of the text."""
    groups: dict[Insert | None, int] = {}
    for node in instance.nodes.values():
        for one in _inserts(node, found):
            if one is not None:
                groups.setdefault(one, len(groups))
    return groups


def _parts(instance: Instance, found: Decisions) -> list[tuple[str, Term]]:
    """The parameters that an instance gets, in the order of the text: `scale` or `shift`, and what it holds."""
    return [
        (part, term)
        for one in _groups(instance, found)
        if one is not None
        for part, term in (("scale", one.scale), ("shift", one.shift))
        if number(term) is None
    ]


@dataclass(eq=False)
class _Body:
    """One template as it is written anew. `named` are the parameters it gets, with what each is."""

    writer: _Writer
    instance: Instance
    template: Template = field(init=False)
    instead: dict[int, Value] = field(default_factory=dict)  # values of the old text that are others now
    sized: set[int] = field(init=False)  # values whose sizes the text asks for: they keep their place in it
    named: list[tuple[str, str]] = field(default_factory=list)
    added: list[WeightEntry] = field(default_factory=list)

    def write(self) -> None:
        old = self.instance.template
        syms = list(_syms(old.body))
        self.sized = {sym.value for sym in syms if isinstance(sym, Extent)}
        self._name_parameters({sym.name for sym in syms if isinstance(sym, Var)})
        body = self._statements(old.body)
        outputs = tuple(self._value(value) for value in old.outputs)
        body = _living(body, {value.uid for value in outputs} | self.sized)
        entries = (*self.added, *(self._entry(entry, self.instance.prefix) for entry in old.entries))
        if old.role not in ("entry", "model"):
            entries = _used(entries, referenced(old.body), referenced(body))
        self.template = replace(old, body=body, outputs=outputs, entries=entries, inits=())

    def _name_parameters(self, taken: set[str]) -> None:
        """Names for new parameters that are not those of entries or numbers."""
        taken |= {entry.name for entry in self.instance.template.entries}
        taken |= {name for name, _ in self.instance.template.parameters}
        for part, _ in _parts(self.instance, self.writer.found):
            names = (part if n == 1 else f"{part}_{n}" for n in count(1))
            name = next(name for name in names if name not in taken)
            taken.add(name)
            self.named.append((name, part))

    # ---- statements

    def _value(self, value: Value) -> Value:
        return self.instead.get(value.uid, value)

    def _operand(self, operand: Operand) -> Operand:
        if isinstance(operand, tuple):
            return tuple(map(self._value, operand))
        return None if operand is None else self._value(operand)

    def _statements(self, body: tuple[Statement, ...]) -> tuple[Statement, ...]:
        made: list[Statement] = []
        placed: dict[Any, Value] = {}  # what has been inserted in this list of statements
        for statement in body:
            match statement:
                case Apply():
                    made += self._apply(statement, placed)
                case Call():
                    made += self._call(statement)
                case Relabel():
                    made.append(replace(statement, input=self._value(statement.input)))
                case Assign(value=value):
                    made.append(replace(statement, value=self._operand(value) or value))
                case Repeat(turns=turns):
                    made.append(replace(statement, turns=tuple(self._turn(turn) for turn in turns)))
                case Branch():
                    made.append(self._branch(statement))
                case _:
                    raise AssertionError(statement)
        return tuple(made)

    def _apply(self, statement: Apply, placed: dict[Any, Value]) -> list[Statement]:
        node, found = self.instance.nodes[id(statement)], self.writer.found
        operands = list(statement.inputs)
        if statement.op.idle or node.number in found.removed:
            place = found.removed.get(node.number, 0)
            operand = operands[place]
            assert isinstance(operand, Value)
            return self._same(self._value(operand), statement.outputs[0])
        before: list[Statement] = []
        at = 0
        for place, operand in enumerate(operands):
            several = operand if isinstance(operand, tuple) else () if operand is None else (operand,)
            given: list[Value] = []
            for value in several:
                one = found.inserts.get((node.number, at))
                given.append(self._value(value) if one is None else self._insert(value, one, statement, placed, before))
                at += 1
            operands[place] = tuple(given) if isinstance(operand, tuple) else given[0] if given else None
        op = statement.op
        if biased(node, found):
            assert isinstance(node.role, Weighted)
            op = node.role.biased
        return [*before, replace(statement, op=op, inputs=tuple(operands))]

    def _same(self, value: Value, result: Value) -> list[Statement]:
        """What is left where `result` is `value` now."""
        self.instead[result.uid] = value
        return [Relabel(value, result)] if result.uid in self.sized else []

    def _insert(
        self, value: Value, one: Insert, statement: Apply, placed: dict[Any, Value], before: list[Statement]
    ) -> Value:
        """The operand scaled and shifted, by statements that are put `before` its reader."""
        current = self._value(value)
        if (current.uid, one) in placed:
            return placed[current.uid, one]
        start = current.uid
        names = iter(self._names_of(one))
        for symbol, part, term, idle in (("*", "scale", one.scale, ONE), ("+", "shift", one.shift, ZERO)):
            if term == idle:
                continue
            known = number(term)
            sides: tuple[Value, ...] = (current,)
            if known is None:
                axes = () if one.axis is None else (value.type.axes[one.axis],)
                sides = (current, self._held(next(names), part, axes, statement, before))
            result = Value(next(self.writer.uids), current.type, statement.span)
            op = OPERATORS[symbol](right=None if known is None else const(known))  # type: ignore[call-arg]
            before.append(Apply(op, sides, (result,), statement.span))
            current = result
        placed[start, one] = current
        return current

    def _names_of(self, one: Insert) -> list[str]:
        """The parameters that hold what is inserted."""
        place = 0
        for earlier in _groups(self.instance, self.writer.found):
            assert earlier is not None
            count = sum(number(term) is None for term in (earlier.scale, earlier.shift))
            if earlier == one:
                return [name for name, _ in self.named[place : place + count]]
            place += count
        raise AssertionError(one)

    def _held(
        self, name: str, part: str, axes: tuple[Axis, ...], statement: Apply, before: list[Statement]
    ) -> Value:
        """The new parameter `name`, as a value that is made `before` its reader."""
        start = Init("fill", (const(1 if part == "scale" else 0),))
        entry = WeightEntry(name, Weight(name, axes, start, decay=False), statement.span)
        if all(other.name != name for other in self.added):
            self.added.append(entry)
        held = Value(next(self.writer.uids), TensorType("float", axes), statement.span)
        before.append(Apply(Parameter(name, held.type), (), (held,), statement.span, name))
        return held

    def _call(self, call: Call) -> list[Statement]:
        inner = self.writer.body(self.instance.children[id(call)])
        inputs = tuple(self._operand(operand) for operand in call.inputs)
        template = inner.template
        places = {value.uid: place for place, value in enumerate(template.inputs)}
        if not template.entries and all(value.uid in places for value in template.outputs):  # nothing is left of it
            kept: list[Statement] = []
            for made, result in zip(template.outputs, call.outputs, strict=True):
                given = inputs[places[made.uid]]
                assert isinstance(given, Value)
                kept += self._same(given, result)
            return kept
        return [replace(call, template=template, inputs=inputs)]

    def _turn(self, turn: Call) -> Call:
        inner = self.writer.body(self.instance.children[id(turn)])
        return replace(turn, template=inner.template, inputs=tuple(self._operand(x) for x in turn.inputs))

    def _branch(self, branch: Branch) -> Branch:
        arms = [None if arm is None else self._statements(arm) for arm in (branch.then, branch.otherwise)]
        merges = tuple(
            replace(
                merge,
                then=None if merge.then is None else self._value(merge.then),
                otherwise=None if merge.otherwise is None else self._value(merge.otherwise),
            )
            for merge in branch.merges
        )
        return replace(branch, then=arms[0], otherwise=arms[1], merges=merges)

    # ---- entries

    def _entry(self, entry: Entry, prefix: str) -> Any:
        match entry:
            case OpEntry() | ChildEntry():
                return self._unit(entry, f"{prefix}{entry.name}." if entry.name else prefix)
            case ListEntry(name=name, items=items):
                listed = (self._unit(item, f"{prefix}{name}.{number}.") for number, item in enumerate(items))
                return replace(entry, items=tuple(listed))
            case _:
                return entry

    def _unit(self, entry: OpEntry | ChildEntry, prefix: str) -> OpEntry | ChildEntry:
        """An entry whose weights have the prefix `prefix`."""
        if isinstance(entry, ChildEntry):
            site = self.writer.sites.get((prefix, id(entry.template)))
            return entry if site is None else replace(entry, template=self.writer.body(site).template)
        old, new = self.writer.biased.get(prefix, (None, None))
        if old is None or old != entry.op:
            return entry
        return replace(entry, op=new, weights=new.weights(*entry.types))


# ---- what is not needed any more


def _living(body: tuple[Statement, ...], wanted: set[int]) -> tuple[Statement, ...]:
    """Without operations whose results nobody reads, and names for tensors that are not there."""
    while True:
        kept = _prune(body, {*read_in(body), *wanted})
        if kept == body:
            return body
        body = kept


def _prune(body: tuple[Statement, ...], read: set[int]) -> tuple[Statement, ...]:
    kept: list[Statement] = []
    for statement in body:
        match statement:
            case Apply(outputs=made) if not any(value.uid in read for value in made):
                continue
            case Relabel(output=made) if made.uid not in read:
                continue
            case Assign(value=Value() as value) if value.uid not in read:
                continue
            case Branch(then=then, otherwise=otherwise):
                arms = [None if arm is None else _prune(arm, read) for arm in (then, otherwise)]
                kept.append(replace(statement, then=arms[0], otherwise=arms[1]))
            case _:
                kept.append(statement)
    return tuple(kept)


def _syms(body: tuple[Statement, ...]) -> Iterator[Sym]:
    """Every expression that the compile-time numbers of statements are made of, with the definitions of names."""
    found: list[Sym] = []

    def look(sym: Sym) -> Sym:
        for inner in walk(sym):
            found.append(inner)
            if isinstance(inner, Var) and inner.definition is not None:
                look(inner.definition)
        return sym

    for statement in body:
        match statement:
            case Apply(op=op):
                rewrite_numbers(op, look)
            case Call(args=args):
                rewrite_numbers(args, look)
            case Repeat(iterable=iterable, turns=turns, phis=phis):
                rewrite_numbers((iterable, *(turn.args for turn in turns)), look)
                for phi in phis:
                    look(phi.first)
                    look(phi.next)
                for turn in turns:  # it may be written within the component
                    found += _syms(turn.template.body)
            case Branch(condition=condition, then=then, otherwise=otherwise):
                rewrite_numbers(condition, look)
                found += _syms((*(then or ()), *(otherwise or ())))
            case _:
                pass
    yield from found


def referenced(body: tuple[Statement, ...], depth: int = 0) -> set[str]:
    """The names of the entries that statements use, those of loops and lists without their numbers; in the turn of a
    loop (`depth` loops in), those of the component around."""
    found: set[str] = set()

    def note(entry: str | None) -> None:
        if entry is not None and len(entry) - len(entry.lstrip(OUTER)) == depth:
            found.add(entry.lstrip(OUTER).split(".")[0])

    for statement in body:
        match statement:
            case Apply(entry=entry):
                note(entry)
            case Call(entry=entry, template=template):
                note(entry)
                if template.role == "entry":
                    found |= referenced(template.body, depth)
            case Repeat(turns=turns):
                for turn in turns:
                    note(turn.entry)
                    found |= referenced(turn.template.body, depth + 1)
            case Branch(then=then, otherwise=otherwise):
                found |= referenced((*(then or ()), *(otherwise or ())), depth)
            case _:
                pass
    return found


def _used(entries: tuple[Entry, ...], before: set[str], now: set[str]) -> tuple[Entry, ...]:
    """Without the entries that were used before and are not now."""
    gone = before - now
    return tuple(entry for entry in entries if entry.name.split(".")[0] not in gone)


def _values_of(template: Template) -> Iterator[Value]:
    def go(body: tuple[Statement, ...]) -> Iterator[Value]:
        for statement in body:
            match statement:
                case Apply(outputs=outputs) | Call(outputs=outputs):
                    yield from outputs
                case Relabel(output=output):
                    yield output
                case Repeat(turns=turns):
                    for turn in turns:
                        yield from turn.outputs
                case Branch(then=then, otherwise=otherwise, merges=merges):
                    yield from go((*(then or ()), *(otherwise or ())))
                    yield from (merge.result for merge in merges)
                case _:
                    pass

    yield from template.inputs
    yield from go(template.body)
