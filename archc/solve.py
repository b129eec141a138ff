"""Decides facts about sizes: which values of each symbol they admit, what always holds, what never."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations, islice, product
from math import gcd, lcm, prod

from archc.bounds import Bounds, Poly, bounds, never_negative_in_atoms, nonnegative_from
from archc.obligations import Condition, Fact, Obligation, fact, normal
from archc.periodic import Periodic, everything, members, periodic
from archc.records import dataclass
from archc.search import Sets, first_members, following
from archc.sizes import Extreme, Floor, Size, SizeError

# Sizes tried for one fact; combinations of residues tried for one fact of several symbols.
MAX_TRIED = 1_000_000
# Sets of one symbol whose joint period is too long to be kept as one.
MAX_SETS = 8
# Combinations of sizes of finite sets tried for one fact.
MAX_LISTED = 10_000

Memo = dict[tuple[object, ...], "Periodic | None"]
_NOTHING = Periodic(0, 1, 0, 0)


@dataclass(frozen=True)
class Solution:
    """What facts come to: `bindings` give some symbols by the others, `sets` bound each of the others alone.

    `alone` are the facts behind a set, `known` the facts of several symbols that some sizes meet and some do
    not, `doubtful` those that could not be decided. `contradiction`: no sizes meet all facts.
    """

    bindings: dict[str, Size]
    equalities: tuple[Fact, ...]
    sets: dict[str, Sets]
    alone: dict[str, list[tuple[Fact, Periodic]]]
    known: tuple[Fact, ...] = ()
    doubtful: tuple[Fact, ...] = ()
    contradiction: bool = False


def admitted(one: Fact, symbol: str, start: int, memo: Memo) -> Periodic | None:
    """The values >= `start` of its only symbol that meet the fact, None where that is beyond the limits."""
    key = (*one.key, start)
    if key not in memo:
        try:
            memo[key] = _admitted(one, symbol, start)
        except (ZeroDivisionError, SizeError):
            memo[key] = None
    return memo[key]


def _admitted(one: Fact, symbol: str, start: int) -> Periodic | None:
    if one.kind == "divides":
        found = None if one.by.constant is None else _repeating(one.gap % one.by, "==", symbol, start)
    else:
        found = _compared(one.gap, "==" if one.kind == "equal" else ">=", symbol, start)
    for guard in one.guards:
        outside = _guarded(guard.opposite, symbol, start)
        found = found.either(outside) if found is not None and outside is not None else None
    return found


def _guarded(condition: Condition, symbol: str, start: int) -> Periodic | None:
    if condition.kind in ("eq", "ne"):
        found = _compared(condition.left - condition.right, "==", symbol, start)
        return found.without(start) if found is not None and condition.kind == "ne" else found
    return _compared(_excess(condition), ">=", symbol, start)


def _excess(condition: Condition) -> Size:
    """The size that is >= 0 exactly where an order relation holds."""
    gap = condition.left - condition.right
    return {"ge": gap, "gt": gap - 1, "le": -gap, "lt": -gap - 1}[condition.kind]


def _compared(gap: Size, sign: str, symbol: str, start: int) -> Periodic | None:
    """Where `gap >= 0`, or `gap == 0`."""
    if gap.constant is not None:
        holds = gap.constant == 0 if sign == "==" else gap.constant >= 0
        return everything(start) if holds else _NOTHING
    around = bounds(gap, {symbol: start})
    below = _less_one(around.high, Fraction(-1))  # > -1 where gap < 0
    above = around.low if sign == ">=" else _less_one(around.low, Fraction(1))
    for poly, beyond in ((above, int(sign == ">=")), (below, 0)):
        turn = None if poly is None else nonnegative_from(poly, _limit(gap))
        if turn is not None:
            end = start + turn
            return periodic(end, 1, _tried(gap, sign, symbol, start, end), beyond)
    # Bounded on both sides, a size only repeats.
    return _repeating(gap, sign, symbol, start) if around.bounded else None


def _less_one(poly: Poly | None, factor: Fraction) -> Poly | None:
    if poly is None:
        return None
    moved = {monomial: c * factor for monomial, c in poly.items()}
    moved[()] = moved.get((), Fraction(0)) - 1
    return moved


def _repeating(gap: Size, sign: str, symbol: str, start: int) -> Periodic | None:
    shape = _shape(gap, symbol, start)
    if shape is None:
        return None
    period, settled = shape
    end = settled + period
    if end - start > _limit(gap):
        return None
    mask = _tried(gap, sign, symbol, start, end)
    window = mask >> settled
    turn = settled % period
    cycle = (window << turn | window >> period - turn) & ((1 << period) - 1)
    return periodic(settled, period, mask & ((1 << settled) - 1), cycle)


def _limit(gap: Size) -> int:
    """How many values of `gap` may be tried: fewer of a long one."""
    return MAX_TRIED * 50 // max(gap.nodes, 50)


def _tried(gap: Size, sign: str, symbol: str, start: int, end: int) -> int:
    """Mask of the n in start..end-1 with `gap <sign> 0`."""
    if end <= start:
        return 0
    test = f"{gap.python({symbol: 'n'})} {sign} 0"
    bits: str = eval(f"''.join(['1' if {test} else '0' for n in range({end - 1}, {start - 1}, -1)])")
    return int(bits, 2) << start


def _shape(size: Size, symbol: str, start: int) -> tuple[int, int] | None:
    """(period, settled): from `settled` on, `size` is one polynomial per residue of `symbol`.

    Other symbols are held fixed. None where that is not known.
    """
    period, settled = 1, start
    for atom in {atom for monomial in size.terms for atom in monomial if symbol in atom.symbols}:
        parts: Iterable[Size] = ()
        if isinstance(atom, Floor):
            if not isinstance(atom.divisor, int):
                return None
            parts = (atom.numerator,)
        elif isinstance(atom, Extreme):
            turn = _settles(atom, symbol, start)
            if turn is None:
                return None
            settled, parts = max(settled, turn), atom.options
        inner = [_shape(part, symbol, start) for part in parts]
        for shape in inner:
            if shape is None:
                return None
            period, settled = lcm(period, shape[0]), max(settled, shape[1])
        if isinstance(atom, Floor) and isinstance(atom.divisor, int) and inner[0] is not None:
            period = lcm(period, inner[0][0] * atom.divisor)
    return period, settled


def _settles(atom: Extreme, symbol: str, start: int) -> int | None:
    """From where on every two options keep their order, or differ only by what repeats."""
    settled = start
    for a, b in combinations(atom.options, 2):
        gap = a - b
        if gap.symbols != {symbol}:
            return None
        around = bounds(gap, {symbol: start})
        turns = [nonnegative_from(around.low, MAX_TRIED)] if around.low is not None else []
        if around.high is not None:
            turns.append(nonnegative_from({m: -c for m, c in around.high.items()}, MAX_TRIED))
        found = [turn for turn in turns if turn is not None]
        if found:
            settled = max(settled, start + min(found))
        elif not around.bounded:
            return None
    return settled


def decide(one: Fact, starts: Mapping[str, int], sets: Mapping[str, Sets]) -> bool | None:
    """Whether a fact always holds (True) or never (False) within `sets`; None for sometimes or unknown."""
    for guard in one.guards:
        if guard.kind not in ("eq", "ne"):
            excess = _excess(guard)
            if bounds(excess, starts).always_negative:
                return True
            if one.kind == "at_least" and bounds(one.gap - excess, starts).never_negative:
                return True
    around = bounds(one.gap, starts)
    if one.kind == "at_least" and (around.never_negative or never_negative_in_atoms(one.gap, starts)):
        return True
    if not one.guards:
        if around.always_negative and one.kind != "divides":
            return False
        if one.kind == "equal" and bounds(-one.gap, starts).always_negative:
            return False
        return _by_residues(one, around, starts, sets)
    return None


def _by_residues(
    one: Fact, around: Bounds, starts: Mapping[str, int], sets: Mapping[str, Sets]
) -> bool | None:
    """Tries all combinations of residues, where the fact depends on those alone."""
    if one.by.constant is None or (one.kind != "divides" and not around.bounded):
        return None
    try:
        gap = one.gap % one.by if one.kind == "divides" else one.gap
    except SizeError:
        return None
    choices: dict[str, list[int]] = {}
    for symbol in sorted(gap.symbols):
        shape = _shape(gap, symbol, starts[symbol])
        if shape is None or shape[1] > starts[symbol] or shape[0] > MAX_TRIED:
            return None
        choices[symbol] = _representatives(shape[0], starts[symbol], sets[symbol])
    if prod(map(len, choices.values())) > _limit(gap):
        return None
    names = {symbol: f"n{i}" for i, symbol in enumerate(choices)}
    loops = " ".join(f"for {names[s]} in choices[{s!r}]" for s in choices)
    test = f"{gap.python(names)} {'>=' if one.kind == 'at_least' else '=='} 0"
    if eval(f"all({test} {loops})", {"choices": choices}):
        return True
    return None if eval(f"any({test} {loops})", {"choices": choices}) else False


def _representatives(period: int, start: int, sets: Sets) -> list[int]:
    """A number >= `start` for each residue modulo `period` that the sets may leave."""
    left = list(range(start, start + period))
    for one in sets:
        shared = gcd(period, one.period)
        folded = set(members(one.projected(shared)))
        left = [n for n in left if n % shared in folded]
    return left


def work(symbols: Sequence[str], facts: Iterable[Fact], least: Mapping[str, int], memo: Memo) -> Solution:
    """Solves `facts` over `symbols`, each at least `least.get(name, 1)`."""
    bindings: dict[str, Size] = {}
    equalities: list[Fact] = []
    waiting = [part for one in facts for part in _factors(one, least)]
    absurd = Solution({}, (), {}, {}, contradiction=True)
    while (found := _isolated(symbols, waiting)) is not None:
        equality, name, value = found
        equalities.append(equality)
        bindings = {other: size.substitute({name: value}) for other, size in bindings.items()}
        bindings[name] = value
        domain = fact(_domain(equality.source, value, least.get(name, 1)), least)
        changed = [one.substitute({name: value}, least) for one in waiting if one is not equality]
        if domain is False or False in changed:
            return absurd
        waiting = [one for one in (*changed, domain) if isinstance(one, Fact)]
    while True:
        waiting = list({f.key: f for f in waiting}.values())
        free = [name for name in symbols if name not in bindings]
        alone: dict[str, list[tuple[Fact, Periodic]]] = {name: [] for name in free}
        several: list[Fact] = []
        beyond: list[Fact] = []
        sets: dict[str, Sets] = {name: (everything(least.get(name, 1)),) for name in free}
        for one in waiting:
            name = next(iter(one.symbols))
            values = admitted(one, name, least.get(name, 1), memo) if len(one.symbols) == 1 else None
            if values is None:
                several.append(one)
                continue
            joint = narrowed(sets[name], values)
            if len(joint) > MAX_SETS:
                beyond.append(one)
                continue
            alone[name].append((one, values))
            sets[name] = joint
        if any(one.empty for name in free for one in sets[name]) or any(map(_disjoint, sets.values())):
            return absurd
        # A size that can only be one number turns facts of several symbols into facts of fewer.
        coupled = {name for one in several if len(one.symbols) > 1 for name in one.symbols}
        fixed = {name: _only(sets[name]) for name in coupled}
        numbers = {name: Size.of(number) for name, number in fixed.items() if number is not None}
        if not numbers:
            break
        changed = [one.substitute(numbers, least) if len(one.symbols) > 1 else one for one in waiting]
        if False in changed:
            return absurd
        waiting = [one for one in changed if isinstance(one, Fact)]

    starts = {name: max(one.following(0) or 0 for one in sets[name]) for name in free}
    known: list[Fact] = []
    doubtful = beyond
    for one in several:
        verdict = decide(one, starts, sets)
        seen = {verdict} if verdict is not None else _seen(one, starts, sets)
        if seen == {False}:
            return absurd
        if seen != {True}:
            (known if seen else doubtful).append(one)
    for a, b in combinations([f for f in several if not f.guards and f.kind != "divides"][:12], 2):
        if any(_exclude(a, b, sign, starts) for sign in ((1, -1) if "equal" in (a.kind, b.kind) else (1,))):
            return absurd
    return Solution(bindings, tuple(equalities), sets, alone, tuple(known), tuple(doubtful))


def _factors(one: Fact, least: Mapping[str, int]) -> list[Fact]:
    """A product of counts is at least 1 where each of them is."""
    product_of = next((monomial for monomial in one.gap.terms if monomial), ())
    if one.kind != "at_least" or one.gap.terms != {product_of: 1, (): -1} or len(set(product_of)) < 2:
        return [one]
    factors = [Size({(atom,): 1}) for atom in dict.fromkeys(product_of)]
    if not all(bounds(factor, least).never_negative for factor in factors):
        return [one]
    parts = [normal("at_least", factor - 1, one.by, one.guards, one.source, least) for factor in factors]
    return [part for part in parts if isinstance(part, Fact)]


def _domain(source: Obligation, value: Size, least: int) -> Obligation:
    return Obligation("at_least", value, Size.of(least), source.span, source.why, source.code)


def _exclude(a: Fact, b: Fact, sign: int, starts: Mapping[str, int]) -> bool:
    """Whether two comparisons exclude each other: their gaps add up to what is always negative."""
    first, second = (a.gap * sign, b.gap) if a.kind == "equal" else (a.gap, b.gap * sign)
    return bounds(first + second, starts).always_negative


def _isolated(symbols: Sequence[str], facts: Sequence[Fact]) -> tuple[Fact, str, Size] | None:
    """An equality of several symbols that gives one of them, the last it can, by the others."""
    for one in facts:
        if one.kind != "equal" or one.guards or len(one.symbols) < 2:
            continue
        for name in reversed(symbols):
            alone = Size.symbol(name)
            c = one.gap.terms.get(next(iter(alone.terms)), 0)
            rest = one.gap - alone * c
            if c in (1, -1) and name not in rest.symbols:
                return one, name, rest * -c
    return None


def narrowed(sets: Sets, more: Periodic) -> Sets:
    """The intersection of all, as few sets as the longest period allows."""
    for i, one in enumerate(sets):
        joint = one.both(more)
        if joint is not None:
            return (*sets[:i], joint, *sets[i + 1 :])
    return (*sets, more)


def _disjoint(sets: Sets) -> bool:
    """Whether two of the sets share no residue modulo what their periods have in common."""
    for a, b in combinations(sets, 2):
        shared = gcd(a.period, b.period)
        if not a.projected(shared) & b.projected(shared):
            return True
    return False


def _only(sets: Sets) -> int | None:
    """The single member, if the set has one only."""
    if len(sets) != 1 or not sets[0].finite or sets[0].head.bit_count() != 1:
        return None
    return sets[0].head.bit_length() - 1


def _seen(one: Fact, starts: Mapping[str, int], sets: Mapping[str, Sets]) -> set[bool]:
    """Whether the fact holds, fails, or does both within the sets; empty where that is not known."""
    names = sorted(one.symbols)
    listed = [_listed(sets[name]) for name in names]
    if all(members is not None for members in listed) and prod(len(members or ()) for members in listed) <= MAX_LISTED:
        return {one.holds(dict(zip(names, values, strict=True))) for values in product(*(m or () for m in listed))}
    count = max(2, round(500 ** (1 / len(names))) // 2)
    choices = [first_members(sets[name], starts[name], count) for name in names]
    for name, chosen in zip(names, choices, strict=True):  # a multiple of the divisor is likely to pass
        multiple = following(sets[name], max(starts[name], one.by.constant or 1))
        chosen += [multiple] if multiple is not None else []
    seen: set[bool] = set()
    for values in islice(product(*choices), 2_000):
        seen.add(one.holds(dict(zip(names, values, strict=True))))
        if len(seen) == 2:
            return seen
    return set()


def _listed(sets: Sets) -> list[int] | None:
    """All members of a finite set."""
    finite = next((one for one in sets if one.finite), None)
    if finite is None:
        return None
    return [n for n in members(finite.head) if all(n in one for one in sets)]
