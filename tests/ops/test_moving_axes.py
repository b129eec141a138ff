"""Layout: what moves values without computing: the emitted text against the meaning, and the refusals."""

from __future__ import annotations

import itertools

import pytest
import torch
from named_bench import agree, named_number, symbol
from op_bench import made, refused, typed
from torch.nn import functional as F

from archc.ir.sym import const
from archc.ops.cast import Cast
from archc.ops.move import Flip, Roll
from archc.ops.pad import Pad
from archc.ops.pick import Pick
from archc.ops.rearrange import Rearrange
from archc.ops.rename import Rename
from archc.ops.resize import Resize, taps
from archc.ops.sources import Expand, Full, Index
from archc.ops.split import Cat, Split, Stack, Unstack
from archc.reference.named import Named, Run

MAP = "[B, C=4, H, W]"


# ---- rename and rearrange


def rearrange(pattern, **sizes):
    return made(Rearrange, pattern=pattern, sizes=sizes)


@pytest.mark.parametrize(
    "pattern, sizes, operand, result",
    [
        ("C=(heads C) -> heads C", {"heads": 2}, "[B, C=8, H, W]", "[B, heads=2, C=4, H, W]"),
        ("heads C -> C=(heads C)", {}, "[B, heads=2, C=3, H, W]", "[B, C=6, H, W]"),
        ("H W -> N=(H W)", {}, MAP, "[B, C=4, N=H*W]"),
        ("C=(t heads C) -> t heads C", {"t": 3, "heads": 2}, "[B, C=12, N]", "[B, t=3, heads=2, C=2, N]"),
        ("H W C -> H C W", {}, MAP, "[B, H, C=4, W]"),
        ("H=(H a) W=(W b) C -> C=(a b C) H W", {"a": 2, "b": 3}, MAP, "[B, C=24, H=H//2, W=W//3]"),
        ("B k -> B=(B k)", {}, "[B, k=3, C=4, N]", "[B=3*B, C=4, N]"),
        ("C=(taps level) -> level taps", {"level": 2, "taps": 2}, "[B, Q=3, C=4]", "[B, Q=3, level=2, taps=2]"),
        ("H -> T", {}, MAP, None),
    ],
)
def test_rearrange(pattern, sizes, operand, result):
    if result is None:
        refused("E0222", rearrange(pattern, **sizes), operand)
        return
    got = agree(rearrange(pattern, **sizes), operand)
    assert str(got.types[0]).replace(" // ", "//").replace(" * ", "*") == result


def test_rearrange_reads_like_torch():
    split = agree(rearrange("C=(three heads C) -> three heads C", three=3, heads=2), "[B, C=12, H, W]")
    assert split.text == "a.unflatten(1, (3, 2, -1))"
    assert agree(rearrange("heads C -> C=(heads C)"), "[B, heads=2, C=3, N]").text == "a.flatten(1, 2)"


def test_a_split_by_a_size_of_the_input():
    op = made(Rearrange, pattern="B=(B o) -> B o", sizes={"B": symbol("B")})
    check = agree(op, "[B=6, C=4]", sizes={"B": 3}).check
    assert [kind for kind, *_ in check.stated] == ["divides"]


@pytest.mark.parametrize(
    "pattern, sizes, code",
    [
        ("C -> ", {}, "E0222"),  # loses an axis
        ("C -> C C", {}, "E0222"),
        ("C=(a a) -> a", {"a": 2}, "E0222"),
        ("C -> C T", {}, "E0222"),
        ("T -> T", {}, "E0302"),
        ("C=(a b) -> a b", {}, "E0222"),  # two unknown factors
        ("C=(a b) -> a b", {"a": 3}, "E0321"),
        ("C=(a b) -> a b", {"a": 2, "b": 3}, "E0321"),
        ("C=(a b) -> a b", {"a": 0}, "E0213"),
        ("C=(a b) -> a b", {"a": 2, "z": 3}, "E0222"),
        ("C=(H b) -> H b", {"H": 2}, "E0222"),  # the result would have H twice
        ("C", {}, "E0222"),
        ("C -> C -> C", {}, "E0222"),
        ("C=((a) b) -> a b", {}, "E0222"),
        ("C=() -> C", {}, "E0222"),
        ("C=(2 b) -> b", {}, "E0222"),
        ("", {}, "E0222"),
    ],
)
def test_rearrange_refuses(pattern, sizes, code):
    refused(code, rearrange(pattern, **sizes), MAP)


