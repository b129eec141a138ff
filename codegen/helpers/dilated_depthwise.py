from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .pair import pair
from .parted_depthwise import parted_depthwise


def dilated_depthwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """F.conv2d(x, weight, bias, 1, padding, dilation, channels), with two detours on CPUs.

    oneDNN is slow at gradients of a dilated convolution, and at any that has to pad more
    than 6 columns; in bfloat16 and channels_last some of its gradients of dilated ones are
    garbage (torch 2.13). What is exported is for inference.
    """
    (height, width), groups = pair(padding), weight.shape[0]
    if x.device.type == "cpu" and x.ndim == 4 and not torch.onnx.is_in_onnx_export():
        exporting = getattr(torch.compiler, "is_exporting", bool)()  # torch >= 2.7
        differentiable = x.requires_grad or weight.requires_grad
        if differentiable and torch.is_grad_enabled() and not exporting:
            return parted_depthwise(x, weight, bias, padding, dilation)
        if width > 6:
            x, width = F.pad(x, (width, width)), 0
    return F.conv2d(x, weight, bias, 1, (height, width), dilation, groups)
