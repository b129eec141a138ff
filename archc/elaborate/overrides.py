"""Which parameters of a model its contract depends on."""

from __future__ import annotations

from archc.contract import Contract, solve
from archc.diagnostics import ArchError
from archc.elaborate.loader import Library
from archc.elaborate.model import Variant, elaborate, overridden
from archc.ir.program import Program


def contract_parameters(library: Library, chosen: Variant, program: Program, contract: Contract) -> tuple[str, ...]:
    """The whole-number parameters whose change changes the contract, found by trying.

    The written module checks its inputs against the contract only while these have the values it was solved for.
    """
    if not contract.requirements:
        return ()
    stated = contract.describe()
    found = []
    for name, value in program.parameters:
        if dict(program.kinds).get(name) not in ("int", "size") or not isinstance(value.value, int):
            continue
        if _changes(library, chosen, name, value.value, stated):
            found.append(name)
    return tuple(found)


def _changes(library: Library, chosen: Variant, name: str, value: int, stated: list[str]) -> bool:
    tried = False
    for other in (2 * value, value + 1):
        try:
            program = elaborate(library, overridden(chosen, **{name: other}))
        except ArchError:
            continue
        tried = True
        if solve(program.symbols, program.obligations, dict(program.least)).describe() != stated:
            return True
    # A value that cannot be changed at all cannot be shown to be harmless.
    return not tried
