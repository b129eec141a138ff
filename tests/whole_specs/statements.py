"""Statements: what an author may write, one after the other. Others register theirs by `statement`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from whole_specs.author import Author, Type, Unfit
from whole_specs.library import LIBRARY
from whole_specs.operations import (
    MAP,
    OPERATIONS,
    TOKENS,
    Several,
    any_float,
    channelled,
    floating,
    generic,
    small,
    with_channels,
    within,
)

EVERYTHING: dict[str, Callable[[Author], Any]] = {**OPERATIONS, **LIBRARY}
MOST_ELEMENTS = 60_000

Statement = Callable[[Author, int], None]
# By what a spec must hold: how it is written, and how deep within other statements it may stand.
STATEMENTS: dict[str, tuple[Statement, int]] = {}


def statement(name: str, deepest: int) -> Callable[[Statement], Statement]:
    def add(write: Statement) -> Statement:
        def one(a: Author, depth: int) -> None:
            write(a, depth)
            a.uses(name)

        STATEMENTS[name] = one, deepest
        return one

    return add


def write(a: Author, count: int, depth: int = 0, must: str | None = None) -> None:
    """Some statements; `must`, an operation or a kind of statement, is written for certain."""
    if must in STATEMENTS:
        a.attempt(lambda: STATEMENTS[must][0](a, depth), 40)
    elif must is not None:
        a.attempt(lambda: assign(a, depth, must), 40)
    others = [one for one, deepest in STATEMENTS.values() if depth <= deepest]
    kinds = [assign] * max(12, len(others)) + others
    for _ in range(count):
        try:
            a.attempt(lambda: a.pick(kinds)(a, depth), 4)
        except Unfit:
            if a.source.tape.finished:
                raise


def assign(a: Author, depth: int, must: str | None = None) -> None:
    """`t = op(...)`"""
    name = must or a.pick(tuple(EVERYTHING))
    made = EVERYTHING[name](a)
    if isinstance(made, Several):
        for type in made.types:
            bounded(type)
        names = []
        for _ in made.types:
            a.frame.fresh += 1
            names.append(f"t{a.frame.fresh}")
        a.line(f"{', '.join(names)} = {made.text}")
        for target, type in zip(names, made.types, strict=True):
            a.bind(target, type)
        return
    bounded(made.type)
    target = a.name()
    a.line(f"{target} = {made.text}")
    a.bind(target, made.type)


def bounded(type: Type) -> None:
    """What may be bound: no taps, and not too large for an interpreter."""
    if "tap" in type or not small(type, MOST_ELEMENTS) or len(type.axes) > 6 or len(set(type.names)) < len(type.axes):
        raise Unfit


@statement("augment", deepest=9)
def augment(a: Author, depth: int) -> None:
    """`x += x |> f`, or with another tensor."""
    x = a.tensor(floating, MAP, TOKENS)
    sign = a.pick(["+=", "*="])
    if a.coin():
        y = a.tensor(lambda t: floating(t) and within(t, x.type))
        a.line(f"{x.text} {sign} {y.text}")
    else:
        op = a.pick(["tanh", "sigmoid", "silu"])
        a.uses(op)
        a.line(f"{x.text} {sign} {x.text} |> {op}")
    a.uses(sign)
    a.bind(x.text, x.type.exact())


@statement("alias", deepest=9)
def alias(a: Author, depth: int) -> None:
    """Another name for the same tensor."""
    x = any_float(a)
    target = a.name()
    a.line(f"{target} = {x.text}")
    a.bind(target, x.type)


@statement("swap", deepest=0)
def swap(a: Author, depth: int) -> None:
    """Two names change places."""
    names = list(a.frame.tensors)
    one = a.pick(names)
    two = a.pick(names)
    if one == two:
        raise Unfit
    a.line(f"{one}, {two} = {two}, {one}")
    types, unread = a.frame.tensors, a.frame.unread
    types[one], types[two] = types[two], types[one]
    if (one in unread) != (two in unread):
        new = one if two in unread else two
        unread.pop(one, None)
        unread.pop(two, None)
        unread[new] = None


@statement("comprehension", deepest=9)
def comprehension(a: Author, depth: int) -> None:
    """`a, b = [f(t) for t in (x, y)]`"""
    x, y = generic(a), generic(a)
    op = a.pick(["relu", "tanh", "abs"])
    a.uses(op, "comprehension")
    one, two = a.name(), a.name()
    if one == two:
        raise Unfit
    over = a.pick([f"({x.text}, {y.text})", f"[{x.text}, {y.text}]"])
    a.line(f"{one}, {two} = [{op}(t) for t in {over}]")
    a.bind(one, x.type.exact())
    a.bind(two, y.type.exact())


@statement("list", deepest=0)
def collect(a: Author, depth: int) -> None:
    """A list that grows, and what stands in it."""
    x, y = any_float(a), any_float(a)
    a.frame.fresh += 1
    items = f"list{a.frame.fresh}"
    a.line(f"{items} = [{x.text}]")
    a.line(f"{items} += [{y.text}]")
    first, last = a.name(), a.name()
    if first == last:
        raise Unfit
    a.line(f"{first} = {items}[0] * 2")
    a.line(f"{last} = {items}[{a.pick([-1, 1])}] * 0.5")
    a.bind(first, x.type)
    a.bind(last, y.type)


@statement("fn", deepest=9)
def function(a: Author, depth: int) -> None:
    """A function of the file: of numbers, or of tensors."""
    if a.coin():
        x = any_float(a)
        a.functions.append("fn blended(x: tensor, y: tensor, s: float) = x * s + y * (1 - s)")
        y = a.tensor(lambda t: floating(t) and within(t, x.type))
        target = a.name()
        a.line(f"{target} = blended({x.text}, {y.text}, 0.25)")
        a.bind(target, x.type.exact())
        a.uses("fn of tensors")
        return
    a.functions.append("fn halved(n: int, least: int = 1) = max(least, (n + 1) // 2)")
    x = channelled(a)
    text, n = a.number([3, 5, 8, 1])
    out = max(1, (n + 1) // 2)
    label, said = a.label("linear")
    given = x.type.fixed("C") or 0
    a.owns(label, {"weight": (out, given), "bias": (out,)})
    type = x.type.resized(C=out).exact()
    a.costs(type.elements * given)
    target = a.name()
    a.line(f"{target} = {x.left} |> {said}linear(halved({text}))")
    a.bind(target, type)
    a.uses("fn of numbers", "linear")


# ---- what bodies share


def fold(a: Author, before: set[str], into: str) -> None:
    """What a body leaves unread goes into one tensor, so that nothing is computed for nothing."""
    for name in [n for n in a.frame.unread if n not in before and n != into]:
        type = a.frame.tensors[name]
        text = name if type.dtype == "float" else f"cast({name}, float)"
        axes = ", ".join(type.names)
        scalar = f"sum({text}, {axes})" if axes else text
        a.line(f"{into} = {into} + {scalar} * 0.01")
        a.frame.unread.pop(name)
        a.bind(into, a.frame.tensors[into].exact())
    a.frame.unread[into] = None


def carried_name(a: Author) -> str:
    """A tensor that a loop or branch changes."""
    names = [n for n, t in a.frame.tensors.items() if with_channels(t) and small(t, 20_000)]
    return a.pick(names)


def change(a: Author, name: str, weighted: bool) -> None:
    """A line that changes a tensor and keeps its type; where something is owned, with weights."""
    type = a.frame.tensors[name]
    a.frame.unread.pop(name, None)
    if weighted:
        width = type.fixed("C") or 0
        label, said = a.label("linear")
        a.owns(label, {"weight": (width, width), "bias": (width,)})
        a.costs(type.elements * width)
        a.line(
            f"{name} += {name} |> {said}linear({name}.C)" if a.coin() else f"{name} = {name} |> {said}linear({width})"
        )
        a.uses("linear")
    else:
        a.line(a.pick([f"{name} = tanh({name})", f"{name} = {name} * 0.5", f"{name} += {name} |> sigmoid"]))
    a.bind(name, type.exact())


def forget(a: Author, known: set[str]) -> None:
    """Names that a body bound alone are not used behind it."""
    for name in [n for n in a.frame.tensors if n not in known]:
        del a.frame.tensors[name]
        a.frame.unread.pop(name, None)
