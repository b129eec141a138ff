"""Loops, turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from archc.diagnostics import fail
from archc.elaborate import statements, twins
from archc.elaborate.expressions import bind_targets, evaluate, items_of, length_of
from archc.elaborate.frame import MOST_NODES, Conflict, Frame, Level, Scope, mentions, reads, tensors_in
from archc.elaborate.reading import assigned_names, read_first
from archc.elaborate.templates import fresh
from archc.elaborate.turns import items_at
from archc.elaborate.values import POISON, Growth, Many, Poison, kind_of
from archc.ir.graph import (
    Branch,
    Call,
    ChildEntry,
    ListEntry,
    OpEntry,
    Phi,
    Relabel,
    Repeat,
    Template,
    Value,
)
from archc.ir.sym import Const, Extent, Scalar, Sym, Var, apply, plain, substitute, turns_of, variables, walk
from archc.ir.types import Dim, TensorType
from archc.syntax import tree


def run_loop(statement: tree.Loop, scope: Scope) -> None:
    if statement.keyword == "stage" and statement.iterable is None:
        statements.run_statements(statement.body, scope)
        return
    assert statement.iterable is not None
    iterable = evaluate(statement.iterable, scope)
    if isinstance(iterable, Poison):
        for name in assigned_names(statement.body):
            scope.env[name] = POISON
        return
    if statement.keyword in ("repeat", "loop"):
        if not isinstance(iterable, Scalar) or not isinstance(iterable.value, int) or isinstance(iterable.value, bool):
            raise fail(
                "E0206",
                f"`{statement.keyword}` needs a whole number, and this is {kind_of(iterable)}",
                statement.iterable.span,
            )
        if not 0 <= iterable.value <= MOST_NODES:
            raise fail(
                "E0404",
                f"`{statement.keyword}` runs 0 to {MOST_NODES:,} times, not {iterable.value}",
                statement.iterable.span,
            )
        items: Sequence[Any] = range(iterable.value)  # their numbers, which the loop's variable is given in each turn
    else:
        items = items_of(iterable, statement.iterable)
    _Turns(statement, iterable, items, scope).run()


class _Turns:
    """The turns of one loop. Every turn is a frame of its own: what it reads of the outside are its inputs, what it
    leaves behind its outputs; sizes that change from turn to turn become variables (`Phi`)."""

    def __init__(self, statement: tree.Loop, iterable: Any, items: Sequence[Any], scope: Scope) -> None:
        self.statement, self.iterable, self.items, self.scope = statement, iterable, items, scope
        self.carried = [n for n in assigned_names(statement.body) if n in scope.env and n not in statement.targets]
        self.read = read_first(statement.body, frozenset())
        self.phis: dict[tuple[str, str], Var] = {}
        self.nexts: dict[tuple[str, str], Sym] = {}
        self.firsts: dict[tuple[str, str], Sym] = {}
        self.frames: list[Frame] = []
        self.ends: list[dict[str, Value]] = []  # for each turn, what it leaves behind
        self.units: list[OpEntry | ChildEntry | None] = []
        self.adopt = True
        self.copies: dict[int, int] = {}  # turns that are copies of an earlier one, by number
        self._base: dict[str, Any] = {}  # the numbers around the loop
        self._frame = scope.frame

    def run(self) -> None:
        scope = self.scope
        start = dict(scope.env)
        body_so_far = list(scope.frame.body)
        while True:
            try:
                self._all(start)
                break
            except Conflict:
                # `_:` beside other weights: write it into the turn instead of letting it be the turn.
                self.adopt = False
                scope.frame.phi_names -= {v.name for v in self.phis.values()}
                scope.env.clear()
                scope.env.update(start)
                scope.frame.body[:] = body_so_far
                self.frames, self.ends, self.phis, self.nexts, self.firsts, self.copies = [], [], {}, {}, {}, {}
        self._note_growth(start)
        self._finish(start)

    def _note_growth(self, start: dict[str, Any]) -> None:
        """How long the lists are that the loop made grow, where that depends on what it runs over."""
        if not self.items or not isinstance(self.iterable, Scalar):
            return
        turns = turns_of(self.statement.keyword, self.iterable.sym)
        if not variables(turns):
            return
        for name in self.carried:
            old, new = start.get(name), self.scope.env.get(name)
            if isinstance(new, Many) and isinstance(old, (Many, Scalar)):
                before = old.items if isinstance(old, Many) else old.value
                each = (len(new.items) - len(before)) // len(self.items)
                grown = apply("+", length_of(old), apply("*", Const(each), turns))
                self.scope.env[name] = replace(new, growth=Growth(self._frame, grown))

    def _all(self, start: dict[str, Any]) -> None:
        scope = self.scope
        self._part(dict.fromkeys(n for n in self.carried if n in self.read))
        model: twins.Model | None = None
        for number, item in enumerate(self.items):
            scope.session.count(self.statement.span)
            copy = model.copied(scope, self._bindings(number)) if model is not None else None
            if model is not None and copy is not None:
                scope.frame.close(copy)
                self.frames.append(copy)
                self.ends.append({n: scope.env[n] for n in self.ends[model.number]})
                self.copies[number] = model.number
                if scope.session.sizes_only and self._rest_is_alike(model, number):
                    return
                continue
            before = dict(scope.env)
            known, nodes = len(scope.session.templates), scope.session.nodes
            frame = self._turn(number, item)
            if number == 0 and self._changing(before, frame):
                scope.env.clear()
                scope.env.update(before)
                frame = self._turn(number, item)
            self._note_sizes(before, frame, number)
            scope.frame.close(frame)
            self.frames.append(frame)
            self.ends.append({n: v for n in self.carried if isinstance(v := scope.env.get(n), Value) and frame.made(v)})
            if any(isinstance(scope.env.get(n), Poison) for n in self.carried):
                return
            if scope.returned is not None:
                raise fail("E0215", "`return` stands at the end of a component, not in a loop", self.statement.span)
            model = None
            if number and number + 1 < len(self.items) and known == len(scope.session.templates) and not self.phis:
                model = self._model(number, before, frame, scope.session.nodes - nodes)
        del start

    # ---- turns that need not be run

    def _model(self, number: int, before: dict[str, Any], frame: Frame, nodes: int) -> twins.Model | None:
        """The turn that was just run, as the model of those that follow."""
        scope = self.scope
        texts = twins.read_texts(self.statement, scope, self.carried)
        if texts is None or scope.session.diagnostics:
            return None
        self._base = self._base or twins.numbers(scope)
        around = dict(scope.env)
        self._bind(number, self.items[number])
        try:
            handed = [evaluate(one.expr, scope) for one in texts.handed]
        finally:
            scope.env.clear()
            scope.env.update(around)
        bindings = self._bindings(number)
        return twins.model_of(number, frame, before, self.carried, nodes, texts, handed, bindings, scope, _identity)

    def _rest_is_alike(self, model: twins.Model, number: int) -> bool:
        """Whether the turns behind a copy are copies too: of the tensors, as it was one, and by their numbers."""
        return all(model.allows(self._bindings(later)) for later in range(number + 1, len(self.items)))

    def _bindings(self, number: int) -> dict[str, Any]:
        """The numbers that expressions read in a turn."""
        targets = self.statement.targets
        if self.statement.keyword in ("repeat", "loop"):
            own = dict.fromkeys(targets, number)
        else:
            named = self._named(self.items[number])
            parts = (named,) if len(targets) == 1 else named.value if isinstance(named, Scalar) else named.items
            own = {t: plain(part) for t, part in zip(targets, parts, strict=True) if isinstance(part, Scalar)}
        return {**self._base, **own}

    def _bind(self, number: int, item: Any) -> None:
        """Give the loop's own variables their values in a turn."""
        scope, statement = self.scope, self.statement
        if statement.keyword in ("repeat", "loop"):
            if statement.targets:
                scope.env[statement.targets[0]] = Scalar(number, Var(statement.targets[0]))
        else:
            bind_targets(statement.targets, self._named(item), statement, scope)

    def _turn(self, number: int, item: Any) -> Frame:
        scope, statement = self.scope, self.statement
        outer = scope.frame
        name = statement.label or statement.keyword
        reuse = statement.keyword == "loop" and bool(self.frames)
        level = self.frames[0].level if reuse else Level(adopt=self.adopt)
        frame = Frame(scope.session, name, parent=outer, level=level, turn_names=frozenset(statement.targets))
        for carried in self.carried:
            value = scope.env.get(carried)
            if isinstance(value, Value) and carried in self.read:
                frame.called[value.uid] = carried
        for key in self.phis:
            value = scope.env.get(key[0])
            if isinstance(value, Value):
                frame.retyped[value.uid] = self._with_phis(key[0], outer.use(value).type)
        self._bind(number, item)
        scope.frame = frame
        saved = level.reuse
        level.reuse = reuse
        label, scope.self_label = scope.self_label, ""
        before = dict(scope.env)
        try:
            statements.run_statements(statement.body, scope)
            self._part({n: before.get(n) for n in self.carried if n in self.read})
        finally:
            scope.frame = outer
            level.reuse = saved
            scope.self_label = label
        for target in statement.targets:
            scope.env.pop(target, None)
        return frame

    def _part(self, before: dict[str, Any]) -> None:
        """A value of its own for each name that the turns hand on, as the next turn may tell them apart.

        Names that still hold what they held `before` are left alone.
        """
        env, frame = self.scope.env, self.scope.frame
        beside = [v for n, v in env.items() if isinstance(v, Value) and n not in before and n in self.read]
        # A size is read off the tensor that had it first, whatever its name stands for now.
        sizes = [v.sym for n, v in env.items() if isinstance(v, Scalar) and n in self.read]
        measured = {part.value for sym in sizes for part in walk(sym) if isinstance(part, Extent)}
        known = frame.session.templates
        beside += [known["value", uid] for uid in measured if ("value", uid) in known]
        held = {_identity(v, frame) for v in beside}
        for name, old in before.items():
            value = env.get(name)
            if not isinstance(value, Value) or value is old:
                continue
            if _identity(value, frame) in held or (old is not None and not frame.made(value)):
                seen = frame.use(value)
                value = env[name] = frame.value(seen.type, seen.span, name)
                frame.add(Relabel(seen, value))
            held.add(_identity(value, frame))

    def _named(self, item: Any) -> Any:
        """The item of a `for`, known by the loop's own variables."""
        from archc.elaborate.scalars import from_value

        targets = self.statement.targets

        # A list that holds recipes or tensors is no list in the module: its numbers are known where they come from.
        rolled = isinstance(self.iterable, Scalar)

        def name(value: Any, variable: str) -> Any:
            if isinstance(value, Scalar) and rolled:
                return (
                    from_value(plain(value), Var(variable))
                    if isinstance(value.value, tuple)
                    else Scalar(value.value, Var(variable))
                )
            return value

        if len(targets) == 1:
            return name(item, targets[0])
        parts = items_of(item, self.statement.iterable) if not isinstance(item, Scalar) else item.value  # type: ignore[arg-type]
        if not isinstance(parts, tuple) or len(parts) != len(targets):
            return item
        named = tuple(name(p, t) for p, t in zip(parts, targets, strict=True))
        return Scalar(named, Const(None)) if all(isinstance(p, Scalar) for p in named) else Many(named)

    # ---- sizes that change from turn to turn

    def _with_phis(self, name: str, type: TensorType) -> TensorType:
        axes = []
        for axis in type.axes:
            var = self.phis.get((name, axis.name))
            axes.append(axis.sized(Dim(axis.size, var)) if var is not None else axis)
        return type.with_axes(axes)

    def _changing(self, before: dict[str, Any], frame: Frame) -> bool:
        """Whether the first turn left a static size other than it found it; the sizes become variables."""
        found = False
        for name in self.carried:
            if name not in self.read:
                continue  # bound anew in every turn
            old, new = before.get(name), self.scope.env.get(name)
            if not (isinstance(old, Value) and isinstance(new, Value) and frame.made(new)):
                continue
            old, new = self._frame.use(old), frame.use(new)
            if old.type.names != new.type.names:
                continue
            for a, b in zip(old.type.axes, new.type.axes, strict=True):
                if b.dim.sym is not None and a.dim.sym is not None and a.dim.sym != b.dim.sym:
                    key = (name, a.name)
                    self.phis[key] = Var(self._phi_name(a.name))
                    self.firsts[key] = a.dim.sym
                    found = True
        return found

    def _phi_name(self, axis: str) -> str:
        taken = {v.name for v in self.phis.values()} | set(self.scope.env) | set(self.statement.targets)
        around: Frame | None = self._frame
        while around is not None:
            taken |= around.phi_names | set(around.parameters)
            around = around.parent
        words = ("channels", "width", "features") if axis == "C" else (axis.lower(),)
        name = next((w for w in words if w not in taken), None) or fresh(words[0], dict.fromkeys(taken))
        self._frame.phi_names.add(name)
        return name

    def _note_sizes(self, before: dict[str, Any], frame: Frame, number: int) -> None:
        """What the changing sizes become, and the types under which a turn's results are known outside."""
        local = frozenset(self.statement.targets)
        for name in assigned_names(self.statement.body):
            for value in tensors_in(self.scope.env.get(name)):
                if not frame.made(value):
                    continue
                # To look at a result of an inner loop is not to ask for it.
                inner = value.uid in frame.closed_into and value.uid not in frame.exported
                type = frame.export_types.get(value.uid, value.type) if inner else frame.use(value).type
                axes = []
                for axis in type.axes:
                    dim = axis.dim
                    key = (name, axis.name)
                    if key in self.phis and dim.sym is not None:
                        if number == 0:
                            self.nexts[key] = dim.sym
                        # What every turn sets to the same is known by that, also behind the loop.
                        changing = local | {v.name for v in self.phis.values()}
                        steady = not mentions(self.nexts[key], changing)
                        if number < len(self.items) - 1:
                            dim = Dim(dim.size, self._of_turn(number, dim))
                        else:
                            dim = Dim(dim.size, self.nexts[key] if steady else self.phis[key])
                    elif dim.sym is not None and mentions(dim.sym, local):
                        same = next((v for k, v in self.phis.items() if self.nexts.get(k) == dim.sym), None)
                        last = number == len(self.items) - 1
                        dim = Dim(dim.size, same if same is not None and last else self._of_turn(number, dim))
                    axes.append(axis.sized(dim))
                frame_types = self.scope.frame.export_types
                frame_types.setdefault(value.uid, type.with_axes(axes))

    def _of_turn(self, number: int, dim: Dim) -> Sym:
        """A size of one turn as what stands around the loop knows it."""
        assert dim.sym is not None
        iterable = self.iterable if isinstance(self.iterable, Scalar) else None
        items = items_at(self.statement.keyword, self.statement.targets, iterable, number, Const(number))
        sym = substitute(dim.sym, items)
        hidden = frozenset(self.statement.targets) | {v.name for v in self.phis.values()}
        return Const(dim.constant) if mentions(sym, hidden) else sym

    # ---- the loop as one statement

    def _finish(self, start: dict[str, Any]) -> None:
        scope, statement = self.scope, self.statement
        placeholder = len(scope.frame.body)
        owns = any(f.level.entries for f in self.frames)
        if owns and statement.label is None:
            raise fail(
                "E0402", f"`{statement.keyword}` makes copies that would share one name", statement.span,
                helps=(f"give the loop a label: `blocks: {statement.keyword} ...`",
                       "for one set of weights applied several times, write `loop`"),
            )  # fmt: skip
        entry = self._place_entries() if owns else None
        loop_env = dict(scope.env)
        self.deferred = (placeholder, entry, loop_env, start)
        # Turns are closed when the frame around is: until then later statements may still ask for results.
        scope.frame.add(Pending(self, entry))  # type: ignore[arg-type]

    def _place_entries(self) -> str:
        statement, level = self.statement, self.scope.frame.level
        assert statement.label is not None
        name = self.scope.self_label if statement.label == "_" else statement.label
        if name == "":
            raise fail("E0402", "a loop with weights needs a label of its own", statement.span)
        items: list[OpEntry | ChildEntry] = []
        own: dict[int, tuple[int, ...]] = {}  # by number of the model
        for number in range(len(self.frames)):
            model = self.copies.get(number)
            item = self._item(number) if model is None else items[model]
            if model is not None and isinstance(item, ChildEntry):
                if model not in own:
                    own[model] = twins.own_places(item.args, frozenset(statement.targets))
                if own[model]:
                    args = twins.own(item.args, own[model], self._bindings(number))
                    item = ChildEntry(item.name, item.template, args, item.span, item.guards)
            items.append(item)
        if statement.keyword == "loop":
            self._built_once()
            made: Any = replace(items[0], name=name)
        else:
            made = ListEntry(name, tuple(items), statement.span)
        return level.add(made).name

    def _built_once(self) -> None:
        """One set of weights serves all turns of `loop`: what it is built with must not depend on the turn."""
        counter = frozenset(self.statement.targets)
        for entry in self.frames[0].level.entries:
            match entry:
                case OpEntry(op=op, functional=False):
                    built: Any = op
                case ChildEntry(args=args):
                    built = args
                case _:
                    continue
            if reads(built, counter):
                turn = ", ".join(self.statement.targets)
                raise fail(
                    "E0408",
                    f"`{entry.name}` is built once for all turns of the loop, and what it is built with depends on `{turn}`",
                    entry.span,
                    f"depends on `{turn}`",
                    helps=(
                        "`repeat` makes new weights in every turn",
                        f"or compute with `{turn}` in the loop itself, beside the call",
                    ),
                )

    def _item(self, number: int) -> OpEntry | ChildEntry:
        frame = self.frames[number]
        entries = frame.level.entries
        if len(entries) == 1 and entries[0].name == "" and not entries[0].guards:
            match entries[0]:
                case ChildEntry() | OpEntry(functional=False) as unit:
                    return unit
                case _:
                    pass
        # The template of the turn is completed when the loop is (`Pending.settle`).
        return ChildEntry(
            "",
            Template(frame.name, "turn", "", (), (), (), (), tuple(entries), self.statement.span),
            (),
            self.statement.span,
        )

    def settle(self, entry: str | None) -> Repeat:
        """The finished loop. All uses of its results are known now."""
        calls_made: list[Call] = []
        templates: list[Template] = []
        outer: Frame = self._frame
        self._align()
        for number, frame in enumerate(self.frames):
            scalars = self._turn_scalars(number)
            made = templates[self.copies[number]] if number in self.copies else self._settled(frame, scalars)
            assert len(frame.inputs) == len(made.inputs) and len(frame.outputs) == len(made.outputs)
            templates.append(made)
            calls_made.append(Call(
                made, tuple(outside for outside, _ in frame.inputs), tuple(outside for _, outside in frame.outputs),
                tuple(scalars.items()), self.statement.span, None if entry is None else self._path(entry, number),
            ))  # fmt: skip
        if entry is not None:
            self._complete_entries(outer.level, entry, calls_made)
        names = self._names()
        phis = tuple(
            Phi(var, self.firsts[key], self.nexts.get(key, var)) for key, var in self.phis.items() if key in self.firsts
        )
        return Repeat(
            self.statement.keyword, self.statement.label, self.statement.targets,
            self.iterable if isinstance(self.iterable, Scalar) else None, tuple(calls_made), phis, (), self.statement.span, names,
        )  # fmt: skip

    def _settled(self, frame: Frame, scalars: dict[str, Scalar]) -> Template:
        settle_body(frame)
        return Template(
            frame.name, "turn", "", tuple(scalars.items()), tuple(inside for _, inside in frame.inputs),
            tuple(inside for inside, _ in frame.outputs), tuple(frame.body), tuple(frame.level.entries),
            self.statement.span, tuple(frame.inits), (), tuple(self._kinds().items()),
        )  # fmt: skip

    def _align(self) -> None:
        """The same results, in the same order, of every turn that leaves them behind."""
        places = [
            {outside_of(v, frame): n for n, v in end.items()}
            for frame, end in zip(self.frames, self.ends, strict=False)
        ]
        wanted = {
            places[at][inside.uid]: None
            for at, frame in enumerate(self.frames[: len(places)])
            for inside, _ in frame.outputs
            if inside.uid in places[at]
        }
        for at, (frame, end) in enumerate(zip(self.frames, self.ends, strict=False)):
            for name in wanted:
                if name in end:
                    self._frame.use(end[name])
            order = {name: number for number, name in enumerate(n for n in self.carried if n in wanted)}
            places[at] = {outside_of(v, frame): n for n, v in end.items()}
            frame.outputs.sort(
                key=lambda pair, known=places[at], order=order: order.get(known.get(pair[0].uid, ""), len(order))
            )

    def _path(self, entry: str, number: int) -> str:
        return entry if self.statement.keyword == "loop" else f"{entry}.{number}"

    def _complete_entries(self, level: Level, entry: str, turns: list[Call]) -> None:
        """Put the finished templates of the turns into the entry that was made for them."""

        def completed(item: OpEntry | ChildEntry, turn: Call) -> OpEntry | ChildEntry:
            if isinstance(item, ChildEntry) and item.template.role == "turn" and turn.template.unit is None:
                return replace(item, template=turn.template, args=turn.args)
            return item

        for i, existing in enumerate(level.entries):
            if existing.name != entry:
                continue
            if isinstance(existing, ListEntry):
                level.entries[i] = replace(
                    existing,
                    items=tuple(completed(item, turn) for item, turn in zip(existing.items, turns, strict=False)),
                )
            elif isinstance(existing, ChildEntry) and turns:
                made = completed(existing, turns[0])
                assert isinstance(made, ChildEntry)
                # One set of weights is made before the first turn, where changing sizes are what they start from.
                firsts = {var.name: self.firsts[key] for key, var in self.phis.items() if key in self.firsts}
                args = tuple((name, Scalar(value.value, substitute(value.sym, firsts))) for name, value in made.args)
                level.entries[i] = replace(made, args=args)

    def _kinds(self) -> dict[str, str]:
        around: Frame | None = self._frame
        while around is not None and not around.kinds:
            around = around.parent
        return around.kinds if around is not None else {}

    def _turn_scalars(self, number: int) -> dict[str, Scalar]:
        """The numbers that a turn may read: those of the component around it, its own variables, changing sizes."""
        env = dict(self._scalars_around)
        item = self.items[number]
        if self.statement.keyword in ("repeat", "loop"):
            for target in self.statement.targets:
                env[target] = Scalar(number, Var(target))
        else:
            named = self._named(item)
            parts = (
                (named,)
                if len(self.statement.targets) == 1
                else (named.value if isinstance(named, Scalar) else named.items)
            )
            for target, part in zip(self.statement.targets, parts, strict=True):
                if isinstance(part, Scalar):
                    env[target] = part
        for key, var in self.phis.items():
            value = self.phi_value(key, number)
            if value is not None:
                env[var.name] = Scalar(value, var)
        return env

    @cached_property
    def _scalars_around(self) -> dict[str, Scalar]:
        env: dict[str, Scalar] = {}
        around: Frame | None = self._frame
        while around is not None:
            for name, value in around.parameters.items():
                env.setdefault(name, value)
            around = around.parent
        for value in self.deferred[3].values():
            if isinstance(value, Scalar) and isinstance(value.sym, Var):
                env[value.sym.name] = value
        return env

    def phi_value(self, key: tuple[str, str], number: int) -> int | None:
        for outside, inside in self.frames[number].inputs:
            for axis in inside.type.axes:
                if axis.dim.sym == self.phis[key]:
                    return axis.size.constant
            del outside
        return None

    def _names(self) -> tuple[str, ...]:
        """The author's name for each output of the last turn."""
        if not self.frames:
            return ()
        last = self.frames[-1]
        known = {}
        for name, value in self.final_env.items():
            if isinstance(value, Value):
                known.setdefault(last.exported.get(value.uid, value).uid, name)
        return tuple(known.get(inside.uid, "") for inside, _ in last.outputs)

    @property
    def final_env(self) -> dict[str, Any]:
        return self.deferred[2]


