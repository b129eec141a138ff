"""Checkpoints made to run code, to exhaust memory, or to write to the terminal: none does, and each is named."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import zipfile

import pytest
from running import archc, well

from archc.diagnostics import ArchError
from archc.weights.checkpoint import read
from archc.weights.plan import plan

torch = pytest.importorskip("torch")
save = pytest.importorskip("safetensors.torch").save
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are those of Linux")

SPEC = """model m(dim: int = 8) {
    input x: [B, C=3, H, W]
    output y = x |> stem: conv(dim, 1)
}
m_8 = m()
"""
GOOD = {"stem.weight": torch.ones(8, 3, 1, 1), "stem.bias": torch.zeros(8)}


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch PWNED",)


def stored(content: object, **how: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def header(table: object, body: bytes = b"0000") -> bytes:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + body


def archive(table: bytes, how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as made:
        made.writestr("archive/data.pkl", table)
        made.writestr("archive/version", "3\n")
        made.writestr("archive/data/0", bytes(16))
    return file.getvalue()


def tensor(shape: list[object], dtype: str = "F32", start: int = 0, end: int = 4) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


FILES = {
    "nothing": (b"", "E0611"),
    "noise": (bytes(range(256)) * 50, "E0611"),
    "a pickle that runs a program": (pickle.dumps(Evil()), "E0611"),
    "an archive that runs a program": (stored({"a": Evil()}), "E0611"),
    "an old file that runs a program": (stored({"a": Evil()}, _use_new_zipfile_serialization=False), "E0611"),
    "a header of exabytes": (struct.pack("<Q", 2**63) + b"{", "E0611"),
    "a header of a hundred thousand braces": (header(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "E0611"),
    "a tensor of unknown type": (header({"a": tensor([1], "\x1b[31m")}), "E0611"),
    "a tensor beyond the file": (header({"a": tensor([100], end=400)}), "E0611"),
    "tensors that overlap": (header({"a": tensor([1]), "b": tensor([1])}), "E0611"),
    "a tensor of 2 ** 124 numbers": (header({"a": tensor([2**62, 2**62])}), "E0611"),
    "a tensor of -1 numbers": (header({"a": tensor([-1])}), "E0611"),
    "a tensor before the file": (header({"a": tensor([1], start=-4, end=0)}), "E0611"),
    "a tensor of a hundred thousand axes": (header({"a": tensor([0] * 100_000, end=0)}, b""), "E0601"),
    "keys that write to the terminal": (save({"\x1b]0;x\x07\u202e": torch.zeros(1), "../../x": torch.zeros(1)}), "E0601"),
    "a key of a hundred thousand letters": (save({"a" * 100_000: torch.zeros(1)}), "E0612"),
    "a file cut short": (stored(GOOD)[:-100], "E0611"),
    "a stored number, described as a million": (stored({"a": torch.zeros(1).expand(1000, 1000)}), "E0612"),
    "a tensor without numbers": (stored({"a": torch.zeros(10**6, 10**6, device="meta")}), "E0612"),
    "an archive that unpacks to 100 MB": (archive(bytes(100 * 2**20), zipfile.ZIP_DEFLATED), "E0611"),
    "a table that asks for 2 GB": (archive(b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R."), "E0611"),
    "a table that makes a large tensor": (
        archive(b"\x80\x02}X\x01\x00\x00\x00actorch\nTensor\nJ\xff\xff\xff\x03\x85Rs."), "E0612"),
    "a table of a million marks": (archive(b"\x80\x02" + b"(" * 1_000_000 + b"."), "E0611"),
}  # fmt: skip


# What matters for the process as a whole; the others are read here, which takes a second less.
WHOLE = [name for name in FILES if "program" in name or "terminal" in name or " GB" in name or " MB" in name]


@pytest.mark.parametrize("name", [name for name in FILES if name not in WHOLE])
def test_a_hostile_checkpoint_is_refused(name, tmp_path):
    data, code = FILES[name]
    (tmp_path / "c.pth").write_bytes(data)
    with pytest.raises(ArchError) as error:
        shapes = {key: tuple(tensor.shape) for key, tensor in read(tmp_path / "c.pth").items()}
        plan((), shapes, {})
    assert [d.code for d in error.value.diagnostics] == [code]


@pytest.mark.parametrize("name", WHOLE)
def test_a_hostile_checkpoint(name, tmp_path):
    data, code = FILES[name]
    (tmp_path / "x.arch").write_text(SPEC)
    (tmp_path / "c.pth").write_bytes(data)
    (tmp_path / "old.safetensors").write_bytes(b"old")
    done = well(archc("convert-weights", "x.arch", "c.pth", "-o", "old.safetensors", cwd=tmp_path, memory=12 * 2**30))
    assert (done.code, done.codes) == (1, {code}), done.err
    assert (tmp_path / "old.safetensors").read_bytes() == b"old"
    left = {path.name for path in tmp_path.iterdir()} - {"x.arch", "c.pth", "old.safetensors", ".out", ".err"}
    assert not left, "no program was run, and no part is left"


def test_a_checkpoint_that_is_no_file(tmp_path):
    (tmp_path / "x.arch").write_text(SPEC)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "/dev/zero"):
        done = well(archc("convert-weights", "x.arch", name, "-o", "o.safetensors", cwd=tmp_path, memory=12 * 2**30))
        assert (done.code, done.codes) == (1, {"E0611"}), done.err
