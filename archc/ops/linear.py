"""y = x W^T + b over one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.deploy.roles import Weighted
from archc.fusion.cores import Matmul
from archc.ir.sym import const
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Check, Code, Init, Op, OpError, Weight, arg
from archc.ops.checks import fixed
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Linear(Op):
    """Project the channel axis (`axis`) to `out` channels, with new weights; every other axis rides along.

    The weight is stored [out, in], as torch stores it. MACs: the other sizes x in x out.
    """

    name: ClassVar[str] = "linear"
    classes: ClassVar[tuple[str, ...]] = ("nn.Linear",)
    projects: ClassVar[bool] = True
    attributes: ClassVar[dict[str, str]] = {"out": "out_features"}
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=8] -> linear(x, 3)",
        "x: [B, C=8, H, W] -> linear(x, 16, bias=false)",
        "x: [B, N=5, C=8] -> linear(x, 4, axis=N)",
    )
    out: Any = arg("int")
    bias: Any = arg("bool", True)
    axis: Any = arg("axis", "C")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        fixed(x, self.axis, "`linear`")
        if self.out.value < 1:
            raise OpError(f"`out` must be at least 1, and is {self.out.value}", "E0213", argument="out")
        return (x.resized(**{self.axis: Dim.of(self.out)}),)

    def weights(self, x: TensorType) -> tuple[Weight, ...]:
        out = Axis("out", Dim.of(self.out))
        weight = Weight("weight", (out, Axis("in", x[self.axis].dim)), Init("kaiming_uniform"))
        return (weight, Weight("bias", (out,), Init("fan_in_uniform"))) if self.bias.value else (weight,)

    def macs(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ys[0].elements * xs[0][self.axis].size

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ys[0].elements if self.bias.value else Size.of(0)

    def channels(self, xs: Sequence[TensorType], constant: Sequence[bool]) -> Weighted:
        bias, biased = "bias" if self.bias.value else None, replace(self, bias=const(True))
        return Weighted(self.axis, "weight", bias, 0, 1, biased=biased)

    def core(self, x: TensorType) -> Matmul:
        return Matmul(self.axis, bool(self.bias.value))

    def module(self, code: Code, x: TensorType) -> str:
        bias = code.number(self.bias)
        keyword = "" if bias == "True" else f", bias={bias}"
        return f"nn.Linear({code.number(x[self.axis].dim)}, {code.number(self.out)}{keyword})"

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code).last(self.axis)
        if code.functional:
            bias = f", {code.weight('bias')}" if self.bias.value else ""
            return Operand(f"F.linear({x}, {code.weight('weight')}{bias})", x.type, x.order)
        return Operand(f"{code.child}({x})", x.type, x.order)

    def reference(self, run: Run, x: Named) -> Named:
        y = x.last(self.axis) @ run.weight("weight").transpose(0, 1)
        if self.bias.value:
            y = y + run.weight("bias")
        return run.named(y, (*(n for n in x.names if n != self.axis), self.axis))
