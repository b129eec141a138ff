"""Generated files as files: the same bytes every time, and clean under the tools that their readers use."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from written import CASES, ROOT, SPECS, compiled, every, variants

ALL = every([*SPECS, *CASES])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every shipped spec and every case as a file."""
    made = tmp_path_factory.mktemp("generated")
    for path, name in ALL:
        (made / f"{name}.py").write_text(compiled(path, name).text)
    return made


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)


def test_the_same_text_in_every_process() -> None:
    """Nothing depends on the order in which a process happens to hold its sets."""
    chosen = [SPECS[0].parent / f"{name}.arch" for name in ("van_b0", "maxvit_tiny", "vig_t", "dasiamrpn_vot")] + CASES
    code = (
        "import hashlib, sys\nfrom archc import driver\n"
        "for path in sys.argv[1:]:\n    spec = driver.load_spec(path)\n    for name in spec.variants:\n"
        "        text = driver.compile_variant(spec, name).text\n"
        "        print(name, hashlib.sha256(text.encode()).hexdigest())\n"
    )
    outputs = []
    for seed in ("1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, chosen)], capture_output=True, text=True, cwd=ROOT, env=environment
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    here = {name: compiled(path, name).text for path in chosen for name in variants(path)}
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in here.items()}
    for output in outputs:
        assert dict(line.split() for line in output.splitlines()) == digests


def test_files_are_clean_under_ruff(folder: Path) -> None:
    pytest.importorskip("ruff")
    found = run("ruff", "check", "--isolated", "--line-length", "88", "--output-format", "concise", str(folder))
    assert found.returncode == 0, found.stdout[-3000:]


def test_files_are_laid_out_as_ruff_lays_them_out(folder: Path) -> None:
    pytest.importorskip("ruff")
    found = run("ruff", "format", "--isolated", "--line-length", "88", "--diff", str(folder))
    assert found.returncode == 0, found.stdout[-3000:]


def test_files_are_clean_under_pyright(folder: Path) -> None:
    pytest.importorskip("pyright")
    (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "basic", "pythonVersion": "3.10"}))
    found = run("pyright", "--pythonpath", sys.executable, "-p", str(folder), "--outputjson")
    try:
        report = json.loads(found.stdout)
    except ValueError:
        pytest.skip(f"pyright does not run here: {found.stderr[-200:]}")
    rows = [
        f"{Path(d['file']).name}:{d['range']['start']['line'] + 1} {d['message']}" for d in report["generalDiagnostics"]
    ]
    assert report["summary"]["filesAnalyzed"] == len(ALL)
    assert report["summary"]["errorCount"] == 0, "\n".join(rows[:20])


def test_files_name_what_they_export(folder: Path) -> None:
    for _, name in ALL:
        text = (folder / f"{name}.py").read_text()
        assert text.isascii() and text.endswith("\n") and "\t" not in text, name
        assert f'"{name}"' in text.split("__all__ = ")[1].split("]")[0]
        assert not re.search(r"^\s*(import|from) archc", text, re.M), f"{name} needs archc"
