"""Writing the body of one method: statements of the graph become Python statements.

A value that is used once stays an expression inside its user; the author's names, and values that are used more than
once, become variables. A name is only taken again when nothing still needs what it held.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, replace
from typing import Any

from archc.backend.layout import lay_out
from archc.backend.needs import Needs
from archc.backend.operand import Operand
from archc.backend.python import Expressions, identifier, literal
from archc.fusion.families import family
from archc.ir.graph import (
    OUTER,
    Apply,
    Assign,
    Branch,
    Call,
    Drawn,
    Fused,
    Merge,
    Owned,
    Relabel,
    Repeat,
    Statement,
    Value,
)
from archc.ir.sym import Const, Extent, Scalar, Sym, Var, substitute
from archc.ir.types import Dim, TensorType
from archc.ops.emission import bound
from archc.records import dataclass
from archc.where.text import QUERIES

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
        self.collected: dict[tuple[int, ...], str] = {}  # results of all turns of a loop, and the list that has them
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

    def save(self, uid: int) -> None:
        """Give a value a variable of its own, which nothing else is assigned to."""
        operand, known = self.values[uid], self.author.get(uid)
        name = identifier(known) if known else ""
        target = self.fresh(f"{operand.text}_in" if operand.text.isidentifier() else "kept")
        if name and name not in self.taken:
            self.taken.discard(target)
            target = name
            self.taken.add(name)
        self.emit(f"{target} = {operand.text}")
        for other, held in list(self.values.items()):
            if held.text == operand.text:
                self.values[other] = replace(held, text=target, binding=100)

    def overwritten(self, lines: list[Line], needed: Counter[int]) -> list[int]:
        """The values that are `needed` and that `lines`, which may run again or not at all, assign something else to."""
        names = assigned_in(lines)
        return [
            uid
            for uid, operand in self.values.items()
            if needed[uid] > 0 and any(self._mentions(operand, name) for name in names)
        ]

    def snapshot(self) -> tuple[Any, ...]:
        tables = (dict(self.values), dict(self.author), dict(self.known), dict(self.collected))
        return (tables, set(self.taken), Counter(self.uses), list(self.lines))

    def restore(self, state: tuple[Any, ...]) -> None:
        tables, taken, uses, lines = state
        self.values, self.author, self.known, self.collected = (dict(table) for table in tables)
        self.taken = set(taken)
        self.uses.clear()
        self.uses.update(uses)
        self.lines[:] = lines

    def bind(self, uid: int, operand: Operand, name: str, comment: str = "") -> None:
        """`name = operand`, and the value is known by the name from here on."""
        name = identifier(name)
        if name == self.anchor and operand.type.dtype != "float":
            name = self.fresh(name)  # new tensors get the anchor's dtype
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
            case Fused():
                self._fused(statement)
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
        made = statement.op.torch(self, *operands, *self.drawn(statement))
        results = made if isinstance(made, tuple) else (made,)
        first, *others = results
        if others:
            self._unpack(statement, results, mark)
            return
        self._keep(statement.outputs[0], replace(first, type=statement.outputs[0].type), statement.op.name)

    def drawn(self, statement: Apply) -> tuple[Operand, ...]:
        """What an operation is given that another one has drawn."""
        return ()

    def _fused(self, statement: Fused) -> None:
        """A call of the operator that computes several operations at once."""
        source = self.values[statement.inputs[0].uid]  # read below, as often as it is counted
        statement = family(statement.family).laid_out(statement, source.order if source.where is None else ())
        order = family(statement.family).order

        def operand(value: Value) -> Operand:
            given, wanted = self.operand(value), order(statement, value)
            # What lies in the form of a region may be asked for as it is.
            return (given if QUERIES in wanted else given.merged(self)).to(wanted)

        if any(isinstance(tensor, Drawn) for tensor in statement.tensors):
            source = bound(self, operand(statement.inputs[0]), "x")
            self.values[statement.inputs[0].uid] = source
            self.uses[statement.inputs[0].uid] += 1
        texts = []
        weights = {tensor.entry: [] for tensor in statement.tensors if isinstance(tensor, Owned)}
        for tensor in statement.tensors:
            if isinstance(tensor, Owned):
                weights[tensor.entry].append(tensor.name)
        for tensor in statement.tensors:
            if isinstance(tensor, Owned):
                # A module stands for its weight and its bias.
                child, names = self.owner.child_text(tensor.entry), weights[tensor.entry]
                if names not in (["weight"], ["weight", "bias"]):
                    texts.append(f"{child}.{tensor.name}")
                elif tensor.name == "weight":
                    texts.append(child)
            elif isinstance(tensor, Drawn):
                texts.append(tensor.step.op.drawn(self, source))
            else:
                texts.append(operand(tensor).text)
        texts += [self.number(number) for number in statement.numbers]
        call = f"{self.needs.kernels.of(statement)}({', '.join(texts)})"
        if len(statement.outputs) == 1:
            value = statement.outputs[0]
            self._keep(value, Operand(call, value.type, order(statement, value)), statement.steps[-1].op.name)
            return
        mark, name = len(self.lines), self.let(call, "parts")
        results = tuple(
            Operand(f"{name}[{at}]", value.type, order(statement, value)) for at, value in enumerate(statement.outputs)
        )
        self._unpack(statement, results, mark)

    def _unpack(self, statement: Apply | Fused, results: tuple[Operand, ...], mark: int) -> None:
        """Several results: where they are items of one variable, take it apart in one line."""
        names: list[str] = []
        texts = [r.text for r in results]
        last = self.lines[-1] if len(self.lines) > mark else None
        source = last.text.split(" = ", 1)[0] if last else ""
        if last and texts == [f"{source}[{i}]" for i in range(len(texts))]:
            self.lines.pop()
            right = last.text.split(" = ", 1)[1]
            self.taken.discard(source)
            self._forget(source)
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
            self._keep(value, replace(result, type=value.type), statement.op.name if isinstance(statement, Apply) else "part")

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
            self._keep(value, Operand(call, value.type, order), (statement.entry or "x").lstrip(OUTER))
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
        inside = count_uses((statement,), ())
        after = Counter({uid: number - inside[uid] for uid, number in self.uses.items()})
        start = self.snapshot()
        moved: dict[int, str] = {}
        for _ in range(MOST_TRIES):
            names = {m.name: self._merge_name(m, after, moved) for m in statement.merges if self.uses[m.result.uid] > 0}
            before = self.snapshot()
            pieces, results = self._arms(statement, names, after)
            self.restore(before)
            lost = self.overwritten([line for piece in pieces for line in piece], after)
            if not lost:
                break
            # An arm takes a variable that somebody needs behind the branch: the value moves before the branch.
            self.restore(start)
            for uid in lost:
                moved[uid] = self.values[uid].text
                self.save(uid)
            start = self.snapshot()
        else:
            raise AssertionError(statement.span)
        self.uses.clear()
        self.uses.update(after)
        for piece in pieces:
            self.taken |= assigned_in(piece)
        if pieces[0]:
            self.emit(f"if {condition}:")
            self.lines += pieces[0]
            if pieces[1]:
                self.emit("else:")
                self.lines += pieces[1]
        elif pieces[1]:
            self.emit(f"if {negated(condition)}:")
            self.lines += pieces[1]
        for name in assigned_in([line for piece in pieces for line in piece]):
            self._forget(name)
        self.values |= results

    def _arms(
        self, statement: Branch, names: dict[str, str], after: Counter[int]
    ) -> tuple[list[list[Line]], dict[int, Operand]]:
        """The lines of both arms, each of which ends with the merged values in the variables `names`."""
        pieces: list[list[Line]] = []
        results: dict[int, Operand] = {}
        for arm, side in ((statement.then, "then"), (statement.otherwise, "otherwise")):
            state = self.snapshot()
            merged = [(m, getattr(m, side)) for m in statement.merges if m.name in names]
            given = [(m, value) for m, value in merged if value is not None and arm is not None]
            self.uses.clear()
            self.uses.update(after + count_uses(arm or (), tuple(value for _, value in given)))
            outer, self.lines = self.lines, []
            with self.nested():
                self.write(arm or ())
                for merge, value in given:
                    name = names[merge.name]
                    operand = self.logical(self.operand(value))
                    if operand.text != name:
                        self._clear(name)
                        self.emit(f"{name} = {operand.text}", self.owner.comment(merge.result.type, statement.span))
                    self.values[merge.result.uid] = replace(operand, text=name, binding=100)
                    self.uses[merge.result.uid] = 1  # later assignments in this arm must leave it alone
                    results[merge.result.uid] = Operand(name, merge.result.type, operand.order)
            pieces.append(self.lines)
            self.lines = outer
            self.restore(state)
        return pieces, results

    def logical(self, operand: Operand) -> Operand:
        if operand.where is not None:
            operand = operand.where.merge(self, operand)
        return operand.to(operand.type.names)

    def _merge_name(self, merge: Merge, after: Counter[int], moved: Mapping[int, str]) -> str:
        """The variable that holds the result: the author's name, unless another value needs it afterwards.

        The variables from which values were `moved` hold them still.
        """
        name = identifier(merge.name)
        sides = [v for v in (merge.then, merge.otherwise) if v is not None]
        mine = {v.uid for v in sides}
        if any(after[uid] > 0 and self._mentions(o, name) for uid, o in self.values.items() if uid not in mine):
            name = self.fresh(name)
        # What an arm leaves alone holds the name before the branch.
        untouched = next((v for v in sides if v.uid in self.values), None)
        if untouched is not None:
            operand = self.logical(self.values[untouched.uid])
            if name not in (operand.text, moved.get(untouched.uid)):
                self._clear(name, frozenset({untouched.uid}))
                self.emit(f"{name} = {operand.text}")
            if not after[untouched.uid]:
                self.values[untouched.uid] = replace(operand, text=name, binding=100)
        self.taken.add(name)
        return name


MOST_TRIES = 16  # each moves a value to a variable of its own


def assigned_in(lines: list[Line]) -> set[str]:
    """The variables that lines assign to."""
    names: set[str] = set()
    for line in lines:
        if line.text.startswith("for "):
            names |= set(re.findall(r"\w+", line.text[4 : line.text.index(" in ")]))
            continue
        head, found, _ = line.text.partition(" = ")
        if found and re.fullmatch(r"[\w, ]+(: [^=]*)?", head):
            names |= set(re.findall(r"\w+", head.partition(":")[0]))
    return names


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
                case Fused(inputs=inputs, numbers=numbers):
                    see(inputs)
                    extents(numbers)
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
    """Drop assignments to names that nothing reads, and loops and branches that do nothing then."""
    while True:
        ends = _loop_ends(lines)
        kept: list[Line] = []
        read: set[str] = set()
        for at in range(len(lines) - 1, -1, -1):
            for start in ends.get(at, ()):  # what a turn leaves behind, the next turn may read
                read |= {name for line in lines[start : at + 1] for name in _read_in(line)}
            line = lines[at]
            match = _ASSIGNMENT.match(line.text)
            if match and match[1] not in read:
                continue
            kept.append(line)
            read |= _read_in(line)
        found = _without_empty(kept[::-1])
        if len(found) == len(lines):
            return found
        lines = found


_ASSIGNMENT = re.compile(r"(\w+) = (?!=)")


def _read_in(line: Line) -> set[str]:
    match = _ASSIGNMENT.match(line.text)
    return set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", line.text[match.end() :] if match else line.text))


def _loop_ends(lines: list[Line]) -> dict[int, list[int]]:
    """For each line that ends a loop, the lines at which these loops start."""
    ends: dict[int, list[int]] = {}
    for start, line in enumerate(lines):
        if line.text.startswith("for ") and line.text.endswith(":"):
            end = start
            while end + 1 < len(lines) and lines[end + 1].indent > line.indent:
                end += 1
            ends.setdefault(end, []).append(start)
    return ends


def _without_empty(lines: list[Line]) -> list[Line]:
    """Drop headers without a body. (An `if` that still has an `else` does nothing itself.)"""
    found: list[Line] = []
    for at, line in enumerate(lines):
        header = re.match(r"(for|if|else)\b.*:$", line.text)
        after = lines[at + 1] if at + 1 < len(lines) else None
        if header and (after is None or after.indent <= line.indent):
            if header[1] == "if" and after is not None and after.text == "else:" and after.indent == line.indent:
                found += [line, Line(line.indent + 4, "pass")]
            continue
        found.append(line)
    return found


def laid_out(lines: list[Line]) -> list[str]:
    return [text for line in lines for text in lay_out(line.indent, line.text, line.comment)]


__all__ = ["Callable", "ClassNames", "Line", "TensorType", "Writer", "count_uses", "laid_out", "note_names"]
