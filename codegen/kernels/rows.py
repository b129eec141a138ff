from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .epilogue import Epilogued, Rooms, placed, row_stride, store_sums
from .fused import jit, tl, triton


@jit
def rows_kernel(
    x, y, operands, numbers, channel_sums, row_sums, M, C, P, S, EPILOGUE: tl.constexpr, GRADIENT: tl.constexpr,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """y[m, c] = EPILOGUE(x[m, c]), where the rows of x are S apart; as a GRADIENT, it also gives terms whose sums over each
    tile are stored."""
    i_m, i_c = tl.program_id(0).to(tl.int64), tl.program_id(1)
    o_m = i_m * BM + tl.arange(0, BM)  # [BM]
    o_c = i_c * BC + tl.arange(0, BC)  # [BC]
    m_m, m_c = o_m < M, o_c < C
    o_y = o_m[:, None] * C + o_c[None, :]
    m_y = m_m[:, None] & m_c[None, :]
    b_x = tl.load(x + placed(o_y, o_m[:, None], o_c[None, :], S), m_y, 0.0).to(tl.float32)  # [BM, BC]
    if GRADIENT:
        b_y, by_channel, by_row = EPILOGUE(
            b_x, operands, numbers, o_y, o_m[:, None], o_c[None, :], m_m[:, None], m_c[None, :], C, P
        )
        store_sums(
            by_channel, by_row, channel_sums, row_sums, i_m, i_c, tl.num_programs(0), tl.num_programs(1),
            o_m, o_c, m_m, m_c, M, C,
        )  # fmt: skip
    else:
        b_y = EPILOGUE(b_x, operands, numbers, o_y, o_m[:, None], o_c[None, :], m_m[:, None], m_c[None, :], C, P)
    tl.store(y + o_y, b_y.to(y.dtype.element_ty), m_y)


@jit
def norm_kernel(
    x, w, b, y, mean, deviation, operands, numbers, M, C, P, S, EPS, EPILOGUE: tl.constexpr, CENTRED: tl.constexpr,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """y[m, c] = EPILOGUE((x[m, c] - mean[m]) deviation[m] w[c] + b[c]), where deviation is 1 over the standard deviation;
    without mean and b where the norm is not CENTRED. The rows of x are S apart. A program holds BM rows."""
    o_m = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)  # [BM]
    o_c = tl.arange(0, BC)  # [BC]
    m_m, m_c = o_m < M, o_c < C
    o_y = o_m[:, None] * C + o_c[None, :]
    m_y = m_m[:, None] & m_c[None, :]
    b_x = tl.load(x + placed(o_y, o_m[:, None], o_c[None, :], S), m_y, 0.0).to(tl.float32)  # [BM, BC]
    if CENTRED:
        b_mean = tl.sum(b_x, 1) / C  # [BM]
        tl.store(mean + o_m, b_mean, m_m)
        b_x = tl.where(m_y, b_x - b_mean[:, None], 0.0)
    b_deviation = 1.0 / tl.sqrt(tl.sum(b_x * b_x, 1) / C + EPS)  # [BM]
    tl.store(deviation + o_m, b_deviation, m_m)
    b_z = b_x * b_deviation[:, None] * tl.load(w + o_c, m_c, 0.0).to(tl.float32)[None, :]
    if CENTRED:
        b_z += tl.load(b + o_c, m_c, 0.0).to(tl.float32)[None, :]
    b_y = EPILOGUE(b_z, operands, numbers, o_y, o_m[:, None], o_c[None, :], m_m[:, None], m_c[None, :], C, P)
    tl.store(y + o_y, b_y.to(y.dtype.element_ty), m_y)


@jit
def norm_gradient_kernel(
    x, w, b, dx, weight_sums, mean, deviation, operands, numbers, channel_sums, row_sums, M, C, P, S, RM,
    EPILOGUE: tl.constexpr, CENTRED: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """The gradients of x, and of w (weight_sums[i, 0, c]) and b (weight_sums[i, 1, c]) for the RM tiles of program i.

    With h the normalised rows, g = dz w, and means over the channels: dx = deviation (g - h mean(g h) - mean(g)).
    """
    o_c = tl.arange(0, BC)  # [BC]
    m_c = o_c < C
    b_w = tl.load(w + o_c, m_c, 0.0).to(tl.float32)[None, :]
    if CENTRED:
        b_b = tl.load(b + o_c, m_c, 0.0).to(tl.float32)[None, :]
    dw = tl.zeros([BC], tl.float32)
    db = tl.zeros([BC], tl.float32)
    tiles_m = (M + BM - 1) // BM
    for r in range(RM):
        i_m = tl.program_id(0).to(tl.int64) * RM + r
        o_m = i_m * BM + tl.arange(0, BM)  # [BM]
        m_m = o_m < M
        o_y = o_m[:, None] * C + o_c[None, :]
        m_y = m_m[:, None] & m_c[None, :]
        b_deviation = tl.load(deviation + o_m, m_m, 0.0)[:, None]
        b_h = tl.load(x + placed(o_y, o_m[:, None], o_c[None, :], S), m_y, 0.0).to(tl.float32)  # [BM, BC]
        if CENTRED:
            b_h = tl.where(m_y, b_h - tl.load(mean + o_m, m_m, 0.0)[:, None], 0.0)
        b_h = b_h * b_deviation
        b_z = b_h * b_w
        if CENTRED:
            b_z += b_b
        b_dz, by_channel, by_row = EPILOGUE(
            b_z, operands, numbers, o_y, o_m[:, None], o_c[None, :], m_m[:, None], m_c[None, :], C, P
        )
        if i_m < tiles_m:
            store_sums(
                by_channel, by_row, channel_sums, row_sums, i_m, 0, tiles_m, 1, o_m, o_c, m_m, m_c, M, C
            )  # fmt: skip
        b_dz = tl.where(m_y, b_dz, 0.0)
        dw += tl.sum(b_dz * b_h, 0)
        b_g = b_dz * b_w
        b_dx = b_g - b_h * (tl.sum(b_g * b_h, 1) / C)[:, None]
        if CENTRED:
            db += tl.sum(b_dz, 0)
            b_dx -= (tl.sum(b_g, 1) / C)[:, None]
        tl.store(dx + o_y, (b_dx * b_deviation).to(dx.dtype.element_ty), m_y)
    p_sums = weight_sums + tl.program_id(0).to(tl.int64) * 2 * C + o_c
    tl.store(p_sums, dw, m_c)
    tl.store(p_sums + C, db, m_c)


def rows_tile(channels: int) -> tuple[int, int, int]:
    """Rows and channels of a tile, and warps: 4096 numbers in all, 32 a lane, of which 8 lie side by side."""
    bc = min(triton.next_power_of_2(channels), 128)
    return 4096 // bc, bc, 4


def norm_tile(channels: int) -> tuple[int, int, int]:
    """The same with whole rows, of which a warp holds at most 1024 numbers."""
    bc = max(triton.next_power_of_2(channels), 16)
    return max(1, 2048 // bc), bc, 4 if bc <= 2048 else 8 if bc <= 4096 else 16


class Rows(Epilogued):
    """Pointwise operations on x and on operands: rows [M, C] -> rows [M, C]. Autocast leaves these as they are."""

    weights = cast = 0

    def __init__(self, name: str, torch_path: Callable[..., Tensor], epilogue: Any, gradient: Any, **options: Any) -> None:
        super().__init__(name, torch_path, epilogue, gradient, bias=False, **options)

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x = tensors[0]
        shape = x.movedim(self.channels, -1).shape
        return [self.of_rows(x.new_empty(shape, dtype=self.dtype(tensors)))]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        return 0

    def launch(
        self, x: Tensor, y: Tensor, given: Sequence[Tensor | None], numbers: Sequence[float | None],
        rooms: Rooms | None = None,
    ) -> None:  # fmt: skip
        c = y.shape[-1]
        m, (bm, bc, warps) = y.numel() // c, rows_tile(c)
        sums = (y, y) if rooms is None else (rooms.channel_sums, rooms.row_sums)
        rows_kernel[(triton.cdiv(m, bm), triton.cdiv(c, bc))](
            x, y, tuple(given), tuple(numbers), *sums, m, c, m // y.shape[0], row_stride(x),
            EPILOGUE=self.epilogue if rooms is None else self.epilogue_gradient, GRADIENT=rooms is not None,
            BM=bm, BC=bc, num_warps=warps,
        )  # fmt: skip

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        results = self.results(tensors, numbers)
        x, given = self.apart(tensors[0]), self.given(tensors)
        self.launch(x, results[0].movedim(self.channels, -1), given, self.told(numbers, x, given))
        return results

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        x, dy, given = self.apart(tensors[0]), self.rows(grads[0]), self.given(tensors)
        c = dy.shape[-1]
        bm, bc, _ = rows_tile(c)
        dx = x.new_empty(x.shape)
        rooms = self.rooms(given, dy, (triton.cdiv(dy.numel() // c, bm), triton.cdiv(c, bc)))
        self.launch(x, dx, [*given, dy, *rooms.maps], self.told(numbers, x, given), rooms)
        found = [self.of_rows(dx), *rooms.gradients(tensors[1:], self.of_rows)]
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]


class NormRows(Epilogued):
    """A norm of the channels, by mean and deviation (`centred`) or by the root of the mean square, with a weight [C] and,
    where it is centred, a bias [C]; its results go through an epilogue: [.., C] -> [.., C].

    Kept are the statistics of each row. Under autocast too, what is computed in float32 is stored as x is.
    """

    cast = 0

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], epilogue: Any, gradient: Any, eps: float, centred: bool = True,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path, epilogue, gradient, bias=False, **options)
        self.eps, self.centred, self.weights = eps, centred, 1 + centred

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x = tensors[0]
        statistics = [x.new_empty(x.numel() // x.shape[-1], dtype=torch.float32) for _ in range(2)]
        return [x.new_empty(x.shape, dtype=self.dtype(tensors)), *statistics]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        return 0

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, given = self.apart(tensors[0]), self.given(tensors)
        w, b = tensors[1].contiguous(), tensors[self.weights].contiguous()
        y, mean, deviation = self.results(tensors, numbers)
        c, m = x.shape[-1], mean.numel()
        bm, bc, warps = norm_tile(c)
        norm_kernel[(triton.cdiv(m, bm),)](
            x, w, b, y, mean, deviation, tuple(given), tuple(self.told(numbers, x, given)), m, c, m // x.shape[0],
            row_stride(x), self.eps, EPILOGUE=self.epilogue, CENTRED=self.centred, BM=bm, BC=bc, num_warps=warps,
        )  # fmt: skip
        return [y, mean if self.centred else mean.zero_(), deviation]

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        x, w, b = self.apart(tensors[0]), tensors[1].contiguous(), tensors[self.weights].contiguous()
        dy, given, (mean, deviation) = grads[0].contiguous(), self.given(tensors), kept
        c, m = x.shape[-1], mean.numel()
        bm, bc, warps = norm_tile(c)
        tiles = triton.cdiv(m, bm)
        each = triton.cdiv(tiles, 512)  # tiles of a program: few partial sums of the weights
        programs = triton.cdiv(tiles, each)
        sums = x.new_empty((programs, 2, c), dtype=torch.float32)
        dx, rooms = x.new_empty(x.shape), self.rooms(given, dy, (tiles, 1))
        norm_gradient_kernel[(programs,)](
            x, w, b, dx, sums, mean, deviation, (*given, dy, *rooms.maps), tuple(self.told(numbers, x, given)),
            rooms.channel_sums, rooms.row_sums, m, c, m // x.shape[0], row_stride(x), each,
            EPILOGUE=self.epilogue_gradient, CENTRED=self.centred, BM=bm, BC=bc, num_warps=warps,
        )  # fmt: skip
        total = sums.sum(0)
        weights = [total[at].to(t.dtype, copy=True) for at, t in enumerate(tensors[1 : 1 + self.weights])]
        found = [dx, *weights, *rooms.gradients(tensors[1 + self.weights :], self.of_rows)]
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]