def _identity(value: Value, frame: Frame) -> int:
    """One number for all that a tensor is called in a frame and those around it."""
    around: list[Frame] = []
    inner: Frame | None = frame
    while inner is not None:
        around.append(inner)
        inner = inner.parent
    uid = value.uid
    for each in reversed(around):
        uid = next((inside.uid for outside, inside in each.inputs if outside.uid == uid), uid)
        uid = each.exported[uid].uid if uid in each.exported else uid
    return uid


def outside_of(value: Value, turn: Frame) -> int:
    """The uid that a turn's own statements know a result by."""
    return turn.exported[value.uid].uid if value.uid in turn.exported else value.uid


class Pending:
    """A loop whose results may still be asked for; replaced by a `Repeat` when its frame is finished."""

    def __init__(self, turns: _Turns, entry: str | None) -> None:
        self.turns, self.entry = turns, entry


def settle_body(frame: Frame) -> None:
    """Replace the pending loops of a frame, now that nothing can ask for their results any more."""
    frame.body[:] = [_settled(s) for s in frame.body]


def _settled(statement: Any) -> Any:
    if isinstance(statement, Pending):
        return statement.turns.settle(statement.entry)
    if isinstance(statement, Branch):
        arms = [
            None if arm is None else tuple(_settled(s) for s in arm) for arm in (statement.then, statement.otherwise)
        ]
        return replace(statement, then=arms[0], otherwise=arms[1])
    return statement
