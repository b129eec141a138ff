"""What joins a linear map of the channels in one operator, and what its kernels are told of the operands."""

from __future__ import annotations

import pytest
from planned import small, with_kernels
from test_rows import regions, words

from archc.fusion.families import family
from archc.trials import loaded

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


POOLED = "h = x |> max_pool(3, stride=1, pad=1)"


@pytest.mark.parametrize(
    ("body", "words", "settings"),
    [
        (f"{POOLED}\n output y = relu(h) |> a: linear(7)", "relu linear", ["bias=True", "recomputes=False"]),
        (
            f"{POOLED}\n output y = x + ((h * sigmoid(x)) |> a: conv(12, 1, bias=false))",
            "sigmoid multiply linear add",
            ["bias=False", "behind=2", 'operands=("NPC",)', "passes=(0,)", "recomputes=False", 'before=("NPC",)'],
        ),
        (
            f"{POOLED}\n s = h |> mean(H, W) |> b: linear(12)\n output y = where(x > h, h * s, h) |> a: linear(12)",
            "greater multiply where linear",
            ["bias=True", "recomputes=False", 'before=("npc", "NC")'],
        ),
        (
            f"{POOLED}\n output y = ((h |> n: layer_norm) * 2) |> a: linear(7) |> silu",
            "linear silu",
            ["bias=True"],
        ),
    ],
)
def test_a_prologue(body: str, words: str, settings: list[str]) -> None:
    """What makes the map that a product is of joins it, if no core before it and no norm can take it."""
    (region,) = [one for one in regions(body) if one.fused is not None and one.family == "pointwise"]
    assert region.fused is not None
    assert " ".join(family("pointwise").words(region.core, region.steps)) == words
    assert family("pointwise").settings(region.fused) == settings
    named = dict(zip(region.fused.arguments, region.fused.tensors, strict=True))
    assert len(named) == len(region.fused.tensors)


@pytest.mark.parametrize(
    "body",
    [
        # It would be made three times in a training step.
        f"{POOLED}\n output y = (h * sigmoid(x)) |> a: linear(12) |> gelu",
        # Its result, or a part of it, is read again.
        f"{POOLED}\n v = relu(h)\n output y = v |> a: linear(12)\n output z = v",
        # One tensor would be an operand of both sides, and has one gradient.
        f"{POOLED}\n output y = x + ((h * x) |> a: linear(12))",
        # Which samples are dropped is drawn where they are.
        f"{POOLED}\n output y = h |> drop_path(0.1) |> a: linear(12)",
        # The weight's gradient alone would need it.
        f"{POOLED}\n output y = where(h > 0, 1.0, 0.0) |> a: linear(12)",
        # Another kernel takes it as an epilogue.
        "output y = x |> b: conv(12, 3, groups=12, pad=1) |> gelu |> a: linear(12)",
        "output y = x |> b: linear(24) |> gelu |> a: linear(12)",
        "output y = ((x |> n: layer_norm |> silu) * x) |> a: linear(12)",
    ],
)
def test_no_prologue(body: str) -> None:
    found = [family("pointwise").prologue(one.steps) for one in regions(body) if one.family == "pointwise"]
    assert found
    assert not any(found)


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


def test_parts_of_maps_are_read_where_they_lie() -> None:
    """The halves of a split are told by the distance of their rows, and copied only where that varies."""
    torch = pytest.importorskip("torch")
    with loaded(with_kernels(*small("one_prologue"))) as module:
        (operator,) = [v for v in vars(module).values() if isinstance(v, module.ProloguePointwise)]
        whole = torch.randn(2, 3, 5, 136)
        for half in whole.split(68, -1):
            assert module.row_stride(half) == 136
            assert operator.apart(half).data_ptr() == half.data_ptr()
        assert module.row_stride(whole) is None
        assert module.row_stride(whole[:1, :1, :1, :68]) is None  # one row
        for uneven in (whole[:, :2], whole[:, :, :4], whole.transpose(1, 2), whole[:, :, :1].expand(2, 3, 5, 136)):
            rows = uneven[..., :68]
            assert module.row_stride(rows) == 0
            assert torch.equal(operator.apart(rows), rows)
            assert operator.apart(rows).is_contiguous()
        assert module.row_stride(whole[..., ::2]) == 0
