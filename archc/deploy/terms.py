"""How a folded tensor is made of the tensors of the network as it was trained: expressions over state-dict keys.

A term is a number, or a tensor with at most one axis. Terms are compared by what they say.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

from archc.ir.types import TensorType
from archc.records import dataclass


class Term:
    """What all terms share: arithmetic, which leaves out what does nothing."""

    def __add__(self, other: Term) -> Term:
        return other if self == ZERO else self if other == ZERO else Arithmetic("+", self, other)

    def __sub__(self, other: Term) -> Term:
        return self if other == ZERO else Arithmetic("-", self, other)

    def __mul__(self, other: Term) -> Term:
        if ZERO in (self, other):
            return ZERO
        for one, another in ((self, other), (other, self)):
            if one == ONE:
                return another
            if isinstance(one, Arithmetic) and (one.symbol, one.left) == ("/", ONE):
                return another / one.right
        return Arithmetic("*", self, other)

    def __truediv__(self, other: Term) -> Term:
        return self if other == ONE else Arithmetic("/", self, other)

    def root(self) -> Term:
        """The square root."""
        return Arithmetic("**", self, Number(0.5))


@dataclass(frozen=True)
class Number(Term):
    value: int | float


@dataclass(frozen=True)
class Own(Term):
    """A weight of the operation that speaks, by its name there."""

    name: str


@dataclass(frozen=True)
class Side(Term):
    """An operand of the operation that speaks, by its place."""

    place: int


@dataclass(frozen=True)
class Key(Term):
    """A tensor of the state dict."""

    key: str


@dataclass(frozen=True)
class Arithmetic(Term):
    """An operator of Python."""

    symbol: str
    left: Term
    right: Term


@dataclass(frozen=True)
class Made(Term):
    """The result of an operation without weights; `types` are those of its operands."""

    op: Any
    sides: tuple[Term, ...]
    types: tuple[TensorType, ...]


ZERO, ONE = Number(0), Number(1)
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow}


def placed(term: Term, own: str, sides: tuple[Term | None, ...]) -> Term:
    """What an operation says of itself, where its weights have the prefix `own` and its operands are `sides`."""
    match term:
        case Own(name):
            return Key(own + name)
        case Side(place):
            side = sides[place]
            assert side is not None
            return side
        case Arithmetic(symbol, left, right):
            return Arithmetic(symbol, placed(left, own, sides), placed(right, own, sides))
        case _:
            return term


def keys(term: Term) -> Iterator[str]:
    """The state-dict keys that a term reads, in order, some of them more than once."""
    match term:
        case Key(key):
            yield key
        case Arithmetic(_, left, right):
            yield from keys(left)
            yield from keys(right)
        case Made(_, sides, _):
            for side in sides:
                yield from keys(side)
        case _:
            pass


def number(term: Term) -> int | float | None:
    """The number that a term is, None where it reads tensors."""
    match term:
        case Number(known):
            return known
        case Arithmetic(symbol, left, right):
            a, b = number(left), number(right)
            return None if a is None or b is None else OPERATORS[symbol](a, b)
        case _:
            return None


def value(term: Term, tensors: Mapping[str, Any]) -> Any:
    """The tensor in float64 (or the number) that a term stands for."""
    import torch

    match term:
        case Number(known):
            return known
        case Key(key):
            return tensors[key].to(torch.float64)
        case Arithmetic(symbol, left, right):
            return OPERATORS[symbol](value(left, tensors), value(right, tensors))
        case Made(op, sides, types):
            from archc.reference.named import Named, Run

            given = [Named(value(side, tensors), kind.names, kind) for side, kind in zip(sides, types, strict=True)]
            return op.reference(Run(torch, {}, {}), *given).data
    raise AssertionError(term)
