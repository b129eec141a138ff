from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


@jit
def pointwise_kernel(
    x, w, y, operands, M, N, K, EPILOGUE: tl.constexpr, PRECISION: tl.constexpr,
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
    b_y = EPILOGUE(acc, operands, o_y, o_n, m_y, m_n)
    tl.store(y + o_y, b_y.to(y.dtype.element_ty), m_y)


class Pointwise(FusedOp):
    """A linear map of the channels, whose results go through an epilogue: [.., K] -> [.., N].

    `operands` are what `epilogue` and `gradient` read: the bias [N] where `bias` is set, then maps of the shape of the
    result. The products of the backward pass are cuBLAS's.
    """

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], epilogue: Any, gradient: Any, bias: bool = True,
        tile: tuple[int, int, int, int] = (128, 64, 32, 4),
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path)
        self.epilogue, self.epilogue_gradient, self.bias, self.tile = epilogue, gradient, bias, tile

    def shape(self, x: Tensor, weight: Tensor) -> tuple[int, ...]:
        return (*x.shape[:-1], weight.shape[0])

    def laid_out(self, tensor: Tensor) -> Tensor:
        return tensor.contiguous()

    def flops(self, x: Sequence[int], weight: Sequence[int]) -> int:
        total = 2 * weight[0]
        for size in x:
            total *= size
        return total

    def launch(self, x: Tensor, weight: Tensor, y: Tensor, operands: tuple[Tensor, ...], epilogue: Any) -> None:
        (n, k), m = weight.shape, y.numel() // weight.shape[0]
        bm, bn, bk, warps = self.tile
        pointwise_kernel[(triton.cdiv(m, bm), triton.cdiv(n, bn))](
            x, weight, y, operands, m, n, k, EPILOGUE=epilogue,
            PRECISION="tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee", BM=bm, BN=bn, BK=bk, num_warps=warps,
        )  # fmt: skip

    def forward(self, x: Tensor, weight: Tensor, operands: Sequence[Tensor]) -> Tensor:
        y = x.new_empty(self.shape(x, weight))
        weight = weight.flatten(1).to(x.dtype).contiguous()
        self.launch(x.contiguous(), weight, y, tuple(map(self.laid_out, operands)), self.epilogue)
        return y

    def backward(self, dy: Tensor, x: Tensor, weight: Tensor, operands: Sequence[Tensor]) -> list[Tensor]:
        x, dy, given = x.contiguous(), dy.contiguous(), tuple(map(self.laid_out, operands))
        w = weight.flatten(1).to(x.dtype).contiguous()
        # The products are computed again and become their gradient; the maps' gradients are stored on the way.
        dz = torch.empty_like(dy)
        grads = tuple(torch.empty_like(t) for t in given[self.bias :])
        self.launch(x, w, dz, (*given, dy, *grads), self.epilogue_gradient)
        dx = dz @ w
        dw = dz.flatten(0, -2).t() @ x.flatten(0, -2)
        db = [dz.flatten(0, -2).sum(0, dtype=torch.float32).to(operands[0].dtype)] if self.bias else []
        return [dx, dw.to(weight.dtype).view(weight.shape), *db, *grads]
