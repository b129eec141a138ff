"""Transforms: what they say of shapes is what they do to tensors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archc.source import Source
from archc.syntax import tree
from archc.syntax.parse import parse
from archc.weights.transforms import (
    Step,
    TransformError,
    joined,
    joined_shape,
    shape_after,
    step_of,
    tensor_after,
)


def step(text: str) -> Step:
    """The step that stands behind `|>` in a rule."""
    source = Source("t.arch", f'v = m() {{\n    weights {{\n        "a" -> "b" |> {text}\n    }}\n}}\n')
    (binding,) = parse(source).items
    assert isinstance(binding, tree.Binding)
    (weights,) = binding.facts
    assert isinstance(weights, tree.Weights)
    return step_of(weights.rules[0].transforms[0])


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        ("reshape(6, 4)", (2, 3, 4), (6, 4)),
        ("reshape(-1)", (2, 3), (6,)),
        ("reshape(2, -1, 3)", (2, 6), (2, 2, 3)),
        ("flatten", (2, 3, 4), (24,)),
        ("flatten(1, 2)", (2, 3, 4), (2, 12)),
        ("squeeze(0)", (1, 3), (3,)),
        ("squeeze(-1)", (3, 1), (3,)),
        ("unsqueeze(0)", (3,), (1, 3)),
        ("unsqueeze(-1)", (3,), (3, 1)),
        ("permute(2, 0, 1)", (2, 3, 4), (4, 2, 3)),
        ("transpose(0, 2)", (2, 3, 4), (4, 3, 2)),
        ("transpose(-1, 0)", (2, 3), (3, 2)),
        ("slice(0, 1, 3)", (4, 5), (2, 5)),
        ("slice(-1, 0, 2)", (4, 5), (4, 2)),
        ("flip(1)", (2, 3), (2, 3)),
        ("scale(0.5)", (2, 3), (2, 3)),
        ("scale(-2)", (2,), (2,)),
    ],
)
def test_shapes_and_tensors_agree(text: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert shape_after(step(text), shape) == expected
    assert tuple(tensor_after(step(text), torch.rand(shape)).shape) == expected


def test_what_the_steps_do() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(tensor_after(step("transpose(0, 1)"), x), x.T)
    assert torch.equal(tensor_after(step("slice(1, 1, 3)"), x), x[:, 1:3])
    assert torch.equal(tensor_after(step("flip(0)"), x), x.flip(0))
    assert torch.equal(tensor_after(step("scale(-0.5)"), x), -0.5 * x)
    assert torch.equal(tensor_after(step("permute(1, 0)"), x), x.T)
    assert torch.equal(joined(step("cat(1)"), [x, x]), torch.cat([x, x], 1))
    assert torch.equal(joined(step("stack(0)"), [x, x]), torch.stack([x, x]))


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(-4, 3), st.sampled_from(["cat", "stack"])
)
def test_joins_say_the_shape_that_torch_gives(sizes: list[int], axis: int, name: str) -> None:
    tensors = [torch.zeros(sizes), torch.zeros(sizes)]
    join = Step(name, (axis,))
    try:
        expected = joined_shape(join, [tuple(sizes), tuple(sizes)])
    except TransformError:
        with pytest.raises((IndexError, TransformError)):
            (torch.cat if name == "cat" else torch.stack)(tensors, axis)
    else:
        assert tuple(joined(join, tensors).shape) == expected


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("reshape(5)", (2, 3)),
        ("reshape(-1, -1)", (2, 3)),
        ("reshape(-1, 0)", (2, 3)),
        ("reshape(-2, 3)", (2, 3)),
        ("flatten(1, 0)", (2, 3)),
        ("squeeze(0)", (2, 3)),
        ("squeeze(2)", (2, 3)),
        ("unsqueeze(3)", (2,)),
        ("permute(0, 0)", (2, 3)),
        ("permute(0)", (2, 3)),
        ("transpose(0, 2)", (2, 3)),
        ("slice(0, 1, 3)", (2, 3)),
        ("slice(0, 1, 1)", (2, 3)),
        ("slice(0, -1, 1)", (2, 3)),
        ("flip(2)", (2, 3)),
    ],
)
def test_steps_that_do_not_fit_are_refused(text: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(TransformError):
        shape_after(step(text), shape)
    with pytest.raises(TransformError):
        tensor_after(step(text), torch.zeros(shape))


@pytest.mark.parametrize(
    "text",
    ["twist(1)", "permute", "permute(a, b)", "reshape(1.5)", "reshape(n=2)", "reshape(1 + 1)", "flatten(1)",
     "slice(0, 1)", "cat", "scale", 'scale("x")', "x.transpose(0, 1)", "squeeze"],
)  # fmt: skip
def test_malformed_steps_are_refused(text: str) -> None:
    with pytest.raises(TransformError):
        step(text)


def test_pieces_of_different_shapes_do_not_join() -> None:
    with pytest.raises(TransformError):
        joined_shape(Step("cat", (0,)), [(2, 3), (2, 4)])
    with pytest.raises(TransformError):
        joined_shape(Step("cat", (0,)), [(2, 3), (2, 3, 1)])
    with pytest.raises(TransformError):
        joined_shape(Step("stack", (0,)), [(2, 3), (3, 3)])
    assert joined_shape(Step("cat", (0,)), [(2, 3), (4, 3)]) == (6, 3)
