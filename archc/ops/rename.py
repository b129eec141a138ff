"""Give axes other names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.ir.sym import Scalar
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, Op, OpError, arg, need
from archc.ops.checks import result_type, shown
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


def axis_name(text: Any, argument: str) -> str:
    """A name that an axis may have. Raises OpError."""
    if not isinstance(text, str) or not text.isidentifier() or text.startswith("_") or not text.isascii():
        said = f'"{text}"' if isinstance(text, str) else "this"
        raise OpError(f"an axis has a plain word as its name, not {said}", "E0213", argument=argument)
    return text


@dataclass(frozen=True)
class Rename(Op):
    """The same tensor under other axis names: `rename(x, H="kh", W="kw")`. All names change at once."""

    name: ClassVar[str] = "rename"
    saves: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = (
        'x: [B, C=4, H, W] -> rename(x, H="kh", W="kw")',
        'x: [B, C=4, N] -> rename(x, C="N", N="C")',
    )
    names: Any = arg("sizes")

    def mapping(self, x: TensorType) -> dict[str, str]:
        """Old names to new ones. Raises OpError."""
        if not self.names:
            raise OpError("`rename` needs at least one axis", "E0204", help='write `rename(x, OLD="new")`')
        mapping = {}
        for old, new in self.names.items():
            need(x, old, "`rename`")
            value = new.value if isinstance(new, Scalar) else None
            if not isinstance(value, str):
                said = shown(new) if isinstance(new, Scalar) else "something else"
                raise OpError(f"the new name of `{old}` is a string, and this is {said}", "E0213", argument=old)
            mapping[old] = axis_name(value, old)
        names = [mapping.get(name, name) for name in x.names]
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise OpError(f"`rename` would give two axes of {x} the name `{twice}`", "E0301")
        return mapping

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        return (x.renamed(self.mapping(x)),)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def is_view(self, *xs: Any) -> bool:
        return True

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        mapping = self.mapping(x.type)
        return replace(x, type=result_type(self, x), order=tuple(mapping.get(name, name) for name in x.order))

    def reference(self, run: Run, x: Named) -> Named:
        mapping = {old: run.number(new) for old, new in self.names.items()}
        return run.named(x.data, (mapping.get(name, name) for name in x.names))
