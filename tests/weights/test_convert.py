"""Converting a checkpoint: the module's names, the published values, all or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from archc.diagnostics import ArchError
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.ir.program import Program
from archc.source import Source
from archc.version import __version__
from archc.weights.convert import convert

TEXT = """
model m() {
    input x: [B, C=4, H, W]
    param gamma: [] = 0
    x = x |> conv: conv(4, 1, bias=false) |> norm: batch_norm
    output y = (x * gamma) |> head: linear(2)
}
v = m() {
    weights {
        "stem.proj.weight" -> "conv.weight" |> reshape(4, 4, 1, 1)
        "stem.bn.*" -> "norm.*"
        "fc.*" -> "head.*"
        "**.index" -> drop
    }
}
"""


def program() -> Program:
    library = load(Source("t.arch", TEXT))
    return elaborate(library, variant(library, "v"))


def checkpoint() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    big = torch.randn(8, 4)
    return {
        "gamma": torch.randn(1),
        "stem.proj.weight": torch.randn(4, 4).T,
        **{f"stem.bn.{name}": torch.randn(4) for name in ("weight", "bias", "running_mean", "running_var")},
        "fc.weight": big[:2].to(torch.bfloat16),
        "fc.bias": big[0, :2],
        "a.index": torch.arange(3),
    }


def test_the_values_arrive_under_the_names_of_the_module(tmp_path: Path) -> None:
    tensors, out = checkpoint(), tmp_path / "v.safetensors"
    torch.save({"state_dict": tensors}, tmp_path / "x.pth")
    plan = convert(program(), tmp_path / "x.pth", out)
    assert plan.dropped == ("a.index",)
    found = load_file(out)
    assert list(plan.missing) == ["norm.num_batches_tracked"]
    assert found["norm.num_batches_tracked"].item() == 0
    assert torch.equal(found["conv.weight"], tensors["stem.proj.weight"].reshape(4, 4, 1, 1))
    assert torch.equal(found["norm.running_var"], tensors["stem.bn.running_var"])
    assert found["gamma"].shape == ()
    assert found["head.weight"].dtype == torch.bfloat16
    assert torch.equal(found["head.bias"], tensors["fc.bias"])
    with safe_open(out, "pt") as file:
        assert file.metadata() == {"format": "pt", "spec": "v", "archc": __version__}


def test_a_checkpoint_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    tensors = checkpoint()
    del tensors["fc.bias"]
    torch.save(tensors, tmp_path / "x.pth")
    with pytest.raises(ArchError) as caught:
        convert(program(), tmp_path / "x.pth", tmp_path / "v.safetensors")
    assert caught.value.diagnostics[0].code == "E0601"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pth"]


def test_a_place_that_cannot_be_written_is_named_and_an_old_file_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(checkpoint(), tmp_path / "x.pth")
    with pytest.raises(ArchError) as caught:
        convert(program(), tmp_path / "x.pth", tmp_path / "none" / "v.safetensors")
    assert caught.value.diagnostics[0].code == "E0613"

    out = tmp_path / "v.safetensors"
    out.write_text("old")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("archc.output.os.replace", full)
    with pytest.raises(ArchError):
        convert(program(), tmp_path / "x.pth", out)
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.safetensors", "x.pth"]
