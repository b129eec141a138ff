"""Stencils over each channel: which operations become one operator, and both ways in which kernels compute them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from planned import small, with_kernels

from archc.fusion.plan import fuse
from archc.trials import loaded

HERE = Path(__file__).parent


def stencils(name: str) -> list[tuple[str, str]]:
    """The operations of each stencil of a small network, with the reason where the library computes it."""
    found = [region for region in fuse(small(name)[0])[1] if region.family == "depthwise"]
    return [(" ".join(step.op.name for step in region.steps), region.why) for region in found]


def test_what_stands_around_a_stencil_is_fused_with_it() -> None:
    assert {words for words, why in stencils("van") if not why} == {"conv", "conv gelu"}
    assert set(stencils("poolformer")) == {("avg_pool subtract multiply dropout add", "")}
    found = stencils("stencils")
    assert sorted(words for words, why in found if not why) == sorted(
        ["conv"] * 5 + ["conv silu"] * 2 + ["conv gelu multiply add", "avg_pool multiply", "avg_pool relu"]
    )
    assert [(words, why) for words, why in found if why] == [("avg_pool", "a mean alone is the library's")]


def test_one_operator_serves_all_widths_and_strides() -> None:
    text = with_kernels(*small("stencils"))
    assert text.count('stride="n0"') == 1
    assert "def depthwise3_torch(x: Tensor, weight: Tensor, n0: int)" in text
    assert "stride=n0, groups=weight.shape[0]" in text


def test_products_are_as_exact_as_strips() -> None:
    pytest.importorskip("triton")
    done = subprocess.run([sys.executable, str(HERE / "toeplitz.py")], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == 24
    assert [row for row in rows if not row["error"] <= row["limit"]] == []


def test_large_kernels_and_small_maps_are_computed_by_products() -> None:
    pytest.importorskip("triton")
    with loaded(with_kernels(*small("stencils"))) as module:
        operator = module.depthwise

        def products(kernel: int, dilation: int, size: int, maps: int = 128, kind: object = None) -> bool:
            windows = module.Windows((kernel,) * 2, (1, 1), (dilation,) * 2, (dilation * (kernel // 2),) * 2)
            kind = kind or module.torch.bfloat16
            x = SimpleNamespace(shape=(maps, size, size, 64), dtype=kind, element_size=lambda: module.torch.finfo(kind).bits // 8)
            return isinstance(operator.tile(windows, x, x), module.ToeplitzTile)

        assert products(7, 3, 7) and products(7, 3, 14) and products(31, 1, 56)
        assert not products(7, 3, 56) and not products(3, 1, 56) and not products(3, 1, 14)
        assert not products(7, 3, 7, maps=1)  # the matrices take longer to make than the strips
        assert not products(31, 1, 56, kind=module.torch.float32)
