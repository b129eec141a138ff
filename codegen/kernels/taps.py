from collections.abc import Callable
from typing import Any, NamedTuple

from .fused import jit, tl

# Where a region looks along one axis. Positions that are a step apart make a class, within which everything here is
# counted. For a class of n keys, k taps a query, blocks of b keys and queries on every s-th position, each function gives
# the first tap of query i, and the first and the last query that may see key i; ends may lie outside of the class.


@jit
def around(i, n, k, b, s):
    """k keys with the query in their middle; those outside of the map are none."""
    return i - k // 2, i - k // 2, i + k // 2


@jit
def shifted(i, n, k, b, s):
    """k keys around the query, moved so that all of them are on the map."""
    first = tl.maximum(tl.minimum(i - k // 2, n - k), 0)
    low = tl.where(i < k, 0, i - k + 1 + k // 2)
    high = tl.where(i >= n - k, n - 1, i + k // 2)
    return first, low, high


@jit
def blocks(i, n, k, b, s):
    """The block of the query, and as many keys on both sides of it as make k."""
    halo = (k - b) // 2
    low = tl.maximum(i - halo, 0) // b * (b // s)
    high = ((i + halo) // b + 1) * (b // s) - 1
    return i * s // b * b - halo, low, high


class Taps(NamedTuple):
    """The taps along one axis: `count` of them, `step` apart. Nought stands for all there is: as many taps as keys, as
    far apart as spreads `count` of them over the axis, one block."""

    where: Callable[..., Any] = around
    count: int = 1
    step: int = 1
    block: int = 0
    stride: int = 1

    def numbers(self, queries: int, keys: int) -> tuple[int, int, int, int, int, int]:
        """What kernels are given: queries, keys, step, taps, block, stride."""
        count = self.count or keys
        step = self.step or keys // count
        return queries, keys, step, count, self.block or -(-keys // step), self.stride
