"""What operations ask of sizes, and the normal form in which equal demands are one demand."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Literal

from archc.records import dataclass
from archc.sizes import DivisorError, Monomial, Size
from archc.source import Span

Kind = Literal["equal", "divides", "at_least"]
Relation = Literal["lt", "le", "gt", "ge", "eq", "ne"]
_SIGNS: dict[Relation, str] = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_OPPOSITE: dict[Relation, Relation] = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


@dataclass(frozen=True)
class Condition:
    """`left <kind> right`, the condition of a branch on sizes."""

    kind: Relation
    left: Size
    right: Size

    @property
    def opposite(self) -> Condition:
        """The condition that holds exactly when this one does not."""
        return Condition(_OPPOSITE[self.kind], self.left, self.right)

    def holds(self, env: Mapping[str, int]) -> bool:
        """Raises KeyError for a missing symbol, DivisorError for a divisor below 1."""
        a, b = self.left.evaluate(env), self.right.evaluate(env)
        return {"lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b, "eq": a == b, "ne": a != b}[self.kind]

    def python(self, names: Mapping[str, str]) -> str:
        """The condition as a Python expression."""
        return f"{self.left.python(names)} {_SIGNS[self.kind]} {self.right.python(names)}"

    def substitute(self, env: Mapping[str, Size]) -> Condition:
        return Condition(self.kind, self.left.substitute(env), self.right.substitute(env))

    def __str__(self) -> str:
        return f"{self.left} {_SIGNS[self.kind]} {self.right}"


@dataclass(frozen=True)
class Obligation:
    """What an operation needs: `left == right`, `right` divides `left`, or `left >= right`.

    It binds only where all `guards` hold. `why` says in words what asks for it, `code` is the diagnostic's
    code if no size can meet it.
    """

    kind: Kind
    left: Size
    right: Size
    span: Span | None
    why: str
    code: str = "E0331"
    guards: tuple[Condition, ...] = ()

    def holds(self, env: Mapping[str, int]) -> bool:
        """Whether `env` meets it; a divisor below 1 is a failure. Raises KeyError for a missing symbol."""
        try:
            if not all(guard.holds(env) for guard in self.guards):
                return True
            a, b = self.left.evaluate(env), self.right.evaluate(env)
        except DivisorError:
            return False
        if self.kind == "divides":
            return b > 0 and a % b == 0
        return a == b if self.kind == "equal" else a >= b


@dataclass(frozen=True)
class Fact:
    """An obligation in normal form: `gap == 0`, `gap >= 0` or `by` divides `gap`, where the guards hold.

    A constant gap is -1: then the guards must not all hold. `source` is the first obligation that says so.
    """

    kind: Kind
    gap: Size
    by: Size
    guards: tuple[Condition, ...]
    source: Obligation

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for facts that say the same."""
        return self.kind, self.gap, self.by, self.guards

    @property
    def symbols(self) -> frozenset[str]:
        sizes = [self.gap, self.by, *(size for guard in self.guards for size in (guard.left, guard.right))]
        return frozenset().union(*(size.symbols for size in sizes))

    def holds(self, env: Mapping[str, int]) -> bool:
        """Whether `env` meets the fact; a divisor below 1 is a failure."""
        try:
            if not all(guard.holds(env) for guard in self.guards):
                return True
            gap, by = self.gap.evaluate(env), self.by.evaluate(env)
        except DivisorError:
            return False
        if self.kind == "divides":
            return by > 0 and gap % by == 0
        return gap == 0 if self.kind == "equal" else gap >= 0

    def substitute(self, env: Mapping[str, Size], least: Mapping[str, int]) -> Fact | bool:
        """The fact after replacing symbols; True where it became trivial, False where absurd.

        Raises SizeError where it became too large.
        """
        try:
            guards = tuple(guard.substitute(env) for guard in self.guards)
            gap, by = self.gap.substitute(env), self.by.substitute(env)
        except DivisorError:
            return False
        return normal(self.kind, gap, by, guards, self.source, least)

    def python(self, names: Mapping[str, str]) -> str:
        """A Python expression that is True exactly where the fact holds."""
        outside = [guard.opposite.python(names) for guard in self.guards]
        if self.by == 1 and self.gap.constant is not None:
            return " or ".join(outside)
        if self.kind == "divides":
            text = f"{self.gap.python(names, grouped=True)} % {self.by.python(names, grouped=True)} == 0"
            text = text if self.by.constant is not None else f"({self.by.python(names)} > 0 and {text})"
        else:
            plus, minus = _sides(self.gap)
            text = f"{plus.python(names)} {'==' if self.kind == 'equal' else '>='} {minus.python(names)}"
        return " or ".join([*outside, text])

    def __str__(self) -> str:
        if self.by == 1 and self.gap.constant is not None:
            return " or ".join(str(guard.opposite) for guard in self.guards)
        if self.kind == "divides":
            text = f"{self.gap}: a multiple of {self.by}"
        else:
            plus, minus = _sides(self.gap)
            text = f"{plus} {'==' if self.kind == 'equal' else '>='} {minus}"
        return text + (f" where {' and '.join(map(str, self.guards))}" if self.guards else "")


