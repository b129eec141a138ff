import torch
from torch import Tensor


def pad_index(
    n: int, before: int, behind: int, mode: str, device: torch.device
) -> Tensor:
    """The places that a padded axis takes its values from."""
    i = torch.arange(-before, n + behind, device=device)
    if mode == "circular":
        return i % n
    if mode == "replicate":
        return i.clamp(0, n - 1)
    return (n - 1) - ((n - 1) - i.abs()).abs()
