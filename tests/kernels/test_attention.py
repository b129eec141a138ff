"""Which attention is one operator, with which courses along the axes and operands of its scores; and why other is not.

That its kernels compute what they should is held in `test_interpreted.py`, in the networks attention, ccnet and conv_attention.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archc import driver
from archc.backend.module import Figures, emit
from archc.elaborate.loader import load
from archc.fusion.plan import Region, fuse
from archc.locate import Spec
from archc.source import Source

MODEL = """
from std.attention import attend
from std.layout import split_heads
model net(extent: int) {{
    input x: [B, C=12, H, W]
    input m: [B, H, W, tap=9]
    param table: [heads=2, dy=7, dx=7] = normal(0.1)
    q, k, v = [split_heads(t, 2) for t in (x |> qkv: linear(36) |> split(3, C))]
    {body}
    output besides = (m, table)
}}
small = net(extent=3)
"""


def planned(body: str) -> tuple[Region, str]:
    """What becomes of the scores in a body, and the module."""
    text = MODEL.format(body=body).replace("    output besides = (m, table)\n", "".join(
        f"    output other_{name} = {name} * 1.0\n" for name in ("m", "table") if not re.search(rf"\b{name}\b", body)
    ))  # fmt: skip
    library = load(Source("small.arch", text, Path(__file__).parent / "small.arch"), {})
    program = driver.build(Spec(library, ("small",), "small"), "small")
    fused, regions = fuse(program)
    found = next(r for r in regions if any(s.op.name == "correlate" for s in r.steps))
    return found, emit(fused, driver.contract_of(program), Figures(0))


def plain(text: str) -> str:
    """Without its layout."""
    return re.sub(r",(?=[)\]])", "", "".join(text.split()))


@pytest.mark.parametrize(
    ("over", "courses"),
    [
        ("neighborhood(3)", "AxisLine(block=1, halo=1), AxisLine(block=1, halo=1)"),
        ('neighborhood([3, 5], dilation=2, edge="shift")', 'AxisLine(block=1, halo=2, step=2, edge="shift")'),
        ("halo(4, 1)", "AxisLine(block=4, base=4, halo=1)"),
        ("(column - self) + row", "([AxisLine(), AxisLine(block=1)], True), ([AxisLine(block=1), AxisLine()], False)"),
        ('shifted(neighborhood(3), -2, edge="drop")', "AxisLine(block=1, halo=1, roll=-2, seam=True)"),
        ("neighborhood(3, on=H) * window(2, on=W)", "AxisLine(block=1, halo=1), AxisLine(block=2)"),
        ("window(16)", "AxisLine(block=16)"),
        ("neighborhood(extent)", "AxisLine(block=1, halo=n0 // 2)"),
    ],
)
def test_regions_are_courses_along_the_axes(over: str, courses: str) -> None:
    region, text = planned(f"output y = attend(q, k, v, {over})")
    assert region.fused is not None and region.family == "attention"
    assert plain(courses) in plain(text[text.index("= TiledAttention(") :])


@pytest.mark.parametrize(
    ("body", "operands", "function"),
    [
        ("attend(q, k, v, neighborhood(3), bias=relative(table, neighborhood(3)))", '[OffsetTable("heads")]', "v0 + b[0]"),
        ("attend(q, k, v, neighborhood(3), bias=m)", '["B H W tap"]', "v0 + b[0]"),
        ("attend(q, k, v, neighborhood(3), mask=m > 0)", '["B H W tap"]', "tl.where((b[0] != 0), v0"),
        ("attend(q, k, v, neighborhood(3) & (m > 0))", '["B H W tap"]', 'tl.where((b[0] != 0), s, float("-inf"))'),
    ],
)
def test_scores_are_computed_with_tables_maps_and_masks(body: str, operands: str, function: str) -> None:
    region, text = planned(f"output y = {body}")
    assert region.fused is not None and region.family == "attention"
    assert plain(f"operands={operands}") in plain(text)
    scores = text.partition("_scores(s, b, numbers)")[2].partition("@jit")[0]
    assert function in scores


def test_all_to_all_is_the_librarys() -> None:
    region, text = planned("output y = attend(q, k, v)")
    assert region.family == "sdpa" and "F.scaled_dot_product_attention(" in text and "TiledAttention" not in text


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('output y = attend(q, k, v, neighborhood(3, edge="wrap"))', "a second time"),
        ("output y = attend(q, k, v, neighborhood(5) - neighborhood(3))", "than `self`"),
    ],
)
def test_what_is_not_fused_has_a_reason(body: str, why: str) -> None:
    region, _ = planned(body)
    assert region.fused is None and region.family == "attention"
    assert why in region.why


@pytest.mark.parametrize("chain", ["softmax(tanh({s}), tap)", "softmax(-1.0 * {s}, tap)", "softmax(1.0 - {s}, tap)", "{s}"])
def test_a_chain_that_gives_absent_taps_a_score_is_no_attention(chain: str) -> None:
    weights = chain.format(s="correlate(q, k, neighborhood(3))")
    _, text = planned(f"output y = aggregate({weights}, v, neighborhood(3))")
    assert "TiledAttention" not in text
