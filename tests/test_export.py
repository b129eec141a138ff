"""`archc export`: the ONNX file computes what the module computes, at the sizes that it is open to."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from written import ROOT, from_text

from archc.diagnostics import ArchError
from archc.export import TOLERANCE, compare, export_onnx, network

NET = """
from std.conv import dwconv

model net() {
    input image: [B, C=3, H, W]
    x = image |> stem: conv(8, 4, stride=4) |> norm: layer_norm
    x = x |> far: dwconv(7, dilation=3) |> batch: batch_norm |> gelu |> last: layer_norm
    output logits = x |> mean(H, W) |> head: linear(5)
}
small = net()
"""
FIXED = """
model net() {
    input image: [B, C=3, H=16, W=16]
    x = image |> stem: conv(4, 4, stride=4) |> rearrange("C H W -> N=(H W) C")
    output tokens = x |> norm: layer_norm |> head: linear(5)
}
tokens = net()
"""


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


@pytest.fixture(scope="module")
def small() -> Iterator[tuple[Any, Any, bytes]]:
    """A network, its program, and its file, which is open to all sizes."""
    module = from_text(NET)
    program = module.checked.program
    with network(module, None) as net:
        yield net, program, export_onnx(net, program, {"B": 2, "H": 48, "W": 64}, ("B", "H", "W")).content


@pytest.mark.parametrize("sizes", [(2, 48, 64), (1, 80, 36), (3, 31, 130)], ids=str)
def test_one_file_for_all_sizes(small: tuple[Any, Any, bytes], sizes: tuple[int, ...]) -> None:
    net, program, content = small
    assert compare(content, net, program, dict(zip("BHW", sizes, strict=True))).worst <= TOLERANCE


def test_the_dilated_convolution_is_one_and_norms_make_no_copies(small: tuple[Any, Any, bytes]) -> None:
    import onnx

    found = Counter(node.op_type for node in onnx.load_from_string(small[2]).graph.node)
    assert found["Conv"] == 2 and not found["Pad"]
    # To tokens and back, for each norm; the module's own would be of four axes.
    assert found["LayerNormalization"] == 2 and found["Transpose"] == 4


def test_a_difference_is_seen(small: tuple[Any, Any, bytes]) -> None:
    net, program, content = small
    with torch.no_grad():
        net.head.bias += 1e-3
        assert compare(content, net, program, {"B": 1, "H": 32, "W": 32}).worst > TOLERANCE
        net.head.bias -= 1e-3


def test_weights_of_another_network_are_refused() -> None:
    module = from_text(NET)
    with network(module, None) as net:
        weights = {key: value.clone() for key, value in net.state_dict().items()}
    weights["head.bias"] += 1
    with network(module, weights) as net:
        assert torch.equal(net.head.bias, weights["head.bias"])
    for wrong in ({**weights, "more": torch.zeros(1)}, {**weights, "head.bias": torch.zeros(6)}, {}):
        with pytest.raises(ArchError) as caught, network(module, wrong):
            pass
        assert caught.value.diagnostics[0].code == "E0601"


def test_a_deploy_build_folds_the_weights_as_trained() -> None:
    with network(from_text(NET), None) as net:
        for value in net.batch.state_dict().values():
            if value.is_floating_point():
                torch.nn.init.uniform_(value, 0.5, 2)
        trained = {key: value.clone() for key, value in net.state_dict().items()}
        deployed = from_text(NET, deploy=True)
        program = deployed.checked.program
        with network(deployed, trained) as plain:
            assert "batch.weight" not in plain.state_dict()
            folded = plain.state_dict()
        with network(deployed, folded) as plain, torch.no_grad():
            content = export_onnx(plain, program, {"B": 1, "H": 32, "W": 48}, ("B",)).content
            # The file beside the network as it was trained.
            assert compare(content, net, program, {"B": 2, "H": 32, "W": 48}).worst <= TOLERANCE
    for wrong in ({**trained, "head.bias": torch.zeros(6)}, {**folded, "batch.weight": torch.zeros(8)}):
        with pytest.raises(ArchError) as caught, network(deployed, wrong):
            pass
        assert caught.value.diagnostics[0].code == "E0601"


def test_what_torch_cannot_export_is_told_with_its_reason(small: tuple[Any, Any, bytes]) -> None:
    class Odd(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * image.sum().item() if image.sum() > 0 else image

    with pytest.raises(ArchError) as caught:
        export_onnx(Odd(), small[1], {"B": 1, "H": 32, "W": 32})
    assert caught.value.diagnostics[0].code == "E0922" and caught.value.diagnostics[0].label


def run(folder: Path, *arguments: str) -> Any:
    command = [sys.executable, "-m", "archc", "export", *arguments]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True)


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "net.arch").write_text(FIXED)
    done = run(tmp_path, "net.arch", "--onnx", "--dynamic", "batch")
    assert done.returncode == 0, done.stderr
    assert "sizes    B = any" in done.stdout and "agrees   ONNX Runtime" in done.stdout
    assert (tmp_path / "tokens.onnx").stat().st_size > 1000


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["net.arch"], "E0901"),
        (["net.arch", "--onnx", "-o", "net.py"], "E0911"),
        (["net.arch", "--onnx", "-o", "missing/net.onnx"], "E0911"),
        (["net.arch", "--onnx", "--size", "image=8"], "E0901"),
        (["net.arch", "--onnx", "--weights", "none.safetensors"], "E0611"),
    ],
)
def test_what_the_command_refuses(tmp_path: Path, arguments: list[str], code: str) -> None:
    (tmp_path / "net.arch").write_text(FIXED)
    done = run(tmp_path, *arguments)
    assert code in done.stderr and done.returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == ["net.arch"]
