"""Modules with fused kernels: of every shipped spec, and of small networks that have every kind of fused region."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from archc import driver
from archc.backend.module import Figures, emit
from archc.contract import Contract
from archc.elaborate.loader import load
from archc.fusion.families import family
from archc.fusion.plan import fuse
from archc.ir.program import Program
from archc.locate import Spec, load_spec, shipped
from archc.source import Source
from archc.verify import choose_sizes

SPECS = Path(__file__).parent.parent.parent / "specs"

MOST = 2000  # the product of all sizes of a random network
# Small networks, and the sizes at which they run. Few programs, but more than one tile along every axis, and no tile full.
NETWORKS: dict[str, tuple[str, list[dict[str, int]]]] = {
    "van": (
        """
from .van import van
small = van(dims=[20, 72], depths=[1, 1], ratios=[2, 1], num_classes=5)
""",
        [{"B": 1, "H": 12, "W": 68}, {"B": 2, "H": 8, "W": 20}],
    ),
    "convnext": (
        """
from .convnext import convnext
small = convnext(dims=[20, 68], depths=[1, 1], num_classes=5)
""",
        [{"B": 1, "H": 12, "W": 76}, {"B": 2, "H": 8, "W": 8}],
    ),
    "poolformer": (
        """
from .poolformer import poolformer
small = poolformer(dims=[24, 40], depths=[1, 1], num_classes=5)
""",
        [{"B": 1, "H": 20, "W": 44}, {"B": 2, "H": 8, "W": 8}],
    ),
    "conv_attention": (
        """
from .conv_attention import conv_attention
small = conv_attention(dims=[36, 36, 64], depths=[1, 0, 1], num_classes=5)
""",
        [{"B": 1, "H": 32, "W": 48}, {"B": 2, "H": 16, "W": 32}],
    ),
    "mamba_attention": (
        """
from .mamba_attention import mamba_attention
small = mamba_attention(dims=[32, 48], depths=[2, 0], num_classes=5)
""",
        [{"B": 1, "H": 28, "W": 28}, {"B": 2, "H": 28, "W": 28}],
    ),
    "vig": (
        """
from .vig import vig
small = vig(dim=48, heads=3, depth=1, act=silu, num_classes=5)
""",
        [{"B": 1, "H": 48, "W": 80}, {"B": 2, "H": 32, "W": 32}],
    ),
    "swin": (
        """
from .swin import swin
small = swin(dim=24, depths=[2, 1], heads=[2, 3], extent=3, num_classes=5)
""",
        [{"B": 1, "H": 24, "W": 48}, {"B": 2, "H": 24, "W": 24}],
    ),
    "deit": (
        """
from .deit import deit
small = deit(dim=72, heads=3, depth=1, img_size=[32, 80], num_classes=5)
""",
        [{"B": 1, "H": 32, "W": 80}, {"B": 2, "H": 32, "W": 80}],
    ),
    "maxvit": (
        """
from .maxvit import maxvit
small = maxvit(dims=[32, 64], depths=[1, 1], stem_dim=20, hidden=24, img_size=[64, 96], num_classes=5)
""",
        [{"B": 1, "H": 64, "W": 96}, {"B": 2, "H": 64, "W": 96}],
    ),
    "ccnet": (
        """
from .ccnet import ccnet_attention
small = ccnet_attention(in_chans=40)
""",
        [{"B": 1, "H": 5, "W": 9}, {"B": 2, "H": 3, "W": 2}],
    ),
    "aggregation": (
        """
from std.attention import dynconv, linear_attention
from std.layout import split_heads, merge_heads
model net() {
    input x: [B, C=24, H, W]
    q, k, v = [split_heads(t, 2) for t in (x |> qkv: linear(72) |> split(3, C))]
    near = dynconv(x, x |> w: conv(9, 1), neighborhood(3))
    output y = near + (linear_attention(q, k, v) |> merge_heads)
}
small = net()
""",
        [{"B": 1, "H": 5, "W": 9}, {"B": 2, "H": 3, "W": 4}],
    ),
    # One cheap operator of each family, for planted bugs.
    "one_strip": (
        """
from std.conv import dwconv
model net() {
    input x: [B, C=20, H, W]
    y = x |> a: dwconv(3) |> gelu
    output out = (y |> b: dwconv(5, dilation=3, bias=false)) * x
}
small = net()
""",
        [{"B": 1, "H": 4, "W": 18}, {"B": 2, "H": 2, "W": 5}],
    ),
    "one_pointwise": (
        """
