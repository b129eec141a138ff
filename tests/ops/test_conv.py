"""Convolutions: emitted text, sizes, figures and refusals."""

from __future__ import annotations

import itertools

import pytest
from op_bench import FakeCheck, agree, made, refused, typed

from archc.ir.sym import Apply, Const, Scalar, Var, apply, evaluate
from archc.ops.adaptive_pool import AdaptivePool
from archc.ops.along import Softmax
from archc.ops.conv import Conv
from archc.ops.conv_transpose import ConvTranspose
from archc.ops.convolve import Convolve
from archc.ops.norms import GroupNorm
from archc.ops.pool import MaxPool
from archc.ops.reduce import Mean
from archc.ops.slides import default_padding
from archc.sizes import Size

HW = ("H", "W")
MAP, TOKENS, VIDEO = "[B, C=4, H, W]", "[B, N, C=4]", "[B, C=4, T, H, W]"


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
    assert (
        text(kernel=3, groups=4, dilation=2).constructor
        == "nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4)"
    )
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
        ("out", 0),
        ("kernel", 0),
        ("kernel", [3, 3, 3]),
        ("kernel", []),
        ("kernel", [3, -1]),
        ("stride", 0),
        ("dilation", -2),
        ("groups", 0),
        ("pad", -1),
        ("pad", "same"),
        ("pad", [1]),
        ("pad", 0.5),
        ("pad", True),
        ("kernel", [[3], 3]),
        ("out", 10**30),
        ("kernel", 10**30),
        ("stride", 2**31),
        ("pad", [1, "tf"]),
    ):
        refused("E0213", conv(**{name: bad}), MAP)
    refused(
        "E0213",
        Conv(out=made(Conv, out=8, kernel=1).out, kernel=made(Conv, out=8, kernel=1).kernel, pad="H", on=HW),
        MAP,
    )
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

    assert window(made(Conv, out=8, kernel=3, stride=2, on=HW), "[C=4, H=8, W=8]", "[C=8, H=4, W=4]") == (
        2,
        -1,
        1,
    )
    assert window(
        made(Conv, out=8, kernel=3, stride=2, pad="tf", on=HW), "[C=4, H=8, W=8]", "[C=8, H=4, W=4]"
    ) == (2, 0, 2)
    assert window(
        made(ConvTranspose, out=8, kernel=2, stride=2, on=HW), "[C=4, H=4, W=4]", "[C=8, H=8, W=8]"
    ) == (0.5, -0.5, 0)
    assert window(made(MaxPool, kernel=3, stride=2, pad=1, on=HW), "[C=4, H=8, W=8]", "[C=4, H=4, W=4]") == (
        2,
        -1,
        1,
    )
    assert window(made(AdaptivePool, sizes={"H": 2}), "[C=4, H=8]", "[C=4, H=2]") == (4, 0, 3)
    assert window(made(Softmax, axis="H"), "[C=4, H=8]", "[C=4, H=8]") is None
    assert window(made(Mean, axes=("W",)), "[H=8, W=8]", "[H=8]") == (1, 0, 0)
    assert window(made(GroupNorm, groups=2), "[C=4, H=8]", "[C=4, H=8]") is None
    op = made(Conv, out=8, kernel=3, axis="H", on=("W",))
    assert window(op, "[C=4, H=8, W=8]", "[C=4, H=8, W=8]") is None


@pytest.mark.parametrize(("size", "parts"), [(8, 3), (7, 2), (5, 5), (3, 7), (9, 1)])
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
