from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .epilogue import Rooms, store_sums
from .fused import jit, tl, triton


class Windows(NamedTuple):
    """What a stencil sees: tap i of result h is at (h stride + i dilation - before) / up, where that is a whole number.

    Rows, then columns. `up` is 1 but for gradients: that of a stencil is one whose `stride` and `up` are exchanged.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    up: tuple[int, int] = (1, 1)

    @property
    def mirrored(self) -> Windows:
        """Those of the gradient: its taps are in the opposite order."""
        rows = zip(self.kernel, self.dilation, self.before, strict=True)
        before = [(k - 1) * d - b for k, d, b in rows]
        return Windows(self.kernel, self.up, self.dilation, (before[0], before[1]), self.stride)


@jit
def strip_kernel(
    x, w, y, operands, numbers, channel_sums, row_sums, N, H, W, OH, OW, C: tl.constexpr,
    EPILOGUE: tl.constexpr, GRADIENT: tl.constexpr, SUMS: tl.constexpr, MEAN: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    SH: tl.constexpr, SW: tl.constexpr, UH: tl.constexpr, UW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, EH: tl.constexpr, EW: tl.constexpr,
    BJ: tl.constexpr, T: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """y[n, h, o, c] = EPILOGUE(sum_ij w[i KW + j, c] x[n, (h SH + i DH - PH) / UH, (o SW + j DW - PW) / UW, c])

    A program makes BH x BW x T results for BC channels, each lane T of them EW columns apart, so that a column of the map
    is read once for all results of a lane that see it. Rows of a program are EH apart: they share rows of the map.
    MEAN: 1 divides a sum by the number of taps in the map, 2 by that of all. Without `w` all weights are 1. As a GRADIENT,
    the epilogue also gives terms whose sums over the results and over channels are stored; it may not need the SUMS.
    """
    rows = EH * tl.cdiv(OH, EH * BH)
    i_n, i_h = (tl.program_id(0) // rows).to(tl.int64), tl.program_id(0) % rows
    o_l = tl.arange(0, BH * BW)  # the lanes
    h_0 = i_h // EH * (BH * EH) + i_h % EH
    o_h = h_0 + o_l // BW * EH  # [BH BW]
    i_w = tl.program_id(1) * BW + o_l % BW
    o_w = i_w // EW * (EW * T) + i_w % EW  # [BH BW], the first of T
    o_c = tl.program_id(2) * BC + tl.arange(0, BC)  # [BC]
    m_c = o_c < C
    acc = (tl.zeros([BH * BW, BC], tl.float32),) * T
    p_n = x + i_n * H * W * C + o_c[None, :]
    # The rows of taps that some result sees inside of the map.
    low = tl.maximum(0, (PH - (h_0 + (BH - 1) * EH) * SH + DH - 1) // DH)
    high = tl.minimum(KH, ((H - 1) * UH + PH - h_0 * SH) // DH + 1) if SUMS else low
    for i in range(low, high):
        o_i = o_h * SH + i * DH - PH
        m_i = (o_i >= 0) & (o_i % UH == 0) & (o_i < H * UH)
        if UH > 1:  # one comparison: what is negative is a large unsigned number
            m_i = (o_i % UH == 0) & ((o_i // UH).to(tl.uint32, bitcast=True) < H)
        for j_0 in range(0, KW, BJ):  # BJ columns of taps at a time; the last ones begin where they end with the kernel
            j = tl.minimum(j_0, KW - BJ)
            b_w = ()
            if w is not None:
                p_w = w + (i * KW + j) * ((C + BC - 1) // BC * BC) + o_c[None, :]
                for k in tl.static_range(BJ):
                    m_w = None if KW % BJ == 0 else ((j + k >= j_0) & (o_c >= 0))[None, :]
                    b_w += (tl.load(p_w + k * ((C + BC - 1) // BC * BC), m_w, None if KW % BJ == 0 else 0.0),)
            o_j = o_w * SW // UW + j * DW
            p_j = p_n + (o_i // UH * W + o_j)[:, None] * C
            for u in tl.static_range(-(PW // UW), ((T - 1) * EW * SW + (BJ - 1) * DW - PW) // UW + 1, EW):
                m_x = (m_i & ((o_j + u).to(tl.uint32, bitcast=True) < W))[:, None] & m_c[None, :]
                b_x = tl.load(p_j + u * C, m_x, 0.0).to(tl.float32)  # [BH BW, BC]
                new = ()
                for t in tl.static_range(T):
                    # The column is so far behind the first tap of result t.
                    if (
                        (u * UW + PW - t * EW * SW) % DW != 0
                        or u * UW + PW < t * EW * SW
                        or u * UW + PW - t * EW * SW >= BJ * DW
                    ):
                        new += (acc[t],)
                    elif w is None:
                        new += (acc[t] + b_x,)
                    else:
                        new += (acc[t] + b_x * b_w[(u * UW + PW - t * EW * SW) // DW],)
                acc = new
    sums = ()
    for t in tl.static_range(T):
        o_t = o_w + t * EW
        share = 1.0 / (KH * KW)
        if MEAN == 1:
            first, left = o_h * SH - PH, o_t * SW - PW
            seen = (tl.minimum(first + KH, H) - tl.maximum(first, 0)) * (tl.minimum(left + KW, W) - tl.maximum(left, 0))
            share = 1.0 / tl.maximum(seen, 1).to(tl.float32)[:, None]
        o_m = (i_n * OH + o_h) * OW + o_t
        m_m = (o_h < OH) & (o_t < OW)
        m_y = m_m[:, None] & m_c[None, :]
        o_y = o_m[:, None] * C + o_c[None, :]
        b_y = EPILOGUE(
            acc[t] * share if MEAN else acc[t], operands, numbers, o_y, o_m[:, None], o_c[None, :], m_m[:, None],
            m_c[None, :], C, OH * OW,
        )  # fmt: skip
        if GRADIENT:
            b_y, by_channel, by_row = b_y
            store_sums(
                (), by_row, channel_sums, row_sums, 0, tl.program_id(2), 0, tl.num_programs(2), o_m, o_c, m_m, m_c,
                N * OH * OW, C,
            )  # fmt: skip
            new = ()
            for k in tl.static_range(len(by_channel)):
                new += (by_channel[k] if t == 0 else sums[k] + by_channel[k],)
            sums = new
            if MEAN:
                b_y *= share
        tl.store(y + o_y, b_y.to(y.dtype.element_ty), m_y)
    if GRADIENT:
        store_sums(
            sums, (), channel_sums, row_sums, tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), 0,
            tl.num_programs(0) * tl.num_programs(1), 0, o_l, o_c, m_c, m_c, 0, C,
        )  # fmt: skip


@jit
def strip_weight_kernel(
    x, dz, part, R, RS, H, W, OH, OW, C: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    SH: tl.constexpr, SW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr,
    EW: tl.constexpr, BI: tl.constexpr, BJ: tl.constexpr,
    T: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """part[z, i KW + j, c] = sum of dz x over the RS rows of split z, of R in all; part[z, KH KW, c] = sum of dz.

    A program has BI x BJ taps; its lanes are as those of `strip_kernel`.
    """
    i_0, j_0 = tl.program_id(0) // tl.cdiv(KW, BJ) * BI, tl.program_id(0) % tl.cdiv(KW, BJ) * BJ
    o_c = tl.program_id(2) * BC + tl.arange(0, BC)  # [BC]
    m_c = o_c < C
    o_l = tl.arange(0, BH * BW)
    acc = (tl.zeros([BH * BW, BC], tl.float32),) * (BI * BJ)
    total = tl.zeros([BH * BW, BC], tl.float32)
    first = tl.program_id(1) * RS
    last = tl.minimum(first + RS, R)
    for r in range(first, last, BH):
        o_r = r + o_l // BW  # [BH BW]
        o_h = o_r % OH * SH + i_0 * DH - PH
        p_n = x + (o_r // OH).to(tl.int64)[:, None] * H * W * C + o_c[None, :]
        for w in range(0, tl.cdiv(OW, EW * T) * EW, BW):
            i_w = w + o_l % BW
            o_w = i_w // EW * (EW * T) + i_w % EW
            p_z = dz + (o_r.to(tl.int64) * OW + o_w)[:, None] * C + o_c[None, :]
            b_z = ()
            for t in tl.static_range(T):
                m_z = ((o_r < last) & (o_w + t * EW < OW))[:, None] & m_c[None, :]
                b_z += (tl.load(p_z + t * EW * C, m_z, 0.0).to(tl.float32),)
            if tl.program_id(0) == 0:
                for t in tl.static_range(T):
                    total += b_z[t]
            for i in tl.static_range(BI):
                o_i, o_j = o_h + i * DH, o_w * SW + j_0 * DW - PW
                m_i = (o_r < last) & (o_i >= 0) & (o_i < H)
                p_i = p_n + (o_i * W + o_j)[:, None] * C
                for u in tl.static_range(0, (T - 1) * EW * SW + (BJ - 1) * DW + 1, EW):
                    m_x = (m_i & ((o_j + u).to(tl.uint32, bitcast=True) < W))[:, None] & m_c[None, :]
                    b_x = tl.load(p_i + u * C, m_x, 0.0).to(tl.float32)
                    new = ()
                    for k in tl.static_range(BI * BJ):
                        b_k = acc[k]
                        for t in tl.static_range(T):
                            if k // BJ == i and t * EW * SW + k % BJ * DW == u:
                                b_k += b_x * b_z[t]
                        new += (b_k,)
                    acc = new
    p_part = part + tl.program_id(1).to(tl.int64) * (KH * KW + 1) * C + o_c
    for k in tl.static_range(BI * BJ):
        i, j = i_0 + k // BJ, j_0 + k % BJ
        tl.store(p_part + (i * KW + j) * C, tl.sum(acc[k], 0), m_c & (i < KH) & (j < KW))
    if tl.program_id(0) == 0:
        tl.store(p_part + KH * KW * C, tl.sum(total, 0), m_c)


@jit
def nothing(acc, operands, numbers, o_y, o_m, o_c, m_m, m_c, C, P):
    """The epilogue that leaves the sums as they are."""
    return acc


WARPS = 4
COUNTS = (7, 6, 5, 4, 3, 2)  # results of a lane: more take too many registers
COLUMNS = 7  # of taps at a time: their weights stay in registers


class StripTile(NamedTuple):
    """T results of a lane, EW columns apart; BH x BW lanes, rows EH apart; BC channels. `slots`: instructions a result."""

    slots: float
    T: int
    EH: int
    EW: int
    BH: int
    BW: int
    BC: int

    def lanes(self, columns: int) -> int:
        """How many lanes make so many columns."""
        return -(-columns // (self.EW * self.T)) * self.EW

    def programs(self, y: Tensor) -> tuple[int, int, int]:
        """Those that make y [N, H, W, C]."""
        n, h, w, c = y.shape
        rows = n * self.EH * triton.cdiv(h, self.EH * self.BH)
        return rows, triton.cdiv(self.lanes(w), self.BW), triton.cdiv(c, self.BC)

    def tiles(self, y: Tensor) -> tuple[int, int]:
        """How many of results and of channels there are."""
        rows, columns, channels = self.programs(y)
        return rows * columns, channels


def channel_block(c: int) -> int:
    """How many channels a program takes: those with the fewest idle ones, which still fill memory sectors."""
    return min((64, 32, 16), key=lambda block: (-(-c // block) * block, -block))


@cache
def strip_tile(
    windows: Windows, size: tuple[int, int], c: int, item: int, counts: tuple[int, ...] = COUNTS
) -> StripTile:
    """The tile that takes the fewest instructions for results of `size` and elements of `item` bytes; T is of `counts`.

    The instructions of a result, as compiled for sm_90: KW multiply-adds a row of taps, 3.1 for each column that is read
    and made float32, less 1.5, and 9 besides; all of that for idle lanes too. Results that are as far apart as the taps
    of a dilated kernel share columns, and rows of the map.
    """
    (kh, kw), (sh, sw), (dh, dw), _, (uh, uw) = windows
    j, bc = min(kw, COLUMNS), channel_block(c)
    lanes = WARPS * 32 * (16 // item) // bc  # such that every lane reads 16 bytes
    tiles = []
    for t, ew in ((t, ew) for t in counts if t % uw == 0 for ew in ({dw, 1} if sw == uw == 1 else {1})):
        columns = {a * ew * sw + b * dw for a in range(t) for b in range(j)}
        slots = 9 + kh / uh * (-(-kw // j)) * (j + 3.1 * len(columns) / t - 1.5 * uw) / uw
        for bw, eh in ((bw, eh) for bw in (4, 8, 2, 16, 1) for eh in ({dh, 1} if sh == uh == 1 else {uh})):
            tile = StripTile(slots, t, eh, ew, max(lanes // bw, 1), bw, bc)
            wide = -(-tile.lanes(size[1]) // bw) * bw * t
            high = -(-size[0] // (eh * tile.BH)) * eh * tile.BH
            tiles.append(tile._replace(slots=slots * wide * high / (size[0] * size[1])))
    return min(tiles, key=lambda tile: tile.slots)


def too_far(windows: Windows) -> bool:
    """Whether a strip cannot make what lies between, as a gradient of strides and wide kernels: `spread` does."""
    return max(windows.up) > 1 and max(windows.kernel[1], windows.up[1]) > COLUMNS


def spread(x: Tensor, windows: Windows) -> tuple[Tensor, Windows]:
    """The map with the rows and columns between that `up` stands for, as zeros."""
    n, h, w, c = x.shape
    wide = x.new_zeros((n, (h - 1) * windows.up[0] + 1, (w - 1) * windows.up[1] + 1, c))
    wide[:, :: windows.up[0], :: windows.up[1]] = x
    return wide, windows._replace(up=(1, 1))


def strip(
    x: Tensor, weight: Tensor | None, y: Tensor, given: Sequence[Tensor | None], numbers: Sequence[float | None],
    epilogue: Any,
    windows: Windows, tile: StripTile, mirrored: bool = False, mean: int = 0, rooms: Rooms | None = None,
    sums: bool = True,
) -> None:  # fmt: skip
    """Launches `strip_kernel` on maps [N, H, W, C]; `weight` is [C, 1, KH, KW]."""
    n, h, w, c = y.shape
    kh, kw = windows.kernel
    grid, taps = tile.programs(y), None
    if weight is not None:
        taps = x.new_zeros((kh * kw, grid[2] * tile.BC), dtype=torch.float32)
        taps[:, :c] = (weight.flip(2, 3) if mirrored else weight).flatten(1).t()
    strip_kernel[grid](
        x, taps, y, tuple(given), tuple(numbers), *((y, y) if rooms is None else (rooms.channel_sums, rooms.row_sums)),
        n, x.shape[1], x.shape[2], h, w, c, EPILOGUE=epilogue, GRADIENT=rooms is not None, SUMS=sums, MEAN=mean,
        KH=kh, KW=kw, SH=windows.stride[0], SW=windows.stride[1], UH=windows.up[0], UW=windows.up[1],
        DH=windows.dilation[0], DW=windows.dilation[1], PH=windows.before[0], PW=windows.before[1],
        EH=tile.EH, EW=tile.EW, BJ=min(kw, COLUMNS), T=tile.T, BH=tile.BH, BW=tile.BW, BC=tile.BC, num_warps=WARPS,
    )  # fmt: skip


def strip_weight_sums(x: Tensor, dz: Tensor, windows: Windows) -> Tensor:
    """[KH KW + 1, C]: the gradients of the weights and the bias, in two stages, so that their order is always the same."""
    n, h, w, c = dz.shape
    kh, kw = windows.kernel
    tile = strip_tile(windows, (n * h, w), c, x.element_size(), (4,))
    tile = tile._replace(BH=tile.BH * tile.BW, BW=1)  # a program walks along rows, of which there are enough
    j = min(kw, COLUMNS)
    i = max(1, min(kh, 5 * x.element_size() // j))  # sums that stay in registers
    blocks = triton.cdiv(kh, i) * triton.cdiv(kw, j)
    i, rows, channels = triton.cdiv(kh, triton.cdiv(kh, i)), n * h, triton.cdiv(c, tile.BC)
    splits = max(1, min(2048 // (blocks * channels), triton.cdiv(rows, tile.BH)))
    part = x.new_empty((splits, kh * kw + 1, c), dtype=torch.float32)
    strip_weight_kernel[(blocks, splits, channels)](
        x, dz, part, rows, triton.cdiv(rows, splits), x.shape[1], x.shape[2], h, w, c, KH=kh, KW=kw,
        SH=windows.stride[0], SW=windows.stride[1], DH=windows.dilation[0], DW=windows.dilation[1],
        PH=windows.before[0], PW=windows.before[1], EW=tile.EW, BI=i, BJ=j, T=tile.T,
        BH=tile.BH, BW=tile.BW, BC=tile.BC, num_warps=WARPS,
    )  # fmt: skip
    return part.sum(0)
