"""Contracts against brute force over all small sizes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archc.contract import Condition, Contract, Obligation, settle, solve
from archc.periodic import Periodic, everything, periodic
from archc.sizes import Atom, Extreme, Floor, Size

H, W, T, N, M = (Size.symbol(name) for name in "HWTNM")
NAMES = {"H": "h", "W": "w", "T": "t", "N": "n", "M": "m"}


def demand(kind: Any, left: Size | int, right: Size | int, *guards: Condition) -> Obligation:
    return Obligation(kind, Size.of(left), Size.of(right), None, f"{left} {kind} {right}", guards=guards)


def divides(n: Size | int, size: Size) -> Obligation:
    return demand("divides", size, n)


def equal(a: Size | int, b: Size | int) -> Obligation:
    return demand("equal", a, b)


def least(a: Size | int, b: Size | int) -> Obligation:
    return demand("at_least", a, b)


def halved(size: Size, times: int) -> Size:
    for _ in range(times):
        size = size.ceil_div(2)
    return size


def conditions_hold(contract: Contract, env: Mapping[str, int]) -> bool:
    """What the generated module would find."""
    if contract.refused:
        return False
    places = {NAMES[name]: n for name, n in env.items()}
    return all(eval(requirement.condition(NAMES), places) for requirement in contract.requirements)


def agrees(contract: Contract, obligations: list[Obligation], highest: int) -> None:
    """Contract, conditions, examples and nearest sizes say what the obligations say, up to `highest`."""
    some = None
    for values in product(range(1, highest + 1), repeat=len(contract.symbols)):
        env = dict(zip(contract.symbols, values, strict=True))
        truth = all(o.holds(env) for o in obligations)
        assert contract.admits(env) == truth, env
        assert conditions_hold(contract, env) == truth, (env, contract.describe())
        assert (contract.failing(env) is None) == truth or contract.refused
        some = some or (env if truth else None)
    assert not (contract.refused and some), some
    examples = contract.examples()
    assert all(contract.admits(example) for example in examples)
    assert len(examples) == len({tuple(example.values()) for example in examples})
    if some is not None:
        bound = contract.solution.bindings  # the least is the least of the sizes that are free
        assert examples and (bound or sum(examples[0].values()) <= sum(some.values()))
        assert contract.nearest(some)[0] == some
    if contract.refused:
        for one in contract.refused:  # no smaller part is refused
            rest = [other for other in contract.refused if other is not one]
            assert not solve(contract.symbols, rest).refused


def sizes(names: str, depth: int) -> st.SearchStrategy[Size]:
    leaf = st.one_of(st.sampled_from([Size.symbol(name) for name in names]), st.integers(-6, 20).map(Size.of))
    steps = st.one_of(
        st.tuples(st.just("+"), st.integers(-9, 9)),
        st.tuples(st.just("*"), st.integers(1, 4)),
        st.tuples(st.just("//"), st.integers(2, 8)),
        st.tuples(st.just("ceil"), st.integers(2, 8)),
    )

    def apply(size: Size, step: tuple[str, int]) -> Size:
        name, n = step
        if name in "+*":
            return size + n if name == "+" else size * n
        return size // n if name == "//" else size.ceil_div(n)

    def join(a: Size, b: Size, how: str) -> Size:
        if how in ("min", "max"):
            return Size.minimum(a, b) if how == "min" else Size.maximum(a, b)
        return {"+": a + b, "-": a - b, "*": a * b}[how]

    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(apply, inner, steps),
            st.builds(join, inner, inner, st.sampled_from(["+", "-", "*", "min", "max"])),
        ),
        max_leaves=depth,
    )


def obligations(names: str, depth: int) -> st.SearchStrategy[Obligation]:
    size = sizes(names, depth)
    guard = st.builds(Condition, st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"]), size, size)
    return st.one_of(
        st.builds(lambda a, b, g: demand("equal", a, b, *g), size, size, st.lists(guard, max_size=1)),
        st.builds(lambda a, b, g: demand("at_least", a, b, *g), size, size, st.lists(guard, max_size=1)),
        st.builds(
            lambda a, n, g: demand("divides", a, n, *g), size, st.integers(1, 12), st.lists(guard, max_size=1)
        ),
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(obligations("H", 6), min_size=1, max_size=4))
def test_one_symbol_against_brute_force(given_obligations: list[Obligation]) -> None:
    agrees(solve("H", given_obligations), given_obligations, 400)


@settings(max_examples=150, deadline=None)
@given(st.lists(obligations("HW", 6), min_size=1, max_size=4))
def test_two_symbols_against_brute_force(given_obligations: list[Obligation]) -> None:
    agrees(solve("HW", given_obligations), given_obligations, 24)


@settings(max_examples=60, deadline=None)
@given(st.lists(obligations("HWT", 4), min_size=1, max_size=3))
def test_three_symbols_against_brute_force(given_obligations: list[Obligation]) -> None:
    agrees(solve("HWT", given_obligations), given_obligations, 9)


@settings(max_examples=400, deadline=None)
@given(st.one_of(obligations("H", 8), obligations("HW", 6)))
def test_what_is_settled_alone_is_so(one: Obligation) -> None:
    word = settle(one)
    env = [{"H": h, "W": w} for h in range(1, 401) for w in ((1,) if one.guards else (1, 7, 40))]
    seen = {one.holds(each) for each in env}
    assert word == "depends" or seen == {word == "proved"}


@settings(max_examples=300, deadline=None)
@given(obligations("H", 4))
def test_linear_obligations_of_one_symbol_are_never_unproved(one: Obligation) -> None:
    parts = [one.left, one.right, *(size for guard in one.guards for size in (guard.left, guard.right))]
    if all(map(linear, parts)):
        assert not solve("H", [one]).unproved


def linear(size: Size) -> bool:
    """Whether nothing is multiplied, also in quotients and extremes."""
    inner = [part for monomial in size.terms for atom in monomial for part in parts_of(atom)]
    return all(len(monomial) < 2 for monomial in size.terms) and all(map(linear, inner))


def parts_of(atom: Atom) -> tuple[Size, ...]:
    match atom:
        case Floor(numerator=above, divisor=below):
            return (above, Size.of(below))
        case Extreme(options=options):
            return options
        case _:
            return ()


SETS = st.builds(
    lambda settled, period, head, cycle: periodic(
        settled, period, head & ((1 << settled) - 1), cycle & ((1 << period) - 1)
    ),
    st.integers(0, 12),
    st.integers(1, 12),
    st.integers(0, 1 << 12),
    st.integers(0, 1 << 12),
)


@given(SETS, SETS, st.integers(0, 40))
def test_sets_against_sets(a: Periodic, b: Periodic, n: int) -> None:
    both, either, outside = a.both(b), a.either(b), a.without(1)
    assert both is not None and either is not None
    for k in range(300):
        assert (k in both) == (k in a and k in b) and (k in either) == (k in a or k in b)
        assert (k in outside) == (k >= 1 and k not in a)
    later = [k for k in range(n, 300) if k in a]
    earlier = [k for k in range(n + 1) if k in a]
    assert a.following(n) == (later[0] if later else None)
    assert a.preceding(n) == (earlier[-1] if earlier else None)
    assert (both == a) == all(k in b for k in range(300) if k in a)
    assert a.empty == (a.following(0) is None) and -1 not in a


@pytest.mark.parametrize(
    ("given_obligations", "lines"),
    [
        ([divides(32, H)], ["H: a multiple of 32"]),
        ([divides(4, H), divides(6, H)], ["H: a multiple of 12"]),
        (
            [divides(7, halved(H, k)) for k in (2, 3, 4, 5)],
            ["H: any size with H mod 224 in {0, 221, 222, 223}"],
        ),
        ([equal(2 * H.ceil_div(32), H.ceil_div(16))], ["H: any size with H mod 32 in {0, 17..31}"]),
        ([equal((H + 1) // 2, H.ceil_div(2))], []),
        ([equal(H - H // 2, H.ceil_div(2))], []),
        ([divides(2, H + 1)], ["H: an odd size"]),
        ([divides(32, H), least(H // 32, 3)], ["H: a multiple of 32", "H >= 96"]),
        ([least(H, 65)], ["H >= 65"]),
        ([least((H - 7) // 2 + 1, 1)], ["H >= 7"]),
        ([least(64, H)], ["H <= 64"]),
        ([equal(H, 197)], ["H == 197"]),
        ([equal(H // 100, 1), divides(33, H)], ["H: one of 132, 165, 198"]),
        ([least(Size.minimum(H // 7, 7), 2)], ["H >= 14"]),
        ([least((H // 4) * (W // 8), 1)], ["H >= 4", "W >= 8"]),
        ([equal(H, W), divides(4, W)], ["H: a multiple of 4", "H == W"]),
        ([equal(H, W), divides(4, W * H)], ["H: a multiple of 2", "H == W"]),
        ([equal(N, H * W), divides(4, N)], ["H*W: a multiple of 4", "N == H*W"]),
        ([equal(W, 8), least(H * W, 60)], ["H >= 8", "W == 8"]),
        ([least(H * W, 900)], ["H*W >= 900"]),
        ([divides(4, H * W), divides(2, H), divides(2, W)], ["H: a multiple of 2", "W: a multiple of 2"]),
        ([least(H * W, H * (W // 2))], []),
        ([demand("divides", H, 7, Condition("ge", H, Size.of(7)))], ["H: a multiple of 7 where H >= 7"]),
        ([demand("equal", 1, 2, Condition("lt", Size.minimum(H, W), Size.of(7)))], ["min(H, W) >= 7"]),
        ([demand("at_least", 7, H, Condition("lt", H, Size.of(7)))], []),
        ([divides(W, H)], ["H: a multiple of W"]),
        ([divides(W, H * W)], []),
    ],
)
def test_the_simplest_statement_is_made(given_obligations: list[Obligation], lines: list[str]) -> None:
    symbols = [
        name for name in "HWN" if any(name in o.left.symbols | o.right.symbols for o in given_obligations)
    ]
    contract = solve(symbols or ["H", "W"], given_obligations)
    assert sorted(contract.describe()) == sorted(lines)
    assert not contract.unproved and not contract.refused
    agrees(contract, given_obligations, {1: 400, 2: 40, 3: 12}[len(contract.symbols)])


@pytest.mark.parametrize(
    "given_obligations",
    [
        [equal(2 * H, 7)],
        [equal(2 * H, 2 * W + 1)],
        [divides(2, 2 * H + 1)],
        [least(-H, 0)],
        [divides(2, H), divides(2, H + 1)],
        [divides(6, H), divides(10, H + 1)],
        [equal(H, W + 1), equal(W, H + 1)],
        [least(H, W + 1), least(W, H + 1)],
        [equal(H, W), least(H, W + 1)],
        [equal(H, 14), divides(4, H * W), equal(W, 3)],
        [divides(2, H), divides(2, H * W + 1)],
    ],
)
def test_contradictions_are_found_whole(given_obligations: list[Obligation]) -> None:
    bystanders = [divides(5, T), least(T, 10), equal(N, T)]
    contract = solve("HWTN", [*bystanders, *given_obligations, *bystanders])
    assert sorted(o.why for o in contract.refused) == sorted(o.why for o in given_obligations)
    assert (
        not contract.requirements
        and not contract.examples()
        and not contract.nearest(dict.fromkeys("HWTN", 1))
    )
    assert not contract.admits(dict.fromkeys("HWTN", 10))


@pytest.mark.parametrize(
    ("one", "word"),
    [
        (equal((H + 1) // 2, H.ceil_div(2)), "proved"),
        (equal(H - H // 2, H.ceil_div(2)), "proved"),
        (divides(2, H * H + H), "proved"),
        (divides(6, H * (H + 1) * (W + 0) * (2 * W + 1) * (W + 1)), "proved"),
        (least(H, 1), "proved"),
        (least(H * W, W), "proved"),
        (least(H, 0), "proved"),
        (equal(H, H + 1), "refused"),
        (divides(2, H * H + H + 1), "refused"),
        (least(3 - H - W, 2), "refused"),
        (divides(7, H), "depends"),
        (equal(H, W), "depends"),
        (demand("divides", H, 7, Condition("lt", H, Size.of(1))), "proved"),
    ],
)
def test_settle(one: Obligation, word: str) -> None:
    assert settle(one) == word


def test_sizes_of_state_may_be_zero() -> None:
    assert settle(least(M, 1)) == "proved"
    assert settle(least(M, 1), {"M": 0}) == "depends"
    assert settle(least(M * H, M), {"M": 0}) == "proved"
    contract = solve("HM", [least(M + H, 3)], {"M": 0})
    assert contract.examples()[0] == {"H": 1, "M": 2} or contract.examples()[0] == {"H": 3, "M": 0}
    assert contract.admits({"H": 3, "M": 0}) and not contract.admits({"H": 0, "M": 5})
    assert solve("M", [least(M, 1)], {"M": 0}).describe() == ["M >= 1"]


def test_what_nobody_knows_is_unproved_and_enforced() -> None:
    # H**3 + W**3 == T**3 has no solution, which is not found out here.
    fermat = equal(H * H * H + W * W * W, T * T * T)
    contract = solve("HWT", [fermat])
    assert contract.unproved == (fermat,) and not contract.refused
    assert contract.describe() == ["H**3 + W**3 == T**3 (not proved; checked at run time)"]
    assert not conditions_hold(contract, {"H": 1, "W": 2, "T": 3})


def test_reasons_name_the_obligations_behind_a_statement() -> None:
    window, strides = divides(7, halved(H, 5)), divides(32, H)
    valid, idle = least(H // 32, 9), least(H, 2)
    contract = solve("H", [idle, strides, window, valid, divides(16, H), window])
    assert contract.describe() == ["H: a multiple of 224", "H >= 448"]
    assert [r.reasons for r in contract.requirements] == [(strides, window), (valid,)]


def test_failing_names_the_obligation() -> None:
    obligations_ = [divides(4, H), least(H, 8)]
    contract = solve("H", obligations_)
    assert contract.failing({"H": 6}) is obligations_[0]
    assert contract.failing({"H": 4}) is obligations_[1]
    assert contract.failing({"H": 8}) is None
    with pytest.raises(KeyError):
        contract.failing({})


def test_examples_are_of_different_kinds() -> None:
    contract = solve("BHW", [divides(7, halved(size, k)) for size in (H, W) for k in (3, 5)])
    examples = contract.examples()
    assert examples[0] == {"B": 1, "H": 217, "W": 217} and len(examples) == 4
    assert any(example["H"] != example["W"] for example in examples)
    assert any(example["H"] % 2 and example["H"] > 1 for example in examples)
    above = contract.examples(at_least={"H": 300})
    assert above and all(example["H"] >= 300 for example in above)
    assert len(contract.examples(2)) == 2
    assert solve("H", [equal(H, 5)]).examples() == [{"H": 5}]
    assert contract.examples() == examples


def test_nearest() -> None:
    contract = solve("HW", [divides(32, H), divides(32, W)])
    assert contract.nearest({"H": 500, "W": 30}) == [{"H": 512, "W": 32}, {"H": 480, "W": 32}]
    assert solve("HW", [divides(32, H), equal(H, W)]).nearest({"H": 40, "W": 33})[0] == {"H": 32, "W": 32}
    assert solve("HW", [least(H * W, 100)]).nearest({"H": 3, "W": 9})


def test_two_inputs_of_a_tracker() -> None:
    def stage(size: Size) -> Size:
        for kernel, stride in ((11, 2), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1)):
            size = (size - kernel) // stride + 1
        return size - 2

    z, x = Size.symbol("Hz"), Size.symbol("Hx")
    contract = solve(["Hz", "Hx"], [least(stage(z), 1), least(stage(x), stage(z)), least(stage(x), 1)])
    assert [c for c in contract.describe() if c.startswith("Hz >=")] == ["Hz >= 103"]
    assert next(n for n in range(60, 400) if contract.admits({"Hz": 127, "Hx": n})) == 127
    assert contract.admits({"Hz": 134, "Hx": 127}) and not contract.admits({"Hz": 135, "Hx": 127})


def test_a_symbol_that_only_obligations_name_is_added() -> None:
    assert solve(["H"], [equal(H, W)]).symbols == ("H", "W")


@pytest.mark.parametrize(("name", "operand"), [("x.shape[2]", "x.shape[2]"), ("a + b", "(a + b)")])
def test_conditions_use_the_given_names(name: str, operand: str) -> None:
    requirement = solve("H", [divides(32, H)]).requirements[0]
    assert requirement.condition({"H": name}) == f"{operand} % 32 == 0"


def test_a_typical_model_is_solved_at_once() -> None:
    given_obligations = []
    for size in (H, W):
        for k in range(2, 6):
            stage = halved(size, k)
            for _ in range(30):
                given_obligations += [divides(7, stage), equal(stage, stage + 0), least(stage, 1)]
    start = time.perf_counter()
    contract = solve("BHW", given_obligations)
    assert time.perf_counter() - start < 0.3  # some milliseconds; loose for a busy machine
    assert len(contract.requirements) == 2


def test_long_periods_stay_quick_and_exact() -> None:
    start = time.perf_counter()
    contract = solve("H", [divides(1009, H.ceil_div(900)), divides(997, H // 1000), least(H // 3, 5)])
    assert time.perf_counter() - start < 5
    for n in (1, 908_100, 907_201, 997_000):
        env = {"H": n}
        assert conditions_hold(contract, env) == contract.admits(env)
    assert not contract.unproved
    start = time.perf_counter()
    wide = solve("H", [divides(10**7 + 19, H)])
    assert time.perf_counter() - start < 1
    assert wide.admits({"H": 10**7 + 19}) and not conditions_hold(wide, {"H": 10**7})


def test_high_powers_do_not_take_long() -> None:
    power = H
    for _ in range(6):
        power = power * power
    start = time.perf_counter()
    contract = solve("H", [divides(999_983, power + 1), least(power, 7 * H + 100), equal(power % 3, 0)])
    assert time.perf_counter() - start < 5
    assert not contract.admits({"H": 2})


def test_everything_starts_where_it_says() -> None:
    assert everything(3).following(0) == 3 and 2 not in everything(3) and 10**9 in everything(3)
