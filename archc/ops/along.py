"""What runs along one axis and keeps or drops it: softmax, cumulative sums, the place of the greatest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.fusion.cores import Softmax as SoftmaxCore
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, Op, Reach, arg, need
from archc.ops.checks import floating, numeric, result_type
from archc.ops.emission import dims
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Along(Op):
    """What runs along one axis."""

    axis: Any = arg("axis")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        numeric(x, f"`{self.name}`")
        need(x, self.axis, f"`{self.name}`")
        return (x,)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return xs[0].elements

    def reach(
        self, axis: str, operand: int, xs: Sequence[TensorType], ys: Sequence[TensorType]
    ) -> Reach | None:
        return None if axis == self.axis else Reach(axis)

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.showing(code, (self.axis,))
        return replace(
            x, text=f"{x.atom}.{self.name}({dims(x, (self.axis,))})", type=result_type(self, x), binding=ATOM
        )

    def value(self, run: Run, data: Any) -> Any:
        """The result for the innermost axis."""
        raise NotImplementedError

    def reference(self, run: Run, x: Named) -> Named:
        names = (*(name for name in x.names if name != self.axis), self.axis)
        return run.named(self.value(run, x.last(self.axis)), names)


@dataclass(frozen=True)
class Softmax(Along):
    """exp(x) / sum exp(x) along `axis`. FLOPs: 5 per element."""

    name: ClassVar[str] = "softmax"
    saves: ClassVar[str] = "result"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> softmax(x, C)",
        "x: [B, N, C=4] -> softmax(x, N)",
    )

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        floating(x, "`softmax`")
        check.at_least(
            need(x, self.axis, "`softmax`").size, 1, f"`softmax` needs at least one element along {self.axis}"
        )
        return (x,)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return xs[0].elements * 5

    def core(self, x: TensorType) -> SoftmaxCore:
        return SoftmaxCore(self.axis)

    def value(self, run: Run, data: Any) -> Any:
        weights = run.torch.exp(data - data.max(-1, keepdim=True).values)
        return weights / weights.sum(-1, keepdim=True)


@dataclass(frozen=True)
class CumulativeSum(Along):
    """Each element plus all before it along `axis`."""

    name: ClassVar[str] = "cumsum"
    saves: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = ("x: [B, N, C=4] -> cumsum(x, N)", "i: int[B, N] -> cumsum(i, N)")

    def value(self, run: Run, data: Any) -> Any:
        total, sums = data[..., :0].sum(-1), []
        for step in data.unbind(-1):
            total = total + step
            sums.append(total)
        return run.torch.stack(sums, -1) if sums else data


@dataclass(frozen=True)
class ArgMax(Along):
    """Where along `axis` the greatest element stands; the first of equals."""

    name: ClassVar[str] = "argmax"
    saves: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> argmax(x, C)",
        "x: [B, N, C=4] -> argmax(x, N)",
    )

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        numeric(x, "`argmax`")
        check.at_least(
            need(x, self.axis, "`argmax`").size, 1, f"`argmax` needs at least one element along {self.axis}"
        )
        return (replace(x.without(self.axis), dtype="int"),)

    def torch(self, code: Code, x: Operand) -> Operand:
        result = super().torch(code, x)
        return replace(result, order=tuple(name for name in result.order if name != self.axis))

    def reference(self, run: Run, x: Named) -> Named:
        data = x.last(self.axis)
        place = run.torch.zeros(data.shape[:-1], dtype=run.torch.int64)
        best = data[..., 0]
        for i in range(1, data.shape[-1]):
            better = data[..., i] > best
            place, best = run.torch.where(better, i, place), run.torch.where(better, data[..., i], best)
        return run.named(place, (name for name in x.names if name != self.axis))
