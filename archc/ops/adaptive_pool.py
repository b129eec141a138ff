"""Pooling to a given size."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.ir.types import Dim, TensorType
from archc.ops.base import Check, Code, Note, Op, OpError, Reach, arg, need
from archc.ops.checks import choice, floating, result_type, scalar, whole
from archc.ops.emission import call, fold
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class AdaptivePool(Op):
    """The mean ("avg") or greatest ("max") of as many equal parts of each named axis as asked for.

    Part i of n is floor(i size / n) .. ceil((i + 1) size / n) - 1; parts overlap where n does not divide it.
    FLOPs: one per input element.
    """

    name: ClassVar[str] = "adaptive_pool"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> adaptive_pool(x, H=2, W=3)",
        'x: [B, C=4, H, W] -> adaptive_pool(x, W=1, kind="max")',
        "x: [B, N, C=4] -> adaptive_pool(x, N=2)",
        "x: [B, heads=2, C=4, T, H, W] -> adaptive_pool(x, T=2, H=2, W=2)",
        "x: [B, C=4, H, W], y: [B, N] -> adaptive_pool(x, H=y.N, W=2)",
    )
    sizes: Any = arg("sizes")
    kind: Any = arg("str", "avg")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        floating(x, "`adaptive_pool`")
        choice(self.kind, "kind", ("avg", "max"))
        if not 1 <= len(self.sizes) <= 3:
            raise OpError(
                f"`adaptive_pool` works on 1 to 3 axes, and {len(self.sizes)} are given",
                "E0303",
                help="write `adaptive_pool(x, H=7, W=7)`",
            )
        dims: dict[str, Dim | Size | int] = {}
        for name, value in self.sizes.items():
            size = scalar(value, name)
            given = need(x, name, "`adaptive_pool`").size
            if isinstance(size.value, Size):
                check.at_least(size.value, 1, f"`adaptive_pool` makes at least one part of {name}")
            else:
                whole(size, name)
            check.at_least(given, 1, f"`adaptive_pool` needs at least one element along {name}")
            dims[name] = Dim.of(size)
        return (x.resized(**dims),)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return xs[0].elements

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        return (Note("int", ys[0].elements),) if self.kind.value == "max" else ()

    def reach(
        self, axis: str, operand: int, xs: Sequence[TensorType], ys: Sequence[TensorType]
    ) -> Reach | None:
        size, parts = xs[0][axis].size.constant or 1, ys[0][axis].size.constant or 1
        if size % parts == 0:
            return Reach(axis, size // parts, 0, size // parts - 1)
        return Reach(
            axis, Fraction(size, parts), Fraction(1 - parts, parts), Fraction(size - 1, parts), exact=False
        )

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        # All positions where torch can leave some as they are (None), which is less folding.
        positions = tuple(axis.name for axis in x.type.positions)
        given = tuple(name for name in x.type.names if name in self.sizes)
        names = positions if set(given) <= set(positions) and len(positions) <= 3 else given
        ride = tuple(name for name in x.order if name not in names)
        x = x.to((*ride, *names))
        text, unfold = fold(code, x, len(ride), 2)
        numbers = [code.number(self.sizes[name]) if name in self.sizes else "None" for name in names]
        sizes = numbers[0] if len(set(numbers)) == 1 else f"({', '.join(numbers)})"
        function = f"F.adaptive_{self.kind.value}_pool{len(names)}d"
        return Operand(call(function, text, sizes) + unfold, result_type(self, x), x.order)

    def reference(self, run: Run, x: Named) -> Named:
        for name, size in self.sizes.items():
            data, count = x.last(name), run.number(size)
            n = data.shape[-1]
            parts = [data[..., i * n // count : -(-(i + 1) * n // count)] for i in range(count)]
            values = [part.mean(-1) if self.kind.value == "avg" else part.amax(-1) for part in parts]
            x = run.named(run.torch.stack(values, -1), (*(other for other in x.names if other != name), name))
        return x