model net() {
    input x: [B, C=40, H, W]
    output out = (x |> a: conv(68, 1) |> gelu |> b: conv(40, 1)) * mean(x, C) + x
}
small = net()
""",
        [{"B": 1, "H": 3, "W": 45}, {"B": 2, "H": 2, "W": 5}],
    ),
    "one_prologue": (
        """
model net() {
    input x: [B, C=40, H, W]
    param scale: [C=68] = normal(1.0)
    g, y = x |> up: linear(136, bias=false) |> split(2, C)
    v = silu(g) * y * scale + mean(x, C)
    output out = (v |> down: linear(40)) + x
    output other = (x |> side: linear(12)) * mean(x, C)
}
small = net()
""",
        [{"B": 1, "H": 3, "W": 45}, {"B": 2, "H": 2, "W": 5}],
    ),
    "one_attention": (
        """
from std.attention import attend
from std.layout import split_heads, merge_heads
model net() {
    input x: [B, C=40, H, W]
    param table: [heads=2, dy=5, dx=5] = normal(0.1)
    q, k, v = [split_heads(t, 2) for t in (x |> qkv: linear(120) |> split(3, C))]
    over = shifted(window(3), -1, edge="drop")
    output y = attend(q, k, v, over, bias=relative(table, over)) |> merge_heads
}
small = net()
""",
        [{"B": 1, "H": 6, "W": 9}, {"B": 2, "H": 3, "W": 3}],
    ),
    "one_recurrence": (
        """
from std.layout import split_heads, merge_heads
from std.recurrence import gated_linear
model net() {
    input x: [B, C=20, H, W]
    q, k, v = [split_heads(t, 2) for t in (x |> qkv: linear(60) |> split(3, C))]
    y = gated_linear(q, k, v, sigmoid(k), cross(H, W)) |> sum(way)
    output out = merge_heads(y + gated_linear(q, k, v, sigmoid(k), raster(W)))
}
small = net()
""",
        [{"B": 1, "H": 3, "W": 7}, {"B": 2, "H": 2, "W": 2}],
    ),
    "one_scan": (
        """
model net() {
    input x: [B, C=20, H, W]
    param a: [C=20, s=3] = normal(1.0)
    param skip: [C=20] = 1
    dt = softplus(x)
    b, c = [rename(t, C="s") for t in (x |> bc: linear(6, bias=false) |> split(2, C))]
    h = recur(exp(dot(dt, -exp(a))), dot(dt * x, b), cross(H, W))
    output z = (dot(h, c, s) + skip * x) |> sum(way)
}
small = net()
""",
        [{"B": 1, "H": 2, "W": 3}, {"B": 2, "H": 1, "W": 3}],
    ),
    "one_rows": (
        """
model net() {
    input x: [B, C=20, H, W]
    y = x |> max_pool(3, stride=1, pad=1)
    output out = (y |> n: layer_norm |> silu) * x + (y |> m: rms_norm)
}
small = net()
""",
        [{"B": 1, "H": 9, "W": 31}, {"B": 3, "H": 2, "W": 3}],
    ),
    "one_tiled": (
        """
from std.attention import attend
from std.layout import split_heads, merge_heads
model net() {
    input x: [B, C=20, H, W]
    param near: [heads=2, dy=5, dx=5] = normal(0.5)
    q, k, v = [split_heads(t, 2) for t in (x |> qkv: linear(60) |> split(3, C))]
    over = neighborhood(3, edge="shift")
    output y = attend(q, k, v, over, bias=relative(near, over)) |> merge_heads
}
small = net()
""",
        [{"B": 1, "H": 4, "W": 7}, {"B": 2, "H": 3, "W": 3}],
    ),
    "one_dynamic": (
        """
from std.layout import split_heads, merge_heads
model net() {
    input x: [B, C=20, H, W]
    near = x |> near: conv(18, 1) |> rearrange("C=(heads tap) -> heads tap", heads=2)
    output y = aggregate(near, split_heads(x, 2), neighborhood(3, dilation=2)) |> merge_heads
}
small = net()
""",
        [{"B": 1, "H": 3, "W": 7}, {"B": 2, "H": 2, "W": 3}],
    ),
    "one_toeplitz": (
        """
model net() {
    input x: [B, C=20, H, W]
    output out = (x |> a: conv(20, 9, groups=20, pad=4) |> gelu) * x
}
small = net()
""",
        [{"B": 3, "H": 3, "W": 5}, {"B": 1, "H": 5, "W": 4}],
    ),
    # Numbers that builds of one text may differ in.
    "arguments": (
        """