def test_messages_name_what_divides():
    error = refused("E0321", rearrange("C=(heads C) -> heads C", heads=5), "[B, C=96, N]")
    assert "5 does not divide C = 96" in error.message
    assert "1, 2, 3, 4, 6" in error.help
    assert "loses an axis: `heads`" in refused("E0222", rearrange("C=(heads C) -> C", heads=2), MAP).message


def test_rename():
    assert str(agree(made(Rename, names={"H": "kh", "W": "kw"}), MAP).types[0]) == "[B, C=4, kh=H, kw=W]"
    agree(made(Rename, names={"C": "N", "N": "C"}), "[B, C=4, N]")
    refused("E0301", made(Rename, names={"H": "W"}), MAP)
    refused("E0302", made(Rename, names={"T": "N"}), MAP)
    refused("E0213", made(Rename, names={"H": "a b"}), MAP)
    refused("E0213", made(Rename, names={"H": 3}), MAP)


# ---- several tensors


def test_split():
    assert agree(made(Split, parts=3, axis="C"), "[B, C=6, N]").text.startswith("parts_0 = a.chunk(3, dim=1)")
    agree(made(Split, parts=[1, 2, 3], axis="C"), "[B, C=6, H, W]")
    agree(made(Split, parts=2, axis="heads"), "[B, heads=4, N, C=2]")
    agree(made(Split, parts=1, axis="C"), "[B, C=6]")
    check = agree(made(Split, parts=2, axis="H"), MAP).check
    assert [(kind, str(right), code) for kind, _, right, code in check.stated] == [("divides", "2", "E0321")]
    assert "1, 2, 4" in refused("E0321", made(Split, parts=3, axis="C"), MAP).help
    refused("E0321", made(Split, parts=[1, 2], axis="C"), MAP)
    refused("E0304", Split(parts=symbol("N"), axis="C"), MAP)
    refused("E0302", made(Split, parts=2, axis="T"), MAP)


def test_a_split_keeps_where_its_sizes_come_from():
    x = typed("[B, C=12, N]")
    (part, *_) = made(Split, parts=named_number("heads", 3), axis="C").infer(None, x)  # type: ignore[arg-type]
    assert "heads" in repr(part["C"].dim.sym)


def test_unstack_cat_stack():
    agree(made(Unstack, axis="t"), "[B, t=3, C=2, N]")
    refused("E0304", made(Unstack, axis="N"), "[B, t=3, C=2, N]")
    agree(made(Cat, axis="C"), ("[B, C=2, H, W]", "[B, C=3, H, W]"))
    agree(made(Cat, axis="N"), ("[B, C=2, N]", "[B, N, C=2]", "[N, B, C=2]"))
    agree(made(Stack, axis="k"), ("[B, C=2, N]", "[B, N, C=2]"))
    agree(made(Stack, axis="k"), ("[C=2, N]", "[C=2, N]"))
    grown = agree(made(Cat, axis="N"), ("[B, C=2, N]", "[B, C=2, N=3]")).types[0]
    assert str(grown) == "[B, C=2, N=N + 3]"


