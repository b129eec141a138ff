from collections.abc import Sequence

from torch import Tensor


def window_partition(x: Tensor, size: Sequence[int]) -> Tensor:
    """Cut a map into windows: (..., H, W, C) -> (..., windows, positions, C)."""
    n = len(size)
    lead = x.ndim - n - 1
    for i, s in enumerate(size):
        if x.shape[lead + 2 * i] % s:
            length = x.shape[lead + 2 * i]
            raise ValueError(f"windows of {s} cannot cover {length} positions")
        x = x.unflatten(lead + 2 * i, (-1, s))
    outer = [lead + 2 * i for i in range(n)]
    x = x.permute(*range(lead), *outer, *(i + 1 for i in outer), lead + 2 * n)
    return x.flatten(lead + n, lead + 2 * n - 1).flatten(lead, lead + n - 1)