model net(scale: float, mode: str) {
    input x: [B, C=20, H, W]
    y = (x |> a: conv(20, 1)) * scale
    output out = y |> b: conv(20, 1) |> gelu(approximate=mode)
}
small = net(scale=0.7, mode="none")
""",
        [{"B": 1, "H": 3, "W": 5}, {"B": 2, "H": 3, "W": 2}],
    ),
    # Windows of every kind; the stride of one varies from build to build.
    "stencils": (
        """
block down(x: [B, C, H, W], stride: int) {
    return x |> conv(C, 3, stride=stride, groups=C, pad="tf", bias=false)
}
model net() {
    input x: [B, C=20, H, W]
    input s: [B, L, C=20]
    output a = x |> a: conv(20, [3, 5], stride=[2, 1], groups=20, bias=false) |> silu
    output b = x |> b: conv(20, 4, groups=20, dilation=[2, 1], pad=[1, 2])
    output c = (x |> c: down(2)) + (x |> avg_pool(2) |> c2: down(1))
    param gain: [C=20] = normal(1)
    param level: [] = 0.7
    output d = gain * (x |> d: conv(20, [2, 9], groups=20, pad=[1, 4]) |> gelu) + level
    output e = x |> e: conv(20, 3, stride=3, groups=20, dilation=2, pad=2)
    output f = x |> f: conv(20, [1, 10], stride=[1, 2], groups=20, pad=[0, 5])
    output g = gain * (x |> avg_pool([3, 2], stride=[2, 1], pad=1))
    output h = x |> avg_pool(3, pad=1, count_pad=true) |> relu
    output i = s |> i: conv(20, 4, groups=20, pad=3) |> silu
}
small = net()
""",
        [{"B": 2, "H": 8, "W": 10, "L": 9}, {"B": 1, "H": 6, "W": 4, "L": 7}],
    ),
    "recurrences": (
        """
from std.layout import split_heads, merge_heads
from std.recurrence import gated_linear, selective_scan
model net() {
    input x: [B, C=24, H, W]
    q, k, v = [split_heads(t, 2) for t in (x |> qkv: linear(72) |> split(3, C))]
    y = gated_linear(q, k, v, sigmoid(k), raster(H, W)) + gated_linear(q, k, v, sigmoid(k), raster(W))
    output out = merge_heads(y)
    output z = x |> ssm: selective_scan(cross(H, W), states=3) |> sum(way)
}
small = net()
""",
        [{"B": 1, "H": 5, "W": 9}, {"B": 2, "H": 3, "W": 4}],
    ),
    "dynamic": (
        """
from std.attention import dynconv
from std.layout import split_heads, merge_heads
model net() {
    input x: [B, C=20, H, W]
    v = split_heads(x, 2)
    k = x |> k: conv(10, 1)
    param table: [heads=2, tap=7] = normal(0.5)
    wide = x |> wide: conv(2 * 25, 1) |> rearrange("C=(heads tap) -> heads tap", heads=2)
    near = x |> near: conv(9, 1)
    a = dynconv(x, near, neighborhood(3, dilation=2))
    b = aggregate(sigmoid(wide * 0.5), v, neighborhood(5, edge="zero"))
    c = aggregate(near |> rename(C="tap"), x, neighborhood(3, edge="shift"))
    d = aggregate(x |> halo: conv(16, 1) |> rename(C="tap") |> softmax(tap), x, halo(2, 1))
    e = aggregate(table, v, neighborhood(7, on=W))
    f = aggregate(x |> six: conv(6, 1) |> rename(C="tap"), x, window([2, 3]))
    output y = a + c + d + f + merge_heads(b + e)
    output s = correlate(v, k, neighborhood(3, dilation=2, edge="shift", on=W))
    output t = correlate(k, v |> rename(heads="way"), grid([2, 6]))
    output u = where(valid(neighborhood(3), like=k), correlate(k, k, neighborhood(3)), 0)
}
small = net()
""",
        [{"B": 1, "H": 4, "W": 12}, {"B": 1, "H": 4, "W": 6}],
    ),
    "blocks": (
        """
