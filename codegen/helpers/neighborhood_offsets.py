import torch
from torch import Tensor


def neighborhood_offsets(
    n: int, size: int, dilation: int, device: torch.device
) -> Tensor:
    """How far the neighbours of `edge="shift"` lie from their query, in steps."""
    i, u = torch.arange(n, device=device)[:, None], torch.arange(size, device=device)
    r, q = i % dilation, i // dilation
    last = (n - r + dilation - 1) // dilation - size
    return torch.minimum((q - size // 2).clamp(min=0), last) + u - q
