"""Arithmetic on compile-time values, keeping their provenance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from archc.diagnostics import ArchError, fail
from archc.ir.sym import (
    MEANING,
    Apply,
    Comprehension,
    Const,
    FnDef,
    Scalar,
    Sym,
    Var,
    apply,
    const,
    evaluate,
    plain,
)
from archc.sizes import Size
from archc.source import Span
from archc.syntax import tree

# Functions on compile-time values, and how many arguments each takes.
FUNCTIONS: dict[str, tuple[int, int]] = {
    "linspace": (3, 3), "range": (1, 3), "zip": (2, 8), "enumerate": (1, 1), "reversed": (1, 1), "len": (1, 1), "sum": (1, 1),
    "min": (2, 8), "max": (2, 8), "sqrt": (1, 1), "exp": (1, 1), "log": (1, 1), "log2": (1, 1), "floor": (1, 1),
    "ceil": (1, 1), "round": (1, 1), "abs": (1, 1), "int": (1, 1), "float": (1, 1), "pair": (1, 1),
}  # fmt: skip
CONSTANTS: dict[str, float] = {"pi": 3.141592653589793, "inf": float("inf"), "e": 2.718281828459045}
LONGEST_LIST = 100_000


def from_value(value: Any, sym: Sym) -> Scalar:
    """A plain Python value as a Scalar; the items of a list know that they are its items."""
    if isinstance(value, (list, tuple)):
        if isinstance(sym, Apply) and sym.op == "list":
            syms = sym.args
        else:
            syms = tuple(Apply("index", (sym, Const(i))) for i in range(len(value)))
        return Scalar(tuple(from_value(item, at) for item, at in zip(value, syms, strict=True)), sym)
    return Scalar(value, sym)


def is_number(scalar: Scalar) -> bool:
    return isinstance(scalar.value, (int, float, Size)) and not isinstance(scalar.value, bool)


def check_list(items: Iterable[Any], span: Span) -> None:
    """Raises ArchError E0404 for a list of too many items, those of the lists in it included."""
    count = 0
    waiting = [iter(items)]
    while waiting:
        for item in waiting[-1]:
            count += 1
            if count > LONGEST_LIST:
                raise fail("E0404", f"a list has more than {LONGEST_LIST:,} items", span)
            inner = getattr(item, "items", None) or getattr(item, "value", None)  # of a Many or a Scalar
            if isinstance(inner, tuple):
                waiting.append(iter(inner))
                break
        else:
            waiting.pop()


def operate(op: str, operands: list[Scalar], span: Span) -> Scalar:
    """`op` on compile-time values. Raises ArchError E0206 for kinds it does not take, E0210 where the arithmetic fails."""
    sym = apply(op, *(x.sym for x in operands))
    values = [x.value for x in operands]
    if op in ("==", "!="):
        return Scalar(_equality(op, *operands), sym)
    if op == "not":
        return Scalar(not plain(operands[0]) if is_known(operands[0]) else Unknown(op), sym)
    if op == "+" and all(isinstance(v, tuple) for v in values):
        check_list(values[0] + values[1], span)
        return Scalar(values[0] + values[1], sym)
    if not all(is_number(x) for x in operands):
        from archc.elaborate.values import kind_of

        shown = " and ".join(kind_of(x) for x in operands)
        each = f"on each item: `[x {op} ... for x in xs]`" if any(isinstance(v, tuple) for v in values) else ""
        raise fail("E0206", f"`{op.replace('neg', '-')}` works on numbers, not on {shown}", span,
                   helps=(each,) if each else ())  # fmt: skip
    try:
        if any(isinstance(v, Size) for v in values):
            return Scalar(_symbolic(op, values, span), sym)
        value = MEANING[op](*values)
        if (isinstance(value, int) and value.bit_length() > 4096) or isinstance(value, complex):
            raise OverflowError("the result is too large or not real")
        return Scalar(value, sym)
    except ZeroDivisionError:
        raise fail("E0210", "division by zero", span, f"{values[1]} is zero") from None
    except (ArithmeticError, ValueError, TypeError) as error:
        raise fail("E0210", f"this cannot be computed: {error}", span) from None


def _equality(op: str, left: Scalar, right: Scalar) -> Any:
    """`==` and `!=` of two values of any kind, which sizes that depend on the inputs may leave open."""
    if is_known(left) and is_known(right):
        return MEANING[op](plain(left), plain(right))
    if all(isinstance(x.value, (int, Size)) for x in (left, right)):
        difference = (Size.of(left.value) - Size.of(right.value)).constant
        return Unknown(op) if difference is None else MEANING[op](difference, 0)
    return Unknown(op)


def _symbolic(op: str, values: list[Any], span: Span) -> Any:
    """Arithmetic with at least one size that depends on the inputs."""
    if op == "neg":
        return -values[0]
    a, b = values
    whole = all(isinstance(v, (int, Size)) for v in values)
    if op in ("+", "-", "*") and whole:
        return MEANING[op](Size.of(a), Size.of(b))
    if op in ("//", "%") and whole:
        if isinstance(b, int) and b <= 0:
            raise fail("E0210", f"a size cannot be divided by {b}", span)
        return MEANING[op](Size.of(a), b)
    if op in ("<", "<=", ">", ">="):
        difference = (Size.of(a) - Size.of(b)).constant if whole else None
        if difference is not None:
            return MEANING[op](difference, 0)
        return Unknown(op)
    return Unknown(op)


class Unknown:
    """A number or truth value that depends on the sizes of the inputs and is not a whole-number size."""

    def __init__(self, op: str) -> None:
        self.op = op


def is_known(scalar: Scalar) -> bool:
    """Whether a value, with all items of a list, is the same for all sizes of the inputs."""
    if isinstance(scalar.value, tuple):
        return all(is_known(item) for item in scalar.value)
    return not isinstance(scalar.value, (Size, Unknown))


def call_function(name: str, args: list[Scalar], span: Span) -> Scalar:
    """A compile-time function. Raises ArchError E0205 for the wrong number of arguments, E0210 where it fails."""
    least, most = FUNCTIONS[name]
    if not least <= len(args) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise fail("E0205", f"`{name}` takes {wanted} arguments, and {len(args)} were given", span)
    sym = apply(name, *(a.sym for a in args))
    if any(isinstance(a.value, (Size, Unknown)) for a in args):
        if name in ("min", "max") and all(isinstance(a.value, (int, Size)) for a in args):
            join = Size.minimum if name == "min" else Size.maximum
            total = Size.of(args[0].value)
            for other in args[1:]:
                total = join(total, Size.of(other.value))
            return Scalar(total if total.constant is None else total.constant, sym)
        if name in ("int", "floor", "ceil", "round") and isinstance(args[0].value, Size):
            return args[0]
        return Scalar(Unknown(name), sym)
    values = [plain(a) for a in args]
    if name in ("range", "linspace") and _items(name, values) > LONGEST_LIST:
        raise fail("E0404", f"a list of {_items(name, values)} items is longer than {LONGEST_LIST}", span)
    try:
        return from_value(MEANING[name](*values), sym)
    except (ArithmeticError, ValueError, TypeError) as error:
        if name == "zip":
            lengths = " and ".join(str(len(v)) if isinstance(v, list) else "no list" for v in values)
            raise fail("E0343", f"`zip` needs lists of equal length, and these have {lengths}", span) from None
        raise fail("E0210", f"`{name}` cannot be computed: {error}", span) from None


def _items(name: str, values: list[Any]) -> int:
    """How many items a list would have; 0 for numbers that make none."""
    if name == "range" and all(isinstance(v, int) for v in values) and 0 not in values[2:]:
        start, stop, step = (0, values[0], 1) if len(values) == 1 else [*values, 1][:3]
        return max(0, -((start - stop) // step))
    return values[-1] if name == "linspace" and isinstance(values[-1], int) else 0


def translate(expr: tree.Expr, lookup: Callable[[str], Sym], functions: Callable[[str], FnDef | None]) -> Sym:
    """A compile-time expression as a Sym, without computing it. Raises KeyError for what is not compile-time arithmetic."""

    def go(node: tree.Expr) -> Sym:
        match node:
            case tree.Paren(expr=inner):
                return go(inner)
            case tree.Number(value=value):
                return Const(value)
            case tree.String(value=text):
                return Const(text)
            case tree.Constant(value=value):
                return Const(value)
            case tree.Name(name=name):
                return Const(CONSTANTS[name]) if name in CONSTANTS else lookup(name)
            case tree.Unary(op=op, operand=operand):
                return apply("neg" if op == "-" else op, go(operand))
            case tree.Binary(op=op, left=left, right=right):
                return apply(op, go(left), go(right))
            case tree.Compare(ops=ops, operands=operands):
                parts = [apply(op, go(a), go(b)) for op, a, b in zip(ops, operands, operands[1:], strict=False)]
                total = parts[0]
                for part in parts[1:]:
                    total = apply("and", total, part)
                return total
            case tree.Conditional(then=then, condition=condition, otherwise=otherwise):
                return apply("if", go(condition), go(then), go(otherwise))
            case tree.ListExpr(items=items) | tree.TupleExpr(items=items):
                return Apply("list", tuple(go(item) for item in items))
            case tree.Index(
                value=value, subscripts=(tree.Subscript(axis=None, index=tree.Slice(start=start, stop=stop)),)
            ):
                bounds = [Const(None) if bound is None else go(bound) for bound in (start, stop)]
                return apply("slice", go(value), *bounds)
            case tree.Index(value=value, subscripts=(tree.Subscript(axis=None, index=index),)) if not isinstance(
                index, tree.Slice
            ):
                return apply("index", go(value), go(index))
            case tree.Call(function=tree.Name(name=name), arguments=arguments):
                args = [go(argument.value) for argument in arguments if argument.keyword is None]
                if len(args) != len(arguments):
                    raise KeyError(name)
                fn = functions(name)
                if fn is not None:
                    return Apply(name, tuple(args), fn)
                if name in FUNCTIONS:
                    return apply(name, *args)
                raise KeyError(name)
            case tree.Comprehension(expr=inner, targets=targets, iterable=iterable):
                bound = translate(inner, lambda name: Var(name) if name in targets else lookup(name), functions)
                return Comprehension(bound, targets, go(iterable))
            case _:
                raise KeyError(type(node).__name__)

    return go(expr)


__all__ = [
    "CONSTANTS",
    "FUNCTIONS",
    "ArchError",
    "Unknown",
    "call_function",
    "const",
    "evaluate",
    "from_value",
    "is_known",
    "operate",
    "translate",
]
