"""What the PyTorch texts of regions and paths share: names, extents, orders of axes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from archc.backend.operand import ATOM, Operand
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Code

# The axes of a region's own form, and the axis of taps.
GROUPS, QUERIES, TAP = "@groups", "@queries", "tap"
# What may be said again later: a number, or one that the module keeps.
KEPT = re.compile(r"\d+|self\.\w+")


def tuple_text(texts: Sequence[str]) -> str:
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def product_text(texts: Sequence[str]) -> str:
    """A product of extents, multiplied out where all are numbers."""
    if all(text.isdigit() for text in texts):
        return str(math.prod(int(text) for text in texts))
    return " * ".join(tight(text) for text in texts if text != "1") or "1"


def tight(text: str) -> str:
    """An expression as an operand of `*` and `//`."""
    return text if re.fullmatch(r"[\w.]+(\[[^]]*\])?", text) else f"({text})"


class Once:
    """The `Code` of one operation, in which an expression that is let twice gets one name.

    The names that it gives are new and never change: what they say of a shape may be said again later.
    """

    def __init__(self, code: Code) -> None:
        self.code, self.names = code, dict[str, str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.code, name)

    def let(self, text: str, hint: str) -> str:
        if text not in self.names:
            self.names[text] = self.code.let(text, hint)
        return self.names[text]


def once(code: Code) -> Code:
    """`code`, with one name for equal expressions."""
    return Once(code)  # pyright: ignore[reportReturnType]


def bound(code: Code, x: Operand, hint: str = "x") -> Operand:
    """`x` under a name, for text that mentions it more than once."""
    if x.text.isidentifier():
        return x
    return replace(x, text=code.let(x.text, hint), binding=ATOM)


def extents(code: Code, x: Operand, names: Sequence[str]) -> tuple[str, ...]:
    """The sizes of axes: numbers, or texts that stay valid when the variable `x` is given another value."""
    texts = []
    for name in names:
        text = code.extent(x, name)
        steady = KEPT.fullmatch(text) or (isinstance(code, Once) and x.text in code.names.values())
        texts.append(text if steady else code.let(text, f"size_{name.lower()}"))
    return tuple(texts)


def opened(x: Operand, order: Sequence[str]) -> Operand:
    """`x`, whose axes come in the order of `order`, with an axis of size 1 for each that it lacks."""
    steps = [":" if name in x.order else "None" for name in order]
    if "None" not in steps:
        return x
    last = len(steps) - steps[::-1].index("None")
    full, short = ", ".join(steps[:last]), ", ".join(["...", *steps[steps.index("None") :]])
    return then(x, f"{x.atom}[{min(full, short, key=len)}]", tuple(order))


def arrange(x: Operand, positions: Sequence[str], last: Sequence[str]) -> Operand:
    """`x` with what rides along first (in the order of its type), then the positions, then `last`."""
    tail = (*positions, *last)
    lead = tuple(name for name in x.type.names if name not in tail)
    return x.to((*lead, *tail))


def trailing(x: Operand, positions: Sequence[str]) -> tuple[str, ...]:
    """The axis that lies innermost in the region's form: taps, else channels, else none."""
    return next(((name,) for name in (TAP, "C") if name in x.order and name not in positions), ())


def then(x: Operand, text: str, order: tuple[str, ...]) -> Operand:
    return replace(x, text=text, order=order, binding=ATOM)


def probe(text: str, positions: Sequence[Axis]) -> Operand:
    """A map with one channel, in the order (positions, C), such as a numbering of the positions."""
    axes = (*positions, Axis("C", Dim.of(1)))
    return Operand(text, TensorType("int", axes), tuple(axis.name for axis in axes))
