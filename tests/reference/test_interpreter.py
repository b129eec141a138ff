"""The interpreter: statements mean what they say, and what does not fit is named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from archc.diagnostics import ArchError
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.ir.graph import Apply, Call, Template, Value
from archc.ir.program import Input, Output, Program
from archc.ir.sym import Scalar, Var, const
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Op
from archc.reference.interpreter import run
from archc.reference.seeded import seeded_weights
from archc.sizes import Size
from archc.source import Source, Span


def program(text: str, name: str = "v") -> Program:
    library = load(Source("t.arch", text))
    return elaborate(library, variant(library, name))


def outputs(text: str, name: str = "v", **inputs: torch.Tensor) -> dict[str, Any]:
    built = program(text, name)
    return run(built, seeded_weights(built), inputs)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-12, atol=1e-12)


# ---- what statements mean


def test_blocks_loops_and_shared_modules_against_torch() -> None:
    text = """
block residual(x: [B, C, H, W]) {
    param scale: [C] = 0.5
    return x + scale * (x |> conv: conv(C, 3) |> norm: batch_norm |> relu)
}
model m(dims: list[int] = [4, 6]) {
    input image: [B, C=3, H, W]
    x = image
    module mix = conv(3, 1)
    x = mix(mix(x))
    stages: stage i, dim in enumerate(dims) {
        x = x |> down: conv(dim, 2, stride=2)
        blocks: repeat i + 1 { x = x |> _: residual }
        again: loop 2 { x = x |> residual }
    }
    output logits = x |> mean(H, W) |> head: linear(5)
}
v = m()
"""

    class Residual(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(dim))
            self.conv, self.norm = nn.Conv2d(dim, dim, 3, padding=1), nn.BatchNorm2d(dim)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.scale[:, None, None] * self.norm(self.conv(x)).relu()

    class Again(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.residual = Residual(dim)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.residual(self.residual(x))

    class Stage(nn.Module):
        def __init__(self, i: int, width: int, dim: int) -> None:
            super().__init__()
            self.down = nn.Conv2d(width, dim, 2, 2)
            self.blocks = nn.ModuleList(Residual(dim) for _ in range(i + 1))
            self.again = Again(dim)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.down(x)
            for block in self.blocks:
                x = block(x)
            return self.again(x)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Conv2d(3, 3, 1)
            self.stages = nn.ModuleList([Stage(0, 3, 4), Stage(1, 4, 6)])
            self.head = nn.Linear(6, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.mix(self.mix(x))
            for stage in self.stages:
                x = stage(x)
            return self.head(x.mean((2, 3)))

    built, module = program(text), Model().double().eval()
    weights = seeded_weights(built)
    assert list(weights) == list(module.state_dict())
    module.load_state_dict(weights)
    x = draw(2, 3, 9, 8)
    assert close(run(built, weights, {"image": x})["logits"], module(x))


def test_numbers_follow_the_turns_of_a_loop() -> None:
    text = """
block scaled(x: [B, N], by: float) { return x * by + x }
model m(depths: list[int] = [1, 2]) {
    input x: [B, N]
    rates = linspace(0.5, 2, sum(depths))
    for i, depth in enumerate(depths) {
        repeat depth as j { x = x |> scaled(rates[sum(depths[:i]) + j]) }
    }
    output y = x
}
v = m()
"""
    x = draw(2, 3)
    assert close(outputs(text, x=x)["y"], x * 1.5 * 2.25 * 3)


def test_one_template_serves_calls_with_different_numbers() -> None:
    span = Span(Source("t.arch", "text"), 0, 4)
    type = TensorType("float", (Axis("N", Dim.of(Size.symbol("N"))),))
    values = [Value(uid, type, span) for uid in range(5)]

    @dataclass(frozen=True)
    class Times(Op):
        name: ClassVar[str] = "times"
        by: Any = None

        def reference(self, run: Any, x: Any) -> Any:
            return run.named(x.data * self.by.value, x.names)

    inner = Template(
        "scaled", "block", "", (("by", Scalar(1.0, Var("by"))),), (values[0],), (values[1],),
        (Apply(Times(Scalar(1.0, Var("by"))), (values[0],), (values[1],), span),), (), span,
    )  # fmt: skip
    calls = tuple(
        Call(
            inner,
            (values[i],),
            (values[i + 1],),
            (("by", Scalar(by, Var("p") if by == 7 else Var("q"))),),
            span,
        )
        for i, by in ((2, 7), (3, 0.5))
    )
    parameters = (("p", Scalar(7, Var("p"))), ("q", Scalar(0.5, Var("q"))))
    root = Template("m", "model", "", parameters, (values[2],), (values[4],), calls, (), span)
    built = replace(
        program(BRANCH), root=root, parameters=parameters, inputs=(Input("x", values[2]),),
        outputs=(Output("y", values[4], "output", None, span),), obligations=(),
    )  # fmt: skip
    assert close(run(built, {}, {"x": draw(3)})["y"], draw(3) * 3.5)


def test_a_loop_in_a_shared_template_runs_over_the_numbers_of_the_call() -> None:
    text = """