@pytest.mark.parametrize(
    "op, xs, code",
    [
        (made(Cat, axis="C"), ("[B, C=2, H=3]", "[B, C=2, H=4]"), "E0331"),
        (made(Cat, axis="C"), ("[B, C=2, H=3]", "[B, C=2, W=3]"), "E0301"),
        (made(Cat, axis="C"), ("[B, C=2]", "int[B, C=2]"), "E0305"),
        (made(Cat, axis="T"), ("[B, C=2]", "[B, C=2]"), "E0302"),
        (made(Stack, axis="C"), ("[B, C=2]", "[B, C=2]"), "E0301"),
        (made(Cat, axis="C"), (), "E0204"),
    ],
)
def test_tensors_that_do_not_fit(op, xs, code):
    from op_bench import FakeCheck

    from archc.ops.base import OpError

    with pytest.raises(OpError) as error:
        op.infer(FakeCheck(), tuple(typed(x) for x in xs))
    assert error.value.code == code


# ---- places


def pad(mode="zeros", value=0, **ends):
    amounts = {n: tuple(const(e) for e in end) if isinstance(end, tuple) else const(end) for n, end in ends.items()}
    return Pad(mode=const(mode), value=const(value), amounts=amounts)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("ends", [{"H": (1, 2), "W": 1}, {"W": (2, 0)}, {"C": (1, 3), "W": 2}, {"H": 0}])
def test_pad(mode, ends):
    agree(pad(mode, **ends), MAP)
    agree(pad(mode, **{n: e for n, e in ends.items() if n != "W"} or {"H": 1}), "[B, C=4, H, N, W]")


def test_pad_by_other_numbers():
    assert agree(pad(value=-1.5, N=2), "[B, C=4, N]").text == "F.pad(a, (2, 2), value=-1.5)"
    agree(pad(value=2, N=2), "int[B, N]")
    agree(pad(N=2), "bool[B, N]")
    refused("E0213", pad("mirror", N=1), "[B, N]")
    refused("E0213", pad(N=-1), "[B, N]")
    refused("E0333", pad("reflect", N=3), "[B, N=3]")
    refused("E0305", pad(value=0.5, N=2), "int[B, N]")
    refused("E0213", pad("circular", 1.0, N=2), "[B, N]")


def test_roll_flip():
    assert agree(made(Roll, shifts={"H": 1, "W": -2}), MAP).text == "a.roll((1, -2), (2, 3))"
    agree(made(Roll, shifts={"N": 9}), "[B, N]")
    assert agree(made(Flip, axes=("H", "C")), MAP).text == "a.flip(2, 1)"
    refused("E0302", made(Flip, axes=()), MAP)
    refused("E0213", made(Roll, shifts={"H": 0.5}), MAP)


@pytest.mark.parametrize(
    "fields, text, size",
    [
        ({"start": 1}, "a[:, 1:]", "N - 1"),
        ({"stop": 2}, "a[:, :2]", "2"),
        ({"stop": -1}, "a[:, :-1]", "N - 1"),
        ({"start": -2}, "a[:, -2:]", "2"),
        ({"index": 0}, "a[:, 0]", None),
        ({"index": -1}, "a[:, -1]", None),
        ({"list": [1, 0, 3, 3]}, "a[:, [1, 0, 3, 3]]", "4"),
        ({}, "a", "N"),
    ],
)
def test_pick(fields, text, size):
    got = agree(made(Pick, axis="N", **fields), "[B, N, C=4]")
    assert got.text == text
    assert ("N" in got.types[0]) == (size is not None)
    if size is not None:
        assert str(got.types[0]["N"].size) == size


def test_pick_stays_inside():
    assert agree(made(Pick, axis="C", index=3), MAP).text == "a[:, 3]"
    assert agree(made(Pick, axis="W", index=3), MAP).text == "a[..., 3]"
    for fields in ({"index": 4}, {"index": -5}, {"list": [0, 4]}, {"stop": 5}, {"start": 3, "stop": 2}):
        refused("E0213", made(Pick, axis="C", **fields), MAP)
    refused("E0302", made(Pick, axis="T", index=0), MAP)


# ---- resize


