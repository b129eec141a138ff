"""Turns of a loop that are copies of an earlier turn: they need not be run again.

A turn is a copy where it begins with tensors of the same types, everything else that its text mentions is the same,
and its own variables (`i`, `rate`) are only handed on to what is inert (`archc.elaborate.inert`). Copies share the
template of the turn that was run; their calls have their own tensors and numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from archc.elaborate.frame import MOST_NODES, Frame, Scope, mentions
from archc.elaborate.inert import Handed, handed_on
from archc.elaborate.reading import all_assigned, assigned_names, names_in, read_first
from archc.ir.graph import Value
from archc.ir.sym import Extent, Scalar, Sym, evaluate, plain, walk
from archc.records import dataclass
from archc.syntax import tree

Identity = Callable[[Value, Frame], int]


@dataclass(frozen=True)
class Texts:
    """What the text of a loop says of its turns: names of the outside, arguments that its own variables end in."""

    mentioned: frozenset[str]
    handed: tuple[Handed, ...]


def read_texts(loop: tree.Loop, scope: Scope, carried: list[str]) -> Texts | None:
    """None where a turn may depend on its number, or leave something behind that is not handed on to the next."""
    known, key = scope.session.inert, (id(loop), *carried, *scope.env)
    if key not in known:
        known[key] = loop, _read(loop, scope, carried)
    return known[key][1]


def _read(loop: tree.Loop, scope: Scope, carried: list[str]) -> Texts | None:
    if scope.component is None:
        return None
    if any(_does_more(statement) for statement in _statements(loop.body)):
        return None
    around, assigned = scope.component.body, frozenset(assigned_names(loop.body))
    mentioned = Counter(names_in(loop.body))
    behind = (Counter(names_in(around)) - mentioned) + (
        Counter(all_assigned(around)) - Counter(all_assigned(loop.body))
    )
    # What a turn binds for itself must be nobody else's.
    temporary = assigned.difference(carried)
    if any(name in behind for name in temporary) or temporary & read_first(loop.body, frozenset()):
        return None
    targets = frozenset(loop.targets)
    local = frozenset((*assigned_names(around), *(p.name for p in scope.component.parameters), *scope.env))
    handed = handed_on(loop.body, targets, scope.file, local, scope.session.inert)
    if handed is None or assigned & targets or any(assigned & set(names_in(one.expr)) for one in handed):
        return None
    return Texts(assigned.union(mentioned) - targets - temporary, handed)


def _statements(body: tuple[tree.Statement, ...]) -> Iterator[tree.Statement]:
    for statement in body:
        yield statement
        match statement:
            case tree.Loop(body=inner):
                yield from _statements(inner)
            case tree.If(then=then, otherwise=otherwise):
                yield from _statements(then + otherwise)


def _does_more(statement: tree.Statement) -> bool:
    """Whether a statement does something to the model, beside making tensors and weights."""
    match statement:
        case tree.Bind(keyword=keyword) | tree.Declare(keyword=keyword):
            return keyword not in ("module", "param", "buffer", "const")
        case tree.Entry() | tree.Claim() | tree.Weights() | tree.Matches() | tree.Return():
            return True
        case _:
            return False


@dataclass(eq=False)
class Model:
    """A turn that was run, as the model of copies. `before` is what the names stood for when it began."""

    number: int
    frame: Frame
    before: Mapping[str, Any]
    nodes: int
    mentioned: frozenset[str]
    left: dict[str, Value]  # what it hands on, by name
    handed: list[tuple[Sym, type, Handed]]
    inputs: list[tuple[str | None, Value, Value]]  # outside and inside, by the name it came by: None, all have the same
    copies: bool = False  # whether there are any

    def copied(self, scope: Scope, bindings: Mapping[str, Any]) -> Frame | None:
        """The next turn as a copy, which `scope` then has the results of; None where it is none."""
        env, outer, session = scope.env, scope.frame, scope.session
        if session.nodes + self.nodes > MOST_NODES or not self.allows(bindings):
            return None
        # What follows on a copy begins as the copy began.
        self.copies = self.copies or self._alike(env, outer)
        if not self.copies:
            return None
        frame = Frame(session, self.frame.name, parent=outer, level=self.frame.level)
        for name, outside, inside in self.inputs:
            frame.inputs.append((outside if name is None else outer.use(env[name]), inside))
        made: dict[int, Value] = {}
        for name, value in self.left.items():
            if value.uid not in made:
                made[value.uid] = frame.value(value.type, value.span, value.name)
                if value.uid in outer.export_types:
                    outer.export_types[made[value.uid].uid] = outer.export_types[value.uid]
            env[name] = made[value.uid]
        session.nodes += self.nodes
        return frame

    def _alike(self, env: Mapping[str, Any], outer: Frame) -> bool:
        """Whether the names that the text mentions stand for the same, or for tensors of the same types."""
        places: dict[int, int] = {}
        for name in self.mentioned:
            old, new = self.before.get(name), env.get(name)
            if old is new:
                if isinstance(old, Value) and places.setdefault(old.uid, old.uid) != old.uid:
                    return False
                continue
            if isinstance(old, Scalar) and isinstance(new, Scalar) and old == new:
                continue
            if (
                not (isinstance(old, Value) and isinstance(new, Value))
                or places.setdefault(old.uid, new.uid) != new.uid
            ):
                return False
            if not _same_type(old, new, outer):
                return False
        return len(set(places.values())) == len(places)

    def allows(self, bindings: Mapping[str, Any]) -> bool:
        """Whether the numbers of a turn end in inert places that admit them."""
        for sym, kind, handed in self.handed:
            try:
                value = evaluate(sym, bindings)
            except Exception:  # it is told where the turn is run
                return False
            if type(value) is not kind or not handed.allows(value):
                return False
        return True


def _same_type(old: Value, new: Value, outer: Frame) -> bool:
    if old.type is not new.type and old.type != new.type:
        return False
    first, second = (outer.export_types.get(value.uid, value.type) for value in (old, new))
    return first is second or first == second


def model_of(
    number: int, frame: Frame, before: Mapping[str, Any], carried: list[str], nodes: int, texts: Texts,
    handed: list[Any], bindings: Mapping[str, Any], scope: Scope, identity: Identity,
) -> Model | None:  # fmt: skip
    """The turn that was just run as a model, with its arguments `handed` on as it evaluated them."""
    left: dict[str, Value] = {}
    for name in carried:
        value = scope.env.get(name)
        if value is before.get(name):
            continue
        if not isinstance(value, Value) or not frame.made(value) or _has_extents(value):
            return None
        left[name] = value
    found: list[tuple[Sym, type, Handed]] = []
    for one, value in zip(texts.handed, handed, strict=True):
        if not isinstance(value, Scalar) or not one.allows(value.value):
            return None
        found.append((value.sym, type(value.value), one))
    origin: dict[int, str] = {}
    for name in texts.mentioned:
        value = before.get(name)
        if isinstance(value, Value):
            same = origin.setdefault(identity(value, scope.frame), name)
            if before[same].uid != value.uid:
                return None  # one tensor under two numbers
    inputs = [(origin.get(outside.uid), outside, inside) for outside, inside in frame.inputs]
    if any(evaluate(value.sym, bindings) != value.value for value in handed):
        return None
    return Model(number, frame, before, nodes, texts.mentioned, left, found, inputs)


def _has_extents(value: Value) -> bool:
    """Whether a size is known by that of another tensor, which would be another one in each turn."""
    syms = [axis.dim.sym for axis in value.type.axes if axis.dim.sym is not None]
    return any(isinstance(inner, Extent) for sym in syms for inner in walk(sym))


Args = tuple[tuple[str, Scalar], ...]


def own_places(args: Args, targets: frozenset[str]) -> tuple[int, ...]:
    """Which arguments of a model its copies have numbers of their own for."""
    return tuple(place for place, (_, value) in enumerate(args) if mentions(value.sym, targets))


def own(args: Args, places: tuple[int, ...], bindings: Mapping[str, Any]) -> Args:
    """The arguments of a model with the numbers of a copy."""
    changed = list(args)
    for place in places:
        name, value = args[place]
        changed[place] = name, Scalar(evaluate(value.sym, bindings), value.sym)
    return tuple(changed)


def numbers(scope: Scope) -> dict[str, Any]:
    """The numbers that expressions may read where a loop stands, by name."""
    found: dict[str, Any] = {}
    around: Frame | None = scope.frame
    while around is not None:
        found = {**{name: plain(value) for name, value in around.parameters.items()}, **found}
        around = around.parent
    for value in scope.env.values():
        name = getattr(value.sym, "name", None) if isinstance(value, Scalar) else None
        if name is not None:
            found[name] = plain(value)
    return found
