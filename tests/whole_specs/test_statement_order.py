"""Random models: names that are rebound, aliased and swapped, in and around loops and branches, keep their meaning."""

from __future__ import annotations

import pytest

from archc.backend.module import Figures, emit
from archc.backend.reread import compare, reread
from archc.contract import solve
from archc.diagnostics import ArchError
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.ir.program import Program
from archc.source import Source
from archc.verify import verify
from whole_specs.statement_order import random_spec

SIZES = [{"B": 2, "N": 5}, {"B": 1, "N": 2}]
# Each of these was once written wrongly.
ONCE_WRONG = [6, 16, 17, 48, 63, 105, 120, 126, 140, 148, 170, 172, 219, 428, 439, 502, 510, 523, 552, 596]
# What a random author may get wrong: a tensor that nobody reads, arms that do not fit.
MISTAKES = {"E0351", "E0407"}


@pytest.mark.parametrize("seed", [*ONCE_WRONG, 88, *range(2000, 2030)])
def test_a_random_model_means_what_its_graph_means(seed: int) -> None:
    spec = random_spec(seed)
    programs, texts = {}, {}
    try:
        library = load(Source("random.arch", spec))
        for name in ("one", "two_"):
            programs[name] = elaborate(library, variant(library, name))
    except ArchError as error:
        assert {d.code for d in error.diagnostics} <= MISTAKES, error
        pytest.skip("the author made a mistake")
    for name, program in programs.items():
        texts[name] = emit(program, solve(program.symbols, program.obligations), Figures(0))
        check(program, texts[name], seed)
    # The module of one variant with the argument of the other is the other.
    for name, other, k in (("one", "two_", 2), ("two_", "one", 1)):
        check(programs[other], f"{texts[name]}\n\ndef {other}(**overrides: Any) -> M:\n    return {name}(k={k})\n", 1)


def check(program: Program, text: str, seed: int) -> None:
    assert compare(program, reread(text, program.name)) == [], text
    report = verify(program, text, sizes=SIZES, gradients=seed % 4 == 0)
    assert report.ok, f"{text}\n{report}"
