"""Under which sizes and element type a program is counted, and the plain numbers that its types then have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from archc.ir.dataflow import parts
from archc.ir.graph import Apply, Branch, Template, Value
from archc.ir.sym import evaluate, plain
from archc.ir.types import Dim, TensorType
from archc.ops.base import Weight
from archc.sizes import Size

# Bytes of an element, by the name of the element type that `float` stands for.
FLOATS: dict[str, int] = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
# Whole numbers are int64 and truth values take a byte, as in torch.
OTHERS: dict[str, int] = {"int": 8, "bool": 1}


class Setting:
    """Values of the symbols and the element type; remembers the types it has put into numbers."""

    def __init__(self, sizes: Mapping[str, int], dtype: str = "float32") -> None:
        """Raises ValueError for an element type that is not one of `FLOATS`."""
        if dtype not in FLOATS:
            raise ValueError(f"{dtype} is none of {', '.join(FLOATS)}")
        self.sizes, self.dtype = dict(sizes), dtype
        self._types: dict[int, tuple[TensorType, TensorType, tuple[int, ...]]] = {}
        self._numbers: dict[Size, int] = {}

    def number(self, size: Size) -> int:
        """A size as a number. Raises KeyError for a symbol without a value."""
        if size.constant is not None:
            return size.constant
        known = self._numbers.get(size)
        if known is None:
            known = self._numbers[size] = size.evaluate(self.sizes)
        return known

    def type(self, type: TensorType) -> TensorType:
        """The type with numbers for sizes."""
        return self._known(type)[1]

    def shape(self, type: TensorType) -> tuple[int, ...]:
        return self._known(type)[2]

    def _known(self, type: TensorType) -> tuple[TensorType, TensorType, tuple[int, ...]]:
        known = self._types.get(id(type))
        if known is None:
            shape = tuple(self.number(axis.size) for axis in type.axes)
            axes = tuple(
                axis if axis.size.constant is not None else axis.sized(Dim(Size.of(size)))
                for axis, size in zip(type.axes, shape, strict=True)
            )
            plain = TensorType(type.dtype, axes)
            # The type itself is kept too, so that its id stays its own.
            known = self._types[id(type)] = (type, plain, shape)
            self._types[id(plain)] = (plain, plain, shape)
        return known

    def operand(self, operand: Any) -> Any:
        """The type of an operand, of each item where it is a list, None where it is missing."""
        if isinstance(operand, Value):
            return self.type(operand.type)
        return None if operand is None else tuple(self.type(v.type) for v in operand)

    def sized(self, step: Apply) -> tuple[list[Any], list[TensorType]]:
        """The types of an operation's operands and results."""
        return [self.operand(x) for x in step.inputs], [self.type(y.type) for y in step.outputs]

    def element(self, dtype: str) -> int:
        """Bytes of one element."""
        return OTHERS.get(dtype) or FLOATS[self.dtype]

    def bytes(self, type: TensorType) -> int:
        return prod(self.shape(type)) * self.element(type.dtype)

    def weight_bytes(self, weight: Weight) -> int:
        return weight.elements * self.element(weight.dtype)

    def decider(self, template: Template) -> Callable[[Branch], bool]:
        """Decides the branches of a template by the sizes."""

        def holds(branch: Branch) -> bool:
            bindings = {name: self._plain(plain(scalar)) for name, scalar in template.parameters}
            types = {v.uid: v.type for v in template.inputs}
            types |= {v.uid: v.type for _, _, made in parts(template.body) for v in made}
            extents = lambda uid, axis: self.shape(types[uid])[axis]  # noqa: E731
            return bool(evaluate(branch.condition.sym, {**self.sizes, **bindings}, extents))

        return holds

    def _plain(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._plain(item) for item in value]
        return self.number(value) if isinstance(value, Size) else value