from std.attention import attend
from std.layout import split_heads, merge_heads
mixer look(x: [B, C, H, W], over: region, heads: int) {
    q, k, v = [split_heads(t, heads) for t in (x |> qkv: linear(3 * C) |> split(3, C))]
    return attend(q, k, v, over) |> merge_heads
}
mixer whole(x: [B, C, H, W], over: region) {
    return attend(x |> a: conv(C, 1), x |> b: conv(C, 1), x |> c: conv(2 * C, 1), over, scale=0.3)
}
model net() {
    input x: [B, C=12, H, W]
    y = (x |> a: look(shifted(window([2, 3]), [1, 2], edge="wrap"), 2)) + (x |> b: look(row, 3))
    y += x |> c: look(window([5, 4], edge="drop"), 2)
    output out = y |> d: whole(column)
}
small = net()
""",
        [{"B": 1, "H": 6, "W": 12}, {"B": 2, "H": 4, "W": 6}],
    ),
    "paths": (
        """
from std.recurrence import gated_linear, selective_scan
model net() {
    input x: [B, C=8, H, W]
    q, k, v = x |> qkv: linear(32) |> split([8, 8, 16], C)
    forget = exp(-exp(8 * k))  # from 1 to less than the least number
    output a = gated_linear(q, k, v, forget, -every(2, raster(W, H)))
    output b = recur(forget, x, [snake(H, W), -diagonal(W, H)]) |> sum(way)
    output c = recur(mean(forget, C), x, windowed(2, raster(H, W)))
    output d = x |> ssm: selective_scan(-raster(W, H), states=1)
    output e = dot(recur(mean(forget, W), dot(x, k |> rename(C="e")), raster(W)), q, C)
}
small = net()
""",
        [{"B": 1, "H": 4, "W": 6}, {"B": 2, "H": 2, "W": 4}],
    ),
    # Operands of fewer axes, values that are read twice, and every kind of pointwise operation.
    "epilogues": (
        """
from std.regularise import drop_path
from std.activations import hardswish, leaky_relu
block a(x: [B, C, H, W], rate: float) {
    param gamma: [C] = 0.3
    param beta: [] = 0.7
    g = x |> mean(H, W)
    h = x |> c: conv(C, 1)
    y = (gamma * (h * sigmoid(h))) * g + beta
    return x + (y |> drop_path(rate))
}
block b(x: [B, C, H, W]) {
    u = x |> l: linear(C + 3)
    v = x |> m: linear(C + 3)
    return (gelu(u, "tanh") * (1 - v)) |> d: conv(21, 1)
}
block c(x: [B, C, H, W]) {
    p = x |> c1: conv(C, 1, bias=false)
    q = hardswish(p)
    return max(softplus(q), tanh(x)) + x ** 2
}
model net() {
    input x: [B, C=21, H, W]
    y = x |> a(0.5)
    y = y |> b
    output z = y |> c
}
small = net()
""",
        [{"B": 1, "H": 5, "W": 27}, {"B": 2, "H": 3, "W": 4}],
    ),
    # Before a product: operands of every kind, both layouts, a number that varies, the map itself behind it.
    "prologues": (
        """
block gated(x: [B, C, H, W], slope: float) {
    param gamma: [C] = 0.3
    param beta: [] = 0.7
    s = x |> mean(H, W)
    p = x |> mean(C)
    h = x |> max_pool(3, stride=1, pad=1)
    return h + (where(h > x, h * slope, gamma * h * sigmoid(s) - beta * p) |> a: conv(C, 1, bias=false))
}
block b(x: [B, C, H, W]) {
    g, y = x |> up: linear(70, bias=false) |> split(2, C)
    return (silu(g) * (y + softplus(g)) / 2) |> down: linear(C)
}
block c(x: [B, C, H, W]) {
    near = x |> max_pool(3, stride=1, pad=1)
    return (tanh(near) ** 2) |> c: linear(C + 60)
}
model net(slope: float) {
    input x: [B, C=21, H, W]
    output z = x |> gated(slope) |> b |> c
}
small = net(slope=0.7)
""",
        [{"B": 1, "H": 5, "W": 27}, {"B": 2, "H": 3, "W": 4}],
    ),
    "rows": (
        """
from std.regularise import drop_path
block a(x: [B, C, H, W], rate: float) {
    param gamma: [C] = 0.3
    param level: [] = 0.7
    h = x |> c: max_pool(3, stride=1, pad=1)
    x += (gamma * h * level) |> drop_path(rate)
    return x
}
block b(x: [B, C, H, W]) {
    u = x |> max_pool(3, stride=1, pad=1)
    o = u |> n1: layer_norm
    l = x |> n2: rms_norm
    gate = sigmoid(x |> max_pool(3, stride=1, pad=1))
    return o * gate + l * (1 - gate)
}
block c(x: [B, N, C]) {
    param bias: [C] = 0.1
    param level: [] = 0.7
    return silu(x |> n: rms_norm(eps=1e-5)) * (x + bias) * level
}
model net() {
    input x: [B, C=21, H, W]
    y = x |> a(0.5)
    y = y |> b
    output z = y |> rearrange("C H W -> N=(H W) C") |> c
}
small = net()
""",
        [{"B": 2, "H": 5, "W": 27}, {"B": 1, "H": 3, "W": 3}],
    ),
    # What is attention of lines along the axes: offsets read from a table, maps, masks, sums, keys that move or are zeros.
    "attention": (
        """
