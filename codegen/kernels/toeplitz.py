from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .epilogue import Rooms, store_sums
from .fused import jit, tl, triton
from .strip import Windows


@jit
def band_kernel(
    w, band, C, W, OW, KH, KW, SH, SW, UH, UW, DH, DW, PH, PW, LEFT,
    PLANE: tl.constexpr, MIRRORED: tl.constexpr, BX: tl.constexpr, BO: tl.constexpr,
):  # fmt: skip
    """band[c, i, x, o] = w[c, i, j] where tap j of result o sees column x - LEFT, else 0; taps in opposite order where
    MIRRORED. Of a PLANE, x and o number all positions, row by row, and all taps are in one matrix."""
    c, i = tl.program_id(0), tl.program_id(1)
    o_x = tl.program_id(2) * BX + tl.arange(0, BX)  # [BX]
    o_o = tl.arange(0, BO)  # [BO]
    if PLANE:
        d_i = (o_x // W * UH)[:, None] - (o_o // OW * SH)[None, :] + PH
        d_j = (o_x % W * UW)[:, None] - (o_o % OW * SW)[None, :] + PW
        tap = d_i // DH * KW + d_j // DW
        m_w = (d_i >= 0) & (d_i % DH == 0) & (d_i < KH * DH)
    else:
        d_j = ((o_x - LEFT) * UW)[:, None] - (o_o * SW)[None, :] + PW
        tap = i * KW + d_j // DW
        m_w = d_j >= 0
    m_w &= (d_j >= 0) & (d_j % DW == 0) & (d_j < KW * DW) & (c < C)
    if MIRRORED:
        tap = KH * KW - 1 - tap
    b_w = tl.load(w + c * KH * KW + tap, m_w, 0.0)
    p_band = band + (c * tl.num_programs(1) + i).to(tl.int64) * tl.num_programs(2) * BX * BO
    tl.store(p_band + o_x[:, None] * BO + o_o[None, :], b_w.to(band.dtype.element_ty))


@jit
def toeplitz_kernel(
    x, band, y, operands, numbers, channel_sums, row_sums, M, H, W, OH, OW, C: tl.constexpr,
    EPILOGUE: tl.constexpr, GRADIENT: tl.constexpr, SUMS: tl.constexpr, KH: tl.constexpr,
    SH: tl.constexpr, UH: tl.constexpr, DH: tl.constexpr, PH: tl.constexpr, STEP: tl.constexpr, LEFT: tl.constexpr,
    BM: tl.constexpr, BX: tl.constexpr, NB: tl.constexpr, BO: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """y[m, o, c] = EPILOGUE(sum_ij x[row of m and i, j, c] band[c, i, j, o]) for all M = N OH rows of results.

    A program makes BM rows of BO results for BC channels, each channel by products of its rows and its matrices. Results
    from `o` on see columns from `o / BO STEP - LEFT` on, BX at a time. As a GRADIENT, the epilogue also gives terms whose
    sums over the results and over channels are stored; it may not need the SUMS.
    """
    i_m, i_o = tl.program_id(0) // tl.cdiv(OW, BO), tl.program_id(0) % tl.cdiv(OW, BO)
    o_r = i_m * BM + tl.arange(0, BM)  # [BM]
    o_o = i_o * BO + tl.arange(0, BO)  # [BO]
    o_c = tl.program_id(1) * BC + tl.arange(0, BC)  # [BC]
    m_c = o_c < C
    o_k = tl.arange(0, BX)
    p_n = x + (o_r // OH).to(tl.int64)[:, None, None] * H * W * C + o_c[None, None, :]
    p_band = band + (o_c * (KH * NB * BX * BO)).to(tl.int64)[:, None, None] + o_k[None, :, None] * BO
    acc = tl.zeros([BC, BM, BO], tl.float32)
    for i in range(KH if SUMS else 0):
        o_i = o_r % OH * SH + i * DH - PH
        m_i = (o_r < M) & (o_i >= 0) & (o_i % UH == 0) & (o_i < H * UH)
        for b in range(NB):
            o_x = i_o * STEP - LEFT + b * BX + o_k  # [BX]
            m_x = (m_i[:, None] & ((o_x >= 0) & (o_x < W))[None, :])[:, :, None] & m_c[None, None, :]
            b_x = tl.load(p_n + ((o_i // UH * W)[:, None] + o_x[None, :])[:, :, None] * C, m_x, 0.0)  # [BM, BX, BC]
            b_w = tl.load(p_band + ((i * NB + b) * BX * BO + tl.arange(0, BO))[None, None, :])  # [BC, BX, BO]
            acc = tl.dot(tl.permute(b_x, (2, 0, 1)), b_w, acc)
    acc = tl.reshape(tl.permute(acc, (1, 2, 0)), [BM * BO, BC])
    o_m = tl.reshape(o_r[:, None] * OW + o_o[None, :], [BM * BO]).to(tl.int64)
    m_m = tl.reshape((o_r < M)[:, None] & (o_o < OW)[None, :], [BM * BO])
    m_y = m_m[:, None] & m_c[None, :]
    o_y = o_m[:, None] * C + o_c[None, :]
    b_y = EPILOGUE(
        acc, operands, numbers, o_y, o_m[:, None], o_c[None, :], m_m[:, None], m_c[None, :], C, OH * OW
    )  # fmt: skip
    if GRADIENT:
        b_y, by_channel, by_row = b_y
        store_sums(
            by_channel, by_row, channel_sums, row_sums, tl.program_id(0), tl.program_id(1), tl.num_programs(0),
            tl.num_programs(1), o_m, o_c, m_m, m_c, M * OW, C,
        )  # fmt: skip
    tl.store(y + o_y, b_y.to(y.dtype.element_ty), m_y)


@jit
def toeplitz_weight_kernel(
    x, dz, part, M, RS, H, W: tl.constexpr, OH, OW: tl.constexpr, C: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    SH: tl.constexpr, SW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr,
    STEP: tl.constexpr, LEFT: tl.constexpr, PLANE: tl.constexpr,
    BM: tl.constexpr, BX: tl.constexpr, NB: tl.constexpr, BO: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """part[z, i KW + j, c] = sum of dz x over the RS rows of split z / NB, for block z % NB of columns.

    The products of all columns x with all results o, of which each tap sums a diagonal. As a PLANE, rows are whole maps,
    and blocks are of results.
    """
    i, i_b = tl.program_id(0) // NB, tl.program_id(0) % NB
    o_b, x_b = (i_b * BO, 0) if PLANE else (0, i_b * BX)
    o_c = tl.program_id(2) * BC + tl.arange(0, BC)  # [BC]
    m_c = o_c < C
    o_k, o_t = tl.arange(0, BX), tl.arange(0, BO)
    columns, results = (H * W, OH * OW) if PLANE else (W, OW)
    acc = tl.zeros([BC, BX, BO], tl.float32)
    first = tl.program_id(1) * RS
    last = tl.minimum(first + RS, M)
    for m in range(first, last, BM):
        o_m = m + tl.arange(0, BM)  # [BM]
        o_r, m_r = o_m, o_m < last
        if not PLANE:
            o_i = o_m % OH * SH + i * DH - PH
            o_r, m_r = o_m // OH * H + o_i, (o_m < last) & (o_i >= 0) & (o_i < H)
        p_x = x + (o_r.to(tl.int64) * columns)[:, None, None] * C + o_c[None, None, :]
        p_z = dz + (o_m.to(tl.int64) * results)[:, None, None] * C + o_c[None, None, :]
        for o in range(o_b, o_b + BO if PLANE else results, BO):
            o_x = o // BO * STEP - LEFT + x_b + o_k  # [BX]
            m_x = (m_r[:, None] & ((o_x >= 0) & (o_x < columns))[None, :])[:, :, None] & m_c[None, None, :]
            m_z = ((o_m < last)[:, None] & (o + o_t < results)[None, :])[:, :, None] & m_c[None, None, :]
            b_x = tl.load(p_x + o_x[None, :, None] * C, m_x, 0.0)  # [BM, BX, BC]
            b_z = tl.load(p_z + (o + o_t)[None, :, None] * C, m_z, 0.0)  # [BM, BO, BC]
            acc = tl.dot(tl.permute(b_x, (2, 1, 0)), tl.permute(b_z, (2, 0, 1)), acc)
    p_part = part + (tl.program_id(1) * NB + i_b).to(tl.int64) * KH * KW * C + o_c
    o_x, o_o = x_b + o_k, o_b + o_t
    # The tap by which each result sees each column.
    if PLANE:
        d_i = (o_x // W)[:, None] - (o_o // OW * SH)[None, :] + PH  # [BX, BO]
        d_j = (o_x % W)[:, None] - (o_o % OW * SW)[None, :] + PW
        seen = (d_i >= 0) & (d_i % DH == 0) & (d_j >= 0) & (d_j % DW == 0) & (d_j < KW * DW)
        tap = tl.where(seen, d_i // DH * KW + d_j // DW, -1)
    else:
        d_j = (o_x - LEFT)[:, None] - (o_o * SW)[None, :] + PW
        tap = tl.where((d_j >= 0) & (d_j % DW == 0), d_j // DW, -1)
    for t in range(KH * KW if PLANE else KW):
        b_t = tl.sum(tl.sum(tl.where((tap == t)[None, :, :], acc, 0.0), 2), 1)  # [BC]
        tl.store(p_part + (i * KW + t) * C, b_t, m_c)


class ToeplitzTile(NamedTuple):
    """BM rows of BO results, which see NB times BX columns, for BC channels. Tiles are STEP columns apart, from LEFT columns
    before; of small maps the whole `plane` is a row. `clocks`: those of a multiprocessor for a result."""

    clocks: float
    plane: bool
    STEP: int
    LEFT: int
    BM: int
    BX: int
    NB: int
    BO: int
    BC: int

    @property
    def warps(self) -> int:
        return 8 if max(self.BX, self.BO) > 16 else 4

    def view(self, maps: Tensor) -> Tensor:
        """[N, H, W, C] as rows of whole planes, where those are rows."""
        n, h, w, c = maps.shape
        return maps.reshape(n, 1, h * w, c) if self.plane else maps

    def tiles(self, y: Tensor) -> tuple[int, int]:
        """How many of results and of channels there are for y [N, H, W, C]."""
        n, h, w, c = self.view(y).shape
        return triton.cdiv(n * h, self.BM) * triton.cdiv(w, self.BO), triton.cdiv(c, self.BC)


@cache
def toeplitz_tile(
    windows: Windows, seen: tuple[int, int], size: tuple[int, int], n: int, c: int
) -> ToeplitzTile | None:  # fmt: skip
    """The tile for n maps of `seen` positions and `size` results, of 16-bit numbers; None where there is none.

    The clocks of a multiprocessor for a result: 128 bytes to or from its memory, or 128 instructions. What it multiplies
    is loaded, stored to be turned, and loaded again. Instructions as compiled for sm_90. An entry of a matrix takes 15
    instructions to make, once for all n maps.
    """
    (kh, kw), (_, sw), (_, dw), (_, pw), (_, uw) = windows
    plane, step, left, nb = max(seen[0] * seen[1], size[0] * size[1]) <= 64, 0, 0, 1
    if plane:
        columns, results, kh = seen[0] * seen[1], size[0] * size[1], 1
    else:
        columns, results = seen[1], size[1]
    bx, bo = (max(16, triton.next_power_of_2(width)) for width in (columns, results))
    if max(bx, bo) > 64:
        if 32 * sw % uw:
            return None
        bo, left, step = 32, -(-pw // uw), 32 * sw // uw
        count = left + (31 * sw + (kw - 1) * dw - pw) // uw + 1
        bx = min(64, max(16, triton.next_power_of_2(count)))
        nb = triton.cdiv(count, bx)
    bm, bc = 32, 16 if max(bx, bo) <= 32 else 8
    idle = triton.cdiv(results, bo) * bo / results * triton.cdiv(c, bc) * bc / c
    moved = 6 * kh * nb * (bx / bo + bx / bm)
    slots = 4 + kh * nb * (2.5 + bx / 36) * max(1, bx / bo)
    entries = kh * nb * bx * bo / (n * size[0] * size[1])
    return ToeplitzTile((max(moved, slots) * idle + 15 * entries) / 128, plane, step, left, bm, bx, nb, bo, bc)


def toeplitz(
    x: Tensor, weight: Tensor, y: Tensor, given: Sequence[Tensor | None], numbers: Sequence[float | None],
    epilogue: Any,
    windows: Windows, tile: ToeplitzTile, mirrored: bool = False, rooms: Rooms | None = None, sums: bool = True,
) -> None:  # fmt: skip
    """Makes the matrices, and launches `toeplitz_kernel` on maps [N, H, W, C]; `weight` is [C, 1, KH, KW]."""
    (kh, kw), (sh, sw), (dh, dw), (ph, pw), (uh, uw) = windows
    wide, results = x.shape[2], y.shape[2]
    x, y = tile.view(x), tile.view(y)
    (_, h, w, c), (n, oh, ow, _) = x.shape, y.shape
    rows, blocks = 1 if tile.plane else kh, triton.cdiv(c, tile.BC)
    band = x.new_empty((blocks * tile.BC, rows, tile.NB * tile.BX, tile.BO))
    band_kernel[(blocks * tile.BC, rows, tile.NB)](
        weight.contiguous(), band, c, wide, results, kh, kw, sh, sw, uh, uw, dh, dw, ph, pw, tile.LEFT,
        PLANE=tile.plane, MIRRORED=mirrored, BX=tile.BX, BO=tile.BO, num_warps=4,
    )  # fmt: skip
    if tile.plane:
        sh, uh, dh, ph = 1, 1, 1, 0
    toeplitz_kernel[tile.tiles(y)](
        x, band, y, tuple(given), tuple(numbers), *((y, y) if rooms is None else (rooms.channel_sums, rooms.row_sums)),
        n * oh, h, w, oh, ow, c, EPILOGUE=epilogue, GRADIENT=rooms is not None, SUMS=sums, KH=rows, SH=sh, UH=uh, DH=dh,
        PH=ph, STEP=tile.STEP, LEFT=tile.LEFT, BM=tile.BM, BX=tile.BX, NB=tile.NB, BO=tile.BO, BC=tile.BC,
        num_warps=tile.warps, num_stages=1,
    )  # fmt: skip


def toeplitz_weight_sums(x: Tensor, dz: Tensor, windows: Windows, tile: ToeplitzTile) -> Tensor:
    """[KH KW + 1, C]: the gradients of the weights and the bias, in two stages, so that their order is always the same."""
    (kh, kw), (sh, sw), (dh, dw), (ph, pw), _ = windows
    (_, h, w, c), (n, oh, ow, _) = x.shape, dz.shape
    m, products, blocks = n if tile.plane else n * oh, 1 if tile.plane else kh, triton.cdiv(c, tile.BC)
    if tile.plane:  # few results at a time, so that the products stay in registers with what tells their taps
        tile = tile._replace(BO=16, NB=triton.cdiv(oh * ow, 16))
    # Programs enough for a GPU, but each with more rows to multiply than diagonals to sum.
    splits = max(1, min(1024 // (products * tile.NB * blocks), m // (8 * tile.BM)))
    part = x.new_empty((splits * tile.NB, kh * kw, c), dtype=torch.float32)
    toeplitz_weight_kernel[(products * tile.NB, splits, blocks)](
        x, dz, part, m, triton.cdiv(m, splits), h, w, oh, ow, c, KH=kh, KW=kw, SH=sh, SW=sw, DH=dh, DW=dw, PH=ph, PW=pw,
        STEP=tile.STEP, LEFT=tile.LEFT, PLANE=tile.plane,
        BM=tile.BM, BX=tile.BX, NB=tile.NB, BO=tile.BO, BC=tile.BC, num_warps=tile.warps, num_stages=1,
    )  # fmt: skip
    return torch.cat([part.sum(0), dz.sum((0, 1, 2), dtype=torch.float32)[None]])
