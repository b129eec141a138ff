from torch import Tensor


def relative_taps(
    table: Tensor, offsets: list[Tensor], centre: int | None = None
) -> Tensor:
    """Read a table of offsets, (..., dy, dx), at the offsets [query, tap] of each axis:
    (..., queries of y, queries of x, tap). Offset 0 is the middle, or `centre`.
    """
    n = len(offsets)
    index: list[Tensor] = []
    for i, offset in enumerate(offsets):
        middle = (table.shape[table.ndim - n + i] - 1) // 2
        shape = [1] * (2 * n)
        shape[i], shape[n + i] = offset.shape
        index.append((offset + (middle if centre is None else centre)).view(shape))
    y = table[(..., *index)]
    return y.flatten(y.ndim - n)
