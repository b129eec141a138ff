from torch import Tensor


def kept_samples(x: Tensor, rate: float, training: bool) -> Tensor:
    """What stochastic depth multiplies each sample by: 0 or 1 / (1 - rate); nothing outside of training."""
    if rate == 0.0 or not training:
        return x.new_empty(0)
    keep = 1.0 - rate
    mask = x.new_empty(x.shape[0]).bernoulli_(keep)
    return mask.div_(keep) if keep else mask
