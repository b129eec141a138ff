import torch
from torch import Tensor


def halo_taps(n: int, block: int, halo: int, device: torch.device) -> Tensor:
    """For each block of an axis, the positions it sees: [block, tap]."""
    start = torch.arange(0, n, block, device=device) - halo
    return start[:, None] + torch.arange(block + 2 * halo, device=device)
