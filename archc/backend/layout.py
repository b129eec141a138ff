"""Statements laid out as ruff's formatter lays them out, without ruff.

A line that is too long is parsed, written as a document of nested groups, and printed: a group that fits stays on its
line, one that does not breaks at its line breaks. The documents follow ruff's stable style rule by rule, because what
breaks first, and where parentheses are added, is not a matter of width alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, STEP = 88, 4

# Slices and powers, whose spaces depend on what stands beside them; everything else that fits is right as it is.
_SPACED = re.compile(r"\[[^\]]*:|[\w)\]] ?\*\*")


def lay_out(indent: int, text: str, comment: str = "") -> list[str]:
    """One statement as lines of at most `WIDTH` columns where Python can be broken; the comment stands behind it, or
    above where that is too long. The text has no line breaks, no trailing commas, and ruff's quotes and spaces."""
    pad = " " * indent
    lines = [pad + text]
    if len(lines[0]) > WIDTH or _SPACED.search(text):
        lines = _laid_out(indent, text) or lines
    if not comment:
        return lines
    if len(lines) == 1 and len(lines[0]) + len(comment) + 4 <= WIDTH:
        return [f"{lines[0]}  # {comment}"]
    return [f"{pad}# {comment}", *lines]


def split_items(body: str) -> list[str]:
    """The parts of a text between its outermost commas."""
    call = ast.parse(f"f({body}\n)", mode="eval").body
    assert isinstance(call, ast.Call)
    parts = sorted([*call.args, *call.keywords], key=lambda part: part.col_offset)
    return [ast.get_source_segment(f"f({body}\n)", part) or "" for part in parts]


def _laid_out(indent: int, text: str) -> list[str]:
    """The lines, or none for a text that is not one statement on one line."""
    chained = text.startswith("elif ")
    source = text[2:] if chained else text
    try:
        body = ast.parse(source + " pass" if source.endswith(":") else source).body
    except SyntaxError:
        return []
    if "\n" in text or len(body) != 1:
        return []
    document = _Writer(source).statement(body[0])
    return _Printer().print(["el", document] if chained else document, indent)


# ---- documents


@dataclass(frozen=True)
class _Break:
    """A line break in a broken group, `flat` in one that stays on its line."""

    flat: str


@dataclass(frozen=True)
class _Group:
    """What breaks together. `id` lets others ask whether it broke; `broken` breaks it in any case; with `inside` it is
    a group of its own only if that group broke."""

    content: _Doc
    id: int = 0
    broken: bool = False
    inside: int = 0


@dataclass(frozen=True)
class _When:
    """Printed if the group is broken, or if it is not. Without an id the group is the innermost."""

    content: _Doc
    broken: bool = True
    id: int = 0


@dataclass(frozen=True)
class _Nest:
    """Indented; with an id only if that group broke."""

    content: _Doc
    id: int = 0


@dataclass(frozen=True)
class _Apart:
    """May break over lines without breaking the group `id` around it."""

    content: _Doc
    id: int


@dataclass(frozen=True)
class _Parens:
    """Set in parentheses on lines of its own, if it fits there and does not fit without."""

    content: _Doc
    id: int


@dataclass(frozen=True)
class _Choice:
    """The first variant whose first line fits, or the last."""

    variants: tuple[_Doc, ...]


_Doc = str | Sequence["_Doc"] | _Break | _Group | _When | _Nest | _Apart | _Parens | _Choice
_SOFT, _SPACE = _Break(""), _Break(" ")
_FIRST, _ALL, _ANY = range(3)  # Must the first line fit, or all lines, or none?
_Frame = tuple[_Doc, int, bool, int]  # a document, its indentation, whether its group is broken, what must fit


