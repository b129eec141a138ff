"""Sets of sizes that repeat from some number on, as bit masks; closed under and, or and not."""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm

from archc.records import dataclass

# Longest period kept: two megabytes of mask.
MAX_PERIOD = 1 << 24
MAX_SHIFTED = 256


@dataclass(frozen=True)
class Periodic:
    """A set of integers >= 0: below `settled` bit n of `head`, from there on bit `n % period` of `cycle`.

    Build it with `periodic`, which reduces it; then equal sets are equal objects.
    """

    settled: int
    period: int
    head: int
    cycle: int

    def __contains__(self, n: int) -> bool:
        if n < self.settled:
            return n >= 0 and bool(self.head >> n & 1)
        return bool(self.cycle >> n % self.period & 1)

    @property
    def finite(self) -> bool:
        return not self.cycle

    @property
    def empty(self) -> bool:
        return not self.cycle and not self.head

    def following(self, n: int) -> int | None:
        """The least member >= n, None if there is none."""
        n = max(n, 0)
        rest = self.head >> n
        if rest:
            return n + _lowest(rest)
        if not self.cycle:
            return None
        start = max(n, self.settled)
        phase = start % self.period
        rest = self.cycle >> phase
        return start + (_lowest(rest) if rest else self.period - phase + _lowest(self.cycle))

    def preceding(self, n: int) -> int | None:
        """The greatest member <= n, None if there is none."""
        if n >= self.settled and self.cycle:
            phase = n % self.period
            rest = self.cycle & ((2 << phase) - 1)
            found = n - phase + (rest or self.cycle).bit_length() - 1 - (0 if rest else self.period)
            if found >= self.settled:
                return found
        rest = self.head & ((2 << n) - 1) if n >= 0 else 0
        return rest.bit_length() - 1 if rest else None

    def residues(self) -> list[int]:
        """The members modulo the period, from `settled` on."""
        return list(members(self.cycle))

    def both(self, other: Periodic) -> Periodic | None:
        """The intersection, None where its period would be too long."""
        return self._combined(other, True)

    def either(self, other: Periodic) -> Periodic | None:
        """The union, None where its period would be too long."""
        return self._combined(other, False)

    def without(self, start: int) -> Periodic:
        """The integers >= `start` that are not in the set."""
        settled = max(self.settled, start)
        inside = ((1 << settled) - 1) ^ ((1 << start) - 1)
        head = inside & ~self.head_to(settled)
        return periodic(settled, self.period, head, _ones(self.period) & ~self.cycle)

    def projected(self, divisor: int) -> int:
        """Mask of the residues that members have modulo `divisor`, a divisor of the period."""
        folded, length = self.cycle, self.period
        for prime in _primes(self.period // divisor):
            while length // divisor % prime == 0:
                length //= prime
                folded = _folded(folded, length, prime)
        for n in members(self.head):
            folded |= 1 << n % divisor
        return folded

    def head_to(self, settled: int) -> int:
        """`head` written out at least as far as `settled`."""
        if settled <= self.settled:
            return self.head
        return self.head | _repeated(self.cycle, self.period, settled) >> self.settled << self.settled

    def _combined(self, other: Periodic, both: bool) -> Periodic | None:
        if self == other:
            return self
        finite = both and (self.finite or other.finite)
        period = 1 if finite else lcm(self.period, other.period)
        if period > MAX_PERIOD:
            return None
        settled = max(self.settled, other.settled)
        heads = self.head_to(settled), other.head_to(settled)
        head = heads[0] & heads[1] if both else heads[0] | heads[1]
        if finite:
            return periodic(settled, 1, head, 0)
        ours, theirs = (_repeated(one.cycle, one.period, period) for one in (self, other))
        return periodic(settled, period, head, ours & theirs if both else ours | theirs)


def periodic(settled: int, period: int, head: int, cycle: int) -> Periodic:
    """The set with the shortest period and the least `settled` that describe it."""
    for prime in _primes(period):
        while period % prime == 0:
            shorter = period // prime
            if _repeated(cycle & _ones(shorter), shorter, period) != cycle:
                break
            period, cycle = shorter, cycle & _ones(shorter)
    settled = (head ^ _repeated(cycle, period, settled)).bit_length()
    return Periodic(settled, period, head & _ones(settled), cycle)


def everything(start: int) -> Periodic:
    """All integers >= `start`."""
    return periodic(start, 1, 0, 1)


def members(mask: int) -> Iterator[int]:
    """The places of the ones in `mask`, ascending."""
    return (place for place, bit in enumerate(bin(mask)[:1:-1]) if bit == "1")


def _ones(count: int) -> int:
    return (1 << count) - 1


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _repeated(mask: int, period: int, length: int) -> int:
    """`length` bits: `mask`, of `period` bits, over and over."""
    if mask == 0 or length <= period:
        return mask & _ones(length)
    have = period
    while have < length:
        mask |= mask << have
        have *= 2
    return mask & _ones(length)


def _folded(mask: int, length: int, parts: int) -> int:
    """The union of the `parts` pieces of `length` bits that `mask` consists of."""
    if parts > MAX_SHIFTED:  # shifting a long mask once for each piece would take the square of its length
        bits = f"{mask:0{length * parts}b}"
        return int("".join("1" if "1" in bits[place::length] else "0" for place in range(length)), 2)
    folded = 0
    for start in range(0, length * parts, length):
        folded |= mask >> start & _ones(length)
    return folded


def _primes(n: int) -> Iterator[int]:
    factor = 2
    while factor * factor <= n:
        if n % factor == 0:
            yield factor
            while n % factor == 0:
                n //= factor
        factor += 1
    if n > 1:
        yield n
