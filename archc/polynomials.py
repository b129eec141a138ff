"""Integer polynomials as dictionaries from monomials to coefficients: the arithmetic under `archc.sizes`."""

from __future__ import annotations

# Bounds on work: factors of one size (those within floors included), of one product, and bits of one number.
MAX_NODES = 20_000
MAX_DEGREE = 64
MAX_BITS = 4_096


class SizeError(ValueError):
    """A size that cannot be built or evaluated."""


class DivisorError(SizeError):
    """A division by what is below 1."""


class Atom(str):
    """A factor of a monomial: its canonical text, which is its identity; subclasses add its parts."""

    __slots__ = ("nodes", "symbols")
    nodes: int
    symbols: frozenset[str]


Monomial = tuple[Atom, ...]  # sorted, a square written twice
Terms = dict[Monomial, int]  # no zero coefficients; the constant stands at ()


def bounded(number: int) -> int:
    """`number`. Raises SizeError where it has more than MAX_BITS bits."""
    if number.bit_length() > MAX_BITS:
        raise SizeError(f"a size has a number of more than {MAX_BITS:,} bits")
    return number


def accumulate(terms: Terms, more: Terms, factor: int) -> None:
    """Adds `factor * more` into `terms`, keeping no zeros."""
    for monomial, c in more.items():
        total = terms.get(monomial, 0) + c * factor
        if total:
            terms[monomial] = total
        else:
            terms.pop(monomial, None)


def multiplied(a: Terms, b: Terms) -> Terms:
    """a * b. Raises SizeError where that is too much work."""
    if len(a) * len(b) > MAX_NODES:
        raise SizeError(f"a product of sizes has more than {MAX_NODES:,} parts")
    total: Terms = {}
    for ours, c in a.items():
        for theirs, d in b.items():
            joint = tuple(sorted(ours + theirs)) if ours and theirs else ours or theirs
            if len(joint) > MAX_DEGREE:
                raise SizeError(f"a product of sizes has more than {MAX_DEGREE} factors")
            accumulate(total, {joint: bounded(c * d)}, 1)
    return total


def divided(a: Terms, b: Terms) -> Terms | None:
    """The q with q * b == a if there is one, else None. `b` is not empty."""
    head = min(b, key=order)
    rest, quotient = dict(a), Terms()
    while rest:
        lead = min(rest, key=order)
        monomial = _without(lead, head)
        factor, remainder = divmod(rest[lead], b[head])
        if monomial is None or remainder:
            return None
        quotient[monomial] = factor
        accumulate(rest, multiplied(b, {monomial: factor}), -1)
    return quotient


def order(monomial: Monomial) -> tuple[int, Monomial]:
    """Graded lexicographic, greatest first: a monomial order, so that exact division ends."""
    return -len(monomial), monomial


def _without(monomial: Monomial, factors: Monomial) -> Monomial | None:
    """`monomial / factors`, None where a factor is missing."""
    left = list(monomial)
    for atom in factors:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)
