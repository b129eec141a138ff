"""The wheel: what it carries and what it says of itself. Built offline; needs a git checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from archc.version import __version__

ROOT = Path(__file__).parent.parent
DATA = ("grammar", "specs", "codegen")

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a git checkout knows its files")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def packed(wheel) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    name = f"archc-{__version__}.dist-info/METADATA"
    return Parser().parsestr(zipfile.ZipFile(wheel).read(name).decode())


def files(folder: str) -> list[str]:
    """The files of `folder` that git tracks, or would if they were added."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder]
    out = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in out.split("\0") if name and (ROOT / name).is_file()]


def package(requirement: str) -> str:
    """The name in a requirement such as `torch>=2.4; extra == 'torch'`."""
    return re.split(r"[^\w-]", requirement)[0].lower()


@pytest.mark.parametrize("folder", DATA)
def test_every_data_file_is_packed(folder, packed):
    assert files(folder)
    assert {f"archc/_data/{name}" for name in files(folder)} <= packed


def test_every_module_is_packed_and_the_package_is_typed(packed):
    assert set(files("archc")) <= packed
    assert "archc/py.typed" in packed


def test_nothing_else_is_packed(packed):
    assert {name.split("/")[0] for name in packed} == {"archc", f"archc-{__version__}.dist-info"}


def test_metadata(metadata):
    assert (metadata["Name"], metadata["Version"]) == ("archc", __version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata.get_payload()


def test_the_core_needs_no_torch(metadata):
    core = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {package(line) for line in core} == {"click", "jinja2", "lark", "networkx", "rich"}


def test_every_dependency_has_a_tested_version(metadata):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins)
    tested = {name.lower().replace("_", "-") for name, _ in pins}
    assert {package(line) for line in metadata.get_all("Requires-Dist", [])} <= tested
    assert ["torch", "2.13.0"] in pins


def test_the_command_is_installed(wheel):
    entries = zipfile.ZipFile(wheel).read(f"archc-{__version__}.dist-info/entry_points.txt").decode()
    assert "archc = archc.cli:main" in entries
