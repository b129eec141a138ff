"""The README says what archc does: its specs are compiled here, its commands run, its excerpts found.

A fence `arch NAME` is a file, `console` runs its commands in the folder of these files, `python NAME` shows lines of a
generated file. A line `...` stands for any lines. `pytest --update` rewrites what the commands print.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
FENCE = re.compile(r"^```(arch|console|python)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)\)")
# Rounding differs from machine to machine, and the layout of modules from version to version.
ROUNDING = re.compile(r"\d\.\de-\d\d|\d+ lines")


def fences(kind: str) -> list[tuple[str, str]]:
    """(name, text) of every fence of a kind."""
    return [(name, text) for found, name, text in FENCE.findall(README.read_text()) if found == kind]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The files of the README."""
    made = tmp_path_factory.mktemp("readme")
    for name, text in fences("arch"):
        (made / name).write_text(text)
    return made


def printed(block: str, folder: Path) -> str:
    """A console block with what its commands print."""
    out = ""
    for command in re.findall(r"^\$ (archc .*)$", block, re.MULTILINE):
        words = [sys.executable, "-m", *command.split()]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        done = subprocess.run(words, cwd=folder, env=env, text=True, stdout=-1, stderr=-2, timeout=300)
        assert "internal error" not in done.stdout
        out += f"$ {command}\n{done.stdout}"
    return out


def agrees(shown: str, full: str) -> bool:
    """Whether `shown` is `full` with some lines left out at each line `...`."""
    parts = ROUNDING.sub("#", shown).split("...\n")
    pattern = ".*".join(re.escape(part) for part in parts)
    return re.fullmatch(pattern, ROUNDING.sub("#", full), re.DOTALL) is not None


@pytest.mark.parametrize("number", range(len(fences("console"))))
def test_commands_print_what_the_readme_shows(folder, number, request):
    block = fences("console")[number][1]
    if "archc verify" in block:
        pytest.importorskip("torch")
    full = printed(block, folder)
    if request.config.getoption("--update") and not agrees(block, full):
        README.write_text(README.read_text().replace(f"```console\n{block}```", f"```console\n{full}```"))
    else:
        assert agrees(block, full), full


@pytest.mark.parametrize("number", range(len(fences("python"))))
def test_excerpts_are_in_the_generated_files(folder, number):
    name, excerpt = fences("python")[number]
    printed(f"$ archc compile {name.removesuffix('_t.py')}.arch\n", folder)
    assert excerpt.strip() and excerpt in (folder / name).read_text()


@pytest.mark.parametrize("number", range(len(fences("arch"))))
def test_specs_are_formatted(folder, number):
    name = fences("arch")[number][0]
    done = subprocess.run(
        [sys.executable, "-m", "archc", "fmt", "--check", name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    # A spec that is shown for its mistakes in syntax cannot be formatted.
    assert done.returncode == 0 or "E0107" in done.stderr, done.stderr


def test_links_lead_somewhere():
    links = LINK.findall(README.read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_commands_for_starting_are_as_promised():
    text = README.read_text()
    assert "\npip install . && archc compile specs/van_b2.arch\n" in text
    assert "\npip install -c constraints.txt -e '.[torch,dev]' && ruff check && pyright && pytest -n auto\n" in text
