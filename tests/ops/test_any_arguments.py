"""Whatever the arguments of an operation, its shape rule answers or refuses."""

from __future__ import annotations

import math
import random

import pytest
from op_bench import FakeCheck, made, typed

from archc.ops import pointwise
from archc.ops.adaptive_pool import AdaptivePool
from archc.ops.along import ArgMax, CumulativeSum, Softmax
from archc.ops.arithmetic import NEGATIVE, NOT, OPERATORS
from archc.ops.base import OpError, parameters
from archc.ops.conv import Conv
from archc.ops.conv_transpose import ConvTranspose
from archc.ops.convolve import Convolve
from archc.ops.dropout import Dropout, StopGradient
from archc.ops.embed import Embed
from archc.ops.lstm import Lstm
from archc.ops.norms import BatchNorm, GroupNorm, LayerNorm, RmsNorm, Standardize
from archc.ops.pointwise import Clamp, Gelu, Identity
from archc.ops.pool import AvgPool, MaxPool
from archc.ops.reduce import AnyOf, Sum, Variance
from archc.sizes import Size

ERRORS = {"E0213", "E0217", "E0301", "E0302", "E0303", "E0304", "E0305", "E0312", "E0321", "E0331", "E0333"}
MAP, TOKENS, VIDEO = "[B, C=4, H, W]", "[B, N, C=4]", "[B, C=4, T, H, W]"


GIVEN = {
    "int": [0, 1, 2, 3, 4, -1, 10**40, 2**31 - 1],
    "float": [0, 0.0, 0.5, -1.0, 1, 1e300, math.inf, -math.inf, math.nan, 10**400],
    "bool": [True, False],
    "str": ["", "none", "tanh", "max", "x" * 9999],
    "size": [0, 1, 3, -2, 2**31 - 1, 10**40, [1, 2], [], [3] * 9, [[1], 2], [0, 1], [True, 1], [1.5, 2]],
    "axis": ["B", "C", "H", "heads", "self", "N"],
    "axes": [(), ("H",), ("H", "W"), ("H", "H"), ("C",), ("self",), ("T", "H", "W"), tuple("HWTNM"), ("Q",)],
    "any": [0, 1, -1, 0.5, "tf", "", True, [1, 2], [1], ["tf", 1], math.nan, 10**40, Size.symbol("H"), None],
}
SENSIBLE = {
    "int": 2,
    "float": 0.25,
    "bool": True,
    "str": "none",
    "size": 1,
    "axis": "C",
    "axes": ("H", "W"),
    "any": 1,
}
TYPES = [
    "[]",
    "[B]",
    "[C=4]",
    "[B, C=4]",
    "[B, C]",
    MAP,
    TOKENS,
    VIDEO,
    "int[B, N]",
    "bool[B, N]",
    "int[]",
    "[B, H=0, C=4, W=1]",
    "[B, self=4, C=4, H]",
    "[B, heads=3, C=6, H, W]",
    "[B, T, H, W, N, M]",
    "int[B, C=4, H, W]",
    "bool[B, C=4, H, W]",
    "[B, out=4, C=4, kh=3, kw=3]",
    MAP,
]
FAMILIES = [
    *OPERATORS.values(),
    NEGATIVE,
    NOT,
    Conv,
    ConvTranspose,
    Convolve,
    MaxPool,
    AvgPool,
    AdaptivePool,
    BatchNorm,
    Standardize,
    LayerNorm,
    RmsNorm,
    GroupNorm,
    Sum,
    Variance,
    AnyOf,
    Softmax,
    CumulativeSum,
    ArgMax,
    Embed,
    Lstm,
    Dropout,
    StopGradient,
    Gelu,
    Clamp,
    Identity,
    pointwise.Exp,
]


@pytest.mark.parametrize("op", FAMILIES, ids=lambda op: op.name)
def test_nothing_but_refusals(op):
    """Whatever the arguments, a shape rule answers or refuses; what it lets through can be counted."""
    pick = random.Random(op.name)
    taken = 0
    for _ in range(400):

        def value(kind, pick=pick):
            return pick.choice(GIVEN[kind]) if pick.random() < 0.4 else SENSIBLE[kind]

        given = {}
        for p in parameters(op):
            if p.kind == "sizes":
                given[p.name] = {
                    axis: value("any")
                    for axis in pick.sample(["H", "W", "C", "Q", "self"], pick.randint(0, 2))
                }
            elif p.required or pick.random() < 0.6:
                given[p.name] = value(p.kind)
        numbers = sum(given.get(side) is not None for side in ("left", "right"))
        count = max(len(op.operands.split()) - numbers, 1)
        types = [typed(pick.choice(TYPES if pick.random() < 0.5 else TYPES[-3:])) for _ in range(count)]
        try:
            made_op = made(op, **given)
            results = made_op.infer(FakeCheck(), *types)
        except OpError as error:
            assert error.code in ERRORS, error.code
            continue
        taken += 1
        for weight in made_op.weights(*types):
            assert all(size >= 0 for size in weight.shape)
        for figure in (made_op.macs(types, results), made_op.flops(types, results)):
            assert isinstance(figure, Size)
        made_op.saved(*types)
    assert taken
