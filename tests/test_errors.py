"""The pages of the error codes against what archc says: every code has one, each example gives its code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archc import driver
from archc.diagnostics import ArchError, Diagnostic
from archc.elaborate.loader import load
from archc.explain import codes, explain
from archc.source import Source

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w+) (fails|works)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The syntax pages show parts of files, and are tested where the parser is.
EXAMPLES = [code for code in codes() if code > "E0109" and "```arch fails" in explain(code)]


def used() -> set[str]:
    """The codes that stand in the code of archc."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "archc").rglob("*.py"))
    return {code for text in texts for code in re.findall(r'"(E\d{4})"', text)}


def findings(code: str, text: str) -> list[Diagnostic]:
    """What `archc check` finds in a text beside the library."""
    found: list[Diagnostic] = []
    try:
        library = load(Source(f"{code}.arch", text, ROOT / "specs" / f"{code}.arch"))
        assert library.main.bindings, "an example without a variant proves nothing"
        for name in library.main.bindings:
            found += driver.check(driver.build(driver.Spec(library, (name,)), name)).warnings
    except ArchError as error:
        return list(error.diagnostics)
    return found


def test_every_code_has_a_page_and_every_page_a_use():
    assert used() == set(codes())


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_failing_example_gives_exactly_its_code(code):
    text = next(text for _, kind, text in FENCE.findall(explain(code)) if kind == "fails")
    found = findings(code, text)
    assert [one.code for one in found] == [code]
    assert found[0].span is not None, "a finding in a spec points at it"
    assert found[0].span.source.name.endswith(".arch")


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_mended_example_passes(code):
    text = next(text for _, kind, text in FENCE.findall(explain(code)) if kind == "works")
    assert findings(code, text) == []
