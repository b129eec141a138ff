from collections.abc import Sequence

import torch
from torch import Tensor


def lattice_order(inner: Tensor, grid: Sequence[int], step: tuple[int, ...]) -> Tensor:
    """The positions of every lattice of a map, one lattice behind the other."""
    order = inner.new_zeros((1, inner.shape[0]))
    stride, above = 1, 1
    for n, s in zip(reversed(grid), reversed(step)):
        place = (inner // above % n) * s
        start = torch.arange(s, device=inner.device)[:, None, None]
        order = ((start + place) * stride + order).flatten(0, 1)
        stride, above = stride * n * s, above * n
    return order.flatten()
