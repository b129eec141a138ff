"""Numbers that a text only hands on: they change what operations compute, and nothing of what is built.

Where the rate of stochastic depth grows from block to block, the blocks are still one template: nothing but
`dropout` reads the rate, and dropout has the same type, cost and text whatever it is. Which fields of operations are
like that, the operations say (`arg(..., inert=...)`); that a name ends in no other place is read off the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import field, fields
from typing import Any

from archc.elaborate.binding import is_tensor_decl
from archc.elaborate.reading import assigned_names, names_in
from archc.elaborate.values import ComponentRef, FileNames
from archc.ir.sym import Scalar
from archc.ops.base import Op, parameters
from archc.ops.table import OPERATIONS
from archc.records import dataclass
from archc.syntax import tree

Admits = Callable[[Any], bool]


class _Elsewhere(Exception):
    """A name is read in a place that may depend on its value."""


@dataclass(frozen=True)
class Handed:
    """An argument of a call, and what the places where it ends admit."""

    expr: tree.Expr
    admits: tuple[Admits, ...]

    def allows(self, value: Any) -> bool:
        return type(value) in (int, float) and all(admits(value) for admits in self.admits)


def is_inert(ref: ComponentRef, name: str, value: Any, known: dict[Any, Any]) -> bool:
    """Whether the component is built the same for this value of its parameter as for all others that are inert.

    `known` remembers what was read off the texts.
    """
    ends = _ends(ref, name, known) if isinstance(value, Scalar) else None
    return ends is not None and all(handed.allows(value.value) for handed in ends)


def handed_on(
    text: Any, names: frozenset[str], file: FileNames, local: frozenset[str], known: dict[Any, Any]
) -> tuple[Handed, ...] | None:
    """The arguments in which a text mentions `names`; None where it also reads them elsewhere.

    What is called by one of the `local` names is not looked at.
    """
    with suppress(_Elsewhere):
        reading = _Reading(names, file, local, known)
        found = tuple(reading.walk(text))
        return found if not names & reading.hidden else None
    return None


def _ends(ref: ComponentRef, name: str, known: dict[Any, Any]) -> tuple[Handed, ...] | None:
    """Where a parameter of a component ends, as it is; None where its value may decide something."""
    key = (ref, name)
    if key not in known:
        known[key] = None  # for a component that uses itself, which is refused elsewhere
        text = ref.tree
        assigned = assigned_names(text.body)
        local = frozenset((*assigned, *(p.name for p in text.parameters)))
        everything = (text.parameters, text.results, text.body)
        found = handed_on(everything, frozenset({name}), ref.file, local, known) if name not in assigned else None
        if found is not None and all(isinstance(handed.expr, tree.Name) for handed in found):
            known[key] = found
    return known[key]


@dataclass(eq=False)
class _Reading:
    """Looks for names in a text."""

    names: frozenset[str]
    file: FileNames
    local: frozenset[str]
    known: dict[Any, Any]
    hidden: set[str] = field(default_factory=set)  # names that comprehensions bind

    def walk(self, node: Any) -> Iterator[Handed]:
        match node:
            case tree.Name(name=name):
                if name in self.names:
                    raise _Elsewhere
            case tree.Pipe(left=left, right=right):
                yield from self.walk(left)
                right = _bare(right.call if isinstance(right, tree.Labelled) else right)
                yield from self.call(right, True) if isinstance(right, tree.Call) else self.walk(right)
            case tree.Call():
                yield from self.call(node, False)
            case tuple():
                for item in node:
                    yield from self.walk(item)
            case tree.Node():
                if isinstance(node, tree.Comprehension):
                    self.hidden |= set(node.targets)
                for part in fields(node):
                    if part.name != "span":
                        yield from self.walk(getattr(node, part.name))

    def call(self, call: tree.Call, piped: bool) -> Iterator[Handed]:
        """The arguments of a call, each with the names or without them."""
        yield from self.walk(call.function)
        for argument in call.arguments:
            value = _bare(argument.value)
            if self.names.isdisjoint(names_in(value)):
                yield from self.walk(value)
            else:
                yield Handed(value, self.admits(call, piped, argument))

    def admits(self, call: tree.Call, piped: bool, argument: tree.Argument) -> tuple[Admits, ...]:
        """What the parameter of the callee that takes an argument admits."""
        if not piped and (call.arguments[0] is argument or call.arguments[0].keyword is not None):
            raise _Elsewhere  # without a tensor the call makes a recipe
        keywords = {a.keyword for a in call.arguments if a.keyword is not None}
        place = [a for a in call.arguments if a.keyword is None].index(argument) if argument.keyword is None else -1
        place += piped  # what is piped takes the first place
        match self.callee(call.function):
            case ComponentRef() as ref:
                declared = [p for p in ref.tree.parameters if p.name not in keywords]
                if not is_tensor_decl(declared[0].type) or any(isinstance(p.type, tree.ListDecl) for p in declared):
                    raise _Elsewhere
                taken = argument.keyword or (declared[place].name if place < len(declared) else "")
                ends = _ends(ref, taken, self.known) if taken in {p.name for p in ref.tree.parameters} else None
                if ends is None:
                    raise _Elsewhere
                return tuple(dict.fromkeys(admits for handed in ends for admits in handed.admits))
            case op:
                found = [f for f in parameters(op) if f.name not in keywords]
                if len(op.operands.split()) != 1 or any(f.kind in ("axes", "sizes") for f in found):
                    raise _Elsewhere
                taken = argument.keyword or (found[place - 1].name if 0 < place <= len(found) else "")
                admits = next((f.inert for f in parameters(op) if f.name == taken), None)
                if admits is None:
                    raise _Elsewhere
                return (admits,)

    def callee(self, function: tree.Expr) -> ComponentRef | type[Op]:
        """The component or operation that a call names, unless something nearer may go by the name."""
        function = _bare(function)
        if not isinstance(function, tree.Name) or function.name in self.local | self.hidden:
            raise _Elsewhere
        found = self.file.names.get(function.name, OPERATIONS.get(function.name))
        if not isinstance(found, (ComponentRef, type)):
            raise _Elsewhere
        return found


def _bare(expr: tree.Expr) -> tree.Expr:
    while isinstance(expr, tree.Paren):
        expr = expr.expr
    return expr
