from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .epilogue import Epilogued, Rooms, store_sums
from .fused import jit, tl, triton


@jit
def strip_kernel(
    x, w, y, operands, numbers, channel_sums, row_sums, R, H, W, OH, OW, C, EPILOGUE: tl.constexpr, GRADIENT: tl.constexpr,
    K: tl.constexpr, D: tl.constexpr, S: tl.constexpr, T: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """y[n, h, o, c] = EPILOGUE(sum_ij w[i K + j, c] x[n, S h + (i - K // 2) D, S o + (j - K // 2) D, c])

    A program makes T BW results of one row, each lane T of them side by side, for BC channels. As a GRADIENT, the epilogue
    also gives terms whose sums over the T BW results and over channels are stored.
    """
    i_row = tl.program_id(0).to(tl.int64)
    i_n, h = i_row // OH, (i_row % OH).to(tl.int32)
    o_w = (tl.program_id(1) * BW + tl.arange(0, BW)) * T  # [BW]
    o_c = tl.program_id(2) * BC + tl.arange(0, BC)  # [BC]
    m_c = o_c < C
    acc = (tl.zeros([BW, BC], tl.float32),) * T
    for i in range(K):
        o_h = h * S + (i - K // 2) * D
        m_row = m_c & (o_h >= 0) & (o_h < H)
        p_row = x + (i_n * H + o_h) * W * C + o_c[None, :]
        b_w = ()
        for j in tl.static_range(K):
            b_w += (tl.load(w + (i * K + j) * C + o_c, m_c, 0.0)[None, :],)
        # A column of the map is read once for all of the T results that see it.
        for u in tl.static_range((T - 1) * S + (K - 1) * D + 1):
            o_x = o_w * S + (u - (K // 2) * D)
            m_x = ((o_x >= 0) & (o_x < W))[:, None] & m_row[None, :]
            b_x = tl.load(p_row + o_x[:, None] * C, m_x, 0.0).to(tl.float32)  # [BW, BC]
            new = ()
            for t in tl.static_range(T):
                if (u - t * S) % D == 0 and u - t * S >= 0 and u - t * S < K * D:
                    new += (acc[t] + b_x * b_w[(u - t * S) // D],)
                else:
                    new += (acc[t],)
            acc = new
    for t in tl.static_range(T):
        m_y = (o_w + t < OW)[:, None] & m_c[None, :]
        o_y = (i_row * OW + o_w[:, None] + t) * C + o_c[None, :]
        o_m, m_m = i_row * OW + o_w + t, o_w + t < OW
        if GRADIENT:
            b_y, by_channel, by_row = EPILOGUE(
                acc[t], operands, numbers, o_y, o_m[:, None], o_c[None, :], m_m[:, None], m_c[None, :], C, OH * OW
            )
            store_sums(
                by_channel, by_row, channel_sums, row_sums, (i_row * tl.num_programs(1) + tl.program_id(1)) * T + t,
                tl.program_id(2), R * tl.num_programs(1) * T, tl.num_programs(2), o_m, o_c, m_m, m_c, R * OW, C,
            )  # fmt: skip
        else:
            b_y = EPILOGUE(
                acc[t], operands, numbers, o_y, o_m[:, None], o_c[None, :], m_m[:, None], m_c[None, :], C, OH * OW
            )
        tl.store(y + o_y, b_y.to(y.dtype.element_ty), m_y)


@jit
def strip_weight_kernel(
    x, dz, part, R, RS, H, W, OH, OW, C,
    K: tl.constexpr, D: tl.constexpr, S: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """part[z, i K + j, c] = sum of dz x over the RS rows of split z; part[z, K K, c] = sum of dz."""
    i, i_z = tl.program_id(0), tl.program_id(1)
    o_c = tl.program_id(2) * BC + tl.arange(0, BC)
    m_c = o_c < C
    acc = (tl.zeros([BW, BC], tl.float32),) * K
    total = tl.zeros([BW, BC], tl.float32)
    first = i_z.to(tl.int64) * RS
    for r in range(RS):
        i_row = first + r
        o_h = (i_row % OH).to(tl.int32) * S + (i - K // 2) * D
        m_z = m_c & (i_row < R)
        m_row = m_z & (o_h >= 0) & (o_h < H)
        p_x = x + ((i_row // OH) * H + o_h) * W * C + o_c[None, :]
        p_z = dz + i_row * OW * C + o_c[None, :]
        for w0 in range(0, OW, BW):
            o_w = w0 + tl.arange(0, BW)
            b_z = tl.load(p_z + o_w[:, None] * C, (o_w < OW)[:, None] & m_z[None, :], 0.0).to(tl.float32)
            total += b_z
            new = ()
            for j in tl.static_range(K):
                o_x = o_w * S + (j - K // 2) * D
                m_x = ((o_x >= 0) & (o_x < W))[:, None] & m_row[None, :]
                new += (acc[j] + tl.load(p_x + o_x[:, None] * C, m_x, 0.0).to(tl.float32) * b_z,)
            acc = new
    p_part = part + i_z.to(tl.int64) * (K * K + 1) * C + o_c
    for j in tl.static_range(K):
        tl.store(p_part + (i * K + j) * C, tl.sum(acc[j], 0), m_c)
    if i == 0:
        tl.store(p_part + K * K * C, tl.sum(total, 0), m_c)


@jit
def nothing(acc, operands, numbers, o_y, o_m, o_c, m_m, m_c, C, P):
    """The epilogue that leaves the sums as they are."""
    return acc


class Strip(Epilogued):
    """A depthwise K x K convolution, D apart, whose results go through an epilogue: [N, C, H, W] -> [N, C, H, W].

    The weight is [C, 1, K, K].
    """

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], epilogue: Any, gradient: Any, kernel: int, dilation: int = 1,
        tile: tuple[int, int, int, int] = (4, 4, 64, 1), **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path, epilogue, gradient, behind=2, **options)
        self.kernel, self.dilation, self.tile = kernel, dilation, tile

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        n, c, h, w = tensors[0].shape
        return [self.of_rows(tensors[0].new_empty((n, h, w, c), dtype=self.dtype(tensors)))]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        n, c, h, w = shapes[0]
        return 2 * n * c * h * w * self.kernel**2

    def launch(
        self, x: Tensor, taps: Tensor, y: Tensor, given: Sequence[Tensor | None], numbers: Sequence[float], epilogue: Any,
        rooms: Rooms | None = None,
    ) -> None:  # fmt: skip
        """`taps`: [K K, C] in float32; `x`, `y` and the maps are [N, H, W, C]."""
        n, h, w, c = y.shape
        t, bw, bc, warps = self.tile
        grid = (n * h, triton.cdiv(w, t * bw), triton.cdiv(c, bc))
        sums = (y, y) if rooms is None else (rooms.channel_sums, rooms.row_sums)
        strip_kernel[grid](
            x, taps, y, tuple(given), tuple(numbers), *sums, n * h, x.shape[1], x.shape[2], h, w, c,
            EPILOGUE=epilogue, GRADIENT=rooms is not None,
            K=self.kernel, D=self.dilation, S=1, T=t, BW=bw, BC=bc, num_warps=warps,
        )  # fmt: skip

    def taps(self, weight: Tensor) -> Tensor:
        """[C, 1, K, K] as [K K, C], in float32."""
        return weight.float().flatten(1).t().contiguous()

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, results = self.rows(tensors[0]), self.results(tensors, numbers)
        y = results[0].movedim(self.channels, -1)
        self.launch(x, self.taps(tensors[1]), y, self.given(tensors), numbers, self.epilogue)
        return results

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        weight, operands = tensors[1], tensors[2 + self.bias :]
        x, dy, given = self.rows(tensors[0]), self.rows(grads[0]), self.given(tensors)
        # The sums are computed again and become their gradient; the maps' gradients are stored on the way.
        dz = torch.empty_like(x)
        n, h, w, c = dz.shape
        t, bw, bc, _ = self.tile
        rooms = self.rooms(given, dy, (n * h * triton.cdiv(w, t * bw) * t, triton.cdiv(c, bc)))
        self.launch(x, self.taps(weight), dz, [*given, dy, *rooms.maps], numbers, self.epilogue_gradient, rooms)
        dx = torch.empty_like(x)
        self.launch(dz, self.taps(weight.flip(2, 3)), dx, [], [], nothing)
        sums = self.weight_sums(x, dz)
        dw = sums[:-1].t().contiguous().view(weight.shape).to(weight.dtype)
        db = [sums[-1].to(tensors[2].dtype, copy=True)] if self.bias else []  # results may not share memory
        found = [self.of_rows(dx), dw, *db, *rooms.gradients(operands, self.of_rows)]
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]

    def weight_sums(self, x: Tensor, dz: Tensor) -> Tensor:
        """[K K + 1, C]: two stages, so that the order of the sum is always the same."""
        n, h, w, c = dz.shape
        rows = n * h
        splits = min(rows, 256)
        part = x.new_empty((splits, self.kernel**2 + 1, c), dtype=torch.float32)
        bc = min(64, triton.next_power_of_2(c))
        strip_weight_kernel[(self.kernel, splits, triton.cdiv(c, bc))](
            x, dz, part, rows, triton.cdiv(rows, splits), x.shape[1], x.shape[2], h, w, c,
            K=self.kernel, D=self.dilation, S=1, BW=8, BC=bc, num_warps=2,
        )  # fmt: skip
        return part.sum(0)
