"""Bounds on sizes: polynomials with fractional coefficients that no value falls below or exceeds.

They are written in the excess of each symbol over its least value, so that every monomial is >= 0 and signs
can be read off the coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from math import comb

from archc.records import dataclass
from archc.sizes import Atom, Extreme, Floor, Size

Poly = dict[tuple[str, ...], Fraction]
# Longest product of two bounds that is written out.
MAX_PARTS = 400
_ONE: Poly = {(): Fraction(1)}


@dataclass(frozen=True)
class Bounds:
    """`low` <= the size <= `high` everywhere; None where no bound was found."""

    low: Poly | None
    high: Poly | None

    @property
    def never_negative(self) -> bool:
        """Proved >= 0. Sizes are whole, so above -1 is enough."""
        return self.low is not None and _nonnegative(self.low)

    @property
    def always_negative(self) -> bool:
        """Proved <= -1, that is < 0."""
        return self.high is not None and all(c <= 0 for c in self.high.values()) and self.high.get((), 0) < 0

    @property
    def bounded(self) -> bool:
        """Between two constants."""
        return self.low is not None and self.high is not None and {*self.low, *self.high} <= {()}


def bounds(size: Size, least: Mapping[str, int]) -> Bounds:
    """Bounds of `size` where each symbol is at least `least.get(name, 1)`."""
    low: Poly | None = {}
    high: Poly | None = {}
    for monomial, c in size.terms.items():
        term = Bounds(_ONE, _ONE)
        for atom in monomial:
            term = _product(term, _atom_bounds(atom, least))
        down, up = (term.low, term.high) if c > 0 else (term.high, term.low)
        low = None if low is None or down is None else _plus(low, down, Fraction(c))
        high = None if high is None or up is None else _plus(high, up, Fraction(c))
    return Bounds(low, high)


def never_negative_in_atoms(size: Size, least: Mapping[str, int]) -> bool:
    """Proved >= 0: in the excess of each atom over its own least value, no coefficient of `size` is negative.

    Where floors are multiplied this sees more than `bounds`, which gives up to one for each of them: for `a`, `b` >= 2,
    `a b >= a + b`.
    """
    total: dict[tuple[str, ...], int] = {}
    for monomial, c in size.terms.items():
        parts: dict[tuple[str, ...], int] = {(): c}
        for atom in monomial:
            start = _least_value(atom, least)
            if start is None or 2 * len(parts) > MAX_PARTS:
                return False
            moved = {m: part * start for m, part in parts.items()}
            for m, part in parts.items():
                longer = tuple(sorted((*m, str(atom))))
                moved[longer] = moved.get(longer, 0) + part
            parts = moved
        for m, part in parts.items():
            total[m] = total.get(m, 0) + part
    return all(c >= 0 for c in total.values())


def _least_value(atom: Atom, least: Mapping[str, int]) -> int | None:
    """The least value of an atom that never falls, where it is not negative."""
    if not _rises(Size({(atom,): 1}), least):
        return None
    value = Size({(atom,): 1}).evaluate({name: least.get(name, 1) for name in atom.symbols})
    return value if value >= 0 else None


def _rises(size: Size, least: Mapping[str, int]) -> bool:
    """Whether a size never falls as its symbols grow, as far as that is seen at once."""
    for monomial, c in size.terms.items():
        if monomial and c < 0:
            return False
        for atom in monomial:
            inside = (atom.numerator,) if isinstance(atom, Floor) else atom.options if isinstance(atom, Extreme) else ()
            if isinstance(atom, Floor) and not isinstance(atom.divisor, int):
                return False
            if not all(_rises(part, least) for part in inside):
                return False
            if len(monomial) > 1 and _least_value(atom, least) is None:
                return False
    return True


def nonnegative_from(poly: Poly, limit: int) -> int | None:
    """The least t <= limit found such that the polynomial in one excess is > -1 from t on."""
    coefficients = [Fraction(0)] * (1 + max(map(len, poly), default=0))
    for monomial, c in poly.items():
        coefficients[len(monomial)] += c
    while len(coefficients) > 1 and not coefficients[-1]:
        coefficients.pop()
    if coefficients[-1] < 0 and (len(coefficients) > 1 or coefficients[0] <= -1):
        return None
    below, at = -1, 0
    while not _nonnegative_at(coefficients, at):
        if at > limit:
            return None
        below, at = at, 2 * at + 1
    while at - below > 1:
        middle = (at + below) // 2
        below, at = (below, middle) if _nonnegative_at(coefficients, middle) else (middle, at)
    return at if at <= limit else None


def _nonnegative_at(coefficients: list[Fraction], t: int) -> bool:
    """Whether the polynomial moved by `t` has no negative coefficient, so that it never falls again."""
    moved = [
        sum((c * comb(k, j) * t ** (k - j) for k, c in enumerate(coefficients) if k >= j), Fraction(0))
        for j in range(len(coefficients))
    ]
    return moved[0] > -1 and all(c >= 0 for c in moved[1:])


def _nonnegative(poly: Poly) -> bool:
    return all(c >= 0 if monomial else c > -1 for monomial, c in poly.items())


def _atom_bounds(atom: Atom, least: Mapping[str, int]) -> Bounds:
    if isinstance(atom, Floor):
        inside = bounds(atom.numerator, least)
        if not isinstance(atom.divisor, int):
            by = bounds(atom.divisor - 1, least)
            positive = inside.never_negative and by.never_negative
            return Bounds({}, inside.high) if positive else Bounds(None, None)
        n = atom.divisor
        low = None if inside.low is None else _plus({(): Fraction(1 - n, n)}, inside.low, Fraction(1, n))
        return Bounds(low, None if inside.high is None else _plus({}, inside.high, Fraction(1, n)))
    if isinstance(atom, Extreme):
        options = [bounds(option, least) for option in atom.options]
        lows = [option.low for option in options if option.low is not None]
        highs = [option.high for option in options if option.high is not None]
        # Coefficient by coefficient bounds all options; any one option bounds from the other side.
        if atom.name == "min":
            far = _each(lows, min) if len(lows) == len(options) else None
            return Bounds(far, min(highs, key=_growth) if highs else None)
        far = _each(highs, max) if len(highs) == len(options) else None
        return Bounds(max(lows, key=_growth) if lows else None, far)
    start = least.get(atom, 1)
    line: Poly = {(atom,): Fraction(1), (): Fraction(start)}
    return Bounds(line, line)


def _each(polys: list[Poly], pick: Callable[[Iterable[Fraction]], Fraction]) -> Poly:
    """The pick of the coefficients of every monomial."""
    return {m: pick([poly.get(m, Fraction(0)) for poly in polys]) for poly in polys for m in poly}


def _growth(poly: Poly) -> tuple[int, Fraction, Fraction]:
    """A key that orders polynomials roughly as their values at large sizes."""
    degree = max((len(m) for m, c in poly.items() if c), default=0)
    lead = sum((c for m, c in poly.items() if len(m) == degree), Fraction(0))
    return -degree if lead < 0 else degree, lead, poly.get((), Fraction(0))


def _product(a: Bounds, b: Bounds) -> Bounds:
    if not b.never_negative:
        a, b = b, a
    if not b.never_negative or b.low is None:
        return Bounds(None, None)
    # With b >= 0: a*b >= a.low*b, and each term of a.low takes the bound of b that its sign asks for.
    low = None if a.low is None else _times(a.low, b.low, b.high)
    return Bounds(low, None if a.high is None else _times(a.high, b.high, b.low))


def _times(a: Poly, where_positive: Poly | None, where_negative: Poly | None) -> Poly | None:
    if len(a) * max(len(where_positive or ()), len(where_negative or ())) > MAX_PARTS:
        return None
    total: Poly = {}
    for monomial, c in a.items():
        other = where_positive if c > 0 else where_negative
        if other is None:
            return None
        for m, d in other.items():
            joint = tuple(sorted(monomial + m))
            total[joint] = total.get(joint, Fraction(0)) + c * d
    return {monomial: c for monomial, c in total.items() if c}


def _plus(a: Poly, b: Poly, factor: Fraction) -> Poly:
    total = dict(a)
    for monomial, c in b.items():
        total[monomial] = total.get(monomial, Fraction(0)) + c * factor
    return {monomial: c for monomial, c in total.items() if c}
