"""Loops in methods: rolled where all turns read the same, else written turn by turn."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from archc.backend.constructor import loop_iterable, mentions_word
from archc.backend.operand import Operand
from archc.backend.python import identifier
from archc.backend.writer import MOST_TRIES, Line, Writer, assigned_in, count_uses, note_names
from archc.ir.graph import (
    OUTER,
    Branch,
    Call,
    Repeat,
    Statement,
    Template,
    Value,
    outer_entries,
)
from archc.ir.sym import Const, Sym, walk

if TYPE_CHECKING:
    from archc.backend.classes import Classes, ClassWriter, Emitted


class LoopWriter:
    """A loop in a method: rolled where all turns read the same, else written turn by turn."""

    def __init__(self, owner: ClassWriter, writer: Writer, loop: Repeat) -> None:
        self.owner, self.writer, self.loop = owner, writer, loop
        self.first = loop.turns[0]
        self.variables: list[str] = []
        self.entry = (
            None
            if self.first.entry is None
            else self.first.entry.split(".")[0]
            if loop.keyword != "loop"
            else self.first.entry
        )

    def write(self) -> None:
        writer = self.writer
        if not self._uniform():
            self._unrolled()
            return
        start = writer.snapshot()
        for _ in range(MOST_TRIES):
            at = len(writer.lines)
            self._rolled()
            written = writer.lines[at:]
            end = writer.snapshot()
            writer.restore(start)
            lost = writer.overwritten(written, self._needed())
            if not lost:
                writer.restore(end)
                for name in assigned_in(written):
                    writer._forget(name)
                return
            # A turn takes a variable that later turns, or somebody behind the loop, need: the value moves before.
            for uid in lost:
                writer.save(uid)
            start = writer.snapshot()
        raise AssertionError(self.loop.span)

    def _needed(self) -> Counter[int]:
        """How often each value is read behind the loop or, where it is the same in all turns, in it."""
        turns = self.loop.turns
        reads = Counter(v.uid for turn in turns for v in turn.inputs if isinstance(v, Value))
        needed = Counter({uid: number - reads[uid] for uid, number in self.writer.uses.items()})
        carried = self._carried() or {}
        needed.update(v.uid for at, v in enumerate(self.first.inputs) if at not in carried and isinstance(v, Value))
        return needed

    def _rolled(self) -> None:
        """The loop as a `for`."""
        writer = self.writer
        self.variables = self._variables()
        names = self._enter(self._carried() or {})
        module = self._module_name()
        writer.known = {}
        header_at = len(writer.lines)
        writer.emit("")  # the header, once the body is known
        with writer.nested():
            results = self._turn(self.first, names, module)
            appended = self._appends(results)
        writer.known = {}
        body = " ".join(line.text for line in writer.lines[header_at + 1 :])
        writer.lines[header_at].text = self._header(module, body)
        if not body:
            writer.lines.pop()  # turns that do nothing need no loop
        if appended:
            for lst in appended.values():
                writer.lines.insert(header_at, Line(writer.indent, f"{lst}: list[Tensor] = []"))
        self._leave(results, appended)

    def _variables(self) -> list[str]:
        """A variable for each result of a turn: the author's name, each once."""
        names: list[str] = []
        for out in range(len(self.first.outputs)):
            name = identifier(self._name(out))
            names.append(self.writer.fresh(name) if name in names else name)
        return names

    # A turn reads the same as the first where its class, inputs and results are the same.
    def _uniform(self) -> bool:
        loop = self.loop
        if loop.iterable is None and loop.keyword not in ("repeat", "loop"):
            return False
        shapes = []
        for turn in {id(turn.template): turn for turn in loop.turns}.values():
            owner = self._turn_class(turn)
            kinds = tuple(len(v.type.axes) for v in turn.template.inputs), len(turn.outputs)
            body = None if owner is not None else _shape_of(turn.template, self.owner.classes)
            outside = outer_entries(turn.template.body)
            shapes.append((owner.signature if owner is not None else None, kinds, body, outside))
        if len(set(map(repr, shapes))) != 1:
            return False
        return self._carried() is not None

    def _turn_class(self, turn: Call) -> Emitted | None:
        """The class of a turn that is a module of its own; None where its body stands in the loop."""
        if turn.template.entries and turn.template.unit is None:
            if self.loop.keyword == "loop":
                self.owner.classes.counters[id(turn.template)] = self.loop.targets
            return self.owner.classes.of(turn.template)
        return None

    def _carried(self) -> dict[int, int] | None:
        """Input place -> output place of the turn before; None where turns are wired differently."""
        turns = self.loop.turns
        if len(turns) == 1:
            return self._carried_by_name()
        wiring: dict[int, int] | None = None
        for before, after in pairwise(turns):
            produced = {v.uid: i for i, v in enumerate(before.outputs)}
            now: dict[int, int] = {}
            if len(after.inputs) != len(before.inputs):
                return None
            for place, (value, earlier) in enumerate(zip(after.inputs, before.inputs, strict=True)):
                assert isinstance(value, Value) and isinstance(earlier, Value)
                if value.uid in produced:
                    now[place] = produced[value.uid]
                elif value.uid != earlier.uid:
                    return None
            if wiring is not None and now != wiring:
                return None
            wiring = now
        return wiring

    def _carried_by_name(self) -> dict[int, int]:
        inside = self.first.template.inputs
        return {
            place: out
            for place, value in enumerate(inside)
            for out, name in enumerate(self.loop.names)
            if name and name == value.name
        }

    def _enter(self, carried: dict[int, int]) -> dict[int, Operand]:
        """Bring what the turns hand on into variables. Gives each input of a turn as the body reads it."""
        writer = self.writer
        operands: dict[int, Operand] = {}
        for place, value in enumerate(self.first.inputs):
            assert isinstance(value, Value)
            if place not in carried:
                continue
            operand = writer.logical(writer.operand(value))
            name = self.variables[carried[place]]
            if operand.text != name:
                writer._clear(name)
                writer.emit(f"{name} = {operand.text}")
            writer.taken.add(name)
            operands[place] = replace(operand, text=name, binding=100)
        for place, value in enumerate(self.first.inputs):
            if place in carried:
                continue
            assert isinstance(value, Value)
            operand = writer.logical(writer.operand(value))
            if not operand.text.replace(".", "").replace("_", "").isalnum():
                name = writer.fresh(value.name or "x")
                writer.emit(f"{name} = {operand.text}")
                operand = replace(operand, text=name, binding=100)
            operands[place] = operand
        return operands

    def _name(self, out: int) -> str:
        name = self.loop.names[out] if out < len(self.loop.names) else ""
        return name or self.first.template.outputs[out].name or "y"

    def _module_name(self) -> str:
        if self.entry is None:
            return ""
        if self.loop.keyword == "loop":
            return f"self.{self.owner.path(self.entry)}"
        base = self.entry[:-1] if self.entry.endswith("s") and len(self.entry) > 3 else f"{self.entry}_turn"
        return self.writer.fresh(base)

    def _header(self, module: str, body: str) -> str:
        loop, names = self.loop, self.owner.names
        used = [t for t in loop.targets if mentions_word(t, body)]
        over = (
            loop_iterable(loop, self.writer.expressions, names)
            if used or self.entry is None or loop.keyword == "loop"
            else ""
        )
        if self.entry is None or loop.keyword == "loop":
            shown = ", ".join(identifier(t) if t in used else "_" for t in loop.targets) or "_"
            return f"for {shown} in {over}:"
        listed = f"self.{self.owner.path(self.entry)}"
        if not used:
            return f"for {module} in {listed}:"
        shown = ", ".join(identifier(t) if t in used else "_" for t in loop.targets)
        if loop.keyword == "repeat":
            return f"for {shown}, {module} in enumerate({listed}):"
        return (
            f"for ({shown}), {module} in zip({over}, {listed}):"
            if len(loop.targets) > 1
            else f"for {shown}, {module} in zip({over}, {listed}):"
        )

    def _turn(self, turn: Call, names: dict[int, Operand], module: str) -> list[Operand]:
        """One turn's body, or the call of its module; the results are bound to their names."""
        writer, template = self.writer, turn.template
        made = self._turn_class(turn)
        if made is not None:
            arguments = [writer.arranged(names[i], made.signature.inputs[i]).text for i in range(len(turn.inputs))]
            arguments += [identifier(c) for c in made.counters]
            arguments += [self.owner.child_text(entry.removeprefix(OUTER)) for entry in made.outers]
            targets = self.variables
            writer.taken |= set(targets)
            call = f"{module}({', '.join(arguments)})"
            if self.owner.checkpointed:
                call = f"{self.writer.helper('run')}({', '.join(['self.grad_checkpointing', module, *arguments])})"
            comment = self.owner.comment(turn.outputs[0].type, turn.span) if turn.outputs else ""
            if targets:  # else nobody wants what it computes
                writer.emit(f"{', '.join(targets)} = {call}", comment)
            return [
                Operand(
                    t,
                    v.type,
                    tuple(v.type.names[template.outputs[i].type.names.index(n)] for n in made.signature.outputs[i]),
                )
                for i, (t, v) in enumerate(zip(targets, turn.outputs, strict=True))
            ]
        for i, value in enumerate(template.inputs):
            writer.values[value.uid] = replace(names[i], type=value.type)
        uses = count_uses(template.body, template.outputs)
        for uid, number in uses.items():
            writer.uses[uid] += number
        # What the body reads in every turn must not be given away in the first.
        steady = [v.uid for i, v in enumerate(template.inputs) if i not in (self._carried() or {})]
        for uid in steady:
            writer.uses[uid] += 1
        writer.author.update(note_names(template.body))
        self.owner.loop_children.append({"": module} if self.entry is not None else {})
        saved = writer.locals
        writer.locals = writer.locals | frozenset(self.loop.targets)
        try:
            writer.write(template.body)
            results = []
            for i, value in enumerate(template.outputs):
                operand = writer.logical(writer.operand(value))
                name = self.variables[i]
                if operand.text != name:
                    writer.bind(value.uid, operand, name)
                    writer.uses[value.uid] += 1  # later assignments of this turn must leave it alone
                writer.taken.add(name)
                results.append(Operand(name, turn.outputs[i].type, operand.order))
        finally:
            writer.locals = saved
            self.owner.loop_children.pop()
        for uid in steady:
            writer.uses[uid] -= 1
        return results

    def _appends(self, results: list[Operand]) -> dict[int, str]:
        """Results of turns before the last that somebody reads later are collected in a list."""
        writer, loop = self.writer, self.loop
        wanted: dict[int, str] = {}
        inside = Counter(v.uid for turn in loop.turns for v in turn.inputs if isinstance(v, Value))
        for i in range(len(results)):
            later = sum(writer.uses[uid] - inside[uid] for uid in (turn.outputs[i].uid for turn in loop.turns[:-1]))
            if later > 0:
                wanted[i] = writer.fresh(f"{self._name(i)}s")
                writer.emit(f"{wanted[i]}.append({results[i].text})")
        return wanted

    def _leave(self, results: list[Operand], appended: dict[int, str]) -> None:
        writer, loop = self.writer, self.loop
        for turn in loop.turns[1:]:
            for value in turn.inputs:
                if isinstance(value, Value):
                    writer.uses[value.uid] -= 1
        for i, name in appended.items():
            if results[i].order == results[i].type.names and results[i].where is None:
                writer.collected[tuple(turn.outputs[i].uid for turn in loop.turns)] = name
        for number, turn in enumerate(loop.turns):
            for i, value in enumerate(turn.outputs):
                last = number == len(loop.turns) - 1
                text = results[i].text if last else f"{appended[i]}[{number}]" if i in appended else ""
                if text:
                    order = tuple(value.type.names[results[i].type.names.index(n)] for n in results[i].order)
                    writer.values[value.uid] = Operand(text, value.type, order)

    def _unrolled(self) -> None:
        writer, loop = self.writer, self.loop
        for turn in loop.turns:
            names = {}
            for i, value in enumerate(turn.inputs):
                assert isinstance(value, Value)
                names[i] = writer.logical(writer.operand(value))
            module = "" if self.entry is None else f"self.{self.owner.path(turn.entry or '')}"
            bindings = dict(self.owner.names.bindings)
            args = dict(turn.args)
            for target in loop.targets:
                if target in args and isinstance(args[target].value, (int, float, str, bool)):
                    self.owner.names.bindings[target] = Const(args[target].value)
            results = self._turn_once(turn, names, module)
            self.owner.names.bindings = bindings
            for value, result in zip(turn.outputs, results, strict=True):
                order = tuple(value.type.names[result.type.names.index(n)] for n in result.order)
                writer.values[value.uid] = replace(result, type=value.type, order=order)

    def _turn_once(self, turn: Call, names: dict[int, Operand], module: str) -> list[Operand]:
        saved, self.first = self.first, turn
        try:
            made = self._turn_class(turn)
            if made is not None:
                targets: list[str] = []
                for i in range(len(turn.outputs)):
                    targets.append(self._free(i, targets))
                arguments = [
                    self.writer.arranged(names[i], made.signature.inputs[i]).text for i in range(len(turn.inputs))
                ]
                arguments += [str(self.loop.turns.index(turn)) for _ in made.counters]
                arguments += [self.owner.child_text(entry.removeprefix(OUTER)) for entry in made.outers]
                self.writer.emit(f"{', '.join(targets)} = {module}({', '.join(arguments)})")
                return [
                    Operand(
                        t,
                        v.type,
                        tuple(
                            v.type.names[turn.template.outputs[i].type.names.index(n)]
                            for n in made.signature.outputs[i]
                        ),
                    )
                    for i, (t, v) in enumerate(zip(targets, turn.outputs, strict=True))
                ]
            writer, template = self.writer, turn.template
            for i, value in enumerate(template.inputs):
                writer.values[value.uid] = replace(names[i], type=value.type)
            for uid, number in count_uses(template.body, template.outputs).items():
                writer.uses[uid] += number
            writer.author.update(note_names(template.body))
            self.owner.loop_children.append({"": module} if self.entry is not None else {})
            writer.write(template.body)
            self.owner.loop_children.pop()
            return [
                replace(writer.logical(writer.operand(v)), type=turn.outputs[i].type)
                for i, v in enumerate(template.outputs)
            ]
        finally:
            self.first = saved

    def _free(self, out: int, others: list[str]) -> str:
        name = identifier(self._name(out))
        if name in others:
            name = self.writer.fresh(name)
        self.writer._clear(name)
        self.writer.taken.add(name)
        return name


def _shape_of(template: Template, classes: Classes) -> Any:
    """What the body of a turn does, without its numbers: turns that do the same are written once."""

    def go(body: tuple[Statement, ...]) -> list[Any]:
        shape: list[Any] = []
        for statement in body:
            match statement:
                case Call(template=child, inputs=inputs):
                    shape.append(("call", classes.of(child).signature, len(inputs)))
                case Branch(then=then, otherwise=otherwise):
                    shape.append(("if", go(then or ()), go(otherwise or ())))
                case Repeat(turns=turns):
                    shape.append(("loop", [go(t.template.body) for t in turns[:1]]))
                case _:
                    op = getattr(statement, "op", None)
                    shape.append((type(statement).__name__, getattr(op, "name", None), _numbers(op)))
        return shape

    return go(template.body)


def _numbers(op: Any) -> Any:
    """An operation's arguments as the module would compute them."""
    from archc.elaborate.frame import rewrite

    seen: list[str] = []

    def note(sym: Sym) -> Sym:
        seen.append(repr([p for p in walk(sym) if not (isinstance(p, Const) and False)]))
        return sym

    if op is not None:
        rewrite(op, note)
    return [text for text in seen if "Extent" not in text]
