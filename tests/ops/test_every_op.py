"""Every operation, on its own examples: what it says of shapes, weights and cost is what its PyTorch text and its
meaning do."""

from __future__ import annotations

import re

import pytest

from archc.contract import solve
from archc.diagnostics import ArchError
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.ir.program import Program
from archc.ops.table import ALL
from archc.source import Source

CASES = [
    pytest.param(example, id=f"{name}-{number}")
    for name, op in sorted(ALL.items())
    for number, example in enumerate(op.examples)
]


def program_of(example: str) -> Program:
    """`x: [B, C=8] -> linear(x, 3)` as a model."""
    inputs, expression = example.rsplit(" -> ", 1) if example.count(" -> ") == 1 else example.split(" -> ", 1)
    declared = re.findall(r"(\w+): ((?:\w+)?\[[^\]]*\])", inputs)
    lines = "\n".join(f"    input {name}: {type}" for name, type in declared)
    for results in ("out", "out, out1", "out, out1, out2"):
        text = f"model m() {{\n{lines}\n    output {results} = {expression}\n}}\nt = m()\n"
        library = load(Source("example.arch", text))
        try:
            return elaborate(library, variant(library, "t"))
        except ArchError as error:
            if error.diagnostics[0].code != "E0208":
                raise
    raise AssertionError(example)


def test_an_operation_says_what_it_is() -> None:
    for name, op in ALL.items():
        assert op.__doc__, name
        assert op.examples or name == "param", f"{name} has no example"


@pytest.mark.parametrize("example", CASES)
def test_module_and_meaning_agree(example: str) -> None:
    from archc.verify import verify_program

    program = program_of(example)
    contract = solve(program.symbols, program.obligations, dict(program.least))
    assert not contract.refused
    report = verify_program(program, contract)
    assert report.sizes, "an example runs at some size"
    assert report.worst_output <= 1e-9, report
    assert report.worst_gradient <= 1e-8, report
