import torch
from torch import Tensor


def neighborhood_taps(
    n: int, size: int, dilation: int, device: torch.device, edge: str = "none"
) -> Tensor:
    """The neighbours of every position of an axis: [position, tap]."""
    i, u = torch.arange(n, device=device)[:, None], torch.arange(size, device=device)
    if edge == "shift":
        r, q = i % dilation, i // dilation
        last = (n - r + dilation - 1) // dilation - size
        start = torch.minimum((q - size // 2).clamp(min=0), last)
        return (start + u) * dilation + r
    taps = i + dilation * (u - size // 2)
    if edge == "wrap":
        return taps % n
    if edge == "clamp":
        return taps.clamp(0, n - 1)
    if edge == "reflect":
        return (n - 1) - ((n - 1) - taps.abs()).abs()
    return taps
