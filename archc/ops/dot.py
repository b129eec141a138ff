"""Contraction of two tensors by axis name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import PRODUCT, Operand
from archc.fusion.cores import Contraction
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, Op, OpError, arg
from archc.ops.checks import distinct, floating, numbered_alike, result_type
from archc.ops.emission import meet
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Dot(Op):
    """The product of a and b, aligned by name and summed over `axes`; without axes, the product of all pairs.

    The result has a's axes, then b's new ones, minus the summed; axes that both have have equal sizes.
    MACs: the product of all sizes if an axis is summed, else none.
    """

    name: ClassVar[str] = "dot"
    operands: ClassVar[str] = "a b"
    saves: ClassVar[str] = "a:b b:a"
    cost_class: ClassVar[str] = "contraction"
    examples: ClassVar[tuple[str, ...]] = (
        "q: [B, heads=2, N, C=4], k: [B, heads=2, M, C=4] -> dot(q, k, C)",
        "s: [B, heads=2, N, M], v: [B, heads=2, M, C=4] -> dot(s, v, M)",
        "k: [B, C=4, H, W], v: [B, e=3, H, W] -> dot(k, v)",
        "k: [B, C=4, H, W], v: [B, e=3, H, W] -> dot(k, v, positions)",
        "x: [B, C=4, H, W], w: [C=4] -> dot(x, w, C)",
        "x: [B, C=4, N], y: [B, C=4, N] -> dot(x, y, C, N)",
        "x: [B, N, a=2, C=4], y: [C=4, a=2, e=3] -> dot(x, y, C)",
    )
    axes: Any = arg("axes", ())

    def infer(self, check: Check, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:
        floating(a, "`dot`")
        floating(b, "`dot`")
        distinct(self.axes, "axes")
        for name in self.axes:
            for x, y in ((a, b), (b, a)):
                if name not in x:
                    raise OpError(
                        f"`dot` sums over `{name}`, which only one operand has: {a} and {b}",
                        "E0302",
                        argument="axes",
                        label=f"only {y} has {name}" if name in y else "",
                        help=f"`sum(x, {name})` sums one tensor; `rename` gives an axis another name",
                    )
        for axis in a.axes:
            if axis.name in b:
                left, right = axis.size, b[axis.name].size
                if left.constant is not None and right.constant is not None and left != right:
                    told = f"{axis.name} is {left} on the left and {right} on the right"
                    check.refuse(OpError(f"`dot` of {a} and {b}: {told}", "E0301"))
                check.equal(left, right, f"both sides of `dot` have the axis {axis.name}")
                numbered_alike(axis, b[axis.name], "`dot`")
        if len({*a.names, *b.names}) > len(LETTERS):
            raise OpError("`dot` of tensors with too many axes", "E0303")
        axes = (*a.axes, *(axis for axis in b.axes if axis.name not in a))
        return (a.with_axes(axis for axis in axes if axis.name not in self.axes),)

    def macs(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        if not self.axes:
            return Size.of(0)
        total = ys[0].elements
        for name in self.axes:
            total = total * xs[0][name].size
        return total

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0) if self.axes else ys[0].elements

    def core(self, *xs: TensorType) -> Contraction:
        return Contraction(tuple(self.axes))

    # ---- PyTorch

    def torch(self, code: Code, a: Operand, b: Operand) -> Operand:
        type = result_type(self, a, b)
        a, b = a.merged(code), b.merged(code)
        if not self.axes and (set(a.order) >= set(b.order) or set(b.order) >= set(a.order)):
            met = meet(code, (a, b))
            text = f"{met[0].inside(PRODUCT)} * {met[1].inside(PRODUCT + 1)}"
            return Operand(text, type, met[0].order, PRODUCT)
        product = self._matmul(a, b)
        if product is not None:
            return replace(product, type=type)
        letters = dict(zip(dict.fromkeys((*a.order, *b.order)), LETTERS, strict=False))
        order = tuple(name for name in letters if name not in self.axes)
        sides = ["".join(letters[name] for name in names) for names in (a.order, b.order, order)]
        return Operand(f'torch.einsum("{sides[0]},{sides[1]}->{sides[2]}", {a}, {b})', type, order)

    def _matmul(self, a: Operand, b: Operand) -> Operand | None:
        """`a @ b` where both share leading axes in one order, sum one axis, and have one more axis each."""
        if len(self.axes) != 1:
            return None
        (summed,) = self.axes
        shared = [name for name in a.order if name in b.order and name != summed]
        rows = [name for name in a.order if name not in b.order]
        columns = [name for name in b.order if name not in a.order]
        if len(columns) != 1 or (len(rows) != 1 and (shared or not rows)):
            return None
        if not shared and len(rows) != 1:
            # Any number of rows against a matrix.
            left, right = a.last(summed), b.to((summed, *columns))
            return self._product(left, right, (*left.order[:-1], *columns))
        if shared != [name for name in b.order if name in shared]:
            return None
        left, right = a.to((*shared, *rows, summed)), b.to((*shared, summed, *columns))
        return self._product(left, right, (*shared, *rows, *columns))

    @staticmethod
    def _product(left: Operand, right: Operand, order: tuple[str, ...]) -> Operand:
        return Operand(f"{left.inside(PRODUCT)} @ {right.inside(PRODUCT + 1)}", left.type, order, PRODUCT)

    # ---- meaning

    def reference(self, run: Run, a: Named, b: Named) -> Named:
        names = [*a.names, *(name for name in b.names if name not in a.names)]
        tensors = []
        for x in (a, b):
            data = x.to([name for name in names if name in x.names])
            tensors.append(data.reshape([x.size(name) if name in x.names else 1 for name in names]))
        order = [*(n for n in names if n not in self.axes), *self.axes]
        where = [names.index(name) for name in order]
        left, right = (tensor.permute(where) for tensor in tensors)
        total, kept = 0, len(order) - len(self.axes)
        if not self.axes:
            return run.named(left * right, order)
        for index in run.indices(left.shape[kept:]):
            total = total + left[(..., *index)] * right[(..., *index)]
        return run.named(total, order[:kept])
