"""Operations without a compiler around them: types from text, emitted text that runs, the meaning beside."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archc.backend.operand import Operand
from archc.ir.sym import Scalar, const, evaluate
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Op, OpError, parameters
from archc.reference.named import Named, Run
from archc.sizes import Size

HELPERS = Path(__file__).parents[2] / "codegen" / "helpers"
SIZES = {"B": 2, "N": 7, "M": 5, "T": 4, "H": 6, "W": 9}


def typed(text: str) -> TensorType:
    """`int[B, C=4, H]` as a type; a name without a size is a symbol."""
    dtype, inner = re.fullmatch(r"(\w*)\[(.*)\]", text).groups()
    axes = []
    for part in filter(None, inner.split(", ")):
        name, _, size = part.partition("=")
        axes.append(Axis(name, Dim.of(int(size)) if size else Dim.of(Size.symbol(name))))
    return TensorType(dtype or "float", tuple(axes))


def made(op: type[Op], **given: Any) -> Op:
    """The operation with its arguments as the elaborator gives them: numbers as Scalars, axes as names."""
    kinds = {p.name: p.kind for p in parameters(op)}
    fields = {}
    for name, value in given.items():
        if kinds[name] in ("axis", "axes") or isinstance(value, Scalar) or value is None:
            fields[name] = value
        elif kinds[name] == "sizes":
            fields[name] = {k: v if isinstance(v, Scalar) else const(v) for k, v in value.items()}
        else:
            fields[name] = const(value)
    return op(**fields)


@dataclass
class FakeCheck:
    """Collects the obligations; what constants refute is refused at once."""

    stated: list[tuple[str, Size, Size, str]] = field(default_factory=list)

    def _state(self, kind: str, left: Size, right: Size, code: str, holds: Any) -> None:
        if (
            left.constant is not None
            and right.constant is not None
            and not holds(left.constant, right.constant)
        ):
            raise OpError(f"{kind} {left} {right}", code)
        self.stated.append((kind, left, right, code))

    def equal(self, left: Size, right: Size, why: str, code: str = "E0331") -> None:
        self._state("equal", left, right, code, lambda a, b: a == b)

    def divides(self, divisor: Size, size: Size, why: str, code: str = "E0312") -> None:
        self._state("divides", size, divisor, code, lambda a, b: a % b == 0)

    def at_least(self, size: Size, least: Size | int, why: str, code: str = "E0333") -> None:
        self._state("at_least", size, Size.of(least), code, lambda a, b: a >= b)

    def refuse(self, error: OpError) -> None:
        raise error


@dataclass
class FakeCode:
    """The file being written: a list of statements."""

    functional: bool = False
    sizes: dict[str, int] = field(default_factory=lambda: dict(SIZES))
    helpers: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    child: str = "self.op"

    def weight(self, name: str) -> str:
        return f"self.{name}" if self.functional else f"self.op.{name}"

    def number(self, value: Any) -> str:
        if isinstance(value, Dim):
            value = value.size
        if isinstance(value, Scalar):
            value = value.value
        if isinstance(value, Size):
            value = value.evaluate(self.sizes)
        return repr(value) if isinstance(value, (int, float, str, bool)) else repr(evaluate(value, {}))

    def extent(self, x: Operand, axis: str) -> str:
        return f"{x}.shape[{x.at(axis)}]"

    def helper(self, name: str) -> str:
        if name not in self.helpers:
            self.helpers.append(name)
        return name

    def let(self, text: str, hint: str) -> str:
        name = f"{hint}_{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return name


def numbers(type: TensorType, sizes: dict[str, int]) -> Tensor:
    """Random data of a type."""
    shape = [axis.size.evaluate(sizes) for axis in type.axes]
    if type.dtype == "float":
        return torch.randn(shape, dtype=torch.float64)
    return torch.randint(-4, 5, shape) if type.dtype == "int" else torch.rand(shape) < 0.5


def namespace(helpers: list[str]) -> dict[str, Any]:
    space: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "Tensor": Tensor, "math": math}
    for name in helpers:
        exec((HELPERS / f"{name}.py").read_text(), space)
    return space


@dataclass
class Trial:
    """One application: the result types, the meaning, and what the emitted text computes."""

    types: tuple[TensorType, ...]
    meaning: list[Tensor]
    emitted: list[Tensor]
    text: str
    constructor: str | None


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def trial(op: Op, *texts: str, sizes: dict[str, int] | None = None, functional: bool = False, turn: int = 0,
          data: list[Tensor] | None = None) -> Trial:  # fmt: skip
    """Applies `op` to random operands whose axes lie rotated by `turn` places in memory."""
    sizes = {**SIZES, **(sizes or {})}
    types = [typed(text) for text in texts]
    results = op.infer(FakeCheck(), *types)
    tensors = data or [numbers(type, sizes) for type in types]
    owned = op.weights(*types)
    weights: dict[str, Tensor] = {}
    for weight in owned:
        value = torch.randn(weight.shape, dtype=torch.float64)
        weights[weight.name] = value.abs() + 0.5 if weight.name == "running_var" else value
    run = Run(torch, weights, sizes)
    named = [Named(tensor, type.names, type) for tensor, type in zip(tensors, types, strict=True)]
    meaning = [y.to(t.names) for y, t in zip(as_tuple(op.reference(run, *named)), results, strict=True)]

    code = FakeCode(functional=functional, sizes=sizes)
    operands, local = [], {}
    for name, type, tensor in zip("abc", types, tensors, strict=False):
        places = list(range(len(type.axes)))
        places = places[turn % max(len(places), 1) :] + places[: turn % max(len(places), 1)]
        order = tuple(type.names[place] for place in places)
        local[name] = tensor.permute(places).contiguous() if places else tensor
        operands.append(Operand(name, type, order))
    constructor = op.module(code, *types)
    written = as_tuple(op.torch(code, *operands))
    space = namespace(code.helpers)
    owner = SimpleNamespace(training=False, **weights)
    if constructor is not None and not functional:
        owner.op = eval(constructor, space).to(torch.float64).eval()
        state = owner.op.state_dict()
        assert list(state) == [weight.name for weight in owned], (list(state), owned)
        assert [tuple(v.shape) for v in state.values()] == [weight.shape for weight in owned]
        owner.op.load_state_dict({k: v.to(state[k].dtype) for k, v in weights.items()})
    space.update(local, self=owner)
    for line in code.lines:
        exec(line, space)
    emitted = []
    for operand, type in zip(written, results, strict=True):
        assert operand.type.names == type.names, (operand.type, type)
        assert operand.type.dtype == type.dtype
        value = eval(operand.text, space)
        assert value.ndim == len(operand.order), (operand, value.shape)
        emitted.append(value.permute([operand.order.index(name) for name in type.names]))
    text = "; ".join((*code.lines, *(operand.text for operand in written)))
    return Trial(results, meaning, emitted, text, constructor)


def agree(
    op: Op, *texts: str, sizes: dict[str, int] | None = None, data: list[Tensor] | None = None
) -> Trial:
    """Holds the emitted text (with and without a module, in several layouts) to the meaning and the types."""
    torch.manual_seed(0)
    first = None
    for functional in (False, True):
        for turn in (0, 1, 2):
            result = trial(op, *texts, sizes=sizes, functional=functional, turn=turn, data=data)
            first = first or result
            for type, meant, got in zip(result.types, result.meaning, result.emitted, strict=True):
                shape = tuple(axis.size.evaluate({**SIZES, **(sizes or {})}) for axis in type.axes)
                assert tuple(meant.shape) == shape, (type, meant.shape, result.text)
                assert tuple(got.shape) == shape, (type, got.shape, result.text)
                kind = {"float": torch.float64, "int": torch.int64, "bool": torch.bool}[type.dtype]
                assert meant.dtype == kind, (meant.dtype, type)
                assert (got.dtype.is_floating_point and type.dtype == "float") or got.dtype == kind, (
                    result.text
                )
                torch.testing.assert_close(
                    got.to(kind), meant, rtol=1e-7, atol=1e-7, msg=lambda m, t=result.text: f"{t}\n{m}"
                )
    return first


def refused(code: str, op: Op, *texts: str) -> OpError:
    """The refusal, with the code expected."""
    try:
        op.infer(FakeCheck(), *(typed(text) for text in texts))
    except OpError as error:
        assert error.code == code, (error.code, error.message)
        assert error.message
        return error
    raise AssertionError(f"{op} took {texts}")
