from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .epilogue import Epilogued, Rooms, row_stride, store_sums
from .fused import jit, tl, triton


@jit
def pointwise_kernel(
    x, w, y, before, operands, numbers, channel_sums, row_sums, M, N, K, P, S, PROLOGUE: tl.constexpr,
    EPILOGUE: tl.constexpr, GRADIENT: tl.constexpr, BIAS: tl.constexpr, PRECISION: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """y[m, n] = EPILOGUE(sum_k PROLOGUE(x[m, k]) w[n, k]); all three lie row by row, those of x S apart, and what the
    PROLOGUE reads `before`, if there is one.

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
        o_x, m_x = o_m[:, None] * K + o_k[None, :], m_m[:, None] & m_k[None, :]
        b_x = tl.load(x + o_m[:, None] * S + o_k[None, :], m_x, 0.0)  # [BM, BK]
        if PROLOGUE is not None:
            b_v = PROLOGUE(
                b_x.to(tl.float32), before, numbers, o_x, o_m[:, None], o_k[None, :], m_m[:, None], m_k[None, :], K, P
            )
            # Beyond the edge it need not be zero, nor finite.
            b_x = tl.where(m_x, b_v, 0.0).to(w.dtype.element_ty)
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


def tile_for(
    n: int, k: int, dtype: torch.dtype, gradient: bool = False, prologue: bool = False
) -> tuple[int, int, int, int, int]:
    """Rows, channels and terms of a tile, warps and stages, for `n` channels of `k` terms.

    Two warp groups share 128 rows; few channels and few terms take narrow tiles, so that little of the product is
    padding, and gradients, which hold what the epilogue has computed on the way. Each tile of channels makes a prologue
    again: up to 256 are one tile, of fewer rows. In float32 a tile is a quarter of that.
    """
    bk = min(max(triton.next_power_of_2(k), 16), 32 if prologue or dtype == torch.float32 else 64)
    if dtype == torch.float32:
        return 64, 64, bk, 4, 2
    if prologue and n > 128:
        return 64, 256, bk, 8, 3
    return 128, 128 if n > 64 and not gradient else 64 if n > 32 else 32, bk, 8, 3


def product(
    x: Tensor, weight: Tensor, y: Tensor, given: Sequence[Tensor | None], numbers: Sequence[float | None], epilogue: Any,
    bias: bool, rooms: Rooms | None = None, needed: bool = True, before: Sequence[Tensor | None] = (), prologue: Any = None,
) -> None:  # fmt: skip
    """y, the epilogue of the product of x or of what a prologue makes of it, where that is `needed`: rows all. With
    `rooms`, the epilogue is that of a gradient."""
    (n, k), m = weight.shape, y.numel() // weight.shape[0]
    bm, bn, bk, warps, stages = tile_for(n, k, weight.dtype, rooms is not None, prologue is not None)
    sums = (y, y) if rooms is None else (rooms.channel_sums, rooms.row_sums)
    pointwise_kernel[(triton.cdiv(m, bm), triton.cdiv(n, bn))](
        x, weight, y, tuple(before), tuple(given), tuple(numbers), *sums, m, n, k if needed else 0, m // x.shape[0],
        row_stride(x) or x.shape[-1], PROLOGUE=prologue, EPILOGUE=epilogue, GRADIENT=rooms is not None, BIAS=bias,
        PRECISION="tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
        BM=bm, BN=bn, BK=bk, num_warps=warps, num_stages=stages,
    )  # fmt: skip


def product_tiles(weight: Tensor, y: Tensor) -> tuple[int, int]:
    """How many tiles a gradient has, of rows and of channels."""
    bm, bn, *_ = tile_for(*weight.shape, weight.dtype, gradient=True)
    return triton.cdiv(y.numel() // y.shape[-1], bm), triton.cdiv(y.shape[-1], bn)


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

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, w, given = self.apart(tensors[0]), tensors[1].flatten(1).to(tensors[0].dtype).contiguous(), self.given(tensors)
        results, told = self.results(tensors, numbers), self.told(numbers, x, given)
        product(x, w, results[0].movedim(self.channels, -1), given, told, self.epilogue, self.bias)
        return results

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        x, weight = self.apart(tensors[0]), tensors[1]
        w, dy, given = weight.flatten(1).to(x.dtype).contiguous(), self.rows(grads[0]), self.given(tensors)
        dz = x.new_empty(dy.shape)
        rooms = self.rooms(given, dy, product_tiles(w, dz), self.bias)
        operands, told = [*given, dy, *rooms.maps], self.told(numbers, x, given)
        product(x, w, dz, operands, told, self.epilogue_gradient, self.bias, rooms, self.recomputes)
        dw = (dz.flatten(0, -2).t() @ x.flatten(0, -2)).to(weight.dtype).view(weight.shape)
        db = [rooms.channel_sums[0].sum(0).to(tensors[2].dtype)] if self.bias else []
        operands = rooms.gradients(tensors[2 + self.bias :], self.of_rows)
        found = [self.of_rows(dz @ w), dw, *db, *operands]
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]


class ProloguePointwise(Pointwise):
    """A linear map of what a `prologue` makes of x, and of operands that have the axes `before` of x and come last; the
    gradient of the result is that of the map's, too: rows [M, K] -> rows [M, N].

    In the backward pass, `gradient` makes those of x and of the operands where the product has that of what the prologue
    made, and makes that again, for the weight. The product is of the weight's element type: a prologue computes in float32.
    """

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], epilogue: Any, prologue: Any, gradient: Any,
        before: Sequence[str] = (), **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path, epilogue, None, **options)
        self.prologue, self.prologue_gradient, self.before = prologue, gradient, before

    @property
    def kinds(self) -> list[str]:
        return [*super().kinds, *self.before]

    def lowered(self, tensors: Sequence[Tensor], low: torch.dtype) -> list[Tensor]:
        return [t.to(low) if at == 1 else t for at, t in enumerate(tensors)]

    def dtype(self, tensors: Sequence[Tensor]) -> torch.dtype:
        return super().dtype([tensors[1], *tensors[1 : len(tensors) - len(self.before)]])

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, w, given = self.apart(tensors[0]), tensors[1].flatten(1).contiguous(), self.given(tensors)
        results, told, count = self.results(tensors, numbers), self.told(numbers, x, given), len(given) - len(self.before)
        y, before = results[0].movedim(self.channels, -1), given[count:]
        product(x, w, y, given[:count], told, self.epilogue, self.bias, before=before, prologue=self.prologue)
        return results

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        x, weight, given = self.apart(tensors[0]), tensors[1], self.given(tensors)
        dy, before = self.rows(grads[0]).to(weight.dtype), given[len(given) - len(self.before) :]
        w = weight.flatten(1).t().contiguous()  # [K, N]
        dx, v = x.new_empty(x.shape), x.new_empty(x.shape, dtype=weight.dtype)
        rooms = Rooms(self.before, (), before, v, product_tiles(w, v), False)
        operands, told = [x, *before, v, *rooms.maps], self.told(numbers, x, given)
        product(dy, w, dx, operands, told, self.prologue_gradient, False, rooms)
        dw = (dy.flatten(0, -2).t() @ v.flatten(0, -2)).view(weight.shape)
        db = [dy.flatten(0, -2).sum(0, dtype=torch.float32).to(tensors[2].dtype)] if self.bias else []
        first = len(tensors) - len(before)
        passed = [t.new_empty(0) for t in tensors[2 + self.bias : first]]
        found = [self.of_rows(dx), dw, *db, *passed, *rooms.gradients(tensors[first:], self.of_rows)]
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]
