"""Symbolic sizes: integer polynomials over symbols, floors, minima and maxima, always in normal form.

The laws used hold for every integer, so equal normal forms are equal sizes, whatever the symbols stand for:
`floor((n*a + p)/n) = a + floor(p/n)` and `floor((floor(p/a) + q)/b) = floor((p + a*q)/(a*b))`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from math import gcd, prod
from operator import index
from typing import Union

from archc.polynomials import (
    MAX_NODES,
    Atom,
    DivisorError,
    Monomial,
    SizeError,
    Terms,
    accumulate,
    bounded,
    divided,
    multiplied,
    order,
)

__all__ = ["Atom", "DivisorError", "Extreme", "Floor", "Monomial", "Size", "SizeError", "Symbol"]

_PLAIN = re.compile(r"[A-Za-z_][\w.]*(\[[^\[\]()]*\]|\(\))*|\d+")
_SUM, _PRODUCT, _ATOM = range(3)


class Symbol(Atom):
    """An unknown; its text is its name."""

    __slots__ = ()

    def __new__(cls, name: str) -> Symbol:
        atom = super().__new__(cls, name)
        atom.nodes, atom.symbols = 1, frozenset((name,))
        return atom


class Floor(Atom):
    """floor(numerator / divisor). The leading `~` sorts it after the symbols."""

    __slots__ = ("divisor", "numerator")
    numerator: Size
    divisor: int | Size

    def __new__(cls, numerator: Size, divisor: int | Size) -> Floor:
        by = divisor if isinstance(divisor, int) else f"({divisor.key})"
        atom = super().__new__(cls, f"~({numerator.key})//{by}")
        atom.numerator, atom.divisor = numerator, divisor
        below = Size.of(divisor)
        atom.nodes, atom.symbols = 1 + numerator.nodes + below.nodes, numerator.symbols | below.symbols
        return atom

    def __getnewargs__(self) -> tuple[Size, int | Size]:  # type: ignore[override]  # for copies and pickles
        return self.numerator, self.divisor


class Extreme(Atom):
    """The least (`min`) or the greatest (`max`) of several sizes."""

    __slots__ = ("name", "options")
    name: str
    options: tuple[Size, ...]

    def __new__(cls, name: str, options: tuple[Size, ...]) -> Extreme:
        atom = super().__new__(cls, f"~{name}({','.join(option.key for option in options)})")
        atom.name, atom.options = name, options
        atom.nodes = 1 + sum(option.nodes for option in options)
        atom.symbols = frozenset().union(*(option.symbols for option in options))
        return atom

    def __getnewargs__(self) -> tuple[str, tuple[Size, ...]]:  # type: ignore[override]
        return self.name, self.options


IntOrSize = Union[int, "Size"]


class Size:
    """An integer polynomial over atoms. Immutable; equal to an int where it is that constant."""

    __slots__ = ("_hash", "_key", "_symbols", "constant", "nodes", "terms")
    terms: Terms
    constant: int | None
    nodes: int

    def __init__(self, terms: Terms) -> None:
        """Takes `terms` over, which must be in normal form; elsewhere use `Size.of` and `Size.symbol`.

        Raises SizeError where the size would have more than MAX_NODES nodes.
        """
        self.terms = terms
        if not terms:
            self.constant, self.nodes = 0, 1
            return
        self.constant = terms.get(()) if len(terms) == 1 else None
        self.nodes = 1
        if self.constant is None:
            self.nodes = sum(1 + sum(atom.nodes for atom in monomial) for monomial in terms)
            if self.nodes > MAX_NODES:
                raise SizeError(f"a size has more than {MAX_NODES:,} parts")

    @staticmethod
    def of(value: IntOrSize) -> Size:
        """`value` as a size."""
        if isinstance(value, Size):
            return value
        return Size({(): index(value)} if value else {})

    @staticmethod
    def symbol(name: str) -> Size:
        """The unknown called `name`."""
        return Size({(Symbol(name),): 1})

    @property
    def symbols(self) -> frozenset[str]:
        """The names of the unknowns, also of those within floors and minima."""
        try:
            return self._symbols
        except AttributeError:
            atoms = {atom for monomial in self.terms for atom in monomial}
            self._symbols: frozenset[str] = frozenset().union(*(atom.symbols for atom in atoms))
            return self._symbols

    @property
    def key(self) -> str:
        """A text that two sizes share exactly when their normal forms are equal."""
        try:
            return self._key
        except AttributeError:
            parts = sorted(self.terms.items())
            self._key: str = "+".join(f"{c}{''.join('*' + a for a in monomial)}" for monomial, c in parts)
            return self._key

    # Arithmetic

    def __add__(self, other: IntOrSize) -> Size:
        right = other if isinstance(other, Size) else Size.of(other)
        if self.constant is not None and right.constant is not None:
            return Size.of(self.constant + right.constant)
        if not right.terms:
            return self
        terms = dict(self.terms)
        accumulate(terms, right.terms, 1)
        return Size(terms)

    __radd__ = __add__

    def __neg__(self) -> Size:
        return Size({monomial: -c for monomial, c in self.terms.items()})

    def __sub__(self, other: IntOrSize) -> Size:
        right = other if isinstance(other, Size) else Size.of(other)
        if self.constant is not None and right.constant is not None:
            return Size.of(self.constant - right.constant)
        if not right.terms:
            return self
        terms = dict(self.terms)
        accumulate(terms, right.terms, -1)
        return Size(terms)

    def __rsub__(self, other: IntOrSize) -> Size:
        return Size.of(other) - self

    def __mul__(self, other: IntOrSize) -> Size:
        """Raises SizeError where the product is too large."""
        right = other if isinstance(other, Size) else Size.of(other)
        if self.constant is not None and right.constant is not None:
            return Size.of(bounded(self.constant * right.constant))
        if right.constant is not None:
            return self._scaled(right.constant)
        if self.constant is not None:
            return right._scaled(self.constant)
        return Size(multiplied(self.terms, right.terms))

    __rmul__ = __mul__

    def _scaled(self, factor: int) -> Size:
        if factor == 1:
            return self
        return Size({monomial: bounded(c * factor) for monomial, c in self.terms.items()} if factor else {})

    def __floordiv__(self, n: IntOrSize) -> Size:
        """floor(self / n). A symbolic divisor is taken to be positive and cancels where it divides.

        Raises DivisorError where `n` is a constant below 1.
        """
        if isinstance(n, Size):
            if n.constant is None:
                return _floor_by_size(self, n)
            n = n.constant
        if n < 1:
            raise DivisorError(f"{self} // {n}: the divisor must be at least 1")
        if self.constant is not None:
            return Size.of(self.constant // n)
        return self if n == 1 else _floor(self.terms, n)

    def ceil_div(self, n: IntOrSize) -> Size:
        """ceil(self / n). Raises DivisorError where `n` is a constant below 1."""
        return (self + (n - 1)) // n

    def __mod__(self, n: IntOrSize) -> Size:
        """self - n * floor(self / n). Raises DivisorError where `n` is a constant below 1."""
        return self - (self // n) * n

    def exact_div(self, other: IntOrSize) -> Size | None:
        """The polynomial q with `q * other == self` if there is one, else None."""
        divisor = Size.of(other)
        if not divisor.terms:
            return None
        quotient = divided(self.terms, divisor.terms)
        return None if quotient is None else Size(quotient)

    @staticmethod
    def minimum(a: IntOrSize, b: IntOrSize) -> Size:
        """The lesser of two sizes."""
        return _extreme("min", (Size.of(a), Size.of(b)))

    @staticmethod
    def maximum(a: IntOrSize, b: IntOrSize) -> Size:
        """The greater of two sizes."""
        return _extreme("max", (Size.of(a), Size.of(b)))

    # Meaning

    def evaluate(self, env: Mapping[str, int]) -> int:
        """The number under `env`.

        Raises KeyError for a missing symbol, DivisorError for a divisor below 1.
        """
        if self.constant is not None:
            return self.constant
        return sum(c * prod(_value(atom, env) for atom in monomial) for monomial, c in self.terms.items())

    def substitute(self, env: Mapping[str, IntOrSize]) -> Size:
        """The size with symbols replaced; those that `env` lacks stay."""
        if self.constant is not None or self.symbols.isdisjoint(env):
            return self
        total = Size.of(0)
        for monomial, c in self.terms.items():
            term = Size.of(c)
            for atom in monomial:
                term *= _replaced(atom, env)
            total += term
        return total

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Size):
            return self.terms == other.terms
        return self.constant == other if isinstance(other, int) else NotImplemented

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            # A constant hashes as its number, because it equals it.
            whole = self.constant is not None
            self._hash: int = hash(self.constant) if whole else hash(frozenset(self.terms.items()))
            return self._hash

    # Text

    def __str__(self) -> str:
        return _write(self, lambda name: name, "*", True)[0]

    def __repr__(self) -> str:
        return f"Size({self})"

    def python(self, names: Mapping[str, str], *, grouped: bool = False) -> str:
        """A Python expression of the size, symbols written as `names` says; `grouped` binds as one operand.

        Raises KeyError for a missing symbol.
        """

        def text(symbol: str) -> str:
            return names[symbol] if _PLAIN.fullmatch(names[symbol]) else f"({names[symbol]})"

        written, level = _write(self, text, " * ", False)
        return f"({written})" if grouped and level != _ATOM else written


def _floor(terms: Terms, n: int) -> Size:
    """floor(terms / n) for a non-constant polynomial, n >= 2."""
    whole: Terms = {}
    rest: Terms = {}
    for monomial, c in terms.items():
        quotient, remainder = divmod(c, n)
        if quotient:
            whole[monomial] = quotient
        if remainder:
            rest[monomial] = remainder
    common = gcd(n, *(c for monomial, c in rest.items() if monomial))
    if common > 1:  # also where no variable part is left: common is n, and the constant vanishes
        n //= common
        rest = {monomial: c // common for monomial, c in rest.items() if c >= common}
    if n == 1:
        return Size(whole) + Size(rest)
    if 2 * rest[min((monomial for monomial in rest if monomial), key=order)] > n:
        # floor(p/n) = -floor((n - 1 - p)/n), so that -(-H // n) is ceil(H / n).
        return Size(whole) - (Size.of(n - 1) - Size(rest)) // n
    for monomial in sorted(rest):
        inner = monomial[0] if len(monomial) == 1 else None
        c = rest[monomial]
        if isinstance(inner, Floor) and isinstance(inner.divisor, int) and c in (1, n - 1):
            a = inner.divisor
            others = Size({key: value for key, value in rest.items() if key != monomial})
            if c == 1:
                return Size(whole) + (inner.numerator + others * a) // (n * a)
            # c = n - 1: a whole floor less one, and -floor(p/a) = floor((a - 1 - p)/a).
            return Size(whole) + Size({monomial: 1}) + (others * a + (a - 1) - inner.numerator) // (n * a)
    atom: Atom = Floor(Size(rest), n)
    return Size({(atom,): 1}) + Size(whole)


def _floor_by_size(p: Size, n: Size) -> Size:
    quotient = p.exact_div(n)
    if quotient is not None:
        return quotient
    whole = Size.of(0)
    if len(n.terms) == 1:  # floor((n*a + p)/n) = a + floor(p/n), term by term
        for monomial, c in p.terms.items():
            whole += Size({monomial: c}).exact_div(n) or 0
    return Size({(Floor(p - whole * n, n),): 1}) + whole


def _extreme(name: str, given: Iterable[Size]) -> Size:
    sign = 1 if name == "min" else -1
    kept: list[Size] = []
    for size in given:
        inner = next(iter(size.terms), ())
        lone = inner[0] if len(inner) == 1 and size.terms == {inner: 1} else None
        for option in lone.options if isinstance(lone, Extreme) and lone.name == name else (size,):
            gaps = [(option - other).constant for other in kept]
            if any(gap is not None and sign * gap >= 0 for gap in gaps):
                continue
            kept = [other for other, gap in zip(kept, gaps, strict=True) if gap is None] + [option]
    if len(kept) == 1:
        return kept[0]
    # min(H + 1, W + 1) = min(H, W) + 1
    fixed = any(option.constant is not None for option in kept)
    shift = 0 if fixed else min(option.terms.get((), 0) for option in kept)
    options = sorted((option - shift for option in kept), key=lambda option: option.key)
    return Size({(Extreme(name, tuple(options)),): 1}) + shift


def _value(atom: Atom, env: Mapping[str, int]) -> int:
    if isinstance(atom, Floor):
        by = atom.divisor if isinstance(atom.divisor, int) else atom.divisor.evaluate(env)
        if by < 1:
            raise DivisorError(f"{atom.divisor} is {by}: a divisor must be at least 1")
        return atom.numerator.evaluate(env) // by
    if isinstance(atom, Extreme):
        values = [option.evaluate(env) for option in atom.options]
        return min(values) if atom.name == "min" else max(values)
    return env[atom]


def _replaced(atom: Atom, env: Mapping[str, IntOrSize]) -> IntOrSize:
    if isinstance(atom, Floor):
        by = atom.divisor if isinstance(atom.divisor, int) else atom.divisor.substitute(env)
        return atom.numerator.substitute(env) // by
    if isinstance(atom, Extreme):
        return _extreme(atom.name, [option.substitute(env) for option in atom.options])
    return env[atom] if atom in env else Size({(atom,): 1})


def _write(size: Size, name: Callable[[str], str], times: str, ceil: bool) -> tuple[str, int]:
    """The text of a size and how tightly it binds; `ceil` writes floors that are ceilings as such."""
    if size.constant is not None:
        return str(size.constant), _ATOM if size.constant >= 0 else _SUM
    # Highest degree first, and a positive term in front: `H - 2*W - 1`.
    ordered = sorted(size.terms.items(), key=lambda term: order(term[0]))
    lead = next((i for i, (monomial, c) in enumerate(ordered) if c > 0 and monomial), 0)
    ordered.insert(0, ordered.pop(lead))
    text, level = "", _SUM
    for monomial, c in ordered:
        term, level = _write_term(monomial, abs(c), name, times, ceil)
        joint = (" - " if c < 0 else " + ") if text else ("-" if c < 0 else "")
        text += joint + (f"({term})" if joint == "-" and level == _PRODUCT and "//" in term else term)
    return text, level if len(ordered) == 1 and ordered[0][1] > 0 else _SUM


def _write_term(m: Monomial, c: int, name: Callable[[str], str], times: str, ceil: bool) -> tuple[str, int]:
    if not m:
        return str(c), _ATOM
    written = [(_write_atom(atom, name, times, ceil), m.count(atom)) for atom in dict.fromkeys(m)]
    if c == 1 and len(m) == 1:
        return written[0][0]
    factors = [str(c)] if c != 1 else []
    for (text, level), power in written:
        text = text if level == _ATOM else f"({text})"
        factors.append(text if power == 1 else f"{text}**{power}")
    return times.join(factors), _PRODUCT


def _write_atom(atom: Atom, name: Callable[[str], str], times: str, ceil: bool) -> tuple[str, int]:
    if isinstance(atom, Extreme):
        return f"{atom.name}({', '.join(_write(o, name, times, ceil)[0] for o in atom.options)})", _ATOM
    if not isinstance(atom, Floor):
        return name(atom), _ATOM
    above, by = atom.numerator, Size.of(atom.divisor)
    ceiling = ceil and by.constant is not None and above.terms.get(()) == by.constant - 1
    top, level = _write(above - (by.constant or 0) + 1 if ceiling else above, name, times, ceil)
    top = f"({top})" if level == _SUM or (level == _PRODUCT and "//" in top) else top
    bottom, level = _write(by, name, times, ceil)
    bottom = bottom if level == _ATOM else f"({bottom})"
    return (f"ceil({top} / {bottom})", _ATOM) if ceiling else (f"{top} // {bottom}", _PRODUCT)
