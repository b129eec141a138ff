"""Fused operators within PyTorch: autograd, torch.compile, export, AOTInductor, DDP, FSDP2, vmap, autocast and the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archc import driver

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

# What a module does where there is no triton: it is imported, and runs.
ALONE = """
import sys
sys.modules["triton"] = None
import torch
from citizen_1 import citizen_1
net = citizen_1()
net(torch.randn(2, 3, 12, 8)).sum().backward()
assert all(p.grad is not None for p in net.parameters())
"""


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def test_every_check_of_an_operator(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    pytest.importorskip("torch")
    done = run(str(HERE / "citizens.py"), str(tmp_path), folder=tmp_path)
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert len(outcomes) == 20
    # A process that aborts says why on its standard error only.
    assert not {name: error for name, error in outcomes.items() if error}, done.stderr[-4000:]


def test_a_module_with_kernels_needs_no_triton(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    spec = driver.load_spec(f"{HERE / 'citizens.arch'}:citizen_1")
    (tmp_path / "citizen_1.py").write_text(driver.compile_variant(spec, "citizen_1", kernels=True).text)
    run("-c", ALONE, folder=tmp_path)
