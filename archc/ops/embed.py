"""A table of vectors, read by whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.ir.sym import const
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import ZERO, Check, Code, Init, Op, OpError, Weight, arg
from archc.ops.checks import result_type, whole
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Embed(Op):
    """The row of a table [vocab, dim] that each id names, as a new axis C. Costs nothing but its reading."""

    name: ClassVar[str] = "embed"
    operands: ClassVar[str] = "ids"
    attributes: ClassVar[dict[str, str]] = {"vocab": "num_embeddings", "dim": "embedding_dim"}
    examples: ClassVar[tuple[str, ...]] = (
        "ids: int[B, N] -> embed(ids % 11, 11, 4)",
        "ids: int[B] -> embed(ids % 3, vocab=3, dim=2)",
    )
    vocab: Any = arg("int")
    dim: Any = arg("int")

    def infer(self, check: Check, ids: TensorType) -> tuple[TensorType, ...]:
        if ids.dtype != "int":
            raise OpError(f"`embed` reads its table by whole numbers, and its operand is {ids}", "E0305",
                          help="declare the input as `int[B, N]`, or write `cast(x, int)`")  # fmt: skip
        if "C" in ids:
            raise OpError(
                f"`embed` adds the axis C, and {ids} has one already",
                "E0301",
                help='give it another name: `rename(ids, C="N")`',
            )
        whole(self.vocab, "vocab")
        whole(self.dim, "dim")
        return (TensorType("float", (*ids.axes, Axis("C", Dim.of(self.dim)))),)

    def weights(self, ids: TensorType) -> tuple[Weight, ...]:
        axes = Axis("vocab", Dim.of(self.vocab)), Axis("dim", Dim.of(self.dim))
        return (Weight("weight", axes, Init("normal", (const(1.0),))),)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ZERO

    def module(self, code: Code, ids: TensorType) -> str:
        return f"nn.Embedding({code.number(self.vocab)}, {code.number(self.dim)})"

    def torch(self, code: Code, ids: Operand) -> Operand:
        ids = ids.merged(code)
        text = f"F.embedding({ids}, {code.weight('weight')})" if code.functional else f"{code.child}({ids})"
        return Operand(text, result_type(self, ids), (*ids.order, "C"))

    def reference(self, run: Run, ids: Named) -> Named:
        chosen = ids.data[..., None] == run.torch.arange(self.vocab.value)
        return run.named(chosen.to(run.torch.float64) @ run.weight("weight"), (*ids.names, "C"))
