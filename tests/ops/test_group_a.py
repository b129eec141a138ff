"""Convolutions, pools, norms, reductions and arithmetic: the emitted PyTorch against the meaning, sizes and figures."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, replace

import pytest
import torch
from op_bench import SIZES, FakeCheck, FakeCode, agree, made, numbers, refused, typed
from torch.nn import functional as F

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import Apply, Const, Scalar, Var, apply, evaluate
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
from archc.ops.reduce import AnyOf, Maximum, Mean, Minimum, Sum, Variance
from archc.ops.slides import Slide, default_padding
from archc.reference.named import Named, Run
from archc.sizes import Size

HW = ("H", "W")
MAP, TOKENS, VIDEO = "[B, C=4, H, W]", "[B, N, C=4]", "[B, C=4, T, H, W]"

ERRORS = {"E0213", "E0217", "E0301", "E0302", "E0303", "E0304", "E0305", "E0312", "E0321", "E0331", "E0333"}
POINTWISE = "abs sign floor round exp sin cos erf tanh sigmoid relu silu softplus identity".split()


# ---- pointwise


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_functions(name):
    agree(made(getattr(pointwise, name.title())), MAP)
    agree(made(getattr(pointwise, name.title())), "[C=4]")


@pytest.mark.parametrize("name", ["log", "sqrt"])
def test_pointwise_functions_of_positive_numbers(name):
    agree(made(getattr(pointwise, name.title())), TOKENS, data=[torch.rand(2, 7, 4, dtype=torch.float64) + 0.1])


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


# ---- arithmetic


@pytest.mark.parametrize("symbol", [s for s in OPERATORS if s not in ("and", "or", "**")])
def test_operators_broadcast_by_name(symbol):
    op = OPERATORS[symbol]
    agree(made(op), MAP, MAP)
    agree(made(op), MAP, "[B, C=4]")
    agree(made(op), "[C=4]", MAP)
    agree(made(op), MAP, "[W]")
    agree(made(op), MAP, "[C=4, W]")
    agree(made(op), "[]", TOKENS)
    agree(made(op, right=0.5), MAP)
    agree(made(op, left=2), MAP)
    agree(made(op, right=Scalar(Size.symbol("H"), Const(6))), MAP)


@pytest.mark.parametrize("symbol", [s for s in OPERATORS if s not in ("and", "or", "**", "/", "//", "%")])
def test_operators_on_whole_numbers(symbol):
    op = OPERATORS[symbol]
    for texts in (("int[B, N]", "int[B, N]"), ("int[B, N]", "[N]")):
        agree(made(op), *texts)
    agree(made(op, left=2), "int[B, N]")
    agree(made(op, right=0.5), "int[B, N]")


def test_division_of_whole_numbers():
    for symbol in ("//", "%"):
        agree(made(OPERATORS[symbol]), "int[B, N]", "int[N]", data=[torch.randint(-9, 9, (2, 7)), torch.arange(1, 8)])
        agree(made(OPERATORS[symbol], right=-3), "int[B, N]")
        refused("E0213", made(OPERATORS[symbol], right=0), "int[B, N]")
    refused("E0305", made(OPERATORS["/"]), "int[B]", "int[B]")
    refused("E0305", made(OPERATORS["/"], right=2), "int[B]")
    agree(made(OPERATORS["/"], right=2.0), "int[B]")
    agree(made(OPERATORS["/"]), "int[B, N]", "[B, N]")


def test_power():
    assert agree(made(OPERATORS["**"], right=2), MAP).text == "a**2"
    positive = [torch.rand(2, 4, dtype=torch.float64) + 0.5, torch.randn(4, dtype=torch.float64)]
    agree(made(OPERATORS["**"]), "[B, C=4]", "[C=4]", data=positive)
    agree(made(OPERATORS["**"], left=2), "[B, C=4]")
    agree(made(OPERATORS["**"], left=0.5), "int[B]")
    refused("E0305", made(OPERATORS["**"], right=-1), "int[B]")


def test_truth_values():
    for symbol in ("and", "or", "==", "!="):
        agree(made(OPERATORS[symbol]), "bool[B, N]", "bool[N]")
    agree(made(NOT), "bool[B, N]")
    agree(made(NEGATIVE), MAP)
    for symbol in ("+", "*", "<", "/", "**", "maximum"):
        refused("E0305", made(OPERATORS[symbol]), "bool[B]", "bool[B]")
    for op in (made(OPERATORS["and"]), made(OPERATORS["or"])):
        refused("E0305", op, "[B]", "bool[B]")
    refused("E0305", made(NOT), "[B]")
    refused("E0305", made(NEGATIVE), "bool[B]")
    refused("E0305", made(OPERATORS["+"], right=True), "[B]")
    refused("E0213", made(OPERATORS["+"], right="x"), "[B]")


def test_broadcasting_is_written_as_one_would():
    times = made(OPERATORS["*"])
    assert agree(times, "[C=4]", MAP).text == "a[:, None, None] * b"
    assert agree(times, MAP, "[B, C=4]").text == "a * b[..., None, None]"
    assert agree(times, TOKENS, "[C=4]").text == "a * b"
    assert agree(times, TOKENS, "[B, C=4]").text == "a * b[:, None]"
    assert agree(times, MAP, "[B, H, W]").text == "a * b[:, None]"
    assert agree(times, MAP, "[B]").text == "a * b[:, None, None, None]"
    assert agree(made(OPERATORS["-"], left=1), MAP).text == "1 - a"
    assert agree(made(OPERATORS["maximum"], right=0.1), MAP).text == "a.clamp(min=0.1)"


def test_broadcasting_refuses():
    plus = made(OPERATORS["+"])
    assert "only the left has N, only the right M" in refused("E0301", plus, "[B, N, C=4]", "[B, M, C=4]").label
    error = refused("E0301", plus, "[B, C=64]", "[B, C=128]")
    assert "64" in error.message and "128" in error.message and "C" in error.message
    assert "stretch" in refused("E0331", plus, "[B, H=1]", "[B, H=5]").help
    check = FakeCheck()
    plus.infer(check, typed("[B, N, C=4]"), typed("[B, N, C=4]"))
    assert [kind for kind, *_ in check.stated] == ["equal"] * 3


def test_result_keeps_the_simplest_size():
    plus, n = made(OPERATORS["+"]), Var("n")
    long = Scalar(4, apply("*", apply("//", n, Const(2)), Const(2)))
    choice = Scalar(4, Apply("if", (n, Const(4), Const(5))))
    short = Scalar(4, n)
    for other in (long, choice):
        for order in ((other, short), (short, other)):
            types = [typed("[B]").with_axes([typed("[C=4]").axes[0].__class__("C", _dim(s))]) for s in order]
            assert plus.infer(FakeCheck(), *types)[0]["C"].dim.sym == n


def _dim(scalar):
    from archc.ir.types import Dim

    return Dim.of(scalar)


# ---- reductions


@pytest.mark.parametrize("op", [Sum, Mean, Maximum, Minimum, Variance])
@pytest.mark.parametrize("keep", [False, True])
def test_reductions(op, keep):
    for axes in (("C",), HW, ("W",), ("B", "C", "H", "W"), ("W", "C")):
        trial = agree(made(op, axes=axes, keep=keep), MAP)
        assert made(op, axes=axes, keep=keep).flops([typed(MAP)], trial.types) == typed(MAP).elements


def test_reductions_are_written_as_one_would():
    assert agree(made(Mean, axes=HW), MAP).text == "a.mean(dim=(2, 3))"
    assert agree(made(Sum, axes=("C",), keep=True), TOKENS).text == "a.sum(dim=-1, keepdim=True)"
    assert agree(made(Maximum, axes=("C",)), MAP).text == "a.amax(dim=1)"
    assert agree(made(Variance, axes=("C",)), TOKENS).text == "a.var(dim=-1, unbiased=False)"
    assert agree(made(Variance, axes=("C",), unbiased=True), TOKENS).text == "a.var(dim=-1)"
    assert agree(made(Softmax, axis="C"), TOKENS).text == "a.softmax(dim=-1)"


def test_reductions_of_whole_numbers_and_truth_values():
    for op in (Sum, Maximum, Minimum):
        agree(made(op, axes=("N",)), "int[B, N]")
        refused("E0305", made(op, axes=("N",)), "bool[B, N]")
    agree(made(AnyOf, axes=("N",)), "bool[B, N]")
    agree(made(AnyOf, axes=("N", "B"), keep=True), "bool[B, N]")
    refused("E0305", made(AnyOf, axes=("N",)), "[B, N]")
    refused("E0305", made(Mean, axes=("N",)), "int[B, N]")
    refused("E0302", made(Sum), MAP)
    refused("E0302", made(Sum, axes=("Q",)), MAP)
    refused("E0213", made(Sum, axes=("H", "H")), MAP)
    refused("E0333", made(Mean, axes=("H",)), "[B, H=0]")
    refused("E0333", made(Variance, axes=("H",), unbiased=True), "[B, H=1]")


@pytest.mark.parametrize("axis", ["C", "H", "W", "B"])
def test_along(axis):
    agree(made(Softmax, axis=axis), MAP)
    agree(made(CumulativeSum, axis=axis), MAP)
    agree(made(ArgMax, axis=axis), MAP)


def test_along_whole_numbers():
    agree(made(CumulativeSum, axis="N"), "int[B, N]")
    agree(made(ArgMax, axis="N"), "int[B, N]", data=[torch.tensor([[1, 3, 3, 0, 3, 1, 1]] * 2)])
    refused("E0305", made(Softmax, axis="N"), "int[B, N]")
    refused("E0302", made(Softmax, axis="Q"), MAP)
    refused("E0333", made(Softmax, axis="H"), "[B, H=0]")
    assert made(Softmax, axis="C").flops([typed(MAP)], [typed(MAP)]) == typed(MAP).elements * 5


# ---- norms


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


# ---- convolutions


CONVS = [
    (MAP, {"kernel": 1}),
    (MAP, {"kernel": 3}),
    (MAP, {"kernel": 2, "stride": 2}),
    (MAP, {"kernel": [3, 5], "stride": [2, 1], "bias": False}),
    (MAP, {"kernel": 3, "dilation": 2, "groups": 2}),
    (MAP, {"kernel": 3, "pad": [0, 2], "groups": 4}),
    (MAP, {"kernel": 4, "pad": 0}),
    (MAP, {"kernel": 3, "stride": 2, "pad": "tf"}),
    (MAP, {"kernel": [2, 5], "stride": [3, 2], "dilation": [2, 1], "pad": "tf"}),
    (MAP, {"kernel": 1, "stride": 3, "pad": "tf"}),
    (MAP, {"kernel": 3, "on": ("W",)}),
    (MAP, {"kernel": 3, "on": ("W", "H"), "pad": [0, 1]}),
    (TOKENS, {"kernel": 3}),
    (TOKENS, {"kernel": 4, "dilation": 2, "pad": "tf"}),
    (VIDEO, {"kernel": [1, 3, 2], "pad": [0, 1, 0], "stride": [1, 2, 1]}),
    ("[B, heads=4, C=3, H, W]", {"kernel": 3, "axis": "heads"}),
    ("[B, heads=2, C=4, N]", {"kernel": 3, "pad": "tf"}),
    ("[C=4, H, W]", {"kernel": 3}),
    ("[C=4, H, W]", {"kernel": 3, "pad": "tf"}),
]


@pytest.mark.parametrize(("text", "given"), CONVS, ids=str)
def test_conv(text, given):
    given = {"on": tuple(a.name for a in typed(text).positions), **given}
    op = made(Conv, out=8, **given)
    for grow in (0, 1, 4):
        agree(op, text, sizes={name: size + grow for name, size in {"H": 6, "W": 9, "N": 7, "T": 4}.items()})


def test_conv_is_written_as_one_would():
    def text(**given):
        return agree(made(Conv, out=8, on=HW, **given), MAP)

    assert text(kernel=3).constructor == "nn.Conv2d(4, 8, 3, padding=1)"
    assert text(kernel=1, bias=False).constructor == "nn.Conv2d(4, 8, 1, bias=False)"
    assert text(kernel=[3, 5]).constructor == "nn.Conv2d(4, 8, (3, 5), padding=(1, 2))"
    assert text(kernel=3, groups=4, dilation=2).constructor == "nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4)"
    assert text(kernel=3).text == "self.op(a)"
    assert text(kernel=3, stride=2, pad="tf").text == "self.op(pad_same(a, (3, 3), (2, 2)))"


def test_conv_figures():
    op = made(Conv, out=8, kernel=[3, 5], groups=2, on=HW, stride=2)
    x = typed("[B=2, C=4, H=9, W=11]")
    (y,) = op.infer(FakeCheck(), x)
    assert str(y) == "[B=2, C=8, H=5, W=6]"
    assert op.macs([x], [y]) == 2 * 8 * 5 * 6 * 2 * 15
    assert op.flops([x], [y]) == 2 * 8 * 5 * 6
    assert [(w.name, w.shape) for w in op.weights(x)] == [("weight", (8, 2, 3, 5)), ("bias", (8,))]


def test_conv_refuses():
    def conv(**given):
        return made(Conv, **{"out": 8, "kernel": 3, "on": HW, **given})

    refused("E0217", conv(kernel=4), MAP)
    refused("E0304", conv(), "[B, C, H, W]")
    refused("E0302", conv(), "[B, H, W]")
    refused("E0303", conv(on=()), "[B, C=4]")
    refused("E0303", conv(on=("T", "H", "W", "N")), "[B, C=4, T, H, W, N]")
    refused("E0321", conv(groups=3), MAP)
    refused("E0321", conv(groups=4, out=6), MAP)
    refused("E0333", conv(pad=0, kernel=9), "[B, C=4, H=7, W=20]")
    refused("E0305", conv(), "int[B, C=4, H, W]")
    refused("E0213", conv(on=("C", "H")), MAP)
    for name, bad in (
        ("out", 0), ("kernel", 0), ("kernel", [3, 3, 3]), ("kernel", []), ("kernel", [3, -1]), ("stride", 0), ("dilation", -2),
        ("groups", 0), ("pad", -1), ("pad", "same"), ("pad", [1]), ("pad", 0.5), ("pad", True), ("kernel", [[3], 3]),
        ("out", 10**30), ("kernel", 10**30), ("stride", 2**31), ("pad", [1, "tf"]),
    ):  # fmt: skip
        refused("E0213", conv(**{name: bad}), MAP)
    refused("E0213", Conv(out=made(Conv, out=8, kernel=1).out, kernel=made(Conv, out=8, kernel=1).kernel, pad="H", on=HW), MAP)
    for huge in (2**31 - 1, 2**20 + 1):
        made(Conv, out=huge, kernel=huge, dilation=huge, on=HW).infer(FakeCheck(), typed(MAP))


def test_default_padding_keeps_its_expression():
    i, k, s, d = (Var(name) for name in "iksd")
    case = Apply("==", (i, Const(0)))
    kernel = Scalar(7, apply("if", case, Const(7), Const(3)))
    stride = Scalar(4, apply("if", case, Const(4), Const(2)))
    one = Scalar(1, Const(1))
    assert default_padding(kernel, stride, one) == Scalar(3, apply("if", case, Const(3), Const(1)))
    for kernel, stride, dilation in itertools.product((1, 3, 5, 7), (1, 2, 4), (1, 2)):
        pad = default_padding(Scalar(kernel, k), Scalar(stride, s), Scalar(dilation, d))
        assert evaluate(pad.sym, {"k": kernel, "s": stride, "d": dilation}) == pad.value
    assert default_padding(Scalar(5, k), one, one).sym == Apply("//", (k, Const(2)))


def test_receptive_windows():
    def window(op, text, y, axis="H"):
        w = op.reach(axis, 0, [typed(text)], [typed(y)])
        return w and (w.stride, w.low, w.high)

    assert window(made(Conv, out=8, kernel=3, stride=2, on=HW), "[C=4, H=8, W=8]", "[C=8, H=4, W=4]") == (2, -1, 1)
    assert window(made(Conv, out=8, kernel=3, stride=2, pad="tf", on=HW), "[C=4, H=8, W=8]", "[C=8, H=4, W=4]") == (2, 0, 2)
    assert window(made(ConvTranspose, out=8, kernel=2, stride=2, on=HW), "[C=4, H=4, W=4]", "[C=8, H=8, W=8]") == (0.5, -0.5, 0)
    assert window(made(MaxPool, kernel=3, stride=2, pad=1, on=HW), "[C=4, H=8, W=8]", "[C=4, H=4, W=4]") == (2, -1, 1)
    assert window(made(AdaptivePool, sizes={"H": 2}), "[C=4, H=8]", "[C=4, H=2]") == (4, 0, 3)
    assert window(made(Softmax, axis="H"), "[C=4, H=8]", "[C=4, H=8]") is None
    assert window(made(Mean, axes=("W",)), "[H=8, W=8]", "[H=8]") == (1, 0, 0)
    assert window(made(GroupNorm, groups=2), "[C=4, H=8]", "[C=4, H=8]") is None
    op = made(Conv, out=8, kernel=3, axis="H", on=("W",))
    assert window(op, "[C=4, H=8, W=8]", "[C=4, H=8, W=8]") is None


@pytest.mark.parametrize(
    ("size", "parts"), [(8, 3), (7, 2), (5, 5), (3, 7), (9, 1)]
)
def test_adaptive_windows_hold(size, parts):
    op = made(AdaptivePool, sizes={"H": parts})
    w = op.reach("H", 0, [typed(f"[H={size}]")], [typed(f"[H={parts}]")])
    for i in range(parts):
        first, last = i * size // parts, -(-(i + 1) * size // parts) - 1
        assert w.stride * i + w.low <= first and last <= w.stride * i + w.high


TRANSPOSED = [
    (MAP, {"kernel": 2, "stride": 2}),
    (MAP, {"kernel": [3, 4], "stride": [2, 1], "pad": [1, 0], "output_pad": [1, 0], "groups": 2}),
    (MAP, {"kernel": 3, "dilation": 2, "bias": False}),
    (MAP, {"kernel": 3, "dilation": 3, "output_pad": 2, "pad": 1}),
    (MAP, {"kernel": 3, "on": ("H",)}),
    (TOKENS, {"kernel": 4, "stride": 2, "pad": 1}),
    (VIDEO, {"kernel": 2, "stride": [1, 2, 2], "groups": 4}),
    ("[B, heads=4, C=3, N]", {"kernel": 2, "axis": "heads"}),
    ("[C=4, N]", {"kernel": 2, "stride": 2}),
]


@pytest.mark.parametrize(("text", "given"), TRANSPOSED, ids=str)
def test_conv_transpose(text, given):
    given = {"on": tuple(a.name for a in typed(text).positions), **given}
    agree(made(ConvTranspose, out=8, **given), text)


def test_conv_transpose_figures_and_refusals():
    def op(**given):
        return made(ConvTranspose, **{"out": 6, "kernel": 3, "on": HW, **given})

    x = typed("[B=2, C=4, H=5, W=7]")
    (y,) = op(stride=2, groups=2).infer(FakeCheck(), x)
    assert str(y) == "[B=2, C=6, H=11, W=15]"
    assert op(stride=2, groups=2).macs([x], [y]) == 2 * 4 * 5 * 7 * 3 * 9
    assert [w.shape for w in op(groups=2).weights(x)] == [(4, 3, 3, 3), (6,)]
    refused("E0213", op(output_pad=1), MAP)
    refused("E0213", op(output_pad=-1), MAP)
    refused("E0213", op(pad=-1), MAP)
    refused("E0333", op(pad=5), "[B, C=4, H=2, W=2]")
    refused("E0321", op(groups=4), MAP)
    refused("E0304", op(), "[B, C, H, W]")


CONVOLVED = [
    (MAP, "[B, out=3, C=4, kh=3, kw=2]", {}),
    (MAP, "[B, out=6, C=2, kh=3, kw=3]", {"stride": [1, 2], "pad": 1, "groups": 2}),
    (MAP, "[B, out, C=4, kh, kw]", {}),
    (TOKENS, "[out=3, C=4, k=3]", {"pad": 1}),
    (TOKENS, "[B, out=4, C=1, k=3]", {"groups": 4}),
    ("[C=4, N]", "[out=3, C=4, k=3]", {}),
]


@pytest.mark.parametrize(("x", "w", "given"), CONVOLVED, ids=str)
def test_convolve(x, w, given):
    agree(made(Convolve, **given), x, w, sizes={"out": 5, "kh": 3, "kw": 4})


def test_convolve_figures_and_refusals():
    op = made(Convolve)
    x, w = typed("[B=2, C=4, H=9, W=9]"), typed("[B=2, out=3, C=4, kh=2, kw=3]")
    (y,) = op.infer(FakeCheck(), x, w)
    assert str(y) == "[B=2, C=3, H=8, W=7]"
    assert op.macs([x, w], [y]) == 2 * 3 * 8 * 7 * 4 * 6
    assert op.reach("W", 0, [x, w], [y]).high == 2
    good = "[B, out=3, C=4, kh=3, kw=3]"
    refused("E0301", op, MAP, "[B, out=3, C=5, kh=3, kw=3]")
    refused("E0302", op, MAP, "[B, C=4, kh=3, kw=3]")
    refused("E0302", op, "[C=4, H, W]", good)
    refused("E0303", op, MAP, "[B, out=3, C=4, kh=3]")
    refused("E0303", op, MAP, "[B, out=3, C=4, H=3, W=3]")
    refused("E0303", op, "[B, heads=2, C=4, H, W]", good)
    refused("E0303", op, "[B, C=4]", "[B, out=3, C=4]")
    refused("E0321", made(Convolve, groups=2), MAP, "[B, out=3, C=2, kh=3, kw=3]")
    refused("E0333", op, "[B, C=4, H=2, W=9]", good)
    refused("E0305", op, MAP, "int[B, out=3, C=4, kh=3, kw=3]")
    refused("E0213", made(Convolve, stride=0), MAP, good)
    refused("E0213", made(Convolve, pad=[1, 1, 1]), MAP, good)
    check = FakeCheck()
    op.infer(check, typed(MAP), typed("[B, out=3, C=4, kh, kw]"))
    assert ("at_least", Size.symbol("kh"), Size.of(1), "E0333") in check.stated


# ---- pools


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
            assert slide.steps(FakeCheck(), Size.symbol("N"), ceil).evaluate({"N": n}) == wanted, (k, s, p, d, n, ceil)


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
        agree(made(op, **given), text, sizes={name: size + grow for name, size in {"H": 6, "W": 9, "N": 7, "T": 4}.items()})


def test_pool_arguments():
    agree(made(MaxPool, kernel=3, dilation=2, on=HW), MAP)
    for text, on in ((MAP, HW), (TOKENS, ("N",)), ("[B, heads=2, C=4, H, W]", HW), (VIDEO, ("T", "H", "W")), ("[H, W]", HW)):
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
        for name, bad in (("kernel", 0), ("stride", 0), ("pad", 2), ("pad", "same"), ("kernel", [1, 2, 3]), ("pad", -1)):
            refused("E0213", made(op, **{"kernel": 3, "on": HW, name: bad}), MAP)
        refused("E0333", made(op, kernel=5, on=HW), "[B, C=4, H=4, W=9]")
        refused("E0213", made(op, kernel=3, pad="tf", ceil=True, on=HW), MAP)
        refused("E0305", made(op, kernel=3, on=HW), "int[B, C=4, H, W]")
        refused("E0303", made(op, kernel=3, on=()), "[B, C=4]")
    refused("E0213", made(MaxPool, kernel=3, pad="tf", index=True, on=HW), MAP)


@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_pool(kind):
    for text, sizes in (
        (MAP, {"H": 2, "W": 4}), (MAP, {"H": 7, "W": 5}), (MAP, {"W": 1}), (TOKENS, {"N": 3}), (VIDEO, {"T": 2, "H": 2, "W": 2}),
        ("[B, heads=2, C=4, H, W]", {"H": 3, "W": 3}), (TOKENS, {"C": 2}), ("[N]", {"N": 2}),
        ("[B, T, H, W, N]", {"N": 2}),
    ):  # fmt: skip
        trial = agree(made(AdaptivePool, sizes=sizes, kind=kind), text)
        assert made(AdaptivePool, sizes=sizes).flops([typed(text)], trial.types) == typed(text).elements
    agree(made(AdaptivePool, sizes={"H": Scalar(Size.symbol("M"), Const(5))}, kind=kind), MAP)
    for bad in ({}, {"H": 0}, {"H": "x"}, {"H": 1.5}):
        refused("E0303" if not bad else "E0213", made(AdaptivePool, sizes=bad, kind=kind), MAP)
    refused("E0302", made(AdaptivePool, sizes={"Q": 1}), MAP)
    refused("E0213", made(AdaptivePool, sizes={"H": 1}, kind="min"), MAP)
    refused("E0213", AdaptivePool(sizes={"H": "W"}), MAP)


# ---- embed, lstm, dropout


def test_embed():
    ids = [torch.randint(0, 11, (2, 7))]
    assert agree(made(Embed, vocab=11, dim=3), "int[B, N]", data=ids).constructor == "nn.Embedding(11, 3)"
    refused("E0305", made(Embed, vocab=11, dim=3), "[B, N]")
    refused("E0301", made(Embed, vocab=11, dim=3), "int[B, C=4]")
    for name in ("vocab", "dim"):
        refused("E0213", made(Embed, **{"vocab": 11, "dim": 3, name: 0}), "int[B, N]")


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
def test_lstm(layers, both):
    op = made(Lstm, size=3, layers=layers, both=both)
    for text in (TOKENS, "[B, C=4, T]", "[B, objects=2, N, C=4]", "[N, C=4]"):
        agree(op, text)
    x, ways = typed("[B=2, N=7, C=4]"), 2 if both else 1
    (y,) = op.infer(FakeCheck(), x)
    widths = [4] + [3 * ways] * (layers - 1)
    assert op.macs([x], [y]) == sum(2 * 7 * 4 * (width + 3) * 3 * ways for width in widths)
    assert op.flops([x], [y]) == 2 * 7 * 21 * 3 * ways * layers


def test_lstm_refuses():
    refused("E0303", made(Lstm, size=3), MAP)
    refused("E0303", made(Lstm, size=3), "[B, C=4]")
    refused("E0304", made(Lstm, size=3), "[B, N, C]")
    for name, bad in (("size", 0), ("layers", 0), ("layers", 10**9)):
        refused("E0213", made(Lstm, **{"size": 3, name: bad}), TOKENS)


def test_dropout():
    for whole in (None, "B", "C"):
        for text in ("[B, C=4]", TOKENS, MAP, VIDEO, "[B, heads=2, C=4, T, H, W]"):
            agree(made(Dropout, p=0.1, whole=whole), text)
    assert agree(made(Dropout, p=0.1), MAP).text == "F.dropout(a, 0.1, self.training)"
    assert agree(made(Dropout, p=0.1, whole="C"), MAP).text == "F.dropout2d(a, 0.1, self.training)"
    assert agree(made(Dropout, p=0.1, whole="B"), MAP).text == "drop_path(a, 0.1, self.training)"
    assert agree(made(Dropout, p=0.0, whole="B"), MAP).text == "a"
    for bad in (-0.1, 1, 1.5, math.nan):
        refused("E0213", made(Dropout, p=bad), MAP)
    refused("E0302", made(Dropout, p=0.1, whole="B"), "[C=4]")
    refused("E0302", made(Dropout, p=0.1, whole="Q"), MAP)
    agree(made(StopGradient), MAP)


def test_drop_path_drops_whole_samples():
    from op_bench import namespace

    drop_path = namespace(["drop_path"])["drop_path"]
    torch.manual_seed(0)
    x = torch.ones(1000, 3, 2)
    y = drop_path(x, 0.25, True)
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (y.flatten(1).std(1) == 0).all()
    assert abs(y.mean().item() - 1) < 0.05
    assert drop_path(x, 0.25, False) is x


# ---- whatever is given


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
    "int": 2, "float": 0.25, "bool": True, "str": "none", "size": 1, "axis": "C", "axes": ("H", "W"), "any": 1,
}  # fmt: skip
TYPES = [
    "[]", "[B]", "[C=4]", "[B, C=4]", "[B, C]", MAP, TOKENS, VIDEO, "int[B, N]", "bool[B, N]", "int[]", "[B, H=0, C=4, W=1]",
    "[B, self=4, C=4, H]", "[B, heads=3, C=6, H, W]", "[B, T, H, W, N, M]", "int[B, C=4, H, W]",
    "bool[B, C=4, H, W]", "[B, out=4, C=4, kh=3, kw=3]", MAP,
]  # fmt: skip
FAMILIES = [
    *OPERATORS.values(), NEGATIVE, NOT, Conv, ConvTranspose, Convolve, MaxPool, AvgPool, AdaptivePool, BatchNorm, Standardize,
    LayerNorm, RmsNorm, GroupNorm, Sum, Variance, AnyOf, Softmax, CumulativeSum, ArgMax, Embed, Lstm, Dropout, StopGradient, Gelu,
    Clamp, Identity, pointwise.Exp,
]  # fmt: skip


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
                given[p.name] = {axis: value("any") for axis in pick.sample(["H", "W", "C", "Q", "self"], pick.randint(0, 2))}
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


# ---- in the form of a region


@dataclass(frozen=True)
class Thirds:
    """The form of windows of 3 along N: groups, then queries."""

    on: str = "N"
    of: str = "windows"

    def enter(self, code, x):
        place = x.at(self.on)
        order = (*x.order[:place], "@groups", "@queries", *x.order[place + 1 :])
        return replace(x, text=f"{x.atom}.unflatten({place}, (-1, 3))", order=order, binding=ATOM, where=self)

    def merge(self, code, x):
        x = x.to(tuple(name for name in x.order if not name.startswith("@")) + ("@groups", "@queries"))
        text, order = f"{x.atom}.flatten(-2)", (*x.order[:-2], self.on)
        return replace(x, text=text, order=order, binding=ATOM, where=None)


def formed(op, *operands):
    """The emitted operand of operands (type, order, form or None), and whether its value is the meaning."""
    code, space, named, given = FakeCode(), {"torch": torch, "F": F, "self": None}, [], []
    for name, (text, order, form) in zip("ab", operands, strict=False):
        type, sizes = typed(text), {**SIZES, "N": 6}
        data = numbers(type, sizes)
        named.append(Named(data, type.names, type))
        shown = Operand("t", type, type.names)
        entered = form.enter(code, shown) if form and any(n.startswith("@") for n in order) else shown
        space[name] = eval(entered.to(order).text, {"t": data}).contiguous()
        given.append(Operand(name, type, order, where=form))
    result = op.torch(code, *given)
    meant = op.reference(Run(torch, {}, {**SIZES, "N": 6}), *named)
    for line in code.lines:
        exec(line, space)
    logical = result.merged(code)
    got = eval(logical.text, space).permute([logical.order.index(name) for name in meant.names])
    torch.testing.assert_close(got, meant.data)
    return result


SCORES = ("[B, heads=2, N, tap=3]", ("B", "heads", "@groups", "@queries", "tap"), Thirds())


def test_arithmetic_stays_in_the_form_of_a_region():
    plus = made(OPERATORS["+"])
    for other in (
        SCORES,
        ("[heads=2, tap=3]", ("tap", "heads"), None),
        ("[B, heads=2]", ("B", "heads"), None),
        ("[heads=2, N, tap=3]", ("heads", "N", "tap"), None),
    ):
        assert formed(plus, SCORES, other).where == Thirds()
        assert formed(plus, other, SCORES).where == Thirds()
    assert formed(made(OPERATORS["*"], right=0.5), SCORES).where == Thirds()
    assert formed(NEGATIVE(), SCORES).where == Thirds()
    assert formed(made(pointwise.Exp), SCORES).where == Thirds()


def test_different_forms_meet_in_the_order_of_the_type():
    other = ("[B, heads=2, N, tap=3]", ("B", "heads", "@queries", "@groups", "tap"), Thirds())
    assert formed(made(OPERATORS["+"]), SCORES, other).where == Thirds()
    strange = Operand("b", typed(SCORES[0]), SCORES[1], where=Thirds(of="grids"))
    result = made(OPERATORS["+"]).torch(FakeCode(), Operand("a", typed(SCORES[0]), SCORES[1], where=Thirds()), strange)
    assert result.where is None


def test_halves_of_a_form_broadcast():
    a = Operand("a", typed("[heads=2, N, tap=3]"), ("heads", "@groups", "tap"), where=Thirds())
    b = Operand("b", typed("[heads=2, N, tap=3]"), ("heads", "@queries", "tap"), where=Thirds())
    result = made(OPERATORS["+"]).torch(FakeCode(), a, b)
    assert result.order == ("heads", "@groups", "@queries", "tap")
    assert result.text == "a[:, :, None] + b[:, None]"


def test_what_runs_along_taps_stays_in_the_form():
    assert formed(made(Softmax, axis="tap"), SCORES).where == Thirds()
    assert formed(made(Sum, axes=("tap",)), SCORES).where == Thirds()
    assert formed(made(ArgMax, axis="heads"), SCORES).where == Thirds()
    assert formed(made(Mean, axes=("N",)), SCORES).where is None
    assert formed(made(Softmax, axis="N"), SCORES).where is None
