def pad_same(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...] = (1, 1, 1),
    value: float = 0.0,
) -> Tensor:
    """Pad as TensorFlow's "same" does: ceil(size / stride) windows, the odd pixel last."""
    pads: list[int] = []
    sizes = x.shape[x.ndim - len(kernel) :]
    for size, k, s, d in zip(sizes, kernel, stride, dilation):
        total = max((-(size // -s) - 1) * s + d * (k - 1) + 1 - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads, value=value)
