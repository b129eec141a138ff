"""Fused operators in Triton's interpreter: every one of small networks and of random ones, forward and backward.

What is held to what is said in `interpreted.py`. It runs in processes of its own, since the interpreter is chosen where
kernels are defined. `python tests/kernels/campaign.py` does more of the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from planned import NETWORKS

pytest.importorskip("triton")

HERE = Path(__file__).parent
# Networks that take about as long together.
GROUPS = (
    ("van", "ccnet", "attention"),
    ("conv_attention", "poolformer", "swin"),
    ("convnext", "vig", "deit", "maxvit", "epilogues", "prologues", "rows"),
    ("mamba_attention", "aggregation", "arguments", "blocks"),
    ("dynamic", "paths", "recurrences", "windows", "stencils"),
)
RANDOM = range(1, 25)


def rows(*names: str) -> list[dict[str, Any]]:
    """What `interpreted.py` finds; a crash of it fails."""
    done = subprocess.run(
        [sys.executable, str(HERE / "interpreted.py"), *names], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def far(found: list[dict[str, Any]]) -> list[str]:
    """What is beyond its limit, NaN too."""
    return [
        f"{r['network']}: {r['what']} at {r['sizes']} in {r['dtype']}: {r['worst']} is off by {r['error']:.1e}"
        for r in found
        if not r["error"] <= r["limit"]
    ]


def test_every_network_is_in_a_group() -> None:
    assert {name for group in GROUPS for name in group} == {name for name in NETWORKS if not name.startswith("one_")}


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_networks(group: tuple[str, ...]) -> None:
    found = rows(*group)
    assert far(found) == []
    assert {r["dtype"] for r in found if r["what"] != "network"} >= {"bfloat16"} or not found


@pytest.mark.parametrize("half", [0, 1])
def test_random_networks(half: int) -> None:
    found = rows(*(f"random_{seed}" for seed in RANDOM[half::2]))
    assert far(found) == []
    assert len({r["network"] for r in found}) == len(RANDOM[half::2])
