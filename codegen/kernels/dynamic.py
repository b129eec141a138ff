from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from .fused import FusedOp, jit, tl, triton
from .taps import Taps, around, blocks


@jit
def tile_lanes(i, size, D, P, B: tl.constexpr, o):
    """Tile i of an axis: P positions of one class, D apart. Gives the class, the first and the last position of the tile
    in it, the positions of the lanes `o` < B, and which lanes are there."""
    c = i % D
    n = (size - c + D - 1) // D
    first = i // D * P
    return c, first, tl.minimum(first + P, n) - 1, first + o, (o < P) & (first + o < n)


@jit
def joined(u_h, TH, u_w, TW):
    """Whether tap numbers along rows and columns are those of taps; negative ones are large without their sign."""
    return (u_h.to(tl.uint32, bitcast=True) < TH) & (u_w.to(tl.uint32, bitcast=True) < TW)


@jit
def log_sum(p_w, m_o, n, WEIGHT: tl.constexpr, BO: tl.constexpr, BU: tl.constexpr):
    """The logarithm of the sum of the exponentials of WEIGHT of n elements from each of the BO places p_w on, to base 2."""
    top = tl.full([BO], -1e30, tl.float32)
    total = tl.zeros([BO], tl.float32)
    for u in range(0, n, BU):
        o_u = u + tl.arange(0, BU)
        b_w = tl.load(p_w[:, None] + o_u[None, :], m_o[:, None] & (o_u < n)[None, :], 0.0).to(tl.float32)  # [BO, BU]
        if WEIGHT is not None:
            b_w = WEIGHT(b_w)
        b_w = tl.where((o_u < n)[None, :], b_w * 1.4426950408889634, float("-inf"))
        new = tl.maximum(top, tl.max(b_w, 1))
        total = total * tl.exp2(top - new) + tl.sum(tl.exp2(b_w - new[:, None]), 1)
        top = new
    return top + tl.log2(total)


