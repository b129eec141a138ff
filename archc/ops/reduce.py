"""Reductions over named axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.deploy.roles import Through
from archc.ir.types import Dim, TensorType
from archc.ops.base import Check, Code, Op, OpError, Reach, arg, need
from archc.ops.checks import distinct, floating, numeric, result_type
from archc.ops.emission import call, dims, options
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Reduction(Op):
    """One number for all elements along `axes`, which disappear or, with `keep`, get size 1.

    FLOPs: one per input element.
    """

    method: ClassVar[str]
    empty: ClassVar[bool] = False  # defined for no elements at all
    axes: Any = arg("axes", ())
    keep: Any = arg("bool", False)

    def accepts(self, x: TensorType) -> None:
        """Raises OpError for element types it is not defined on."""
        numeric(x, f"`{self.name}`")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        self.accepts(x)
        if not self.axes:
            axis = x.names[-1] if x.names else "C"
            raise OpError(
                f"`{self.name}` needs the axes to go over",
                "E0302",
                help=f"write `{self.name}(x, {axis})` or `{self.name}(x, positions)`",
            )
        distinct(self.axes, "axes")
        for name in self.axes:
            size = need(x, name, f"`{self.name}`").size
            if not self.empty:
                check.at_least(size, 1, f"`{self.name}` needs at least one element along {name}")
        if self.keep.value:
            return (x.with_axes(a.sized(Dim.of(1)) if a.name in self.axes else a for a in x.axes),)
        return (x.without(*self.axes),)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return xs[0].elements

    def reach(
        self, axis: str, operand: int, xs: Sequence[TensorType], ys: Sequence[TensorType]
    ) -> Reach | None:
        return None if axis in self.axes else Reach(axis)

    def extra(self, code: Code) -> list[str]:
        """Further keyword arguments."""
        return []

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.showing(code, self.axes)
        keep = ["keepdim=True"] if self.keep.value else []
        text = call(f"{x.atom}.{self.method}", dims(x, self.axes), self.extra(code), keep)
        order = x.order if self.keep.value else tuple(name for name in x.order if name not in self.axes)
        return replace(x, text=text, type=result_type(self, x), order=order, binding=ATOM)

    def value(self, run: Run, data: Any) -> Any:
        """The reduction of the innermost axis."""
        raise NotImplementedError

    def reference(self, run: Run, x: Named) -> Named:
        rest = tuple(name for name in x.names if name not in self.axes)
        data = x.last(*self.axes)
        data = self.value(run, data.reshape(*data.shape[: len(rest)], -1))
        if not self.keep.value:
            return run.named(data, rest)
        return run.named(data.reshape(*data.shape, *(1 for _ in self.axes)), (*rest, *self.axes))


@dataclass(frozen=True)
class Sum(Reduction):
    """The sum along `axes`."""

    name: ClassVar[str] = "sum"
    saves: ClassVar[str] = ""
    method: ClassVar[str] = "sum"
    empty: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> sum(x, C)",
        "x: [B, C=4, H, W] -> sum(x, positions, keep=true)",
    )

    def channels(self, xs: Sequence[TensorType], constant: Sequence[bool]) -> Through:
        return Through(0, tuple(name for name in xs[0].names if name not in self.axes), means=False)

    def value(self, run: Run, data: Any) -> Any:
        return run.torch.einsum("...n->...", data)


@dataclass(frozen=True)
class Mean(Reduction):
    """The mean along `axes`."""

    name: ClassVar[str] = "mean"
    saves: ClassVar[str] = ""
    method: ClassVar[str] = "mean"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> mean(x, H, W)",
        "x: [B, C=4, H, W] -> mean(x, positions, keep=true)",
        "x: [B, N, C=4] -> mean(x, B, C)",
    )

    def accepts(self, x: TensorType) -> None:
        floating(x, "`mean`")

    def channels(self, xs: Sequence[TensorType], constant: Sequence[bool]) -> Through:
        return Through(0, tuple(name for name in xs[0].names if name not in self.axes), means=True)

    def value(self, run: Run, data: Any) -> Any:
        return run.torch.einsum("...n->...", data) / data.shape[-1]


@dataclass(frozen=True)
class Maximum(Reduction):
    """The greatest along `axes`. `max(a, b)` of two sides is the operation `maximum`."""

    name: ClassVar[str] = "max"
    saves: ClassVar[str] = "x result"
    method: ClassVar[str] = "amax"
    alternative: ClassVar[str] = "maximum"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> max(x, C)",
        "i: int[B, N] -> max(i, N, keep=true)",
    )

    def value(self, run: Run, data: Any) -> Any:
        return data.sort(dim=-1).values[..., -1]


@dataclass(frozen=True)
class Minimum(Reduction):
    """The least along `axes`. `min(a, b)` of two sides is the operation `minimum`."""

    name: ClassVar[str] = "min"
    saves: ClassVar[str] = "x result"
    method: ClassVar[str] = "amin"
    alternative: ClassVar[str] = "minimum"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> min(x, H, W)",
        "x: [B, N, C=4] -> min(x, N, keep=true)",
    )

    def value(self, run: Run, data: Any) -> Any:
        return data.sort(dim=-1).values[..., 0]


@dataclass(frozen=True)
class Variance(Reduction):
    """The mean squared distance from the mean; `unbiased` divides by one less."""

    name: ClassVar[str] = "var"
    method: ClassVar[str] = "var"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H=5, W=3] -> var(x, positions)",
        "x: [B, N=7, C=4] -> var(x, N, keep=true, unbiased=true)",
    )
    unbiased: Any = arg("bool", False)

    def accepts(self, x: TensorType) -> None:
        floating(x, "`var`")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        types = super().infer(check, x)
        if self.unbiased.value:
            total = Size.of(1)
            for name in self.axes:
                total = total * x[name].size
            check.at_least(total, 2, "an unbiased variance needs at least two elements")
        return types

    def extra(self, code: Code) -> list[str]:
        return options(code, ("unbiased", self.unbiased, True))

    def value(self, run: Run, data: Any) -> Any:
        count = data.shape[-1]
        distance = data - (data.sum(-1) / count)[..., None]
        return (distance * distance).sum(-1) / (count - 1 if self.unbiased.value else count)


@dataclass(frozen=True)
class AnyOf(Reduction):
    """Whether some truth value along `axes` holds."""

    name: ClassVar[str] = "any"
    saves: ClassVar[str] = ""
    method: ClassVar[str] = "any"
    empty: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "m: bool[B, N] -> any(m, N)",
        "x: [B, C=4, H, W] -> any(x > 1, positions, keep=true)",
    )

    def accepts(self, x: TensorType) -> None:
        if x.dtype != "bool":
            raise OpError(
                f"`any` works on truth values, and its operand is {x}",
                "E0305",
                help="compare first: `any(x > 0, N)`",
            )

    def value(self, run: Run, data: Any) -> Any:
        return data.to(run.torch.int64).sum(-1) > 0