from std.attention import attend
from std.layout import split_heads, merge_heads
model net() {
    input x: [B, C=20, H, W]
    input m: [B, H, W, tap=9]
    param near: [heads=2, dy=5, dx=5] = normal(0.5)
    q, k, v = [split_heads(t, 2) for t in (x |> qkv: linear(60) |> split(3, C))]
    over = neighborhood(3, dilation=[1, 2], edge="shift")
    a = attend(q, k, v, over, bias=relative(near, over))
    b = attend(q, k, v, halo([2, 1], 1), bias=relative(near, halo([2, 1], 1)))
    c = attend(q, k, v, (column - self) + row)
    d = attend(q, k, v, neighborhood(3) & (m > -1.0))
    e = attend(q, k, v, shifted(neighborhood(3, edge="zero"), 1, edge="drop"), bias=m)
    output y = cat([a, b, c, d, e], heads) |> merge_heads
}
small = net()
""",
        [{"B": 1, "H": 4, "W": 7}, {"B": 2, "H": 4, "W": 6}],
    ),
    "windows": (
        """
from std.attention import attend
from std.layout import split_heads, merge_heads
model net() {
    input x: [B, C=40, H, W]
    param table: [heads=2, tap=9] = normal(0.1)
    q, k, v = [split_heads(t, 2) for t in (x |> qkv: linear(120) |> split(3, C))]
    a = attend(q, k, v, neighborhood(3), bias=table) |> merge_heads
    b = attend(q, k, v, neighborhood(3, dilation=2)) |> merge_heads
    c = attend(q, k, v, window(3)) |> merge_heads
    d = attend(q, k, v, grid(3)) |> merge_heads
    output y = a + b + c + d + (attend(q, k, v) |> merge_heads)
}
small = net()
""",
        [{"B": 1, "H": 6, "W": 12}, {"B": 2, "H": 6, "W": 6}],
    ),
}


def with_kernels(program: Program, contract: Contract) -> str:
    """The module of a program with all the fused kernels that it could have, whether they are worth it or not."""
    return emit(fuse(program)[0], contract, Figures(0))


def as_compiled(program: Program, contract: Contract) -> str:
    """The module of a program with the fused kernels that `archc compile` chooses."""
    return emit(driver.fused(program, contract), contract, Figures(0))


def small(name: str) -> tuple[Program, Contract]:
    """The network `name` of NETWORKS."""
    library = load(Source("small.arch", NETWORKS[name][0], SPECS.resolve() / "small.arch"), {})
    program = driver.build(Spec(library, ("small",), "small"), "small")
    return program, driver.contract_of(program)


def random_network(seed: int) -> tuple[Program, Contract, list[dict[str, int]]]:
    """A network of a random spec that has something for kernels, and sizes that it takes; the same one for the same seed."""
    sys.path.append(str(Path(__file__).parent.parent))
    from whole_specs.author import Diverged, Unfit
    from whole_specs.checks import build
    from whole_specs.models import write_spec
    from whole_specs.statements import EVERYTHING, STATEMENTS

    words = sorted([*EVERYTHING, *STATEMENTS])
    for turn in itertools.count():
        source = random.Random(f"fused {seed} {turn}")
        try:
            spec = write_spec(lambda n, r=source: r.randrange(n) if r.random() < 0.6 else 0, source.choice(words))
        except (Diverged, Unfit):
            continue
        program, contract, _ = build(spec.text, spec.variants[0].name)
        if any(region.fused is not None and family(region.family).operator for region in fuse(program)[1]):
            sizes = choose_sizes(program, contract)
            return program, contract, [s for s in sizes if math.prod(s.values()) <= MOST] or sizes[:1]
    raise AssertionError


def variants() -> Iterator[tuple[str, Program, Contract]]:
    """Every variant of every shipped spec."""
    for path in sorted(shipped()):
        spec = load_spec(str(path))
        for name in spec.variants:
            program = driver.build(spec, name)
            yield name, program, driver.contract_of(program)
