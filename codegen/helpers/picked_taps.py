import torch
from torch import Tensor


def picked_taps(x: Tensor, index: Tensor, queries: int) -> Tensor:
    """Gather the taps that an index names: (..., keys, C) by (..., queries, tap), with
    `queries` axes of them, to (..., queries, tap, C). What rides along broadcasts.
    """
    own = index.shape[index.ndim - queries - 1 :]
    lead = torch.broadcast_shapes(x.shape[:-2], index.shape[: index.ndim - queries - 1])
    flat = index.flatten(-queries - 1)
    flat = flat.expand(*lead, flat.shape[-1])[..., None]
    flat = flat.expand(*flat.shape[:-1], x.shape[-1])
    y = x.expand(*lead, *x.shape[-2:]).gather(-2, flat)
    return y.unflatten(-2, own)
