from collections.abc import Sequence

from torch import Tensor


def windowed_order(
    outer: Tensor, inner: Tensor, grid: Sequence[int], window: tuple[int, ...]
) -> Tensor:
    """An order over windows, and another inside each, as positions of the map."""
    order = outer.new_zeros((outer.shape[0], inner.shape[0]))
    stride, above, below = 1, 1, 1
    for n, w in zip(reversed(grid), reversed(window)):
        place = (outer // above % n)[:, None] * w + inner // below % w
        order = order + place * stride
        stride, above, below = stride * n * w, above * n, below * w
    return order.flatten()