def fact(obligation: Obligation, least: Mapping[str, int]) -> Fact | bool:
    """The obligation's normal form; True where it always holds, False where it never does.

    `least` gives symbols whose least value is not 1.
    """
    o = obligation
    if o.kind == "divides":
        return normal("divides", o.left, o.right, o.guards, o, least)
    return normal(o.kind, o.left - o.right, Size.of(1), o.guards, o, least)


def normal(
    kind: Kind,
    gap: Size,
    by: Size,
    guards: tuple[Condition, ...],
    source: Obligation,
    least: Mapping[str, int],
) -> Fact | bool:
    """Builds a `Fact`, or says at once that it is trivial (True) or absurd (False)."""
    kept: list[Condition] = []
    for guard in guards:
        gap_of_guard = guard.left - guard.right
        if gap_of_guard.constant is None:
            kept.append(guard)
        elif not Condition(guard.kind, gap_of_guard, Size.of(0)).holds({}):
            return True
    if kind == "divides" and by.constant is None and gap.exact_div(by) is not None:
        kind, gap = "at_least", by - 1  # it divides wherever it is a divisor at all
    body = _divides(gap, by) if kind == "divides" else _compared(kind, _reduced(gap, least))
    if body is True:
        return True
    if body is False:
        if not kept:
            return False
        return Fact("at_least", Size.of(-1), Size.of(1), tuple(kept), source)
    return Fact(kind, body[0], body[1], tuple(kept), source)


def _reduced(gap: Size, least: Mapping[str, int]) -> Size:
    """`gap` without the positive symbols that all its terms share: zeros and signs stay."""
    if gap.constant is not None or () in gap.terms:
        return gap
    for atom in dict.fromkeys(next(iter(gap.terms))):
        shared = Size({(atom,): 1})
        while shared.symbols == {atom} and least.get(atom, 1) > 0 and all(atom in m for m in gap.terms):
            gap = gap.exact_div(shared) or gap
    return gap


def _compared(kind: Kind, gap: Size) -> tuple[Size, Size] | bool:
    one = Size.of(1)
    if gap.constant is not None:
        return gap.constant == 0 if kind == "equal" else gap.constant >= 0
    offset = gap.terms.get((), 0)
    common = gcd(*(c for monomial, c in gap.terms.items() if monomial))
    if kind == "equal":
        if offset % common:
            return False
        sign = 1 if gap.terms[_first(gap)] > 0 else -1
        return Size({monomial: sign * c // common for monomial, c in gap.terms.items()}), one
    # g*p + c >= 0 exactly when p + floor(c/g) >= 0
    return Size({m: c // common for m, c in gap.terms.items() if c // common}), one


def _divides(gap: Size, by: Size) -> tuple[Size, Size] | bool:
    n = by.constant
    if n is None:
        return gap, by
    if n < 1:
        return False
    if gap.constant is not None:
        return gap.constant % n == 0
    common = gcd(n, *gap.terms.values())
    n //= common
    gap = Size({monomial: c // common for monomial, c in gap.terms.items()})
    if n == 1:
        return True
    if gcd(n, *(c for monomial, c in gap.terms.items() if monomial)) > 1:
        return False  # the variable part is a multiple of what the constant is not
    lead = gap.terms[_first(gap)]
    factor = pow(lead, -1, n) if gcd(lead, n) == 1 else 1
    terms: dict[Monomial, int] = {}
    for monomial, c in gap.terms.items():
        small = c * factor % n
        if small:
            terms[monomial] = small if 2 * small <= n else small - n
    return Size(terms), Size.of(n)


def _first(gap: Size) -> Monomial:
    return min((monomial for monomial in gap.terms if monomial), key=lambda m: (len(m), m))


def _sides(gap: Size) -> tuple[Size, Size]:
    """`gap` as plus - minus with positive coefficients on both sides."""
    plus = {monomial: c for monomial, c in gap.terms.items() if c > 0}
    return Size(plus), Size({monomial: -c for monomial, c in gap.terms.items() if c < 0})
