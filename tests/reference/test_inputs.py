"""What is given to a run and does not fit is named, not computed with."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from archc.diagnostics import ArchError, Diagnostic
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.ir.program import Program
from archc.reference.interpreter import run
from archc.reference.seeded import seeded_weights
from archc.source import Source

TWO = """
model m() {
    input first: [B, C=3, H, W]
    input second: [B, C=3, H, W]
    output y = (first + second) |> conv: conv(4, 2, stride=2) |> window: conv(2, 2, stride=2)
}
v = m()
"""


def program(text: str) -> Program:
    library = load(Source("t.arch", text))
    return elaborate(library, variant(library, "v"))


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def refused(text: str, weights: dict[str, torch.Tensor] | None = None, **inputs: Any) -> Diagnostic:
    built = program(text)
    with pytest.raises(ArchError) as caught:
        run(built, seeded_weights(built) if weights is None else weights, inputs)
    return caught.value.diagnostics[0]


def test_inputs_that_do_not_fit_are_named() -> None:
    good = draw(2, 3, 4, 4)
    built = program(TWO)
    y = run(built, seeded_weights(built), {"first": good, "second": good})["y"]
    assert y.shape == (2, 2, 1, 1)
    assert "`second` is missing" in refused(TWO, first=good).message
    assert "`third`" in refused(TWO, first=good, second=good, third=good).message
    assert "3 axes" in refused(TWO, first=good[0], second=good).message
    assert "must be 3, and is 2" in refused(TWO, first=good, second=good[:, :2]).message
    found = refused(TWO, first=good, second=draw(2, 3, 4, 6))
    assert found.code == "E0621"
    assert "W is 4 in `first` and 6 in `second`" in found.message


def test_what_the_program_needs_of_its_inputs_is_checked() -> None:
    small = draw(1, 3, 2, 2)
    found = refused(TWO, first=small, second=small)
    assert found.code == "E0621"
    assert found.span is not None


def test_weights_that_do_not_fit_are_named() -> None:
    good = draw(2, 3, 4, 4)
    weights = seeded_weights(program(TWO))
    missing = {key: tensor for key, tensor in weights.items() if key != "conv.bias"}
    found = refused(TWO, missing, first=good, second=good)
    assert (found.code, "`conv.bias`" in found.message) == ("E0622", True)
    found = refused(TWO, weights | {"conv.bias": torch.zeros(5)}, first=good, second=good)
    assert "[5] and must be [4]" in found.message
