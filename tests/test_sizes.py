"""Sizes against plain integer arithmetic, and the laws of their normal form."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.sizes import Size, SizeError

H, W, C = (Size.symbol(name) for name in "HWC")
NUMBERS = st.integers(-40, 40)
DIVISORS = st.integers(1, 12)
ENVS = st.fixed_dictionaries({name: st.integers(1, 400) for name in "HWC"})


def trees(depth: int = 4) -> st.SearchStrategy[Any]:
    """Random expressions as nested tuples; both sides of a test are made from them."""
    leaf = st.one_of(NUMBERS, st.sampled_from("HWC"))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(st.sampled_from(["+", "-", "*", "min", "max"]), inner, inner),
            st.tuples(st.sampled_from(["//", "ceil", "%"]), inner, DIVISORS),
        ),
        max_leaves=2**depth,
    )


def symbolic(tree: Any) -> Size:
    match tree:
        case str():
            return Size.symbol(tree)
        case int():
            return Size.of(tree)
        case ("//", a, n):
            return symbolic(a) // n
        case ("%", a, n):
            return symbolic(a) % n
        case ("ceil", a, n):
            return symbolic(a).ceil_div(n)
    a, b = symbolic(tree[1]), symbolic(tree[2])
    return {
        "+": lambda: a + b,
        "-": lambda: a - b,
        "*": lambda: a * b,
        "min": lambda: Size.minimum(a, b),
        "max": lambda: Size.maximum(a, b),
    }[tree[0]]()


def number(tree: Any, env: dict[str, int]) -> int:
    match tree:
        case str():
            return env[tree]
        case int():
            return tree
        case ("//", a, n):
            return number(a, env) // n
        case ("%", a, n):
            return number(a, env) % n
        case ("ceil", a, n):
            return -(-number(a, env) // n)
    a, b = number(tree[1], env), number(tree[2], env)
    return {"+": a + b, "-": a - b, "*": a * b, "min": min(a, b), "max": max(a, b)}[tree[0]]


@settings(max_examples=400, deadline=None)
@given(trees(), ENVS)
def test_a_size_means_the_integer_expression(tree: Any, env: dict[str, int]) -> None:
    size, value = symbolic(tree), number(tree, env)
    assert size.evaluate(env) == value
    assert size.substitute(env) == value
    assert size.substitute({"H": env["H"]}).evaluate({"W": env["W"], "C": env["C"]}) == value


@settings(max_examples=400, deadline=None)
@given(trees(), ENVS)
def test_the_texts_mean_the_size(tree: Any, env: dict[str, int]) -> None:
    size, value = symbolic(tree), number(tree, env)
    names = {"H": "shape[0]", "W": "w + 0", "C": "c"}
    places = {"shape": [env["H"]], "w": env["W"], "c": env["C"]}
    assert eval(size.python(names), places) == value
    assert eval(f"1 * {size.python(names, grouped=True)} * 1", places) == value
    # What is printed is Python but for ceil(a / b) of whole numbers.
    assert eval(str(size), {"ceil": math.ceil, **env}) == value


@settings(max_examples=200, deadline=None)
@given(trees(3), trees(3), trees(3))
def test_ring_laws_hold_for_normal_forms(x: Any, y: Any, z: Any) -> None:
    a, b, c = symbolic(x), symbolic(y), symbolic(z)
    assert a + b == b + a and hash(a + b) == hash(b + a) and str(a + b) == str(b + a)
    assert a * b == b * a and (a + b) * c == a * c + b * c
    assert a - a == 0 and a + 0 == a and a * 1 == a and a * 0 == 0 and 0 - (-a) == a
    assert Size.minimum(a, b) == Size.minimum(b, a) and Size.maximum(a, a) == a
    assert (a == b) == (a.key == b.key)


@settings(max_examples=200, deadline=None)
@given(trees(3), trees(3), DIVISORS, DIVISORS)
def test_floor_laws_hold_for_normal_forms(x: Any, y: Any, n: int, m: int) -> None:
    a, p = symbolic(x), symbolic(y)
    assert (n * a + p) // n == a + p // n
    assert a // n * n + a % n == a
    assert (a * n) // n == a and (a * n * m) // (n * m) == a
    assert (a + (n - 1)) // n == a.ceil_div(n)


@given(DIVISORS, DIVISORS, NUMBERS)
def test_floors_of_floors_are_one_floor(a: int, b: int, c: int) -> None:
    assert H // a // b == H // (a * b)
    assert (H // a + c) // b == (H + a * c) // (a * b)
    assert -((-H) // (a + 2)) == H.ceil_div(a + 2)
    assert (c - H // (a + 2)) // (b + 2) == ((a + 2) * c + a + 1 - H) // ((a + 2) * (b + 2))
    assert (H.ceil_div(a)).ceil_div(b) == H.ceil_div(a * b)


@settings(max_examples=200, deadline=None)
@given(trees(3), trees(2))
def test_exact_division_undoes_a_product(x: Any, y: Any) -> None:
    a, b = symbolic(x), symbolic(y)
    quotient = (a * b).exact_div(b)
    assert quotient is None if b == 0 else quotient == a


def test_convolutions_with_stride_two_are_one_ceiling() -> None:
    size = H
    for _ in range(5):
        size = (size + 2 * 1 - 3) // 2 + 1
    assert size == H.ceil_div(32)
    assert H.ceil_div(2) == (H + 1) // 2


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (H // 4 + 1, "H // 4 + 1"),
        (H.ceil_div(32), "ceil(H / 32)"),
        (2 * C * H * W, "2*C*H*W"),
        (C * (H // 4), "C*(H // 4)"),
        ((H + W + 3) // 4, "ceil((H + W) / 4)"),
        ((H + W) // 4, "(H + W) // 4"),
        (W - H, "W - H"),
        (1 - H, "-H + 1"),
        (-(H // 4), "-(H // 4)"),
        (H * H + H, "H**2 + H"),
        (Size.minimum(H // 7, 7), "min(H // 7, 7)"),
        (Size.minimum(H + 1, W + 1), "min(H, W) + 1"),
        (H * W // C, "H*W // C"),
        (Size.of(-3), "-3"),
        (Size.of(0), "0"),
    ],
)
def test_texts(size: Size, text: str) -> None:
    assert str(size) == text


def test_python_text_uses_the_given_names() -> None:
    assert (2 * H * (W // 4) - 1).python({"H": "x.shape[2]", "W": "w"}) == "2 * x.shape[2] * (w // 4) - 1"
    assert H.ceil_div(2).python({"H": "a + b"}) == "((a + b) + 1) // 2"


def test_symbolic_divisors() -> None:
    heads = Size.symbol("heads")
    assert (H * W * heads).exact_div(heads) == H * W
    assert (H * H - W * W).exact_div(H + W) == H - W
    assert (H * W + heads).exact_div(heads) is None
    assert (2 * H + 1).exact_div(2) is None
    assert (H * W + heads) // heads == H * W // heads + 1
    assert ((H * W) // heads).evaluate({"H": 5, "W": 7, "heads": 4}) == 8
    assert ((H * W) // heads).substitute({"heads": 4}) == H * W // 4
    with pytest.raises(SizeError):
        (H // W).evaluate({"H": 1, "W": 0})


def test_minima_drop_what_cannot_win() -> None:
    assert Size.minimum(H, H + 1) == H
    assert Size.maximum(H, H + 1) == H + 1
    assert Size.minimum(Size.minimum(H, W), C) == Size.minimum(H, Size.minimum(C, W))
    assert Size.minimum(H, W).substitute({"W": H}) == H


def test_constants_equal_and_hash_as_numbers() -> None:
    assert Size.of(3) == 3 and hash(Size.of(3)) == hash(3) and Size.of(0) == 0
    assert {Size.of(3): "three"}[3] == "three"
    assert H != 3 and (H - H).constant == 0 and H.constant is None
    assert (7 - Size.of(3)) * 2 // 3 == Size.of(2)
    assert H != "H"


def test_symbols() -> None:
    assert (H // 4 + Size.minimum(W, 7)).symbols == {"H", "W"}
    with pytest.raises(KeyError):
        (H // 4).evaluate({})


@pytest.mark.parametrize("size", [Size.of(3), H * W // 7, H // W, Size.minimum(H // 3 + 1, W)])
def test_copies_are_equal(size: Size) -> None:
    assert copy.deepcopy(size) == size and pickle.loads(pickle.dumps(size)) == size


@pytest.mark.parametrize("divisor", [0, -2, Size.of(0)])
def test_divisors_below_one_are_refused(divisor: int | Size) -> None:
    with pytest.raises(SizeError):
        H // divisor


def test_fractions_are_refused() -> None:
    with pytest.raises(TypeError):
        Size.of(1.5)  # type: ignore[arg-type]


def test_work_is_bounded() -> None:
    power = Size.of(3)
    with pytest.raises(SizeError):
        for _ in range(64):
            power = power * power
    wide = H
    with pytest.raises(SizeError):
        for n in range(2, 200):
            wide = wide // n * W + wide // (n + 1)
    with pytest.raises(SizeError):
        power = H
        for _ in range(10):
            power = power * power
    with pytest.raises(SizeError):
        total = sum((Size.symbol(f"n{i}") for i in range(200)), Size.of(0))
        _ = total * total * total


def test_large_numbers_are_exact() -> None:
    big = 10**40 + 1
    assert (big * H).evaluate({"H": big}) == big * big
    assert (big * H + 1) // big == H
