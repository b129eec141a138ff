"""Tensors with named axes, and what the meaning of an operation may ask of the run it is part of.

torch is handed in by whoever runs the interpreter: to import archc does not import torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from archc.ir.sym import Scalar
from archc.ir.types import TensorType
from archc.records import dataclass
from archc.sizes import Size


@dataclass(frozen=True)
class Named:
    """A tensor (float64, int64 or bool) whose axes have names.

    `type` is the type of the operand it stands for; operations find it on their operands and need not set it.
    """

    data: Any
    names: tuple[str, ...]
    type: TensorType | None = None

    def __post_init__(self) -> None:
        assert self.data.ndim == len(self.names) == len(set(self.names)), (tuple(self.data.shape), self.names)

    def to(self, names: Sequence[str]) -> Any:
        """The tensor with its axes in the order `names` (all of them)."""
        assert sorted(names) == sorted(self.names), (names, self.names)
        return self.data.permute([self.names.index(name) for name in names])

    def last(self, *names: str) -> Any:
        """The tensor with the axes `names` innermost, the others in their order."""
        return self.to((*(name for name in self.names if name not in names), *names))

    def at(self, name: str) -> int:
        """Where the axis lies, counted from the front."""
        return self.names.index(name)

    def size(self, name: str) -> int:
        return self.data.shape[self.at(name)]


@dataclass(frozen=True)
class Run:
    """One application of an operation: the torch module, weights by name, sizes of the input symbols."""

    torch: Any
    weights: Mapping[str, Any]
    sizes: Mapping[str, int]

    def weight(self, name: str) -> Any:
        """A weight of this operation."""
        return self.weights[name]

    def named(self, data: Any, names: Iterable[str]) -> Named:
        return Named(data, tuple(names))

    def indices(self, sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Every index into a tensor of these sizes, the last axis fastest."""
        return itertools.product(*(range(size) for size in sizes))

    def align(self, *operands: Named) -> tuple[list[Any], tuple[str, ...]]:
        """The operands as tensors that broadcast by position, and the names of the result.

        The order is that of the operand with the most axes, and axes that it lacks come behind in order of
        appearance. An axis that an operand lacks has size 1 in its tensor.
        """
        largest = max(operands, key=lambda x: len(x.names))
        names = list(largest.names)
        for x in operands:
            names += [name for name in x.names if name not in names]
        tensors = []
        for x in operands:
            data = x.to([name for name in names if name in x.names])
            shape = [x.size(name) if name in x.names else 1 for name in names]
            tensors.append(data.reshape(shape))
        return tensors, tuple(names)

    def size(self, size: Size) -> int:
        """A size in this run."""
        return size.evaluate(self.sizes)

    def number(self, scalar: Scalar) -> Any:
        """A compile-time value in this run: a size as the number it has here, a tuple as a list."""
        match scalar.value:
            case Size() as size:
                return self.size(size)
            case tuple() as items:
                return [self.number(item) for item in items]
            case value:
                return value
