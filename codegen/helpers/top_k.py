from torch import Tensor


def top_k(x: Tensor, k: int, dim: int) -> tuple[Tensor, Tensor]:
    """The k greatest values, greatest first, and their places; ties in order."""
    index = x.argsort(dim=dim, descending=True, stable=True).narrow(dim, 0, k)
    return x.gather(dim, index), index
