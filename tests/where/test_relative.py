"""Biases by offset: against the published index formulas, the emitted text against the meaning, and refusals."""

from __future__ import annotations

import pytest
import torch
from named_bench import agree
from op_bench import FakeCheck, refused, typed
from test_regions import ALL, HALO, NEAR, ROW, make, taps

from archc.ir.sym import const
from archc.ops.relative import Relative

LIKE = "[B, heads=2, H, W, tap={}]"
PLAIN = [name for name, region in ALL.items() if not any(sign in name for sign in ("+", "*", "criss"))]


def real(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("name", PLAIN)
def test_relative(name):
    region = ALL[name]
    axes = ", ".join(f"d{i}=21" for i in range(len(region.axes(("H", "W")))))
    like = LIKE.format(taps(region))
    agree(Relative(over=region), f"[heads=2, {axes}]", like)
    agree(Relative(over=region, centre=const(11)), f"[{axes}]", like)


def test_one_table_for_both_parts_of_a_union():
    region = make(NEAR, 3) + make(ALL["window"].__class__, 3)
    agree(Relative(over=region), "[heads=2, dy=5, dx=5]", LIKE.format(18))
    refused("E0213", Relative(over=ALL["column + row"]), "[dy=17]", LIKE.format(15))
    refused("E0213", Relative(over=ALL["window * everywhere"]), "[dy=17, dx=17]", LIKE.format(27))


@pytest.mark.parametrize("name", ["window", "grid"])
def test_maxvit(name):
    """table[head, kh - qh + w - 1, kw - qw + w - 1] within a window or grid of w x w."""
    table = real(2, 5, 5)
    data = [table, real(2, 2, 6, 9, 9)]
    bias = agree(Relative(over=ALL[name]), "[heads=2, dy=5, dx=5]", LIKE.format(9), data=data).values[0]
    for qy, qx in ((0, 0), (1, 2), (2, 1)):
        place = (qy, qx) if name == "window" else (qy * 2, qx * 3)
        expected = torch.stack([table[:, ky - qy + 2, kx - qx + 2] for ky in range(3) for kx in range(3)], -1)
        torch.testing.assert_close(bias[:, place[0], place[1]], expected)


def test_natten():
    """Row (start - q + K - 1) + j of a table of 2K - 1, per axis, for a window that slides at the border."""
    k, d, h, w = 3, 2, 7, 8
    table = real(2, 5, 5)
    region = make(NEAR, k, dilation=d, edge="shift")
    like = f"[B=1, heads=2, H={h}, W={w}, tap=9]"
    bias = agree(Relative(over=region), "[heads=2, dy=5, dx=5]", like, data=[table, real(1, 2, h, w, 9)]).values[0]

    def rows(i, n):
        residue, q = i % d, i // d
        count = (n - residue + d - 1) // d
        start = min(max(q - k // 2, 0), count - k)
        return [start - q + k - 1 + j for j in range(k)]

    for y in range(h):
        for x in range(w):
            expected = torch.stack([table[:, a, b] for a in rows(y, h) for b in rows(x, w)], -1)
            torch.testing.assert_close(bias[:, y, x], expected)


def test_halo_measures_from_the_coarse_query():
    """HaloNet: entry u - y + win - 1 of a table of 2 win - 1, where y counts the strided queries of a block."""
    block, halo, win = 4, 1, 6
    region = make(HALO, block, halo, stride=2, edge="zero", query="coarse")
    table = real(2 * win - 1)
    like = "[B=1, W=4, tap=6]"
    op = Relative(over=region, centre=const(halo + win - 1))
    bias = agree(op, "[dx=11]", like, data=[table, real(1, 4, 6)]).values[0]
    expected = torch.stack([table[torch.arange(win) - y + win - 1] for y in (0, 1, 0, 1)])
    torch.testing.assert_close(bias, expected)
    agree(Relative(over=make(HALO, 4, 1, stride=2)), "[dx=13]", like)


@pytest.mark.parametrize("on", [("W",), ("H",)])
@pytest.mark.parametrize("name", ["window", "halo", "neighborhood", "shifting neighborhood", "strided"])
def test_one_axis_alone(name, on):
    region = make(HALO, 3, 1, edge="zero", query="coarse") if name == "strided" else ALL[name]
    like = LIKE.format(taps(region))
    agree(Relative(over=region, on=on), "[heads=2, C=3, d=13]", like)
    agree(Relative(over=region, on=on, centre=const(7)), "[d=14]", like)
    refused("E0302", Relative(over=region, on=("T",)), "[d=13]", like)


def test_the_text():
    assert agree(Relative(over=ALL["window"]), "[heads=2, dy=5, dx=5]", LIKE.format(9)).text.endswith(
        "relative_bias(a, (3, 3), (3, 3)).flatten(-3, -2)"
    )


def test_refusals():
    window = Relative(over=ALL["window"])
    refused("E0331", window, "[heads=2, dy=3, dx=5]", LIKE.format(9))
    refused("E0213", window, "[heads=2, dy=6, dx=5]", LIKE.format(9))
    refused("E0303", window, "[dy=5]", LIKE.format(9))
    refused("E0304", window, "[dy=5, N]", LIKE.format(9))
    refused("E0301", window, "[H, dy=5, dx=5]", LIKE.format(9))
    refused("E0302", window, "[dy=5, dx=5]", "[B, heads=2]")
    refused("E0213", Relative(over=ALL["window"], centre=const(-1)), "[dy=5, dx=5]", LIKE.format(9))
    check = FakeCheck()
    Relative(over=ROW).infer(check, typed("[dx=13]"), typed("[B, H, W, tap]"))
    assert ("at_least", "6", "W - 1") in {(kind, str(a), str(b)) for kind, a, b, _ in check.stated}
