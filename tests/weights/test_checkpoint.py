"""Checkpoints: what training scripts save is read, what would run code or grow is not."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from archc.diagnostics import ArchError
from archc.weights.checkpoint import LARGEST_HEADER, read, shapes

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(4)}


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor] = TENSORS) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def refusal(path: Path) -> str:
    with pytest.raises(ArchError) as caught:
        read(path)
    (found,) = caught.value.diagnostics
    return found.code


def saved(tmp_path: Path, content: Any, **options: Any) -> Path:
    path = tmp_path / "x.pth"
    torch.save(content, path, **options)
    return path


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    assert same(read(path))
    assert shapes(read(path)) == {"a.weight": (2, 3), "b": ()}


@pytest.mark.parametrize("new_format", [True, False])
def test_both_formats_of_torch(tmp_path: Path, new_format: bool) -> None:
    assert same(read(saved(tmp_path, TENSORS, _use_new_zipfile_serialization=new_format)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: {"state_dict": t, "epoch": 3},
        lambda t: {"model": t, "optimizer": {"lr": 0.1}},
        lambda t: {"module": t},
        lambda t: {"state_dict_ema": t, "args": [1, "x"]},
        lambda t: {"model": {"state_dict": t}},
        lambda t: {f"module.{key}": tensor for key, tensor in t.items()},
        lambda t: {"state_dict": {f"module.{key}": tensor for key, tensor in t.items()}},
        lambda t: {key: torch.nn.Parameter(x) if x.is_floating_point() else x for key, x in t.items()},
    ],
)
def test_wrappers_are_taken_off(tmp_path: Path, wrap: Any) -> None:
    found = read(saved(tmp_path, wrap(TENSORS)))
    assert same(found)
    assert not any(tensor.requires_grad for tensor in found.values())


def test_a_prefix_stays_where_not_every_key_has_it(tmp_path: Path) -> None:
    tensors = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert read(saved(tmp_path, tensors)).keys() == tensors.keys()


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("new_format", [True, False])
def test_no_code_is_run(tmp_path: Path, new_format: bool) -> None:
    sprung = tmp_path / "sprung"
    content = {"state_dict": TENSORS, "hook": Trap(sprung)}
    assert refusal(saved(tmp_path, content, _use_new_zipfile_serialization=new_format)) == "E0611"
    assert not sprung.exists()
    path = tmp_path / "plain.pth"
    path.write_bytes(pickle.dumps(Trap(sprung)))
    assert refusal(path) == "E0611"
    assert not sprung.exists()


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(2)],
        torch.zeros(2),
        {},
        {"state_dict": {}},
        {"a": torch.zeros(2), "epoch": 3},
        {1: torch.zeros(2)},
        {"x" * 2000: torch.zeros(2)},
        {"a": torch.zeros(3, 3).to_sparse()},
        {"a": torch.zeros(1).expand(10**9)},
        {"a": torch.zeros(2, device="meta")},
        {"model": {"model": {"model": {"model": {"model": {"a": torch.zeros(2)}}}}}},
    ],
)
def test_what_is_no_table_of_dense_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    assert refusal(saved(tmp_path, content)) == "E0612"


def header(claimed: int, text: bytes) -> bytes:
    return claimed.to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no checkpoint",
        header(2**62, b"{}"),
        header(LARGEST_HEADER + 1, b"{}"),
        header(5, b"{"),
        header(2, b"{x"),
        header(2, b"{}x")[:9],
        header(7, b'{"a":1}'),
        header(100_000, b"{" + b'"a":[' * 19_999 + b"    "),
        header(55, json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}).encode()),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(data)
    assert refusal(path) in ("E0611", "E0612")


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.pth") == "E0611"
    assert refusal(tmp_path) == "E0611"


def test_an_archive_that_grows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
        archive.writestr("x/version", b"3")
        archive.writestr("x/data/0", bytes(10_000_000))
    assert refusal(path) == "E0611"


@given(st.binary(max_size=400), st.integers(0, 1200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_damage_gives_tensors_or_a_diagnostic(tmp_path: Path, noise: bytes, at: int) -> None:
    data = bytearray(saved(tmp_path, TENSORS).read_bytes())
    data[at : at + len(noise)] = noise
    path = tmp_path / "damaged.pth"
    path.write_bytes(data)
    try:
        read(path)
    except ArchError as error:
        assert error.diagnostics[0].code in ("E0611", "E0612")
