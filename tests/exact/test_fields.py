"""Receptive fields, held to the support of the gradient: which input pixels a result changes with.

Networks are narrow copies with positive weights on strips that are wide enough, so that no gradient vanishes by
chance and no border cuts a field off.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from written import imported, variation

from archc.analysis.cost import count
from archc.analysis.figures import Row
from archc.backend.module import Figures, emit
from archc.contract import solve
from archc.ir.program import Program

# What makes a copy narrow, the strip, and the rows whose fields are measured.
COPIES: dict[str, tuple[dict[str, Any], tuple[int, int], tuple[str, ...]]] = {
    "van_b0": (
        {"dims": [4, 4, 4, 4], "ratios": [1, 1, 1, 1]},
        (32, 4608),
        ("stages.0", "stages.1", "stages.2", "stages.3"),
    ),
    "vig_t": ({"dim": 16, "heads": 1, "depth": 1}, (32, 64), ("patch_embed", "blocks.0")),
    "deit_s": ({"dim": 16, "heads": 2, "depth": 1, "img_size": [32, 64]}, (32, 64), ("patch_embed", "blocks.0")),
    "swin_t": (
        {"dim": 4, "heads": [1, 1, 1, 1]},
        (224, 448),
        ("patch_embed", "layers.0", "layers.1", "layers.2", "layers.3"),
    ),
    "poolformer_s12": ({"dims": [4, 4, 4, 4]}, (32, 64), ("stages.0", "stages.3")),
    "convnext_t": ({"dims": [4, 4, 4, 4], "depths": [1, 1, 2, 1]}, (32, 1024), ("stages.0", "stages.2", "stages.3")),
    "maxvit_tiny": (
        {"dims": [32, 32], "depths": [1, 1], "stem_dim": 4, "img_size": 64},
        (64, 128),
        ("stem", "stages.0"),
    ),
    "ccnet_cca_r2": ({}, (8, 16), ("cca",)),
    "ccnet_r101": (
        {"depths": [1, 2, 2, 1]},
        (33, 513),
        ("layer1", "layer4", "dsn"),
    ),
}


def rows(all: tuple[Row, ...]) -> dict[str, Row]:
    """The rows by name, those of folded turns by the first of them; the later one of two wins."""
    return {row.name.replace("{", "").partition("..")[0]: row for row in all}


def positive(net: nn.Module) -> None:
    """Positive weights that keep the size of what they work on."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in net.parameters():
            drawn = torch.rand(weight.shape, generator=generator, dtype=weight.dtype) + 0.5
            weight.copy_(drawn / weight[0].numel() if weight.ndim > 1 else drawn)


def copy(name: str) -> tuple[Program, nn.Module]:
    program = variation(name, **COPIES[name][0])
    module = imported(emit(program, solve(program.symbols, program.obligations), Figures(0)))
    net = getattr(module, name)().double().eval()
    positive(net)
    return program, net


def support(net: nn.Module, part: str, x: torch.Tensor, batch_axes: tuple[int, ...]) -> torch.Tensor:
    """Which pixels of `x` [1, C, H, W] the middle of what `part` gives changes with: [H, W]."""
    kept: list[torch.Tensor] = []
    with net.get_submodule(part).register_forward_hook(lambda *given: kept.append(given[-1])):
        net(x)
    y = kept[-1]
    at = tuple(slice(None) if axis in batch_axes else size // 2 for axis, size in enumerate(y.shape))
    (gradient,) = torch.autograd.grad(y[at].sum(), x)
    return (gradient != 0).any(dim=1)[0]


CASES = [(name, part) for name, (_, _, parts) in COPIES.items() for part in parts]


@pytest.fixture(scope="module")
def copies() -> dict[str, tuple[Program, nn.Module]]:
    return {}


@pytest.mark.parametrize(("name", "part"), CASES)
def test_a_field_is_the_support_of_the_gradient(name: str, part: str, copies: dict[str, Any], monkeypatch) -> None:
    # A maximum has one gradient, and sees as much as an average.
    monkeypatch.setattr(nn.functional, "max_pool2d", nn.functional.avg_pool2d)
    program, net = copies.get(name) or copies.setdefault(name, copy(name))
    height, width = COPIES[name][1]
    sizes = {"B": 1, "H": height, "W": width}
    row = rows(count(program, sizes).rows)[part]
    generator = torch.Generator().manual_seed(1)
    channels = program.inputs[0].value.type["C"].size.constant
    x = torch.rand(1, channels, height, width, generator=generator, dtype=torch.float64).requires_grad_()
    axes = tuple(place for place, axis in enumerate(row.axes) if axis in ("B", "C"))
    seen = support(net, part, x, axes)
    across = {extent.axis: extent for extent in row.receptive}
    columns = seen.any(dim=0)
    field = across["W"]
    places = columns.nonzero().flatten()
    found = int(places[-1] - places[0]) + 1
    if field.size is None:
        assert bool(columns.all()), f"{found} of {width}"
        return
    if field.exact:
        assert field.size < width, "the strip cuts the field off"
        assert found == field.size
    assert found <= field.size
    assert bool(columns[places[0] : places[-1] + 1].all())
