"""One tensor cut into several, and several put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.ir.sym import Const, Scalar, apply
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Check, Code, Op, OpError, Reach, arg, need
from archc.ops.checks import LARGEST, Trust, numbered_alike, shown
from archc.ops.rename import axis_name
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run

MOST = 10_000  # results or parts of one operation


class Layout(Op):
    """Nothing is computed."""

    saves: ClassVar[str] = ""

    def flops(self, xs: Sequence[Any], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)


@dataclass(frozen=True)
class Split(Layout):
    """Cut an axis into n equal parts, or into parts of the given sizes, one result each."""

    name: ClassVar[str] = "split"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=6, H, W] -> split(x, 3, C)",
        "x: [B, C=6, H, W] -> split(x, [1, 2, 3], C)",
        "x: [B, heads=4, N, C=2] -> split(x, 2, heads)",
    )
    parts: Any = arg("any")
    axis: Any = arg("axis", "C")

    def _parts(self) -> Scalar:
        parts = self.parts
        if isinstance(parts, tuple) and all(isinstance(p, Scalar) for p in parts):
            parts = Scalar(parts, apply("list", *(p.sym for p in parts)))
        if not isinstance(parts, Scalar):
            raise OpError("`split` takes a number of parts or a list of sizes", "E0206", argument="parts")
        return parts

    def dims(self, check: Check | None, axis: Axis) -> tuple[Dim, ...]:
        """The sizes of the parts. Raises OpError."""
        parts = self._parts()
        if isinstance(parts.value, tuple):
            return self._listed(check, axis, parts.value)
        n = parts.value
        if isinstance(n, Size):
            raise OpError(f"the number of results is fixed, and {n} depends on the inputs", "E0304", argument="parts")
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST:
            raise OpError(f"`split` takes 1 to {MOST} parts, and this is {shown(parts)}", "E0213", argument="parts")
        size = axis.size.constant
        if size is None:
            if check is not None:
                check.divides(Size.of(n), axis.size, f"{n} parts must divide {axis.name}", "E0321")
        elif size % n and check is not None:
            fits = ", ".join(str(d) for d in range(1, min(size, 64) + 1) if size % d == 0)
            error = OpError(
                f"{axis.name} = {size} does not split into {n} equal parts",
                "E0321",
                argument="parts",
                label=f"{size} % {n} = {size % n}",
                help=f"equal parts are possible for {fits}; a list of sizes splits unevenly",
            )
            check.refuse(error)
        return (axis.dim // parts,) * n

    def _listed(self, check: Check | None, axis: Axis, items: tuple[Scalar, ...]) -> tuple[Dim, ...]:
        if not 1 <= len(items) <= MOST:
            raise OpError(f"`split` takes 1 to {MOST} parts, and {len(items)} are listed", "E0213", argument="parts")
        dims = []
        for item in items:
            value = item.value
            number = value.constant if isinstance(value, Size) else value
            if (not isinstance(value, Size) and (isinstance(value, bool) or not isinstance(value, int))) or (
                number is not None and not 0 <= number <= LARGEST
            ):
                raise OpError(
                    f"the parts of a split are whole numbers, and this is {shown(item)}",
                    "E0213",
                    argument="parts",
                )
            dims.append(Dim.of(item))
            if check is not None and number is None:
                check.at_least(dims[-1].size, 0, f"a part of {axis.name} is at least 0", "E0213")
        total = Size.of(0)
        for dim in dims:
            total = total + dim.size
        if check is not None:
            if total.constant is not None and axis.size.constant is not None and total != axis.size:
                told = f"the parts add up to {total}, and {axis.name} is {axis.size}"
                check.refuse(OpError(told, "E0321", argument="parts"))
            check.equal(total, axis.size, f"the parts of the split must add up to {axis.name}", "E0321")
        return tuple(dims)

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        dims = self.dims(check, need(x, self.axis, "`split`"))
        return tuple(x.resized(**{self.axis: dim}) for dim in dims)

    def is_view(self, *xs: Any) -> bool:
        return True

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis == self.axis else Reach(axis)

    def torch(self, code: Code, x: Operand) -> tuple[Operand, ...]:
        x = x.merged(code)
        types = result_types(self, x)
        at = x.at(self.axis)
        if not isinstance(self._parts().value, tuple):
            text = f"{x.atom}.chunk({code.number(self._parts())}, dim={at})"
            if x.type[self.axis].size.constant is None:
                # `chunk` takes the number as a wish: with sizes that are not known it may give fewer.
                text = f"{x.atom}.unflatten({at}, ({code.number(self._parts())}, -1)).unbind({at})"
        else:
            sizes = ", ".join(code.number(item) for item in self._parts().value)
            text = f"{x.atom}.split([{sizes}], dim={at})"
        return several(code, text, types, x.order)

    def reference(self, run: Run, x: Named) -> tuple[Named, ...]:
        data, parts = x.last(self.axis), run.number(self._parts())
        sizes = parts if isinstance(parts, list) else [x.size(self.axis) // parts] * parts
        results, start = [], 0
        order = (*(name for name in x.names if name != self.axis), self.axis)
        for size in sizes:
            results.append(run.named(data[..., start : start + size], order))
            start += size
        return tuple(results)


def result_types(op: Op, *xs: Operand) -> tuple[TensorType, ...]:
    return op.infer(Trust(), *(x.type for x in xs))


def several(code: Code, text: str, types: Sequence[TensorType], order: tuple[str, ...]) -> tuple[Operand, ...]:
    """The results of an expression that gives a tuple of tensors."""
    if len(types) == 1:
        return (Operand(f"{text}[0]", types[0], order),)
    names = code.let(text, "parts")
    return tuple(Operand(f"{names}[{i}]", type, order) for i, type in enumerate(types))


@dataclass(frozen=True)
class Unstack(Layout):
    """Every place along an axis as a result of its own, without the axis."""

    name: ClassVar[str] = "unstack"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, three=3, C=2, N] -> unstack(x, three)",
        "x: [B, C=2] -> unstack(x, C)",
    )
    axis: Any = arg("axis")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        size = need(x, self.axis, "`unstack`").size
        if size.constant is None:
            raise OpError(
                f"`unstack` needs a fixed number of results, and {self.axis} is {size}",
                "E0304",
                argument="axis",
            )
        if not 1 <= size.constant <= MOST:
            raise OpError(f"`unstack` gives 1 to {MOST} results, and {self.axis} is {size}", "E0213", argument="axis")
        return (x.without(self.axis),) * size.constant

    def is_view(self, *xs: Any) -> bool:
        return True

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis == self.axis else Reach(axis)

    def torch(self, code: Code, x: Operand) -> tuple[Operand, ...]:
        x = x.merged(code)
        order = tuple(name for name in x.order if name != self.axis)
        return several(code, f"{x.atom}.unbind({x.at(self.axis)})", result_types(self, x), order)

    def reference(self, run: Run, x: Named) -> tuple[Named, ...]:
        data = x.last(self.axis)
        order = tuple(name for name in x.names if name != self.axis)
        return tuple(run.named(data[..., i], order) for i in range(data.shape[-1]))


@dataclass(frozen=True)
class Cat(Layout):
    """Tensors one behind the other along an axis; all other axes agree. The order is the first one's."""

    name: ClassVar[str] = "cat"
    operands: ClassVar[str] = "xs*"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=2, H, W], y: [B, C=3, H, W] -> cat([x, y], C)",
        "x: [B, C=2, N], y: [B, N, C=2] -> cat([x, y], N)",
    )
    axis: Any = arg("axis", "C")

    def infer(self, check: Check, xs: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        first = _one_kind(xs, "cat")
        need(first, self.axis, "`cat`")
        total = first[self.axis].dim
        for number, x in enumerate(xs[1:], 1):
            _same_axes(check, first, x, "cat", self.axis, number)
            total = total + x[self.axis].dim
        return (first.resized(**{self.axis: total}),)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis == self.axis else Reach(axis)

    def torch(self, code: Code, xs: tuple[Operand, ...]) -> Operand:
        type, order, texts = _joined(self, code, xs)
        return Operand(f"torch.cat([{', '.join(texts)}], dim={order.index(self.axis)})", type, order)

    def reference(self, run: Run, xs: tuple[Named, ...]) -> Named:
        order = (*(name for name in xs[0].names if name != self.axis), self.axis)
        return run.named(run.torch.cat([x.to(order) for x in xs], -1), order)


@dataclass(frozen=True)
class Stack(Layout):
    """Tensors of one type side by side along a new axis, which comes first, or behind B."""

    name: ClassVar[str] = "stack"
    operands: ClassVar[str] = "xs*"
    makes_axis: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=2, H, W], y: [B, C=2, H, W] -> stack([x, y], k)",
        "x: [C=2, N], y: [N, C=2] -> stack([x, y], k)",
    )
    axis: Any = arg("axis")

    def infer(self, check: Check, xs: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        first = _one_kind(xs, "stack")
        axis_name(self.axis, "axis")
        if self.axis in first:
            raise OpError(
                f"`stack` makes the axis `{self.axis}`, and {first} has one",
                "E0301",
                argument="axis",
                help="`cat` puts tensors together along an axis that they have",
            )
        for number, x in enumerate(xs[1:], 1):
            _same_axes(check, first, x, "stack", "", number)
        begin = 1 if first.names[:1] == ("B",) else 0
        new = Axis(self.axis, Dim(Size.of(len(xs)), Const(len(xs))))
        return (first.with_axes((*first.axes[:begin], new, *first.axes[begin:])),)

    def torch(self, code: Code, xs: tuple[Operand, ...]) -> Operand:
        type, order, texts = _joined(self, code, xs)
        begin = 1 if order[:1] == ("B",) else 0
        text = f"torch.stack([{', '.join(texts)}], dim={begin})"
        return Operand(text, type, (*order[:begin], self.axis, *order[begin:]))

    def reference(self, run: Run, xs: tuple[Named, ...]) -> Named:
        return run.named(run.torch.stack([x.to(xs[0].names) for x in xs]), (self.axis, *xs[0].names))


def _one_kind(xs: Sequence[TensorType], what: str) -> TensorType:
    """The first of several tensors of one element type. Raises OpError."""
    if not xs:
        raise OpError(f"`{what}` needs at least one tensor", "E0204", argument="xs")
    for x in xs[1:]:
        if x.dtype != xs[0].dtype:
            raise OpError(
                f"`{what}` needs tensors of one element type, and has {xs[0]} and {x}",
                "E0305",
                argument="xs",
                help=f"write `cast(x, {xs[0].dtype})` first",
            )
    return xs[0]


def _same_axes(check: Check, first: TensorType, x: TensorType, what: str, besides: str, number: int) -> None:
    """The first of several tensors and the one behind `number` others have the same axes, of equal sizes but for one.

    Raises OpError.
    """
    try:
        _agree(check, first, x, what, besides, number)
    except OpError as error:
        error.items = (0, number)
        raise


def _agree(check: Check, first: TensorType, x: TensorType, what: str, besides: str, number: int) -> None:
    if set(x.names) != set(first.names):
        large, small = (first, x) if len(first.axes) > len(x.axes) else (x, first)
        lacking = [name for name in large.names if name not in small]
        cure = "`expand` adds an axis, `rename` gives one another name"
        if set(small.names) < set(large.names):
            which = "the first" if small is first else f"number {number + 1}"
            index = 0 if small is first else number
            sizes = ", ".join(f"{name}={large[name].size}" for name in lacking)
            cure = f"{which} lacks {', '.join(lacking)}: `expand(xs[{index}], {sizes})` repeats it along the axis"
        raise OpError(
            f"`{what}` needs tensors with the same axes, and has {first} and {x}",
            "E0301",
            argument="xs",
            help=cure,
        )
    for axis in first.axes:
        if axis.name == besides:
            continue
        left, right = axis.size, x[axis.name].size
        told = f"{axis.name} is {left} in the first and {right} in number {number + 1}"
        cure = "`crop_like(x, like)` of `std.layout` cuts a map to the size of another, `resize` scales it"
        cure = cure if axis.is_position else ""
        if left.constant is not None and right.constant is not None and left != right:
            code = "E0331" if axis.is_position else "E0301"
            said = f"`{what}` of {first} and {x}: {axis.name} is {left} and {right}"
            check.refuse(OpError(said, code, argument="xs", label=told, help=cure))
        try:
            check.equal(left, right, f"the tensors of `{what}` must have the same {axis.name}")
        except OpError as error:
            error.argument, error.label, error.help = "xs", told, cure
            raise
        numbered_alike(axis, x[axis.name], f"`{what}`")


def _joined(op: Op, code: Code, xs: tuple[Operand, ...]) -> tuple[TensorType, tuple[str, ...], list[str]]:
    """The result type of several operands, the commonest of their orders, and their texts in it."""
    xs = tuple(x.merged(code) for x in xs)
    (type,) = op.infer(Trust(), tuple(x.type for x in xs))
    orders = [x.order for x in xs]
    order = max(orders, key=orders.count)
    return type, order, [str(x.to(order)) for x in xs]
