"""One page for each behaviour, with every stage that matters: `tests/cases`.

A page has a sentence, a spec in an `arch` fence, and fences that are named after a stage (graph, contract, flops,
module, error, format) or `console`: what commands print, on both streams, where the spec is called case.arch.
Pages of mistakes are in `tests/cases/errors`. `pytest --update` rewrites what they expect; the difference is the review.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archc import driver
from archc.backend.module import Figures, emit
from archc.cli import run
from archc.diagnostics import ArchError
from archc.driver import Spec
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant, variant_names
from archc.elaborate.overrides import contract_parameters
from archc.ir.text import print_program
from archc.report import render
from archc.source import Source
from archc.syntax.format import format_source

COMMAND = re.compile(r"^\$ archc (.+)$", re.M)
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.S)
CASES = Path(__file__).parent / "cases"
PAGES = [page for page in sorted(CASES.rglob("*.md")) if page.name != "README.md"]


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
            chosen = variant(library, program.name)
            depends = contract_parameters(library, chosen, program, contract)
            return _classes(emit(program, contract, Figures(0), depends))
    raise AssertionError(f"no stage is called {name}")


def _classes(text: str) -> str:
    """The classes of a module: its header and helpers are the same everywhere."""
    return text[text.index("\nclass ") :].strip("\n")


def printed(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """A command line and what it prints, messages behind data."""
    run(command.split())
    out, err = capsys.readouterr()
    return f"$ archc {command}\n{out}{err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page(
    page: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = page.read_text()
    source = Source("case.arch", dict(FENCE.findall(text))["arch"])
    (tmp_path / source.name).write_text(source.text)
    monkeypatch.chdir(tmp_path)

    def expected(fence: re.Match[str]) -> str:
        if fence[1] == "arch":
            return fence[0]
        if fence[1] == "console":
            return f"```console\n{''.join(printed(line, capsys) for line in COMMAND.findall(fence[2]))}```"
        return f"```{fence[1]}\n{stage(fence[1] if fence[1] != 'error' else 'graph', source).rstrip()}\n```"

    actual = FENCE.sub(expected, text)
    if request.config.getoption("--update"):
        page.write_text(actual)
    assert actual == page.read_text()


def test_every_page_of_a_mistake_shows_one() -> None:
    mistakes = [page for page in PAGES if page.parent.name == "errors"]
    assert len(mistakes) >= 60
    for page in mistakes:
        text = page.read_text()
        assert re.match(r"# .+\n\n", text), page
        assert re.search(r"^(error|warning)\[E\d{4}\]: ", text, re.M), page


@pytest.mark.parametrize("page", [p for p in PAGES if "```module" in p.read_text()], ids=lambda p: p.stem)
def test_what_is_written_means_what_the_graph_means(page: Path) -> None:
    """At small sizes of every kind, so that each arm of a branch runs."""
    from archc.verify import verify

    library = load(Source("case.arch", dict(FENCE.findall(page.read_text()))["arch"]))
    for name in variant_names(library):
        program = elaborate(library, variant(library, name))
        contract = driver.contract_of(program)
        sizes = [dict(zip(contract.symbols, (1, *row), strict=False)) for row in ROWS]
        sizes = [s for s in sizes if contract.admits(s)] or contract.examples(2)
        report = verify(program, emit(program, contract, Figures(0)), sizes=sizes)
        assert report.ok, report


# Four free sizes beside the batch.
ROWS = [(4, 5, 6, 3), (6, 6, 4, 5), (7, 7, 7, 7), (3, 8, 5, 4), (5, 3, 8, 6), (6, 2, 3, 8)]
