"""Functions of each element."""

from __future__ import annotations

import math

import pytest
import torch
from op_bench import agree, made, refused, typed

from archc.ir.sym import Const, Scalar
from archc.ops import pointwise
from archc.ops.pointwise import Clamp, Gelu, Identity
from archc.sizes import Size

POINTWISE = "abs sign floor round exp sin cos erf tanh sigmoid relu silu softplus identity".split()
MAP, TOKENS = "[B, C=4, H, W]", "[B, N, C=4]"


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_functions(name):
    agree(made(getattr(pointwise, name.title())), MAP)
    agree(made(getattr(pointwise, name.title())), "[C=4]")


@pytest.mark.parametrize("name", ["log", "sqrt"])
def test_pointwise_functions_of_positive_numbers(name):
    agree(
        made(getattr(pointwise, name.title())), TOKENS, data=[torch.rand(2, 7, 4, dtype=torch.float64) + 0.1]
    )


def test_gelu_and_clamp():
    assert agree(made(Gelu), MAP).text == "F.gelu(a)"
    assert agree(made(Gelu, approximate="tanh"), MAP).text == "F.gelu(a, approximate='tanh')"
    refused("E0213", made(Gelu, approximate="erf"), MAP)
    assert agree(made(Clamp, min=-0.5, max=0.5), MAP).text == "a.clamp(-0.5, 0.5)"
    assert agree(made(Clamp, max=0.5), MAP).text == "a.clamp(max=0.5)"
    agree(made(Clamp, min=0, max=Scalar(Size.symbol("N") - 5, Const(0))), "int[B, N]")
    refused("E0213", made(Clamp), MAP)
    refused("E0213", made(Clamp, min=2, max=1), MAP)
    refused("E0213", made(Clamp, min=math.nan), MAP)
    refused("E0305", made(Clamp, min=0.5), "int[B]")
    refused("E0213", Clamp(min="H"), MAP)


def test_pointwise_dtypes():
    refused("E0305", made(pointwise.Exp), "int[B]")
    refused("E0305", made(pointwise.Relu), "bool[B]")
    agree(made(pointwise.Relu), "int[B, N]")
    agree(made(Identity), "bool[B, N]")
    assert made(Identity).is_view(typed(MAP))
