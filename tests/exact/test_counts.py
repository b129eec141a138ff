"""Multiply-accumulates and other operations by hand: each expected number is worked out from the definition.

An operation that is added needs a line here, or its place among those that only move data.
"""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch
from networks import NETWORKS, built
from torch.utils.flop_counter import FlopCounterMode
from written import from_text, shipped

from archc.analysis.conventions import CONVENTIONS
from archc.analysis.cost import count
from archc.analysis.figures import Row
from archc.ops.table import ALL

B, H, W, T, N, M, Q = 2, 12, 24, 4, 10, 6, 5
SIZES = {"B": B, "H": H, "W": W, "T": T, "N": N, "M": M, "Q": Q}
P = H * W
MAP = "x: [B, C=8, H, W]"
TOKENS = "x: [B, N, C=8]"


def figures(text: str, imports: str = "") -> tuple[int, int]:
    """(MACs, other operations) of `operands -> expression`."""
    operands, _, expression = text.partition(" -> ")
    given = "".join(f"    input {part}\n" for part in re.split(r", (?=\w+: )", operands) if part)
    spec = f"{imports}\nmodel m() {{\n{given}    output result = {expression}\n}}\nv = m()\n"
    program = from_text(spec).checked.program
    found = count(program, {name: SIZES[name] for name in program.symbols}).figures
    return found.macs, found.others


# ---- products: (MACs, others)

