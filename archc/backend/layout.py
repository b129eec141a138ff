"""Statements laid out as ruff's formatter lays them out, without ruff.

A line that is too long is parsed and written as a document, rule by rule of ruff's stable style: what breaks first, and
where parentheses are added, is not a matter of width alone.
"""

from __future__ import annotations

import ast
import re
from typing import TypeAlias

from archc.backend.document import Printer
from archc.backend.python import WIDTH

# Slices and powers, whose spaces depend on what stands beside them. Everything else that fits is right as it is.
_SPACED = re.compile(r"\[[^\]]*:|[\w)\]] ?\*\*")


def lay_out(indent: int, text: str, comment: str = "") -> list[str]:
    """One statement as lines of at most `WIDTH` columns where Python can be broken; the comment stands behind it, or
    above where that is too long. The text has no line breaks and no trailing commas, and ruff's quotes and spaces."""
    pad = " " * indent
    lines = [pad + text]
    if len(lines[0]) > WIDTH or _SPACED.search(text):
        lines = _laid_out(indent, text) or lines
    if not comment:
        return lines
    if len(lines) == 1 and len(lines[0]) + len(comment) + 4 <= WIDTH:
        return [f"{lines[0]}  # {comment}"]
    return [f"{pad}# {comment}", *lines]


def _laid_out(indent: int, text: str) -> list[str]:
    """The lines, or none for a text that is not one statement on one line."""
    chained = text.startswith("elif ")
    source = text[2:] if chained else text
    try:
        body = ast.parse(f"{source} pass" if source.endswith(":") else source).body
    except SyntaxError:
        return []
    if "\n" in text or len(body) != 1:
        return []
    document = _Statements(source).statement(body[0])
    return Printer().print(["el", document] if chained else document, indent)


# What an expression stands in: no parentheses (None), some (0), or a group that adds them if it breaks (its id).
_Level: TypeAlias = "int | None"
_WITHIN = 0
# Operators as written, and how late they bind: the last are broken first.
_OPERATORS: dict[type[ast.AST], tuple[str, int]] = {
    ast.Pow: ("**", 2), ast.Mult: ("*", 4), ast.MatMult: ("@", 4), ast.Div: ("/", 4), ast.Mod: ("%", 4), ast.FloorDiv: ("//", 4),
    ast.Add: ("+", 5), ast.Sub: ("-", 5), ast.LShift: ("<<", 6), ast.RShift: (">>", 6), ast.BitAnd: ("&", 7),
    ast.BitXor: ("^", 8), ast.BitOr: ("|", 9), ast.Eq: ("==", 10), ast.NotEq: ("!=", 10), ast.Lt: ("<", 10),
    ast.LtE: ("<=", 10), ast.Gt: (">", 10), ast.GtE: (">=", 10), ast.Is: ("is", 10), ast.IsNot: ("is not", 10),
    ast.In: ("in", 10), ast.NotIn: ("not in", 10), ast.And: ("and", 11), ast.Or: ("or", 11),
}  # fmt: skip
_RANK = dict(_OPERATORS.values())
_ATTRIBUTE, _INVERT, _CONDITIONAL = 1, 3, 12
_UNARY = {ast.Not: "not ", ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}
_TRAILERS = ast.Attribute | ast.Call | ast.Subscript
_DISPLAYS = ast.Dict | ast.List | ast.Set | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_ARITHMETIC = ast.BitOr | ast.BitXor | ast.LShift | ast.RShift | ast.Add | ast.Sub


class _Source:
    """The statement's text, where the tree does not say how things are written."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()

    def read(self, node: ast.AST) -> str:
        return self.text[node.col_offset : node.end_col_offset].decode()  # type: ignore[attr-defined]

    def parens(self, node: ast.expr) -> int:
        """How many pairs of parentheses stand directly around an expression. A call's own count for its only argument."""
        before, after = self.text[: node.col_offset].replace(b" ", b""), self.text[node.end_col_offset :].replace(b" ", b"")
        opened, closed = len(before) - len(before.rstrip(b"(")), len(after) - len(after.lstrip(b")"))
        return min(opened, closed)

    def own_parens(self, node: ast.Tuple) -> bool:
        """Whether a tuple has parentheses."""
        if not node.elts:
            return True
        first = node.elts[0]
        return self.text[node.col_offset : first.col_offset].count(b"(") > self.parens(first)

    def brackets(self, node: ast.expr) -> bool | None:
        """Whether an expression's brackets hold anything, if it ends in some or stands in some."""
        match node:
            case ast.List(elts) | ast.Set(elts) | ast.Dict(values=elts):
                own = bool(elts)
            case ast.Call(args=args, keywords=keywords):
                own = bool(args or keywords)
            case ast.Tuple(elts) if self.own_parens(node):
                own = bool(elts)
            case ast.Subscript() | _DISPLAYS():
                own = True
            case _:
                own = None
        return own or bool(self.parens(node)) or own
