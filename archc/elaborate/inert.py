"""Numbers that a component only hands on: they change what its operations compute, and nothing of what is built.

Where the rate of stochastic depth grows from block to block, the blocks are still one template: nothing but
`dropout` reads the rate, and dropout has the same type, cost and text whatever it is. Which fields of operations are
like that, the operations say (`arg(..., inert=...)`); that a parameter ends in no other place is read off the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import field, fields
from typing import Any

from archc.elaborate.binding import is_tensor_decl
from archc.elaborate.reading import assigned_names
from archc.elaborate.values import ComponentRef
from archc.ir.sym import Scalar
from archc.ops.base import Op, parameters
from archc.ops.table import OPERATIONS
from archc.records import dataclass
from archc.syntax import tree

Admits = Callable[[Any], bool]


class _Elsewhere(Exception):
    """The parameter is read in a place that may depend on its value."""


def is_inert(ref: ComponentRef, name: str, value: Any, known: dict[Any, Any]) -> bool:
    """Whether the component is built the same for this value of its parameter as for all others that are inert.

    `known` remembers what was read off the texts.
    """
    if not isinstance(value, Scalar) or type(value.value) not in (int, float):
        return False
    ends = _ends(ref, name, known)
    return ends is not None and all(admits(value.value) for admits in ends)


def _ends(ref: ComponentRef, name: str, known: dict[Any, Any]) -> tuple[Admits, ...] | None:
    """What the places where a parameter ends admit; None where its value may decide something."""
    key = ("inert", ref, name)
    if key not in known:
        known[key] = None  # for a component that uses itself, which is refused elsewhere
        with suppress(_Elsewhere):
            known[key] = tuple(_Reading(ref, name, known).ends())
    return known[key]


@dataclass(eq=False)
class _Reading:
    """Looks for a parameter in the text of its component."""

    ref: ComponentRef
    name: str
    known: dict[Any, Any]
    hidden: set[str] = field(default_factory=set)  # names that comprehensions bind

    def ends(self) -> Iterator[Admits]:
        component = self.ref.tree
        yield from self.walk((component.parameters, component.results, component.body))
        if self.name in self.hidden or self.name in assigned_names(component.body):
            raise _Elsewhere

    def walk(self, node: Any) -> Iterator[Admits]:
        match node:
            case tree.Name(name=name):
                if name == self.name:
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

    def call(self, call: tree.Call, piped: bool) -> Iterator[Admits]:
        """The arguments of a call, which may be the parameter itself."""
        yield from self.walk(call.function)
        for argument in call.arguments:
            value = _bare(argument.value)
            if isinstance(value, tree.Name) and value.name == self.name:
                yield from self.handed(call, piped, argument)
            else:
                yield from self.walk(value)

    def handed(self, call: tree.Call, piped: bool, argument: tree.Argument) -> Iterator[Admits]:
        """Where the parameter of a callee ends, to which the parameter is handed on as it is."""
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
                yield from ends
            case type() as op:
                found = [f for f in parameters(op) if f.name not in keywords]
                if len(op.operands.split()) != 1 or any(f.kind in ("axes", "sizes") for f in found):
                    raise _Elsewhere
                taken = argument.keyword or (found[place - 1].name if 0 < place <= len(found) else "")
                admits = next((f.inert for f in parameters(op) if f.name == taken), None)
                if admits is None:
                    raise _Elsewhere
                yield admits

    def callee(self, function: tree.Expr) -> ComponentRef | type[Op]:
        """The component or operation that a call names, unless something in this component may go by the name."""
        function, component = _bare(function), self.ref.tree
        if not isinstance(function, tree.Name):
            raise _Elsewhere
        name, parameters = function.name, {p.name for p in component.parameters}
        if name in self.hidden or name in parameters or name in assigned_names(component.body):
            raise _Elsewhere
        found = self.ref.file.names.get(name, OPERATIONS.get(name))
        if not isinstance(found, (ComponentRef, type)):
            raise _Elsewhere
        return found


def _bare(expr: tree.Expr) -> tree.Expr:
    while isinstance(expr, tree.Paren):
        expr = expr.expr
    return expr
