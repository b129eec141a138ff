import torch
from torch import Tensor


def snake_order(h: int, w: int, device: torch.device) -> Tensor:
    """Positions of a map line by line, odd lines backwards."""
    order = torch.arange(h * w, device=device).view(h, w)
    odd = torch.arange(h, device=device)[:, None] % 2 == 1
    return torch.where(odd, order.flip(1), order).flatten()
