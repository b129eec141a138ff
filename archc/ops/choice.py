"""Values chosen by a truth value, by an index, or by their rank."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import Scalar
from archc.ir.types import Axis, TensorType
from archc.ops.arithmetic import real_number
from archc.ops.base import Check, Code, Op, OpError, Reach, arg, need
from archc.ops.checks import numbered_alike, result_type, shown
from archc.ops.emission import bound, meet
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


def number_type(value: Any, argument: str) -> str:
    """The element type of a compile-time number. Raises OpError."""
    number = value.value if isinstance(value, Scalar) else None
    match number:
        case bool():
            return "bool"
        case int() | Size():
            return "int"
        case float():
            return "float"
        case _:
            said = shown(value) if isinstance(value, Scalar) else "something else"
            raise OpError(f"`{argument}` is a tensor or a number, and this is {said}", "E0213", argument=argument)


@dataclass(frozen=True)
class Where(Op):
    """a where the condition holds, b elsewhere; both may be numbers, `-inf` included. Broadcasts by name."""

    name: ClassVar[str] = "where"
    operands: ClassVar[str] = "c a b"
    saves: ClassVar[str] = "c"
    examples: ClassVar[tuple[str, ...]] = (
        "c: bool[B, N], x: [B, N, C=4] -> where(c, x, -inf)",
        "c: bool[B, N], x: [B, N, C=4], y: [C=4] -> where(c, x, y)",
        "x: [B, N] -> where(x > 0, 1.0, -1)",
    )
    a: Any = arg("any", None)
    b: Any = arg("any", None)

    def _sides(self, xs: Sequence[Any]) -> tuple[Any, Any]:
        """Both sides, each a number or one of `xs` (what follows the condition)."""
        rest = iter(xs)
        return tuple(side if side is not None else next(rest) for side in (self.a, self.b))  # pyright: ignore

    def infer(self, check: Check, c: TensorType, *xs: TensorType) -> tuple[TensorType, ...]:
        if c.dtype != "bool":
            raise OpError(
                f"the condition of `where` is bool, and this is {c}",
                "E0305",
                help="declare it as `bool[B, N]`, or compare it: `x > 0`",
            )
        if len(xs) + (self.a is not None) + (self.b is not None) != 2:
            raise OpError("`where` takes a condition and two values", "E0204")
        sides = self._sides(xs)
        kinds = [
            side.dtype if isinstance(side, TensorType) else number_type(side, name)
            for side, name in zip(sides, "ab", strict=True)
        ]
        if "bool" in kinds and kinds != ["bool", "bool"]:
            raise OpError(
                f"`where` chooses between {kinds[0]} and {kinds[1]}",
                "E0305",
                help="`cast` makes one of the other",
            )
        dtype = "float" if "float" in kinds else kinds[0]
        largest = max((c, *xs), key=lambda x: len(x.axes))
        for x in (c, *xs):
            for axis in x.axes:
                if axis.name not in largest:
                    raise OpError(
                        f"`where` of {', '.join(map(str, (c, *xs)))}: {axis.name} is not an axis of {largest}",
                        "E0301",
                        argument="c" if x is c else None,
                        help=_within(largest, x, "c" if x is c else "x"),
                    )
                left, right = axis.size, largest[axis.name].size
                if left.constant is not None and right.constant is not None and left != right:
                    code = "E0331" if axis.is_position else "E0301"
                    check.refuse(OpError(f"`where`: {axis.name} is {left} and {right}", code))
                check.equal(left, right, f"condition and values of `where` must have the same {axis.name}")
                numbered_alike(largest[axis.name], axis, "`where`")
        return (replace(largest, dtype=dtype),)

    def torch(self, code: Code, c: Operand, *xs: Operand) -> Operand:
        type = result_type(self, c, *xs)
        met = meet(code, (c, *xs))
        sides = [
            number_text(code, side, type.dtype) if isinstance(side, Scalar) else str(side)
            for side in self._sides(met[1:])
        ]
        order, form = met[0].order, met[0].where
        if (
            isinstance(self.b, Scalar)
            and self.a is None
            and xs[0].type.names == type.names
            and xs[0].type.dtype == type.dtype
        ):
            text = f"{met[1].atom}.masked_fill(~{met[0].atom}, {sides[1]})"
        elif xs:
            text = f"torch.where({met[0]}, {sides[0]}, {sides[1]})"
        else:
            numbers = ", ".join(f"torch.tensor({side}, {code.beside(type.dtype)})" for side in sides)
            text = f"torch.where({met[0]}, {numbers})"
        return Operand(text, type, order, ATOM, form)

    @property
    def follows(self) -> bool:
        return all(map(real_number, self.numbers))

    @property
    def numbers(self) -> tuple[Scalar, ...]:
        return tuple(side for side in (self.a, self.b) if side is not None)

    def sides(self, xs: Sequence[Any]) -> Sequence[Any]:
        return (xs[0], *self._sides(xs[1:]))

    def tile(self, *sides: str) -> str:
        return f"tl.where({', '.join(sides)})"

    def sinks(self, at: int) -> bool:
        others = [side for place, side in ((1, self.a), (2, self.b)) if place != at]
        return at > 0 and all(side is not None and side.value == float("-inf") for side in others)

    def slopes(self, *sides: str, result: str) -> tuple[str, ...]:
        return "", f"tl.where({sides[0]}, 1.0, 0.0)", f"tl.where({sides[0]}, 0.0, 1.0)"

    def reference(self, run: Run, c: Named, *xs: Named) -> Named:
        torch = run.torch
        (condition, *rest), names = run.align(c, *xs)
        tensors = iter(rest)
        sides = []
        for side in (self.a, self.b):
            given = torch.tensor(run.number(side)) if side is not None else next(tensors)
            sides.append(given.to(torch.float64) if given.is_floating_point() else given)
        if any(side.is_floating_point() for side in sides):
            sides = [side.to(torch.float64) for side in sides]
        y = torch.where(condition, *sides)
        for x in rest:
            y = torch.broadcast_tensors(y, x)[0]
        return run.named(y, names)


def number_text(code: Code, value: Scalar, dtype: str) -> str:
    """A number as torch takes it: infinities have no literal."""
    text = code.number(value)
    if re.fullmatch(r"-?(math\.)?inf", text):
        return f'float("{"-" if text.startswith("-") else ""}inf")'
    if dtype == "float" and re.fullmatch(r"-?\d+", text):
        return f"{text}.0"
    return text


@dataclass(frozen=True)
class Gather(Op):
    """x read at computed places along an axis: shared axes align, the axis becomes the index's own axes.

    The result has the axes of x, with what the index has besides in place of `axis` (or `axis` itself, at the
    index's size). Every index must lie within the axis.
    """

    name: ClassVar[str] = "gather"
    operands: ClassVar[str] = "x index"
    saves: ClassVar[str] = "operands"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, M, C=4], s: [B, M] -> gather(x, argsort(s, M), M)",
        "x: [B, C=4, N], s: [B, N] -> gather(x, argsort(s, N)[N=0], N)",
        "x: [N=7, C=4], s: [B, k=3, N=7] -> gather(x, argmax(s, N), N)",
    )
    axis: Any = arg("axis")

    def infer(self, check: Check, x: TensorType, index: TensorType) -> tuple[TensorType, ...]:
        need(x, self.axis, "`gather`")
        whole_index(index, "gather")
        for axis in index.axes:
            if axis.name != self.axis and axis.name in x:
                check.equal(axis.size, x[axis.name].size, f"`gather`: index and tensor must have the same {axis.name}")
                numbered_alike(x[axis.name], axis, "`gather`")
        axes: list[Axis] = []
        new = [axis for axis in index.axes if axis.name == self.axis or axis.name not in x]
        for axis in x.axes:
            axes += new if axis.name == self.axis else [axis]
        return (x.with_axes(axes),)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def saved(self, x: TensorType, index: TensorType) -> str:
        # Without an axis in common it is a look-up, which reads the index alone; `torch.gather` keeps both.
        return self.saves if any(name in index and name != self.axis for name in x.names) else "index"

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis == self.axis and operand == 0 else Reach(axis)

    def torch(self, code: Code, x: Operand, index: Operand) -> Operand:
        type = result_type(self, x, index)
        x, index = x.merged(code), index.merged(code)
        shared = tuple(n for n in x.order if n in index.order and n != self.axis)
        rest = tuple(n for n in x.order if n not in shared and n != self.axis)
        new = tuple(n for n in index.order if n not in shared)
        x, index = x.to((*shared, self.axis, *rest)), index.to((*shared, *new))
        if not shared:
            return Operand(f"{x.atom}[{index}]", type, (*new, *rest))
        # The shared axes pair up; the index has one flat axis of its own.
        flat, unfold = index.atom, ""
        if len(new) > 1:
            index = bound(code, index, "index")
            flat = f"{index}.flatten({len(shared)})"
            unfold = f".unflatten({len(shared)}, {index}.shape[{len(shared)}:])"
        elif not new:
            flat = f"{index.atom}.unsqueeze({len(shared)})"
        at = len(shared)
        if rest:
            x = bound(code, x, "x")
            flat += f"[{', '.join(['...', *['None'] * len(rest)])}]"
            flat += f".expand({', '.join(['-1'] * (at + 1))}, *{x}.shape[{at + 1}:])"
        text = f"{x.atom}.gather({at}, {flat})"
        text += f".squeeze({at})" if not new else unfold
        return Operand(text, type, (*shared, *new, *rest))

    def reference(self, run: Run, x: Named, index: Named) -> Named:
        torch = run.torch
        n = x.size(self.axis)
        # One place after the other: the value counts where the index names the place.
        own = "@place"
        renamed = run.named(index.data, (own if name == self.axis else name for name in index.names))
        data = x.last(self.axis)
        rest = tuple(name for name in x.names if name != self.axis)
        total, names = None, rest
        for place in range(n):
            (value, at), names = run.align(run.named(data[..., place], rest), renamed)
            value, hit = torch.broadcast_tensors(value, at == place)
            total = torch.zeros_like(value) if total is None else total
            total = torch.where(hit, value, total)
        return run.named(total, (self.axis if name == own else name for name in names))


def whole_index(index: TensorType, what: str) -> None:
    """Raises OpError where an index is not of whole numbers."""
    if index.dtype != "int":
        raise OpError(
            f"`{what}` takes an index of whole numbers, and this is {index}",
            "E0305",
            help="`top_k`, `argsort` and `argmax` give indices; `cast(x, int)` makes one",
        )


def _within(largest: TensorType, x: TensorType, called: str) -> str:
    """How the axes of `x` come to lie within those of the largest tensor."""
    lacking = [axis for axis in x.axes if axis.name not in largest]
    free = [axis for axis in largest.axes if axis.name not in x and axis.size == lacking[0].size]
    if len(lacking) == 1 and len(free) == 1:
        return f'if {lacking[0].name} is {free[0].name}: `rename({called}, {lacking[0].name}="{free[0].name}")`'
    return "the axes of all must lie within those of the largest; `expand` adds one"


@dataclass(frozen=True)
class Scatter(Op):
    """x with y put at computed places along an axis; where places coincide, it is open which value stays.

    The index has the axes of x, with a size of its own along `axis`; y has the axes of the index, or is a
    number.
    """

    name: ClassVar[str] = "scatter"
    operands: ClassVar[str] = "x index y"
    saves: ClassVar[str] = "index"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, N, M], y: [B, N, M] -> scatter(x * 0, argsort(y, M), y, M)",
        "x: [B, N, C=4], y: [B, N, C=4] -> scatter(x, argsort(y, N)[N=:2], 1, N)",
        "x: [B, N, M=5], y: [B, M=5] -> scatter(x, expand(argsort(y, M), N=x.N), 0.5, M)",
    )
    y: Any = arg("any", None)
    axis: Any = arg("axis", "C")

    def infer(self, check: Check, x: TensorType, index: TensorType, *ys: TensorType | None) -> tuple[TensorType, ...]:
        need(x, self.axis, "`scatter`")
        whole_index(index, "scatter")
        given = [y for y in ys if y is not None]
        if len(given) + (self.y is not None) != 1:
            raise OpError("`scatter` takes a tensor, an index and what is put there", "E0204", argument="y")
        if set(index.names) != set(x.names):
            raise OpError(
                f"the index of `scatter` has the axes of the tensor: {index} and {x}",
                "E0301",
                help="`expand` gives it those that it lacks",
            )
        for axis in x.axes:
            if axis.name != self.axis:
                check.equal(
                    index[axis.name].size,
                    axis.size,
                    f"`scatter`: index and tensor must have the same {axis.name}",
                )
        for y in given:
            if set(y.names) != set(index.names):
                raise OpError(f"what `scatter` puts has the axes of the index: {y} and {index}", "E0301")
            for axis in index.axes:
                check.equal(
                    y[axis.name].size,
                    axis.size,
                    f"`scatter`: index and values must have the same {axis.name}",
                )
        kind = given[0].dtype if given else number_type(self.y, "y")
        if kind != x.dtype and not (not given and (kind, x.dtype) == ("int", "float")):
            raise OpError(f"`scatter` puts {kind} into {x}", "E0305", argument="y")
        return (x,)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis == self.axis and operand else Reach(axis)

    def torch(self, code: Code, x: Operand, index: Operand, *ys: Operand | None) -> Operand:
        type = result_type(self, x, index, *[y for y in ys if y is not None])
        x = x.merged(code)
        index = index.merged(code).to(x.order)
        given = [y.merged(code).to(x.order) for y in ys if y is not None]
        value = str(given[0]) if given else number_text(code, self.y, x.type.dtype)
        return replace(x, text=f"{x.atom}.scatter({x.at(self.axis)}, {index}, {value})", type=type, binding=ATOM)

    def reference(self, run: Run, x: Named, index: Named, *ys: Named | None) -> Named:
        order = (*(name for name in x.names if name != self.axis), self.axis)
        data, at = x.to(order), index.to(order)
        given = [y.to(order) for y in ys if y is not None]
        pieces = []
        for place in range(data.shape[-1]):
            result = data[..., place]
            for i in range(at.shape[-1]):
                value = given[0][..., i] if given else run.torch.full_like(result, run.number(self.y))
                result = run.torch.where(at[..., i] == place, value, result)
            pieces.append(result)
        return run.named(run.torch.stack(pieces, -1), order)
