"""A tensor expression in the Python being written: its text, and which axis lies where.

The axes of a spec have names, those of torch an order. An operation's emission asks its operands for the order it
needs (`x.last("C")`, `x.to(("B", "C", "H", "W"))`) and says in which order its result lies; permutations appear
only where two orders meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

from archc.ir.types import TensorType
from archc.records import dataclass

# How tightly a Python expression binds; anything below ATOM needs parentheses before a `.` or a `[`.
ATOM, POWER, UNARY, PRODUCT, SUM, AND, OR, COMPARE, TERNARY = 100, 14, 12, 11, 10, 8, 7, 6, 1


class Form(Protocol):
    """The form of a region: the way into it, and back to the order of the type."""

    def merge(self, code: Any, x: Operand) -> Operand: ...
    def enter(self, code: Any, x: Operand) -> Operand | None: ...


@dataclass(frozen=True)
class Operand:
    """`order` names the physical axes, outermost first. `text` is an expression that binds as tightly as `binding`.

    A tensor over the taps of a region may lie in the region's own form (`where` is set): its position axes are then
    replaced by "@groups" (queries that share one set of keys) and "@queries" (the queries of a group); either may be
    missing, which means that the values are the same for all of them.
    """

    text: str
    type: TensorType
    order: tuple[str, ...]
    binding: int = ATOM
    where: Form | None = None

    @property
    def atom(self) -> str:
        """The text, ready for an attribute, a subscript or a call."""
        return self.text if self.binding == ATOM else f"({self.text})"

    def inside(self, binding: int) -> str:
        """The text as an operand of an operator that binds as tightly as `binding`."""
        return self.text if self.binding >= binding else f"({self.text})"

    def at(self, name: str) -> int:
        """Where the axis lies, counted from the front."""
        return self.order.index(name)

    def to(self, order: tuple[str, ...]) -> Operand:
        """The same tensor with its axes in `order` (all of them, by name)."""
        assert sorted(order) == sorted(self.order), (order, self.order)
        if order == self.order:
            return self
        steps = ", ".join(str(self.order.index(name)) for name in order)
        if (
            len(order) > 1
            and [n for n in self.order if n not in self._swapped(order)]
            == [n for n in order if n not in self._swapped(order)]
            and len(self._swapped(order)) == 2
        ):
            a, b = (self.order.index(name) for name in self._swapped(order))
            return replace(self, text=f"{self.atom}.transpose({a}, {b})", order=order, binding=ATOM)
        return replace(self, text=f"{self.atom}.permute({steps})", order=order, binding=ATOM)

    def _swapped(self, order: tuple[str, ...]) -> list[str]:
        return [a for a, b in zip(self.order, order, strict=True) if a != b]

    def last(self, *names: str) -> Operand:
        """The same tensor with the axes `names` innermost and the others as they lie."""
        return self.to(tuple(n for n in self.order if n not in names) + names)

    def logical(self) -> Operand:
        """The same tensor in the order of its type."""
        return self.to(self.type.names)

    def merged(self, code: Any) -> Operand:
        """The same tensor in no region's form."""
        return self if self.where is None else self.where.merge(code, self)

    def showing(self, code: Any, names: Iterable[str]) -> Operand:
        """The same tensor in a form in which the axes `names` are physical."""
        return self if all(name in self.order for name in names) else self.merged(code)

    def __str__(self) -> str:
        return self.text
