"""Bugs planted into kernels are caught; `planted.py` says which, RECORD.md what came of all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("triton")

HERE = Path(__file__).parent
# A sample of so many, of a network; it is the same one as long as the text of its kernels is.
SAMPLES = {
    "one_pointwise": 30, "one_strip": 8, "one_toeplitz": 6, "one_attention": 20, "one_tiled": 8, "one_rows": 20,
    "one_recurrence": 10, "one_scan": 8, "one_prologue": 12,
}  # fmt: skip
# What is never harmless. Others may be: a lane that is masked off may hold anything if it is not stored.
GRAVE = {"index", "loop", "tail", "swap"}
LEAST = 0.6


@pytest.mark.parametrize("network", SAMPLES)
def test_bugs_are_caught(network: str) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "planted.py"), network, str(SAMPLES[network])], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    fates = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(fates) == SAMPLES[network]
    assert [f["key"] for f in fates if not f["caught"] and f["bug"]["kind"] in GRAVE] == []
    caught = Counter(bool(f["caught"]) for f in fates)
    assert caught[True] >= LEAST * len(fates), [f["key"] for f in fates if not f["caught"]]
