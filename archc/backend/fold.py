"""Parameters that every use of a component sets to the same constant are no parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from archc.ir.graph import (
    Branch,
    Call,
    ChildEntry,
    Entry,
    ListEntry,
    Repeat,
    Statement,
    Template,
)
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Const, Scalar, Sym


def component_key(template: Template) -> Any:
    return (template.span, template.role)


def fold_constants(root: Template, roots: Iterable[Template]) -> dict[Any, dict[str, Sym]]:
    """Parameters that every use of a component sets to one and the same constant: they need not be parameters."""
    seen: set[int] = set()
    given: dict[Any, dict[str, set[Sym]]] = defaultdict(lambda: defaultdict(set))

    def go(template: Template) -> None:
        if id(template) in seen:
            return
        seen.add(id(template))
        entries(template.entries)
        calls(template.body)

    def entries(items: tuple[Entry, ...]) -> None:
        for entry in items:
            match entry:
                case ChildEntry(template=child, args=args):
                    note(child, args)
                case ListEntry(items=inner):
                    entries(inner)
                case _:
                    pass

    def calls(body: tuple[Statement, ...]) -> None:
        for statement in body:
            match statement:
                case Branch(then=then, otherwise=otherwise):
                    calls(then or ())
                    calls(otherwise or ())
                case Repeat(turns=turns):
                    for turn in turns:
                        go(turn.template)
                case Call(template=child):
                    go(child)
                case _:
                    pass

    def note(child: Template, args: tuple[tuple[str, Scalar], ...]) -> None:
        if child.role != "turn":
            for name, value in args:
                given[component_key(child)][name].add(value.sym)
        go(child)

    for template in (root, *roots):
        go(template)
    return {
        group: {
            name: next(iter(syms)) for name, syms in names.items() if len(syms) == 1 and _constant(next(iter(syms)))
        }
        for group, names in given.items()
    }


def _constant(sym: Sym) -> bool:
    return isinstance(sym, Const) or (
        isinstance(sym, SymApply) and sym.op == "list" and all(_constant(a) for a in sym.args)
    )
