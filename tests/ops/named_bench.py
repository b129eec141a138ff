"""Operations on lists of tensors, with several results or in a region's form, held to their meaning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from op_bench import HELPERS, SIZES, FakeCheck, FakeCode, as_tuple, namespace, numbers, typed
from torch import Tensor

from archc.backend.operand import Operand
from archc.ir.sym import Apply, Const, Scalar, Var, evaluate
from archc.ir.types import Dim, TensorType
from archc.ops.base import Op
from archc.reference.named import Named, Run
from archc.sizes import Size

Given = str | Sequence[str]


@dataclass
class Code(FakeCode):
    """Numbers keep their expressions; `knows` are variables of the module."""

    knows: dict[str, Any] = field(default_factory=dict)

    def number(self, value: Any) -> str:
        if isinstance(value, Scalar) and isinstance(value.sym, Var | Apply) and not isinstance(value.value, Size):
            return repr(evaluate(value.sym, self.knows)) if value.value is not None else "None"
        if isinstance(value, Dim):
            assert value.sym is not None, value
            return repr(evaluate(value.sym, self.knows))
        return super().number(value)

    def extent(self, x: Operand, axis: str) -> str:
        size = x.type[axis].size
        return str(size.constant) if size.constant is not None else f"{x.atom}.shape[{x.at(axis)}]"

    def beside(self, dtype: str) -> str:
        kinds = {"float": "torch.float64", "int": "torch.long", "bool": "torch.bool"}
        return f"dtype={kinds[dtype]}, device=torch.device('cpu')"


def each(given: Given, make: Any) -> Any:
    return make(given) if isinstance(given, str) else tuple(make(text) for text in given)


def spread(given: Any) -> list[Any]:
    return [item for part in given for item in (part if isinstance(part, tuple) else (part,))]


@dataclass
class Result:
    types: tuple[TensorType, ...]
    values: list[Tensor]
    text: str
    check: FakeCheck


def rotated(names: tuple[str, ...], turn: int) -> tuple[str, ...]:
    places = turn % max(len(names), 1)
    return names[places:] + names[:places]


def run_text(code: FakeCode, operands: Sequence[Operand], local: dict[str, Any]) -> list[Tensor]:
    """What the emitted text computes, each result in the order of its type."""
    merged = [y.merged(code) for y in operands]
    space = namespace(code.helpers)
    space.update(local)
    for line in code.lines:
        exec(line, space)
    values = []
    for operand in merged:
        value = eval(operand.text, space)
        assert value.ndim == len(operand.order), (operand, tuple(value.shape))
        values.append(value.permute([operand.order.index(name) for name in operand.type.names]))
    return values


def agree(op: Op, *given: Given, sizes: dict[str, int] | None = None, data: list[Tensor] | None = None,
          turns: Sequence[int] = (0, 1, 2), symbolic: bool = True) -> Result:  # fmt: skip
    """Holds the emitted text to the meaning, and both to the types, for several layouts of the operands."""
    torch.manual_seed(0)
    sizes = {**SIZES, **(sizes or {})}
    types = [each(text, typed) for text in given]
    if not symbolic:
        types = [each(t, lambda t: t.resized(**{a.name: a.size.evaluate(sizes) for a in t.axes})) if isinstance(t, TensorType)
                 else tuple(u.resized(**{a.name: a.size.evaluate(sizes) for a in u.axes}) for u in t) for t in types]  # fmt: skip
    check = FakeCheck()
    results = op.infer(check, *types)
    flat = spread(types)
    tensors = data or [numbers(type, sizes) for type in flat]
    tensors = [t.requires_grad_() if t.is_floating_point() else t for t in tensors]
    run = Run(torch, {}, sizes)
    named = iter(Named(tensor, type.names, type) for tensor, type in zip(tensors, flat, strict=True))
    operands = [tuple(next(named) for _ in t) if isinstance(t, tuple) else next(named) for t in types]
    meaning = [y.to(t.names) for y, t in zip(as_tuple(op.reference(run, *operands)), results, strict=True)]
    text = ""
    for turn in turns:
        code = Code(sizes=sizes)
        local, texts = {}, []
        for name, type, tensor in zip("abcdefg", flat, tensors, strict=False):
            order = rotated(type.names, turn)
            local[name] = tensor.permute([type.names.index(n) for n in order]).contiguous() if order else tensor
            texts.append(Operand(name, type, order))
        queue = iter(texts)
        args = [[next(queue) for _ in t] if isinstance(t, tuple) else next(queue) for t in types]
        written = as_tuple(op.torch(code, *args))
        got = run_text(code, written, local)
        shown = "; ".join((*code.lines, *(y.text for y in written)))
        text = text or shown
        for type, operand, meant, value in zip(results, written, meaning, got, strict=True):
            shape = tuple(axis.size.evaluate(sizes) for axis in type.axes)
            assert operand.type.names == type.names and operand.type.dtype == type.dtype, (operand.type, type)
            assert tuple(meant.shape) == shape, (type, meant.shape)
            assert tuple(value.shape) == shape, (type, value.shape, shown)
            kind = {"float": torch.float64, "int": torch.int64, "bool": torch.bool}[type.dtype]
            assert meant.dtype == kind and value.dtype == kind, (meant.dtype, value.dtype, type, shown)
            torch.testing.assert_close(value, meant, rtol=1e-8, atol=1e-8, msg=lambda m, t=shown: f"{t}\n{m}")
    return Result(results, meaning, text, check)


def named_number(name: str, value: int) -> Scalar:
    """A parameter of a component."""
    return Scalar(value, Var(name))


def symbol(name: str) -> Scalar:
    """A size that depends on the input."""
    return Scalar(Size.symbol(name), Const(0))


__all__ = ["HELPERS", "agree", "math", "named_number", "symbol"]
