"""Tensor types: an element type and ordered, named axes whose sizes may be symbolic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from functools import cached_property

from archc.ir.sym import Const, Scalar, Sym, apply
from archc.records import dataclass
from archc.sizes import Size


@dataclass(frozen=True)
class Dim:
    """The size of an axis: exact, and with the expression that makes it where it does not depend on the inputs.

    Arithmetic keeps both: `dim // 3` is a Dim whose size and expression are divided.
    """

    size: Size
    sym: Sym | None = field(default=None, compare=False)
    # For an exact quotient, what was divided by what: multiplying back gives the whole again.
    parts: tuple[Dim, Dim] | None = field(default=None, compare=False, repr=False)

    @staticmethod
    def of(value: int | Size | Scalar | Dim) -> Dim:
        match value:
            case Dim():
                return value
            case Scalar(inner, sym):
                return Dim(Size.of(inner), sym if Size.of(inner).constant is not None else None)
            case Size():
                return Dim(value, None if value.constant is None else Const(value.constant))
            case _:
                return Dim(Size.of(value), Const(value))

    @property
    def constant(self) -> int | None:
        return self.size.constant

    def _with(self, other: int | Size | Scalar | Dim, op: str, size: Size) -> Dim:
        other = Dim.of(other)
        if size.constant is None or self.sym is None or other.sym is None:
            return Dim.of(size)
        return Dim(size, apply(op, self.sym, other.sym))

    def __add__(self, other: int | Size | Scalar | Dim) -> Dim:
        return self._with(other, "+", self.size + Dim.of(other).size)

    def __sub__(self, other: int | Size | Scalar | Dim) -> Dim:
        return self._with(other, "-", self.size - Dim.of(other).size)

    def __mul__(self, other: int | Size | Scalar | Dim) -> Dim:
        other = Dim.of(other)
        for quotient, divisor in ((self, other), (other, self)):
            if quotient.parts is not None and quotient.parts[1] == divisor and quotient.parts[1].sym == divisor.sym:
                return quotient.parts[0]
        return self._with(other, "*", self.size * Dim.of(other).size)

    def __floordiv__(self, other: int | Size | Scalar | Dim) -> Dim:
        other = Dim.of(other)
        divisor = other.size
        if other.parts is not None and other.parts[0] == self and other.parts[0].sym == self.sym:
            return other.parts[1]
        made = self._with(other, "//", self.size // (divisor.constant if divisor.constant is not None else divisor))
        exact = self.constant is not None and divisor.constant and self.constant % divisor.constant == 0
        return replace(made, parts=(self, other)) if exact else made

    def scalar(self) -> Scalar:
        """The size as a compile-time number. Only for sizes with an expression."""
        assert self.sym is not None
        return Scalar(self.size.constant, self.sym)

    def __str__(self) -> str:
        return str(self.size)


@dataclass(frozen=True)
class Axis:
    """A named axis. `B` is the batch, `C` the channels, other capitalised names are positions, lower case rides along.

    Several axes may be numbered as one, row by row: the taps of a region over them, or an axis that merges them. `order`
    names them, the slowest first; `parts` are the sizes of what was merged.
    """

    name: str
    dim: Dim
    order: tuple[str, ...] = ()
    parts: tuple[Size, ...] = ()

    @property
    def size(self) -> Size:
        return self.dim.size

    @property
    def is_position(self) -> bool:
        return self.name not in ("B", "C") and self.name[0].isupper()

    def sized(self, dim: Dim) -> Axis:
        """The same axis, its size said otherwise; of another size, it numbers nothing."""
        return replace(self, dim=dim) if dim.size == self.size else Axis(self.name, dim)

    def renamed(self, names: Mapping[str, str]) -> Axis:
        """The same axis under other names."""
        return replace(
            self, name=names.get(self.name, self.name), order=tuple(names.get(name, name) for name in self.order)
        )

    def contradicts(self, other: Axis) -> bool:
        """Whether both number the same axes in another order: what has one number does not belong together."""
        return self.order != other.order and sorted(self.order) == sorted(other.order)


@dataclass(frozen=True)
class TensorType:
    """`dtype` is float, int or bool; float means the dtype of the module."""

    dtype: str
    axes: tuple[Axis, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def positions(self) -> tuple[Axis, ...]:
        return tuple(axis for axis in self.axes if axis.is_position)

    @property
    def names_of_positions(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.positions)

    @property
    def elements(self) -> Size:
        """How many numbers the tensor holds."""
        total = Size.of(1)
        for axis in self.axes:
            total = total * axis.size
        return total

    def __contains__(self, name: str) -> bool:
        return any(axis.name == name for axis in self.axes)

    def __getitem__(self, name: str) -> Axis:
        return next(axis for axis in self.axes if axis.name == name)

    def with_axes(self, axes: Iterable[Axis]) -> TensorType:
        return replace(self, axes=tuple(axes))

    def resized(self, /, **dims: Dim | Size | int) -> TensorType:
        """The same axes, some with other sizes."""
        return self.with_axes(Axis(a.name, Dim.of(dims[a.name])) if a.name in dims else a for a in self.axes)

    def without(self, *names: str) -> TensorType:
        return self.with_axes(axis for axis in self.axes if axis.name not in names)

    def renamed(self, names: Mapping[str, str]) -> TensorType:
        return self.with_axes(axis.renamed(names) for axis in self.axes)

    def __str__(self) -> str:
        inner = ", ".join(a.name if str(a.size) == a.name else f"{a.name}={a.size}" for a in self.axes)
        return ("" if self.dtype == "float" else self.dtype) + f"[{inner}]"
