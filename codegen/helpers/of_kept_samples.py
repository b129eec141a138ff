from torch import Tensor


def of_kept_samples(x: Tensor, kept: Tensor) -> Tensor:
    """Each sample times its factor; `x` where there is none."""
    return x * kept.view(-1, *[1] * (x.ndim - 1)) if kept.numel() else x
