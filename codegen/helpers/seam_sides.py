from collections.abc import Sequence

import torch
from torch import Tensor


def seam_sides(
    sizes: Sequence[int], shifts: Sequence[int], device: torch.device
) -> Tensor:
    """Number the parts into which rolling a map by `shifts` cuts it: (H, W, 1)."""
    n = len(sizes)
    sides = torch.zeros(1, dtype=torch.long, device=device)
    for i, (size, shift) in enumerate(zip(sizes, shifts)):
        wraps = torch.arange(size, device=device) >= size - shift % size
        sides = 2 * sides + wraps.view([-1 if j == i else 1 for j in range(n + 1)])
    return sides
