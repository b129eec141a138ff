"""Pools against torch, window by window."""

from __future__ import annotations

import itertools

import pytest
import torch
from op_bench import FakeCheck, agree, made, refused, typed
from torch.nn import functional as F

from archc.ir.sym import Const, Scalar
from archc.ops.adaptive_pool import AdaptivePool
from archc.ops.pool import AvgPool, MaxPool
from archc.ops.slides import Slide
from archc.sizes import Size

HW = ("H", "W")
MAP, TOKENS, VIDEO = "[B, C=4, H, W]", "[B, N, C=4]", "[B, C=4, T, H, W]"


def test_window_counts_are_torchs():
    for k, s, p, d in itertools.product((1, 2, 3, 4, 5), (1, 2, 3, 6), (0, 1, 2), (1, 2)):
        span = d * (k - 1) + 1
        if p > k // 2 or p > span // 2:
            continue
        slide = Slide("N", *(Scalar(v, Const(v)) for v in (k, s, d, p)))
        for n, ceil in itertools.product(range(1, 16), (False, True)):
            try:
                wanted = F.max_pool1d(torch.zeros(1, n), k, s, p, d, ceil).shape[-1]
            except RuntimeError:
                continue
            assert slide.steps(FakeCheck(), Size.symbol("N"), ceil).evaluate({"N": n}) == wanted, (
                k,
                s,
                p,
                d,
                n,
                ceil,
            )


POOLS = [
    (MAP, {"kernel": 2}),
    (MAP, {"kernel": 3, "stride": 2, "pad": 1}),
    (MAP, {"kernel": 3, "stride": 2, "pad": 1, "ceil": True}),
    (MAP, {"kernel": [3, 2], "stride": [2, 3], "pad": [1, 0], "ceil": True}),
    (MAP, {"kernel": 3, "stride": 2, "pad": "tf"}),
    (MAP, {"kernel": 2, "stride": 3, "pad": "tf"}),
    (MAP, {"kernel": 2, "on": ("W",)}),
    (TOKENS, {"kernel": 3, "stride": 2, "ceil": True}),
    (VIDEO, {"kernel": 2, "stride": [1, 2, 2]}),
    ("[B, heads=2, C=4, H, W]", {"kernel": 3, "pad": 1, "stride": 1}),
    ("[B, heads=2, C=4, N]", {"kernel": 3, "pad": "tf"}),
    ("[H, W]", {"kernel": 3, "stride": 1}),
    ("[N]", {"kernel": 3, "pad": "tf"}),
]


@pytest.mark.parametrize(("text", "given"), POOLS, ids=str)
@pytest.mark.parametrize("op", [MaxPool, AvgPool])
def test_pools(op, text, given):
    given = {"on": tuple(a.name for a in typed(text).positions), **given}
    for grow in (0, 1, 2):
        agree(
            made(op, **given),
            text,
            sizes={name: size + grow for name, size in {"H": 6, "W": 9, "N": 7, "T": 4}.items()},
        )


def test_pool_arguments():
    agree(made(MaxPool, kernel=3, dilation=2, on=HW), MAP)
    for text, on in (
        (MAP, HW),
        (TOKENS, ("N",)),
        ("[B, heads=2, C=4, H, W]", HW),
        (VIDEO, ("T", "H", "W")),
        ("[H, W]", HW),
    ):
        agree(made(MaxPool, kernel=3, stride=2, pad=1, ceil=True, index=True, on=on), text)
        for count, ceil in itertools.product((False, True), (False, True)):
            agree(made(AvgPool, kernel=3, stride=2, pad=1, count_pad=count, ceil=ceil, on=on), text)
    assert agree(made(MaxPool, kernel=2, on=HW), MAP).text == "F.max_pool2d(a, 2)"
    assert agree(made(AvgPool, kernel=3, stride=2, pad=1, on=HW), MAP).text == (
        "F.avg_pool2d(a, 3, stride=2, padding=1, count_include_pad=False)"
    )
    x = typed("[B=1, C=4, H=6, W=6]")
    op = made(MaxPool, kernel=[3, 2], on=HW)
    assert op.flops([x], op.infer(FakeCheck(), x)) == 4 * 2 * 3 * 6


def test_pool_refuses():
    for op in (MaxPool, AvgPool):
        for name, bad in (
            ("kernel", 0),
            ("stride", 0),
            ("pad", 2),
            ("pad", "same"),
            ("kernel", [1, 2, 3]),
            ("pad", -1),
        ):
            refused("E0213", made(op, **{"kernel": 3, "on": HW, name: bad}), MAP)
        refused("E0333", made(op, kernel=5, on=HW), "[B, C=4, H=4, W=9]")
        refused("E0213", made(op, kernel=3, pad="tf", ceil=True, on=HW), MAP)
        refused("E0305", made(op, kernel=3, on=HW), "int[B, C=4, H, W]")
        refused("E0303", made(op, kernel=3, on=()), "[B, C=4]")
    refused("E0213", made(MaxPool, kernel=3, pad="tf", index=True, on=HW), MAP)


@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_pool(kind):
    for text, sizes in (
        (MAP, {"H": 2, "W": 4}),
        (MAP, {"H": 7, "W": 5}),
        (MAP, {"W": 1}),
        (TOKENS, {"N": 3}),
        (VIDEO, {"T": 2, "H": 2, "W": 2}),
        ("[B, heads=2, C=4, H, W]", {"H": 3, "W": 3}),
        (TOKENS, {"C": 2}),
        ("[N]", {"N": 2}),
        ("[B, T, H, W, N]", {"N": 2}),
    ):
        trial = agree(made(AdaptivePool, sizes=sizes, kind=kind), text)
        assert made(AdaptivePool, sizes=sizes).flops([typed(text)], trial.types) == typed(text).elements
    agree(made(AdaptivePool, sizes={"H": Scalar(Size.symbol("M"), Const(5))}, kind=kind), MAP)
    for bad in ({}, {"H": 0}, {"H": "x"}, {"H": 1.5}):
        refused("E0303" if not bad else "E0213", made(AdaptivePool, sizes=bad, kind=kind), MAP)
    refused("E0302", made(AdaptivePool, sizes={"Q": 1}), MAP)
    refused("E0213", made(AdaptivePool, sizes={"H": 1}, kind="min"), MAP)
    refused("E0213", AdaptivePool(sizes={"H": "W"}), MAP)


def test_three_axes_are_averaged_where_the_kernel_fits_without_padding():
    """So torch has it, and of `avg_pool3d` alone."""
    small = "[B, C=4, T=1, H=4, W=4]"
    refused("E0333", made(AvgPool, kernel=3, pad=1, on=("T", "H", "W")), small)
    agree(made(AvgPool, kernel=3, pad=1, on=("T", "H")), small)
    agree(made(MaxPool, kernel=3, pad=1, on=("T", "H", "W")), small)
