from collections.abc import Sequence

import torch
from torch import Tensor

from .epilogue import Epilogued, Rooms, store_sums
from .fused import jit, tl, triton


@jit
def pointwise_kernel(
    x, w, y, operands, numbers, channel_sums, row_sums, M, N, K, P, EPILOGUE: tl.constexpr, GRADIENT: tl.constexpr,
    BIAS: tl.constexpr, PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """y[m, n] = EPILOGUE(sum_k x[m, k] w[n, k]); all three lie row by row.

    As a GRADIENT, the epilogue also gives terms whose sums over rows and over channels are stored, tile by tile: those
    of y itself first, where there is a BIAS.
    """
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
    if GRADIENT:
        b_y, by_channel, by_row = EPILOGUE(
            acc, operands, numbers, o_y, o_m[:, None], o_n[None, :], m_m[:, None], m_n[None, :], N, P
        )
        if BIAS:
            terms = (tl.where(m_y, b_y, 0.0),)
            by_channel = terms + by_channel
        store_sums(
            by_channel, by_row, channel_sums, row_sums, i_m, i_n, tl.num_programs(0), tl.num_programs(1),
            o_m, o_n, m_m, m_n, M, N,
        )  # fmt: skip
    else:
        b_y = EPILOGUE(acc, operands, numbers, o_y, o_m[:, None], o_n[None, :], m_m[:, None], m_n[None, :], N, P)
    tl.store(y + o_y, b_y.to(y.dtype.element_ty), m_y)


def tile_for(n: int, k: int, dtype: torch.dtype, gradient: bool) -> tuple[int, int, int, int, int]:
    """Rows, channels and terms of a tile, warps and stages, for `n` channels of `k` terms.

    Two warp groups share 128 rows; few channels and few terms take narrow tiles, so that little of the product is
    padding, and gradients, which hold what the epilogue has computed on the way. In float32 a tile is a quarter of that.
    """
    bk = min(max(triton.next_power_of_2(k), 16), 64)
    if dtype == torch.float32:
        return 64, 64, min(bk, 32), 4, 2
    return 128, 128 if n > 64 and not gradient else 64 if n > 32 else 32, bk, 8, 3


class Pointwise(Epilogued):
    """A linear map of the channels, whose results go through an epilogue: rows [M, K] -> rows [M, N].

    The weight is [N, K], whatever of size 1 stands behind. The backward pass computes the sums again where it needs
    them: at K < 500 that takes less time than to write and read them, and nothing is kept. Its products are cuBLAS's.
    """

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, weight = tensors[:2]
        shape = (*x.movedim(self.channels, -1).shape[:-1], weight.shape[0])
        return [self.of_rows(x.new_empty(shape, dtype=self.dtype(tensors)))]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        total = 2 * shapes[1][0]
        for size in shapes[0]:
            total *= size
        return total

    def launch(
        self, x: Tensor, weight: Tensor, y: Tensor, given: Sequence[Tensor | None], numbers: Sequence[float],
        rooms: Rooms | None = None,
    ) -> None:  # fmt: skip
        (n, k), m = weight.shape, y.numel() // weight.shape[0]
        k = k if rooms is None or self.recomputes else 0
        bm, bn, bk, warps, stages = tile_for(n, weight.shape[1], x.dtype, rooms is not None)
        sums = (y, y) if rooms is None else (rooms.channel_sums, rooms.row_sums)
        pointwise_kernel[(triton.cdiv(m, bm), triton.cdiv(n, bn))](
            x, weight, y, tuple(given), tuple(numbers), *sums, m, n, k, m // x.shape[0],
            EPILOGUE=self.epilogue if rooms is None else self.epilogue_gradient, GRADIENT=rooms is not None,
            BIAS=self.bias, PRECISION="tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
            BM=bm, BN=bn, BK=bk, num_warps=warps, num_stages=stages,
        )  # fmt: skip

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, w = self.rows(tensors[0]), tensors[1].flatten(1).to(tensors[0].dtype).contiguous()
        results = self.results(tensors, numbers)
        self.launch(x, w, results[0].movedim(self.channels, -1), self.given(tensors), numbers)
        return results

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        x, weight = self.rows(tensors[0]), tensors[1]
        w, dy, given = weight.flatten(1).to(x.dtype).contiguous(), self.rows(grads[0]), self.given(tensors)
        dz = x.new_empty(dy.shape)
        (m, n), (bm, bn, *_) = dz.flatten(0, -2).shape, tile_for(*w.shape, x.dtype, gradient=True)
        rooms = self.rooms(given, dy, (triton.cdiv(m, bm), triton.cdiv(n, bn)), self.bias)
        self.launch(x, w, dz, [*given, dy, *rooms.maps], numbers, rooms)
        dw = (dz.flatten(0, -2).t() @ x.flatten(0, -2)).to(weight.dtype).view(weight.shape)
        db = [rooms.channel_sums[0].sum(0).to(tensors[2].dtype)] if self.bias else []
        operands = rooms.gradients(tensors[2 + self.bias :], self.of_rows)
        found = [self.of_rows(dz @ w), dw, *db, *operands]
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]
