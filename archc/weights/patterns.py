"""The patterns of a `weights` section: `"block{i}.{j}.**" -> "stages.{i-1}.blocks.{j}.**"`.

A pattern describes a whole key. `*` stands for any text without a dot, `**` for any text, dots included;
either may be empty, and the leftmost takes as much as it can. `{i}` stands for a whole number, always a full
run of digits; the same name twice stands for the same number. Everything else stands for itself.

In a target, stars are filled from left to right with what the stars of the source matched, and braces hold
whole-number arithmetic (`+ - * // %` and parentheses) on the numbers of the source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from archc.ir.sym import Const, Sym, Var, apply, evaluate, variables
from archc.records import dataclass

# Bounds on what one pattern may cost; published rules stay far below them.
MOST_PARTS = 32
LONGEST_PATTERN = 512
MOST_DIGITS = 9

_PARTS = re.compile(r"\{([^{}]*)\}|(\*{1,2})|([^{}*]+)")
_TOKENS = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|(//|[-+*%()]))")


class PatternError(ValueError):
    """A pattern, or the arithmetic in it, is malformed."""


@dataclass(frozen=True)
class Star:
    """`*`, or `**` where it crosses dots."""

    crosses: bool


@dataclass(frozen=True)
class Number:
    """`{...}`: in a source always one name."""

    sym: Sym


Part = str | Star | Number


@dataclass(frozen=True)
class Pattern:
    text: str
    parts: tuple[Part, ...]

    @property
    def stars(self) -> int:
        return sum(isinstance(part, Star) for part in self.parts)

    @property
    def names(self) -> frozenset[str]:
        """The numbers it names or reads."""
        return frozenset(name for part in self.parts if isinstance(part, Number) for name in variables(part.sym))


@dataclass(frozen=True)
class Match:
    """What the stars and the numbers of a pattern stand for in one key."""

    stars: tuple[str, ...] = ()
    numbers: Mapping[str, int] | None = None


def source_pattern(text: str) -> Pattern:
    """The left side of a rule. Raises PatternError."""
    pattern = _pattern(text)
    for part in pattern.parts:
        if isinstance(part, Number) and not isinstance(part.sym, Var):
            raise PatternError(f"on the left of `->` braces hold one name, and `{text}` has arithmetic in them")
    for left, right in zip(pattern.parts, pattern.parts[1:], strict=False):
        if type(left) is type(right):
            raise PatternError(f"`{text}`: two stars or two numbers in a row have no boundary between them")
    return pattern


def target_pattern(text: str) -> Pattern:
    """The right side of a rule. Raises PatternError."""
    return _pattern(text)


def _pattern(text: str) -> Pattern:
    if not text:
        raise PatternError("a pattern must not be empty")
    if len(text) > LONGEST_PATTERN:
        raise PatternError(f"a pattern is longer than {LONGEST_PATTERN} characters")
    parts: list[Part] = []
    at = 0
    while at < len(text):
        found = _PARTS.match(text, at)
        if found is None:
            raise PatternError(f"`{text}`: a brace has no partner")
        braces, star, literal = found.groups()
        parts.append(literal if literal else Star(star == "**") if star else Number(_arithmetic(braces)))
        at = found.end()
    if len(parts) > MOST_PARTS:
        raise PatternError(f"a pattern has more than {MOST_PARTS} parts")
    return Pattern(text, tuple(parts))


# ---- arithmetic in braces


def _arithmetic(text: str) -> Sym:
    """A sum of products over whole numbers and names. Raises PatternError."""
    tokens: list[str] = []
    at = 0
    while at < len(text.rstrip()):
        found = _TOKENS.match(text, at)
        if found is None:
            raise PatternError(f"`{{{text}}}`: `{text[at:].strip()[0]}` is not whole-number arithmetic")
        tokens.append(found.group().strip())
        at = found.end()
    if any(token.isdigit() and len(token) > MOST_DIGITS for token in tokens):
        raise PatternError(f"`{{{text}}}`: a number has more than {MOST_DIGITS} digits")
    result, rest = _chain(tokens, 0, text)
    if rest != len(tokens):
        raise PatternError(f"`{{{text}}}`: `{tokens[rest]}` is out of place")
    return result


def _chain(tokens: list[str], at: int, text: str, product: bool = False) -> tuple[Sym, int]:
    """A sum, or within it a product, and where the text goes on."""
    operators = ("*", "//", "%") if product else ("+", "-")

    def operand(at: int) -> tuple[Sym, int]:
        return _atom(tokens, at, text) if product else _chain(tokens, at, text, True)

    total, at = operand(at)
    while at < len(tokens) and tokens[at] in operators:
        right, after = operand(at + 1)
        total, at = apply(tokens[at], total, right), after
    return total, at


def _atom(tokens: list[str], at: int, text: str) -> tuple[Sym, int]:
    token = tokens[at] if at < len(tokens) else ""
    if token.isdigit():
        return Const(int(token)), at + 1
    if token == "(":
        inner, at = _chain(tokens, at + 1, text)
        if tokens[at : at + 1] == [")"]:
            return inner, at + 1
    elif token and (token[0].isalpha() or token[0] == "_"):
        return Var(token), at + 1
    raise PatternError(f"`{{{text}}}` is not whole-number arithmetic, such as `{{i-1}}`")


# ---- matching


def match(pattern: Pattern, key: str) -> Match | None:
    """What the parts of `pattern` stand for in `key`, or None where it does not match the whole key."""
    parts = pattern.parts
    # A place once found hopeless is not tried again, so that stars cost a product, not a power. What numbers
    # have been bound to matters only where a name stands twice.
    hopeless: set[tuple[int, int, tuple[int, ...]]] = set()

    def go(part: int, at: int, stars: tuple[str, ...], numbers: dict[str, int]) -> Match | None:
        if part == len(parts):
            return Match(stars, numbers) if at == len(key) else None
        state = (part, at, tuple(numbers.values()))
        if state in hopeless:
            return None
        found = None
        match parts[part]:
            case str(literal):
                if key.startswith(literal, at):
                    found = go(part + 1, at + len(literal), stars, numbers)
            case Number(Var(name)):
                digits = re.compile("[0-9]+").match(key, at)
                if digits and not key[at - 1 : at].isdigit() and len(digits.group()) <= MOST_DIGITS:
                    number = int(digits.group())
                    if numbers.get(name, number) == number:
                        found = go(part + 1, digits.end(), stars, {**numbers, name: number})
            case Star(crosses):
                stop = len(key) if crosses or "." not in key[at:] else key.index(".", at)
                for end in range(stop, at - 1, -1):
                    found = go(part + 1, end, (*stars, key[at:end]), numbers)
                    if found is not None:
                        break
        if found is None:
            hopeless.add(state)
        return found

    return go(0, 0, (), {})


def could_be(pattern: Pattern, key: str) -> bool:
    """Whether some match of a source gives `key` for this target, for all that the target shows."""
    texts = []
    for part in pattern.parts:
        match part:
            case str(literal):
                texts.append(re.escape(literal))
            case Star(crosses):
                texts.append(".*" if crosses else "[^.]*")
            case Number():
                texts.append("[0-9]+")
    return re.fullmatch("".join(texts), key) is not None


def fill(pattern: Pattern, found: Match) -> str:
    """The target key for a match. Raises PatternError where an index is negative or divided by zero."""
    stars = iter(found.stars)
    texts = []
    for part in pattern.parts:
        match part:
            case str(literal):
                texts.append(literal)
            case Star():
                texts.append(next(stars))
            case Number(sym):
                try:
                    number = evaluate(sym, found.numbers or {})
                except ZeroDivisionError:
                    raise PatternError(f"`{pattern.text}` divides by zero") from None
                if number < 0:
                    raise PatternError(f"`{pattern.text}` gives the index {number}")
                texts.append(str(number))
    return "".join(texts)
