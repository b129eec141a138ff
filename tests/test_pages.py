"""One page for each behaviour, with every stage that matters: `tests/cases/*.md`.

A page has a sentence, a spec in an `arch` fence, and fences that are named after a stage (graph, contract, flops,
module, error, format). `pytest --update` rewrites what they expect; the difference is the review.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archc import driver
from archc.backend.module import Figures, emit
from archc.diagnostics import ArchError
from archc.driver import Spec
from archc.elaborate.loader import load
from archc.elaborate.model import variant_names
from archc.ir.text import print_program
from archc.report import render
from archc.source import Source
from archc.syntax.format import format_source

FENCE = re.compile(r"```(\w+)\n(.*?)```", re.S)
PAGES = sorted((Path(__file__).parent / "cases").glob("*.md"))


def stage(name: str, source: Source) -> str:
    """What a stage makes of a spec."""
    if name == "format":
        return format_source(source)
    try:
        library = load(source)
        spec = Spec(library, tuple(variant_names(library)))
        program = driver.build(spec, driver.only(spec))
        contract = driver.contract_of(program)
        driver.check(program)
    except ArchError as error:
        return render(error.diagnostics)
    match name:
        case "graph":
            return print_program(program)
        case "contract":
            return "\n".join(contract.describe())
        case "module":
            return _classes(emit(program, contract, Figures(0)))
    raise AssertionError(f"no stage is called {name}")


def _classes(text: str) -> str:
    """The classes of a module: its header and helpers are the same everywhere."""
    return text[text.index("\nclass ") :].strip("\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page(page: Path, request: pytest.FixtureRequest) -> None:
    text = page.read_text()
    source = Source("case.arch", dict(FENCE.findall(text))["arch"])

    def expected(fence: re.Match[str]) -> str:
        if fence[1] == "arch":
            return fence[0]
        return f"```{fence[1]}\n{stage(fence[1] if fence[1] != 'error' else 'graph', source).rstrip()}\n```"

    actual = FENCE.sub(expected, text)
    if request.config.getoption("--update"):
        page.write_text(actual)
    assert actual == page.read_text()


def test_there_are_pages() -> None:
    assert len(PAGES) >= 10
