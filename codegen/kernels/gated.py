from collections.abc import Sequence

import torch
from torch import Tensor

from .fused import jit, tl, triton
from .recurrence import Recurrence, gradient_base, path_position, sample_base, way_loops


@jit
def gated_rows(x, strides, o_p, o_x, m_p, m_x, AXIS: tl.constexpr, OTHER: tl.constexpr):
    """The values of a tensor at some positions, along the axis AXIS of (b, w, p, r, s, f): [BT, BX]"""
    return tl.load(x + o_p[:, None] * strides[2] + o_x[None, :] * strides[AXIS], m_p[:, None] & m_x[None, :], OTHER)


@jit
def gated_put(x, strides, o_p, o_x, m_p, m_x, b_x, AXIS: tl.constexpr):
    o_x = o_p[:, None] * strides[2] + o_x[None, :] * strides[AXIS]
    tl.store(x + o_x, b_x.to(x.dtype.element_ty), m_p[:, None] & m_x[None, :])


@jit
def gated_across(b_x, H: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr):
    """Rows come in pairs of H: of each row, the sum over the H rows that its own are paired with. [BT, BK]"""
    half = tl.arange(0, 2)[None, :, None]
    b_sum = tl.sum(tl.reshape(b_x, [BT // (2 * H), 2, H, BK]), 2)  # [pairs, 2, BK]
    b_first = tl.sum(tl.where(half == 0, b_sum, 0.0), 1)
    b_second = tl.sum(tl.where(half == 1, b_sum, 0.0), 1)
    b_other = tl.where(half == 0, b_second[:, None, :], b_first[:, None, :])
    return tl.reshape(tl.broadcast_to(b_other[:, :, None, :], [BT // (2 * H), 2, H, BK]), [BT, BK])


@jit
def gated_pairs(b_q, b_k, b_pre, b_suf, o_t, H: tl.constexpr, PRECISION: tl.constexpr):
    """The weights of steps in the first H rows of their block of 2 H for those in the second. [BT, BT]"""
    m_first = (o_t // H % 2 == 0)[:, None]
    b_q = tl.where(m_first, 0.0, b_q * b_pre)
    b_k = tl.where(m_first, b_k * b_suf, 0.0)
    b_a = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)
    return tl.where(o_t[:, None] // (2 * H) == o_t[None, :] // (2 * H), b_a, 0.0)


@jit
def gated_doubled(b_pre, b_suf, o_t, H: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr):
    """From the products of decays in blocks of H rows those in blocks of 2 H, and of each row that of the block beside it."""
    m_first = (o_t // H % 2 == 0)[:, None]
    b_whole = gated_across(tl.where((o_t % H == H - 1)[:, None], b_pre, 0.0), H, BT, BK)
    return tl.where(m_first, b_pre, b_pre * b_whole), tl.where(m_first, b_suf * b_whole, b_suf), b_whole


@jit
def gated_halved(
    b_q, b_k, b_pre, b_suf, b_whole, b_ga, b_gpre, b_gsuf, b_gall, o_t, H: tl.constexpr, PRECISION: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """The gradients of `gated_pairs` and of `gated_doubled`: what q and k get, and those of the products in blocks of H rows from
    those in blocks of 2 H (b_gall: of the product of all rows of a block)."""
    m_first = (o_t // H % 2 == 0)[:, None]
    m_pairs = (o_t // H % 2 == 1)[:, None] & (o_t[:, None] // H == o_t[None, :] // H + 1)
    b_ga = tl.where(m_pairs, b_ga, 0.0)
    b_gql = tl.dot(b_ga, b_k * b_suf, input_precision=PRECISION)  # 0 in the first rows
    b_gkl = tl.dot(tl.trans(b_ga), b_q * b_pre, input_precision=PRECISION)  # 0 in the second
    b_gwhole = gated_across(tl.where(m_first, b_gsuf * b_suf, b_gpre * b_pre), H, BT, BK)
    b_gpre = tl.where(m_first, b_gpre, b_gpre * b_whole + b_gql * b_q)
    b_gsuf = tl.where(m_first, b_gsuf * b_whole + b_gkl * b_k, b_gsuf)
    return b_gql * b_pre, b_gkl * b_suf, b_gpre, b_gsuf, b_gall * b_whole + b_gwhole


@jit
def gated_kernel(
    q, k, v, d, y, states, order, q_strides, k_strides, v_strides, d_strides, y_strides, ways, L, LINES, R, WAYS, K, V,
    WRITE: tl.constexpr, KEEP: tl.constexpr, BACK: tl.constexpr, ORDERED: tl.constexpr, PRECISION: tl.constexpr,
    LEVELS: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """S[t] = d[t] S[t - 1] + k[t] v[t]^T and y[t] = q[t] S[t] along one sequence, S: [BK, BV]

    BT steps at a time, with the weight of each step in each later one, A[t, j] = sum_k q[t] k[j] d[j + 1] .. d[t], as
    matrix products. In a block of 2 H rows whose middle lies between j and t, the decays fall apart into those of j to the
    middle and those from there to t; blocks of 2, 4 .. BT rows give all pairs. Products of decays are never divided and
    no logarithm is taken: they are as exact where they vanish as where they are near 1.
    WRITE stores y, KEEP the states before every BT steps. BACK goes from the last step to the first with
    S[t] = d[t + 1] S[t + 1] + k[t] v[t]^T, as gradients do.
    """
    i_n = tl.program_id(0).to(tl.int64)  # (b, way, line, r)
    i_r, i_q, i_w = i_n % R, i_n // R % LINES, i_n // (R * LINES) % WAYS
    sample = (i_n // (R * LINES * WAYS), i_w, i_r)
    o_k, o_v = tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    m_k, m_v = o_k < K, o_v < V
    q, k = sample_base(q, q_strides, sample), sample_base(k, k_strides, sample)
    v, d = sample_base(v, v_strides, sample), sample_base(d, d_strides, sample)
    y = sample_base(y, y_strides, sample)
    loops = way_loops(ways, i_w)
    line = order + (i_w * LINES + i_q) * L
    o_t = tl.arange(0, BT)
    b_s = tl.zeros([BK, BV], tl.float32)
    for n in range(tl.cdiv(L, BT)):
        i_t = tl.cdiv(L, BT) - 1 - n if BACK else n
        if KEEP:
            o_s = ((i_n * tl.cdiv(L, BT) + i_t) * K + o_k[:, None]) * V + o_v[None, :]
            tl.store(states + o_s, b_s.to(states.dtype.element_ty), m_k[:, None] & m_v[None, :])
        t = i_t * BT + (BT - 1 - o_t if BACK else o_t)
        o_p, _ = path_position(t, loops, line, L, ORDERED)
        b_k = gated_rows(k, k_strides, o_p, o_k, t < L, m_k, 4, 0.0).to(tl.float32)  # [BT, BK]
        b_v = gated_rows(v, v_strides, o_p, o_v, t < L, m_v, 5, 0.0).to(tl.float32)  # [BT, BV]
        if WRITE:
            b_q = gated_rows(q, q_strides, o_p, o_k, t < L, m_k, 4, 0.0).to(tl.float32)
            b_a = tl.where(o_t[:, None] == o_t[None, :], tl.sum(b_q * b_k, 1)[:, None], 0.0)  # [BT, BT]
        if BACK:
            o_d, _ = path_position(t + 1, loops, line, L, ORDERED)
            b_pre = gated_rows(d, d_strides, o_d, o_k, t + 1 < L, m_k, 4, 1.0).to(tl.float32)  # [BT, BK]
        else:
            b_pre = gated_rows(d, d_strides, o_p, o_k, t < L, m_k, 4, 1.0).to(tl.float32)
        b_suf = tl.full([BT, BK], 1.0, tl.float32)
        # b_pre: the decays from the start of a block of H rows to each row; b_suf: those behind it, to the block's end.
        for level in tl.static_range(LEVELS):
            if WRITE:
                b_a += gated_pairs(b_q, b_k, b_pre, b_suf, o_t, 1 << level, PRECISION)
            b_pre, b_suf, _ = gated_doubled(b_pre, b_suf, o_t, 1 << level, BT, BK)
        if WRITE:
            b_y = tl.dot(b_q * b_pre, b_s, input_precision=PRECISION)
            b_y = tl.dot(b_a, b_v, b_y, input_precision=PRECISION)
            gated_put(y, y_strides, o_p, o_v, t < L, m_v, b_y, 5)
        b_all = tl.sum(tl.where((o_t == BT - 1)[:, None], b_pre, 0.0), 0)  # [BK]
        b_s = tl.dot(tl.trans(b_k * b_suf), b_v, b_s * b_all[:, None], input_precision=PRECISION)


@jit
def gated_gradient_kernel(
    q, k, v, d, dy, states, later, order, q_strides, k_strides, v_strides, d_strides, y_strides,
    gq, gk, gd, gq_strides, gk_strides, gd_strides, ways, L, LINES, R, WAYS, K, V,
    ORDERED: tl.constexpr, PRECISION: tl.constexpr, LEVELS: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr,
    BV: tl.constexpr,
):  # fmt: skip
    """The gradients of q, k and d in BT steps, from dy, the states before them, and the gradients of those behind them.

    The gradients of the products of decays go the way back through the blocks: from those of 2 H rows to those of H, of
    which they are made. Sums over other programs are left: a tile of each for every v tile, and every line.
    """
    i_t, i_n, i_v = tl.program_id(0) % tl.cdiv(L, BT), tl.program_id(0).to(tl.int64) // tl.cdiv(L, BT), tl.program_id(1)
    i_r, i_q, i_w = i_n % R, i_n // R % LINES, i_n // (R * LINES) % WAYS  # (b, way, line, r)
    sample = (i_n // (R * LINES * WAYS), i_w, i_r)
    o_k, o_v = tl.arange(0, BK), i_v * BV + tl.arange(0, BV)
    m_k, m_v = o_k < K, o_v < V
    q, k = sample_base(q, q_strides, sample), sample_base(k, k_strides, sample)
    v, d = sample_base(v, v_strides, sample), sample_base(d, d_strides, sample)
    dy = sample_base(dy, y_strides, sample)
    gq, gk = gradient_base(gq, gq_strides, sample, i_q, i_v, 0), gradient_base(gk, gk_strides, sample, i_q, i_v, 0)
    gd = gradient_base(gd, gd_strides, sample, i_q, i_v, 0)
    loops = way_loops(ways, i_w)
    line = order + (i_w * LINES + i_q) * L
    o_t = tl.arange(0, BT)
    t = i_t * BT + o_t
    m_t = t < L
    o_p, _ = path_position(t, loops, line, L, ORDERED)
    o_s = ((i_n * tl.cdiv(L, BT) + i_t) * K + o_k[:, None]) * V + o_v[None, :]
    b_s = tl.load(states + o_s, m_k[:, None] & m_v[None, :], 0.0).to(tl.float32)  # [BK, BV]
    b_g = tl.load(later + o_s, m_k[:, None] & m_v[None, :], 0.0).to(tl.float32)
    o_d, _ = path_position(i_t * BT + BT, loops, line, L, ORDERED)
    b_next = tl.load(d + o_d * d_strides[2] + o_k * d_strides[4], m_k & (i_t * BT + BT < L), 0.0).to(tl.float32)
    b_g *= b_next[:, None]  # what the state behind the steps gets
    b_q = gated_rows(q, q_strides, o_p, o_k, m_t, m_k, 4, 0.0).to(tl.float32)  # [BT, BK]
    b_k = gated_rows(k, k_strides, o_p, o_k, m_t, m_k, 4, 0.0).to(tl.float32)
    b_v = gated_rows(v, v_strides, o_p, o_v, m_t, m_v, 5, 0.0).to(tl.float32)  # [BT, BV]
    b_dy = gated_rows(dy, y_strides, o_p, o_v, m_t, m_v, 5, 0.0).to(tl.float32)
    b_ga = tl.dot(b_dy, tl.trans(b_v), input_precision=PRECISION)  # [BT, BT]
    b_gpre = tl.dot(b_dy, tl.trans(b_s), input_precision=PRECISION)  # [BT, BK]
    b_gsuf = tl.dot(b_v, tl.trans(b_g), input_precision=PRECISION)
    b_gall = tl.broadcast_to(tl.sum(b_s * b_g, 1)[None, :], [BT, BK])
    b_pre = gated_rows(d, d_strides, o_p, o_k, m_t, m_k, 4, 1.0).to(tl.float32)
    b_suf = tl.full([BT, BK], 1.0, tl.float32)
    pres, sufs, wholes = (), (), ()
    for level in tl.static_range(LEVELS):
        pres += (b_pre,)
        sufs += (b_suf,)
        b_pre, b_suf, b_whole = gated_doubled(b_pre, b_suf, o_t, 1 << level, BT, BK)
        wholes += (b_whole,)
    b_diagonal = tl.sum(tl.where(o_t[:, None] == o_t[None, :], b_ga, 0.0), 1)[:, None]
    b_gq, b_gpre = b_gpre * b_pre + b_diagonal * b_k, b_gpre * b_q
    b_gk, b_gsuf = b_gsuf * b_suf + b_diagonal * b_q, b_gsuf * b_k
    for level in tl.static_range(LEVELS):
        b_pre, b_suf, b_whole = pres[LEVELS - 1 - level], sufs[LEVELS - 1 - level], wholes[LEVELS - 1 - level]
        b_gql, b_gkl, b_gpre, b_gsuf, b_gall = gated_halved(
            b_q, b_k, b_pre, b_suf, b_whole, b_ga, b_gpre, b_gsuf, b_gall, o_t, 1 << (LEVELS - 1 - level), PRECISION, BT, BK
        )  # fmt: skip
        b_gq += b_gql
        b_gk += b_gkl
    gated_put(gq, gq_strides, o_p, o_k, m_t, m_k, b_gq, 4)
    gated_put(gk, gk_strides, o_p, o_k, m_t, m_k, b_gk, 4)
    gated_put(gd, gd_strides, o_p, o_k, m_t, m_k, b_gpre + b_gall, 4)


class Gated(Recurrence):
    """Gated linear attention: S[t] = decay[t] S[t - 1] + k[t] v[t]^T, and o[t] = q[t] S[t]. Tensors: q, k, v, decay.

    s are the axes of q and k, over which the states are summed, f those of v; the decay is the same for all f. States
    exist in registers, and before every BT steps while gradients are computed: that of v is the same operation with q
    and k exchanged, backwards on the gradient of the result, whose states are the gradients of the states.
    """

    cast = 3

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        sizes = self.folded(self.sizes(shapes))
        return 2 * sizes["b"] * sizes["w"] * sizes["p"] * sizes["r"] * sizes["f"] * sizes["s"]

    def tile(self, sizes: dict[str, int]) -> dict[str, int]:
        """Steps and sizes of a program: few steps, since there are products of decays for each doubling of them."""
        bk = max(16, triton.next_power_of_2(sizes["s"]))
        bv = min(64 if bk <= 32 else 32, max(16, triton.next_power_of_2(sizes["f"])))
        return {"LEVELS": 4, "BT": 16, "BK": bk, "BV": bv}

    def warps(self, tile: dict[str, int], x: Tensor, least: int) -> int:
        """Twice as many for twice the k, or for products on vector units: else registers do not suffice."""
        exact = self.precision(x) == "ieee"
        return min(8, least * max(1, tile["BK"] // 32) * (2 if exact else 1))

    def precision(self, x: Tensor) -> str:
        """That of matrix products. Their sides are products themselves, and sums: bfloat16 would round them too coarsely,
        float16 has not the range, and the matrix units are not what such a kernel waits for."""
        return "tf32" if x.element_size() == 2 or torch.backends.cuda.matmul.allow_tf32 else "ieee"

    def walk(
        self, given: Sequence[tuple[Tensor, tuple[int, ...]]], out: tuple[Tensor, tuple[int, ...]], states: Tensor,
        sizes: dict[str, list[int]], **how: bool,
    ) -> None:  # fmt: skip
        """One launch of `gated_kernel` on q, k, v, d."""
        folded, (line, ways, count) = self.folded(sizes), self.paths(sizes, states.device)
        tile = self.tile(folded)
        grid = (folded["b"] * folded["w"] * count * folded["r"], triton.cdiv(folded["f"], tile["BV"]))
        gated_kernel[grid](
            *(x for x, _ in given), out[0], states, states if line is None else line, *(strides for _, strides in given),
            out[1], ways, folded["p"] // count, count, folded["r"], folded["w"], folded["s"], folded["f"], **how,
            ORDERED=line is not None, PRECISION=self.precision(given[0][0]), **tile,
            num_warps=self.warps(tile, given[0][0], 2), num_stages=1,
        )  # fmt: skip

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        (y,) = self.results(tensors, numbers)
        sizes = self.sizes([x.shape for x in tensors])
        given = [self.laid(x, letters, sizes) for x, letters in zip(tensors, self.axes, strict=True)]
        self.walk(given, self.laid(y, self.result, sizes), y, sizes, WRITE=True, KEEP=False, BACK=False)
        return [y]

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        sizes = self.sizes([x.shape for x in tensors])
        folded = self.folded(sizes)
        q, k, v, d = (self.laid(x, letters, sizes) for x, letters in zip(tensors, self.axes, strict=True))
        dy = self.laid(grads[0].contiguous(), self.result, sizes)
        line, ways, count = self.paths(sizes, dy[0].device)
        tile = self.tile(folded)
        n, steps = folded["b"] * folded["w"] * count * folded["r"], folded["p"] // count
        tiles, chunks = triton.cdiv(folded["f"], tile["BV"]), triton.cdiv(steps, tile["BT"])
        has = ["bwprs", "bwprs", "bwprf", "bwprs"]
        (gq, gk, gv, gd) = rooms = [
            self.stored(x, have, letters, folded, (count, tiles, 1))
            for x, have, letters in zip(tensors, has, self.axes, strict=True)
        ]
        kind = torch.bfloat16 if tensors[0].dtype == torch.bfloat16 else torch.float32
        states, later = (dy[0].new_empty((n, chunks, folded["s"], folded["f"]), dtype=kind) for _ in range(2))
        self.walk([q, k, v, d], dy, states, sizes, WRITE=False, KEEP=True, BACK=False)
        self.walk([k, q, dy, d], gv, later, sizes, WRITE=True, KEEP=True, BACK=True)
        gated_gradient_kernel[(n * chunks, tiles)](
            *(x for x, _ in (q, k, v, d, dy)), states, later, states if line is None else line,
            *(strides for _, strides in (q, k, v, d, dy)), *(x for x, _ in (gq, gk, gd)),
            *(strides for _, strides in (gq, gk, gd)), ways, steps, count, folded["r"], folded["w"], folded["s"],
            folded["f"], ORDERED=line is not None, PRECISION=self.precision(tensors[0]), **tile,
            num_warps=self.warps(tile, tensors[0], 4), num_stages=1,
        )  # fmt: skip
        found = [
            self.gathered(x, have, given, letters, sizes)
            for (x, _), have, given, letters in zip(rooms, has, tensors, self.axes, strict=True)
        ]
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]
