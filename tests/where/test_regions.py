"""Regions: index maps against formulas written apart, the emitted text against the meaning, figures and refusals."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from named_bench import agree, symbol
from op_bench import SIZES, FakeCheck, refused, typed

from archc.ir.sym import Apply, Const, Scalar, Var, const
from archc.ops.base import OpError, Reach, parameters
from archc.ops.region import Aggregate, Correlate, Look, Valid
from archc.reference.named import Run
from archc.where.base import Places
from archc.where.picked import Picked, Restricted
from archc.where.regions import REGION_NAMES, REGIONS, combine_regions

WINDOW, GRID, HALO, NEAR = (REGIONS[name] for name in ("window", "grid", "halo", "neighborhood"))
SELF, ROW, COLUMN, EVERYWHERE = (REGIONS[name]() for name in ("self", "row", "column", "everywhere"))
SHIFTED = REGIONS["shifted"]
MAP, HEADS = "[B, C=4, H, W]", "[B, heads=2, C=4, H, W]"


def value(given):
    if isinstance(given, tuple):
        return given  # names of axes
    return given if given is None or isinstance(given, Scalar) or hasattr(given, "taps") else const(given)


def make(region, *args, **given):
    names = [p.name for p in parameters(region)]
    return region(**{k: value(v) for k, v in {**dict(zip(names, args, strict=False)), **given}.items()})


ALL = {
    "window": make(WINDOW, 3),
    "window of two sizes": make(WINDOW, [2, 3]),
    "window in rows": make(WINDOW, 3, on=("W",)),
    "ragged window": make(WINDOW, 4, edge="drop"),
    "padded window": make(WINDOW, 4, edge="zero"),
    "grid": make(GRID, 3),
    "grid of two sizes": make(GRID, [2, 3]),
    "grid in columns": make(GRID, 2, on=("H",)),
    "halo": make(HALO, 3, 2),
    "halo of two sizes": make(HALO, [2, 3], [1, 2]),
    "halo with zeros": make(HALO, 3, 1, edge="zero"),
    "halo in rows": make(HALO, 3, 1, on=("W",)),
    "neighborhood": make(NEAR, 3),
    "dilated neighborhood": make(NEAR, 3, dilation=2),
    "neighborhood of two sizes": make(NEAR, [3, 5], edge="zero"),
    "shifting neighborhood": make(NEAR, 3, dilation=2, edge="shift"),
    "shifting neighborhood of two dilations": make(NEAR, [3, 3], dilation=[1, 3], edge="shift"),
    "wrapped neighborhood": make(NEAR, 5, edge="wrap"),
    "clamped neighborhood": make(NEAR, 5, edge="clamp"),
    "reflected neighborhood": make(NEAR, 5, edge="reflect"),
    "neighborhood in rows": make(NEAR, 5, on=("W",)),
    "everywhere": EVERYWHERE,
    "everywhere in rows": make(REGIONS["everywhere"], on=("W",)),
    "row": ROW,
    "column": COLUMN,
    "self": SELF,
    "criss-cross": (COLUMN - SELF) + ROW,
    "column + row": COLUMN + ROW,
    "row - self": ROW - SELF,
    "window - neighborhood": make(WINDOW, 3) - make(NEAR, 3),
    "neighborhood + window": make(NEAR, 3) + make(WINDOW, 3),
    "ragged window - self": make(WINDOW, 4, edge="drop") - SELF,
    "shifted window": make(SHIFTED, make(WINDOW, 3), 1),
    "masked shifted window": make(SHIFTED, make(WINDOW, 3), -1, edge="drop"),
    "window shifted by two sizes": make(SHIFTED, make(WINDOW, 3), [1, 2], edge="drop"),
    "shifted grid": make(SHIFTED, make(GRID, 3), 2),
    "shifted neighborhood": make(SHIFTED, make(NEAR, 3), 2, edge="drop"),
    "shifted zeros": make(SHIFTED, make(NEAR, 3, edge="zero"), 1, edge="drop"),
    "shifted ragged window": make(SHIFTED, make(WINDOW, 4, edge="drop"), 2, edge="drop"),
    "shifted rows": make(SHIFTED, make(WINDOW, 3, on=("W",)), 1, edge="drop"),
    "window * everywhere": make(WINDOW, 3, on=("H",)) * make(REGIONS["everywhere"], on=("W",)),
    "neighborhood * grid": make(NEAR, 3, on=("W",)) * make(GRID, 2),
    "neighborhood * self": make(NEAR, 3, edge="shift", on=("H",)) * SELF,
}


def places(q="[H, W]", k=None):
    return Places(typed(q).positions, typed(k or q).positions)


def index(region, sizes, k=None):
    """The key of every tap as a position, or None, for queries of these sizes."""
    run = Run(torch, {}, SIZES)
    q = "[" + ", ".join(f"{n}={s}" for n, s in zip("HW", sizes, strict=False)) + "]"
    key = q if k is None else "[" + ", ".join(f"{n}={s}" for n, s in zip("HW", k, strict=False)) + "]"
    flat, valid = region.index(run, places(q, key))
    return [[int(i) if ok else None for i, ok in zip(*row, strict=True)] for row in zip(flat, valid, strict=True)]


def taps(region, operand=MAP):
    return region.taps(places(operand)).evaluate(SIZES)


# ---- the maps, one axis at a time, from formulas written apart


@pytest.mark.parametrize("n, w", [(12, 3), (7, 7), (8, 2)])
def test_window_map(n, w):
    region = make(WINDOW, w)
    assert index(region, [n]) == [[w * (i // w) + u for u in range(w)] for i in range(n)]


@pytest.mark.parametrize("n, g", [(12, 3), (7, 7), (8, 2)])
def test_grid_map(n, g):
    assert index(make(GRID, g), [n]) == [[j for j in range(n) if j % (n // g) == i % (n // g)] for i in range(n)]


def test_ragged_window_map():
    found = index(make(WINDOW, 3, edge="drop"), [5])
    assert found[0] == [0, 1, 2] and found[4] == [3, 4, None]
    assert index(make(WINDOW, 3, edge="zero"), [5])[4] == [3, 4, -1]


@pytest.mark.parametrize("b, h", [(3, 1), (4, 3), (2, 0)])
def test_halo_map(b, h):
    padded = [None] * h + list(range(12)) + [None] * h
    found = index(make(HALO, b, h), [12])
    for i, row in enumerate(found):
        start = i // b * b
        assert row == padded[start : start + b + 2 * h]
    assert index(make(HALO, b, h, edge="zero"), [12])[0] == [-1 if j is None else j for j in padded[: b + 2 * h]]


def test_strided_halo_map():
    # HaloNet with stride 2: queries on every second position, blocks of 4, so 2 queries in a block.
    found = index(make(HALO, 4, 1, stride=2, edge="zero"), [4], [8])
    assert found == [[-1, 0, 1, 2, 3, 4]] * 2 + [[3, 4, 5, 6, 7, -1]] * 2


@pytest.mark.parametrize("k", [3, 5, 7])
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("extra", [0, 1, 2, 7])
def test_shifting_neighborhood_is_natten(k, d, extra):
    """The closed form of NATTEN's `get_window_start` and `get_pb_start`, checked there for all borders."""
    length = k * d + extra

    def window_start(i):
        if d == 1:
            return max(i - k // 2, 0) + (length - i - k // 2 - 1) * (i + k // 2 >= length)
        ni = i - (k // 2) * d
        if ni < 0:
            return i % d
        if i + (k // 2) * d >= length:
            imodd, a = i % d, length // d * d
            b = length - a
            return length - b + imodd - 2 * (k // 2) * d if imodd < b else a + imodd - k * d
        return ni

    found = index(make(NEAR, k, dilation=d, edge="shift"), [length])
    assert found == [[window_start(i) + u * d for u in range(k)] for i in range(length)]


def test_edges_of_a_neighborhood():
    first = {edge: index(make(NEAR, 5, edge=edge), [4])[0] for edge in ("drop", "zero", "wrap", "clamp", "reflect", "shift")
             if edge != "shift"}  # fmt: skip
    assert first == {
        "drop": [None, None, 0, 1, 2],
        "zero": [-1, -1, 0, 1, 2],
        "wrap": [2, 3, 0, 1, 2],
        "clamp": [0, 0, 0, 1, 2],
        "reflect": [2, 1, 0, 1, 2],
    }
    assert index(make(NEAR, 3, dilation=2), [5])[4] == [2, 4, None]


def test_maps_of_two_axes_are_products():
    region, h, w = make(NEAR, 3, edge="shift"), 4, 5
    rows, columns = index(region, [h]), index(region, [w])
    expected = [[y * w + x for y in rows[i] for x in columns[j]] for i in range(h) for j in range(w)]
    assert index(region, [h, w]) == expected


def test_lines_and_compositions():
    h, w = 3, 4
    at = list(itertools.product(range(h), range(w)))
    rows = [[y * w + u for u in range(w)] for y, _ in at]
    columns = [[u * w + x for u in range(h)] for _, x in at]
    assert index(ROW, [h, w]) == rows and index(COLUMN, [h, w]) == columns
    assert index(SELF, [h, w]) == [[y * w + x] for y, x in at]
    assert index(EVERYWHERE, [h, w]) == [list(range(h * w))] * (h * w)
    criss = index((COLUMN - SELF) + ROW, [h, w])
    assert criss == [
        [None if u == y else c for u, c in enumerate(column)] + row
        for (y, _), column, row in zip(at, columns, rows, strict=True)
    ]
    product = make(WINDOW, 3, on=("H",)) * make(REGIONS["everywhere"], on=("W",))
    assert index(product, [h, w]) == [list(range(h * w))] * (h * w)


def test_shifted_windows_are_those_of_swin():
    """Rolled windows with the mask of the Swin transformer: its shift s is -s here."""
    n, w, s = 12, 4, 2
    found = index(make(SHIFTED, make(WINDOW, w), -s, edge="drop"), [n])
    labels = torch.zeros(n)
    for label, part in enumerate((slice(0, -w), slice(-w, -s), slice(-s, None))):
        labels[part] = label
    rolled = torch.arange(n).roll(-s)
    for j in range(n):
        window = range(j // w * w, j // w * w + w)
        expected = [int(rolled[u]) if labels[u] == labels[j] else None for u in window]
        assert found[int(rolled[j])] == expected
    full = index(make(SHIFTED, make(WINDOW, w), -s), [n])
    assert all(None not in row for row in full)


# ---- the emitted text against the meaning


@pytest.mark.parametrize("name", ALL)
def test_correlate(name):
    agree(Correlate(over=ALL[name]), HEADS, HEADS)
    agree(Correlate(over=ALL[name]), HEADS, MAP, turns=(0, 1))


@pytest.mark.parametrize("name", ALL)
def test_aggregate(name):
    op, k = Aggregate(over=ALL[name]), taps(ALL[name])
    agree(op, f"[B, heads=2, H, W, tap={k}]", HEADS)
    agree(op, f"[B, heads=2, H, W, tap={k}]", MAP, turns=(0, 1))
    agree(op, f"[B, heads=2, H, W, tap={k}]", "[B, H, W]", turns=(0, 1))
    if op.over.local:
        agree(op, f"[B, H, W, tap={k}]", HEADS, turns=(0, 1))
        agree(op, f"[heads=2, tap={k}]", HEADS, turns=(0, 1))
        agree(op, f"[C=4, tap={k}]", HEADS, turns=(0, 1))
        agree(op, f"[heads=2, H, tap={k}]", HEADS, turns=(0, 1))


@pytest.mark.parametrize("name", ALL)
def test_look_and_valid(name):
    agree(Look(over=ALL[name]), MAP)
    agree(Look(over=ALL[name]), "[B, H, W]", turns=(0, 1))
    agree(Valid(over=ALL[name]), MAP, turns=(0, 1))


@pytest.mark.parametrize(
    "region", [make(REGIONS["everywhere"], on=("W",)), ROW, COLUMN, make(WINDOW, 3, on=("W",))], ids=str
)
def test_other_axes_ride_along(region):
    video = "[B, heads=2, C=4, T, H, W]"
    k = taps(region, video)
    agree(Correlate(over=region), video, video, turns=(0, 2))
    agree(Aggregate(over=region), f"[B, heads=2, T, H, W, tap={k}]", video, turns=(0, 2))


def test_keys_elsewhere():
    memory = "[B, heads=2, C=4, M]"
    agree(Correlate(over=EVERYWHERE), HEADS, memory)
    agree(Correlate(over=EVERYWHERE), "[B, C=4]", memory)
    agree(Aggregate(over=EVERYWHERE), "[B, heads=2, H, W, tap=5]", memory)
    agree(Aggregate(over=EVERYWHERE), "[B, heads=2, tap=5]", memory)
    agree(Aggregate(over=EVERYWHERE), "[B, heads=2, N, tap=12]", "[B, heads=2, C=4, H=3, W=4]")


def test_strided_halo():
    q, k = "[B, heads=2, C=4, H=3, W=4]", "[B, heads=2, C=4, H=6, W=8]"
    region = make(HALO, 2, 1, stride=2, edge="zero")
    agree(Correlate(over=region), q, k)
    agree(Aggregate(over=region), "[B, heads=2, H=3, W=4, tap=16]", k)
    agree(Aggregate(over=region), "[heads=2, tap=16]", k)
    assert str(agree(Look(over=region), "[B, C=4, H=4, W=8]").types[0]) == "[B, C=4, H=2, W=4, tap=16]"
    agree(Valid(over=make(HALO, 4, 1, stride=2)), "[B, H=4, W=8]")


def test_a_dilation_that_depends_on_the_map():
    """A2Mamba's second neighbourhood: the widest dilation that fits."""
    from archc.ir.types import Dim
    from archc.sizes import Size

    dilation = Scalar(Size.minimum(Size.symbol("H") // 3, 3), Apply("min", (Var("d"), Const(3))))
    region = make(NEAR, 3, dilation=dilation, edge="shift")
    check = FakeCheck()
    Correlate(over=region).infer(check, typed(MAP), typed(MAP))
    assert {kind for kind, *_ in check.stated} == {"equal", "at_least"}
    assert Dim.of(3).constant == 3
    agree(Correlate(over=region), MAP, MAP, sizes={"H": 7, "W": 9})


# ---- regions that carry tensors


def test_picked():
    over = Correlate(over=Picked(None))
    near, far = torch.randint(0, 5, (2, 6, 9, 3)), torch.randint(0, 54, (2, 2, 6, 9, 3))
    real = lambda *shape: torch.randn(*shape, dtype=torch.float64)  # noqa: E731
    q, memory, full = real(2, 2, 4, 6, 9), real(2, 4, 5), real(2, 2, 4, 6, 9)
    agree(over, HEADS, "[B, C=4, M]", "int[B, H, W, tap=3]", data=[q, memory, near])
    agree(over, HEADS, HEADS, "int[B, heads=2, H, W, tap=3]", data=[q, full, far])
    agree(over, HEADS, "[B, C=4, M]", "int[B, H, tap=3]", data=[q, memory, near[:, :, 0]])
    mix = Aggregate(over=Picked(None))
    w = "[B, heads=2, H, W, tap=3]"
    agree(mix, w, HEADS, "int[B, heads=2, H, W, tap=3]", data=[real(2, 2, 6, 9, 3), full, far])
    agree(Look(over=Picked(None)), "[B, C=4, M]", "int[B, H, W, tap=3]", data=[memory, near])
    refused("E0305", over, HEADS, HEADS, "[B, H, W, tap=3]")
    refused("E0302", over, HEADS, HEADS, "int[B, H, W, M]")
    refused("E0301", over, MAP, MAP, "int[B, heads=2, H, W, tap=3]")


@pytest.mark.parametrize("name", ["window", "neighborhood", "everywhere", "column + row"])
def test_masked(name):
    region = Restricted(ALL[name], None)
    k = taps(ALL[name])
    agree(Correlate(over=region), HEADS, HEADS, f"bool[B, H, W, tap={k}]")
    agree(Correlate(over=region), HEADS, HEADS, f"bool[tap={k}]")
    agree(Aggregate(over=region), f"[B, heads=2, H, W, tap={k}]", HEADS, f"bool[heads=2, H, W, tap={k}]")
    agree(Look(over=region), HEADS, f"bool[heads=2, H, W, tap={k}]")
    refused("E0305", Correlate(over=region), HEADS, HEADS, f"[tap={k}]")
    refused("E0213", Valid(over=region), HEADS, f"bool[tap={k}]")


def test_masks_stay_with_their_part():
    row = Restricted(ROW, None)
    agree(Correlate(over=row - SELF), HEADS, HEADS, "bool[B, H, W, tap=9]")
    agree(Correlate(over=SELF + row), HEADS, HEADS, "bool[B, H, W, tap=9]")


# ---- figures


@pytest.mark.parametrize(
    "region, k",
    [(make(WINDOW, 7), 49), (make(GRID, 7), 49), (make(HALO, 7, 3), 169), (make(NEAR, 5), 25), (ROW, 14), (COLUMN, 28),
     ((COLUMN - SELF) + ROW, 42), (EVERYWHERE, 14 * 28), (SELF, 1)],
)  # fmt: skip
def test_macs(region, k):
    q = typed("[B=2, heads=3, C=8, H=28, W=14]")
    correlate, aggregate = Correlate(over=region), Aggregate(over=region)
    s = correlate.infer(FakeCheck(), q, q)
    assert s[0]["tap"].size == k
    assert correlate.macs([q, q], s) == 2 * 3 * 8 * 28 * 14 * k
    y = aggregate.infer(FakeCheck(), s[0], q)
    assert str(y[0]) == str(q)
    assert aggregate.macs([s[0], q], y) == 2 * 3 * 8 * 28 * 14 * k


def test_results_keep_the_order_of_the_values():
    w, v = typed("[B, heads=2, H, W, tap=5]"), typed("[B, C=4, M=5]")
    (y,) = Aggregate(over=EVERYWHERE).infer(FakeCheck(), w, v)
    assert y.names == ("B", "heads", "C", "H", "W")
    (s,) = Correlate(over=EVERYWHERE).infer(FakeCheck(), typed(MAP), typed("[B, heads=2, C=4, M]"))
    assert s.names == ("B", "H", "W", "heads", "tap")


def test_reach():
    at = Places(typed("[H=12, W=12]").positions, typed("[H=12, W=12]").positions)
    assert make(NEAR, 5, dilation=2).reach(at, "H") == Reach("H", 1, -4, 4)
    assert make(NEAR, 5, edge="shift").reach(at, "H") == Reach("H", 1, -4, 4, False)
    assert make(WINDOW, 3).reach(at, "W") == Reach("W", 1, -2, 2, False)
    assert ROW.reach(at, "H") == Reach("H") and ROW.reach(at, "W") is None
    assert (make(NEAR, 3) + make(NEAR, 7)).reach(at, "H") == Reach("H", 1, -3, 3, False)


# ---- obligations and refusals


def test_what_regions_demand():
    def stated(region):
        check = FakeCheck()
        Correlate(over=region).infer(check, typed(MAP), typed(MAP))
        return {(kind, str(size), str(by), code) for kind, size, by, code in check.stated if kind != "equal"}

    assert stated(make(WINDOW, 7)) == {("divides", "H", "7", "E0312"), ("divides", "W", "7", "E0312")}
    assert stated(make(WINDOW, [2, 7])) == {("divides", "H", "2", "E0312"), ("divides", "W", "7", "E0312")}
    assert stated(make(WINDOW, 7, edge="drop")) == set()
    assert stated(make(NEAR, 7, dilation=2, edge="shift")) == {("at_least", n, "14", "E0333") for n in "HW"}
    assert stated(make(NEAR, 7)) == set()


@pytest.mark.parametrize(
    "region, code",
    [
        (make(NEAR, 4), "E0213"),
        (make(NEAR, [3, 3, 3]), "E0213"),
        (make(NEAR, 3, dilation=0), "E0213"),
        (make(NEAR, 3, edge="mirror"), "E0213"),
        (make(WINDOW, 0), "E0213"),
        (make(WINDOW, 2.5), "E0213"),
        (make(WINDOW, symbol("H")), "E0304"),
        (make(WINDOW, 3, on=("T",)), "E0302"),
        (make(HALO, 3, -1), "E0213"),
        (make(HALO, 3, 1, stride=2), "E0321"),
        (make(WINDOW, 3) * make(WINDOW, 3), "E0213"),
        (make(NEAR, 3) - (ROW - SELF), "E0213"),
        (make(SHIFTED, ROW + COLUMN, 1), "E0213"),
    ],
)
def test_refused_regions(region, code):
    refused(code, Correlate(over=region), MAP, MAP)


def test_refused_operands():
    refused("E0302", Correlate(over=ROW), "[B, H, W]", "[B, H, W]")
    refused("E0303", Correlate(over=ROW), "[B, C=4, N]", "[B, C=4, N]")
    refused("E0301", Correlate(over=make(WINDOW, 3)), MAP, "[B, C=4, N]")
    refused("E0331", Correlate(over=make(WINDOW, 3)), "[B, C=4, H=3, W=3]", "[B, C=4, H=6, W=3]")
    refused("E0301", Correlate(over=EVERYWHERE), MAP, "[B, C=8, M]")
    refused("E0301", Correlate(over=EVERYWHERE), "[B, C=4, tap=3, H]", "[B, C=4, H]")
    refused("E0331", Aggregate(over=make(WINDOW, 3)), "[B, H, W, tap=8]", MAP)
    refused("E0302", Aggregate(over=make(WINDOW, 3)), "[B, H, W]", MAP)
    refused("E0301", Aggregate(over=make(WINDOW, 3)), "[B, N, tap=9]", MAP)


def test_the_table_of_regions():
    assert set(REGION_NAMES) <= set(REGIONS)
    for name in REGION_NAMES:
        assert not any(p.required for p in parameters(REGIONS[name]))
    assert isinstance(combine_regions("&", ROW, object()), Restricted)
    assert combine_regions("/", ROW, COLUMN) is None
    with pytest.raises(OpError):
        make(WINDOW, [[1], 2]).check(FakeCheck(), places())


# ---- the text of a module


def test_one_window_attention_reads_like_one():
    region = make(WINDOW, 3)
    text = agree(Correlate(over=region), *["[B, heads=2, H=6, W=9, C=4]"] * 2, turns=(0,)).text
    assert text == "window_partition(a, (3, 3)) @ window_partition(b, (3, 3)).transpose(-2, -1)"
    assert agree(Correlate(over=ROW), *["[B, H=6, W=9, C=4]"] * 2, turns=(0,)).text == "a @ b.transpose(-2, -1)"


def test_the_whole_of_attention():
    """softmax(q k^T / sqrt(C)) v over windows, against a computation on the windows themselves."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 4, 6, 9, dtype=torch.float64) for _ in range(3))
    region = make(WINDOW, 3)
    s = agree(Correlate(over=region), HEADS, HEADS, data=[q, k], turns=(0,)).values[0].detach()
    w = torch.softmax(s / 2, -1)
    y = agree(Aggregate(over=region), "[B, heads=2, H, W, tap=9]", HEADS, data=[w, v], turns=(0,)).values[0].detach()

    def windows(x):
        return x.unflatten(4, (3, 3)).unflatten(3, (2, 3)).permute(0, 1, 3, 5, 4, 6, 2).flatten(4, 5)

    theirs = torch.nn.functional.scaled_dot_product_attention(
        *(windows(x.detach()) for x in (q, k, v)), scale=1 / math.sqrt(4)
    )
    torch.testing.assert_close(windows(y), theirs)
