"""The operators of the language on tensors, with broadcasting by name.

One side's axes lie within the other's, shared axes have equal sizes, and the result has the order of the side
with more axes. Axes of size 1 never stretch, so an outer product is never made by accident.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log, log2
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import AND, ATOM, COMPARE, OR, POWER, PRODUCT, SUM, UNARY, Operand
from archc.deploy.roles import Affine, Role, Total
from archc.deploy.terms import ONE, ZERO, Number, Side, Term
from archc.ir.sym import Const, Scalar
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, Op, OpError, arg
from archc.ops.broadcast import broadcast, dtype_of
from archc.ops.checks import numeric, result_type, shown
from archc.ops.emission import binding_of, meet
from archc.records import dataclass

if TYPE_CHECKING:
    from archc.reference.named import Named, Run

Meaning = Callable[[Any, Any], Any]

# The derivatives by the left and by the right side, as Triton expressions of the sides and the result.
_SLOPES = {"+": ("1.0", "1.0"), "-": ("1.0", "-1.0"), "*": ("{b}", "{a}"), "/": ("1.0 / {b}", "-{y} / {b}")}
_SLOPES |= {symbol: ("", "") for symbol in ("<", "<=", ">", ">=", "==", "!=", "and", "or")}  # truth values have none


# `x` to some powers, and the derivatives.
_POWERS: dict[float | None, tuple[str, str]] = {
    -2.0: ("1.0 / ({x} * {x})", "-2.0 * {y} / {x}"), -1.0: ("1.0 / {x}", "-{y} * {y}"),
    -0.5: ("tl.rsqrt({x})", "-0.5 * {y} / {x}"), 0.5: ("tl.sqrt({x})", "0.5 / {y}"), 1.0: ("{x}", "1.0"),
    2.0: ("{x} * {x}", "2.0 * {x}"), 3.0: ("{x} * {x} * {x}", "3.0 * {x} * {x}"),
    4.0: ("{x} * {x} * ({x} * {x})", "4.0 * {x} * {x} * {x}"),
}  # fmt: skip


def real_number(side: Scalar) -> bool:
    """Whether a compile-time value is a number that kernels take."""
    return isinstance(side.value, (int, float)) and not isinstance(side.value, bool)


@dataclass(frozen=True)
class Binary(Op):
    """An operator on two sides; a number may stand in place of either. FLOPs: one per element of the result.

    `left` or `right` holds the number, and the tensors fill the sides that are left, in order.
    """

    operands: ClassVar[str] = "left right"
    called: ClassVar[bool] = False
    symbol: ClassVar[str]
    binding: ClassVar[int] = ATOM
    meaning: ClassVar[Meaning]
    left: Any = arg("any", None)
    right: Any = arg("any", None)

    def result_dtype(self, left: str, right: str) -> str | None:
        """The element type of the result, None where the operator does not take these."""
        if "bool" in (left, right):
            return None
        return "float" if "float" in (left, right) else "int"

    def refusal(self, dtypes: tuple[str, str]) -> tuple[str, str]:
        """What the operator works on, and what helps: `left` and `right` stand for what is written there."""
        truth, other = ("left", "right") if dtypes[0] == "bool" else ("right", "left")
        if dtypes[0] == dtypes[1]:
            return "numbers", "`cast(left, int)` makes numbers of truth values; they are joined by `and` and `or`"
        return (
            "numbers",
            f"write `where({truth}, {other}, 0)` to choose, or make numbers of it: `cast({truth}, {dtypes[other == 'right']})`",
        )

    def sides(self, xs: Sequence[Any]) -> tuple[Any, Any]:
        """Left and right, each a number or one of `xs`."""
        rest = iter(xs)
        return tuple(side if side is not None else next(rest) for side in (self.left, self.right))  # pyright: ignore

    def infer(self, check: Check, *xs: TensorType) -> tuple[TensorType, ...]:
        if len(xs) + (self.left is not None) + (self.right is not None) != 2:
            raise OpError(f"`{self.symbol}` takes two sides", "E0213")
        a, b = self.sides(xs)
        dtypes = dtype_of(a), dtype_of(b)
        dtype = self.result_dtype(*dtypes)
        if dtype is None:
            works, cure = self.refusal(dtypes)
            texts = [shown(side) if isinstance(side, Scalar) else str(side) for side in (a, b)]
            raise OpError(
                f"`{self.symbol}` works on {works}, and its sides are {texts[0]} and {texts[1]}",
                "E0305",
                help=cure,
            )
        if len(xs) == 1:
            return (replace(xs[0], dtype=dtype),)
        return (TensorType(dtype, broadcast(check, a, b, self.symbol)),)

    def saved(self, *xs: TensorType) -> str:
        match self.symbol:
            case "*":
                return "left:right right:left" if len(xs) == 2 else ""
            case "/" if self.right is not None:
                return ""
            case "/" if len(xs) == 2:
                return "left:right right"
            case "%" if len(xs) == 2:
                return "left:right right:right"
            case "**" if self.right is None:
                return "operands result"
            case "+" | "-" | "//" | "%":
                return ""
        return self.saves

    # ---- folding

    def channels(self, xs: Sequence[TensorType], constant: Sequence[bool]) -> Role | None:
        if len(xs) == 2 and not any(constant):
            return Total((1, 1 if self.symbol == "+" else -1)) if self.symbol in "+-" else None
        varying = [place for place in range(len(xs)) if not constant[place]]
        if len(varying) != 1 or self.symbol not in ("+", "-", "*", "/"):
            return None
        (place,) = varying
        other = 1 - place if len(xs) == 2 else None
        axes = () if other is None else xs[other].names
        number = next((side.value for side in (self.left, self.right) if side is not None), None)
        if len(axes) > 1 or (axes and axes[0] not in xs[place]) or (other is None and not isinstance(number, (int, float))):
            return None
        side: Term = Side(other) if other is not None else Number(number)  # type: ignore[arg-type]
        first = self.left is None and place == 0  # the varying operand stands left
        axis = axes[0] if axes else None
        match self.symbol:
            case "+":
                return Affine(place, axis, ONE, side)
            case "-":
                return Affine(place, axis, ONE, ZERO - side) if first else Affine(place, axis, Number(-1), side)
            case "*":
                return Affine(place, axis, side)
            case _:
                return Affine(place, axis, ONE / side) if first and number != 0 else None

    # ---- kernels

    @property
    def follows(self) -> bool:
        return self.symbol in _SLOPES and all(map(real_number, self.numbers))

    @property
    def numbers(self) -> tuple[Scalar, ...]:
        return tuple(side for side in (self.left, self.right) if side is not None)

    def tile(self, *sides: str) -> str:
        return f"{sides[0]} { {'and': '&', 'or': '|'}.get(self.symbol, self.symbol)} {sides[1]}"

    def sinks(self, at: int) -> bool:
        other = (self.right, self.left)[at]
        positive = other is not None and isinstance(other.value, (int, float)) and 0 < other.value < float("inf")
        return self.symbol == "+" or (self.symbol == "-" and at == 0) or (self.symbol in "*/" and at == 0 and positive) or (
            self.symbol == "*" and positive
        )

    def slopes(self, *sides: str, result: str) -> tuple[str, ...]:
        a, b = sides
        return tuple(slope.format(a=a, b=b, y=result) for slope in _SLOPES[self.symbol])

    def write(self, left: Operand, right: Operand) -> str:
        """The expression of two aligned sides."""
        return f"{left.inside(self.binding)} {self.symbol} {right.inside(self.binding + 1)}"

    def written(self, left: Operand, right: Operand, dtype: str) -> tuple[str, int]:
        """The expression for a result of an element type, and how tightly it binds."""
        return self.write(left, right), self.binding

    def torch(self, code: Code, *xs: Operand) -> Operand:
        met = meet(code, xs)
        a, b = self.sides(met)

        def side(given: Scalar | Operand) -> Operand:
            if isinstance(given, Operand):
                return given
            text = code.number(given)
            return Operand(text, met[0].type, (), binding_of(text))

        result = result_type(self, *xs)
        text, binding = self.written(side(a), side(b), result.dtype)
        return Operand(text, result, met[0].order, binding, met[0].where)

    def reference(self, run: Run, *xs: Named) -> Named:
        tensors, names = run.align(*xs)
        numbers = [run.number(side) for side in (self.left, self.right) if side is not None]
        if any(isinstance(n, float) for n in numbers) or any(t.is_floating_point() for t in tensors):
            # Torch would make whole numbers with a real one float32.
            tensors = [tensor.to(run.torch.float64) for tensor in tensors]
        a, b = (run.number(side) if isinstance(side, Scalar) else side for side in self.sides(tensors))
        return run.named(self.value(run, a, b), names)

    def value(self, run: Run, a: Any, b: Any) -> Any:
        """The operator on two aligned sides."""
        return type(self).meaning(a, b)


@dataclass(frozen=True)
class Divide(Binary):
    """`a / b` on real numbers, broadcast by name."""

    name: ClassVar[str] = "divide"
    symbol: ClassVar[str] = "/"
    binding: ClassVar[int] = PRODUCT
    meaning: ClassVar[Meaning] = staticmethod(operator.truediv)
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W], y: [B, C=4] -> x / (y + 3)",
        "x: [B, N, C=4] -> 2 / (x + 9)",
    )

    def result_dtype(self, left: str, right: str) -> str | None:
        return "float" if "float" in (left, right) and "bool" not in (left, right) else None

    def refusal(self, dtypes: tuple[str, str]) -> tuple[str, str]:
        if "bool" in dtypes:
            return super().refusal(dtypes)
        return "real numbers", "write `//` for whole numbers, or `cast(x, float)` first"


def quotient(torch: Any, a: Any, b: Any) -> Any:
    """a / b rounded down."""
    real = any(torch.is_tensor(side) and side.is_floating_point() for side in (a, b))
    return torch.floor(a / b) if real else a // b


@dataclass(frozen=True)
class WholeDivision(Binary):
    """`//` and `%`: the quotient rounds down, the remainder has the sign of the divisor."""

    binding: ClassVar[int] = PRODUCT

    def written(self, left: Operand, right: Operand, dtype: str) -> tuple[str, int]:
        if self.symbol == "//" and dtype == "float":
            # Torch's `//` has no gradient.
            return f"({left.inside(PRODUCT)} / {right.inside(PRODUCT + 1)}).floor()", ATOM
        return super().written(left, right, dtype)

    def value(self, run: Run, a: Any, b: Any) -> Any:
        whole = quotient(run.torch, a, b)
        return whole if self.symbol == "//" else a - whole * b

    def infer(self, check: Check, *xs: TensorType) -> tuple[TensorType, ...]:
        if self.right is not None and self.right.value == 0:
            raise OpError(f"`{self.symbol}` by zero", "E0213", argument="right")
        return super().infer(check, *xs)


@dataclass(frozen=True)
class Power(Binary):
    """`a ** b`, broadcast by name."""

    name: ClassVar[str] = "power"
    symbol: ClassVar[str] = "**"
    binding: ClassVar[int] = POWER
    meaning: ClassVar[Meaning] = staticmethod(operator.pow)
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> x ** 2",
        "x: [B, N, C=4] -> 2 ** -x",
        "x: [B, C=4] -> exp(x) ** x",
    )

    def infer(self, check: Check, *xs: TensorType) -> tuple[TensorType, ...]:
        power = None if self.right is None else self.right.value
        if isinstance(power, int) and power < 0 and xs and xs[0].dtype == "int":
            raise OpError(
                f"{xs[0]} holds whole numbers, and they have no power {power}",
                "E0305",
                argument="right",
                help="write `cast(x, float)` first",
            )
        return super().infer(check, *xs)

    @property
    def follows(self) -> bool:
        return self._power in _POWERS or self._base > 0

    @property
    def _power(self) -> float | None:
        """The exponent, where it is one number in every build."""
        right = self.right
        return float(right.value) if right is not None and isinstance(right.sym, Const) and real_number(right) else None

    @property
    def _base(self) -> float:
        """What is raised, where it is one number in every build, else 0."""
        left = self.left
        return float(left.value) if left is not None and isinstance(left.sym, Const) and real_number(left) else 0.0

    def tile(self, *sides: str) -> str:
        base, exponent = sides
        if self._power in _POWERS:
            return _POWERS[self._power][0].format(x=base)
        return f"tl.exp2({log2(self._base)!r} * {exponent})"

    def slopes(self, *sides: str, result: str) -> tuple[str, ...]:
        if self._power in _POWERS:
            return _POWERS[self._power][1].format(x=sides[0], y=result), ""
        return "", f"{log(self._base)!r} * {result}"

    def write(self, left: Operand, right: Operand) -> str:
        # The operator binds tighter than a sign on its left and looser than one on its right.
        base, exponent = left.inside(ATOM), right.inside(UNARY)
        simple = all(re.fullmatch(r"-?[\w.]+", text) for text in (base, exponent))
        return f"{base}**{exponent}" if simple else f"{base} ** {exponent}"


@dataclass(frozen=True)
class Comparison(Binary):
    """`==` and `!=` also compare truth values; the others take numbers."""

    saves: ClassVar[str] = ""
    binding: ClassVar[int] = COMPARE

    def result_dtype(self, left: str, right: str) -> str | None:
        both = left == right == "bool" and self.symbol in ("==", "!=")
        return "bool" if both or "bool" not in (left, right) else None

    def write(self, left: Operand, right: Operand) -> str:
        # Python chains comparisons, so none may stand bare within another.
        return f"{left.inside(COMPARE + 1)} {self.symbol} {right.inside(COMPARE + 1)}"


@dataclass(frozen=True)
class Logical(Binary):
    """What works on truth values."""

    saves: ClassVar[str] = ""

    def result_dtype(self, left: str, right: str) -> str | None:
        return "bool" if left == right == "bool" else None

    def refusal(self, dtypes: tuple[str, str]) -> tuple[str, str]:
        return "truth values", f"compare first: `{'left' if dtypes[0] != 'bool' else 'right'} > 0`"

    def write(self, left: Operand, right: Operand) -> str:
        symbol = "&" if self.symbol == "and" else "|"
        return f"{left.inside(self.binding)} {symbol} {right.inside(self.binding + 1)}"


@dataclass(frozen=True)
class Extremum(Binary):
    """The larger or smaller of two sides, by element. Its meaning tells when the left side is taken."""

    @property
    def follows(self) -> bool:
        return all(real_number(side) for side in self.numbers)

    def tile(self, *sides: str) -> str:
        return f"tl.{self.name}({', '.join(sides)})"

    def slopes(self, *sides: str, result: str) -> tuple[str, ...]:
        # Torch halves the gradient where both sides are equal; a bound lets it pass.
        a, b = sides
        sign = ">" if self.name == "maximum" else "<"
        if self.numbers:
            return f"tl.where({a} {sign}= {b}, 1.0, 0.0)", f"tl.where({b} {sign}= {a}, 1.0, 0.0)"
        half = f"tl.where({a} == {b}, 0.5, 0.0)"
        return f"tl.where({a} {sign} {b}, 1.0, {half})", f"tl.where({b} {sign} {a}, 1.0, {half})"

    def value(self, run: Run, a: Any, b: Any) -> Any:
        return run.torch.where(type(self).meaning(a, b), a, b)

    def write(self, left: Operand, right: Operand) -> str:
        return f"torch.{self.name}({left}, {right})"

    def torch(self, code: Code, *xs: Operand) -> Operand:
        number = self.right if self.left is None else self.left
        if number is None:
            return super().torch(code, *xs)
        bound = "min" if self.name == "maximum" else "max"
        text = f"{xs[0].atom}.clamp({bound}={code.number(number)})"
        return replace(xs[0], text=text, type=result_type(self, *xs), binding=ATOM)


def _row(base: type[Binary], name: str, symbol: str, binding: int, meaning: Meaning, *examples: str) -> type[Binary]:
    """The operation of one symbol of the language, or of a function of two sides."""
    body = {
        "__doc__": f"`a {symbol} b`, broadcast by name.", "__module__": __name__, "name": name,
        "symbol": symbol, "binding": binding, "meaning": staticmethod(meaning), "examples": examples,
    }  # fmt: skip
    return dataclass(frozen=True)(type(name.title().replace("_", ""), (base,), body))


_MAP, _PAIR = "x: [B, C=4, H, W]", "x: [B, C=4, H, W], y: [B, C=4]"
_ID, _IDS = "i: int[B, N]", "i: int[B, N], j: int[B, N]"

# fmt: off
Add = _row(Binary, "add", "+", SUM, operator.add, f"{_PAIR} -> x + y", f"{_MAP} -> 1 + x")
Subtract = _row(Binary, "subtract", "-", SUM, operator.sub, f"{_PAIR} -> y - x", f"{_MAP} -> 1 - x")
Multiply = _row(Binary, "multiply", "*", PRODUCT, operator.mul, f"{_PAIR} -> y * x", f"{_MAP} -> 0.5 * x")
FloorDivide = _row(WholeDivision, "floor_divide", "//", PRODUCT, operator.floordiv,
                   f"{_IDS} -> i // (j * j + 1)", f"{_MAP} -> x // 0.5")
Remainder = _row(WholeDivision, "remainder", "%", PRODUCT, lambda a, b: a - a // b * b,
                 f"{_IDS} -> i % (j * j + 1)", f"{_MAP} -> x % 0.5")
Equal = _row(Comparison, "equal", "==", COMPARE, operator.eq, f"{_IDS} -> i == j", f"{_ID} -> i == 2")
NotEqual = _row(Comparison, "not_equal", "!=", COMPARE, operator.ne, f"{_IDS} -> i != j", f"{_ID} -> 2 != i")
Less = _row(Comparison, "less", "<", COMPARE, operator.lt, f"{_PAIR} -> x < y", f"{_MAP} -> x < 0")
AtMost = _row(Comparison, "at_most", "<=", COMPARE, operator.le, f"{_PAIR} -> x <= y", f"{_IDS} -> i <= j")
Greater = _row(Comparison, "greater", ">", COMPARE, operator.gt, f"{_PAIR} -> x > y", f"{_IDS} -> i > j")
AtLeast = _row(Comparison, "at_least", ">=", COMPARE, operator.ge, f"{_PAIR} -> x >= y", f"{_IDS} -> i >= j")
Both = _row(Logical, "both", "and", AND, operator.and_, f"{_PAIR} -> (x > y) and (x < 1)")
Either = _row(Logical, "either", "or", OR, operator.or_, f"{_PAIR} -> (x > y) or (x < -1)")
Maximum = _row(Extremum, "maximum", "maximum", ATOM, operator.ge,
               f"{_PAIR} -> max(x, y)", f"{_MAP} -> max(x, 0.1)")
Minimum = _row(Extremum, "minimum", "minimum", ATOM, operator.le,
               f"{_PAIR} -> min(x, y)", f"{_MAP} -> min(x, 0.1)")
# fmt: on


@dataclass(frozen=True)
class Unary(Op):
    """A sign in front of a tensor. FLOPs: one per element."""

    saves: ClassVar[str] = ""
    called: ClassVar[bool] = False
    sign: ClassVar[str]
    slope: ClassVar[str]

    @property
    def follows(self) -> bool:
        return True

    def tile(self, *sides: str) -> str:
        return f"{self.sign}{sides[0]}"

    def slopes(self, *sides: str, result: str) -> tuple[str, ...]:
        return (self.slope,)

    def torch(self, code: Code, x: Operand) -> Operand:
        return replace(x, text=f"{self.sign}{x.inside(UNARY)}", binding=UNARY)


@dataclass(frozen=True)
class Negative(Unary):
    """`-x`."""

    name: ClassVar[str] = "negative"
    sign: ClassVar[str] = "-"
    slope: ClassVar[str] = "-1.0"
    examples: ClassVar[tuple[str, ...]] = ("x: [B, C=4, H, W] -> -x", "x: [B, C=4] -> -x ** 2")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        numeric(x, "`-`")
        return (x,)

    def reference(self, run: Run, x: Named) -> Named:
        return run.named(0 - x.data, x.names)


@dataclass(frozen=True)
class Not(Unary):
    """`not x`, element by element."""

    name: ClassVar[str] = "not"
    sign: ClassVar[str] = "~"
    slope: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = ("x: [B, C=4, H, W] -> not (x > 0)", "m: bool[B, N] -> not m")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        if x.dtype != "bool":
            raise OpError(
                f"`not` works on truth values, and its operand is {x}",
                "E0305",
                help="compare first: `not (x > 0)`",
            )
        return (x,)

    def reference(self, run: Run, x: Named) -> Named:
        return run.named(x.data.logical_not(), x.names)


# By symbol; `maximum` and `minimum` are what `max` and `min` of two sides stand for.
OPERATORS: dict[str, type[Op]] = {
    op.symbol: op
    for op in (Add, Subtract, Multiply, Divide, FloorDivide, Remainder, Power,
               Equal, NotEqual, Less, AtMost, Greater, AtLeast, Both, Either, Maximum, Minimum)
}  # fmt: skip
NEGATIVE, NOT = Negative, Not
