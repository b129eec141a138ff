"""What may stand after `|>` in a rule: how a stored tensor becomes the module's.

    reshape(4, -1)  flatten  flatten(1, 2)  squeeze(0)  unsqueeze(0)  permute(0, 2, 1)  transpose(0, 1)
    flip(0) slice(0, 64, 128)  scale(0.5)  cat(0)  stack(0)

Dimensions count from 0; arguments are numbers written in the rule. `cat` and `stack` join the sources of a
rule. Every step says what it does to a shape, so that rules can be checked without the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from archc.records import dataclass
from archc.syntax import tree

Shape = tuple[int, ...]

# Step -> the fewest and the most arguments.
STEPS: dict[str, tuple[int, int]] = {
    "reshape": (0, 8), "flatten": (0, 2), "squeeze": (1, 1), "unsqueeze": (1, 1), "permute": (1, 8),
    "transpose": (2, 2), "flip": (1, 1), "slice": (3, 3), "scale": (1, 1), "cat": (1, 1), "stack": (1, 1),
}  # fmt: skip
JOINS = ("cat", "stack")


class TransformError(ValueError):
    """A step is malformed, or does not fit the shape it is given."""


@dataclass(frozen=True)
class Step:
    name: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.args))})"


def step_of(expr: tree.Expr) -> Step:
    """The step that an expression writes. Raises TransformError."""
    match expr:
        case tree.Name(name=name):
            arguments: tuple[tree.Argument, ...] = ()
        case tree.Call(function=tree.Name(name=name), arguments=arguments):
            pass
        case _:
            raise TransformError("a transform is a name with numbers, such as `permute(0, 2, 1)`")
    if name not in STEPS:
        raise TransformError(f"there is no transform `{name}`; there are {', '.join(STEPS)}")
    if any(argument.keyword is not None for argument in arguments):
        raise TransformError(f"`{name}` takes its numbers in order, without keywords")
    args = tuple(_number(argument.value, real=name == "scale") for argument in arguments)
    least, most = STEPS[name]
    if not least <= len(args) <= most or (name == "flatten" and len(args) == 1):
        wanted = str(least) if least == most else f"at least {least}" if most > 8 else f"{least} to {most}"
        raise TransformError(f"`{name}` takes {wanted} numbers, and {len(args)} are given")
    return Step(name, args)


def _number(expr: tree.Expr, real: bool) -> int | float:
    sign = 1
    while isinstance(expr, tree.Unary) and expr.op == "-":
        sign, expr = -sign, expr.operand
    if isinstance(expr, tree.Number) and (real or isinstance(expr.value, int)):
        return sign * expr.value
    raise TransformError("an argument of a transform is a number written in the rule")


# ---- shapes


def shape_after(step: Step, shape: Shape) -> Shape:
    """The shape that a step makes of `shape`. Raises TransformError where it does not fit."""
    args = step.args
    match step.name:
        case "reshape":
            return _reshaped(args, shape)
        case "flatten":
            first, last = (
                _axis(step, args[0] if args else 0, shape),
                _axis(step, args[1] if args else -1, shape),
            )
            if first > last:
                raise TransformError(f"`{step}` ends before it begins")
            return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
        case "squeeze":
            axis = _axis(step, args[0], shape)
            if shape[axis] != 1:
                raise TransformError(f"`{step}`: dimension {axis} of {list(shape)} is not 1")
            return (*shape[:axis], *shape[axis + 1 :])
        case "unsqueeze":
            axis = _axis(step, args[0], (*shape, 1))
            return (*shape[:axis], 1, *shape[axis:])
        case "permute":
            if sorted(args) != list(range(len(shape))):
                raise TransformError(f"`{step}` must name each dimension of {list(shape)} once")
            return tuple(shape[axis] for axis in args)
        case "transpose":
            a, b = (_axis(step, axis, shape) for axis in args)
            order = list(shape)
            order[a], order[b] = shape[b], shape[a]
            return tuple(order)
        case "slice":
            axis = _axis(step, args[0], shape)
            start, stop = args[1:]
            if not 0 <= start < stop <= shape[axis]:
                raise TransformError(f"`{step}` does not lie within dimension {axis} of {list(shape)}")
            return (*shape[:axis], stop - start, *shape[axis + 1 :])
        case "flip":
            _axis(step, args[0], shape)
            return shape
        case _:
            return shape


def joined_shape(step: Step, shapes: Sequence[Shape]) -> Shape:
    """The shape of `cat` or `stack`. Raises TransformError where the shapes do not fit together."""
    first = shapes[0]
    if step.name == "stack":
        axis = _axis(step, step.args[0], (*first, 1))
        if any(shape != first for shape in shapes):
            raise TransformError(
                f"`{step}` needs equal shapes, and these are {', '.join(str(list(s)) for s in shapes)}"
            )
        return (*first[:axis], len(shapes), *first[axis:])
    axis = _axis(step, step.args[0], first)
    if any((*s[:axis], 0, *s[axis + 1 :]) != (*first[:axis], 0, *first[axis + 1 :]) for s in shapes):
        raise TransformError(f"`{step}` does not fit {', '.join(str(list(s)) for s in shapes)}")
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def _axis(step: Step, axis: int, shape: Shape) -> int:
    if not -len(shape) <= axis < len(shape):
        raise TransformError(f"`{step}`: {list(shape)} has no dimension {axis}")
    return axis % len(shape)


def _reshaped(sizes: tuple[int, ...], shape: Shape) -> Shape:
    total, unknown = math.prod(shape), sizes.count(-1)
    known = math.prod(size for size in sizes if size != -1)
    fits = total == known if not unknown else known > 0 and total % known == 0
    if unknown > 1 or any(size < -1 for size in sizes) or not fits:
        raise TransformError(f"{list(shape)} holds {total} numbers and cannot be reshaped to {list(sizes)}")
    return tuple(total // known if size == -1 else size for size in sizes)


# ---- tensors


def tensor_after(step: Step, tensor: Any) -> Any:
    """The torch tensor that a step makes of `tensor`. Raises TransformError where it does not fit."""
    shape = shape_after(step, tuple(tensor.shape))
    match step.name:
        case "permute":
            return tensor.permute(*step.args)
        case "transpose":
            return tensor.transpose(*step.args)
        case "slice":
            axis, start, stop = step.args
            return tensor.narrow(axis, start, stop - start)
        case "flip":
            return tensor.flip(step.args[0])
        case "scale":
            return tensor * step.args[0]
        case _:
            return tensor.reshape(shape)


def joined(step: Step, tensors: Sequence[Any]) -> Any:
    """`cat` or `stack` of torch tensors. Raises TransformError where they do not fit together."""
    import torch

    joined_shape(step, [tuple(tensor.shape) for tensor in tensors])
    return (torch.stack if step.name == "stack" else torch.cat)(list(tensors), step.args[0])
