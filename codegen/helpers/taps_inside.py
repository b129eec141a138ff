from collections.abc import Sequence

from torch import Tensor


def taps_inside(taps: list[Tensor], sizes: Sequence[int]) -> Tensor:
    """Which taps lie on the map, from an index [query, tap] and a size for each axis:
    (queries of H, queries of W, tap).
    """
    n = len(taps)
    inside: list[Tensor] = []
    for i, (tap, size) in enumerate(zip(taps, sizes)):
        shape = [1] * (2 * n)
        shape[i], shape[n + i] = tap.shape
        inside.append(((tap >= 0) & (tap < size)).view(shape))
    total = inside[0]
    for axis in inside[1:]:
        total = total & axis
    return total.flatten(n)