KERNEL = "w: [B, out=6, C=8, kh=3, kw=5]"
PRODUCTS: dict[str, list[tuple[str, int, int]]] = {
    "conv": [
        # out x in x kernel at each position; a bias is one addition for each result.
        (f"{MAP} -> conv(x, 6, 3)", B * P * 6 * 8 * 9, B * P * 6),
        (f"{MAP} -> conv(x, 6, [3, 5], bias=false)", B * P * 6 * 8 * 15, 0),
        (f"{MAP} -> conv(x, 6, 1, bias=false)", B * P * 6 * 8, 0),
        # Patches: every pixel is read once.
        (f"{MAP} -> conv(x, 6, 4, stride=4)", B * (P // 16) * 6 * 8 * 16, B * (P // 16) * 6),
        # 12 and 24 by a stride of 2 with a padding of 3 // 2 on both ends: 6 and 12.
        (f"{MAP} -> conv(x, 6, 3, stride=2, bias=false)", B * 6 * 12 * 6 * 8 * 9, 0),
        # 5 elements reach over 4 * 3 + 1 = 13: 12 + 2 - 12 = 2 rows and 24 + 2 - 12 = 14 columns are left.
        (f"{MAP} -> conv(x, 6, 5, dilation=3, pad=1, bias=false)", B * 2 * 14 * 6 * 8 * 25, 0),
        # Depthwise, grouped, and with a multiplier: each filter reads in / groups channels.
        (f"{MAP} -> conv(x, 8, 7, groups=8, bias=false)", B * P * 8 * 1 * 49, 0),
        (f"{MAP} -> conv(x, 12, 3, groups=4, bias=false)", B * P * 12 * 2 * 9, 0),
        (f"{MAP} -> conv(x, 24, 3, groups=8, bias=false)", B * P * 24 * 1 * 9, 0),
        # TensorFlow's "same": ceil(12 / 5) x ceil(24 / 5). Zeros of the border are multiplied too.
        (f'{MAP} -> conv(x, 6, 6, stride=5, pad="tf", bias=false)', B * 3 * 5 * 6 * 8 * 36, 0),
        ("x: [B, C=8, N] -> conv(x, 6, 3, bias=false)", B * N * 6 * 8 * 3, 0),
        ("x: [B, C=8, T, H, W] -> conv(x, 6, [1, 3, 3], bias=false)", B * T * P * 6 * 8 * 9, 0),
        # Along one axis only, and over another axis than C: the rest rides along.
        (f"{MAP} -> conv(x, 6, 3, on=(W), bias=false)", B * P * 6 * 8 * 3, 0),
        ("x: [B, heads=4, C=8, H, W] -> conv(x, 2, 3, axis=heads, bias=false)", B * 8 * P * 2 * 4 * 9, 0),
    ],
    "conv_transpose": [
        # Every input element is multiplied by out x kernel weights, whatever of it is cut off later.
        (f"{MAP} -> conv_transpose(x, 6, 2, stride=2)", B * P * 8 * 6 * 4, B * 4 * P * 6),
        (f"{MAP} -> conv_transpose(x, 6, 3, stride=2, pad=1, bias=false)", B * P * 8 * 6 * 9, 0),
        (f"{MAP} -> conv_transpose(x, 6, 4, stride=4, groups=2, bias=false)", B * P * 8 * 3 * 16, 0),
        ("x: [B, C=8, N] -> conv_transpose(x, 6, 3, dilation=2, bias=false)", B * N * 8 * 6 * 3, 0),
    ],
    "convolve": [
        # Kernels of the network's own making; a window must fit.
        (f"{MAP}, {KERNEL} -> convolve(x, w)", B * (H - 2) * (W - 4) * 6 * 8 * 15, 0),
        (f"{MAP}, {KERNEL} -> convolve(x, w, pad=[1, 2])", B * P * 6 * 8 * 15, 0),
        ("x: [B, C=8, H, W], w: [B, out=8, C=1, kh=3, kw=3] -> convolve(x, w, pad=1, groups=8)", B * P * 8 * 9, 0),
        ("x: [B, C=8, N], w: [out=6, C=8, k=3] -> convolve(x, w)", B * (N - 2) * 6 * 8 * 3, 0),
    ],
    "linear": [
        ("x: [B, C=8] -> linear(x, 6)", B * 6 * 8, B * 6),
        (f"{TOKENS} -> linear(x, 6, bias=false)", B * N * 6 * 8, 0),
        (f"{MAP} -> linear(x, 6)", B * P * 6 * 8, B * P * 6),
        ("x: [B, N=10, C=8] -> linear(x, 6, axis=N)", B * 8 * 6 * 10, B * 8 * 6),
    ],
    "dot": [
        ("a: [B, N, C=8], b: [B, M, C=8] -> dot(a, b, C)", B * N * M * 8, 0),
        ("a: [B, heads=2, N, M], b: [B, heads=2, M, C=4] -> dot(a, b, M)", B * 2 * N * 4 * M, 0),
        ("a: [B, C=8, H, W], b: [B, e=3, H, W] -> dot(a, b, positions)", B * 8 * 3 * P, 0),
        ("a: [B, N, C=8], b: [B, N, C=8] -> dot(a, b, C, N)", B * N * 8, 0),
        # Nothing is summed: products alone.
        ("a: [B, N, C=8], b: [B, N, e=3] -> dot(a, b)", 0, B * N * 8 * 3),
    ],
    "correlate": [],  # below, region by region
    "aggregate": [],
    "recur": [
        # One product and sum for each state, step and path.
        ("d: [B, C=8, H, W], u: [B, C=8, H, W, e=3] -> recur(d, u, raster(H, W))", B * P * 8 * 3, 0),
        ("d: [B, C=8, H, W], u: [B, C=8, H, W] -> recur(d, u, -raster(W, H))", B * P * 8, 0),
        ("d: [C=8], u: [B, C=8, H, W] -> recur(d, u, snake(H, W))", B * P * 8, 0),
        ("d: [B, H, W], u: [B, C=8, H, W] -> recur(d, u, diagonal(H, W))", B * P * 8, 0),
        ("d: [B, H, W], u: [B, C=8, H, W] -> recur(d, u, cross(H, W))", 4 * B * P * 8, 0),
        ("d: [B, H, W], u: [B, C=8, H, W] -> recur(d, u, windowed(3, raster(H, W)))", B * P * 8, 0),
        ("d: [B, H, W], u: [B, C=8, H, W] -> recur(d, u, every(2, raster(H, W)))", B * P * 8, 0),
        ("d: [B, N], u: [B, C=8, N] -> recur(d, u, [raster(N), -raster(N)])", 2 * B * N * 8, 0),
    ],
    "sample": [
        # Four pixels around each point.
        (f"{MAP}, p: [B, Q, xy=2] -> sample(x, p, xy)", B * Q * 8 * 4, 0),
        (
            "x: [B, heads=2, C=4, H, W], p: [B, Q, heads=2, point=3, xy=2] -> sample(x, p, xy)",
            B * Q * 2 * 3 * 4 * 4,
            0,
        ),
        # A deformable convolution: nine points for each position, then a sum over points and channels.
        (
            f"{MAP}, p: [B, Q, point=9, xy=2], w: [out=6, C=8, point=9] -> dot(sample(x, p, xy), w, C, point)",
            B * Q * 9 * 8 * 4 + B * Q * 6 * 8 * 9,
            0,
        ),
    ],
    "lstm": [
        # Four gates read the input and the last state. Besides: 2 x 4 biases, 4 sums of the two products, 3
        # sigmoids, 2 tanh, 3 for the cell, 1 for the state.
        (f"{TOKENS} -> lstm(x, 3)", B * N * 4 * 3 * (8 + 3), B * N * 3 * 21),
        (f"{TOKENS} -> lstm(x, 3, both=true)", 2 * B * N * 4 * 3 * (8 + 3), 2 * B * N * 3 * 21),
        (
            f"{TOKENS} -> lstm(x, 3, layers=2, both=true)",
            2 * B * N * 4 * 3 * (8 + 3) + 2 * B * N * 4 * 3 * (6 + 3),
            2 * 2 * B * N * 3 * 21,
        ),
    ],
}


@pytest.mark.parametrize(("text", "macs", "others"), [case for cases in PRODUCTS.values() for case in cases])
def test_products(text: str, macs: int, others: int) -> None:
    assert figures(text) == (macs, others)


# ---- regions: (expression, queries, taps)

REGIONS = [
    ("self", P, 1),
    ("everywhere", P, P),
    ("row", P, W),
    ("column", P, H),
    ("window(3)", P, 9),
    ("window([4, 6])", P, 24),
    ("grid(3)", P, 9),
    ("grid([2, 4])", P, 8),
    ("halo(3, 1)", P, 25),
    ("halo([2, 4], [1, 2])", P, 4 * 8),
    ('halo(3, 1, edge="zero")', P, 25),
    ("neighborhood(5)", P, 25),
    ("neighborhood([3, 5], dilation=2)", P, 15),
    ('neighborhood(3, edge="shift")', P, 9),
    ('neighborhood(3, dilation=2, edge="wrap")', P, 9),
    ("shifted(window(3), 1)", P, 9),
    ('shifted(window(3), -1, edge="drop")', P, 9),
    # Two regions one behind the other; a slot that is taken away is counted, as it is computed.
    ("row + column", P, W + H),
    ("row + (column - self)", P, W + H),
    ("neighborhood(3) + window(4)", P, 9 + 16),
    ("neighborhood(3, on=H) * neighborhood(5, on=W)", P, 15),
]


@pytest.mark.parametrize(("region", "queries", "taps"), REGIONS)
def test_attention_over_a_region(region: str, queries: int, taps: int) -> None:
    heads, width, values = 2, 4, 6
    q = f"q: [B, heads={heads}, C={width}, H, W]"
    v = f"v: [B, heads={heads}, C={values}, H, W]"
    scores, sums = B * heads * queries * taps * width, B * heads * queries * taps * values
    assert figures(f"{q}, {q.replace('q:', 'k:')} -> correlate(q, k, {region})") == (scores, 0)
    # Scores are scaled, and softmax takes 5: maximum, difference, power, sum, quotient.
    found = figures(
        f"{q}, {q.replace('q:', 'k:')}, {v} -> attend(q, k, v, {region})", "from std.attention import attend"
    )
    assert found == (scores + sums, B * heads * queries * taps * 6)


def test_attention_beyond_the_map() -> None:
    # Keys elsewhere, keys that all heads share, keys that the network picks, and taps that a mask takes away.
    q, k = "q: [B, heads=2, C=4, H, W]", "k: [B, C=4, M]"
    assert figures(f"{q}, {k} -> correlate(q, k, everywhere)") == (B * 2 * P * M * 4, 0)
    k = "k: [B, C=4, H, W], i: int[B, H, W, tap=5]"
    assert figures(f"{q}, {k} -> correlate(q, k, picked(i))") == (B * 2 * P * 5 * 4, 0)
    k = "k: [B, C=4, H, W], m: bool[B, H, W, tap=9]"
    assert figures(f"{q}, {k} -> correlate(q, k, window(3) & m)") == (B * 2 * P * 9 * 4, 0)
    # Blocks of which every second query is asked.
    q, k = "q: [B, C=4, H=6, W=12]", "k: [B, C=4, H=12, W=24]"
    assert figures(f"{q}, {k} -> correlate(q, k, halo(4, 1, stride=2))") == (B * 72 * 36 * 4, 0)


def test_weights_of_a_region_without_queries() -> None:
    assert figures(f"w: [tap=9], {MAP} -> aggregate(w, x, neighborhood(3))") == (B * P * 9 * 8, 0)
    assert figures(f"w: [C=8, tap=9], {MAP} -> aggregate(w, x, neighborhood(3))") == (B * P * 9 * 8, 0)


# ---- the mixers of the standard library


def test_dynamic_kernels() -> None:
    text = "v: [B, C=8, H, W], k: [B, C=9, H, W] -> dynconv(v, k, neighborhood(3))"
    assert figures(text, "from std.attention import dynconv") == (B * P * 9 * 8, B * P * 9 * 5)


def test_linear_attention() -> None:
    q = "q: [B, C=4, N], k: [B, C=4, N], v: [B, C=6, N]"
    # elu(x) + 1 on both: compare, add, clamp, exp, choose. Then the state and its sum, two reads, eps, a quotient.
    macs = B * N * 4 * 6 + B * N * 4 + B * N * 4 * 6
    others = 2 * B * N * 4 * 5 + B * N * 4 + B * N + B * N * 6
    imports = "from std.attention import linear_attention"
    assert figures(f"{q} -> linear_attention(q, k, v)", imports) == (macs, others)


def test_a_gated_linear_recurrence() -> None:
    q = "q: [B, C=4, H, W], k: [B, C=4, H, W], v: [B, C=6, H, W], d: [B, C=4, H, W]"
    # k v^T are products alone; each state is one step, and is read once.
    imports = "from std.recurrence import gated_linear"
    assert figures(f"{q} -> gated_linear(q, k, v, d, raster(H, W))", imports) == (2 * B * P * 4 * 6, B * P * 4 * 6)


@pytest.mark.parametrize(
    ("path", "ways"), [("raster(H, W)", 1), ("[raster(H, W), -raster(H, W)]", 2), ("cross(H, W)", 4)]
)
def test_a_selective_recurrence(path: str, ways: int) -> None:
    s, rank, c = 16, 1, 8
    macs = B * P * c * (rank + 2 * s)  # dt, b and c from u
    macs += B * P * rank * c  # dt for each channel
    macs += ways * B * P * c * s  # the states
    macs += ways * B * P * c * s  # their sums with c
    others = c * s + c * s + s + c * s  # a = -exp(a_log) * (1 + index)
    others += 2 * B * P * c  # softplus(dt + bias)
    others += 2 * B * P * c * s  # exp(dt a)
    others += B * P * c + B * P * c * s  # dt u b
    others += B * P * c + ways * B * P * c  # skip u, added to each way
    imports = "from std.recurrence import selective_scan"
    assert figures(f"u: [B, C={c}, H, W] -> selective_scan(u, {path}, states={s}, rank={rank})", imports) == (
        macs,
        others,
    )


def test_squeeze_and_excite() -> None:
    # The mean, two layers on one pixel with bias, relu, sigmoid, the gate; the mean of one pixel is one operation.
    others = B * 8 * P + B * 2 + B * 2 + B * 8 + B * 8 + B * 8 + B * 8 * P
    imports = "from std.mlp import squeeze_excite"
    assert figures(f"{MAP} -> squeeze_excite(x, 2)", imports) == (2 * B * 8 * 2, others)


# ---- operations besides: (others)

E = B * 8 * P
OTHERS: dict[str, list[tuple[str, int]]] = {
    "batch_norm": [(f"{MAP} -> batch_norm(x)", 2 * E)],
    "standardize": [(f"{MAP} -> standardize(x)", 2 * E)],
    "layer_norm": [
        (f"{MAP} -> layer_norm(x)", 8 * E),
        ("x: [B, C=8, H=3, W=5] -> layer_norm(x, C, H, W)", 8 * B * 8 * 15),
    ],
    "rms_norm": [(f"{MAP} -> rms_norm(x)", 8 * E)],
    "group_norm": [(f"{MAP} -> group_norm(x, 2)", 8 * E)],
    "softmax": [(f"{MAP} -> softmax(x, C)", 5 * E)],
    "cumsum": [(f"{TOKENS} -> cumsum(x, N)", B * N * 8)],
    "argmax": [(f"{TOKENS} -> argmax(x, N)", B * N * 8)],
    **{
        name: [(f"{MAP} -> {name}(x, C)", E), (f"{MAP} -> {name}(x, positions)", E)]
        for name in ("sum", "mean", "max", "min", "var")
    },
    "any": [("x: bool[B, N] -> any(x, N)", B * N)],
    # Every window reads its whole kernel.
    "max_pool": [
        (f"{MAP} -> max_pool(x, 3, stride=2, pad=1)", B * 8 * 6 * 12 * 9),
        (f"{MAP} -> max_pool(x, 2)", E),
        ("x: [B, C=8, N] -> max_pool(x, 3, stride=1)", B * 8 * (N - 2) * 3),
    ],
    "avg_pool": [(f"{MAP} -> avg_pool(x, 3, stride=1, pad=1)", 9 * E), (f"{MAP} -> avg_pool(x, [1, 4])", E)],
    "adaptive_pool": [(f"{MAP} -> adaptive_pool(x, H=3, W=4)", E)],
    # 1, 2 or 4 neighbours along each axis.
    "resize": [
        (f"{MAP} -> resize(x, H=5, W=7)", B * 8 * 35),
        (f'{MAP} -> resize(x, H=5, W=7, mode="bilinear")', 4 * B * 8 * 35),
        (f'{MAP} -> resize(x, H=5, W=7, mode="bicubic")', 16 * B * 8 * 35),
        ('x: [B, N, C=8] -> resize(x, N=13, mode="bilinear")', 2 * B * 13 * 8),
        ('x: [B, C=8, T, H, W] -> resize(x, T=2, H=5, W=7, mode="bilinear")', 8 * B * 8 * 70),
    ],
    # One for each result.
    **{
        name: [(f"{MAP} -> {name}(x)", E)]
        for name in (
            "abs",
            "sign",
            "floor",
            "round",
            "exp",
            "log",
            "sqrt",
            "sin",
            "cos",
            "erf",
            "tanh",
            "sigmoid",
            "relu",
            "silu",
            "softplus",
            "gelu",
        )
    },
    "clamp": [(f"{MAP} -> clamp(x, 0, 1)", E)],
    **{
        name: [(f"{MAP}, y: [B, C=8] -> x {symbol} y", E), (f"{MAP} -> x {symbol} 2", E)]
        for name, symbol in {
            "add": "+",
            "subtract": "-",
            "multiply": "*",
            "divide": "/",
            "floor_divide": "//",
            "remainder": "%",
            "power": "**",
            "equal": "==",
            "not_equal": "!=",
            "less": "<",
            "at_most": "<=",
            "greater": ">",
            "at_least": ">=",
        }.items()
    },
    "maximum": [(f"{MAP}, y: [B, C=8] -> max(x, y)", E)],
    "minimum": [(f"{MAP} -> min(x, 0.5)", E)],
    "negative": [(f"{MAP} -> -x", E)],
    "both": [("x: bool[B, N], y: bool[B] -> x and y", B * N)],
    "either": [("x: bool[B, N], y: bool[B] -> x or y", B * N)],
    "not": [("x: bool[B, N] -> not x", B * N)],
    "where": [("c: bool[B, N], x: [B, N, C=8] -> where(c, x, 0)", B * N * 8)],
}


@pytest.mark.parametrize(("text", "others"), [case for cases in OTHERS.values() for case in cases])
def test_other_operations(text: str, others: int) -> None:
    assert figures(text) == (0, others)


# ---- what moves data, looks up or is known beforehand: nothing is computed

NOTHING = """
    argsort cast cat dropout embed expand flip full gather identity index look pad param pick rearrange relative rename
    roll scatter split stack stop_gradient top_k unstack valid
""".split()


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_is_counted(name: str) -> None:
    examples = ALL[name].examples
    found = [row.figures for example in examples for row in rows(example) if row.what == name]
    assert found or not examples
    assert all((figures.macs, figures.others) == (0, 0) for figures in found)


def test_a_parameter_is_not_counted() -> None:
    text = "model m() {\n    input x: [B, C=8]\n    param gain: [C=8] = 1\n    output y = x * gain\n}\nv = m()\n"
    found = count(from_text(text).checked.program, {"B": B}).figures
    assert (found.macs, found.others, found.params) == (0, B * 8, 8)


def rows(text: str) -> tuple[Row, ...]:
    operands, _, expression = text.partition(" -> ")
    given = "".join(f"    input {part}\n" for part in re.split(r", (?=\w+: )", operands) if part)
    program = from_text(f"model m() {{\n{given}    output result = {expression}\n}}\nv = m()\n").checked.program
    return count(program, {name: SIZES[name] for name in program.symbols}).rows


def test_every_operation_has_its_count() -> None:
    counted = {*PRODUCTS, *OTHERS}
    assert counted.isdisjoint(NOTHING)
    assert sorted(counted | set(NOTHING)) == sorted(ALL)


# ---- torch's own counter, where it sees everything


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_counts_the_same(name: str) -> None:
    network = built(name, "meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.net.eval()(*network.given)
    cost = count(network.program, network.sizes)
    assert cost.under(CONVENTIONS["torch"]) == counter.get_total_flops()
    # It sees no scan; all else is there.
    scans = cost.total(lambda p: p.figures.macs if any(c.work == "path" for c in p.counted) else 0)
    assert 2 * (cost.figures.macs - scans) == counter.get_total_flops()


# ---- published networks, counted on paper


def layers(*widths: int) -> int:
    """Weights of linear layers between these widths."""
    return sum(a * b for a, b in pairwise(widths))


def deit_s(image: int) -> int:
    tokens, dim = (image // 16) ** 2 + 1, 384
    patches = (tokens - 1) * 3 * 16 * 16 * dim
    layer = tokens * (3 * dim * dim + dim * dim + layers(dim, 4 * dim, dim)) + 2 * tokens * tokens * dim
    return patches + 12 * layer + 1000 * dim


def swin_t(image: int) -> int:
    total, side, dim = (image // 4) ** 2 * 3 * 16 * 96, image // 4, 96
    for stage, depth in enumerate((2, 2, 6, 2)):
        if stage:
            side, dim = side // 2, 2 * dim
            total += side * side * (2 * dim) * dim
        layer = side * side * (3 * dim * dim + dim * dim + layers(dim, 4 * dim, dim) + 2 * 49 * dim)
        total += depth * layer
    return total + 768 * 1000


def poolformer_s12(image: int) -> int:
    total, side, before = 0, image, 3
    for dim, depth, kernel, stride in ((64, 2, 7, 4), (128, 2, 3, 2), (320, 6, 3, 2), (512, 2, 3, 2)):
        side //= stride
        total += side * side * before * dim * kernel * kernel + depth * side * side * layers(dim, 4 * dim, dim)
        before = dim
    return total + 512 * 1000


PAPER = [
    ("deit_s", deit_s, 4_598_882_304),
    ("swin_t", swin_t, 4_490_566_656),
    ("poolformer_s12", poolformer_s12, 1_812_267_008),
]


@pytest.mark.parametrize(("name", "formula", "number"), PAPER, ids=[name for name, *_ in PAPER])
def test_networks_on_paper(name: str, formula, number: int) -> None:
    program = shipped(name).checked.program
    assert formula(224) == number
    assert count(program, {"B": 1, "H": 224, "W": 224}).figures.macs == number
