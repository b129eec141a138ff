"""What joins a linear map of the channels in one operator, and what its kernels are told of the operands."""

from __future__ import annotations

import pytest
from test_rows import regions, words

from archc.fusion.families import family

MAP = "h = x |> a: conv(12, 1)"


@pytest.mark.parametrize(
    ("body", "operations", "settings"),
    [
        (f"{MAP}\n output y = h |> gelu", "conv gelu", ["bias=True", "behind=2"]),
        ("output y = x |> a: linear(12, bias=false) |> relu", "linear relu", ["bias=False"]),
        (f"{MAP}\n output y = h * sigmoid(h)", "conv sigmoid multiply", ["bias=True", "behind=2"]),
        (
            f"{MAP}\n output y = x + h",
            "conv add",
            ["bias=True", "behind=2", 'operands=("NPC",)', "passes=(0,)", "recomputes=False"],
        ),
        (
            f"param g: [C=12] = 1\n {MAP}\n output y = x + ((g * h) |> drop_path(0.1))",
            "conv multiply dropout add",
            ["bias=True", "behind=2", 'operands=("C", "NPC", "n")', "passes=(1,)"],
        ),
        (
            f"m = x |> mean(H, W)\n {MAP}\n output y = where(x > h, h, h * m)",
            "conv greater multiply where",
            ["bias=True", "behind=2", 'operands=("npc", "NC")'],
        ),
        (
            f"p = x |> mean(C)\n {MAP}\n output y = max(h, p)",
            "conv maximum",
            ["bias=True", "behind=2", 'operands=("NP",)'],
        ),
    ],
)
def test_one_operator(body: str, operations: str, settings: list[str]) -> None:
    (region,) = [one for one in regions(body) if one.fused is not None]
    assert " ".join(step.op.name for step in region.steps) == operations
    assert region.fused is not None
    assert family("pointwise").settings(region.fused) == settings


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (f"{MAP}\n output y = h |> max_pool(3)", "a matrix product alone is the library's"),
        (f"{MAP}\n output y = h |> gelu\n output z = h", "a matrix product alone is the library's"),
        (f"r = x |> mean(H)\n {MAP}\n output y = h + r", "a matrix product alone is the library's"),
        (f"{MAP}\n output y = where(h > 0, 1.0, 0.0)", "a matrix product alone is the library's"),
    ],
)
def test_left_to_the_library(body: str, why: str) -> None:
    """A second reader, an operand with some of the positions, no gradient."""
    assert ("conv", why) in words(regions(body))