@pytest.mark.parametrize(
    "mode, align", [("nearest", False), *itertools.product(("bilinear", "bicubic"), (False, True))]
)
@pytest.mark.parametrize("sizes", [{"H": 5, "W": 13}, {"W": 4, "H": 11}, {"H": 1, "W": 2}, {"H": 6, "W": 9}])
def test_resize(mode, align, sizes):
    agree(made(Resize, mode=mode, align=align, sizes=sizes), MAP)
    agree(made(Resize, mode=mode, align=align, sizes=sizes), "[B, k=2, C=4, H, W]", turns=(0, 3))


def test_resize_of_one_axis_and_of_weights():
    agree(made(Resize, mode="bilinear", sizes={"N": 13}, align=True), "[B, C=4, N]")
    agree(made(Resize, sizes={"N": 5}), "[B, N, C=4]")
    agree(made(Resize, mode="bicubic", sizes={"a": 7, "b": 3}), "[heads=2, a=4, b=5]")
    agree(made(Resize, mode="bicubic", sizes={"a": 7, "b": 3}), "[a=4, b=5]")
    refused("E0303", made(Resize, mode="bicubic", sizes={"N": 5}), "[B, N]")
    refused("E0213", made(Resize, align=True, sizes={"N": 5}), "[B, N]")
    refused("E0333", made(Resize, sizes={"N": 5}), "[B, N=0]")


@pytest.mark.parametrize("n, m", [(4, 9), (9, 4), (7, 7), (5, 1)])
def test_the_weights_of_resize_are_those_of_torch(n, m):
    eye = torch.eye(n, dtype=torch.float64).reshape(1, n, n, 1).expand(1, n, n, 4)
    for mode, align in (("bilinear", False), ("bilinear", True), ("bicubic", False), ("bicubic", True)):
        theirs = F.interpolate(eye, (m, 4), mode=mode, align_corners=align)[0, :, :, 0]
        ours = torch.zeros(n, m, dtype=torch.float64)
        for i in range(m):
            for place, weight in taps(mode, align, n, m, i):
                ours[place, i] += weight
        torch.testing.assert_close(ours, theirs)


# ---- element types and sources


@pytest.mark.parametrize("old, new", [*itertools.product(("float", "int", "bool"), repeat=2)])
def test_cast(old, new):
    agree(made(Cast, to=new), f"{old}[B, N]")


def test_cast_refuses():
    refused("E0213", made(Cast, to="half"), "[B, N]")


def test_sources():
    agree(made(Index, sizes={"s": 5}))
    agree(made(Full, value=0.5, sizes={"s": 5, "k": 2}))
    agree(made(Full, value=3, sizes={"s": 5}))
    agree(made(Full, value=True, sizes={}), "[B, N]")
    agree(made(Full, value=2.0, sizes={}), "int[B, N]")
    assert agree(made(Expand, sizes={"B": symbol("B"), "k": 2}), "[N, C=4]").text == "a.expand(2, 2, -1, -1)"
    refused("E0301", made(Expand, sizes={"N": 2}), "[N, C=4]")
    refused("E0213", made(Index, sizes={"N": -1}))
    refused("E0213", made(Index, sizes={"a-b": 2}))
    refused("E0205", made(Index, sizes={"a": 1, "b": 2}))


def test_named_tensors():
    run = Run(torch, {}, {"N": 3})
    x = Named(torch.arange(6).reshape(2, 3), ("a", "b"))
    assert x.to(("b", "a")).shape == (3, 2) and x.last("a").shape == (3, 2)
    assert (x.at("b"), x.size("b")) == (1, 3)
    (p, q), names = run.align(run.named(torch.zeros(2), ("a",)), x)
    assert names == ("a", "b") and p.shape == (2, 1) and q.shape == (2, 3)
    assert run.number(symbol("N")) == 3 and run.number(const([1, [2]])) == [1, [2]]
    assert list(run.indices([1, 2])) == [(0, 0), (0, 1)]