class _Printer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.line, self.pad = "", 0
        self.checked = False  # the rest of this line is known to fit
        self.broke: dict[int, bool] = {}
        self.stack: list[_Frame] = []

    def print(self, doc: _Doc, indent: int) -> list[str]:
        self.pad, self.stack = indent, [(doc, indent, True, _FIRST)]
        while self.stack:
            self._print(*self.stack.pop())
        return [*self.lines, self.line]

    def _print(self, doc: _Doc, indent: int, broken: bool, must: int) -> None:
        match doc:
            case str():
                self.line = (self.line or " " * self.pad) + doc if doc else self.line
            case _Break(flat) if not broken:
                self.line += flat
            case _Break():
                if self.line:
                    self.lines.append(self.line)
                    self.line, self.checked = "", False
                self.pad = indent
            case _Group(content, id, always, inside):
                if not inside or self.broke[inside]:
                    broken = always or not self._flat(content, id, indent, broken)
                    self.broke[id] = broken
                self.stack.append((content, indent, broken, must))
            case _Apart(content, id):
                self.checked = self.checked and self.broke[id]
                self.stack.append((content, indent, broken, must))
            case _Parens(content, id):
                self._parens(content, id, indent, broken)
            case _Choice(variants):
                self.checked = True
                fitting = (v for v in variants[:-1] if self._fits([(v, indent, False, _FIRST)]))
                chosen = next(fitting, None)
                self.stack.append((variants[-1], indent, True, must) if chosen is None else (chosen, indent, False, must))
            case _:
                self.stack += self._opened(doc, indent, broken, must)

    def _opened(self, doc: _Doc, indent: int, broken: bool, must: int) -> list[_Frame]:
        """A document's parts, last first, where printing and measuring agree."""
        match doc:
            case _When(content, wanted, id):
                return [(content, indent, broken, must)] * (wanted == (self.broke[id] if id else broken))
            case _Nest(content, id):
                return [(content, indent + STEP * (not id or self.broke[id]), broken, must)]
        assert isinstance(doc, list), doc
        return [(part, indent, broken, must) for part in reversed(doc)]

    def _parens(self, content: _Doc, id: int, indent: int, broken: bool) -> None:
        if not (flat := self._flat(content, id, indent, broken)):
            self.broke[id] = True
            frames = self._in_parens(content, indent, _ALL)
            flat = not self._fits(frames)
        self.broke[id] = not flat
        self.stack += [(content, indent, False, _FIRST)] if flat else self._in_parens(content, indent, _FIRST)

    def _in_parens(self, content: _Doc, indent: int, must: int) -> list[_Frame]:
        parts = [(")", indent), (_SOFT, indent), (content, indent + STEP), (_SOFT, indent + STEP), ("(", indent)]
        return [(part, column, True, must) for part, column in parts]

    def _flat(self, content: _Doc, id: int, indent: int, broken: bool) -> bool:
        if not broken and self.checked:
            return True
        self.checked, self.broke[id] = True, False
        return self._fits([(content, indent, False, _FIRST)])

    def _fits(self, own: list[_Frame]) -> bool:
        """Whether the frames fit, and what follows them up to its next line break."""
        width, below = len(self.line) or self.pad, len(self.stack)
        while own or below:
            below -= not own
            doc, indent, broken, must = own.pop() if own else self.stack[below]
            match doc:
                case str() | _Break() if isinstance(doc, str) or not broken:
                    width += len(doc if isinstance(doc, str) else doc.flat)
                    if width > WIDTH and must != _ANY:
                        return False
                case _Break():
                    if must == _FIRST:
                        return True
                    width = indent
                case _Group(content, id, always, inside):
                    if not inside or self.broke[inside]:
                        self.broke[id] = broken = broken or always
                    own.append((content, indent, broken, must))
                case _Apart(content, id) if not broken and not self.broke[id]:
                    own.append((content, indent, True, _ANY))
                case _Apart(content):
                    own.append((content, indent, broken, must))
                case _Parens(content, id):
                    self.broke[id] = broken
                    own.append((content, indent, broken, must))
                case _:
                    own += self._opened(doc, indent, broken, must)
        return True


# ---- Python

# What an expression stands in: no parentheses (None), some (0), or a group that adds them if it breaks (its id).
_Level = int | None
_Operator = ast.operator | ast.cmpop | ast.boolop
_OPERATORS: dict[type[_Operator], tuple[str, int]] = {
    ast.Pow: ("**", 2), ast.Mult: ("*", 4), ast.MatMult: ("@", 4), ast.Div: ("/", 4), ast.Mod: ("%", 4), ast.FloorDiv: ("//", 4),
    ast.Add: ("+", 5), ast.Sub: ("-", 5), ast.LShift: ("<<", 6), ast.RShift: (">>", 6), ast.BitAnd: ("&", 7),
    ast.BitXor: ("^", 8), ast.BitOr: ("|", 9), ast.Eq: ("==", 10), ast.NotEq: ("!=", 10), ast.Lt: ("<", 10),
    ast.LtE: ("<=", 10), ast.Gt: (">", 10), ast.GtE: (">=", 10), ast.Is: ("is", 10), ast.IsNot: ("is not", 10),
    ast.In: ("in", 10), ast.NotIn: ("not in", 10), ast.And: ("and", 11), ast.Or: ("or", 11),
}  # fmt: skip
