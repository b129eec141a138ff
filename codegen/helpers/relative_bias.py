from collections.abc import Sequence

from torch import Tensor


def relative_bias(
    table: Tensor,
    queries: Sequence[int],
    taps: Sequence[int],
    start: Sequence[int] | None = None,
    step: Sequence[int] | None = None,
    centre: int | None = None,
) -> Tensor:
    """Read a table of offsets, (..., dy, dx), at `centre + start + tap - step * query`
    along each axis: (..., queries of y, queries of x, tap). The centre is the middle.
    """
    n = len(taps)
    lead = table.ndim - n
    for i in range(n):
        s = 1 if step is None else step[i]
        middle = (table.shape[lead + i] - 1) // 2 if centre is None else centre
        first = middle + (0 if start is None else start[i]) - s * (queries[i] - 1)
        table = table.narrow(lead + i, first, s * (queries[i] - 1) + taps[i])
        table = table.unfold(lead + i, taps[i], s)
    return table.flip([lead + i for i in range(n)]).flatten(lead + n)
