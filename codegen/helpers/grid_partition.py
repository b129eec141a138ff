from collections.abc import Sequence

from torch import Tensor


def grid_partition(x: Tensor, size: Sequence[int]) -> Tensor:
    """Group positions spread evenly: (..., H, W, C) -> (..., grids, positions, C)."""
    n = len(size)
    lead = x.ndim - n - 1
    for i, s in enumerate(size):
        if x.shape[lead + 2 * i] % s:
            length = x.shape[lead + 2 * i]
            raise ValueError(f"a grid of {s} cannot cover {length} positions")
        x = x.unflatten(lead + 2 * i, (s, -1))
    inner = [lead + 2 * i for i in range(n)]
    x = x.permute(*range(lead), *(i + 1 for i in inner), *inner, lead + 2 * n)
    return x.flatten(lead + n, lead + 2 * n - 1).flatten(lead, lead + n - 1)
