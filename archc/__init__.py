"""archc: a declarative language and compiler for neural architectures.

    program = archc.load("specs/van_b2.arch")             the graph of a variant
    checked = archc.check("specs/van_b2.arch")            and its contract, figures and claims
    cost = archc.flops("specs/van_b2.arch", "image=256")  exact figures at other sizes
    text = archc.compile("specs/van_b2.arch")             the PyTorch module, as text

A spec is named as on the command line: FILE, FILE:VARIANT or the name of a shipped spec. What is wrong with
it is raised as `ArchError`, whose `diagnostics` are data. Calls from several threads take turns.
"""

from __future__ import annotations

from os import PathLike
from threading import RLock
from typing import TYPE_CHECKING, Any

from archc.diagnostics import ArchError
from archc.version import __version__

if TYPE_CHECKING:
    from archc.analysis.figures import Cost
    from archc.driver import Checked
    from archc.ir.program import Program

__all__ = ["ArchError", "__version__", "check", "compile", "flops", "load"]

_turn = RLock()


def load(spec: str | PathLike[str]) -> Program:
    """The graph of the variant that `spec` names. Raises ArchError."""
    from archc import driver

    with _turn:
        found = driver.load_spec(str(spec))
        return driver.build(found, driver.only(found))


def check(spec: str | PathLike[str]) -> Checked:
    """The variant's graph, contract and figures; its claims hold. Raises ArchError."""
    from archc import driver

    with _turn:
        return driver.check(load(spec))


def flops(spec: str | PathLike[str], *sizes: str, **how: Any) -> Cost:
    """The variant's figures at `sizes` such as "image=256". Raises ArchError.

    `how` are dtype, convention and training, as `archc.analysis.cost.count` takes them.
    """
    from archc import driver

    with _turn:
        program = load(spec)
        return driver.figures(program, driver.contract_of(program), sizes, **how)


def compile(spec: str | PathLike[str], *, deploy: bool = False) -> str:
    """The variant as the text of a Python module; for inference, folded, where `deploy`. Raises ArchError."""
    from archc import driver

    with _turn:
        found = driver.load_spec(str(spec))
        return driver.compile_variant(found, driver.only(found), deploy=deploy).text
