"""Which norms and pointwise operations become one operator, and stochastic depth within one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from archc import driver
from archc.elaborate.loader import load
from archc.fusion.plan import Region, fuse
from archc.locate import Spec
from archc.source import Source

HERE = Path(__file__).parent


def regions(body: str, x: str = "[B, C=12, H, W]") -> list[Region]:
    """What becomes of the operations of a network of one body."""
    text = f"from std.regularise import drop_path\nmodel net() {{\n input x: {x}\n {body}\n}}\nsmall = net()\n"
    library = load(Source("small.arch", text, HERE / "small.arch"), {})
    return list(fuse(driver.build(Spec(library, ("small",), "small"), "small"))[1])


def words(found: list[Region]) -> list[tuple[str, str]]:
    """The operations of each region, and why it is none."""
    return [(" ".join(step.op.name for step in region.steps), region.why) for region in found]


POOLED = "h = x |> max_pool(3, stride=1, pad=1)"


@pytest.mark.parametrize(
    ("body", "operations"),
    [
        (f"param g: [C=12] = 1\n {POOLED}\n output y = x + ((g * h) |> drop_path(0.1))", "multiply dropout add"),
        (f"{POOLED}\n output y = h * sigmoid(h)", "sigmoid multiply"),
        (f"{POOLED}\n output y = (x |> layer_norm |> silu) * h", "layer_norm silu multiply"),
        (f"{POOLED}\n g = sigmoid(h)\n output y = x * g + h * (1 - g)", "sigmoid multiply subtract multiply add"),
        (f"{POOLED}\n s = x |> mean(H, W)\n output y = h * sigmoid(x) * s", "sigmoid multiply multiply"),
        (f"param a: [] = 0\n {POOLED}\n output y = x + a * h", "multiply add"),
    ],
)
def test_one_operator(body: str, operations: str) -> None:
    assert [one for one in words(regions(body)) if not one[1]] == [(operations, "")]


ALONE = "a pointwise operation alone is the library's"


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        ("output y = x |> layer_norm", ["a norm alone is the library's"]),
        ("output y = silu(x)", [ALONE]),
        ("param a: [C=12] = 1\n output y = x * (exp(a) + 1)", [ALONE]),  # those of a parameter are small
        ("h = silu(x)\n output y = h + 1\n output z = h", [ALONE, ALONE]),  # two results
        ("output y = where(x > 0, 1.0, -1.0)", [ALONE]),  # no gradient
        ("output y = x |> floor |> abs", [ALONE]),  # a step
    ],
)
def test_left_to_the_library(body: str, reasons: list[str]) -> None:
    assert [why for _, why in words(regions(body))] == reasons


def test_an_operation_between_is_its_own() -> None:
    body = f"{POOLED}\n a = h |> silu |> abs\n b = a |> max_pool(3, stride=1, pad=1)\n output y = b |> tanh |> exp"
    assert [one for one, _ in words(regions(body))] == ["silu abs", "tanh exp"]


# The factors of stochastic depth are those that the operation itself draws; kernels and PyTorch agree in training.
TRAINED = """
import json, os, sys
sys.path.insert(0, {here!r})
import hardened
import torch
from planned import small, with_kernels
from archc.trials import loaded

def trained(text):
    with loaded(text) as module:
        torch.manual_seed(0)
        net = module.small().train()
        x = torch.randn(6, 21, 5, 7, requires_grad=True)
        torch.manual_seed(3)
        y = net(x)
        y.square().sum().backward()
        return [y.detach(), x.grad, *(p.grad for p in net.parameters())]

from archc.backend.module import Figures, emit
program, contract = small("rows")
kernels = trained(with_kernels(program, contract))
os.environ["ARCHC_KERNELS"] = "0"
path, plain = trained(with_kernels(program, contract)), trained(emit(program, contract, Figures(0)))
far = lambda a, b: max(float((x - y).norm() / y.norm()) for x, y in zip(a, b, strict=True))
print(json.dumps([far(kernels, plain), far(path, plain), float((kernels[1] - 0).flatten(1).norm(dim=1).std())]))
"""


def test_stochastic_depth_draws_the_same() -> None:
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", TRAINED.format(here=str(HERE))], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    kernels, path, spread = json.loads(done.stdout.splitlines()[-1])
    assert kernels < 2e-6 and path < 2e-6 and spread > 0
