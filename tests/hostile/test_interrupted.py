"""Old output survives: interrupts and kills at many moments, full disks, and places that are not to be written to."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from running import archc, start, well

from archc.output import GENERATED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and limits are those of Linux")
SPEC = """model m(dim: int = 8) {
    input x: [B, C=3, H, W]
    blocks: repeat 4 { x = x |> c: conv(3, 1) }
    output y = x |> stem: conv(dim, 1)
}
m_8 = m()
m_9 = m(dim=9)
"""
OLD = f"{GENERATED}0.0.0 from old.arch\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "x.arch").write_text(SPEC)
    (tmp_path / "out").mkdir()
    for name in ("m_8.py", "m_9.py"):
        (tmp_path / "out" / name).write_text(OLD)
    return tmp_path


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_at_any_moment(folder, number):
    """Each file is the old or the new one; only a kill may leave a part, under a name that nothing reads."""
    old = state(folder / "out")
    begun = time.monotonic()
    assert archc("compile", "x.arch", "-o", "out", cwd=folder).code == 0
    whole = time.monotonic() - begun
    new = state(folder / "out")
    assert new.keys() == old.keys() and all(old[name] != new[name] for name in old)
    for turn in range(5):
        for name, data in old.items():
            (folder / "out" / name).write_bytes(data)
        process = start("compile", "x.arch", "-o", "out", cwd=folder)
        time.sleep(whole * (0.4 + turn / 8))  # most of a run is the start of the interpreter
        process.send_signal(number)
        process.wait(timeout=60)
        found = state(folder / "out")
        parts = {name for name in found if name.startswith(".archc-")}
        assert len(parts) <= (2 if number == signal.SIGKILL else 0), parts
        for name in old:
            assert found[name] in (old[name], new[name])
        for name in parts:
            (folder / "out" / name).unlink()


@pytest.mark.parametrize("command", ["compile", "fmt", "convert-weights"])
def test_a_disk_that_is_full(folder, command):
    """Written as a limit on the size of files: the first bytes find a place, and the others do not."""
    if command == "convert-weights":
        torch = pytest.importorskip("torch")
        weights = {"stem.weight": torch.ones(8, 3, 1, 1), "stem.bias": torch.zeros(8)}
        for i in range(4):
            weights |= {f"blocks.{i}.c.weight": torch.ones(3, 3, 1, 1), f"blocks.{i}.c.bias": torch.zeros(3)}
        torch.save(weights, folder / "c.pth")
        (folder / "out" / "w.safetensors").write_bytes(b"old")
    (folder / "x.arch").write_text(SPEC.replace("    ", "  "))
    before = state(folder / "out") | {"x.arch": (folder / "x.arch").read_bytes()}
    arguments = {
        "compile": ("x.arch", "-o", "out"), "fmt": ("x.arch",),
        "convert-weights": ("x.arch:m_8", "c.pth", "-o", "out/w.safetensors")}[command]  # fmt: skip
    done = archc(command, *arguments, cwd=folder, file_size=150, memory=12 * 2**30)
    assert done.code != 0
    assert state(folder / "out") | {"x.arch": (folder / "x.arch").read_bytes()} == before
    assert {path.name for path in folder.iterdir()} <= {"x.arch", "out", "c.pth", ".out", ".err"}


def test_standard_output_that_is_full(folder):
    process = start("show", "x.arch:m_8", "--stage", "module", cwd=folder)
    process.wait(timeout=60)
    os.system(f"cd {folder} && PYTHONPATH={os.environ.get('PYTHONPATH', '')}:{Path(__file__).parent.parent.parent} "
              f"{sys.executable} -m archc list . > /dev/full 2> message")  # fmt: skip
    assert (folder / "message").read_text() == "standard output cannot be written: no space left on device\n"


def test_places_that_are_not_written_to(folder):
    os.mkfifo(folder / "pipe.py")
    (folder / "folder.py").mkdir()
    (folder / "theirs.py").write_text("import torch\n")
    (folder / "device.py").symlink_to("/dev/full")
    (folder / "x.py").write_text(SPEC.replace("m_9 = m(dim=9)\n", ""))
    for place, code in (
        ("pipe.py", "E0911"), ("device.py", "E0911"), ("theirs.py", "E0912"), ("/dev/full", "E0911"), ("x.arch", "E0911"),
        ("x.arch/m.py", "E0911"), ("/proc/m.py", "E0911"), ("n" * 300 + ".py", "E0911"),
    ):  # fmt: skip
        done = well(archc("compile", "x.arch:m_8", "-o", place, cwd=folder))
        assert (done.code, done.codes) == (2, {code}), (place, done.err)
    done = well(archc("compile", "x.py", "-o", "x.py", "--force", cwd=folder))
    assert (done.code, done.codes) == (2, {"E0912"}), "the spec itself"
    assert well(archc("compile", "x.arch:m_8", "--check", "-o", "pipe.py", cwd=folder)).code == 1
    assert (folder / "theirs.py").read_text() == "import torch\n"
    assert not [path for path in folder.rglob(".archc-*")]
