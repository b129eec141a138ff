from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .fused import FusedOp, jit, promoted, tl, triton


@jit
def pointwise_kernel(
    x, w, y, operands, numbers, M, N, K, EPILOGUE: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """y[m, n] = EPILOGUE(sum_k x[m, k] w[n, k]); all three lie row by row."""
    i_m, i_n = tl.program_id(0).to(tl.int64), tl.program_id(1)
    o_m = i_m * BM + tl.arange(0, BM)  # [BM]
    o_n = i_n * BN + tl.arange(0, BN)  # [BN]
    m_m, m_n = o_m < M, o_n < N
    acc = tl.zeros([BM, BN], tl.float32)
    for k in range(0, K, BK):
        o_k = k + tl.arange(0, BK)  # [BK]
        m_k = o_k < K
        b_x = tl.load(x + o_m[:, None] * K + o_k[None, :], m_m[:, None] & m_k[None, :], 0.0)  # [BM, BK]
        b_w = tl.load(w + o_n[None, :] * K + o_k[:, None], m_n[None, :] & m_k[:, None], 0.0)  # [BK, BN]
        acc = tl.dot(b_x, b_w, acc, input_precision=PRECISION)
    m_y = m_m[:, None] & m_n[None, :]
    o_y = o_m[:, None] * N + o_n[None, :]
    b_y = EPILOGUE(acc, operands, numbers, o_y, o_n, m_y, m_n)
    tl.store(y + o_y, b_y.to(y.dtype.element_ty), m_y)


class Pointwise(FusedOp):
    """A linear map of the channels, whose results go through an epilogue: [.., K] -> [.., N].

    The tensors are x, its weight [N, K], the bias [N] where `bias` is set, then maps of the shape of the result, which
    `epilogue` reads. The products of the backward pass are cuBLAS's.
    """

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], epilogue: Any, gradient: Any, bias: bool = True,
        tile: tuple[int, int, int, int] = (128, 64, 32, 4),
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path)
        self.epilogue, self.epilogue_gradient, self.bias, self.tile = epilogue, gradient, bias, tile

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, weight, *operands = tensors
        dtype = promoted(x, *operands[self.bias :])
        return [x.new_empty((*x.shape[:-1], weight.shape[0]), dtype=dtype)]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        total = 2 * shapes[1][0]
        for size in shapes[0]:
            total *= size
        return total

    def launch(
        self, x: Tensor, weight: Tensor, y: Tensor, operands: Sequence[Tensor], numbers: Sequence[float], epilogue: Any
    ) -> None:
        (n, k), m = weight.shape, y.numel() // weight.shape[0]
        bm, bn, bk, warps = self.tile
        pointwise_kernel[(triton.cdiv(m, bm), triton.cdiv(n, bn))](
            x, weight, y, tuple(operands), tuple(numbers), m, n, k, EPILOGUE=epilogue,
            PRECISION="tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee", BM=bm, BN=bn, BK=bk, num_warps=warps,
        )  # fmt: skip

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, weight, *operands = (tensor.contiguous() for tensor in tensors)
        (y,) = self.results(tensors, numbers)
        self.launch(x, weight.flatten(1).to(x.dtype), y, operands, numbers, self.epilogue)
        return [y]

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        x, weight, *given = (tensor.contiguous() for tensor in tensors)
        dy, w = grads[0].contiguous(), weight.flatten(1).to(x.dtype)
        # The products are computed again and become their gradient; the maps' gradients are stored on the way.
        dz = x.new_empty(dy.shape)
        maps = [torch.empty_like(t) for t in given[self.bias :]]
        self.launch(x, w, dz, [*given, dy, *maps], numbers, self.epilogue_gradient)
        flat = dz.flatten(0, -2)
        dw = (flat.t() @ x.flatten(0, -2)).to(weight.dtype).view(weight.shape)
        db = [flat.sum(0, dtype=torch.float32).to(given[0].dtype)] if self.bias else []
        found = [dz @ w, dw, *db, *maps]
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]
