"""The commands for deploy builds, and that a wrong folding would be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_deploy import small
from written import from_text

from archc.cli import run
from archc.deploy.verify import verify_deployed
from archc.deploy.weights import folded
from archc.ops.arithmetic import Binary
from archc.ops.conv import Conv
from archc.ops.pool import AvgPool
from archc.reference.seeded import seeded_weights
from archc.trials import loaded

SPEC = """model net() {
    input x: [B, C=4, H, W]
    output y = x |> stem: conv(6, 3, bias=false) |> norm: batch_norm |> relu |> late: batch_norm

    weights { "first.**" -> "**" }
}

tiny = net()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.arch").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_compile_tells_what_is_folded_and_what_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compile", "net.arch", "--deploy"]) == 0
    told = capsys.readouterr().out
    assert "folded   norm of net\n" in told
    assert "left     late of net: it is a result, or a branch decides about it\n" in told
    assert "next     archc verify net.arch --deploy" in told
    assert run(["compile", "net.arch", "--deploy", "--check"]) == 0
    assert run(["verify", "net.arch", "--deploy"]) == 0
    assert "tiny_deploy" in capsys.readouterr().out
    assert run(["flops", "net.arch", "--deploy"]) == 0
    assert run(["verify", "net.arch", "--dtype", "bfloat16"]) == 2
    assert "compare a deploy build: --deploy" in capsys.readouterr().err


def test_a_published_checkpoint_is_folded(folder: Path) -> None:
    from safetensors.torch import load_file

    trained = {key: w.float() if w.is_floating_point() else w for key, w in seeded_weights(_program()).items()}
    torch.save({f"first.{key}": tensor for key, tensor in trained.items()}, folder / "net.pth")
    assert run(["convert-weights", "net.arch", "net.pth", "--deploy", "-o", "out.safetensors"]) == 0
    assert run(["compile", "net.arch", "--deploy"]) == 0
    found = load_file(folder / "out.safetensors")
    with loaded((folder / "tiny_deploy.py").read_text()) as module:
        wanted = module.fold_weights(trained)
        module.tiny_deploy().load_state_dict(found, strict=True)
    assert {key: t.dtype for key, t in found.items()} == {key: t.dtype for key, t in wanted.items()}
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def _program() -> Any:
    return from_text(SPEC).checked.program


def _said(op: type, change: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has an operation say something else of itself."""
    truth = op.channels  # type: ignore[attr-defined]

    def channels(self: Any, xs: Any, constant: Any) -> Any:
        role = truth(self, xs, constant)
        return change(role) if role is not None else None

    monkeypatch.setattr(op, "channels", channels)


LIES = {
    "a shift passes zeros": ("before a padded convolution", Conv, {"padded": False}),
    "zeros do not count": ("through one that counts zeros", AvgPool, {"means": True}),
    "a difference is a sum": ("a shortcut from which is taken what it feeds", Binary, {"signs": (1, 1)}),
    "the result has the channels of the operand": ("a parameter that is computed", Conv, {"out": 1, "inner": 0}),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_said_wrong_is_seen(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, op, wrong = LIES[lie]

    def change(role: Any) -> Any:
        return replace(role, **wrong) if all(hasattr(role, name) for name in wrong) else role

    _said(op, change, monkeypatch)
    try:
        module = small(case)
        assert module.deployed is not None
        folded(module.deployed, seeded_weights(module.deployed.trained))
        assert not verify_deployed(module.deployed, module.text).ok
    except RuntimeError:
        pass  # shapes that do not meet
