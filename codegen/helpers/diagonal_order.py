import torch
from torch import Tensor


def diagonal_order(h: int, w: int, device: torch.device) -> Tensor:
    """Positions of a map diagonal by diagonal, each from top to bottom."""
    y = torch.arange(h, device=device)[:, None]
    key = (y + torch.arange(w, device=device)) * h + y
    return key.flatten().argsort()
