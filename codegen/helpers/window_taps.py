import torch
from torch import Tensor


def window_taps(n: int, size: int, device: torch.device) -> Tensor:
    """The window of every position of an axis: [position, tap]."""
    i = torch.arange(n, device=device)
    return (i - i % size)[:, None] + torch.arange(size, device=device)
