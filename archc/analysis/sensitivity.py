"""Which parameters of a model its contract depends on: the generated module checks sizes only while they are unchanged.

A parameter is tried with other values. Numbers that leave every obligation as it is, one by one and together, are taken
to be independent of the contract; whatever else a model takes (lists, recipes, switches) is not tried and counts as
dependent. That is the safe side: then the module asks for nothing that was not solved for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archc.diagnostics import ArchError
from archc.elaborate.loader import Library
from archc.elaborate.model import Variant, elaborate, overridden
from archc.ir.program import Program
from archc.ir.sym import plain

# Twice the number, and numbers without common factors: together for all that twice left alone.
TWICE: Callable[[Any], Any] = lambda n: 2 * n  # noqa: E731
OTHERS: tuple[Callable[[Any], Any], ...] = (lambda n: n + 1, lambda n: 3 * n + 5)


def sensitive(library: Library, chosen: Variant, program: Program) -> tuple[str, ...]:
    """The parameters, in order, on which the obligations of `program` may depend; none where it has no obligations."""
    if not program.obligations:
        return ()
    known = _demands(program)
    values = {name: plain(value) for name, value in program.parameters}
    numbers = {n: v for n, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}

    def same(arguments: dict[str, Any]) -> bool:
        try:
            return _demands(elaborate(library, overridden(chosen, **arguments))) == known
        except ArchError:
            return False

    free = [name for name, value in numbers.items() if same({name: TWICE(value)})]
    for change in OTHERS:
        if not same({name: change(numbers[name]) for name in free}):
            free = [name for name in free if same({name: change(numbers[name])})]
    return tuple(name for name in values if name not in free)


def _demands(program: Program) -> frozenset[object]:
    return frozenset((o.kind, o.left, o.right, o.guards) for o in program.obligations)
