"""Writing the body of one method: statements of the graph become Python statements.

A value that is used once stays an expression inside its user; the author's names, and values that are used more than
once, become variables. A name is only taken again when nothing still needs what it held.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from archc.backend.layout import lay_out
from archc.backend.needs import Needs
from archc.backend.operand import Operand
from archc.backend.python import Expressions, identifier, literal
from archc.ir.graph import Apply, Assign, Branch, Call, Merge, Relabel, Repeat, Statement, Value
from archc.ir.sym import Const, Extent, Scalar, Sym, Var, substitute
from archc.ir.types import Dim, TensorType

LONGEST = 110  # an expression longer than this gets a line of its own


@dataclass
class Line:
    indent: int
    text: str
    comment: str = ""


@dataclass
class ClassNames:
    """How the numbers of a class are read: in `__init__` by name, in other methods from `self`."""

    bindings: dict[str, Sym]
    inputs: set[str] = field(default_factory=set)  # optional inputs of the model, which are no numbers
    constructor: dict[str, Var] = field(default_factory=dict)  # variables that __init__ reads
    kept: dict[str, Var] = field(default_factory=dict)  # variables that other methods read from self
    lets: dict[str, Sym] = field(default_factory=dict)  # names the author gave to numbers

    def resolve(self, sym: Sym) -> Sym:
        return substitute(sym, self.bindings)


def short(sym: Sym) -> bool:
    """Whether an expression is better repeated than named."""
    from archc.ir.sym import Apply as SymApply
    from archc.ir.sym import walk

    parts = list(walk(sym))
    return sum(isinstance(p, SymApply) for p in parts) <= 1 and len(parts) <= 3 and not any(
        isinstance(p, SymApply) and (p.fn is not None or p.op in ("linspace", "list", "slice", "zip", "if")) for p in parts
    )  # fmt: skip


class Writer:
    """The statements of a method. It is the `Code` that the emission of operations asks."""

    def __init__(
        self, names: ClassNames, needs: Needs, owner: Any, uses: Counter[int], locals_: frozenset[str] = frozenset(),
        indent: int = 8,
    ) -> None:  # fmt: skip
        self.names, self.needs, self.owner, self.uses = names, needs, owner, uses
        self.locals = locals_
        self.indent = indent
        self.lines: list[Line] = []
        self.values: dict[int, Operand] = {}
        self.author: dict[int, str] = {}
        self.taken: set[str] = set()
        self.entry: str | None = None
        self.functional = False
        self.child_text: str | None = None
        self.expressions = Expressions(self._variable, self._extent, needs.helper, needs.define)
        self.known: dict[str, str] = {}  # expressions that a local name holds
        self.anchor = "x"  # an input of the method

    # ---- numbers (the `Code` protocol)

    def number(self, value: Scalar | Dim | Sym) -> str:
        if isinstance(value, Scalar):
            if isinstance(value.value, tuple) and isinstance(value.sym, Const):
                return literal(tuple(i.value for i in value.value))
            sym: Sym = value.sym
        elif isinstance(value, Dim):
            assert value.sym is not None, value
            sym = value.sym
        else:
            sym = value
        return self.expressions.write(self.names.resolve(sym))

    def _variable(self, var: Var) -> str:
        if var.name in self.names.inputs:
            return identifier(var.name)
        if var.name in self.locals:
            return identifier(var.name)
        if var.definition is not None:
            definition = self.names.resolve(var.definition)
            if short(definition) or isinstance(definition, Const):
                text = self.expressions.write(definition)
                return (
                    text if text.replace(".", "").replace("_", "").isalnum() else f"({text})" if " " in text else text
                )
        self.names.kept.setdefault(var.name, var)
        return f"self.{self.owner.attribute(var.name)}"

    def _extent(self, extent: Extent) -> str:
        operand = self.values[extent.value]
        name = operand.type.names[extent.axis]
        return self.extent(operand, name)

    def extent(self, x: Operand, axis: str) -> str:
        if axis in x.type:
            dim = x.type[axis].dim
            if dim.constant is not None and dim.sym is not None:
                return self.number(dim)
        if x.where is not None:
            x = x.where.merge(self, x)
        if not x.text.isidentifier():
            self._spill(x)
            x = self._named_again(x)
        return f"{x.atom}.shape[{x.at(axis)}]"

    def _spill(self, x: Operand) -> None:
        name = self.fresh("x")
        self.emit(f"{name} = {x.text}")
        for uid, known in list(self.values.items()):
            if known.text == x.text:
                self.values[uid] = replace(known, text=name, binding=100)
        self._renamed = name

    def _named_again(self, x: Operand) -> Operand:
        return replace(x, text=self._renamed, binding=100)

    @property
    def child(self) -> str:
        assert self.child_text is not None
        return self.child_text

    def weight(self, name: str) -> str:
        if self.functional or self.entry is None or self.entry == name:
            return f"self.{self.owner.attribute(name)}"
        return f"{self.child_text}.{name}"

    def helper(self, name: str) -> str:
        return self.needs.helper(name)

    def let(self, text: str, hint: str) -> str:
        """Bind an expression to a local name; the same expression again has the same name."""
        if text in self.known:
            return self.known[text]
        name = self.fresh(hint)
        self.emit(f"{name} = {text}")
        self.known[text] = name
        return name

    def beside(self, dtype: str) -> str:
        """The arguments that put a new tensor where the inputs of the method are."""
        kinds = {"float": f"dtype={self.anchor}.dtype", "int": "dtype=torch.long", "bool": "dtype=torch.bool"}
        return f"device={self.anchor}.device, {kinds[dtype]}"

    def _forget(self, name: str) -> None:
        """`name` gets another value: expressions that read it are not known any more."""
        pattern = re.compile(rf"(?<![\w.]){re.escape(name)}(?!\w)")
        self.known = {text: known for text, known in self.known.items() if known != name and not pattern.search(text)}

    # ---- lines and names

    def emit(self, text: str, comment: str = "") -> None:
        # A pair that is taken apart only to be put together again is the pair.
        text = re.sub(r"\(([\w.]+)\[0\], \1\[1\]\)", r"\1", text)
        self.lines.append(Line(self.indent, text, comment))

    @contextmanager
    def nested(self) -> Iterator[None]:
        self.indent += 4
        try:
            yield
        finally:
            self.indent -= 4

    def fresh(self, hint: str) -> str:
        """A name that nothing has had in this method yet."""
        base = identifier(re.sub(r"\W", "_", hint)) or "x"
        name, number = base, 2
        while name in self.taken:
            name, number = f"{base}{number}" if not base[-1].isdigit() else f"{base}_{number}", number + 1
        self.taken.add(name)
        return name

    def _mentions(self, operand: Operand, name: str) -> bool:
        return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", operand.text) is not None

    def _clear(self, name: str, but: frozenset[int] = frozenset()) -> None:
        """Before `name` gets a new value: move what is still needed of the old one elsewhere."""
        self._forget(name)
        for uid, operand in list(self.values.items()):
            if uid in but or self.uses[uid] <= 0 or not self._mentions(operand, name):
                continue
            known = self.author.get(uid)
            target = known if known and known != name and known not in self.taken else self.fresh(f"{name}_in")
            self.taken.add(target)
            self.emit(f"{target} = {operand.text}")
            for other, held in list(self.values.items()):
                if held.text == operand.text:
                    self.values[other] = replace(held, text=target, binding=100)

    def bind(self, uid: int, operand: Operand, name: str, comment: str = "") -> None:
        """`name = operand`, and the value is known by the name from here on."""
        name = identifier(name)
        if operand.text != name:
            self._clear(name, frozenset({uid}))
            self.emit(f"{name} = {operand.text}", comment)
            self._forget(name)
        self.taken.add(name)
        self.values[uid] = replace(operand, text=name, binding=100)

    # ---- values

    def operand(self, value: Value) -> Operand:
        self.uses[value.uid] -= 1
        found = self.values[value.uid]
        return replace(found, type=value.type) if found.where is None else found

    def _operands(self, item: Any) -> Any:
        if isinstance(item, tuple):
            return [self.operand(v) for v in item]
        return None if item is None else self.operand(item)

    # ---- statements

    def write(self, body: tuple[Statement, ...]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, statement: Statement) -> None:
        match statement:
            case Apply():
                self._apply(statement)
            case Call():
                self._call(
                    statement,
                    self.owner.child_text(statement.entry)
                    if statement.entry is not None
                    else f"self.{statement.template.name}",
                )
            case Relabel(input=source, output=target):
                operand = self.operand(source)
                names = dict(zip(source.type.names, target.type.names, strict=True))
                order = tuple(names.get(n, n) for n in operand.order)
                moved = replace(operand, order=order, type=target.type)
                if operand.where is not None:
                    moved = operand
                self._keep(target, moved, "")
            case Assign(name=name, value=value, span=span):
                self._assign(name, value, span)
            case Branch():
                self._branch(statement)
            case Repeat():
                self.owner.write_loop(self, statement)

    def _apply(self, statement: Apply) -> None:
        mark = len(self.lines)
        operands = [self._operands(i) for i in statement.inputs]
        self.entry = statement.entry
        entry = self.owner.entry(statement.entry)
        self.functional = bool(getattr(entry, "functional", False))
        self.child_text = None if statement.entry is None else self.owner.child_text(statement.entry)
        made = statement.op.torch(self, *operands)
        results = made if isinstance(made, tuple) else (made,)
        first, *others = results
        if others:
            self._unpack(statement, results, mark)
            return
        self._keep(statement.outputs[0], replace(first, type=statement.outputs[0].type), statement.op.name)

    def _unpack(self, statement: Apply, results: tuple[Operand, ...], mark: int) -> None:
        """Several results: where they are items of one variable, take it apart in one line."""
        names: list[str] = []
        texts = [r.text for r in results]
        last = self.lines[-1] if len(self.lines) > mark else None
        source = last.text.split(" = ", 1)[0] if last else ""
        if last and texts == [f"{source}[{i}]" for i in range(len(texts))]:
            self.lines.pop()
            right = last.text.split(" = ", 1)[1]
            self.taken.discard(source)
            for i, value in enumerate(statement.outputs):
                hint = self.author.get(value.uid, source.rstrip("s") or "part")
                name = identifier(hint)
                if name in self.taken and name not in names:
                    self._clear(name)
                if name in names or self.uses[value.uid] <= 0:
                    name = "_" if self.uses[value.uid] <= 0 else self.fresh(hint)
                self.taken.add(name)
                names.append(name)
                self.values[value.uid] = replace(results[i], text=name, type=value.type, binding=100)
            self.emit(f"{', '.join(names)} = {right}", self.owner.comment(statement.outputs[0].type, statement.span))
            return
        for value, result in zip(statement.outputs, results, strict=True):
            self._keep(value, replace(result, type=value.type), statement.op.name)

    def _keep(self, value: Value, operand: Operand, hint: str) -> None:
        """A new value: kept as an expression where it is used once, else as a variable."""
        self.values[value.uid] = operand
        if value.uid in self.author:
            return  # the author names it in the next statement
        many = self.uses[value.uid] > 1 and not re.fullmatch(r"[\w.]+", operand.text)
        if many or len(operand.text) > LONGEST:
            self.bind(value.uid, operand, self.fresh(hint or "x"), self.owner.comment(value.type, value.span))

    def _assign(self, name: str, value: Value | tuple[Value, ...], span: Any) -> None:
        if isinstance(value, tuple):
            return
        operand = self.values[value.uid]
        if re.fullmatch(r"[\w.]+", operand.text):
            self.author.setdefault(value.uid, name)
            return  # another name for a variable: no statement
        self.bind(value.uid, operand, name, self.owner.comment(value.type, span))

    def _call(self, statement: Call, text: str) -> None:
        operands = [self._operands(i) for i in statement.inputs]
        signature = self.owner.signature(statement)
        arguments = []
        for operand, order in zip(operands, signature.inputs, strict=True):
            arguments.append(self.arranged(operand, order).text)
        call = f"{text}({', '.join(arguments)})"
        if self.owner.checkpointed and (self.owner.loop_children or statement.template.role == "stage"):
            call = f"{self.helper('run')}({', '.join(['self.grad_checkpointing', text, *arguments])})"
        if len(statement.outputs) == 1:
            value = statement.outputs[0]
            order = self.outside_order(signature.outputs[0], statement, 0)
            self._keep(value, Operand(call, value.type, order), statement.entry or "x")
            return
        names = []
        for i, value in enumerate(statement.outputs):
            hint = self.author.get(value.uid) or statement.template.outputs[i].name or "y"
            name = identifier(hint)
            if name in self.taken and name not in names:
                self._clear(name)
            if name in names:
                name = self.fresh(hint)
            if self.uses[value.uid] <= 0:
                name = "_"
            self.taken.add(name)
            names.append(name)
            self.values[value.uid] = Operand(name, value.type, self.outside_order(signature.outputs[i], statement, i))
        self.emit(f"{', '.join(names)} = {call}", self.owner.comment(statement.outputs[0].type, statement.span))

    def outside_order(self, order: tuple[str, ...], statement: Call, i: int) -> tuple[str, ...]:
        """A result's order in the caller's axis names."""
        inner, outer = statement.template.outputs[i].type.names, statement.outputs[i].type.names
        names = dict(zip(inner, outer, strict=True))
        return tuple(names[n] for n in order)

    def arranged(self, operand: Operand, places: tuple[int, ...]) -> Operand:
        """An operand in the order that a method takes, given as places in the type."""
        if operand.where is not None:
            operand = operand.where.merge(self, operand)
        return operand.to(tuple(operand.type.names[p] for p in places))

    # ---- branches

    def _branch(self, statement: Branch) -> None:
        condition = self.number(statement.condition)
        arms = (statement.then, statement.otherwise)
        pieces: list[list[Line]] = []
        start_values, start_author = dict(self.values), dict(self.author)
        names = {m.name: self._merge_name(m) for m in statement.merges}
        # What an arm that leaves a name alone gives must hold the name before.
        for merge in statement.merges:
            for value in (merge.then, merge.otherwise):
                if value is not None and value.uid in start_values:
                    operand = self.logical(start_values[value.uid])
                    self.values[value.uid] = operand
        before_uses = Counter(self.uses)
        ends: list[Counter[int]] = []
        results: dict[int, Operand] = {}
        for arm, side in zip(arms, ("then", "otherwise"), strict=True):
            self.values, self.author = dict(start_values), dict(start_author)
            self.uses.clear()
            self.uses.update(before_uses)
            outer, self.lines = self.lines, []
            with self.nested():
                if arm is not None:
                    self.write(arm)
                    for merge in statement.merges:
                        value = getattr(merge, side)
                        if value is None or self.uses_of(merge) <= 0:
                            continue
                        operand = self.logical(self.values[value.uid])
                        if operand.text != names[merge.name]:
                            self._clear_later(names[merge.name])
                            self.emit(
                                f"{names[merge.name]} = {operand.text}",
                                self.owner.comment(merge.result.type, statement.span),
                            )
                        self.taken.add(names[merge.name])
                        results[merge.result.uid] = Operand(names[merge.name], merge.result.type, operand.order)
            pieces.append(self.lines)
            self.lines = outer
            ends.append(Counter(self.uses))
        for uid in before_uses:
            self.uses[uid] = min(end[uid] for end in ends)
        self.values, self.author = start_values, start_author
        if pieces[0]:
            self.emit(f"if {condition}:")
            self.lines += pieces[0]
            if pieces[1]:
                self.emit("else:")
                self.lines += pieces[1]
        elif pieces[1]:
            self.emit(f"if {negated(condition)}:")
            self.lines += pieces[1]
        for merge in statement.merges:
            if merge.result.uid in results:
                self.values[merge.result.uid] = results[merge.result.uid]

    def uses_of(self, merge: Merge) -> int:
        return self.uses[merge.result.uid]

    def logical(self, operand: Operand) -> Operand:
        if operand.where is not None:
            operand = operand.where.merge(self, operand)
        return operand.to(operand.type.names)

    def _merge_name(self, merge: Merge) -> str:
        name = identifier(merge.name)
        held = [uid for uid, o in self.values.items() if self._mentions(o, name) and self.uses[uid] > 0]
        mine = {v.uid for v in (merge.then, merge.otherwise) if v is not None}
        if any(uid not in mine and self.values[uid].text != name for uid in held):
            return self.fresh(name)
        untouched = next((v for v in (merge.then, merge.otherwise) if v is not None and v.uid in self.values), None)
        if untouched is not None and self.values[untouched.uid].text != name:
            operand = self.logical(self.values[untouched.uid])
            self._clear(name)
            self.emit(f"{name} = {operand.text}")
            self.taken.add(name)
            self.values[untouched.uid] = replace(operand, text=name, binding=100)
        return name

    def _clear_later(self, name: str) -> None:
        self.taken.add(name)


def negated(condition: str) -> str:
    if condition.startswith("not ") or re.fullmatch(r"[\w.]+", condition):
        return condition[4:] if condition.startswith("not ") else f"not {condition}"
    if condition.count(" in (") == 1 and " and " not in condition and " or " not in condition:
        return condition.replace(" in (", " not in (")
    for a, b in ((" == ", " != "), (" is not ", " is "), (" != ", " == "), (" >= ", " < "), (" <= ", " > ")):
        if condition.count(a) == 1 and " and " not in condition and " or " not in condition:
            return condition.replace(a, b)
    return f"not ({condition})"


def count_uses(body: tuple[Statement, ...], outputs: tuple[Value, ...]) -> Counter[int]:
    """How often each value is read; a relabelled value is read as often as its other name."""
    uses: Counter[int] = Counter()

    def see(item: Any) -> None:
        if isinstance(item, Value):
            uses[item.uid] += 1
        elif isinstance(item, (tuple, list)):
            for i in item:
                see(i)

    def extents(item: Any) -> None:
        from archc.elaborate.frame import rewrite

        def note(sym: Sym) -> Sym:
            from archc.ir.sym import walk

            for part in walk(sym):
                if isinstance(part, Extent):
                    uses[part.value] += 1
            return sym

        rewrite(item, note)

    def go(statements: tuple[Statement, ...]) -> None:
        for statement in statements:
            match statement:
                case Apply(op=op, inputs=inputs):
                    see(inputs)
                    extents(op)
                case Call(inputs=inputs):
                    see(inputs)
                case Relabel(input=source):
                    see(source)
                case Branch(then=then, otherwise=otherwise, merges=merges, condition=condition):
                    extents(condition)
                    go(then or ())
                    go(otherwise or ())
                    for merge in merges:
                        see([v for v in (merge.then, merge.otherwise) if v is not None])
                case Repeat(turns=turns):
                    for turn in turns:
                        see(turn.inputs)
                case _:
                    pass

    go(body)
    see(outputs)
    return uses


def note_names(body: tuple[Statement, ...]) -> dict[int, str]:
    """The first name that the author gives each value."""
    names: dict[int, str] = {}

    def go(statements: tuple[Statement, ...]) -> None:
        for statement in statements:
            match statement:
                case Assign(name=name, value=Value(uid=uid)):
                    names.setdefault(uid, name)
                case Branch(then=then, otherwise=otherwise):
                    go(then or ())
                    go(otherwise or ())
                case _:
                    pass

    go(body)
    return names


def without_unused(lines: list[Line]) -> list[Line]:
    """Drop assignments to names that nothing reads."""
    kept: list[Line] = []
    read: set[str] = set()
    for line in reversed(lines):
        match = re.match(r"(\w+) = (?!=)", line.text)
        if match and match[1] not in read:
            continue
        kept.append(line)
        body = line.text[match.end() :] if match else line.text
        read |= set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", body))
    return kept[::-1]


def laid_out(lines: list[Line]) -> list[str]:
    return [text for line in lines for text in lay_out(line.indent, line.text, line.comment)]


__all__ = ["Callable", "ClassNames", "Line", "TensorType", "Writer", "count_uses", "laid_out", "note_names"]
