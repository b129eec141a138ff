"""What each command imports: checking and counting must not wait for torch, numpy or jinja2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# archc from this checkout, installed or not.
HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
HEAVY = ("torch", "numpy", "scipy", "safetensors", "triton", "jinja2", "networkx", "rich", "sympy")
PROBE = """
import sys
from archc.cli import run
code = run({arguments!r})
found = sorted(name for name in {watched!r} if name in sys.modules)
import json
print(json.dumps([code, found]))
"""


def probe(*arguments: str, watched: tuple[str, ...] = HEAVY) -> tuple[int, list[str]]:
    """The exit code of a command, and which of the watched packages it imported."""
    script = PROBE.format(arguments=list(arguments), watched=watched)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=HERE
    )
    assert done.returncode == 0, done.stderr
    code, imported = json.loads(done.stdout.splitlines()[-1])
    return code, imported


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["check", "van_b0"],
        ["check", "van_b2"],
        ["flops", "van_b2"],
        ["check", "van_b0", "--format", "json"],
        ["flops", "van_b0", "--per", "op", "--device", "h100-sxm"],
        ["show", "van_b0", "--stage", "graph"],
        ["show", "van_b0", "--stage", "contract"],
        ["show", "van_b0", "--stage", "weights"],
        ["diff", "van_b0", "van_b1"],
        ["explain", "E0301"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(arguments):
    assert probe(*arguments) == (0, [])


# What belongs to other commands, formats and findings.
ASIDE = (
    "archc.backend.module", "archc.backend.reread", "archc.reference", "archc.syntax.format", "archc.verify",
    "archc.weights.plan", "csv", "difflib", "json",
)  # fmt: skip


@pytest.mark.parametrize("command", ["check", "flops"])
def test_a_command_loads_nothing_of_the_others(command):
    assert probe(command, "van_b2", watched=ASIDE) == (0, [])


def test_compiling_needs_jinja2_and_nothing_else(tmp_path):
    assert probe("compile", "van_b0", "-o", str(tmp_path)) == (0, ["jinja2"])


def test_a_wrong_spec_imports_nothing_heavy_either(tmp_path):
    spec = tmp_path / "wrong.arch"
    spec.write_text(
        "model tiny() {\n    input x: [B, C=8, H, W]\n    output y = x |> gleu\n}\nnet = tiny()\n"
    )
    assert probe("check", str(spec)) == (1, [])


def test_the_package_itself_imports_no_part_of_the_compiler():
    script = "import sys, archc; print(sorted(name for name in sys.modules if name.startswith('archc.')))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=HERE
    )
    assert done.stdout.strip() == str(["archc.diagnostics", "archc.records", "archc.source", "archc.version"])
