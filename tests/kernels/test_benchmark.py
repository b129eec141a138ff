"""The benchmark of GPUs goes through all its steps where there is none, with the same attention as FlexAttention's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_rehearsal(tmp_path: Path) -> None:
    table = tmp_path / "gpu.json"
    command = [sys.executable, "benchmarks/gpu.py", "--rehearse", "--networks", "swin_t", "--json", str(table)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(table.read_text())
    assert found["device"] == "rehearsal" and [n["name"] for n in found["networks"]] == ["swin_t"]
    timed = {r["operator"]: set(r["forward"]) for r in found["regions"]}
    assert timed["linear_gelu"] == {"kernel", "eager", "channels_last"}
    assert timed["attend_shifted_multiply_add"] == {"kernel", "eager", "channels_last", "flex_attention"}


def test_without_a_gpu_nothing_is_said_to_be_measured(tmp_path: Path) -> None:
    table = tmp_path / "gpu.json"
    command = [sys.executable, "benchmarks/gpu.py", "--json", str(table)]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=hidden)
    assert done.returncode == 2 and "nothing was measured" in done.stderr and not table.exists()
