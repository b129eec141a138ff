import torch
from torch import Tensor


def grid_taps(n: int, size: int, device: torch.device) -> Tensor:
    """The positions spread evenly over an axis that each shares: [position, tap]."""
    stride = n // size
    i = torch.arange(n, device=device) % stride
    return i[:, None] + stride * torch.arange(size, device=device)
