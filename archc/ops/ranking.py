"""The greatest values along an axis, and orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import size_of
from archc.ir.types import Dim, TensorType
from archc.ops.base import Check, Code, Note, Op, OpError, Reach, arg, need
from archc.ops.checks import numeric, result_type
from archc.ops.move import integer
from archc.ops.split import several
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


def ranked(run: Run, data: Any, descending: bool) -> Any:
    """The places along the last axis in the order of their values; of equals the lowest place first.

    The rank of a place is the number of places that come before it.
    """
    torch, n = run.torch, data.shape[-1]
    rank = torch.zeros_like(data, dtype=torch.int64)
    places = torch.arange(n)
    for j in range(n):
        other = data[..., j : j + 1]
        before = (other > data) if descending else (other < data)
        rank = rank + (before | ((other == data) & (places > j))).to(torch.int64)
    result = torch.zeros_like(rank)
    for j in range(n):
        hit = rank == j
        result[..., j] = (hit.to(torch.int64) * places).sum(-1)
    return result


@dataclass(frozen=True)
class TopK(Op):
    """The k greatest values along an axis, greatest first, and their places; ties by the lowest place."""

    name: ClassVar[str] = "top_k"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, N, C=4] -> top_k(x, 2, C)",
        "x: [B, C=4, N] -> top_k(x, 3, N)",
    )
    k: Any = arg("any")
    axis: Any = arg("axis", "C")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        numeric(x, "`top_k`")
        size = need(x, self.axis, "`top_k`").size
        k = size_of(integer(self.k, "k", 1))
        if size.constant is not None and k.constant is not None and k.constant > size.constant:
            check.refuse(OpError(f"`top_k` of {k} along {self.axis}, which has {size}", "E0333", argument="k"))
        if k.constant is None:
            check.at_least(k, 1, "`top_k` takes at least one", "E0213")
        check.at_least(size, k, f"`top_k` takes {k} along {self.axis}")
        y = x.resized(**{self.axis: Dim.of(self.k)})
        return y, replace(y, dtype="int")

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis == self.axis else Reach(axis)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        """The places of all elements in order, of which it gives the first k."""
        return (Note("int", xs[0].elements),)

    def torch(self, code: Code, x: Operand) -> tuple[Operand, ...]:
        x = x.merged(code)
        y = result_type(self, x)
        text = f"{code.helper('top_k')}({x}, {code.number(self.k)}, {x.at(self.axis)})"
        return several(code, text, (y, replace(y, dtype="int")), x.order)

    def reference(self, run: Run, x: Named) -> tuple[Named, Named]:
        data = x.last(self.axis)
        order = (*(name for name in x.names if name != self.axis), self.axis)
        index = ranked(run, data.detach(), True)[..., : run.number(self.k)]
        return run.named(run.torch.take_along_dim(data, index, -1), order), run.named(index, order)


@dataclass(frozen=True)
class ArgSort(Op):
    """The places along an axis in rising order of their values; of equals the lowest place comes first."""

    name: ClassVar[str] = "argsort"
    saves: ClassVar[str] = "result"
    examples: ClassVar[tuple[str, ...]] = ("x: [B, N, C=4] -> argsort(x, N)", "x: [B, C=4] -> argsort(-x, C)")
    axis: Any = arg("axis", "C")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        numeric(x, "`argsort`")
        need(x, self.axis, "`argsort`")
        return (replace(x, dtype="int"),)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis == self.axis else Reach(axis)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        text = f"{x.atom}.argsort(dim={x.at(self.axis)}, stable=True)"
        return replace(x, text=text, type=result_type(self, x), binding=ATOM)

    def reference(self, run: Run, x: Named) -> Named:
        order = (*(name for name in x.names if name != self.axis), self.axis)
        return run.named(ranked(run, x.last(self.axis), False), order)
