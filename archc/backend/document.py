"""Text that may be broken over lines: documents of nested groups, and their printer.

A group that fits stays on its line, one that does not breaks at its line breaks. This is the algebra of
Wadler's pretty printer with the additions of ruff's formatter, whose names for them stand in brackets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

WIDTH, STEP = 88, 4


@dataclass(frozen=True, slots=True)
class Break:
    """A line break in a broken group, `flat` in one that stays on its line."""

    flat: str


@dataclass(frozen=True, slots=True)
class Group:
    """What breaks together. By its `id` others ask whether it broke; `always` breaks it in any case; with
    `inside` it is a group of its own only if that group broke."""

    content: Doc
    id: int = 0
    always: bool = False
    inside: int = 0


@dataclass(frozen=True, slots=True)
class When:
    """Printed if the group is broken, or if it is not. Without an id the group is the innermost."""

    content: Doc
    broken: bool = True
    id: int = 0


@dataclass(frozen=True, slots=True)
class Nest:
    """Indented; with an id only if that group broke."""

    content: Doc
    id: int = 0


@dataclass(frozen=True, slots=True)
class Apart:
    """May break over lines and leave the group `id` around it whole [fits expanded]."""

    content: Doc
    id: int


@dataclass(frozen=True, slots=True)
class Parens:
    """In parentheses on lines of its own, if it fits there and not without [best fit parenthesize]."""

    content: Doc
    id: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The first variant whose first line fits, or the last [best fitting]. Stands in no group."""

    variants: tuple[Doc, ...]


Doc: TypeAlias = "str | list[Doc] | Break | Group | When | Nest | Apart | Parens | Choice"
SOFT, SPACE = Break(""), Break(" ")

# What must fit: the first line, all lines, or none.
_FIRST, _ALL, _ANY = range(3)
# A document, its indentation, whether its group is broken, and what must fit.
_Frame: TypeAlias = "tuple[Doc, int, bool, int]"


class Printer:
    """Prints one document, of which `broke` remembers the groups that have an id."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.line, self.pad = "", 0
        self.checked = False  # the rest of this line is known to fit
        self.broke: dict[int, bool] = {}
        self.stack: list[_Frame] = []

    def print(self, doc: Doc, indent: int) -> list[str]:
        self.pad, self.stack = indent, [(doc, indent, True, _FIRST)]
        while self.stack:
            self._print(*self.stack.pop())
        return [*self.lines, self.line]

    def _print(self, doc: Doc, indent: int, broken: bool, must: int) -> None:
        match doc:
            case str():
                self.line = (self.line or " " * self.pad) + doc
            case Break(flat) if not broken:
                self.line += flat
            case Break():
                if self.line:
                    self.lines.append(self.line)
                    self.line, self.checked = "", False
                self.pad = indent
            case Group(content, id, always, inside):
                if not inside or self.broke[inside]:
                    broken = always or not self._flat(content, id, indent, broken)
                    self.broke[id] = broken
                self.stack.append((content, indent, broken, must))
            case Parens(content, id):
                self.stack += self._in_parens(content, id, indent, broken)
            case Choice(variants):
                self.checked = True
                fitting = (v for v in variants[:-1] if self._fits([(v, indent, False, _FIRST)]))
                chosen = next(fitting, variants[-1])
                self.stack.append((chosen, indent, chosen is variants[-1], must))
            case Apart(content, id):
                self.checked = self.checked and self.broke[id]
                self.stack.append((content, indent, broken, must))
            case _:
                self.stack += self._opened(doc, indent, broken, must)

    def _opened(self, doc: Doc, indent: int, broken: bool, must: int) -> list[_Frame]:
        """A document's parts, last first, where printing and measuring agree."""
        match doc:
            case list():
                return [(part, indent, broken, must) for part in reversed(doc)]
            case When(content, wanted, id):
                found = self.broke[id] if id else broken
                return [(content, indent, broken, must)] if wanted == found else []
            case Nest(content, id):
                return [(content, indent + STEP if not id or self.broke[id] else indent, broken, must)]
        raise AssertionError(doc)

    def _flat(self, content: Doc, id: int, indent: int, broken: bool) -> bool:
        """Whether a group stays on its line."""
        if not broken and self.checked:
            return True
        self.checked, self.broke[id] = True, False
        return self._fits([(content, indent, False, _FIRST)])

    def _in_parens(self, content: Doc, id: int, indent: int, broken: bool) -> list[_Frame]:
        flat = self._flat(content, id, indent, broken)
        edge, inner = (SOFT, indent, True, _ALL), (SOFT, indent + STEP, True, _ALL)
        frames: list[_Frame] = [(")", indent, True, _ALL), edge, (content, indent + STEP, True, _ALL), inner,
                                ("(", indent, True, _ALL)]  # fmt: skip
        if not flat:
            self.broke[id] = True
            flat = not self._fits(frames.copy())
        self.broke[id] = not flat
        if flat:
            return [(content, indent, False, _FIRST)]
        return [(part, column, True, _FIRST) for part, column, _, _ in frames]

    def _fits(self, own: list[_Frame]) -> bool:
        """Whether the frames fit, and what follows them up to its next line break."""
        width, below = len(self.line) or self.pad, len(self.stack)
        while own or below:
            if own:
                doc, indent, broken, must = own.pop()
            else:
                below -= 1
                doc, indent, broken, must = self.stack[below]
            match doc:
                case str():
                    width += len(doc)
                case Break(flat) if not broken:
                    width += len(flat)
                case Break():
                    if must == _FIRST:
                        return True
                    width = indent
                case Group(content, id, always, inside):
                    if not inside or self.broke[inside]:
                        self.broke[id] = broken = broken or always
                    own.append((content, indent, broken, must))
                case Parens(content, id):
                    self.broke[id] = broken
                    own.append((content, indent, broken, must))
                case Apart(content, id):
                    free = not broken and not self.broke[id]
                    own.append((content, indent, True, _ANY) if free else (content, indent, broken, must))
                case _:
                    own += self._opened(doc, indent, broken, must)
            if width > WIDTH and must != _ANY:
                return False
        return True
