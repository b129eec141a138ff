"""The simplest true statements about input sizes: to print, and as conditions of the generated module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from archc.obligations import Fact, Obligation
from archc.periodic import Periodic, everything, members, periodic
from archc.records import dataclass
from archc.sizes import Size
from archc.solve import Solution, narrowed

RequirementKind = Literal[
    "multiple", "minimum", "maximum", "residues", "finite", "except", "equal", "predicate"
]
# A set that needs longer lists than this is stated fact by fact.
MAX_LISTED = 32
MAX_RUNS = 8

Form = tuple[RequirementKind, tuple[int, ...]]


@dataclass(frozen=True)
class Requirement:
    """One statement about `symbols`.

    `numbers`: the multiple, minimum or maximum; the period and then the residues; the sizes listed. `facts`
    are what an equality or a predicate evaluates. `reasons` are the obligations it came from. `known` is
    False where nobody knows whether sizes can fail it, or meet it.
    """

    kind: RequirementKind
    symbols: tuple[str, ...]
    numbers: tuple[int, ...]
    reasons: tuple[Obligation, ...]
    facts: tuple[Fact, ...] = ()
    known: bool = True

    def describe(self) -> str:
        """The statement in words, e.g. `H: a multiple of 32`, and whether sizes that meet it are known to exist."""
        return self.statement if self.known else f"{self.statement} (not proved; checked at run time)"

    @property
    def statement(self) -> str:
        """The statement in words."""
        name = self.symbols[0] if self.symbols else ""
        first = self.numbers[0] if self.numbers else 0
        match self.kind:
            case "multiple":
                return f"{name}: a multiple of {first}"
            case "minimum":
                return f"{name} >= {first}"
            case "maximum":
                return f"{name} <= {first}"
            case "finite" if len(self.numbers) == 1:
                return f"{name} == {first}"
            case "finite":
                return f"{name}: one of {_listed(self.numbers)}"
            case "except":
                return f"{name}: not {_listed(self.numbers)}"
            case "residues" if self.numbers == (2, 1):
                return f"{name}: an odd size"
            case "residues":
                return f"{name}: any size with {_residues(name, first, self.numbers[1:])}"
        return " and ".join(map(str, self.facts))

    def condition(self, names: Mapping[str, str]) -> str:
        """A Python expression, in terms of `names`, that is True exactly where the requirement holds.

        Raises KeyError for a symbol that `names` lacks.
        """
        if self.facts:
            texts = [fact.python(names) for fact in self.facts]
            return texts[0] if len(texts) == 1 else " and ".join(f"({text})" for text in texts)
        name = Size.symbol(self.symbols[0]).python(names)
        first, *rest = self.numbers
        match self.kind:
            case "multiple":
                return f"{name} % {first} == 0"
            case "minimum":
                return f"{name} >= {first}"
            case "maximum":
                return f"{name} <= {first}"
            case "finite":
                return f"{name} == {first}" if not rest else f"{name} in {self.numbers}"
            case "except":
                return f"{name} != {first}" if not rest else f"{name} not in {self.numbers}"
        return _residue_test(name, first, rest)


def requirements(
    solution: Solution, symbols: Sequence[str], least: Mapping[str, int]
) -> tuple[Requirement, ...]:
    """All that a solution requires, in the order of `symbols`; together exact."""
    stated: list[Requirement] = []
    for name in symbols:
        if name in solution.alone:
            stated += _alone(name, least.get(name, 1), solution.alone[name])
    for fact in solution.equalities:
        stated.append(Requirement("equal", _ordered(fact, symbols), (), (fact.source,), (fact,)))
    for known, facts in ((True, solution.known), (False, solution.doubtful)):
        for fact in facts:
            names = _ordered(fact, symbols)
            stated.append(Requirement("predicate", names, (), (fact.source,), (fact,), known))
    return tuple(stated)


def _ordered(fact: Fact, symbols: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in symbols if name in fact.symbols)


def _alone(name: str, start: int, given: Sequence[tuple[Fact, Periodic]]) -> list[Requirement]:
    """What one symbol must be: its whole set if that is short to say, else fact by fact."""
    needed = _needed(given, start)
    sets = [everything(start)]
    for _, one in needed:
        sets = [*narrowed(tuple(sets), one)]
    joint = forms(sets[0], start) if len(sets) == 1 else None
    if joint is not None:
        why = {kind: _reasons(kind, needed, sets[0], start) for kind, _ in joint}
        return [Requirement(kind, (name,), numbers, why[kind]) for kind, numbers in joint]
    stated: dict[Form, list[Obligation]] = {}
    rest: list[Requirement] = []
    for fact, one in needed:
        single = forms(one, start)
        for form in single or ():
            stated.setdefault(form, []).append(fact.source)
        if single is None:
            rest.append(Requirement("predicate", (name,), (), (fact.source,), (fact,)))
    # Of several minima only the greatest says something, of several maxima the least.
    bound = {
        "minimum": max((numbers for kind, numbers in stated if kind == "minimum"), default=()),
        "maximum": min((numbers for kind, numbers in stated if kind == "maximum"), default=()),
    }
    kept = [form for form in stated if bound.get(form[0], form[1]) == form[1]]
    return [
        Requirement(kind, (name,), numbers, tuple(stated[kind, numbers])) for kind, numbers in kept
    ] + rest


def _needed(given: Sequence[tuple[Fact, Periodic]], start: int) -> list[tuple[Fact, Periodic]]:
    """The facts without those that the others imply."""
    kept: list[tuple[Fact, Periodic]] = []
    joint: Periodic | None = everything(start)
    for pair in given:
        both = joint.both(pair[1]) if joint is not None else None
        if joint is None or both != joint:
            kept.append(pair)
        joint = both
    for pair in list(kept):
        others: Periodic | None = everything(start)
        for other in kept:
            if other is not pair and others is not None:
                others = others.both(other[1])
        if others is not None and others.both(pair[1]) == others:
            kept.remove(pair)
    return kept


def _reasons(
    kind: RequirementKind, needed: Sequence[tuple[Fact, Periodic]], joint: Periodic, start: int
) -> tuple[Obligation, ...]:
    """The obligations behind one part of a joint statement."""
    if kind in ("multiple", "residues"):
        chosen = [fact for fact, one in needed if one.period > 1]
    else:
        excluded = (_regular(joint, start).head ^ joint.head) if not joint.finite else 0
        last = excluded.bit_length() - 1
        chosen = [fact for fact, one in needed if last >= 0 and last not in one]
    return tuple(fact.source for fact in chosen or [fact for fact, _ in needed])


def _regular(one: Periodic, start: int) -> Periodic:
    """The set as its cycle alone would have it from `start` on, written out as far as `one` is."""
    whole = periodic(start, one.period, 0, one.cycle)
    return Periodic(one.settled, one.period, whole.head_to(one.settled), one.cycle)


def forms(one: Periodic, start: int) -> list[Form] | None:
    """Statements that together say `one`, for a symbol >= `start`; None if they would be long."""
    least = one.following(0)
    if least is None:
        return None
    if one.finite:
        listed = one.head.bit_count()
        top = one.head.bit_length() - 1
        if listed == top - least + 1 and (listed > 3 or least == start < top):
            lower: list[Form] = [("minimum", (least,))] if least > start else []
            return [*lower, ("maximum", (top,))]
        return [("finite", tuple(members(one.head)))] if listed <= MAX_LISTED else None
    found: list[Form] = []
    if one.period > 1:
        residues = tuple(one.residues())
        if residues == (0,):
            found.append(("multiple", (one.period,)))
        elif len(_runs(residues, one.period)) <= MAX_RUNS or one.period - len(residues) <= MAX_RUNS:
            found.append(("residues", (one.period, *residues)))
        else:
            return None
    regular = _regular(one, start).head
    if one.head & ~regular:
        return None
    missing = regular & ~one.head
    holes = tuple(members(missing >> least << least))
    if missing & ((1 << least) - 1):
        found.append(("minimum", (least,)))
    if holes:
        found.append(("except", holes))
    return found if len(holes) <= MAX_LISTED else None


def _runs(residues: Sequence[int], period: int) -> list[tuple[int, int]]:
    """The residues as (first, count) of neighbours, where `period - 1` and 0 are neighbours."""
    runs: list[tuple[int, int]] = []
    for residue in residues:
        if runs and sum(runs[-1]) == residue:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((residue, 1))
    if len(runs) > 1 and runs[0][0] == 0 and sum(runs[-1]) == period:
        runs[-1] = (runs[-1][0], runs[-1][1] + runs[0][1])
        del runs[0]
    return runs


def _listed(numbers: Sequence[int]) -> str:
    """`0, 3, 5..19`: five neighbours or more are written as a range."""
    parts: list[str] = []
    for first, count in _runs(numbers, -1):
        parts += [f"{first}..{first + count - 1}"] if count > 4 else map(str, range(first, first + count))
    return ", ".join(parts)


def _residues(name: str, period: int, residues: Sequence[int]) -> str:
    if len(residues) == 1:
        return f"{name} mod {period} == {residues[0]}"
    left_out = sorted(set(range(period)) - set(residues)) if period - len(residues) <= MAX_RUNS else []
    if left_out and 2 * len(left_out) < len(residues):
        text = f"not in {{{_listed(left_out)}}}" if len(left_out) > 1 else f"!= {left_out[0]}"
        return f"{name} mod {period} {text}"
    return f"{name} mod {period} in {{{_listed(residues)}}}"


def _residue_test(name: str, period: int, residues: Sequence[int]) -> str:
    if len(residues) == 1:
        return f"{name} % {period} == {residues[0]}"
    if len(residues) <= MAX_RUNS:
        return f"{name} % {period} in {tuple(residues)}"
    if period - len(residues) <= MAX_RUNS:
        left_out = tuple(n for n in range(period) if n not in set(residues))
        return f"{name} % {period} " + (f"!= {left_out[0]}" if len(left_out) == 1 else f"not in {left_out}")
    tests = []
    for first, count in _runs(residues, period):
        shifted = f"({name} - {first})" if first else name
        tests.append(f"{shifted} % {period} < {count}")
    return " or ".join(tests)
