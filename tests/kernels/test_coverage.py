"""Every operation of a shipped spec that kernels could be built around is fused, or is reported with the reason.

`python tests/kernels/test_coverage.py` writes the table of `docs/kernels.md` anew.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from archc import driver
from archc.driver import figures
from archc.fusion.cores import Elementwise, Offsets, Softmax
from archc.fusion.plan import Region, fuse
from archc.fusion.report import operations
from archc.fusion.view import core_of
from archc.ir.dataflow import steps
from archc.ir.graph import Apply, ChildEntry, Entry, ListEntry, Template
from archc.locate import load_spec, shipped

# What families take with others: by itself it is a row operation or a table, which PyTorch computes as well.
PARTS = (Softmax, Offsets)
PAGE = Path(__file__).parent.parent.parent / "docs" / "kernels.md"
BEGIN, END = "<!-- the table begins -->\n", "<!-- the table ends -->\n"
# The first spec of each network that has variants.
SPECS = list({p.stem.partition("_")[0]: p for p in reversed(shipped()) if load_spec(str(p)).variants}.values())[::-1]


def templates(template: Template, seen: set[int]) -> Iterator[Template]:
    """A component and all that it holds, each once."""
    if id(template) not in seen:
        seen.add(id(template))
        yield template
        for entry in template.entries:
            yield from _below(entry, seen)


def _below(entry: Entry, seen: set[int]) -> Iterator[Template]:
    match entry:
        case ChildEntry(template=template):
            yield from templates(template, seen)
        case ListEntry(items=items):
            for item in items:
                yield from _below(item, seen)
        case _:
            pass


def with_core(template: Template) -> list[Apply]:
    """The operations of a component that a kernel may be built around."""
    found = []
    for step in steps(template.body, lambda _: None):
        if isinstance(step, Apply):
            core = core_of(step)
            small = isinstance(core, Elementwise) and not any("B" in v.type for v in step.outputs)  # of parameters alone
            if core is not None and not isinstance(core, PARTS) and not small:
                found.append(step)
    return found


def test_files_of_kernels_share_no_name() -> None:
    """A module may contain all of them."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((PAGE.parent.parent / "codegen" / "kernels").glob("*.py"))]
    names = Counter(re.findall(r"^(?:def|class) (\w+)", "\n".join(texts), re.MULTILINE))
    assert [name for name, count in names.items() if count > 1] == []


@cache
def planned(path: Path) -> tuple[Template, tuple[Region, ...]]:
    """The root of a network, and its regions as they are chosen by default."""
    spec = load_spec(str(path))
    program = driver.build(spec, spec.variants[0])
    return program.root, fuse(program, driver.trained_at(figures(program, driver.contract_of(program))))[1]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_all_is_fused_or_has_a_reason(path: Path) -> None:
    root, regions = planned(path)
    told = {id(step) for region in regions for step in region.steps}
    silent = [
        f"{template.name}: {step.op.name}"
        for template in templates(root, set())
        for step in with_core(template)
        if id(step) not in told
    ]
    assert silent == []
    assert [region for region in regions if (region.fused is None) != bool(region.why)] == []


def table() -> str:
    """What becomes of the mixers and blocks of every network, a row for operations of one text."""
    rows: dict[tuple[str, ...], None] = {}
    for path in SPECS:
        for region in planned(path)[1]:
            what = region.family if region.fused is not None else f"library: {region.why.partition(':')[0]}"
            rows[path.stem.partition("_")[0], region.template.name, operations(region), what] = None
    lines = ["| network | component | operations | kernels |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def page() -> str:
    """The page with the table as it is now."""
    text = PAGE.read_text(encoding="utf-8")
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    return f"{head}{BEGIN}{table()}{END}{tail}"


def test_the_page_shows_what_is_planned() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
