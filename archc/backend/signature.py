"""In which physical order a method takes and gives its tensors."""

from __future__ import annotations

from archc.ir.graph import (
    Template,
)
from archc.ir.types import TensorType
from archc.records import dataclass


@dataclass(frozen=True)
class Signature:
    """The physical orders of a method's tensors, as places in their types."""

    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[str, ...], ...]


def axes_text(type: TensorType, order: tuple[int, ...]) -> str:
    return f"[{', '.join(type.names[p] for p in order)}]"


def logical_signature(template: Template) -> Signature:
    return Signature(
        tuple(tuple(range(len(v.type.axes))) for v in template.inputs), tuple(v.type.names for v in template.outputs)
    )


def channels_last(type: TensorType) -> tuple[int, ...]:
    names = type.names
    if "C" not in names:
        return tuple(range(len(names)))
    at = names.index("C")
    return (*(p for p in range(len(names)) if p != at), at)
