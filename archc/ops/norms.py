"""Normalisations: over the batch, over channels, over groups of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.deploy.roles import Affine, Weighted
from archc.deploy.terms import Number, Own
from archc.fusion.cores import Norm as NormCore
from archc.ir.sym import Const, Scalar, const
from archc.ir.types import Axis, TensorType
from archc.ops.base import Check, Code, Init, Note, Op, OpError, Reach, Weight, arg
from archc.ops.checks import distinct, divides, fixed, floating, real
from archc.ops.emission import bound, call, fold, fold_tail, options, tuple_of
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run

ONES, ZEROS = Init("fill", (const(1),)), Init("fill", (const(0),))


@dataclass(frozen=True)
class Norm(Op):
    """What the norms share. FLOPs: 8 per element."""

    def widths(self, x: TensorType) -> tuple[Axis, ...]:
        """The axes of the weights."""
        raise NotImplementedError

    def check_numbers(self, x: TensorType, eps: Scalar) -> None:
        """Raises OpError for what no norm works on."""
        floating(x, f"`{self.name}`")
        if isinstance(eps.value, int) and eps.value > 1:
            raise OpError(
                f"`eps` must be a small number, and is {eps.value}",
                "E0213",
                argument="eps",
                help=f"the width is read from the tensor and not given: `{self.name}` alone",
            )
        real(eps, "eps", low=0)

    def weights(self, x: TensorType) -> tuple[Weight, ...]:
        axes = self.widths(x)
        return Weight("weight", axes, ONES), Weight("bias", axes, ZEROS)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return xs[0].elements * 8


# ---- over the batch


@dataclass(frozen=True)
class BatchNorm(Norm):
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel (arXiv:1502.03167).

    Mean and variance are those of all other axes in training, and their running averages otherwise, which is
    what the reference computes. FLOPs: 2 per element.
    """

    name: ClassVar[str] = "batch_norm"
    cost_class: ClassVar[str] = "batch_norm"
    affine: ClassVar[bool] = True
    attributes: ClassVar[dict[str, str]] = {"eps": "eps", "momentum": "momentum"}
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> batch_norm(x)",
        "x: [B, C=4] -> batch_norm(x, eps=0.001)",
        "x: [B, N, C=4] -> batch_norm(x, momentum=0.01)",
        "x: [B, C=4, T, H, W] -> batch_norm(x)",
        "x: [B, heads=2, C=4, T, H, W] -> batch_norm(x)",
        "x: [B, N=3, C=4] -> batch_norm(x, axis=N)",
    )
    eps: Any = arg("float", 1e-5)
    momentum: Any = arg("float", 0.1)
    axis: Any = arg("axis", "C")

    def widths(self, x: TensorType) -> tuple[Axis, ...]:
        return (x[self.axis],)

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        self.check_numbers(x, self.eps)
        real(self.momentum, "momentum", 0, 1)
        fixed(x, self.axis, f"`{self.name}`")
        if len(x.axes) < 2:
            raise OpError(
                f"`{self.name}` takes statistics over the axes beside {self.axis}, and {x} has none",
                "E0303",
                help="`layer_norm` normalises over the channels",
            )
        return (x,)

    def weights(self, x: TensorType) -> tuple[Weight, ...]:
        axes = self.widths(x)
        return (
            *(super().weights(x) if self.affine else ()),
            Weight("running_mean", axes, ZEROS, kind="buffer"),
            Weight("running_var", axes, ONES, kind="buffer"),
            Weight("num_batches_tracked", (), ZEROS, kind="counter", dtype="int"),
        )

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return xs[0].elements * 2

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        """Mean and deviation of each channel."""
        return (Note("float", xs[0][self.axis].size * 2),)

    def module(self, code: Code, x: TensorType) -> str:
        # More axes than BatchNorm3d takes are merged behind the channels.
        kind = {2: 1, 3: 1, 4: 2, 5: 3}.get(len(x.axes), 1)
        numbers = options(code, ("eps", self.eps, 1e-5), ("momentum", self.momentum, 0.1))
        affine = [] if self.affine else ["affine=False"]
        return call(f"nn.BatchNorm{kind}d", code.number(x[self.axis].dim), numbers, affine)

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        first, *rest = (name for name in x.order if name != self.axis)
        x = x.to((first, self.axis, *rest))
        given, unfold = fold_tail(code, x, 2, 3)
        if code.functional:
            names = ["running_mean", "running_var", *(("weight", "bias") if self.affine else ())]
            numbers = options(code, ("momentum", self.momentum, 0.1), ("eps", self.eps, 1e-5))
            text = call("F.batch_norm", given, [code.weight(n) for n in names], "training=self.training", numbers)
        else:
            text = call(code.child, given)
        return Operand(text + unfold, x.type, x.order)

    def channels(self, xs: Sequence[TensorType], constant: Sequence[bool]) -> Affine:
        deviation = (Own("running_var") + Number(self.eps.value)).root()
        if not self.affine:
            return Affine(0, self.axis, Number(1) / deviation, Number(0) - Own("running_mean") / deviation)
        scale = Own("weight") / deviation
        return Affine(0, self.axis, scale, Own("bias") - Own("running_mean") * scale)

    def reference(self, run: Run, x: Named) -> Named:
        data = x.last(self.axis)
        y = (data - run.weight("running_mean")) / (run.weight("running_var") + self.eps.value) ** 0.5
        if self.affine:
            y = y * run.weight("weight") + run.weight("bias")
        return run.named(y, (*(name for name in x.names if name != self.axis), self.axis))


