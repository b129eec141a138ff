from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(x: Tensor, size: Sequence[int]) -> Tensor:
    """Zeros at the end of each axis of (..., H, W, C) up to the next multiple."""
    pads = [0, 0]
    for i, s in enumerate(reversed(size)):
        pads += [0, -x.shape[x.ndim - 2 - i] % s]
    return F.pad(x, pads)