block scaled(x: [B, N], rates: list[float]) {
    for rate in rates { x = x * rate }
    return x |> fc: linear(2, axis=B)
}
model m(rates: list[float] = [2, 3]) {
    input x: [B=2, N]
    output y = x |> scaled(rates)
}
v = m()
"""
    built = program(text)
    weights, x = seeded_weights(built), draw(2, 3)
    other = replace(built, parameters=(("rates", const([5.0, 7.0])),))
    bias = weights["scaled.fc.bias"][:, None]
    weighted = weights["scaled.fc.weight"] @ x
    assert close(run(built, weights, {"x": x})["y"], 6 * weighted + bias)
    assert close(run(other, weights, {"x": x})["y"], 35 * weighted + bias)


BRANCH = """
model m() {
    input x: [B, N]
    if N < 4 { y = x * 3 } else { y = x * 5 }
    output z = y
}
v = m()
"""


@pytest.mark.parametrize(("size", "by"), [(3, 3), (4, 5)])
def test_sizes_decide_a_branch(size: int, by: int) -> None:
    assert close(outputs(BRANCH, x=draw(2, size))["z"], draw(2, size) * by)


def test_numbers_decide_a_branch() -> None:
    text = """
model m(wide: bool = true) {
    input x: [B, C=4]
    if wide { x = x |> up: linear(8) } else { x = x * 2 }
    output y = x
}
v = m()
w = m(wide=false)
"""
    assert outputs(text, x=draw(2, 4))["y"].shape == (2, 8)
    assert close(outputs(text, "w", x=draw(2, 4))["y"], draw(2, 4) * 2)


def test_axes_are_renamed_on_the_way_in_and_back() -> None:
    text = """
block twice(t: [B, N, C]) { return t |> fc: linear(C) }
model m() {
    input x: [B, H, C=4]
    output y = x |> twice |> mean(H)
}
v = m()
"""
    built = program(text)
    weights = seeded_weights(built)
    x = draw(2, 5, 4)
    expected = nn.functional.linear(x, weights["twice.fc.weight"], weights["twice.fc.bias"]).mean(1)
    assert close(run(built, weights, {"x": x})["y"], expected)


def test_lists_of_outputs_and_further_methods() -> None:
    text = """
model m() {
    module f = linear(4)
    entry encode(z: [B, C=4, M]) -> [B, C, M] { return f(z) }
    input x: [B, C=4, N]
    feats = []
    levels: for w in [4, 3] {
        x = x |> fc: linear(w)
        feats += [x]
    }
    output y = encode(feats[0])
    output all = feats
}
v = m()
"""
    built = program(text)
    weights, x = seeded_weights(built), draw(2, 4, 3)
    found = run(built, weights, {"x": x})
    assert [tuple(t.shape) for t in found["all"]] == [(2, 4, 3), (2, 3, 3)]
    assert close(found["y"], run(built, weights, {"z": found["all"][0]}, entry="encode")["0"])
    with pytest.raises(ArchError, match="encode"):
        run(built, weights, {"z": x}, entry="encoder")


def test_tables_need_no_weights_and_counters_none_either() -> None:
    text = """
model m() {
    input x: [B, C=4]
    buffer shift: [C=4] = 2 with (saved=false)
    output y = (x + shift) |> norm: batch_norm
}
v = m()
"""
    built = program(text)
    weights = seeded_weights(built)
    assert "shift" not in weights
    del weights["norm.num_batches_tracked"]
    w = {key.removeprefix("norm."): tensor for key, tensor in weights.items()}
    x = draw(3, 4)
    expected = nn.functional.batch_norm(x + 2, w["running_mean"], w["running_var"], w["weight"], w["bias"])
    assert close(run(built, weights, {"x": x})["y"], expected)


# ---- precision and gradients


def test_all_is_float64_and_gradients_flow() -> None:
    text = """
block b(x: [B, C, N]) { return x |> fc: linear(C) |> tanh }
model m() {
    input x: [B, C=3, N]
    again: loop 2 { x = x |> b }
    output y = x
}
v = m()
"""
    built = program(text)
    weights = seeded_weights(built)
    assert run(built, weights, {"x": draw(2, 3, 4).float()})["y"].dtype == torch.float64
    names = list(weights)
    tensors = [weights[name].clone().requires_grad_() for name in names]

    def go(x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        return run(built, dict(zip(names, given, strict=True)), {"x": x})["y"]

    assert torch.autograd.gradcheck(go, (draw(2, 3, 4).requires_grad_(), *tensors))


# ---- what does not fit


def test_an_operation_whose_meaning_has_another_shape_than_its_type_is_a_defect() -> None:
    @dataclass(frozen=True)
    class Liar(Op):
        name: ClassVar[str] = "liar"

        def reference(self, run: Any, x: Any) -> Any:
            return run.named(x.data[:, :1], x.names)

    built = program(BRANCH)
    x = built.inputs[0].value
    made = Value(10**6, x.type, x.span)
    body = (Apply(Liar(), (x,), (made,), x.span),)
    broken = replace(
        built, root=replace(built.root, body=body), outputs=(replace(built.outputs[0], value=made),)
    )
    with pytest.raises(AssertionError):
        run(broken, {}, {"x": draw(2, 4)})
