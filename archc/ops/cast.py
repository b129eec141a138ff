"""Another element type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, Op, OpError, arg
from archc.ops.checks import result_type
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run

TYPES = ("float", "int", "bool")


@dataclass(frozen=True)
class Cast(Op):
    """The same values as float, int (towards zero) or bool (other than zero)."""

    name: ClassVar[str] = "cast"
    saves: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, N] -> cast(3 * x, int)",
        "x: int[B, N] -> cast(x, float)",
        "x: int[B, N] -> cast(x, bool)",
        "x: bool[B, N] -> cast(x, float)",
    )
    makes_axis: ClassVar[bool] = True  # `int` is a bare word, as the names of new axes are
    to: Any = arg("axis")

    def dtype(self) -> str:
        to = getattr(self.to, "value", self.to)
        if to not in TYPES:
            raise OpError("`cast` takes float, int or bool", "E0213", argument="to", help="write `cast(x, int)`")
        return to

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        return (replace(x, dtype=self.dtype()),)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def torch(self, code: Code, x: Operand) -> Operand:
        to = self.dtype()
        type = result_type(self, x)
        if to == x.type.dtype:
            return replace(x, type=type)
        moved = {"float": f"to({code.beside('float')})", "int": "long()", "bool": "bool()"}
        text = f"{x.atom}.{moved[to]}"
        return replace(x, text=text, type=type, binding=ATOM)

    def reference(self, run: Run, x: Named) -> Named:
        torch = run.torch
        dtypes = {"float": torch.float64, "int": torch.int64, "bool": torch.bool}
        return run.named(x.data.to(dtypes[self.dtype()]), x.names)
