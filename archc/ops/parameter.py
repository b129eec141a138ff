"""A tensor that a component owns, as a value of its body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.ir.types import TensorType
from archc.ops.base import ZERO, Check, Code, Op, arg
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Parameter(Op):
    """The `param`, `buffer` or `const` that a component declares; not called by name in a spec."""

    name: ClassVar[str] = "param"
    operands: ClassVar[str] = ""
    called: ClassVar[bool] = False
    name_: Any = arg("any")
    type_: Any = arg("any")

    def infer(self, check: Check) -> tuple[TensorType, ...]:
        return (self.type_,)

    def flops(self, xs: Sequence[Any], ys: Sequence[TensorType]) -> Size:
        return ZERO

    def is_view(self, *xs: Any) -> bool:
        return True

    def torch(self, code: Code) -> Operand:
        return Operand(code.weight(self.name_), self.type_, self.type_.names)

    def reference(self, run: Run) -> Named:
        return run.named(run.weight(self.name_), self.type_.names)
