"""A program as one flow of tensors: calls entered, loops unrolled, every operation where it runs.

What folds across the border of components is found here; `Instance` and `Node` remember where in the text they stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from archc.deploy.roles import Role
from archc.deploy.terms import Key, Made, Term
from archc.ir.dataflow import values
from archc.ir.graph import (
    OUTER,
    Apply,
    Branch,
    Call,
    ChildEntry,
    Entry,
    ListEntry,
    Operand,
    Relabel,
    Repeat,
    Statement,
    Template,
    Value,
    WeightEntry,
)
from archc.ir.program import Program
from archc.ir.types import TensorType
from archc.records import dataclass


@dataclass(eq=False)
class Instance:
    """One call of a template. Its weights have the prefix `prefix`; `children` are the calls in it, by statement."""

    template: Template
    prefix: str
    around: Instance | None
    live: bool
    owns: bool  # whether weights can be added to it: methods of the model, and what has no entry, own nothing
    nodes: dict[int, Node] = field(default_factory=dict)  # by identity of the statement
    children: dict[int, Instance] = field(default_factory=dict)

    def owner(self, entry: str) -> tuple[Instance, str]:
        """The instance whose entry it is, and its name there."""
        instance = self
        while entry.startswith(OUTER):
            assert instance.around is not None
            instance, entry = instance.around, entry.removeprefix(OUTER)
        return instance, entry


@dataclass(eq=False)
class Node:
    """An operation in an instance; without a statement, something else that reads tensors and says nothing of it.

    `inputs` are tensors, lists taken apart; `key` is the prefix of its weights.
    """

    number: int
    instance: Instance | None
    statement: Apply | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    role: Role | None = None
    key: str = ""
    terms: tuple[Term | None, ...] = ()  # what operands are made of, where they depend on weights alone


@dataclass(eq=False)
class Flat:
    """Tensors are numbered in an order in which they can be computed."""

    nodes: list[Node] = field(default_factory=list)
    types: list[TensorType] = field(default_factory=list)
    maker: dict[int, Node] = field(default_factory=dict)
    readers: dict[int, list[tuple[Node, int]]] = field(default_factory=dict)
    terms: dict[int, Term] = field(default_factory=dict)
    instances: list[Instance] = field(default_factory=list)
    roots: dict[int, Instance] = field(default_factory=dict)  # by identity of the template


def flatten(program: Program) -> Flat:
    """The flow of the model, and of each of its further methods."""
    walk = _Walk()
    for template in (program.root, *(entry.template for entry in program.entry_points)):
        known = {value.uid: walk.tensor(value.type) for value in template.inputs}
        instance = walk.enter(template, "", None, True, template is program.root, known)
        walk.flat.roots.setdefault(id(template), instance)
        ends = [known[value.uid] for value in template.outputs]
        if template is program.root:
            found = (output.value for output in program.outputs)
            ends += [known[value.uid] for value in values(tuple(found))]
        walk.node(None, None, tuple(dict.fromkeys(ends)), ())
    return walk.flat


class _Walk:
    def __init__(self) -> None:
        self.flat = Flat()

    def tensor(self, type: TensorType) -> int:
        self.flat.types.append(type)
        return len(self.flat.types) - 1

    def node(
        self, instance: Instance | None, statement: Apply | None, inputs: tuple[int, ...], outputs: tuple[int, ...]
    ) -> Node:
        made = Node(len(self.flat.nodes), instance, statement, inputs, outputs)
        self.flat.nodes.append(made)
        for place, tensor in enumerate(inputs):
            self.flat.readers.setdefault(tensor, []).append((made, place))
        for tensor in outputs:
            self.flat.maker[tensor] = made
        return made

    def enter(
        self, template: Template, prefix: str, around: Instance | None, live: bool, owns: bool, known: dict[int, int]
    ) -> Instance:
        """Runs a call whose inputs are `known` tensors by uid, and adds all that it makes to them."""
        instance = Instance(template, prefix, around, live, owns)
        self.flat.instances.append(instance)
        self.body(template.body, instance, live, known)
        return instance

    def body(self, body: Iterable[Statement], instance: Instance, live: bool, known: dict[int, int]) -> None:
        for statement in body:
            match statement:
                case Apply():
                    self.apply(statement, instance, live, known)
                case Call():
                    self.call(statement, instance, live, known)
                case Relabel(input=source, output=target):
                    known[target.uid] = known[source.uid]
                case Repeat(turns=turns):
                    for turn in turns:
                        self.call(turn, instance, live, known)
                case Branch(taken=taken, then=then, otherwise=otherwise, merges=merges):
                    self.body(then or (), instance, live and taken is not False, known)
                    self.body(otherwise or (), instance, live and taken is not True, known)
                    for merge in merges:
                        arms = [v for v in (merge.then, merge.otherwise) if v is not None and v.uid in known]
                        known[merge.result.uid] = self.tensor(merge.result.type)
                        read = tuple(dict.fromkeys(known[v.uid] for v in arms))
                        self.node(None, None, read, (known[merge.result.uid],))
                case _:
                    pass

    def call(self, call: Call, instance: Instance, live: bool, known: dict[int, int]) -> None:
        owner, name = instance.owner(call.entry or "")
        given = zip(call.template.inputs, call.inputs, strict=True)
        inner = {taken.uid: known[value.uid] for taken, value in given if isinstance(value, Value)}
        prefix = f"{owner.prefix}{name}." if name else owner.prefix
        owns = call.entry is not None and any(_holds(entry, name, call.template) for entry in owner.template.entries)
        instance.children[id(call)] = self.enter(call.template, prefix, instance, live, owns, inner)
        for made, result in zip(call.template.outputs, call.outputs, strict=True):
            known[result.uid] = inner[made.uid]

    def apply(self, statement: Apply, instance: Instance, live: bool, known: dict[int, int]) -> None:
        flat, op = self.flat, statement.op
        read = tuple(known[value.uid] for value in values(statement.inputs))
        if op.idle:
            for value in statement.outputs:
                known[value.uid] = read[0]
            instance.nodes[id(statement)] = Node(-1, instance, statement, read[:1], ())
            return
        for value in statement.outputs:
            known[value.uid] = self.tensor(value.type)
        node = self.node(instance, statement, read, tuple(known[v.uid] for v in statement.outputs))
        instance.nodes[id(statement)] = node
        declared = False
        if statement.entry is not None:
            owner, name = instance.owner(statement.entry)
            node.key = f"{owner.prefix}{name}." if name else owner.prefix
            declared = any(_declares(entry, name) for entry in owner.template.entries)
        simple = all(isinstance(operand, Value) for operand in statement.inputs) and len(statement.outputs) == 1
        if not simple:
            return
        node.terms = tuple(flat.terms.get(tensor) for tensor in read)
        kinds = tuple(value.type for value in values(statement.inputs))
        node.role = op.channels(kinds, tuple(term is not None for term in node.terms))
        sides = tuple(term for term in node.terms if term is not None)
        if declared:
            flat.terms[node.outputs[0]] = Key(node.key.removesuffix("."))
        elif kinds and len(sides) == len(kinds) and not node.key:
            flat.terms[node.outputs[0]] = Made(op, sides, kinds)


def _holds(entry: Entry, name: str, template: Template) -> bool:
    """Whether the weights of `template` are under `name` in what `entry` holds."""
    match entry:
        case ChildEntry():
            return entry.name == name and entry.template is template
        case ListEntry(items=items):
            return any(
                f"{entry.name}.{number}" == name and isinstance(item, ChildEntry) and item.template is template
                for number, item in enumerate(items)
            )
        case _:
            return False


def _declares(entry: Entry, name: str) -> bool:
    """Whether `entry` is a tensor of numbers, called `name`, that a component declares and a state dict holds."""
    if not isinstance(entry, WeightEntry) or entry.name != name:
        return False
    return entry.weight.kind in ("param", "buffer") and entry.weight.dtype == "float"


def operand_of(operands: tuple[Operand, ...], place: int) -> Value:
    """The tensor at a place among operands, lists taken apart."""
    return list(values(operands))[place]
