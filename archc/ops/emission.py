"""What the PyTorch texts of operations share: arguments, precedence, folding and broadcasting of axes."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from archc.backend.operand import (
    AND,
    ATOM,
    COMPARE,
    OR,
    POWER,
    PRODUCT,
    SUM,
    TERNARY,
    UNARY,
    Form,
    Operand,
)
from archc.ir.sym import Const, Scalar
from archc.ops.base import Code

_BINDING: dict[type[ast.AST], int] = {
    ast.Pow: POWER, ast.Mult: PRODUCT, ast.Div: PRODUCT, ast.FloorDiv: PRODUCT, ast.Mod: PRODUCT,
    ast.MatMult: PRODUCT,     ast.Add: SUM, ast.Sub: SUM, ast.BitAnd: AND, ast.BitOr: OR,
}  # fmt: skip


def binding_of(text: str) -> int:
    """How tightly a Python expression binds."""
    match ast.parse(text, mode="eval").body:
        case ast.BinOp(op=op):
            return _BINDING.get(type(op), TERNARY)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Invert()):
            return UNARY
        case ast.Compare():
            return COMPARE
        case ast.BoolOp() | ast.UnaryOp() | ast.IfExp() | ast.Lambda():
            return TERNARY
        case _:
            return ATOM


# ---- arguments


def each(code: Code, values: Sequence[Scalar]) -> str:
    """One number where all are the same, else a tuple."""
    texts = [code.number(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"


def tuple_of(texts: Sequence[str]) -> str:
    """A Python tuple, also of one item."""
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def options(code: Code, *rows: tuple[str, Scalar | Sequence[Scalar], object]) -> list[str]:
    """Keyword arguments `name=value`, without those whose value is torch's own default in every build."""
    parts = []
    for name, given, default in rows:
        values = [given] if isinstance(given, Scalar) else given
        fixed = all(isinstance(value.sym, Const) and value.value == default for value in values)
        text = "" if fixed else each(code, values)
        if text not in ("", repr(default)):
            parts.append(f"{name}={text}")
    return parts


def call(function: str, *parts: str | Sequence[str]) -> str:
    """`function(a, b, c=d)`; lists of arguments are spliced."""
    flat = [item for part in parts for item in ([part] if isinstance(part, str) else part)]
    return f"{function}({', '.join(flat)})"


# ---- operands


def bound(code: Code, x: Operand, hint: str) -> Operand:
    """The same tensor under a name, so that its text can stand twice."""
    if x.text.replace(".", "_").isidentifier():
        return x
    return replace(x, text=code.let(x.text, hint), binding=ATOM)


def fold(code: Code, x: Operand, lead: int, most: int, hint: str = "x") -> tuple[str, str]:
    """`x` with its `lead` outermost axes merged into `most`, and what unfolds them again in a result.

    Where there is none, an axis of size 1 stands in for it (`most` is at least 1).
    """
    if lead == 0:
        return f"{x.atom}[None]", "[0]"
    if lead <= most:
        return x.text, ""
    x = bound(code, x, hint)
    merged = lead - most + 1
    return f"{x}.flatten(0, {merged - 1})", f".unflatten(0, {x}.shape[:{merged}])"


def fold_tail(code: Code, x: Operand, keep: int, most: int, hint: str = "x") -> tuple[str, str]:
    """`x` with all behind its first `keep` axes merged if that is more than `most`, and what unfolds it."""
    if len(x.order) - keep <= most:
        return x.text, ""
    x = bound(code, x, hint)
    return f"{x}.flatten({keep})", f".unflatten({keep}, {x}.shape[{keep}:])"


def dims(x: Operand, names: Sequence[str]) -> str:
    """The argument `dim=` for some axes of `x`."""
    places = sorted(x.at(name) for name in names)
    if len(places) == 1:
        return "dim=-1" if places[0] == len(x.order) - 1 else f"dim={places[0]}"
    return f"dim={tuple_of([str(place) for place in places])}"


# ---- broadcasting by name


def meet(code: Code, operands: Sequence[Operand]) -> list[Operand]:
    """The operands so that torch's broadcasting aligns their names; all tell the order of the result.

    Operands in the form of one region stay in it; where forms meet, each is brought to the order of its type.
    """
    xs = list(operands)
    form = next((x.where for x in xs if x.where is not None), None)
    if form is not None:
        axes = {name for x in xs if x.where is not None for name in x.order}
        entered = [_entered(code, x, form, axes) for x in xs]
        if None in entered:
            form = None
            xs = [x.merged(code) for x in xs]
        else:
            xs = [x for x in entered if x is not None]
    order = _joint_order([x.order for x in xs])
    return [replace(_spread(x, order), where=form) for x in xs]


def _entered(code: Code, x: Operand, form: Form, axes: set[str]) -> Operand | None:
    """`x` so that it fits beside operands with the physical `axes` in `form`; None where it does not."""
    if x.where is not None:
        return x if x.where == form else None
    return x if axes.issuperset(x.order) else form.enter(code, x)


def _joint_order(orders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The longest order (the first of them) and what others have besides: the halves of a region's form."""
    joint = list(max(orders, key=len))
    for order in orders:
        for name in order:
            if name not in joint:
                joint.insert(
                    joint.index("@queries") if name == "@groups" else joint.index("@groups") + 1, name
                )
    return tuple(joint)


def _spread(x: Operand, order: tuple[str, ...]) -> Operand:
    """`x` in `order`, with an axis of size 1 for each that it lacks; missing outermost axes need none."""
    x = x.to(tuple(name for name in order if name in x.order))
    held = [name in x.order for name in order]
    if True not in held:
        return replace(x, order=order)
    held = held[held.index(True) :]
    if all(held):
        return replace(x, order=order)
    last = len(held) - held[::-1].index(False)
    full = [":" if have else "None" for have in held[:last]]
    short = ["...", *(":" if have else "None" for have in held[held.index(False) :])]
    steps = min(", ".join(full), ", ".join(short), key=len)
    return replace(x, text=f"{x.atom}[{steps}]", order=order, binding=ATOM)
