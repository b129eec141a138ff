"""Which attention becomes one operator, and what is left to the library with which reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from archc import driver
from archc.elaborate.loader import load
from archc.fusion.plan import Region, fuse
from archc.locate import Spec
from archc.source import Source

MODEL = """
from std.attention import attend
from std.layout import split_heads
model net() {{
    input x: [B, C=12, H, W]
    {params}
    q, k, v = [split_heads(t, 2) for t in (x |> qkv: linear(36) |> split(3, C))]
    {body}
}}
small = net()
"""


PARAMS = {"table": "[heads=2, dy=5, dx=5]", "other": "[heads=2, tap=9]"}


def regions(body: str) -> list[Region]:
    """What becomes of the scores in a body."""
    params = "\n".join(f"param {name}: {type} = normal(0.1)" for name, type in PARAMS.items() if name in body)
    text = MODEL.format(body=body, params=params)
    library = load(Source("small.arch", text, Path(__file__).parent / "small.arch"), {})
    program = driver.build(Spec(library, ("small",), "small"), "small")
    return [region for region in fuse(program)[1] if region.steps[0].op.name == "correlate"]


@pytest.mark.parametrize(
    ("over", "kinds"),
    [
        ("window(3)", "('window', 'window')"),
        ('window(3, edge="drop")', "('window', 'window')"),
        ("window(3, on=W)", "('alone', 'window')"),
        ("grid(3)", "('grid', 'grid')"),
        ("row", "('alone', 'whole')"),
        ("shifted(grid(3), 1)", "('grid', 'grid')"),
    ],
)
def test_blocks_are_fused(over: str, kinds: str) -> None:
    (region,) = regions(f"output y = attend(q, k, v, {over})")
    assert region.fused is not None and region.family == "blocks"
    assert [step.op.name for step in region.steps] == ["correlate", "multiply", "softmax", "aggregate"]
    blocks = region.fused.core.over.blocks(("H", "W"))
    assert str(tuple(block.kind for block in blocks)) == kinds


def test_a_bias_by_offsets_joins() -> None:
    (region,) = regions("output y = attend(q, k, v, window(3), bias=relative(table, window(3)))")
    assert region.fused is not None
    assert region.fused.arguments == ("q", "k", "v", "bias")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("s = correlate(q, k, window(3))\n output y = aggregate(softmax(s, tap), v, window(3))\n output z = s", "reader"),
        ("output y = aggregate(correlate(q, k, window(3)), v, window(3))", "between its scores and their softmax"),
        ("output y = aggregate(softmax(correlate(q, k, window(3)), tap), v, grid(3))", "no sum over the same region"),
    ],
)
def test_what_is_not_fused_has_a_reason(body: str, why: str) -> None:
    (region,) = regions(body)
    assert region.fused is None
    assert why in region.why
