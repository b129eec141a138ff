from torch import Tensor


def take_taps(x: Tensor, taps: list[Tensor], absent: bool = False) -> Tensor:
    """Gather taps: (..., H, W, C), with an index [query, tap] for each axis, to
    (..., queries of H, queries of W, tap, C). With `absent`, indices outside are zeros.
    """
    n = len(taps)
    index: list[Tensor] = []
    inside: list[Tensor] = []
    for i, tap in enumerate(taps):
        size = x.shape[x.ndim - 1 - n + i]
        shape = [1] * (2 * n)
        shape[i], shape[n + i] = tap.shape
        index.append(tap.clamp(0, size - 1).view(shape))
        inside.append(((tap >= 0) & (tap < size)).view(shape))
    y = x[(..., *index, slice(None))]
    if absent:
        outside = ~inside[0]
        for axis in inside[1:]:
            outside = outside | ~axis
        y = y.masked_fill(outside[..., None], 0)
    return y.flatten(y.ndim - 1 - n, y.ndim - 2)
