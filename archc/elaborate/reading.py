"""Which names a piece of text binds, and which it reads from around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Any

from archc.syntax import tree


def read_first(body: tuple[tree.Statement, ...], bound: frozenset[str]) -> frozenset[str]:
    """The names that statements may read before they bind them, where those in `bound` are bound already."""
    read: set[str] = set()
    for statement in body:
        match statement:
            case tree.Assign(targets=targets):
                read |= set(names_in(statement)) - bound
                bound |= set(targets)
            case tree.Augment(target=target):
                read |= {target, *names_in(statement)} - bound
                bound |= {target}
            case tree.Loop(targets=targets, body=inner):
                read |= set(names_in(statement.iterable)) - bound
                # There may be no turn, and then nothing is bound.
                read |= read_first(inner, bound | set(targets))
            case tree.If(then=then, otherwise=otherwise):
                read |= set(names_in(statement.condition)) - bound
                read |= read_first(then, bound) | read_first(otherwise, bound)
                bound |= set(assigned_names(then)) & set(assigned_names(otherwise))
            case _:
                read |= set(names_in(statement)) - bound
                bound |= set(assigned_names((statement,)))
    return frozenset(read)


def names_in(item: Any) -> Iterator[str]:
    """The names that an expression, or any piece of text, mentions."""
    if isinstance(item, tree.Name):
        yield item.name
    elif isinstance(item, tuple):
        for inner in item:
            yield from names_in(inner)
    elif isinstance(item, tree.Node):
        for part in parts(item):
            yield from names_in(part)


def parts(node: tree.Node) -> Iterator[Any]:
    """What a piece of text is made of: pieces of text, or tuples of them."""
    for name in _part_names(type(node)):
        part = getattr(node, name)
        if isinstance(part, (tree.Node, tuple)):
            yield part


@cache
def _part_names(kind: type[tree.Node]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.name != "span")


def nodes_in(item: Any) -> Iterator[tree.Node]:
    """A piece of text and all its parts."""
    if isinstance(item, tuple):
        for inner in item:
            yield from nodes_in(inner)
    elif isinstance(item, tree.Node):
        yield item
        for part in parts(item):
            yield from nodes_in(part)


def all_assigned(body: tuple[tree.Statement, ...]) -> list[str]:
    """The names that statements may bind, as often as they do."""
    names: list[str] = []
    for statement in body:
        match statement:
            case tree.Assign(targets=targets):
                names += targets
            case tree.Augment(target=target) | tree.Declare(name=target):
                names.append(target)
            case tree.Loop(targets=targets, body=inner):
                names += [*targets, *all_assigned(inner)]
            case tree.If(then=then, otherwise=otherwise):
                names += all_assigned(then) + all_assigned(otherwise)
            case tree.Bind(keyword=keyword, targets=targets):
                names += [f"next {t}" for t in targets] if keyword == "next" else targets
            case _:
                pass
    return names


def assigned_names(body: tuple[tree.Statement, ...]) -> list[str]:
    """The names that statements may bind, each once."""
    return list(dict.fromkeys(all_assigned(body)))
