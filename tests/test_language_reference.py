"""Every example of grammar/README.md is a spec that checks, or fails with the code that it announces."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archc import driver
from archc.diagnostics import ArchError
from archc.driver import Spec
from archc.elaborate.loader import load
from archc.elaborate.model import variant_names
from archc.source import Source

PAGE = Path(__file__).parents[1] / "grammar" / "README.md"
BLOCK = re.compile(r"^```arch( fails (E\d{4}))?\n(.*?)^```", re.S | re.M)
EXAMPLES = [pytest.param(m[3], m[2], id=f"{m[2] or 'works'}-{n}") for n, m in enumerate(BLOCK.finditer(PAGE.read_text()))]


def codes(text: str) -> set[str]:
    """The codes of everything that is wrong with a spec."""
    try:
        library = load(Source("example.arch", text))
        spec = Spec(library, tuple(variant_names(library)))
        for name in spec.variants:
            driver.compile_variant(spec, name)
    except ArchError as error:
        return {d.code for d in error.diagnostics}
    assert spec.variants, "an example binds a variant"
    return set()


@pytest.mark.parametrize(("text", "code"), EXAMPLES)
def test_example(text: str, code: str | None) -> None:
    assert codes(text) == ({code} if code else set())


def test_there_are_examples_of_both_kinds() -> None:
    assert len(EXAMPLES) >= 15
    assert sum(param.values[1] is not None for param in EXAMPLES) >= 3