@dataclass(frozen=True)
class Standardize(BatchNorm):
    """`batch_norm` without weight and bias."""

    name: ClassVar[str] = "standardize"
    affine: ClassVar[bool] = False
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> standardize(x)",
        "x: [B, C=4] -> standardize(x, 0.001, momentum=0.2)",
        "x: [B, N=3, C=4] -> standardize(x, axis=N)",
    )


# ---- over channels


@dataclass(frozen=True)
class LayerNorm(Norm):
    """(x - mean) / sqrt(var + eps) * weight + bias, by the statistics of some axes (arXiv:1607.06450)."""

    name: ClassVar[str] = "layer_norm"
    cost_class: ClassVar[str] = "layer_norm"
    function: ClassVar[str] = "layer_norm"
    constructor: ClassVar[str] = "LayerNorm"
    default_eps: ClassVar[float | None] = 1e-5
    centred: ClassVar[bool] = True
    attributes: ClassVar[dict[str, str]] = {"eps": "eps"}
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> layer_norm(x)",
        "x: [B, N, C=4] -> layer_norm(x, eps=0.001)",
        "x: [B, C=4, H=3, W=5] -> layer_norm(x, C, H, W)",
    )
    axis: Any = arg("axes", ("C",))
    eps: Any = arg("float", 1e-5)

    def widths(self, x: TensorType) -> tuple[Axis, ...]:
        return tuple(x[name] for name in self.axis)

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        self.check_numbers(x, self.eps)
        if not self.axis:
            raise OpError(
                f"`{self.name}` needs an axis",
                "E0302",
                argument="axis",
                help="leave `axis` out for the channels",
            )
        distinct(self.axis, "axis")
        for name in self.axis:
            fixed(x, name, f"`{self.name}`")
        return (x,)

    def reach(self, axis: str, operand: int, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis in self.axis else Reach(axis)

    def channels(self, xs: Sequence[TensorType], constant: Sequence[bool]) -> Weighted | None:
        biased = any(weight.name == "bias" for weight in self.weights(xs[0]))
        return Weighted(self.axis[0], "weight", "bias" if biased else None) if len(self.axis) == 1 else None

    def core(self, x: TensorType) -> NormCore | None:
        if len(self.axis) != 1 or not isinstance(self.eps.sym, Const):
            return None
        return NormCore(self.name, self.axis[0], float(self.eps.value), self.centred)

    def rows(self, x: TensorType) -> Size:
        """How many statistics of a kind there are."""
        return prod((axis.size for axis in x.axes if axis.name not in self.axis), start=Size.of(1))

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        """Mean and deviation of each row."""
        return (Note("float", self.rows(xs[0]) * 2),)

    def _shape(self, code: Code, x: TensorType) -> list[str]:
        return [code.number(axis.dim) for axis in self.widths(x)]

    def module(self, code: Code, x: TensorType) -> str:
        shape = self._shape(code, x)
        size = shape[0] if len(shape) == 1 else tuple_of(shape)
        return call(f"nn.{self.constructor}", size, options(code, ("eps", self.eps, self.default_eps)))

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.showing(code, self.axis).last(*self.axis)
        if not code.functional:
            return replace(x, text=call(code.child, x.text), binding=ATOM)
        weights = [code.weight(weight.name) for weight in self.weights(x.type)]
        numbers = options(code, ("eps", self.eps, self.default_eps))
        text = call(f"F.{self.function}", x.text, tuple_of(self._shape(code, x.type)), weights, numbers)
        return replace(x, text=text, binding=ATOM)

    def reference(self, run: Run, x: Named) -> Named:
        data = x.last(*self.axis)
        over = tuple(range(-len(self.axis), 0))
        data = data - data.mean(over, keepdim=True)
        y = data / ((data * data).mean(over, keepdim=True) + self.eps.value) ** 0.5
        names = (*(name for name in x.names if name not in self.axis), *self.axis)
        return run.named(y * run.weight("weight") + run.weight("bias"), names)


@dataclass(frozen=True)
class RmsNorm(LayerNorm):
    """x / sqrt(mean(x^2) + eps) * weight over `axis` (arXiv:1910.07467)."""

    name: ClassVar[str] = "rms_norm"
    cost_class: ClassVar[str] = "rms_norm"
    function: ClassVar[str] = "rms_norm"
    constructor: ClassVar[str] = "RMSNorm"
    centred: ClassVar[bool] = False
    default_eps: ClassVar[float | None] = None  # torch takes the machine epsilon of the input's dtype
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, N, C=4] -> rms_norm(x)",
        "x: [B, C=4, H, W] -> rms_norm(x, eps=0.001)",
        "x: [B, heads=3, C=4] -> rms_norm(x, heads, C)",
    )
    eps: Any = arg("float", 1e-6)

    def weights(self, x: TensorType) -> tuple[Weight, ...]:
        return (Weight("weight", self.widths(x), ONES),)

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        """What is multiplied by the weight, and the deviation of each row: torch composes it of simple operations."""
        return (Note("float", xs[0].elements), Note("float", self.rows(xs[0])))

    def reference(self, run: Run, x: Named) -> Named:
        data = x.last(*self.axis)
        square = (data * data).mean(tuple(range(-len(self.axis), 0)), keepdim=True)
        names = (*(name for name in x.names if name not in self.axis), *self.axis)
        return run.named(data / (square + self.eps.value) ** 0.5 * run.weight("weight"), names)


