"""What a network requires of its input sizes: obligations go in, a contract comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from itertools import product
from typing import Literal

from archc.obligations import Condition, Fact, Kind, Obligation, Relation, fact
from archc.periodic import everything
from archc.records import dataclass
from archc.requirements import Requirement, RequirementKind, requirements
from archc.search import Sets, following, preceding, search
from archc.solve import Memo, Solution, admitted, decide, work

__all__ = [
    "Condition",
    "Contract",
    "Kind",
    "Obligation",
    "Relation",
    "Requirement",
    "RequirementKind",
    "settle",
    "solve",
]

Env = Mapping[str, int]
# Facts that are solved; those beyond are tested when the module runs.
MAX_FACTS = 100


@dataclass(frozen=True)
class Contract:
    """What input sizes must satisfy.

    `requirements` are the simplest true statements and together exact. `unproved` are the obligations of
    which it is not known whether sizes can fail them, or meet them: they are among the requirements too.
    `refused` are obligations that no input size satisfies together, as few as were found; then there are no
    requirements. A symbol is at least 1, or what `least` says.
    """

    symbols: tuple[str, ...]
    requirements: tuple[Requirement, ...]
    unproved: tuple[Obligation, ...]
    refused: tuple[Obligation, ...] = ()
    obligations: tuple[Obligation, ...] = field(default=(), repr=False)
    least: Mapping[str, int] = field(default_factory=dict, repr=False)
    solution: Solution = field(default_factory=lambda: Solution({}, (), {}, {}), repr=False)

    def admits(self, env: Env) -> bool:
        """Whether the network takes inputs of these sizes. Raises KeyError for a missing symbol."""
        large = all(env[name] >= self.least.get(name, 1) for name in self.symbols)
        return large and self.failing(env) is None

    def failing(self, env: Env) -> Obligation | None:
        """The first obligation that `env` does not meet. Raises KeyError for a missing symbol."""
        return next((o for o in self.obligations if not o.holds(env)), None)

    def describe(self) -> list[str]:
        """One line for each requirement."""
        return [requirement.describe() for requirement in self.requirements]

    def examples(self, count: int = 4, at_least: Env | None = None) -> list[dict[str, int]]:
        """Up to `count` admitted sizes: the least, one with unequal sizes, an odd one, larger ones.

        None is below `at_least`. Where sizes depend on each other in ways that are only searched, the list
        may be empty although some sizes are admitted.
        """
        if self.refused:
            return []
        floor = {**dict.fromkeys(self.symbols, 0), **(at_least or {})}
        least = self._search(floor)
        found = [least] if least is not None else []
        if least is None:
            return found
        for wanted in self._variations(least):
            other = self._search({name: max(floor[name], wanted[name]) for name in floor})
            if other is not None and other not in found:
                found.append(other)
            if len(found) >= count:
                break
        return found[:count]

    def nearest(self, env: Env) -> list[dict[str, int]]:
        """Up to three admitted sizes close to `env`, the closest first."""
        if self.refused:
            return []
        sets = self.solution.sets
        choices = [self._around(sets[name], env[name]) for name in sets]
        found = [self._complete(dict(zip(sets, values, strict=True))) for values in product(*choices)]
        near = [one for one in found if self.admits(one)]
        if not near:
            further = self._search(env)
            near = [further] if further is not None else []
        near.sort(key=lambda one: (sum(abs(one[name] - env[name]) for name in one), list(one.values())))
        return near[:3]

    @staticmethod
    def _around(sets: Sets, n: int) -> list[int]:
        ends = {preceding(sets, n), following(sets, n)}
        return sorted(end for end in ends if end is not None)

    def _complete(self, env: Env) -> dict[str, int]:
        """All symbols, in order, from those that are free."""
        given = {name: size.evaluate(env) for name, size in self.solution.bindings.items()}
        return {name: given[name] if name in given else env[name] for name in self.symbols}

    def _search(self, floor: Env) -> dict[str, int] | None:
        """The least admitted sizes >= floor that the search finds."""
        sets, bindings = self.solution.sets, self.solution.bindings
        facts = (*self.solution.known, *self.solution.doubtful)
        bounded = [(size, floor[name]) for name, size in bindings.items() if floor[name] > 0]

        def passes(env: Env) -> bool:
            return all(one.holds(env) for one in facts) and all(s.evaluate(env) >= low for s, low in bounded)

        env = search({name: floor[name] for name in sets}, sets, passes)
        return self._complete(env) if env is not None else None

    def _variations(self, least: Env) -> list[dict[str, int]]:
        """Sizes to look above of, for examples that differ in kind from the least one."""
        sets = self.solution.sets
        wanted: list[dict[str, int]] = []
        # Axes that could be different and are not: the last one is raised.
        raised = [name for name in sets if following(sets[name], least[name] + 1) is not None]
        if raised:
            wanted.append({**least, raised[-1]: least[raised[-1]] + 1})
        odd = self._odd(least)
        if odd is not None:
            wanted.append(odd)
        wanted += [{name: least[name] * factor + factor - 1 for name in least} for factor in (2, 3, 4, 5)]
        return wanted

    def _odd(self, least: Env) -> dict[str, int] | None:
        """The next odd members >= 3, for the symbols that have any."""
        chosen = dict(least)
        for name, sets in self.solution.sets.items():
            at = following(sets, max(3, least[name]))
            for _ in range(64):
                if at is None or at % 2:
                    break
                at = following(sets, at + 1)
            if at is not None and at % 2:
                chosen[name] = at
        return chosen if chosen != dict(least) else None


def settle(o: Obligation, least: Env | None = None) -> Literal["proved", "refused", "depends"]:
    """How an obligation ends on its own: it holds for every size, for none, or (as far as is known) for some.

    Symbols are at least 1, or what `least` says. Raises SizeError beyond the limits of `archc.sizes`.
    """
    low = least or {}
    normal = fact(o, low)
    if isinstance(normal, bool):
        return "proved" if normal else "refused"
    names = sorted(normal.symbols)
    starts = {name: low.get(name, 1) for name in names}
    verdict: bool | None = None
    if len(names) == 1:
        start = starts[names[0]]
        values = admitted(normal, names[0], start, {})
        if values is not None:
            verdict = True if values == everything(start) else False if values.empty else None
            return _WORDS[verdict]
    return _WORDS[decide(normal, starts, {name: (everything(starts[name]),) for name in names})]


_WORDS: dict[bool | None, Literal["proved", "refused", "depends"]] = {
    True: "proved",
    False: "refused",
    None: "depends",
}


def solve(symbols: Sequence[str], obligations: Sequence[Obligation], least: Env | None = None) -> Contract:
    """The contract of `obligations` over `symbols`, each of which is at least 1 or what `least` says.

    Symbols that only the obligations name are added at the end. Raises SizeError where the obligations need
    sizes beyond the limits of `archc.sizes`.
    """
    low = dict(least or {})
    facts: dict[tuple[object, ...], Fact] = {}
    kept: list[Obligation] = []
    for o in obligations:
        normal = fact(o, low)
        if normal is False:
            return Contract(tuple(symbols), (), (), (o,), (o,), low)
        if isinstance(normal, Fact) and normal.key not in facts:
            facts[normal.key] = normal
            kept.append(o)
    unlisted = {name for one in facts.values() for name in one.symbols}.difference(symbols)
    names = (*dict.fromkeys(symbols), *sorted(unlisted))
    memo: Memo = {}
    considered, beyond = list(facts.values())[:MAX_FACTS], list(facts.values())[MAX_FACTS:]
    solution = work(names, considered, low, memo)
    if solution.contradiction:
        core = _core(names, considered, low, memo)
        return Contract(names, (), (), tuple(one.source for one in core), tuple(kept), low)
    unproved = tuple(one.source for one in (*solution.doubtful, *beyond))
    return Contract(names, requirements(solution, names, low), unproved, (), tuple(kept), low, solution)


def _core(names: Sequence[str], facts: list[Fact], least: Env, memo: Memo) -> list[Fact]:
    """A part of contradictory facts that is contradictory and of which each proper part is not."""

    def absurd(some: Sequence[Fact]) -> bool:
        return work(names, some, least, memo).contradiction

    alone = next((one for one in facts if absurd([one])), None)
    if alone is not None:
        return [alone]
    step = len(facts) // 2
    while step:
        at = 0
        while at < len(facts):
            fewer = facts[:at] + facts[at + step :]
            if absurd(fewer):
                facts = fewer
            else:
                at += step
        step //= 2
    return facts
