"""What is found around a recurrence, and what is left. The kernels themselves are run by `test_interpreted.py`."""

from __future__ import annotations

import pytest
from planned import SPECS

from archc import driver
from archc.elaborate.loader import load
from archc.fusion.cores import Recurrence
from archc.fusion.plan import Region, fuse
from archc.locate import Spec
from archc.source import Source

HEAD = "from std.recurrence import gated_linear, selective_scan\nmodel net() {\n    input x: [B, C=16, H, W]\n"


def regions(text: str) -> list[Region]:
    """What the plan finds around the recurrences of a model."""
    source = Source("small.arch", f"{HEAD}{text}\n}}\nsmall = net()\n", SPECS.resolve() / "small.arch")
    program = driver.build(Spec(load(source, {}), ("small",), "small"), "small")
    return [region for region in fuse(program)[1] if isinstance(region.core, Recurrence)]


def found(text: str) -> tuple[str, str, str]:
    """The family, roles and letters of the only region."""
    (region,) = regions(text)
    assert region.fused is not None, region.why
    core = region.fused.core
    assert isinstance(core, Recurrence)
    return region.family, core.roles, "".join(letter for _, letter in core.letters)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "    q, k, v = x |> qkv: linear(48) |> split(3, C)\n"
            "    output y = gated_linear(q, k, v, sigmoid(x), -raster(H, W))",
            ("gated", "qkvd", "bw01sf"),
        ),
        # Queries that are the keys: one tensor for two purposes.
        (
            "    q, k, v = x |> qkv: linear(48) |> split(3, C)\n"
            "    output y = gated_linear(k, k, v, sigmoid(x), raster(H, W)) + q",
            ("scan", "du", "bw01sf"),
        ),
        # Too few of a side for a matrix product.
        (
            "    q, k, v = x |> qkv: linear(24) |> split([4, 4, 16], C)\n"
            "    output y = gated_linear(q, k, v, sigmoid(k), raster(H, W))",
            ("scan", "dubc", "bw01sf"),
        ),
        ("    output y = x |> selective_scan(cross(H, W), states=3) |> sum(way)", ("scan", "daUbck", "bw01sf")),
        ("    output y = recur(sigmoid(x), x, snake(H, W))", ("scan", "du", "bw01f")),
        ("    output y = recur(sigmoid(mean(x, C)), x, raster(W, H))", ("scan", "du", "bw01f")),
        # States that something else reads are a result.
        (
            "    h = recur(sigmoid(x), dot(x, silu(x) |> rename(C=\"e\")), raster(H, W))\n"
            "    output y = dot(x, h, C) |> rename(e=\"C\")\n    output z = mean(h, e)",
            ("scan", "du", "bw01sf"),
        ),
        # A decay that is no exponential of a product is given.
        (
            "    b, c = [t |> rename(C=\"s\") for t in (x |> bc: linear(8) |> split(2, C))]\n    param a: [C=16, s=4] = 0\n"
            "    output y = dot(recur(sigmoid(dot(x, a)), dot(x, b), raster(H, W)), c, s)",
            ("scan", "dubc", "bw01sf"),
        ),
    ],
)  # fmt: skip
def test_what_is_found(text: str, wanted: tuple[str, str, str]) -> None:
    assert found(text) == wanted


@pytest.mark.parametrize(
    ("along", "why"),
    [
        ("[raster(H), raster(W)]", "its paths run over different axes"),
        ("[raster(H, W), every(1, raster(H, W)), every(2, raster(H, W))]", "its paths are different numbers of sequences"),
    ],
)
def test_what_is_left(along: str, why: str) -> None:
    (region,) = regions(f"    output y = recur(sigmoid(x), x, {along}) |> sum(way)")
    assert region.fused is None
    assert region.why == why
