from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from .pair import pair


def parted_depthwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
) -> Tensor:
    """A dilated depthwise convolution as one without dilation: the same sums.

    Rows and columns are parted by their residues modulo the dilation, d x e, into images
    of their own, and put together again.
    """
    (p, q), (d, e), (b, c, h, w) = pair(padding), pair(dilation), x.shape
    height = h + 2 * p - d * (weight.shape[2] - 1)
    width = w + 2 * q - e * (weight.shape[3] - 1)
    top, left = p % d, q % e  # the rest of the padding is whole pixels of a part
    m, n = -((h + 2 * top) // -d), -((w + 2 * left) // -e)  # rows and columns of a part
    x = x.permute(0, 2, 3, 1)
    x = F.pad(x, (0, 0, left, n * e - w - left, top, m * d - h - top))
    x = x.reshape(b, m, d, n, e, c).permute(0, 2, 4, 1, 3, 5)
    x = x.reshape(b * d * e, m, n, c).permute(0, 3, 1, 2)
    x = F.conv2d(x, weight, bias, padding=(p // d, q // e), groups=c)
    m, n = x.shape[2:]
    x = x.permute(0, 2, 3, 1).reshape(b, d, e, m, n, c).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(b, m * d, n * e, c)[:, :height, :width].permute(0, 3, 1, 2)