@jit
def slide_kernel(
    x, w, y, lse, s_x, s_w, s_y, leads, rows, columns, C, WEIGHT: tl.constexpr, SOFTMAX: tl.constexpr,
    BACK: tl.constexpr, TW: tl.constexpr, T: tl.constexpr, BG: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """`aggregate_kernel` for neighbourhoods of few columns, on vector units.

    A lane makes T results of one class side by side; a program has BP such strips, of BG maps that ride along, for BC
    channels.
    """
    H, DH, TH, W, DW = rows[0], rows[2], rows[3], columns[0], columns[2]
    s_n = tl.cdiv(tl.cdiv(W, DW), T)  # the strips of a row of a class
    n_g, n_s = tl.cdiv(leads[1], BG), tl.cdiv(tl.cdiv(H, DH) * s_n, BP // BG)
    i_o = tl.program_id(0)
    i_c = i_o // (n_g * n_s) % (DH * DW)
    c_h, c_w = i_c // DW, i_c % DW
    n_h, n_w = (H - c_h + DH - 1) // DH, (W - c_w + DW - 1) // DW
    i_l = (i_o // (n_g * n_s * DH * DW)).to(tl.int64)
    i_a, i_b = i_l // leads[0], i_l % leads[0]
    o = tl.arange(0, BP)
    o_g = i_o % n_g * BG + o % BG  # [BP]
    o_s = i_o // n_g % n_s * (BP // BG) + o // BG
    o_h, o_w = o_s // s_n, o_s % s_n * T
    m_o = (o_g < leads[1]) & (o_h < n_h)
    h = (o_h * DH + c_h).to(tl.int64)
    o_c = tl.program_id(1) * BC + tl.arange(0, BC)  # [BC]
    m_c = (o_c < C)[None, :]
    p_x = x + i_a * s_x[0] + i_b * s_x[1] + (o_g * s_x[2])[:, None] + o_c[None, :]
    p_w = w + i_a * s_w[0] + i_b * s_w[1] + o_g * s_w[2]
    p_l = lse + (i_l * leads[1] + o_g) * H * W
    p_y = y + i_a * s_y[0] + i_b * s_y[1] + (h * s_y[3] + o_g * s_y[2])[:, None] + o_c[None, :]
    sums = ()
    if SOFTMAX and not BACK:
        for t in tl.static_range(T):
            q_w, m_q = (o_w + t) * DW + c_w, m_o & (o_w + t < n_w)
            sums += (log_sum(p_w + h * s_w[3] + q_w * s_w[4], m_q, TH * TW, WEIGHT, BP, 16),)
            if tl.program_id(1) == 0:
                tl.store(p_l + h * W + q_w, sums[t], m_q)
    acc = (tl.zeros([BP, BC], tl.float32),) * T
    for i in range(TH):
        r_h = o_h + i - TH // 2
        m_h = m_o & (r_h >= 0) & (r_h < n_h)
        x_h = (r_h * DH + c_h).to(tl.int64)
        p_i = p_w + x_h * s_w[3] + (TH - 1 - i) * TW if BACK else p_w + h * s_w[3] + i * TW
        # What is read at a column serves all of the T results that see it.
        for u in tl.static_range(T + TW - 1):
            r_w = o_w + (u - TW // 2)
            x_w = r_w * DW + c_w
            m_r = m_h & (r_w >= 0) & (r_w < n_w)
            b_x = tl.load(p_x + (x_h * s_x[3] + x_w * s_x[4])[:, None], m_r[:, None] & m_c, 0.0).to(tl.float32)  # [BP, BC]
            if SOFTMAX and BACK:
                b_l = tl.load(p_l + x_h * W + x_w, m_r, 0.0)
            new = ()
            for t in tl.static_range(T):
                if u >= t and u - t < TW:
                    # A place that there is, for a result that there is not.
                    q_w = r_w if BACK else tl.minimum(o_w + t, n_w - 1)
                    p_u = p_i + (q_w * DW + c_w) * s_w[4] + (TW - 1 - u + t if BACK else u - t)
                    b_w = tl.load(p_u, m_r, 0.0).to(tl.float32)  # [BP]
                    if WEIGHT is not None:
                        b_w = WEIGHT(b_w)
                    if SOFTMAX:
                        b_w = tl.exp2(b_w * 1.4426950408889634 - (b_l if BACK else sums[t]))
                    new += (acc[t] + b_w[:, None] * b_x,)
                else:
                    new += (acc[t],)
            acc = new
    for t in tl.static_range(T):
        m_y = (m_o & (o_w + t < n_w))[:, None] & m_c
        tl.store(p_y + (((o_w + t) * DW + c_w) * s_y[4])[:, None], acc[t].to(y.dtype.element_ty), m_y)


@jit
def aggregate_kernel(
    x, w, y, lse, s_x, s_w, s_y, leads, rows, columns, pitch, C,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WEIGHT: tl.constexpr, SOFTMAX: tl.constexpr, BACK: tl.constexpr,
    PRECISION: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """y[q, c] = sum_u w[q, u] x[k(q, u), c], or with BACK y[k, c] = sum of w[q, u] x[q, c] over the q, u with k(q, u) = k.

    w is WEIGHT of what is loaded, with SOFTMAX over all taps u; lse[q] is its `log_sum`. A program makes BH x BW results
    next to each other (outputs o) for BC channels, and goes over what they read (sources r) in tiles of SH x SW: the weights
    of such a pair of tiles are a matrix, nought where no tap joins output and source.
    """
    QH, KH, DH, TH = rows[0], rows[1], rows[2], rows[3]
    QW, KW, DW, TW = columns[0], columns[1], columns[2], columns[3]
    OH = KH if BACK else QH
    OW = KW if BACK else QW
    n_w = DW * tl.cdiv(tl.cdiv(OW, DW), pitch[1])
    n_h = DH * tl.cdiv(tl.cdiv(OH, DH), pitch[0])
    i_o = tl.program_id(0)
    i_l = (i_o // (n_w * n_h)).to(tl.int64)
    i_a, i_b, i_c = i_l // (leads[0] * leads[1]), i_l // leads[1] % leads[0], i_l % leads[1]
    o = tl.arange(0, BH * BW)
    c_h, a_h, z_h, o_h, m_h = tile_lanes(i_o // n_w % n_h, OH, DH, pitch[0], BH, o // BW)  # [BH BW]
    c_w, a_w, z_w, o_w, m_w = tile_lanes(i_o % n_w, OW, DW, pitch[1], BW, o % BW)
    m_o = m_h & m_w
    o_c = tl.program_id(1) * BC + tl.arange(0, BC)  # [BC]
    m_c = o_c < C

    # The sources that the tile may see, and how many there are.
    kn_h, kn_w = (KH - c_h + DH - 1) // DH, (KW - c_w + DW - 1) // DW
    if BACK:
        sn_h, sn_w = (QH - c_h + DH - 1) // DH, (QW - c_w + DW - 1) // DW
        lo_h, hi_h = ROWS(a_h, kn_h, TH, rows[4], rows[5])[1], ROWS(z_h, kn_h, TH, rows[4], rows[5])[2]
        lo_w, hi_w = COLUMNS(a_w, kn_w, TW, columns[4], columns[5])[1], COLUMNS(z_w, kn_w, TW, columns[4], columns[5])[2]
    else:
        sn_h, sn_w = kn_h, kn_w
        lo_h, hi_h = ROWS(a_h, kn_h, TH, rows[4], rows[5])[0], ROWS(z_h, kn_h, TH, rows[4], rows[5])[0] + TH - 1
        lo_w = COLUMNS(a_w, kn_w, TW, columns[4], columns[5])[0]
        hi_w = COLUMNS(z_w, kn_w, TW, columns[4], columns[5])[0] + TW - 1
    lo_h, hi_h = tl.maximum(lo_h, 0), tl.minimum(hi_h, sn_h - 1)
    lo_w, hi_w = tl.maximum(lo_w, 0), tl.minimum(hi_w, sn_w - 1)
    t_w = tl.cdiv(tl.maximum(hi_w - lo_w + 1, 0), SW)
    trips = t_w * tl.cdiv(tl.maximum(hi_h - lo_h + 1, 0), SH)

    p_x = x + i_a * s_x[0] + i_b * s_x[1] + i_c * s_x[2] + o_c[None, :]
    p_w = w + i_a * s_w[0] + i_b * s_w[1] + i_c * s_w[2]
    p_l = lse + i_l * QH * QW
    y_h, y_w = (o_h * DH + c_h).to(tl.int64), o_w * DW + c_w
    if not BACK:
        f_h = ROWS(o_h, kn_h, TH, rows[4], rows[5])[0]
        f_w = COLUMNS(o_w, kn_w, TW, columns[4], columns[5])[0]
        p_o = p_w + y_h * s_w[3] + y_w * s_w[4]
        if SOFTMAX:
            b_l = log_sum(p_o, m_o, TH * TW, WEIGHT, BH * BW, 8)[:, None]
            if tl.program_id(1) == 0:
                tl.store(p_l + y_h * QW + y_w, tl.reshape(b_l, [BH * BW]), m_o)
        p_o -= f_h * TW + f_w
    acc = tl.zeros([BH * BW, BC], tl.float32)
    r = tl.arange(0, SH * SW)
    for i_r in range(trips):
        r_h = lo_h + i_r // t_w * SH + r // SW  # [SH SW]
        r_w = lo_w + i_r % t_w * SW + r % SW
        m_r = (r_h <= hi_h) & (r_w <= hi_w)
        x_h, x_w = (r_h * DH + c_h).to(tl.int64), r_w * DW + c_w
        b_x = tl.load(p_x + (x_h * s_x[3] + x_w * s_x[4])[:, None], m_r[:, None] & m_c[None, :], 0.0)  # [SH SW, BC]
        if BACK:
            f_h = ROWS(r_h, kn_h, TH, rows[4], rows[5])[0]
            f_w = COLUMNS(r_w, kn_w, TW, columns[4], columns[5])[0]
            u_h, u_w = o_h[:, None] - f_h[None, :], o_w[:, None] - f_w[None, :]
            p_u = (p_w + x_h * s_w[3] + x_w * s_w[4] - (f_h * TW + f_w))[None, :] + (o_h * TW + o_w)[:, None]
        else:
            u_h, u_w = r_h[None, :] - f_h[:, None], r_w[None, :] - f_w[:, None]
            p_u = p_o[:, None] + (r_h * TW + r_w)[None, :]
        m_u = joined(u_h, TH, u_w, TW) & m_o[:, None] & m_r[None, :]
        # The exponential of what is no tap is nought as it is.
        b_w = tl.load(p_u, m_u, float("-inf") if SOFTMAX and WEIGHT is None else 0.0)  # [BH BW, SH SW]
        if WEIGHT is not None:
            b_w = WEIGHT(b_w.to(tl.float32))
        if SOFTMAX:
            if BACK:
                b_l = tl.load(p_l + x_h * QW + x_w, m_r, 0.0)[None, :]
            b_w = tl.exp2(b_w.to(tl.float32) * 1.4426950408889634 - b_l)
        if WEIGHT is not None:
            b_w = tl.where(m_u, b_w, 0.0)
        acc = tl.dot(b_w.to(x.dtype.element_ty), b_x, acc, input_precision=PRECISION)
    p_y = y + i_a * s_y[0] + i_b * s_y[1] + i_c * s_y[2] + y_h * s_y[3] + y_w * s_y[4]
    tl.store(p_y[:, None] + o_c[None, :], acc.to(y.dtype.element_ty), m_o[:, None] & m_c[None, :])


@jit
def correlate_kernel(
    q, x, d, y, w, lse, s_q, s_x, s_d, s_y, s_w, leads, rows, columns, pitch, C,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WEIGHT: tl.constexpr, SLOPE: tl.constexpr, SOFTMAX: tl.constexpr,
    NONE: tl.constexpr, PRECISION: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, SH: tl.constexpr,
    SW: tl.constexpr, BC: tl.constexpr, NC: tl.constexpr,
):  # fmt: skip
    """d[q, u] = sum_c q[q, c] x[k(q, u), c], NONE for taps outside of the map; for the gradient of what WEIGHT and
    SOFTMAX are computed from, which is `w`, carried on through them (y: what the weighted sums were).

    A program makes all taps of BH x BW queries; C is at most NC BC.
    """
    QH, KH, DH, TH = rows[0], rows[1], rows[2], rows[3]
    QW, KW, DW, TW = columns[0], columns[1], columns[2], columns[3]
    n_w = DW * tl.cdiv(tl.cdiv(QW, DW), pitch[1])
    n_h = DH * tl.cdiv(tl.cdiv(QH, DH), pitch[0])
    i_o = tl.program_id(0)
    i_l = (i_o // (n_w * n_h)).to(tl.int64)
    i_a, i_b, i_c = i_l // (leads[0] * leads[1]), i_l // leads[1] % leads[0], i_l % leads[1]
    o = tl.arange(0, BH * BW)
    c_h, a_h, z_h, o_h, m_h = tile_lanes(i_o // n_w % n_h, QH, DH, pitch[0], BH, o // BW)  # [BH BW]
    c_w, a_w, z_w, o_w, m_w = tile_lanes(i_o % n_w, QW, DW, pitch[1], BW, o % BW)
    m_o = m_h & m_w
    kn_h, kn_w = (KH - c_h + DH - 1) // DH, (KW - c_w + DW - 1) // DW
    lo_h, hi_h = ROWS(a_h, kn_h, TH, rows[4], rows[5])[0], ROWS(z_h, kn_h, TH, rows[4], rows[5])[0] + TH - 1
    lo_w = COLUMNS(a_w, kn_w, TW, columns[4], columns[5])[0]
    hi_w = COLUMNS(z_w, kn_w, TW, columns[4], columns[5])[0] + TW - 1
    t_w = tl.cdiv(tl.maximum(hi_w - lo_w + 1, 0), SW)
    trips = t_w * tl.cdiv(tl.maximum(hi_h - lo_h + 1, 0), SH)

    y_h, y_w = (o_h * DH + c_h).to(tl.int64), o_w * DW + c_w
    p_q = q + (i_a * s_q[0] + i_b * s_q[1] + i_c * s_q[2] + y_h * s_q[3] + y_w * s_q[4])[:, None]
    p_x = x + i_a * s_x[0] + i_b * s_x[1] + i_c * s_x[2]
    f_h = ROWS(o_h, kn_h, TH, rows[4], rows[5])[0]
    f_w = COLUMNS(o_w, kn_w, TW, columns[4], columns[5])[0]
    f_u = f_h * TW + f_w
    p_d = d + i_a * s_d[0] + i_b * s_d[1] + i_c * s_d[2] + y_h * s_d[3] + y_w * s_d[4] - f_u
    p_w = w + i_a * s_w[0] + i_b * s_w[1] + i_c * s_w[2] + y_h * s_w[3] + y_w * s_w[4] - f_u
    c = tl.arange(0, BC)
    b_q = tl.load(p_q + c[None, :], m_o[:, None] & (c < C)[None, :], 0.0)  # [BH BW, BC]
    if SOFTMAX:
        b_l = tl.load(lse + (i_l * QH + y_h) * QW + y_w, m_o, 0.0)
        # sum_u p[u] d[u], which the derivative of a softmax subtracts, is the product of the sums and their gradient.
        p_y = y + (i_a * s_y[0] + i_b * s_y[1] + i_c * s_y[2] + y_h * s_y[3] + y_w * s_y[4])[:, None]
        mean = tl.zeros([BH * BW], tl.float32)
        for i_n in tl.static_range(NC):
            m_y = m_o[:, None] & (i_n * BC + c < C)[None, :]
            b_y = tl.load(p_y + i_n * BC + c[None, :], m_y, 0.0).to(tl.float32)
            mean += tl.sum(tl.load(p_q + i_n * BC + c[None, :], m_y, 0.0).to(tl.float32) * b_y, 1)
    r = tl.arange(0, SH * SW)
    for i_r in range(trips):
        r_h = lo_h + i_r // t_w * SH + r // SW  # [SH SW]
        r_w = lo_w + i_r % t_w * SW + r % SW
        m_r = (r_h <= hi_h) & (r_w <= hi_w)
        m_x = m_r & (r_h >= 0) & (r_h < kn_h) & (r_w >= 0) & (r_w < kn_w)
        p_r = p_x + ((r_h * DH + c_h).to(tl.int64) * s_x[3] + (r_w * DW + c_w) * s_x[4])[:, None]
        b_x = tl.load(p_r + c[None, :], m_x[:, None] & (c < C)[None, :], 0.0)  # [SH SW, BC]
        b_d = tl.dot(b_q, tl.trans(b_x), input_precision=PRECISION)  # [BH BW, SH SW]
        for i_n in tl.static_range(1, NC):
            m_c = (i_n * BC + c < C)[None, :]
            b_a = tl.load(p_q + i_n * BC + c[None, :], m_o[:, None] & m_c, 0.0)
            b_x = tl.load(p_r + i_n * BC + c[None, :], m_x[:, None] & m_c, 0.0)
            b_d = tl.dot(b_a, tl.trans(b_x), b_d, input_precision=PRECISION)
        u_h, u_w = r_h[None, :] - f_h[:, None], r_w[None, :] - f_w[:, None]
        m_u = joined(u_h, TH, u_w, TW) & m_o[:, None] & m_r[None, :]
        o_u = (r_h * TW + r_w)[None, :]
        if NONE != 0.0:
            b_d = tl.where(m_x[None, :], b_d, NONE)
        if SOFTMAX or SLOPE is not None:
            b_w = tl.load(p_w[:, None] + o_u, m_u, 0.0).to(tl.float32)
            b_s = b_w if WEIGHT is None else WEIGHT(b_w)
            if SOFTMAX:
                b_d = tl.exp2(b_s * 1.4426950408889634 - b_l[:, None]) * (b_d - mean[:, None])
            if SLOPE is not None:
                b_d = b_d * SLOPE(b_w)
        tl.store(p_d[:, None] + o_u, b_d.to(d.dtype.element_ty), m_u)


@cache
def tap_tiles(rows: Taps, columns: Taps, sizes: tuple[tuple[int, ...], tuple[int, ...]], c: int) -> tuple[int, ...]:
    """The tiles with the fewest instructions for a result: how many positions of a class an output tile has along rows and
    columns, the lanes BH, BW for them, and the source tile SH, SW.

    For a pair of tiles, a warp has some 140 instructions, a dozen for each of its pairs of lanes, and what the sources take.
    """

    def axis(taps: Taps, numbers: tuple[int, ...], lanes: int) -> tuple[int, int, float]:
        """The positions of a tile, what they see, and which share of the lanes of all tiles has work."""
        queries, _, step, count, block, stride = numbers
        own, there = -(-block // stride), -(-queries // step)
        pitch = -(-own // -(-own // lanes))
        span = count if taps.where is blocks else pitch + count - 1
        return pitch, span, there / (-(-there // pitch) * pitch)

    best: tuple[float, tuple[int, ...]] = (float("inf"), ())
    for bh, bw in ((1, 16), (2, 8), (4, 4), (1, 32), (2, 16), (4, 8)):
        p_h, s_h, f_h = axis(rows, sizes[0], bh)
        p_w, s_w, f_w = axis(columns, sizes[1], bw)
        for sh, sw in ((1, 16), (2, 8), (4, 4)):
            trips = -(-s_h // sh) * -(-s_w // sw)
            cost = trips * (140 + 6 * bh * bw + 1.5 * c) / (p_h * p_w * f_h * f_w)
            best = min(best, (cost, (p_h, p_w, bh, bw, sh, sw)))
    return best[1]


def slides(rows: Taps, columns: Taps, c: int, dtype: torch.dtype) -> bool:
    """Whether vector units make the sums: where few channels share a weight, or none is lost by narrow types."""
    return rows.where is columns.where is around and columns.count <= 9 and (c < 64 or dtype == torch.float32)


def tiles_of(numbers: tuple[int, ...], back: bool, pitch: int) -> int:
    """How many tiles of `pitch` positions of one class an axis of queries, or of keys, has."""
    size, step = numbers[back], numbers[2]
    return step * triton.cdiv(triton.cdiv(size, step), pitch)


class Tapped(FusedOp):
    """What operators with the taps of a region share. They take two tensors, whose axes but the last, in this order, are
    those of `axes` that `given` names; what one of them lacks is the same along it. The last ones of `axes` are the
    positions, of which `taps` has an entry each.
    """

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], axes: str, given: tuple[str, str], taps: tuple[Taps, ...]
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path)
        self.axes, self.given = axes.split(), tuple(one.split() for one in given)
        self.lead, self.positions = self.axes[: -len(taps)], self.axes[-len(taps) :]
        self.taps = ((Taps(), *taps)[-2], taps[-1])

    def sizes(self, queries: Sequence[int], keys: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What kernels are told of rows and columns."""
        pairs = list(zip((1, *queries)[-2:], (1, *keys)[-2:], strict=True))
        return self.taps[0].numbers(*pairs[0]), self.taps[1].numbers(*pairs[1])

    def whole(self, tensor: Tensor, names: Sequence[str], sizes: dict[str, int]) -> Tensor:
        """A tensor with all axes, repeated along those that it lacks: [lead, lead, lead, rows, columns, last]."""
        if tensor.stride(-1) != 1:
            tensor = self.empty(tensor, tensor.shape, names).copy_(tensor)
        for at, name in enumerate(self.axes):
            if name not in names:
                tensor = tensor.unsqueeze(at)
                tensor = tensor.expand(*tensor.shape[:at], sizes[name], *tensor.shape[at + 1 :])
        return self.six(tensor)

    def six(self, tensor: Tensor) -> Tensor:
        """[*lead, *positions, last] with three axes in front and two positions."""
        if len(self.positions) == 1:
            tensor = tensor.unsqueeze(-3)
        while tensor.ndim < 6:
            tensor = tensor.unsqueeze(0)
        return tensor.flatten(0, tensor.ndim - 6)

    def empty(self, like: Tensor, shape: Sequence[int], names: Sequence[str], dtype: torch.dtype | None = None) -> Tensor:
        """Room for a tensor with the axes `names` and a last one, in the memory order of a map: its positions behind the
        first axis, then what rides along."""
        lead = sum(name in self.lead for name in names)
        order = [*range(min(lead, 1)), *range(lead, len(names)), *range(min(lead, 1), lead), len(names)]
        made = like.new_empty([shape[at] for at in order], dtype=dtype)
        return made.permute([order.index(at) for at in range(len(order))])

    def gradients(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        rooms = zip(tensors, self.given, wanted, strict=True)
        return [self.empty(t, t.shape, names) if want else t.new_empty(0) for t, names, want in rooms]

    def into(self, room: Tensor, names: Sequence[str], sizes: dict[str, int], last: int) -> Tensor:
        """Where a gradient is made that goes to `room`: there, or with all axes, in float32, to be summed."""
        if list(names) == self.axes:
            return room
        return self.empty(room, [*(sizes[name] for name in self.axes), last], self.axes, torch.float32)

    def settle(self, room: Tensor, made: Tensor, names: Sequence[str]) -> None:
        """Sums along the axes that `room` lacks."""
        if made is not room:
            room.copy_(made.sum([at for at, name in enumerate(self.axes) if name not in names]))

    def weigh(
        self, x: Tensor, w: Tensor, y: Tensor, lse: Tensor, queries: Sequence[int], keys: Sequence[int], back: bool,
        weight: Any = None, softmax: bool = False,
    ) -> None:  # fmt: skip
        """Launches the weighted sums; x, w and y are whole."""
        rows, columns = self.sizes(queries, keys)
        c = x.shape[-1]
        bc = min(64, max(16, triton.next_power_of_2(c)))
        given = (x, w, y, lse, x.stride()[:5], w.stride()[:5], y.stride()[:5], (y.shape[1], y.shape[2]), rows, columns)
        if slides(*self.taps, c, x.dtype):
            t = 7 if columns[3] <= 7 and x.element_size() == 2 and not (back or softmax) else 4
            bc = 16 if softmax and not back else bc  # as many strips as keep the sums where they are wanted
            bp = 512 // x.element_size() // bc
            bg = min(bp, triton.next_power_of_2(y.shape[2]))
            strips = triton.cdiv(rows[0], rows[2]) * triton.cdiv(triton.cdiv(columns[0], columns[2]), t)
            tiles = rows[2] * columns[2] * triton.cdiv(strips, bp // bg) * triton.cdiv(y.shape[2], bg)
            slide_kernel[(y.shape[0] * y.shape[1] * tiles, triton.cdiv(c, bc))](
                *given, c, WEIGHT=weight, SOFTMAX=softmax, BACK=back, TW=columns[3], T=t, BG=bg, BP=bp, BC=bc, num_warps=1
            )  # fmt: skip
            return
        p_h, p_w, bh, bw, sh, sw = tap_tiles(*self.taps, (rows, columns), c)
        tiles = tiles_of(rows, back, p_h) * tiles_of(columns, back, p_w)
        aggregate_kernel[(prod(y.shape[:3]) * tiles, triton.cdiv(c, bc))](
            *given, (p_h, p_w), c, ROWS=self.taps[0].where, COLUMNS=self.taps[1].where, WEIGHT=weight, SOFTMAX=softmax, BACK=back,
            PRECISION="tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
            BH=bh, BW=bw, SH=sh, SW=sw, BC=bc, num_warps=1, num_stages=2,
        )  # fmt: skip

    def score(
        self, q: Tensor, x: Tensor, d: Tensor, given: Sequence[Tensor], queries: Sequence[int], keys: Sequence[int],
        none: float = 0.0, weight: Any = None, slope: Any = None, softmax: bool = False,
    ) -> None:  # fmt: skip
        """Launches the scores; q, x and d are whole, `given` is the sums y, the weights and lse of a gradient."""
        rows, columns = self.sizes(queries, keys)
        c = x.shape[-1]
        p_h, p_w, bh, bw, sh, sw = tap_tiles(*self.taps, (rows, columns), c)
        bc = min(128 // q.element_size(), max(16, triton.next_power_of_2(c)))
        y, w, lse = given or (q, d, q)
        tiles = tiles_of(rows, False, p_h) * tiles_of(columns, False, p_w)
        correlate_kernel[(prod(d.shape[:3]) * tiles,)](
            q, x, d, y, w, lse, q.stride()[:5], x.stride()[:5], d.stride()[:5], y.stride()[:5], w.stride()[:5],
            (d.shape[1], d.shape[2]), rows, columns, (p_h, p_w), c, ROWS=self.taps[0].where, COLUMNS=self.taps[1].where,
            WEIGHT=weight, SLOPE=slope, SOFTMAX=softmax, NONE=none,
            PRECISION="tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
            BH=bh, BW=bw, SH=sh, SW=sw, BC=bc, NC=triton.cdiv(c, bc), num_warps=1,
        )  # fmt: skip


class Aggregate(Tapped):
    """Sums of a map over the taps of a region, with weights for each position: x [.., positions, C], w [.., positions, taps].

    The weights are `weight` of w, with `softmax` along the taps then; `slope` is the derivative of `weight`. The weights
    are never written, nor are the taps gathered.
    """

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], weight: Any = None, slope: Any = None, softmax: bool = False,
        *, axes: str, given: tuple[str, str], taps: tuple[Taps, ...],
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path, axes, given, taps)
        self.weight, self.slope, self.softmax = weight, slope, softmax
        # A library's products are cast under autocast, a softmax and what is before it are not.
        self.cast = 1 if softmax or weight is not None else 2
        self.keeps_results = softmax  # for what its derivative subtracts

    def extents(self, x: Tensor | Sequence[int], w: Tensor | Sequence[int]) -> tuple[dict[str, int], list[int], list[int]]:
        """The sizes of the axes, at the queries, and the positions of queries and keys."""
        x, w = (t.shape if isinstance(t, Tensor) else t for t in (x, w))
        have = dict(zip(self.given[0], x, strict=False)) | dict(zip(self.given[1], w, strict=False))
        keys = list(x[len(x) - 1 - len(self.positions) : len(x) - 1])
        strides = [taps.stride for taps in self.taps[2 - len(keys) :]]
        queries = [have[p] if p in self.given[1] else n // s for p, n, s in zip(self.positions, keys, strides, strict=True)]
        return have | dict(zip(self.positions, queries, strict=True)), queries, keys

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, w = tensors
        sizes, _, _ = self.extents(x, w)
        shape = [sizes[name] for name in self.axes]
        sums = [x.new_empty(shape, dtype=torch.float32)] if self.softmax else []
        return [self.empty(x, [*shape, x.shape[-1]], self.axes), *sums]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        x, w = shapes
        return 2 * prod(self.extents(x, w)[0][name] for name in self.axes) * x[-1] * w[-1]

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, w = tensors
        y, *sums = self.results(tensors, numbers)
        sizes, queries, keys = self.extents(x, w)
        parts = self.whole(x, self.given[0], sizes), self.whole(w, self.given[1], sizes), self.six(y)
        self.weigh(*parts, sums[0] if sums else y, queries, keys, False, self.weight, self.softmax)
        return [y, *sums]

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        x, w = tensors
        dx, dw = self.gradients(grads, kept, tensors, numbers, wanted)
        sizes, queries, keys = self.extents(x, w)
        dy = self.whole(grads[0].to(x.dtype), self.axes, sizes)
        x6, w6 = self.whole(x, self.given[0], sizes), self.whole(w, self.given[1], sizes)
        y, lse = kept if kept else (dy, dy)
        if wanted[0]:
            made = self.into(dx, self.given[0], sizes | dict(zip(self.positions, keys, strict=True)), x.shape[-1])
            self.weigh(dy, w6, self.six(made), lse, queries, keys, True, self.weight, self.softmax)
            self.settle(dx, made, self.given[0])
        if wanted[1]:
            made = self.into(dw, self.given[1], sizes, w.shape[-1])
            given = (self.whole(y, self.axes, sizes), w6, lse) if kept else (dy, w6, dy)
            self.score(dy, x6, self.six(made), given, queries, keys, 0.0, self.weight, self.slope, self.softmax)
            self.settle(dw, made, self.given[1])
        return [dx, dw]


class Correlate(Tapped):
    """The products of queries with the keys at the taps of a region: q, k [.., positions, C] to [.., positions, taps].

    `none` is what taps outside of the map score.
    """

    cast = 2

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], none: float = 0.0,
        *, axes: str, given: tuple[str, str], taps: tuple[Taps, ...],
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path, axes, given, taps)
        self.none = none

    def extents(self, q: Tensor | Sequence[int], k: Tensor | Sequence[int]) -> tuple[dict[str, int], list[int], list[int]]:
        """The sizes of the axes, at the queries, and the positions of queries and keys."""
        q, k = (t.shape if isinstance(t, Tensor) else t for t in (q, k))
        count = len(self.positions)
        have = dict(zip(self.given[1], k, strict=False)) | dict(zip(self.given[0], q, strict=False))
        return have, list(q[len(q) - 1 - count : len(q) - 1]), list(k[len(k) - 1 - count : len(k) - 1])

    def count(self, queries: Sequence[int], keys: Sequence[int]) -> int:
        return prod(numbers[3] for numbers in self.sizes(queries, keys))

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        sizes, queries, keys = self.extents(*tensors)
        shape = [*(sizes[name] for name in self.axes), self.count(queries, keys)]
        return [self.empty(tensors[0], shape, self.axes)]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        sizes, queries, keys = self.extents(*shapes)
        return 2 * prod(sizes[name] for name in self.axes) * shapes[0][-1] * self.count(queries, keys)

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        (d,) = self.results(tensors, numbers)
        sizes, queries, keys = self.extents(*tensors)
        q, k = (self.whole(t, names, sizes) for t, names in zip(tensors, self.given, strict=True))
        self.score(q, k, self.six(d), (), queries, keys, self.none)
        return [d]

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        q, k = tensors
        dq, dk = self.gradients(grads, kept, tensors, numbers, wanted)
        sizes, queries, keys = self.extents(q, k)
        d = self.whole(grads[0], self.axes, sizes)
        q6, k6 = self.whole(q, self.given[0], sizes), self.whole(k, self.given[1], sizes)
        if wanted[0]:
            made = self.into(dq, self.given[0], sizes, q.shape[-1])
            self.weigh(k6, d, self.six(made), d, queries, keys, False)
            self.settle(dq, made, self.given[0])
        if wanted[1]:
            made = self.into(dk, self.given[1], sizes | dict(zip(self.positions, keys, strict=True)), k.shape[-1])
            self.weigh(q6, d, self.six(made), d, queries, keys, True)
            self.settle(dk, made, self.given[1])
        return [dq, dk]
