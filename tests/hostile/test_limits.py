"""The limits that the language reference states are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from archc import contract, diagnostics
from archc.elaborate import frame, loader, scalars
from archc.ops import checks
from archc.syntax import build, lines
from archc.weights import checkpoint

REFERENCE = Path(__file__).parent.parent.parent / "grammar" / "README.md"
LIMITS = [
    loader.LARGEST_FILE, loader.LARGEST_LIBRARY, loader.MOST_FILES, lines.MOST_TOKENS, lines.LONGEST_NAME,
    build.MAX_DIGITS, lines.MAX_BRACKETS, build.MAX_DEPTH, loader.MOST_VARIANTS, frame.DEEPEST_CALLS, frame.MOST_NODES,
    frame.MOST_UNROLLED, frame.MOST_STEPS, frame.MOST_OBLIGATIONS, scalars.LONGEST_LIST, checks.LARGEST, contract.MAX_FACTS,
    diagnostics.MOST_FINDINGS, checkpoint.MOST_TENSORS, checkpoint.LONGEST_KEY, checkpoint.LARGEST_HEADER,
]  # fmt: skip


def test_the_reference_states_the_limits_of_the_code():
    section = REFERENCE.read_text(encoding="utf-8").partition("## Limits\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| .+ \| ([^|]+) \|$", section, re.MULTILINE)[1:]
    *stated, memory = rows
    assert stated == [f"{limit:,}" for limit in LIMITS]
    assert memory == f"{checkpoint.MEMORY_FACTOR} times its size + {checkpoint.SPARE_MEMORY:,} bytes"
