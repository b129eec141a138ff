"""What only training sees: noise, and the end of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import Const
from archc.ir.types import TensorType
from archc.ops.base import ZERO, Check, Code, Note, Op, OpError, arg, need
from archc.ops.checks import floating, real
from archc.ops.emission import call, fold_tail
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Dropout(Op):
    """In training, zero each element with probability `p` and scale the others by 1 / (1 - p).

    `whole=C` draws once for each sample and channel (arXiv:1411.4280), `whole=B` once for each sample
    (stochastic depth, arXiv:1603.09382). Outside of training, the identity. FLOPs: none.
    """

    name: ClassVar[str] = "dropout"
    saves: ClassVar[str] = ""
    idle: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> dropout(x, 0.1)",
        "x: [B, C=4, H, W] -> dropout(x, 0.1, whole=B)",
        "x: [B, N, C=4] -> dropout(x, 0.1, whole=C)",
        "x: [B, heads=2, C=4, T, H, W] -> dropout(x, 0.1, whole=heads)",
        "x: [B, C=4] -> dropout(x, 0.0, whole=C)",
    )
    p: Any = arg("float", inert=lambda p: 0 <= p < 1)
    whole: Any = arg("axis", None)

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        floating(x, "`dropout`")
        if real(self.p, "p", 0, 1) == 1:
            raise OpError("`p` is 1, which leaves nothing", "E0213", argument="p")
        if self.whole is not None:
            need(x, "B", "`dropout` with `whole`")
            need(x, self.whole, "`dropout`")
        return (x,)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ZERO

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        """The noise by which it multiplies."""
        (x,) = xs
        if self._absent:
            return ()
        if self.whole is None:
            return (Note("float", x.elements),)
        drawn = {"B", self.whole}
        return (Note("float", prod((axis.size for axis in x.axes if axis.name in drawn), start=Size.of(1))),)

    def is_view(self, x: TensorType) -> bool:
        return self._absent

    @property
    def _absent(self) -> bool:
        """Nothing is dropped in any build."""
        return isinstance(self.p.sym, Const) and self.p.value == 0

    @property
    def follows(self) -> bool:
        return self._absent or self.whole == "B"

    def tile(self, *sides: str) -> str:
        return " * ".join(sides)

    def slopes(self, *sides: str, result: str) -> tuple[str, ...]:
        return ("1.0",) if self._absent else (sides[1], "")

    @property
    def draws(self) -> bool:
        return not self._absent

    def drawn(self, code: Code, like: Operand) -> str:
        return call(code.helper("kept_samples"), like.text, [code.number(self.p), "self.training"])

    def torch(self, code: Code, x: Operand, kept: Operand | None = None) -> Operand:
        if self._absent:
            return x
        if kept is not None:
            x = x.showing(code, "B")
            x = x.to(("B", *(name for name in x.order if name != "B")))
            return replace(x, text=call(code.helper("of_kept_samples"), x.text, kept.text), binding=ATOM)
        rest = [code.number(self.p), "self.training"]
        if self.whole is None:
            return replace(x, text=call("F.dropout", x.text, rest), binding=ATOM)
        first = ("B",) if self.whole == "B" else ("B", self.whole)
        x = x.showing(code, first)
        x = x.to((*first, *(name for name in x.order if name not in first)))
        if self.whole == "B":
            return replace(x, text=call(code.helper("drop_path"), x.text, rest), binding=ATOM)
        given, unfold = fold_tail(code, x, 2, 3)
        beside = len(x.order) - 2 if not unfold else 1
        function = f"F.dropout{beside}d" if beside else "F.dropout"
        return replace(x, text=call(function, given, rest) + unfold, binding=ATOM)

    def reference(self, run: Run, x: Named) -> Named:
        return x


@dataclass(frozen=True)
class StopGradient(Op):
    """The operand, through which no gradient flows."""

    name: ClassVar[str] = "stop_gradient"
    differentiable: ClassVar[bool] = False
    examples: ClassVar[tuple[str, ...]] = ("x: [B, C=4, H, W] -> stop_gradient(x)",)

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        return (x,)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ZERO

    def is_view(self, x: TensorType) -> bool:
        return True

    def torch(self, code: Code, x: Operand) -> Operand:
        return replace(x, text=f"{x.atom}.detach()", binding=ATOM)

    def reference(self, run: Run, x: Named) -> Named:
        return run.named(x.data.detach(), x.names)