# ---- over groups of channels


@dataclass(frozen=True)
class GroupNorm(Norm):
    """Normalise each of `groups` runs of channels over them and all positions (arXiv:1803.08494).

    Other axes ride along.
    """

    name: ClassVar[str] = "group_norm"
    cost_class: ClassVar[str] = "layer_norm"
    attributes: ClassVar[dict[str, str]] = {"groups": "num_groups", "eps": "eps"}
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=6, H, W] -> group_norm(x, 2)",
        "x: [B, N, C=6] -> group_norm(x, 3, eps=0.001)",
        "x: [B, heads=2, C=6, N] -> group_norm(x, 2)",
        "x: [N=6, C=4] -> group_norm(x, 2)",
        "x: [B, heads=6, C=4] -> group_norm(x, 2, axis=heads)",
    )
    groups: Any = arg("int")
    eps: Any = arg("float", 1e-5)
    axis: Any = arg("axis", "C")

    def widths(self, x: TensorType) -> tuple[Axis, ...]:
        return (x[self.axis],)

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        self.check_numbers(x, self.eps)
        width = fixed(x, self.axis, "`group_norm`")
        divides(check, self.groups, "groups", (width, "channels"))
        # One element less its mean is 0 whatever it is; torch refuses such groups.
        group = Size.of(width // self.groups.value)
        for axis in x.positions:
            group = group if axis.name == self.axis else group * axis.size
        check.at_least(group, 2, "`group_norm` needs at least two elements in a group")
        return (x,)

    def channels(self, xs: Sequence[TensorType], constant: Sequence[bool]) -> Weighted:
        return Weighted(self.axis, "weight", "bias")

    def module(self, code: Code, x: TensorType) -> str:
        numbers = options(code, ("eps", self.eps, 1e-5))
        return call("nn.GroupNorm", code.number(self.groups), code.number(x[self.axis].dim), numbers)

    def reach(self, axis: str, operand: int, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Reach | None:
        return None  # the statistics are those of all positions

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        """Mean and deviation of each group."""
        (x,) = xs
        ride = prod((x[name].size for name in self._ride(x, x.names)), start=Size.of(1))
        return (Note("float", ride * (2 * self.groups.value)),)

    def _ride(self, x: TensorType, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name != self.axis and not x[name].is_position)

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        ride = self._ride(x.type, x.order)
        x = x.to((*ride, self.axis, *(name for name in x.order if name not in (*ride, self.axis))))
        if len(ride) > 1:
            x = bound(code, x, "x")
        given, unfold = fold(code, x, len(ride), 1)
        if code.functional:
            weights = [code.number(self.groups), code.weight("weight"), code.weight("bias")]
            text = call("F.group_norm", given, weights, options(code, ("eps", self.eps, 1e-5)))
        else:
            text = call(code.child, given)
        return Operand(text + unfold, x.type, x.order)

    def reference(self, run: Run, x: Named) -> Named:
        ride = tuple(name for name in x.names if name != self.axis and not (name[0].isupper() and name not in "BC"))
        names = (*ride, self.axis, *(name for name in x.names if name not in (*ride, self.axis)))
        data = x.to(names)
        rows = data.reshape(*data.shape[: len(ride)], self.groups.value, -1)
        rows = rows - rows.mean(-1, keepdim=True)
        rows = rows / ((rows * rows).mean(-1, keepdim=True) + self.eps.value) ** 0.5
        shape = (-1, *(1 for _ in names[len(ride) + 1 :]))
        y = rows.reshape(data.shape) * run.weight("weight").reshape(shape) + run.weight("bias").reshape(shape)
        return run.named(y, names)
