"""Members of sets of sizes: the next one, and combinations that pass a test."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

from archc.periodic import Periodic

MAX_SEARCHED = 3_000

Sets = tuple[Periodic, ...]  # their intersection; several only where a joint period would be too long


def following(sets: Sets, n: int) -> int | None:
    """The least common member >= n, None if none was found."""
    for _ in range(MAX_SEARCHED):
        found = [one.following(n) for one in sets]
        if None in found:
            return None
        high = max(value for value in found if value is not None)
        if high == n or len(sets) == 1:
            return high
        n = high
    return None


def preceding(sets: Sets, n: int) -> int | None:
    """The greatest common member <= n, None if none was found."""
    for _ in range(MAX_SEARCHED):
        found = [one.preceding(n) for one in sets]
        if None in found:
            return None
        low = min(value for value in found if value is not None)
        if low == n or len(sets) == 1:
            return low
        n = low
    return None


def first_members(sets: Sets, start: int, count: int) -> list[int]:
    """The first members >= start, then a few at growing distance."""
    chosen: list[int] = []
    at = start
    for i in range(2 * count):
        n = following(sets, at)
        if n is None:
            break
        chosen.append(n)
        at = n + 1 if i < count else 2 * n + 1
    return chosen


def search(
    starts: Mapping[str, int], sets: Mapping[str, Sets], test: Callable[[Mapping[str, int]], bool]
) -> dict[str, int] | None:
    """Members of the sets >= starts that pass `test`: those of least sum if that is near, else some."""
    names = list(starts)
    first = [following(sets[name], starts[name]) for name in names]
    if None in first:
        return None
    lowest = tuple(n for n in first if n is not None)
    queue, seen = [(sum(lowest), lowest)], {lowest}
    for _ in range(MAX_SEARCHED):
        if not queue:
            return None
        _, values = heapq.heappop(queue)
        env = dict(zip(names, values, strict=True))
        if test(env):
            return env
        for i, name in enumerate(names):
            after = following(sets[name], values[i] + 1)
            moved = values if after is None else (*values[:i], after, *values[i + 1 :])
            if moved not in seen:
                seen.add(moved)
                heapq.heappush(queue, (sum(moved), moved))
    return _far(names, starts, sets, test)


def _far(
    names: Sequence[str],
    starts: Mapping[str, int],
    sets: Mapping[str, Sets],
    test: Callable[[Mapping[str, int]], bool],
) -> dict[str, int] | None:
    """Sizes that grow together until they pass, each then brought down by bisection."""
    for power in range(4, 24):
        grown = {name: following(sets[name], max(starts[name], 1 << power)) for name in names}
        env = {name: n for name, n in grown.items() if n is not None}
        if len(env) < len(names) or not test(env):
            continue
        for name in names:
            low = starts[name]
            while low < env[name]:
                middle = following(sets[name], (low + env[name]) // 2)
                if middle is not None and middle < env[name] and test({**env, name: middle}):
                    env[name] = middle
                else:
                    low = (low + env[name]) // 2 + 1
        return env
    return None
