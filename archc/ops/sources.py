"""Tensors that come from nothing but sizes, and new axes along which a tensor repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import Scalar
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Check, Code, OpError, Reach, arg
from archc.ops.checks import LARGEST, result_type, shown
from archc.ops.emission import tuple_of
from archc.ops.rename import axis_name
from archc.ops.split import Layout
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


def sized(given: dict[str, Any], what: str, check: Check | None = None) -> tuple[Axis, ...]:
    """New axes from keyword arguments. Raises OpError, or states through `check` what sizes of the inputs must be."""
    axes = []
    for name, value in given.items():
        axis_name(name, name)
        number = value.value if isinstance(value, Scalar) else None
        known = number.constant if isinstance(number, Size) else number
        if not isinstance(number, Size) and (isinstance(known, bool) or not isinstance(known, int)):
            said = shown(value) if isinstance(value, Scalar) else "something else"
            raise OpError(f"the size of `{name}` is a whole number, and this is {said}", "E0213", argument=name)
        if known is not None and not 0 <= known <= LARGEST:
            raise OpError(
                f"the size of `{name}` is a number from 0 to {LARGEST}, and this is {known}",
                "E0213",
                argument=name,
            )
        if isinstance(number, Size) and check is not None:
            check.at_least(number, 0, f"the size of `{name}` is at least 0", "E0213")
        axes.append(Axis(name, Dim.of(value)))
    if not axes:
        raise OpError(f"`{what}` needs an axis with its size", "E0204", help=f"write `{what}(..., N=n)`")
    return tuple(axes)


@dataclass(frozen=True)
class Index(Layout):
    """0, 1, .. n-1 along a new axis, as real numbers: what grids, sines and rotary tables are made of."""

    name: ClassVar[str] = "index"
    operands: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> x * index(H=x.H)",
        "x: [B, s=3] -> x + index(s=3)",
    )
    sizes: Any = arg("sizes")

    def infer(self, check: Check) -> tuple[TensorType, ...]:
        axes = sized(self.sizes, "index", check)
        if len(axes) > 1:
            raise OpError("`index` runs along one axis", "E0205", help="write `index(H=h)` and `index(W=w)` apart")
        return (TensorType("float", axes),)

    def torch(self, code: Code) -> Operand:
        (name,) = self.sizes
        text = f"torch.arange({code.number(self.sizes[name])}, {code.beside('float')})"
        return Operand(text, result_type(self), (name,))

    def reference(self, run: Run) -> Named:
        (name,) = self.sizes
        count = run.number(self.sizes[name])
        return run.named(run.torch.tensor([float(i) for i in range(count)], dtype=run.torch.float64), (name,))


@dataclass(frozen=True)
class Full(Layout):
    """One value everywhere, with the axes given by name or those of `like`; of the value's element type."""

    name: ClassVar[str] = "full"
    operands: ClassVar[str] = "like?"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> x + full(0.5, H=x.H, C=4)",
        "x: [B, N] -> where(full(true, like=x), x, 0.0)",
        "x: [B, C=4] -> full(2.0, like=x)",
        "x: [B, C=4] -> x + full(3, C=4)",
    )
    value: Any = arg("any")
    sizes: Any = arg("sizes")

    def dtype(self) -> str:
        value = self.value.value if isinstance(self.value, Scalar) else None
        match value:
            case bool():
                return "bool"
            case int() | Size():
                return "int"
            case float():
                return "float"
            case _:
                raise OpError("`full` takes a number, true or false", "E0213", argument="value")

    def infer(self, check: Check, like: TensorType | None = None) -> tuple[TensorType, ...]:
        if like is None:
            return (TensorType(self.dtype(), sized(self.sizes, "full", check)),)
        if self.sizes:
            raise OpError("`full` takes either `like` or axes with their sizes", "E0205", argument="like")
        return (replace(like, dtype=self.dtype()),)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return Reach(axis)

    def torch(self, code: Code, like: Operand | None = None) -> Operand:
        value = code.number(self.value)
        if like is not None:
            dtype = {"float": "", "int": ", dtype=torch.long", "bool": ", dtype=torch.bool"}[self.dtype()]
            if self.dtype() == "float" and like.type.dtype != "float":
                shape = f"{like.atom}.shape"
                text = f"torch.full({shape}, {value}, {code.beside('float')})"
                return replace(like, text=text, type=replace(like.type, dtype="float"), binding=ATOM)
            text = f"torch.full_like({like}, {value}{dtype})"
            return replace(like, text=text, type=replace(like.type, dtype=self.dtype()), binding=ATOM)
        axes = sized(self.sizes, "full")
        shape = [code.number(self.sizes[axis.name]) for axis in axes]
        text = f"torch.full({tuple_of(shape)}, {value}, {code.beside(self.dtype())})"
        return Operand(text, TensorType(self.dtype(), axes), tuple(axis.name for axis in axes))

    def reference(self, run: Run, like: Named | None = None) -> Named:
        value = run.number(self.value)
        dtype = {"float": run.torch.float64, "int": run.torch.int64, "bool": run.torch.bool}[self.dtype()]
        names = like.names if like is not None else tuple(self.sizes)
        shape = tuple(like.data.shape) if like is not None else tuple(run.number(size) for size in self.sizes.values())
        return run.named(run.torch.full(shape, value, dtype=dtype), names)


@dataclass(frozen=True)
class Expand(Layout):
    """The same tensor for every place along new axes, which come first, in the order given."""

    name: ClassVar[str] = "expand"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [N=3, C=4] -> expand(x, k=2)",
        "x: [B, C=4, H, W], t: [N=3, C=4] -> expand(t, B=x.B, k=2)",
    )
    sizes: Any = arg("sizes")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        axes = sized(self.sizes, "expand", check)
        for axis in axes:
            if axis.name in x:
                raise OpError(
                    f"`expand` makes the axis `{axis.name}`, and {x} has one",
                    "E0301",
                    argument=axis.name,
                    help="`resize` changes the size of an axis",
                )
        return (x.with_axes((*axes, *x.axes)),)

    def is_view(self, *xs: Any) -> bool:
        return True

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        new = [code.number(size) for size in self.sizes.values()]
        shape = ", ".join([*new, *["-1"] * len(x.order)])
        return Operand(f"{x.atom}.expand({shape})", result_type(self, x), (*self.sizes, *x.order))

    def reference(self, run: Run, x: Named) -> Named:
        data = x.data
        for size in reversed(self.sizes.values()):
            data = run.torch.stack([data] * run.number(size)) if run.number(size) else data.new_zeros((0, *data.shape))
        return run.named(data, (*self.sizes, *x.names))
