"""Which names a piece of text reads from around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from archc.elaborate.assigning import assigned_names
from archc.syntax import tree


def read_first(body: tuple[tree.Statement, ...], bound: frozenset[str]) -> frozenset[str]:
    """The names that statements may read before they bind them, where those in `bound` are bound already."""
    read: set[str] = set()
    for statement in body:
        match statement:
            case tree.Assign(targets=targets):
                read |= set(_names(statement)) - bound
                bound |= set(targets)
            case tree.Augment(target=target):
                read |= {target, *_names(statement)} - bound
                bound |= {target}
            case tree.Loop(targets=targets, body=inner):
                read |= set(_names(statement.iterable)) - bound
                # There may be no turn, and then nothing is bound.
                read |= read_first(inner, bound | set(targets))
            case tree.If(then=then, otherwise=otherwise):
                read |= set(_names(statement.condition)) - bound
                read |= read_first(then, bound) | read_first(otherwise, bound)
                bound |= set(assigned_names(then)) & set(assigned_names(otherwise))
            case _:
                read |= set(_names(statement)) - bound
                bound |= set(assigned_names((statement,)))
    return frozenset(read)


def _names(item: Any) -> Iterator[str]:
    """The names that an expression, or any piece of text, mentions."""
    if isinstance(item, tree.Name):
        yield item.name
    elif isinstance(item, tuple):
        for inner in item:
            yield from _names(inner)
    elif isinstance(item, tree.Node):
        for part in fields(item):
            if part.name != "span":
                yield from _names(getattr(item, part.name))
