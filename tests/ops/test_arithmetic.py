"""Operators: broadcasting by name, element types, precedence and the forms of regions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from op_bench import SIZES, FakeCheck, FakeCode, agree, made, numbers, refused, typed
from torch.nn import functional as F

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import Apply, Const, Scalar, Var, apply
from archc.ops import pointwise
from archc.ops.along import ArgMax, Softmax
from archc.ops.arithmetic import NEGATIVE, NOT, OPERATORS
from archc.ops.reduce import Mean, Sum
from archc.reference.named import Named, Run
from archc.sizes import Size

MAP, TOKENS = "[B, C=4, H, W]", "[B, N, C=4]"


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
        agree(
            made(OPERATORS[symbol]),
            "int[B, N]",
            "int[N]",
            data=[torch.randint(-9, 9, (2, 7)), torch.arange(1, 8)],
        )
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
    assert (
        "only the left has N, only the right M" in refused("E0301", plus, "[B, N, C=4]", "[B, M, C=4]").label
    )
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
        x = x.to((*(name for name in x.order if name[0] != "@"), "@groups", "@queries"))
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
    result = made(OPERATORS["+"]).torch(
        FakeCode(), Operand("a", typed(SCORES[0]), SCORES[1], where=Thirds()), strange
    )
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
