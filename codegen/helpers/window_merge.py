from collections.abc import Sequence

from torch import Tensor


def window_merge(x: Tensor, size: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Put windows together: (..., windows, positions, C) -> (..., H, W, C)."""
    n = len(size)
    lead = x.ndim - 3
    counts = [length // s for length, s in zip(shape, size)]
    x = x.unflatten(lead + 1, size).unflatten(lead, counts)
    pairs = [lead + i + j for i in range(n) for j in (0, n)]
    x = x.permute(*range(lead), *pairs, lead + 2 * n)
    for i in range(n):
        x = x.flatten(lead + i, lead + i + 1)
    return x
