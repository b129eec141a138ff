from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from .fused import WARPS_OF_LARGE_TILES, FusedOp, jit, tl, triton


@dataclass(frozen=True)
class AxisLine:
    """A region along one axis of a map.

    Positions are counted on the map rolled by `roll`; of each `step` of them one belongs to a line of places m (with
    `parts` = g, the lines have g places). The queries of a line lie in blocks of `block`, or all in one (0). Those of
    block j see the keys `base` j - `halo` + u, 0 <= u < base + 2 halo, of the same line. Beyond its ends there is no key
    (edge "drop"), or a key of zeros ("zero"), or all keys move until they are on the line ("shift"). Nobody sees across
    the `seam` of a rolled map. Offsets are measured from a query's place among the keys, or where `coarse` from the start
    of its block, in queries.
    """

    block: int = 0
    base: int = 0
    halo: int = 0
    step: int = 1
    parts: int = 0
    roll: int = 0
    edge: str = "drop"
    seam: bool = False
    coarse: bool = False

    @property
    def moves(self) -> int:
        """The keys from one block of queries to the next."""
        return self.base or self.block

    @property
    def stride(self) -> int:
        """The keys from one query of a block to the next, as offsets are measured."""
        return 1 if self.coarse or not self.block else self.moves // self.block

    @property
    def slides(self) -> bool:
        """Whether each query has keys of its own."""
        return self.block == 1 and self.halo > 0

    def steps(self, size: int) -> int:
        """How far apart the places of a line are on an axis of `size`."""
        return size // self.parts if self.parts else self.step

    def taps(self, size: int) -> int:
        """The keys of a query on an axis of `size` keys."""
        return self.moves + 2 * self.halo if self.block else size // self.steps(size)

    def meets(self, axis: tuple[int, int, int, int], tile: int, keys: bool) -> int:
        """How many keys a tile of queries meets on an axis of (queries, keys, step, roll), or a tile of `keys` queries."""
        if not self.block:
            return -(-axis[0 if keys else 1] // axis[2])
        if keys:
            return -(-(tile + 2 * self.halo) // self.moves) * self.block
        return -(-tile // self.block) * self.moves + 2 * self.halo


@dataclass(frozen=True)
class OffsetTable:
    """An operand of scores that is read at the offset between key and query: on the axes `lead`, and along `rows` and
    `columns` where it has offsets of them, the offset 0 at `centre` (None: in the middle)."""

    lead: str = ""
    rows: bool = True
    columns: bool = True
    centre: int | None = None


# ---- the arithmetic of lines, for each axis


@jit
def attention_tile(t, size, step, BLOCK: tl.constexpr, T: tl.constexpr):
    """Tile t of an axis: its line, the first of its up to T places, and where it ends. It lies in one block of BLOCK
    places, or holds several whole ones."""
    most = (size + step - 1) // step
    if BLOCK > T:
        per = (BLOCK + T - 1) // T
        count = (most + BLOCK - 1) // BLOCK * per
    else:
        count = (most + T - 1) // T
    line = t // count
    t = t % count
    places = (size - line + step - 1) // step
    if BLOCK > T:
        first = t // per * BLOCK + t % per * T
        end = tl.minimum(tl.minimum(first + T, t // per * BLOCK + BLOCK), places)
    else:
        first = t * T
        end = tl.minimum(first + T, places)
    return line, first, end


@jit
def attention_position(m, line, size, step, roll):
    """Where place m of a line lies on the map."""
    p = line + step * m - roll
    return tl.where(p < 0, p + size, p)


@jit
def attention_start(m, keys, LINE: tl.constexpr):
    """The first key of the queries m, on a line of so many keys."""
    if LINE.block == 0:
        return m * 0
    start = m // LINE.block * LINE.moves - LINE.halo
    if LINE.edge == "shift":
        start = tl.minimum(tl.maximum(start, 0), keys - (LINE.moves + 2 * LINE.halo))
    return start


@jit
def attention_taps(keys, LINE: tl.constexpr):
    """How many keys a query has on a line of so many."""
    if LINE.block == 0:
        return keys
    return keys * 0 + (LINE.moves + 2 * LINE.halo)


@jit
def attention_keys(first, end, keys, LINE: tl.constexpr):
    """The first key that the queries from `first` to `end` see, and where they end; beyond the line where it has zeros."""
    low = attention_start(first, keys, LINE)
    high = attention_start(end - 1, keys, LINE) + attention_taps(keys, LINE)
    if LINE.edge != "zero":
        low = tl.maximum(low, 0)
        high = tl.minimum(high, keys)
    return low, high


@jit
def attention_queries(first, end, queries, keys, LINE: tl.constexpr):
    """The first query that sees one of the keys from `first` to `end`, and where they end; some in between may not."""
    if LINE.block == 0:
        low = first * 0
        high = low + queries
    else:
        low = tl.maximum(first - LINE.halo, 0) // LINE.moves * LINE.block
        high = tl.minimum(((end - 1 + LINE.halo) // LINE.moves + 1) * LINE.block, queries)
        if LINE.edge == "shift":
            low = tl.where(first < LINE.moves + 2 * LINE.halo, 0, low)
            high = tl.where(end > keys - (LINE.moves + 2 * LINE.halo), queries, high)
    return low, high


@jit
def attention_origin(m, LINE: tl.constexpr):
    """Where the offsets of the queries m are measured from, among the keys of their line."""
    if LINE.block == 0:
        return m
    return m // LINE.block * LINE.moves + m % LINE.block * LINE.stride


@jit
def attention_sees(m, k, line, keys, step, roll, LINE: tl.constexpr, EXACT: tl.constexpr):
    """Whether queries m see keys k of their line, on the same side of the seam, as which tap, and the offset.

    EXACT: the tile lies in one block, so that none of its keys is too far.
    """
    u = k - attention_start(m, keys, LINE)
    seen = u >= 0
    if not EXACT:
        seen = seen & (u < attention_taps(keys, LINE))
    same = seen | True
    if LINE.seam:
        same = (line + step * m < roll) == (line + step * k < roll)
    return seen, same, u, k - attention_origin(m, LINE)


@jit
def attention_pairs(
    q_h, q_w, k_h, k_w, there, row, column,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, OWN: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Which queries see which keys, of those that are `there`, as which tap, and the offsets. `row` and `column`: the line
    of an axis, its keys, its step, and how far the map is rolled."""
    seen_h, same_h, u_h, d_h = attention_sees(q_h, k_h, row[0], row[1], row[2], row[3], ROWS, EXACT[0])
    seen_w, same_w, u_w, d_w = attention_sees(q_w, k_w, column[0], column[1], column[2], column[3], COLUMNS, EXACT[1])
    same = same_h & same_w
    if ROWS.edge == "zero" or COLUMNS.edge == "zero":
        # Zeros beyond the map are on no side of a seam.
        same = same | (k_h < 0) | (k_h >= row[1]) | (k_w < 0) | (k_w >= column[1])
    seen = seen_h & seen_w & same & there
    if OWN:
        seen = seen & ((q_h != k_h) | (q_w != k_w))
    return seen, u_h * attention_taps(column[1], COLUMNS) + u_w, d_h, d_w


@jit
def attention_operands(operands, strides, i_b, i_h, p_h, p_w, u, d_h, d_w, seen, TABLES: tl.constexpr):
    """What the scores of pairs are computed with besides: maps at the query and its tap, tables at the offset."""
    b = ()
    for i in tl.static_range(len(TABLES)):
        s = strides[i]
        p_b = operands[i] + i_b * s[0] + i_h * s[1]
        if TABLES[i]:
            p_b += d_h * s[2] + d_w * s[3] + s[4]
        else:
            p_b += p_h.to(tl.int64) * s[2] + p_w.to(tl.int64) * s[3] + u.to(tl.int64) * s[4]
        b += (tl.load(p_b, seen, 0.0).to(tl.float32),)
    return b


@jit
def attention_rows(x, strides, i_b, i_h, p_h, p_w):
    """Pointers to the channels of positions: [..] of them."""
    return x + i_b * strides[0] + i_h * strides[1] + p_h.to(tl.int64) * strides[2] + p_w.to(tl.int64) * strides[3]


@jit
def attention_kernel(
    q, k, v, y, lse, y0, operands, numbers, s_q, s_k, s_v, s_y, strides, rows, columns, heads, tiles, tap,
    SCORES: tl.constexpr, TABLES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, OWN: tl.constexpr,
    EXACT: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr, D: tl.constexpr, E: tl.constexpr, BD: tl.constexpr,
    BE: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """y[i] = sum_u softmax_u(SCORES(q[i] k[k(i, u)])) v[k(i, u)], one tile of TH TW queries at a time.

    `rows` and `columns` are (queries, keys, step, roll) of an axis. Where a query has keys in several pieces of a region,
    those after the FIRST go on from y0 and lse.
    """
    i_x = tl.program_id(0)
    i_h, i_x = i_x % heads, i_x // heads
    t_w, i_x = i_x % tiles[1], i_x // tiles[1]
    t_h, i_b = i_x % tiles[0], (i_x // tiles[0]).to(tl.int64)
    l_h, first_h, end_h = attention_tile(t_h, rows[0], rows[2], ROWS.block, TH)
    l_w, first_w, end_w = attention_tile(t_w, columns[0], columns[2], COLUMNS.block, TW)
    n_h, n_w = (rows[1] - l_h + rows[2] - 1) // rows[2], (columns[1] - l_w + columns[2] - 1) // columns[2]
    o_q, o_d, o_e = tl.arange(0, BQ), tl.arange(0, BD), tl.arange(0, BE)
    q_h, q_w = first_h + o_q // TW, first_w + o_q % TW  # [BQ]
    m_q = (o_q < TH * TW) & (q_h < end_h) & (q_w < end_w)
    p_h = attention_position(q_h, l_h, rows[0], rows[2], rows[3])
    p_w = attention_position(q_w, l_w, columns[0], columns[2], columns[3])
    m_d, m_e = o_d < D, o_e < E
    b_q = tl.load(attention_rows(q, s_q, i_b, i_h, p_h, p_w)[:, None] + o_d[None, :], m_q[:, None] & m_d[None, :], 0.0)
    o_lse = ((i_b * heads + i_h) * rows[0] + p_h) * columns[0] + p_w
    if FIRST:
        b_m = tl.full([BQ], float("-inf"), tl.float32)
        b_l = tl.zeros([BQ], tl.float32)
        b_y = tl.zeros([BQ, BE], tl.float32)
    else:
        b_m = tl.load(lse + o_lse, m_q, float("-inf"))
        b_l = tl.where(b_m > float("-inf"), 1.0, 0.0)
        p_0 = attention_rows(y0, s_y, i_b, i_h, p_h, p_w)[:, None] + o_e[None, :]
        b_y = tl.load(p_0, m_q[:, None] & m_e[None, :], 0.0)
    low_h, high_h = attention_keys(first_h, end_h, n_h, ROWS)
    low_w, high_w = attention_keys(first_w, end_w, n_w, COLUMNS)
    wide = tl.maximum(high_w - low_w, 1)
    count = tl.maximum(high_h - low_h, 0) * wide
    for f in range(0, count, BK):
        o_k = f + tl.arange(0, BK)  # [BK]
        k_h, k_w = low_h + o_k // wide, low_w + o_k % wide
        m_k = o_k < count
        m_load = m_k & (k_h >= 0) & (k_h < n_h) & (k_w >= 0) & (k_w < n_w)
        r_h = attention_position(k_h, l_h, rows[1], rows[2], rows[3])
        r_w = attention_position(k_w, l_w, columns[1], columns[2], columns[3])
        p_k = attention_rows(k, s_k, i_b, i_h, r_h, r_w)
        p_v = attention_rows(v, s_v, i_b, i_h, r_h, r_w)
        b_k = tl.load(p_k[None, :] + o_d[:, None], m_load[None, :] & m_d[:, None], 0.0)  # [BD, BK]
        s = tl.dot(b_q, b_k, input_precision=PRECISION)  # [BQ, BK]
        seen, u, d_h, d_w = attention_pairs(
            q_h[:, None], q_w[:, None], k_h[None, :], k_w[None, :], m_q[:, None] & m_k[None, :], (l_h, n_h, rows[2], rows[3]),
            (l_w, n_w, columns[2], columns[3]), ROWS, COLUMNS, OWN, EXACT,
        )  # fmt: skip
        u += tap
        b = attention_operands(operands, strides, i_b, i_h, p_h[:, None], p_w[:, None], u, d_h, d_w, seen, TABLES)
        s = tl.where(seen, SCORES(s, b, numbers), float("-inf"))
        new = tl.maximum(b_m, tl.max(s, 1))
        safe = tl.where(new > float("-inf"), new, 0.0)
        keep = tl.exp(b_m - safe)
        p = tl.exp(s - safe[:, None])
        b_l = b_l * keep + tl.sum(p, 1)
        b_v = tl.load(p_v[:, None] + o_e[None, :], m_load[:, None] & m_e[None, :], 0.0)  # [BK, BE]
        b_y = tl.dot(p.to(b_v.dtype), b_v, b_y * keep[:, None], input_precision=PRECISION)
        b_m = new
    b_y = b_y / b_l[:, None]
    if not LAST:
        b_y = tl.where(b_l[:, None] > 0, b_y, 0.0)
    p_y = attention_rows(y, s_y, i_b, i_h, p_h, p_w)[:, None] + o_e[None, :]
    tl.store(p_y, b_y.to(y.dtype.element_ty), m_q[:, None] & m_e[None, :])
    tl.store(lse + o_lse, b_m + tl.log(b_l), m_q)


@jit
def attention_dq_kernel(
    q, k, v, dy, lse, delta, dq, operands, numbers, s_q, s_k, s_v, s_dy, s_dq, strides, rows, columns, heads, tiles, tap,
    SCORES: tl.constexpr, GRADIENT: tl.constexpr, TABLES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    OWN: tl.constexpr, EXACT: tl.constexpr, PASSES: tl.constexpr, FIRST: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    BD: tl.constexpr, BE: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """In the first of two PASSES, delta[i] = sum_u p[i, u] dp[i, u]; in the second, the gradient of q.

    The sum is y[i] dy[i] too, but y is rounded, and the gradient is a difference. Pieces after the FIRST add theirs.
    """
    i_x = tl.program_id(0)
    i_h, i_x = i_x % heads, i_x // heads
    t_w, i_x = i_x % tiles[1], i_x // tiles[1]
    t_h, i_b = i_x % tiles[0], (i_x // tiles[0]).to(tl.int64)
    l_h, first_h, end_h = attention_tile(t_h, rows[0], rows[2], ROWS.block, TH)
    l_w, first_w, end_w = attention_tile(t_w, columns[0], columns[2], COLUMNS.block, TW)
    n_h, n_w = (rows[1] - l_h + rows[2] - 1) // rows[2], (columns[1] - l_w + columns[2] - 1) // columns[2]
    o_q, o_d, o_e = tl.arange(0, BQ), tl.arange(0, BD), tl.arange(0, BE)
    q_h, q_w = first_h + o_q // TW, first_w + o_q % TW  # [BQ]
    m_q = (o_q < TH * TW) & (q_h < end_h) & (q_w < end_w)
    p_h = attention_position(q_h, l_h, rows[0], rows[2], rows[3])
    p_w = attention_position(q_w, l_w, columns[0], columns[2], columns[3])
    m_qd, m_qe = m_q[:, None] & (o_d < D)[None, :], m_q[:, None] & (o_e < E)[None, :]
    b_q = tl.load(attention_rows(q, s_q, i_b, i_h, p_h, p_w)[:, None] + o_d[None, :], m_qd, 0.0)
    b_dy = tl.load(attention_rows(dy, s_dy, i_b, i_h, p_h, p_w)[:, None] + o_e[None, :], m_qe, 0.0)
    o_lse = ((i_b * heads + i_h) * rows[0] + p_h) * columns[0] + p_w
    b_lse = tl.load(lse + o_lse, m_q, 0.0)
    p_dq = attention_rows(dq, s_dq, i_b, i_h, p_h, p_w)[:, None] + o_d[None, :]
    b_delta = tl.zeros([BQ], tl.float32)
    if not (PASSES[0] and FIRST):
        b_delta = tl.load(delta + o_lse, m_q, 0.0)
    b_dq = tl.zeros([BQ, BD], tl.float32)
    if PASSES[1] and not FIRST:
        b_dq = tl.load(p_dq, m_qd, 0.0).to(tl.float32)
    low_h, high_h = attention_keys(first_h, end_h, n_h, ROWS)
    low_w, high_w = attention_keys(first_w, end_w, n_w, COLUMNS)
    wide = tl.maximum(high_w - low_w, 1)
    count = tl.maximum(high_h - low_h, 0) * wide
    for turn in tl.static_range(2):
        if PASSES[turn]:
            for f in range(0, count, BK):
                o_k = f + tl.arange(0, BK)  # [BK]
                k_h, k_w = low_h + o_k // wide, low_w + o_k % wide
                m_k = o_k < count
                m_load = m_k & (k_h >= 0) & (k_h < n_h) & (k_w >= 0) & (k_w < n_w)
                r_h = attention_position(k_h, l_h, rows[1], rows[2], rows[3])
                r_w = attention_position(k_w, l_w, columns[1], columns[2], columns[3])
                p_k = attention_rows(k, s_k, i_b, i_h, r_h, r_w)
                p_v = attention_rows(v, s_v, i_b, i_h, r_h, r_w)
                b_k = tl.load(p_k[:, None] + o_d[None, :], m_load[:, None] & (o_d < D)[None, :], 0.0)  # [BK, BD]
                b_v = tl.load(p_v[:, None] + o_e[None, :], m_load[:, None] & (o_e < E)[None, :], 0.0)  # [BK, BE]
                s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)  # [BQ, BK]
                seen, u, d_h, d_w = attention_pairs(
                    q_h[:, None], q_w[:, None], k_h[None, :], k_w[None, :], m_q[:, None] & m_k[None, :],
                    (l_h, n_h, rows[2], rows[3]), (l_w, n_w, columns[2], columns[3]), ROWS, COLUMNS, OWN, EXACT,
                )  # fmt: skip
                u += tap
                b = attention_operands(operands, strides, i_b, i_h, p_h[:, None], p_w[:, None], u, d_h, d_w, seen, TABLES)
                p = tl.where(seen, tl.exp(SCORES(s, b, numbers) - b_lse[:, None]), 0.0)
                dp = tl.dot(b_dy, tl.trans(b_v), input_precision=PRECISION)  # [BQ, BK]
                if turn == 0:
                    b_delta += tl.sum(p * dp, 1)
                else:
                    ds = GRADIENT(s, b, numbers, p * (dp - b_delta[:, None]))[0]
                    ds = tl.where(seen, ds, 0.0).to(b_k.dtype)
                    b_dq = tl.dot(ds, b_k, b_dq, input_precision=PRECISION)
    if PASSES[0]:
        tl.store(delta + o_lse, b_delta, m_q)
    if PASSES[1]:
        tl.store(p_dq, b_dq.to(dq.dtype.element_ty), m_qd)


@jit
def attention_dkv_kernel(
    q, k, v, dy, lse, delta, dk, dv, operands, numbers, s_q, s_k, s_v, s_dy, s_dk, s_dv, strides, rows, columns, heads,
    tiles, tap, SCORES: tl.constexpr, GRADIENT: tl.constexpr, TABLES: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, OWN: tl.constexpr, EXACT: tl.constexpr, FIRST: tl.constexpr, D: tl.constexpr,
    E: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, BQ: tl.constexpr,
    BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients of k and v, one tile of TH TW keys at a time; pieces after the FIRST add theirs."""
    i_x = tl.program_id(0)
    i_h, i_x = i_x % heads, i_x // heads
    t_w, i_x = i_x % tiles[1], i_x // tiles[1]
    t_h, i_b = i_x % tiles[0], (i_x // tiles[0]).to(tl.int64)
    l_h, first_h, end_h = attention_tile(t_h, rows[1], rows[2], ROWS.moves, TH)
    l_w, first_w, end_w = attention_tile(t_w, columns[1], columns[2], COLUMNS.moves, TW)
    # The queries and the keys of the lines.
    h_q, w_q = (rows[0] - l_h + rows[2] - 1) // rows[2], (columns[0] - l_w + columns[2] - 1) // columns[2]
    n_h, n_w = (rows[1] - l_h + rows[2] - 1) // rows[2], (columns[1] - l_w + columns[2] - 1) // columns[2]
    o_k, o_d, o_e = tl.arange(0, BK), tl.arange(0, BD), tl.arange(0, BE)
    k_h, k_w = first_h + o_k // TW, first_w + o_k % TW  # [BK]
    m_k = (o_k < TH * TW) & (k_h < end_h) & (k_w < end_w)
    r_h = attention_position(k_h, l_h, rows[1], rows[2], rows[3])
    r_w = attention_position(k_w, l_w, columns[1], columns[2], columns[3])
    m_kd, m_ke = m_k[:, None] & (o_d < D)[None, :], m_k[:, None] & (o_e < E)[None, :]
    b_k = tl.load(attention_rows(k, s_k, i_b, i_h, r_h, r_w)[:, None] + o_d[None, :], m_kd, 0.0)
    b_v = tl.load(attention_rows(v, s_v, i_b, i_h, r_h, r_w)[:, None] + o_e[None, :], m_ke, 0.0)
    p_dk = attention_rows(dk, s_dk, i_b, i_h, r_h, r_w)[:, None] + o_d[None, :]
    p_dv = attention_rows(dv, s_dv, i_b, i_h, r_h, r_w)[:, None] + o_e[None, :]
    if FIRST:
        b_dk = tl.zeros([BK, BD], tl.float32)
        b_dv = tl.zeros([BK, BE], tl.float32)
    else:
        b_dk = tl.load(p_dk, m_kd, 0.0).to(tl.float32)
        b_dv = tl.load(p_dv, m_ke, 0.0).to(tl.float32)
    low_h, high_h = attention_queries(first_h, end_h, h_q, n_h, ROWS)
    low_w, high_w = attention_queries(first_w, end_w, w_q, n_w, COLUMNS)
    wide = tl.maximum(high_w - low_w, 1)
    count = tl.where(end_h > first_h, tl.maximum(high_h - low_h, 0) * wide, 0)
    for f in range(0, count, BQ):
        o_q = f + tl.arange(0, BQ)  # [BQ]
        q_h, q_w = low_h + o_q // wide, low_w + o_q % wide
        m_q = o_q < count
        p_h = attention_position(q_h, l_h, rows[0], rows[2], rows[3])
        p_w = attention_position(q_w, l_w, columns[0], columns[2], columns[3])
        p_q = attention_rows(q, s_q, i_b, i_h, p_h, p_w)
        p_dy = attention_rows(dy, s_dy, i_b, i_h, p_h, p_w)
        b_q = tl.load(p_q[:, None] + o_d[None, :], m_q[:, None] & (o_d < D)[None, :], 0.0)  # [BQ, BD]
        b_dy = tl.load(p_dy[:, None] + o_e[None, :], m_q[:, None] & (o_e < E)[None, :], 0.0)  # [BQ, BE]
        o_lse = ((i_b * heads + i_h) * rows[0] + p_h) * columns[0] + p_w
        b_lse, b_delta = tl.load(lse + o_lse, m_q, 0.0), tl.load(delta + o_lse, m_q, 0.0)
        s = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION)  # [BK, BQ]
        seen, u, d_h, d_w = attention_pairs(
            q_h[None, :], q_w[None, :], k_h[:, None], k_w[:, None], m_q[None, :] & m_k[:, None], (l_h, n_h, rows[2], rows[3]),
            (l_w, n_w, columns[2], columns[3]), ROWS, COLUMNS, OWN, EXACT,
        )  # fmt: skip
        u += tap
        b = attention_operands(operands, strides, i_b, i_h, p_h[None, :], p_w[None, :], u, d_h, d_w, seen, TABLES)
        p = tl.where(seen, tl.exp(SCORES(s, b, numbers) - b_lse[None, :]), 0.0)
        b_dv = tl.dot(p.to(b_dy.dtype), b_dy, b_dv, input_precision=PRECISION)
        dp = tl.dot(b_v, tl.trans(b_dy), input_precision=PRECISION)  # [BK, BQ]
        ds = GRADIENT(s, b, numbers, p * (dp - b_delta[None, :]))[0]
        ds = tl.where(seen, ds, 0.0)
        b_dk = tl.dot(ds.to(b_q.dtype), b_q, b_dk, input_precision=PRECISION)
    tl.store(p_dk, b_dk.to(dk.dtype.element_ty), m_kd)
    tl.store(p_dv, b_dv.to(dv.dtype.element_ty), m_ke)


@jit
def attention_operand_kernel(
    q, k, v, dy, lse, delta, part, operands, numbers, s_q, s_k, s_v, s_dy, strides, rows, columns, heads, tiles, tap,
    taps, batch, splits, SCORES: tl.constexpr, GRADIENT: tl.constexpr, WHICH: tl.constexpr, TABLES: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, OWN: tl.constexpr, EXACT: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    BD: tl.constexpr, BE: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """part[z, head, i, u] = sum over the images of split z of the gradient of operand WHICH at the scores (i, u)."""
    i_x = tl.program_id(0)
    i_h, i_x = i_x % heads, i_x // heads
    t_w, i_x = i_x % tiles[1], i_x // tiles[1]
    t_h, i_z = i_x % tiles[0], (i_x // tiles[0]).to(tl.int64)
    l_h, first_h, end_h = attention_tile(t_h, rows[0], rows[2], ROWS.block, TH)
    l_w, first_w, end_w = attention_tile(t_w, columns[0], columns[2], COLUMNS.block, TW)
    n_h, n_w = (rows[1] - l_h + rows[2] - 1) // rows[2], (columns[1] - l_w + columns[2] - 1) // columns[2]
    o_q, o_d, o_e = tl.arange(0, BQ), tl.arange(0, BD), tl.arange(0, BE)
    q_h, q_w = first_h + o_q // TW, first_w + o_q % TW  # [BQ]
    m_q = (o_q < TH * TW) & (q_h < end_h) & (q_w < end_w)
    p_h = attention_position(q_h, l_h, rows[0], rows[2], rows[3])
    p_w = attention_position(q_w, l_w, columns[0], columns[2], columns[3])
    m_qd, m_qe = m_q[:, None] & (o_d < D)[None, :], m_q[:, None] & (o_e < E)[None, :]
    low_h, high_h = attention_keys(first_h, end_h, n_h, ROWS)
    low_w, high_w = attention_keys(first_w, end_w, n_w, COLUMNS)
    wide = tl.maximum(high_w - low_w, 1)
    count = tl.maximum(high_h - low_h, 0) * wide
    per = (batch + splits - 1) // splits
    for f in range(0, count, BK):
        o_k = f + tl.arange(0, BK)  # [BK]
        k_h, k_w = low_h + o_k // wide, low_w + o_k % wide
        m_k = o_k < count
        m_load = m_k & (k_h >= 0) & (k_h < n_h) & (k_w >= 0) & (k_w < n_w)
        r_h = attention_position(k_h, l_h, rows[1], rows[2], rows[3])
        r_w = attention_position(k_w, l_w, columns[1], columns[2], columns[3])
        seen, u, d_h, d_w = attention_pairs(
            q_h[:, None], q_w[:, None], k_h[None, :], k_w[None, :], m_q[:, None] & m_k[None, :], (l_h, n_h, rows[2], rows[3]),
            (l_w, n_w, columns[2], columns[3]), ROWS, COLUMNS, OWN, EXACT,
        )  # fmt: skip
        u += tap
        total = tl.zeros([BQ, BK], tl.float32)
        for at in range(per):
            i_b = i_z * per + at
            here = i_b < batch
            b_q = tl.load(attention_rows(q, s_q, i_b, i_h, p_h, p_w)[:, None] + o_d[None, :], m_qd & here, 0.0)
            b_dy = tl.load(attention_rows(dy, s_dy, i_b, i_h, p_h, p_w)[:, None] + o_e[None, :], m_qe & here, 0.0)
            o_lse = ((i_b * heads + i_h) * rows[0] + p_h) * columns[0] + p_w
            b_lse, b_delta = tl.load(lse + o_lse, m_q & here, 0.0), tl.load(delta + o_lse, m_q & here, 0.0)
            p_k = attention_rows(k, s_k, i_b, i_h, r_h, r_w)
            p_v = attention_rows(v, s_v, i_b, i_h, r_h, r_w)
            b_k = tl.load(p_k[None, :] + o_d[:, None], m_load[None, :] & (o_d < D)[:, None] & here, 0.0)  # [BD, BK]
            b_v = tl.load(p_v[None, :] + o_e[:, None], m_load[None, :] & (o_e < E)[:, None] & here, 0.0)  # [BE, BK]
            s = tl.dot(b_q, b_k, input_precision=PRECISION)  # [BQ, BK]
            b = attention_operands(operands, strides, i_b, i_h, p_h[:, None], p_w[:, None], u, d_h, d_w, seen & here, TABLES)
            p = tl.where(seen & here, tl.exp(SCORES(s, b, numbers) - b_lse[:, None]), 0.0)
            dp = tl.dot(b_dy, b_v, input_precision=PRECISION)  # [BQ, BK]
            ds = GRADIENT(s, b, numbers, p * (dp - b_delta[:, None]))[1 + WHICH]
            total += tl.where(seen & here, ds, 0.0)
        p_part = part + (((i_z * heads + i_h) * rows[0] + p_h[:, None]) * columns[0] + p_w[:, None]) * taps
        tl.store(p_part + u, total, seen)


@jit
def attention_table_kernel(
    part, table, rows, columns, heads, tap, taps, c_h, c_w, wide, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    FIRST: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """table[head, dy, dx] = sum of `part` over the queries and the key that lies dy - c_h rows and dx - c_w columns off."""
    i_x = tl.program_id(0)
    i_h, i_t = i_x % heads, i_x // heads
    d_h, d_w = i_t // wide - c_h, i_t % wide - c_w
    total = tl.zeros([BP], tl.float32)
    count = rows[0] * columns[0]
    p_part = part + i_h.to(tl.int64) * count * taps
    for f in range(0, count, BP):
        o = f + tl.arange(0, BP)  # [BP]
        u_h, n_h = attention_tap(o // columns[0], d_h, rows, ROWS)
        u_w, n_w = attention_tap(o % columns[0], d_w, columns, COLUMNS)
        t_h, t_w = attention_taps(n_h, ROWS), attention_taps(n_w, COLUMNS)
        there = (o < count) & (u_h >= 0) & (u_h < t_h) & (u_w >= 0) & (u_w < t_w)
        total += tl.load(p_part + o.to(tl.int64) * taps + tap + u_h * t_w + u_w, there, 0.0)
    p_table = table + i_t * heads + i_h
    if FIRST:
        tl.store(p_table, tl.sum(total, 0))
    else:
        tl.store(p_table, tl.load(p_table) + tl.sum(total, 0))


@jit
def attention_tap(p, d, axis, LINE: tl.constexpr):
    """The tap at offset d of the queries at positions p of an axis, and the keys of their lines."""
    p = (p + axis[3]) % axis[0]
    m, keys = p // axis[2], (axis[1] - p % axis[2] + axis[2] - 1) // axis[2]
    return attention_origin(m, LINE) + d - attention_start(m, keys, LINE), keys


# ---- launches


def attention_part(block: int, slides: bool, places: int, room: int) -> int:
    """How many places of an axis a tile takes that has room for so many."""
    block = places if slides else min(block or places, places)
    return max(1, min(block, room) if slides else -(-block // -(-block // max(room, 1))))


def attention_tiles(rows: AxisLine, columns: AxisLine, height: int, width: int, keys: bool, lanes: int) -> tuple[int, int]:
    """The places of a tile of queries (or `keys`) of lines of `height` and `width` places: as much of a block as `lanes`
    hold, in equal parts; where each query has keys of its own, a square. Blocks of few places share a tile."""
    blocks = [line.moves if keys else line.block for line in (rows, columns)]
    both = rows.slides and columns.slides
    w = attention_part(blocks[1], columns.slides, width, 8 if both else lanes)
    h = attention_part(blocks[0], rows.slides, height, lanes // w)
    if h * w < 8 and blocks[1] == w:
        w *= max(1, min(8 // (h * w), -(-width // w)))
    if h * w < 8 and blocks[0] == h:
        h *= max(1, min(8 // (h * w), -(-height // h)))
    return h, w


def attention_count(block: int, size: int, step: int, tile: int) -> int:
    """The tiles of an axis of `size`."""
    most = -(-size // step)
    return step * (-(-most // block) * -(-block // tile) if block > tile else -(-most // tile))


class TiledAttention(FusedOp):
    """softmax of scores over the taps of a region, then the weighted sum of values, without the scores in memory.

    The tensors are q [B, .., positions, D], k, v [B, .., positions, E] with `riding` axes between B and the positions,
    then what the scores are computed with besides: `operands` are the axes of each of them, out of `axes` and "tap", or
    an OffsetTable. `scores` makes the scores of the products, `gradient` their gradient and that of each operand.
    `region(*numbers)` gives the pieces of the region: the lines along each position axis, and whether the query itself is
    left out. Backward, the scores are computed again from the logarithm of their sum.
    """

    cast = 3

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], scores: Any, gradient: Any, region: Callable[..., Any],
        axes: str, riding: int, operands: Sequence[str | OffsetTable] = (), learned: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path)
        self.scores, self.scores_gradient, self.region = scores, gradient, region
        self.axes, self.riding, self.operands, self.learned = axes.split(), riding, operands, learned

    # ---- what is given

    def pieces(self, numbers: Sequence[float]) -> list[tuple[AxisLine, AxisLine, bool]]:
        """(rows, columns, whether a query's own position is left out); one position axis is a row of many."""
        found = self.region(*(int(n) if n == int(n) else n for n in numbers))
        return [(*([AxisLine(1)] * (2 - len(lines)) + lines), own) for lines, own in found]

    def laid_out(self, x: Tensor) -> Tensor:
        """[B, heads, H, W, C] with the channels innermost in memory."""
        x = x.unsqueeze(1) if self.riding == 0 else x.flatten(1, self.riding)
        x = x.unsqueeze(2) if x.ndim == 4 else x
        return x if x.stride(-1) == 1 else x.contiguous()

    def room_for(self, x: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
        """Room in the shape of x, the riding axes between positions and channels in memory."""
        positions = x.shape[1 + self.riding : -1]
        made = x.new_empty((x.shape[0], *positions, *x.shape[1 : 1 + self.riding], channels), dtype=dtype)
        return made.permute(
            0, *range(1 + len(positions), 1 + len(positions) + self.riding), *range(1, 1 + len(positions)), -1
        )

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        q, k, v, *_ = tensors
        dtype = torch.promote_types(torch.promote_types(q.dtype, k.dtype), v.dtype)
        return [self.room_for(q, v.shape[-1], dtype), q.new_empty(q.shape[:-1], dtype=torch.float32)]

    def gradients(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        rooms = [self.room_for(t, t.shape[-1], t.dtype) for t in tensors[:3]]
        rooms += [torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors[3:]]
        return [room if want else room.new_empty(0) for room, want in zip(rooms, wanted, strict=True)]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        q, k, v = shapes[:3]
        sizes = [1, *k[1 + self.riding : -1]][-2:]
        taps = sum(prod(line.taps(n) for line, n in zip(lines, sizes, strict=True)) for *lines, _ in self.pieces(numbers))
        return 2 * prod(q[:-1]) * taps * (q[-1] + v[-1])

    # ---- launches

    def given(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """q, k and v in one element type, as kernels take them."""
        dtype = self.results(tensors, [])[0].dtype
        return [self.laid_out(t.to(dtype)) for t in tensors[:3]]

    def tables(self) -> tuple[bool, ...]:
        return tuple(isinstance(what, OffsetTable) for what in self.operands)

    def strides(self, tensors: Sequence[Tensor], heads: Sequence[int]) -> tuple[list[Tensor], list[tuple[int, ...]]]:
        """The operands of the scores, and their strides: of image, head, row, column and tap, or where offset 0 is."""
        found, strides = [], []
        for x, what in zip(tensors, self.operands, strict=True):
            x = x.view(torch.uint8) if x.dtype == torch.bool else x
            names = (what.lead if isinstance(what, OffsetTable) else what).split()
            tail = x.shape[len(names) :]
            leads = self.axes[: 1 + self.riding]
            x = x[tuple(slice(None) if n in names else None for n in leads)]
            x = x.expand(x.shape[0], *heads, *x.shape[1 + self.riding :])
            x = x.unsqueeze(1) if self.riding == 0 else x.flatten(1, self.riding)
            if isinstance(what, OffsetTable):
                steps = iter([0 if n == 1 else s for n, s in zip(tail, x.stride()[2:], strict=True)])
                centres = [self.centre(what, n) * s for n, s in zip(tail, x.stride()[2:], strict=True)]
                row, column = (next(steps) if there else 0 for there in (what.rows, what.columns))
                rest = (row, column, sum(centres))
            else:
                places = [*self.axes[1 + self.riding :], "tap"]
                x = x[(slice(None), slice(None), *(slice(None) if n in names else None for n in places))]
                x = x.unsqueeze(2) if x.ndim == 4 else x
                rest = tuple(0 if n == 1 else s for n, s in zip(x.shape[2:], x.stride()[2:], strict=True))
            found.append(x)
            strides.append((0 if x.shape[0] == 1 else x.stride(0), x.stride(1), *rest))
        return found, strides

    def centre(self, table: OffsetTable, size: int) -> int:
        return (size - 1) // 2 if table.centre is None else table.centre

    def axis(self, line: AxisLine, queries: int, keys: int) -> tuple[int, int, int, int]:
        """(queries, keys, step, roll) of an axis."""
        return queries, keys, line.steps(keys), line.roll % queries

    def launch(
        self, kernel: Any, piece: tuple[AxisLine, AxisLine, bool], q: Tensor, k: Tensor, v: Tensor, items: int,
        before: Sequence[Any], after: Sequence[Any], keys: bool = False, heavy: bool = False, **constants: Any,
    ) -> None:  # fmt: skip
        """A program for each tile of queries (or `keys`) of each of `items` images, with the arguments `before` and `after`
        those that all kernels have.

        The one place where tiles are chosen: 64 places (32 where heads are wide, or in float32) by as many others.
        """
        *lines, own = piece
        d, e = q.shape[-1], v.shape[-1]
        axes = [self.axis(line, q.shape[at], k.shape[at]) for at, line in enumerate(lines, 2)]
        sizes = [axis[1] if keys else axis[0] for axis in axes]
        blocks = [line.moves if keys else line.block for line in lines]
        lanes = 32 if max(d, e) > 128 or q.dtype == torch.float32 else 64
        rows, columns = (-(-size // axis[2]) for size, axis in zip(sizes, axes, strict=True))
        tile = attention_tiles(lines[0], lines[1], rows, columns, keys, lanes)
        counts = tuple(attention_count(b, n, axis[2], t) for b, n, axis, t in zip(blocks, sizes, axes, tile, strict=True))
        exact = tuple(
            not line.block or (t <= block and not (keys and line.halo))
            for line, block, t in zip(lines, blocks, tile, strict=True)
        )
        met = prod(line.meets(axis, t, keys) for line, axis, t in zip(lines, axes, tile, strict=True))
        mine = max(16, triton.next_power_of_2(prod(tile)))
        bd, be = max(16, triton.next_power_of_2(d)), max(16, triton.next_power_of_2(e))
        others = min(16 if max(bd, be) > 128 else 32, max(16, triton.next_power_of_2(met)))
        kernel[(items * q.shape[1] * prod(counts),)](
            *before, *axes, q.shape[1], counts, *after, SCORES=self.scores, TABLES=self.tables(), ROWS=lines[0],
            COLUMNS=lines[1], OWN=own, EXACT=exact, D=d, E=e, BD=bd, BE=be, TH=tile[0], TW=tile[1],
            BQ=others if keys else mine, BK=mine if keys else others,
            PRECISION="tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
            num_warps=4 if max(bd, be) <= 64 or (lanes == 32 and not heavy and max(bd, be) <= 256) else WARPS_OF_LARGE_TILES,
            num_stages=2 if max(bd, be) <= 64 else 1, **constants,
        )  # fmt: skip

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        q, k, v = self.given(tensors)
        y, lse = self.results(tensors, numbers)
        operands, strides = self.strides(tensors[3:], tensors[0].shape[1 : 1 + self.riding])
        pieces, tap = self.pieces(numbers), 0
        # Pieces go on from each other's sums, which stay in float32.
        sums = y if len(pieces) == 1 else self.room_for(tensors[0], v.shape[-1], torch.float32)
        for at, piece in enumerate(pieces):
            last = at == len(pieces) - 1
            made, so_far = self.laid_out(y if last else sums), self.laid_out(sums)
            given = (q, k, v, made, lse, so_far, tuple(operands), tuple(numbers))
            steps = (*(t.stride()[:-1] for t in (q, k, v, made)), tuple(strides))
            self.launch(
                attention_kernel, piece, q, k, v, q.shape[0], (*given, *steps), (tap,), FIRST=at == 0, LAST=last
            )
            tap += self.taps(piece, k)
        return [y, lse]

    def taps(self, piece: tuple[AxisLine, AxisLine, bool], k: Tensor) -> int:
        """The keys of a query in a piece."""
        return piece[0].taps(k.shape[2]) * piece[1].taps(k.shape[3])

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        q, k, v = self.given(tensors)
        lse, dy = kept[0], self.laid_out(grads[0])
        delta = torch.empty_like(lse)
        operands, strides = self.strides(tensors[3:], tensors[0].shape[1 : 1 + self.riding])
        pieces = self.pieces(numbers)
        several = len(pieces) > 1
        rooms = [
            self.room_for(t, t.shape[-1], torch.float32 if several else q.dtype) for t in tensors[:3]
        ]
        dq, dk, dv = map(self.laid_out, rooms)
        common = (tuple(operands), tuple(numbers))

        def steps(*laid: Tensor) -> tuple[Any, ...]:
            return (*(t.stride()[:-1] for t in laid), tuple(strides))

        taps = sum(self.taps(piece, k) for piece in pieces)
        learned = [at for at in self.learned if wanted[3 + at]]
        parts = {at: self.part(tensors[3 + at], at, lse, taps) for at in learned}
        how = {"GRADIENT": self.scores_gradient}
        # Several pieces: all of delta first.
        passes = [(True, False), (False, True)] if several else [(True, True)]
        firsts = [sum(self.taps(piece, k) for piece in pieces[:at]) for at in range(len(pieces))]
        before = (q, k, v, dy, lse, delta, dq, *common, *steps(q, k, v, dy, dq))
        for which in passes:
            for at, (piece, tap) in enumerate(zip(pieces, firsts, strict=True)):
                self.launch(
                    attention_dq_kernel, piece, q, k, v, q.shape[0], before, (tap,), PASSES=which, FIRST=at == 0, **how
                )
        for at, (piece, tap) in enumerate(zip(pieces, firsts, strict=True)):
            before = (q, k, v, dy, lse, delta, dk, dv, *common, *steps(q, k, v, dy, dk, dv))
            self.launch(attention_dkv_kernel, piece, q, k, v, q.shape[0], before, (tap,), True, True, FIRST=at == 0, **how)
            for which, part in parts.items():
                before = (q, k, v, dy, lse, delta, part, *common, *steps(q, k, v, dy))
                after, number = (tap, taps, q.shape[0], part.shape[0]), self.learned.index(which)
                self.launch(
                    attention_operand_kernel, piece, q, k, v, part.shape[0], before, after, heavy=True, WHICH=number, **how
                )
        found = [room.to(t.dtype) for room, t in zip(rooms, tensors, strict=False)]
        for at, tensor in enumerate(tensors[3:]):
            there = at in parts
            found.append(self.summed(parts[at], tensor, at, pieces, q, k) if there else tensor.new_empty(0))
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]

    # ---- the gradients of what the scores are computed with besides

    def part(self, tensor: Tensor, at: int, lse: Tensor, taps: int) -> Tensor:
        """Room for the gradient of an operand at each score, [splits, .., taps]: of each image where the operand has
        images, else of some together. Taps that are none stay 0."""
        what = self.operands[at]
        images = lse.shape[0]
        names = (what.lead if isinstance(what, OffsetTable) else what).split()
        splits = images if self.axes[0] in names and tensor.shape[0] > 1 else min(images, 8)
        return lse.new_zeros((splits, *lse.shape[1:], taps))

    def summed(
        self, part: Tensor, tensor: Tensor, at: int, pieces: Sequence[Any], q: Tensor, k: Tensor
    ) -> Tensor:
        """The gradient of an operand from that at each score: summed along the axes that it does not have."""
        what = self.operands[at]
        if not isinstance(what, OffsetTable):
            names = what.split()
            away = [place for place, n in enumerate([*self.axes, "tap"]) if n not in names]
            whole = part.sum(away) if away else part
            return whole.to(tensor.dtype).view(tensor.shape)
        lead = what.lead.split()
        sizes = tensor.shape[len(lead) :]
        steps = iter(sizes)
        high, wide = (next(steps) if there else 1 for there in (what.rows, what.columns))
        c_h, c_w = (self.centre(what, n) if there else 0 for n, there in ((high, what.rows), (wide, what.columns)))
        table = part.new_empty((high * wide, q.shape[1]))
        tap, part = 0, part.sum(0)
        for number, (rows, columns, _) in enumerate(pieces):
            axes = [self.axis(line, q.shape[n], k.shape[n]) for n, line in ((2, rows), (3, columns))]
            attention_table_kernel[(table.numel(),)](
                part, table, *axes, q.shape[1], tap, part.shape[-1], c_h, c_w, wide, ROWS=rows,
                COLUMNS=columns, FIRST=number == 0, BP=min(1024, max(16, triton.next_power_of_2(q.shape[2] * q.shape[3]))),
            )  # fmt: skip
            tap += self.taps((rows, columns, False), k)
        leads = self.axes[1 : 1 + self.riding]
        whole = table.t().reshape(*part.shape[: self.riding], *sizes)
        away = [place for place, n in enumerate(leads) if n not in lead]
        return (whole.sum(away) if away else whole).to(tensor.dtype).contiguous()
