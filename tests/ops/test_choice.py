"""Choices, reads at computed places, contraction: the emitted text against the meaning, and the refusals."""

from __future__ import annotations

import math

import pytest
import torch
from named_bench import agree
from op_bench import FakeCheck, made, refused, typed
from torch.nn import functional as F

from archc.ops.choice import Gather, Scatter, Where
from archc.ops.dot import Dot
from archc.ops.ranking import ArgSort, TopK
from archc.ops.sampling import Sample


def real(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def whole(*shape, below):
    return torch.randint(0, below, shape)


def orders(*shape):
    return torch.rand(*shape).argsort(-1)


# ---- where


def test_where():
    masked = agree(made(Where, b=-math.inf), "bool[B, N]", "[B, N, C=4]")
    assert masked.text == 'b.masked_fill(~a[..., None], float("-inf"))'
    agree(made(Where), "bool[B, N]", "[B, N, C=4]", "[C=4]")
    agree(made(Where, a=1.0, b=-1), "bool[B, N]")
    agree(made(Where, a=0), "bool[B, N]", "[N]")
    agree(made(Where), "bool[N]", "int[B, N]", "[B, N]")
    agree(made(Where), "bool[N]", "bool[B, N]", "bool[B, N]")
    refused("E0305", made(Where, a=1, b=0), "[B, N]")
    refused("E0305", made(Where, b=True), "bool[B, N]", "[B, N]")
    refused("E0301", made(Where), "bool[B, N]", "[B, M]", "[B, N]")
    refused("E0213", made(Where, a="x", b=1), "bool[B, N]")


# ---- gather and scatter


def test_gather():
    agree(made(Gather, axis="M"), "[B, M, C=4]", "int[B, M=3]", data=[real(2, 5, 4), whole(2, 3, below=5)])
    agree(made(Gather, axis="N"), "[B, C=4, N]", "int[B]", data=[real(2, 4, 7), whole(2, below=7)])
    agree(made(Gather, axis="N"), "[N, C=4]", "int[B, k=3]", data=[real(7, 4), whole(2, 3, below=7)])
    agree(made(Gather, axis="N"), "[B, N]", "int[B, k=3, H]", data=[real(2, 7), whole(2, 3, 6, below=7)])
    agree(made(Gather, axis="N"), "[B, N, C=4]", "int[B, k=3, H]", data=[real(2, 7, 4), whole(2, 3, 6, below=7)])
    agree(made(Gather, axis="N"), "bool[B, N]", "int[B, N=2]", data=[real(2, 7) > 0, whole(2, 2, below=7)])
    refused("E0305", made(Gather, axis="N"), "[B, N]", "[B, k=3]")
    refused("E0302", made(Gather, axis="T"), "[B, N]", "int[B]")


def test_scatter():
    data = [real(2, 7, 5), orders(2, 7, 5)[..., :2], real(2, 7, 2)]
    agree(made(Scatter, axis="M"), "[B, N, M]", "int[B, N, M=2]", "[B, N, M=2]", data=data)
    agree(made(Scatter, axis="M", y=1), "[B, N, M]", "int[B, N, M=2]", data=data[:2])
    agree(made(Scatter, axis="M"), "[B, N, M]", "int[N, B, M=2]", "[M=2, B, N]",
          data=[data[0], data[1].transpose(0, 1), data[2].permute(2, 0, 1)])  # fmt: skip
    refused("E0301", made(Scatter, axis="M", y=1), "[B, N, M]", "int[B, M=2]")
    refused("E0305", made(Scatter, axis="M", y=0.5), "int[B, M]", "int[B, M=2]")


# ---- ranks


def test_top_k_and_argsort_take_ties_in_order():
    x = torch.tensor([[3, 1, 3, 2, 3, 1, 0]] * 2)
    values, places = agree(made(TopK, k=3, axis="N"), "int[B, N]", data=[x]).values
    assert places[0].tolist() == [0, 2, 4] and values[0].tolist() == [3, 3, 3]
    order = agree(made(ArgSort, axis="N"), "int[B, N]", data=[x]).values[0]
    assert order[0].tolist() == [6, 1, 5, 3, 0, 2, 4]
    agree(made(TopK, k=3, axis="N"), "[B, N, C=4]")
    agree(made(ArgSort, axis="C"), "[B, C=4, N]")


def test_top_k_needs_as_many():
    check = FakeCheck()
    made(TopK, k=3, axis="N").infer(check, typed("[B, N]"))
    assert [(kind, str(a), str(b)) for kind, a, b, _ in check.stated] == [("at_least", "N", "3")]
    refused("E0333", made(TopK, k=5, axis="C"), "[B, C=4]")
    refused("E0213", made(TopK, k=0, axis="C"), "[B, C=4]")
    refused("E0305", made(TopK, k=1, axis="C"), "bool[B, C=4]")


# ---- sample


@pytest.mark.parametrize(
    "x, at",
    [
        ("[B, C=4, H, W]", "[B, Q=5, xy=2]"),
        ("[B, heads=2, C=4, H, W]", "[B, Q=5, heads=2, point=3, xy=2]"),
        ("[C=4, H, W]", "[Q=5, xy=2]"),
        ("[B, H, W]", "[B, xy=2]"),
        ("[B, a=2, C=3, H, W]", "[B, xy=2, Q=5]"),
    ],
)
def test_sample(x, at):
    sizes = {"B": 2, "H": 6, "W": 9}
    data = [real(*(a.size.evaluate(sizes) for a in typed(t).axes)) for t in (x, at)]
    agree(made(Sample, axis="xy"), x, at, data=[data[0], data[1] * 0.5 + 0.5])


def test_sample_is_grid_sample():
    x, at = real(1, 1, 5, 7), torch.rand(1, 9, 2, dtype=torch.float64) * 1.4 - 0.2
    ours = agree(made(Sample, axis="xy"), "[B=1, C=1, H=5, W=7]", "[B=1, Q=9, xy=2]", data=[x, at]).values[0]
    theirs = F.grid_sample(x, 2 * at[:, None] - 1, align_corners=False)[:, :, 0]
    torch.testing.assert_close(ours, theirs)


def test_sample_refuses():
    op = made(Sample, axis="xy")
    refused("E0303", op, "[B, C=4, N]", "[B, Q=5, xy=2]")
    refused("E0301", op, "[B, C=4, H, W]", "[B, Q=5, xy=3]")
    refused("E0301", op, "[B, C=4, H, W]", "[B, H, xy=2]")
    assert (
        op.macs([typed("[B, C=4, H, W]")], op.infer(FakeCheck(), typed("[B=1, C=4, H, W]"), typed("[B=1, Q=5, xy=2]")))
        == 80
    )


# ---- dot


@pytest.mark.parametrize(
    "a, b, axes, text",
    [
        ("[B, heads=2, N, C=4]", "[B, heads=2, M, C=4]", ("C",), "a @ b.transpose(2, 3)"),
        ("[B, heads=2, N, M]", "[B, heads=2, M, C=4]", ("M",), "a @ b"),
        ("[B, N, C=4]", "[C=4, e=3]", ("C",), "a @ b"),
        ("[B, C=4]", "[B, C=4, N]", (), "a[..., None] * b"),
        ("[B, C=4, H, W]", "[B, e=3, H, W]", (), 'torch.einsum("abcd,aecd->abcde", a, b)'),
        ("[B, C=4, H, W]", "[B, e=3, H, W]", ("H", "W"), 'torch.einsum("abcd,aecd->abe", a, b)'),
        ("[B, C=4, N]", "[B, C=4, N]", ("C", "N"), 'torch.einsum("abc,abc->a", a, b)'),
        ("[B, N, a=2, C=4]", "[C=4, a=2, e=3]", ("C",), 'torch.einsum("abcd,dce->abce", a, b)'),
    ],
)
def test_dot(a, b, axes, text):
    assert agree(made(Dot, axes=axes), a, b).text == text


def test_dot_figures_and_refusals():
    xs = [typed("[B=2, N=3, C=4]"), typed("[B=2, M=5, C=4]")]
    dot = made(Dot, axes=("C",))
    assert dot.macs(xs, dot.infer(FakeCheck(), *xs)) == 2 * 3 * 5 * 4
    assert made(Dot, axes=()).macs(xs, xs) == 0
    refused("E0302", dot, "[B, N]", "[B, C=4]")
    refused("E0301", dot, "[B, C=4]", "[B, C=5]")
    refused("E0305", dot, "int[B, C=4]", "[B, C=4]")
    refused("E0213", made(Dot, axes=("C", "C")), "[C=4]", "[C=4]")
