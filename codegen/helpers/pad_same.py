from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def pad_same(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] = (1, 1, 1),
    value: float = 0.0,
) -> Tensor:
    """Pad as TensorFlow's "same" does: ceil(size / stride) windows, the odd pixel last."""
    pads: list[int] = []
    for i, size in enumerate(x.shape[x.ndim - len(kernel) :]):
        span = dilation[i] * (kernel[i] - 1) + 1
        total = max((-(size // -stride[i]) - 1) * stride[i] + span - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads, value=value)
