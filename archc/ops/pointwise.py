"""One number in, one number out: a table of functions, and the three that take arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.deploy.roles import Affine
from archc.ir.sym import Const, Scalar
from archc.ir.types import TensorType
from archc.ops.base import ZERO, Check, Code, Op, OpError, arg
from archc.ops.checks import choice, floating, numeric, optional, real, shown
from archc.ops.emission import call, options
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run

Meaning = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Pointwise(Op):
    """A function of each element. FLOPs: one per element."""

    real: ClassVar[bool] = True  # works on real numbers only, else also on whole ones
    tiled: ClassVar[str] = ""  # the Triton text of `x`, and of the derivative, which may read the result `y` too
    slope: ClassVar[str] = ""

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        (floating if self.real else numeric)(x, f"`{self.name}`")
        return (x,)

    def text(self, code: Code, x: Operand) -> str:
        """A call or an attribute of `x`."""
        raise NotImplementedError

    def torch(self, code: Code, x: Operand) -> Operand:
        return replace(x, text=self.text(code, x), binding=ATOM)

    @property
    def follows(self) -> bool:
        return bool(self.tiled)

    def tile(self, *sides: str) -> str:
        return self.tiled.format(x=sides[0])

    def slopes(self, *sides: str, result: str) -> tuple[str, ...]:
        return (self.slope.format(x=sides[0], y=result),)

    def value(self, run: Run, data: Any) -> Any:
        """The function on a tensor."""
        raise NotImplementedError

    def reference(self, run: Run, x: Named) -> Named:
        return run.named(self.value(run, x.data), x.names)


def _row(
    name: str, pattern: str, meaning: Meaning, saves: str, tile: str = "", slope: str = "", whole: bool = False
) -> type[Pointwise]:  # fmt: skip
    """The operation of one line of the table below."""

    def text(self: Pointwise, code: Code, x: Operand) -> str:
        return pattern.format(x=x.atom if pattern.startswith("{x}") else x.text)

    def value(self: Pointwise, run: Run, data: Any) -> Any:
        return meaning(run.torch, data)

    body = {
        "__doc__": f"`{name}` of each element. FLOPs: one per element.", "__module__": __name__,
        "name": name, "tiled": tile, "slope": slope, "real": not whole, "saves": saves, "text": text, "value": value,
        "examples": (f"x: [B, C=4, H, W] -> {name}({'abs(x)' if name in ('log', 'sqrt') else 'x'})",),
    }  # fmt: skip
    return dataclass(frozen=True)(type(name.title(), (Pointwise,), body))


# Name, PyTorch text of `x`, meaning, what the backward pass reads; whether it takes whole numbers too.
# A meaning has no overflow on the way: an infinity would make its gradients NaN. Kernels take what is continuous: where
# a function jumps, a rounding of the last bit upstream is a difference of a whole.
# fmt: off
Abs = _row("abs", "{x}.abs()", lambda torch, x: torch.where(x < 0, -x, x), "x",
           "tl.abs({x})", "tl.where({x} > 0, 1.0, tl.where({x} < 0, -1.0, 0.0))", whole=True)
Sign = _row("sign", "{x}.sign()", lambda torch, x: (x > 0).to(x.dtype) - (x < 0).to(x.dtype), "", whole=True)
Floor = _row("floor", "{x}.floor()", lambda torch, x: torch.floor(x), "")
Round = _row("round", "{x}.round()", lambda torch, x: torch.round(x), "")
Exp = _row("exp", "{x}.exp()", lambda torch, x: torch.pow(math.e, x), "result",
           "tl.exp({x})", "{y}")
Log = _row("log", "{x}.log()", lambda torch, x: torch.log2(x) * math.log(2), "x",
           "tl.log({x})", "1.0 / {x}")
Sqrt = _row("sqrt", "{x}.sqrt()", lambda torch, x: x**0.5, "result",
            "tl.sqrt({x})", "0.5 / {y}")
Sin = _row("sin", "{x}.sin()", lambda torch, x: x * torch.sinc(x / math.pi), "x",
           "tl.sin({x})", "tl.cos({x})")
Cos = _row("cos", "{x}.cos()", lambda torch, x: torch.sin(x + math.pi / 2), "x",
           "tl.cos({x})", "-tl.sin({x})")
Erf = _row("erf", "{x}.erf()", lambda torch, x: 1 - torch.special.erfc(x), "x",
           "tl.erf({x})", f"{2 / math.sqrt(math.pi)} * tl.exp(-{{x}} * {{x}})")
Tanh = _row("tanh", "torch.tanh({x})", lambda torch, x: 2 * torch.sigmoid(2 * x) - 1, "result",
            "tanh({x})", "1.0 - {y} * {y}")
Sigmoid = _row("sigmoid", "torch.sigmoid({x})", lambda torch, x: (1 + torch.tanh(x / 2)) / 2, "result",
               "tl.sigmoid({x})", "{y} * (1.0 - {y})")
Relu = _row("relu", "F.relu({x})", lambda torch, x: torch.where(x < 0, 0, x), "result",
            "tl.maximum({x}, 0.0)", "tl.where({x} > 0, 1.0, 0.0)", whole=True)
Silu = _row("silu", "F.silu({x})", lambda torch, x: x * (1 + torch.tanh(x / 2)) / 2, "x",
            "{x} * tl.sigmoid({x})", "tl.sigmoid({x}) * (1.0 + {x} * (1.0 - tl.sigmoid({x})))")
Softplus = _row("softplus", "F.softplus({x})", lambda torch, x: torch.logaddexp(x, torch.zeros_like(x)), "x",
                "softplus({x})", "tl.sigmoid({x})")
# fmt: on


@dataclass(frozen=True)
class Gelu(Pointwise):
    """x Phi(x) with Phi the normal distribution (arXiv:1606.08415), or its approximation by tanh."""

    name: ClassVar[str] = "gelu"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> gelu(x)",
        'x: [B, N=3, C=4] -> gelu(x, "tanh")',
    )
    approximate: Any = arg("str", "none")

    @property
    def follows(self) -> bool:
        return isinstance(self.approximate.sym, Const)

    def tile(self, *sides: str) -> str:
        return f"{self._function}({sides[0]})"

    def slopes(self, *sides: str, result: str) -> tuple[str, ...]:
        return (f"{self._function}_slope({sides[0]})",)

    @property
    def _function(self) -> str:
        return "gelu" if self.approximate.value == "none" else "gelu_tanh"

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        choice(self.approximate, "approximate", ("none", "tanh"))
        return super().infer(check, x)

    def text(self, code: Code, x: Operand) -> str:
        return call("F.gelu", x.text, options(code, ("approximate", self.approximate, "none")))

    def value(self, run: Run, data: Any) -> Any:
        if self.approximate.value == "none":
            return data * (1 + run.torch.special.erf(data / math.sqrt(2))) / 2
        inner = math.sqrt(2 / math.pi) * (data + 0.044715 * data * data * data)
        return data * (1 + run.torch.tanh(inner)) / 2


@dataclass(frozen=True)
class Clamp(Pointwise):
    """Each element, but at least `min` and at most `max`; one of them may be left out."""

    name: ClassVar[str] = "clamp"
    real: ClassVar[bool] = False
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4] -> clamp(x, -0.5, 0.5)",
        "x: [B, C=4] -> clamp(x, max=0.25)",
        "i: int[B, N] -> clamp(i, 0, i.N - 1)",
    )
    min: Any = arg("any", None)
    max: Any = arg("any", None)

    def _bounds(self) -> list[tuple[str, Scalar]]:
        """The bounds that are given."""
        both = [(name, optional(bound, name)) for name, bound in (("min", self.min), ("max", self.max))]
        return [(name, bound) for name, bound in both if bound is not None]

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        given = self._bounds()
        if not given:
            raise OpError(
                "`clamp` needs `min`, `max` or both",
                "E0213",
                help="write `clamp(x, 0, 1)` or `clamp(x, min=0)`",
            )
        for name, bound in given:
            if not isinstance(bound.value, Size):
                real(bound, name)
            if x.dtype == "int" and isinstance(bound.value, float):
                raise OpError(
                    f"{x} holds whole numbers, and `{name}` is {shown(bound)}",
                    "E0305",
                    argument=name,
                    help="clamp to whole numbers, or write `cast(x, float)` first",
                )
        numbers = [bound.value for _, bound in given if isinstance(bound.value, (int, float))]
        if len(numbers) == 2 and numbers[0] > numbers[1]:
            raise OpError(
                f"`min` is {numbers[0]} and `max` is {numbers[1]}, so nothing lies between",
                "E0213",
                argument="min",
            )
        return super().infer(check, x)

    @property
    def follows(self) -> bool:
        return all(isinstance(bound.value, (int, float)) for bound in self.numbers)

    @property
    def numbers(self) -> tuple[Scalar, ...]:
        return tuple(bound for _, bound in self._bounds())

    def sides(self, xs: Sequence[Any]) -> Sequence[Any]:
        return (*xs, *self.numbers)

    def tile(self, *sides: str) -> str:
        text, *bounds = sides
        for (name, _), bound in zip(self._bounds(), bounds, strict=True):
            text = f"tl.{'maximum' if name == 'min' else 'minimum'}({text}, {bound})"
        return text

    def slopes(self, *sides: str, result: str) -> tuple[str, ...]:
        x, *bounds = sides
        tests = [
            f"({x} {'>=' if name == 'min' else '<='} {bound})"
            for (name, _), bound in zip(self._bounds(), bounds, strict=True)
        ]
        return f"tl.where({' & '.join(tests)}, 1.0, 0.0)", *("" for _ in bounds)

    def text(self, code: Code, x: Operand) -> str:
        rows = [(name, code.number(bound)) for name, bound in self._bounds()]
        parts = [text for _, text in rows] if len(rows) == 2 else [f"{name}={text}" for name, text in rows]
        return call(f"{x.atom}.clamp", parts)

    def value(self, run: Run, data: Any) -> Any:
        for name, bound in self._bounds():
            limit = run.number(bound)
            outside = data < limit if name == "min" else data > limit
            data = run.torch.where(outside, run.torch.full_like(data, limit), data)
        return data


@dataclass(frozen=True)
class Identity(Pointwise):
    """The operand itself: what `norm: recipe = identity` switches off. FLOPs: none."""

    name: ClassVar[str] = "identity"
    saves: ClassVar[str] = ""
    tiled: ClassVar[str] = "{x}"
    slope: ClassVar[str] = "1.0"
    examples: ClassVar[tuple[str, ...]] = ("x: [B, C=4, H, W] -> identity(x)",)

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        return (x,)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ZERO

    def is_view(self, x: TensorType) -> bool:
        return True

    def channels(self, xs: Sequence[TensorType], constant: Sequence[bool]) -> Affine:
        return Affine(0, None)

    def torch(self, code: Code, x: Operand) -> Operand:
        return x

    def reference(self, run: Run, x: Named) -> Named:
        return x
