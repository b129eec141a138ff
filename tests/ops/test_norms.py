"""Norms over the batch, channels and groups."""

from __future__ import annotations

import math

import pytest
from op_bench import FakeCheck, agree, made, refused, typed

from archc.ops.norms import BatchNorm, GroupNorm, LayerNorm, RmsNorm, Standardize
from archc.sizes import Size

MAP, TOKENS, VIDEO = "[B, C=4, H, W]", "[B, N, C=4]", "[B, C=4, T, H, W]"


@pytest.mark.parametrize("op", [BatchNorm, Standardize])
def test_batch_norm(op):
    for text in ("[B, C=4]", TOKENS, "[B, C=4, N]", MAP, VIDEO, "[N, C=4]", "[B, heads=2, C=4, T, H, W]"):
        trial = agree(made(op), text)
        agree(made(op, eps=0.25, momentum=0.5), text)
        assert made(op).flops([typed(text)], trial.types) == typed(text).elements * 2
    agree(made(op, axis="N"), "[B, N=3, C=4]")
    assert agree(made(BatchNorm), MAP).constructor == "nn.BatchNorm2d(4)"
    assert agree(made(Standardize, eps=0.5), MAP).constructor == "nn.BatchNorm2d(4, eps=0.5, affine=False)"
    refused("E0303", made(op), "[C=4]")
    refused("E0304", made(op), "[B, C, H]")
    refused("E0302", made(op), "[B, H]")
    refused("E0305", made(op), "int[B, C=4]")
    for bad in (-1, math.inf, math.nan):
        refused("E0213", made(op, eps=bad), MAP)
    refused("E0213", made(op, momentum=1.5), MAP)


@pytest.mark.parametrize("op", [LayerNorm, RmsNorm])
def test_norms_over_channels(op):
    for text in ("[C=4]", "[B, C=4]", TOKENS, MAP, VIDEO):
        trial = agree(made(op), text)
        agree(made(op, eps=0.25), text)
        assert made(op).flops([typed(text)], trial.types) == typed(text).elements * 8
    agree(made(op, axis=("C", "W")), "[B, C=4, H, W=3]")
    agree(made(op, axis=("W", "C")), "[B, C=4, H, W=3]")
    refused("E0304", made(op, axis=("C", "W")), MAP)
    refused("E0213", made(op, axis=("C", "C")), MAP)
    refused("E0302", made(op, axis=()), MAP)
    refused("E0213", made(op, eps=-1.0), MAP)


def test_norm_constructors():
    assert agree(made(LayerNorm), TOKENS).constructor == "nn.LayerNorm(4)"
    assert agree(made(LayerNorm, eps=1e-6), TOKENS).constructor == "nn.LayerNorm(4, eps=1e-06)"
    assert agree(made(RmsNorm), TOKENS).constructor == "nn.RMSNorm(4, eps=1e-06)"
    assert agree(made(GroupNorm, groups=2), MAP).constructor == "nn.GroupNorm(2, 4)"


def test_group_norm():
    for text in ("[B, C=6]", "[B, N, C=6]", "[B, C=6, H, W]", "[B, heads=2, C=6, N]", "[N, C=6]"):
        agree(made(GroupNorm, groups=3), text)
        agree(made(GroupNorm, groups=2, eps=0.25), text)
    agree(made(GroupNorm, groups=2, axis="heads"), "[B, heads=6, C=4, H]")
    error = refused("E0321", made(GroupNorm, groups=4), "[B, C=6, H]")
    assert "1, 2, 3, 6" in error.help
    refused("E0213", made(GroupNorm, groups=0), MAP)
    refused("E0304", made(GroupNorm, groups=1), "[B, C, H]")


def test_a_group_of_one_element():
    """Less its mean it is 0, and torch refuses it."""
    op, check = made(GroupNorm, groups=4), FakeCheck()
    op.infer(check, typed(TOKENS))
    assert check.stated == [("at_least", Size.symbol("N"), Size.of(2), "E0333")]
    refused("E0333", op, "[B, C=4]")
