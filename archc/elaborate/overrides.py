"""Which parameters of a model its contract depends on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from archc.contract import Contract, solve
from archc.diagnostics import ArchError
from archc.elaborate.frame import Session
from archc.elaborate.loader import Library
from archc.elaborate.model import Variant, elaborate, overridden
from archc.ir.program import Program
from archc.ir.sym import plain


def contract_parameters(library: Library, chosen: Variant, program: Program, contract: Contract) -> tuple[str, ...]:
    """The numbers and switches whose change changes the contract, and one of the lists whose common length does.

    Found by trying: they are changed one at a time, the longest lists lose their last item together. The
    written module checks its inputs against the contract only while these have the values it was solved for.
    """
    if not contract.requirements:
        return ()
    stated = contract.describe()
    found = []
    for name, value in program.parameters:
        kind = dict(program.kinds).get(name)
        if kind not in ("int", "size", "bool") or not isinstance(value.value, int):
            continue
        others = (not value.value,) if kind == "bool" else (2 * value.value, value.value + 1)
        if _changes(library, chosen, [{name: other} for other in others], stated):
            found.append(name)
    lists = {n: plain(v) for n, v in program.parameters if isinstance(v.value, tuple) and len(v.value) > 1}
    longest = max((len(v) for v in lists.values()), default=0)
    of_stages = {n: v[:-1] for n, v in lists.items() if len(v) == longest}
    if of_stages and _changes(library, chosen, (of_stages,), stated):
        found.append(next(iter(of_stages)))
    return tuple(found)


def _changes(library: Library, chosen: Variant, trials: Iterable[dict[str, Any]], stated: list[str]) -> bool:
    tried = False
    for other in trials:
        try:
            program = elaborate(library, overridden(chosen, **other), session=Session(sizes_only=True))
        except ArchError:
            continue
        tried = True
        if solve(program.symbols, program.obligations, dict(program.least)).describe() != stated:
            return True
    # A value that cannot be changed at all cannot be shown to be harmless.
    return not tried
