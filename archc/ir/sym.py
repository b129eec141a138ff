"""Where a compile-time number came from: its value in this build beside the expression that makes it.

A spec is elaborated with the numbers of one variant, but the module that is written keeps the author's
parameters (`num_classes`, `depths`, `img_size`): every number therefore carries the expression, over the
parameters of the component it stands in, that recomputes it. `evaluate(sym, bindings)` gives the value back,
which is how the two are held together in tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Any

from archc.records import dataclass
from archc.sizes import Size


@dataclass(frozen=True)
class Const:
    """A number, string, truth value or none that is the same in every build."""

    value: int | float | bool | str | None


@dataclass(frozen=True)
class Var:
    """A parameter, an axis size of the signature, a loop variable, or (with `definition`) a name the author gave."""

    name: str
    definition: Sym | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Extent:
    """The size that axis number `axis` of graph value `value` has when the module runs."""

    value: int
    axis: int


@dataclass(frozen=True)
class Apply:
    """An operator or compile-time function on expressions; the names are the keys of `MEANING`, or `fn` itself."""

    op: str
    args: tuple[Sym, ...]
    fn: FnDef | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Comprehension:
    expr: Sym
    targets: tuple[str, ...]
    iterable: Sym


Sym = Const | Var | Extent | Apply | Comprehension


@dataclass(frozen=True)
class FnDef:
    """A compile-time function of the spec, `fn name(parameters) = body`, as an expression over its parameters."""

    name: str
    parameters: tuple[str, ...]
    body: Sym


def linspace(start: float, stop: float, count: int) -> list[float]:
    """`count` numbers from `start` to `stop`, both included; for one number, `start`."""
    return [start + (stop - start) * i / (count - 1) if count > 1 else start for i in range(count)]


def pair(value: Any) -> list[Any]:
    """One number for both axes, or one per axis, as a list of two."""
    return list(value) if isinstance(value, (list, tuple)) else [value, value]


def _power(a: float, b: float) -> float:
    if isinstance(a, int) and isinstance(b, int) and b >= 0 and a.bit_length() * b > 4096:
        raise OverflowError("the number is too large")
    return a**b


MEANING: dict[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": _power,
    "neg": lambda a: -a,
    "not": lambda a: not a,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "list": lambda *items: list(items),
    "index": lambda xs, i: xs[i],
    "slice": lambda xs, a, b: xs[a:b],
    "len": len,
    "sum": sum,
    "min": lambda *xs: min(*xs),
    "max": lambda *xs: max(*xs),
    "range": lambda *xs: list(range(*xs)),
    "enumerate": lambda xs: [list(x) for x in enumerate(xs)],
    "zip": lambda *xs: [list(x) for x in zip(*xs, strict=True)],
    "reversed": lambda xs: list(reversed(xs)),
    "linspace": linspace,
    "pair": pair,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "log2": math.log2,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": round,
    "abs": abs,
    "int": int,
    "float": float,
}


# What `apply` computes at once where its arguments are constants: nothing that makes lists.
FOLDED = frozenset(MEANING) - {"list", "range", "enumerate", "zip", "reversed", "linspace", "pair"}


def evaluate(sym: Sym, bindings: Mapping[str, Any], extents: Callable[[int, int], int] | None = None) -> Any:
    """The value of `sym` where its variables hold `bindings`.

    Raises KeyError for a variable without a binding, and whatever the arithmetic itself raises.
    """
    match sym:
        case Const(value):
            return value
        case Var(name, definition):
            if name in bindings:
                return bindings[name]
            if definition is None:
                raise KeyError(name)
            return evaluate(definition, bindings, extents)
        case Extent(value, axis):
            if extents is None:
                raise KeyError(f"extent {axis} of value {value}")
            return extents(value, axis)
        case Apply(op, args, fn):
            if op == "if":
                return evaluate(args[1] if evaluate(args[0], bindings, extents) else args[2], bindings, extents)
            if op in ("and", "or"):
                first = evaluate(args[0], bindings, extents)
                return first if bool(first) == (op == "or") else evaluate(args[1], bindings, extents)
            values = [evaluate(arg, bindings, extents) for arg in args]
            if fn is not None:
                return evaluate(fn.body, dict(zip(fn.parameters, values, strict=True)))
            return MEANING[op](*values)
        case Comprehension(expr, targets, iterable):
            return [
                evaluate(
                    expr, {**bindings, **dict(zip(targets, item if len(targets) > 1 else [item], strict=True))}, extents
                )
                for item in evaluate(iterable, bindings, extents)
            ]


def walk(sym: Sym) -> Iterator[Sym]:
    """`sym` and every expression inside it; definitions of named values are not entered."""
    yield sym
    match sym:
        case Apply(_, args):
            for arg in args:
                yield from walk(arg)
        case Comprehension(expr, targets, iterable):
            yield from (inner for inner in walk(expr) if not (isinstance(inner, Var) and inner.name in targets))
            yield from walk(iterable)
        case _:
            pass


def variables(sym: Sym) -> dict[str, Var]:
    """The variables `sym` reads, by name, in order of appearance."""
    return {inner.name: inner for inner in walk(sym) if isinstance(inner, Var)}


def turns_of(keyword: str, over: Sym) -> Sym:
    """How often a loop over `over` runs."""
    if keyword in ("repeat", "loop"):
        return over
    whole = isinstance(over, Apply) and over.op in ("enumerate", "zip")
    return apply("len", over.args[0] if whole and isinstance(over, Apply) else over)


def apply(op: str, *args: Sym, fn: FnDef | None = None) -> Sym:
    """`op` on `args`, folded where every argument is a constant or the operator does nothing."""
    constants = [arg.value for arg in args if isinstance(arg, Const)]
    text = any(isinstance(value, str) for value in constants) and op not in ("==", "!=")
    if len(constants) == len(args) and fn is None and op in FOLDED and not text:
        try:
            value = MEANING[op](*constants)
        except (ArithmeticError, ValueError, TypeError):
            value = [None]
        if isinstance(value, (int, float, bool, str)):
            return Const(value)
    match op, args:
        case "+", (a, Const(0)) | (Const(0), a):
            return a
        case "-", (a, Const(0)):
            return a
        case "*" | "//" | "/", (a, Const(1)):
            return a
        case "*", (Const(1), a):
            return a
        case "*", (Const(0), _) | (_, Const(0)):
            return Const(0)
        case "//", (Apply("*", (a, b)), c) if b == c:
            return a
        case "//", (Apply("*", (a, b)), c) if a == c:
            return b
        case "+", (Apply("+", (a, Const(m))), Const(n)) if isinstance(m, int) and isinstance(n, int):
            return apply("+", a, Const(m + n))
        case "*", (Const(), a) if not isinstance(a, Const):
            pass
        case "if", (Const(truth), then, otherwise):
            return then if truth else otherwise
        case "if", (_, then, otherwise) if then == otherwise:
            return then
        case _:
            pass
    # Arithmetic on a choice between constants is a choice between constants: `3 if i == 0 else 1` reads
    # better than `((7 if i == 0 else 3) - 1) // 2`.
    if op in ("+", "-", "*", "//", "%"):
        for at, arg in enumerate(args):
            rest = args[:at] + args[at + 1 :]
            if isinstance(arg, Apply) and arg.op == "if" and all(isinstance(r, Const) for r in rest):
                condition, then, otherwise = arg.args
                return apply(
                    "if",
                    condition,
                    apply(op, *args[:at], then, *args[at + 1 :]),
                    apply(op, *args[:at], otherwise, *args[at + 1 :]),
                )
    return Apply(op, args, fn)


def substitute(sym: Sym, bindings: Mapping[str, Sym]) -> Sym:
    """`sym` with variables replaced."""
    match sym:
        case Var(name, definition):
            if name in bindings:
                return bindings[name]
            return sym if definition is None else Var(name, substitute(definition, bindings))
        case Apply(op, args, fn):
            return apply(op, *(substitute(arg, bindings) for arg in args), fn=fn)
        case Comprehension(expr, targets, iterable):
            inner = {name: value for name, value in bindings.items() if name not in targets}
            return Comprehension(substitute(expr, inner), targets, substitute(iterable, bindings))
        case _:
            return sym


@dataclass(frozen=True)
class Scalar:
    """A compile-time value of this build, and where it came from.

    `value` is an int, float, bool, str, None, a `Size` (a number that depends on the input sizes), or a tuple of Scalars.
    """

    value: Any
    sym: Sym

    def __repr__(self) -> str:
        return f"Scalar({self.value!r})"


def const(value: Any) -> Scalar:
    """A literal."""
    if isinstance(value, (list, tuple)):
        items = tuple(item if isinstance(item, Scalar) else const(item) for item in value)
        return Scalar(items, apply("list", *(item.sym for item in items)))
    return Scalar(value, Const(value))


def plain(scalar: Scalar) -> Any:
    """The value alone; tuples of Scalars become lists of values."""
    return [plain(item) for item in scalar.value] if isinstance(scalar.value, tuple) else scalar.value


def size_of(scalar: Scalar) -> Size:
    """A whole-number Scalar as a Size."""
    return scalar.value if isinstance(scalar.value, Size) else Size.of(scalar.value)
