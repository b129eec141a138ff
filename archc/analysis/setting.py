"""Under which sizes and element type a program is counted, and the plain numbers that its types then have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from archc.ir.dataflow import parts
from archc.ir.graph import Branch, Template, Value
from archc.ir.program import Program
from archc.ir.sym import evaluate, plain
from archc.ir.types import Axis, Dim, TensorType
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
        self._types: dict[int, tuple[TensorType, TensorType]] = {}

    def number(self, size: Size) -> int:
        """A size as a number. Raises KeyError for a symbol without a value."""
        return size.evaluate(self.sizes)

    def type(self, type: TensorType) -> TensorType:
        """The type with numbers for sizes."""
        known = self._types.get(id(type))
        if known is None:
            axes = tuple(Axis(a.name, Dim(Size.of(self.number(a.size)), a.dim.sym)) for a in type.axes)
            # The type itself is kept too, so that its id stays its own.
            known = self._types[id(type)] = (type, TensorType(type.dtype, axes))
        return known[1]

    def operand(self, operand: Any) -> Any:
        """The type of an operand, of each item where it is a list, None where it is missing."""
        if isinstance(operand, Value):
            return self.type(operand.type)
        return None if operand is None else tuple(self.type(v.type) for v in operand)

    def shape(self, type: TensorType) -> tuple[int, ...]:
        return tuple(axis.size.constant or 0 for axis in self.type(type).axes)

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


def free_symbols(program: Program, name: str) -> tuple[str, ...]:
    """The symbols of the position sizes of the input `name` that may be chosen. Raises KeyError for no such input."""
    given = next((i for i in program.inputs if i.name == name), None)
    if given is None:
        raise KeyError(name)
    names = [str(axis.size) for axis in given.value.type.axes if axis.is_position]
    return tuple(name for name in names if name in program.symbols)


def sizes_for(program: Program, given: Mapping[str, int], defaults: Mapping[str, int] | None = None) -> dict[str, int]:
    """A value for every symbol of the program.

    A key of `given` is an input, whose free position sizes all get the value, or a symbol, which wins. The batch is 1;
    other symbols are as `defaults` says, or 224. Raises KeyError for a key that is neither.
    """
    inputs = {i.name for i in program.inputs}
    sizes = {name: 1 if name == "B" else 224 for name in program.symbols} | dict(defaults or {})
    for name, value in given.items():
        if name in inputs and name not in program.symbols:
            sizes |= dict.fromkeys(free_symbols(program, name), value)
    for name, value in given.items():
        if name in program.symbols:
            sizes[name] = value
        elif name not in inputs:
            raise KeyError(name)
    return sizes
