from collections.abc import Sequence
from typing import Any

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
    KEEP: tl.constexpr, ORDERED: tl.constexpr, PRECISION: tl.constexpr, LEVELS: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """S[t] = d[t] S[t - 1] + k[t] v[t]^T and y[t] = q[t] S[t] along one sequence, S: [BK, BV]

    BT steps at a time, with the weight of each step in each later one, A[t, j] = sum_k q[t] k[j] d[j + 1] .. d[t], as
    matrix products. In a block of 2 H rows whose middle lies between j and t, the decays fall apart into those of j to the
    middle and those from there to t; blocks of 2, 4 .. BT rows give all pairs. Products of decays are never divided and
    no logarithm is taken: they are as exact where they vanish as where they are near 1.
    KEEP stores the states before every BT steps instead.
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
    for i_t in range(tl.cdiv(L, BT)):
        if KEEP:
            o_s = ((i_n * tl.cdiv(L, BT) + i_t) * K + o_k[:, None]) * V + o_v[None, :]
            tl.store(states + o_s, b_s, m_k[:, None] & m_v[None, :])
        m_t = i_t * BT + o_t < L
        o_p, _ = path_position(i_t * BT + o_t, loops, line, L, ORDERED)
        b_k = gated_rows(k, k_strides, o_p, o_k, m_t, m_k, 4, 0.0).to(tl.float32)  # [BT, BK]
        b_v = gated_rows(v, v_strides, o_p, o_v, m_t, m_v, 5, 0.0).to(tl.float32)  # [BT, BV]
        b_pre = gated_rows(d, d_strides, o_p, o_k, m_t, m_k, 4, 1.0).to(tl.float32)  # [BT, BK]
        b_suf = tl.full([BT, BK], 1.0, tl.float32)
        if not KEEP:
            b_q = gated_rows(q, q_strides, o_p, o_k, m_t, m_k, 4, 0.0).to(tl.float32)
            b_a = tl.where(o_t[:, None] == o_t[None, :], tl.sum(b_q * b_k, 1)[:, None], 0.0)  # [BT, BT]
        # b_pre: the decays from the start of a block of H rows to each row; b_suf: those behind it, to the block's end.
        for n in tl.static_range(LEVELS):
            if not KEEP:
                b_a += gated_pairs(b_q, b_k, b_pre, b_suf, o_t, 1 << n, PRECISION)
            b_pre, b_suf, _ = gated_doubled(b_pre, b_suf, o_t, 1 << n, BT, BK)
        if not KEEP:
            b_y = tl.dot(b_q * b_pre, b_s, input_precision=PRECISION)
            b_y = tl.dot(b_a, b_v, b_y, input_precision=PRECISION)
            gated_put(y, y_strides, o_p, o_v, m_t, m_v, b_y, 5)
        b_all = tl.sum(tl.where((o_t == BT - 1)[:, None], b_pre, 0.0), 0)  # [BK]
        b_ks = tl.trans(b_k * b_suf)
        b_s = tl.dot(b_ks, b_v, b_s * b_all[:, None], input_precision=PRECISION)


@jit
def gated_gradient_kernel(
    q, k, v, d, dy, states, order, q_strides, k_strides, v_strides, d_strides, y_strides,
    gq, gk, gv, gd, gq_strides, gk_strides, gv_strides, gd_strides, ways, L, LINES, R, WAYS, K, V,
    ORDERED: tl.constexpr, PRECISION: tl.constexpr, LEVELS: tl.constexpr, BT: tl.constexpr,
    BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """The gradients of q, k, v and d, from dy and the states before every BT steps; last steps first.

    The gradients of the products of decays go the way back through the blocks: from those of 2 H rows to those of H, of
    which they are made. Sums over other programs are left: a tile of each for every v tile, and every line.
    """
    i_n, i_v = tl.program_id(0).to(tl.int64), tl.program_id(1)  # (b, way, line, r)
    i_r, i_q, i_w = i_n % R, i_n // R % LINES, i_n // (R * LINES) % WAYS
    sample = (i_n // (R * LINES * WAYS), i_w, i_r)
    o_k, o_v = tl.arange(0, BK), i_v * BV + tl.arange(0, BV)
    m_k, m_v = o_k < K, o_v < V
    q, k = sample_base(q, q_strides, sample), sample_base(k, k_strides, sample)
    v, d = sample_base(v, v_strides, sample), sample_base(d, d_strides, sample)
    dy = sample_base(dy, y_strides, sample)
    gq, gk = gradient_base(gq, gq_strides, sample, i_q, i_v, 0), gradient_base(gk, gk_strides, sample, i_q, i_v, 0)
    gv, gd = gradient_base(gv, gv_strides, sample, i_q, i_v, 0), gradient_base(gd, gd_strides, sample, i_q, i_v, 0)
    loops = way_loops(ways, i_w)
    line = order + (i_w * LINES + i_q) * L
    o_t = tl.arange(0, BT)
    m_diagonal = o_t[:, None] == o_t[None, :]
    b_g = tl.zeros([BK, BV], tl.float32)  # the gradient of the state behind the steps
    for n in range(tl.cdiv(L, BT)):
        i_t = tl.cdiv(L, BT) - 1 - n
        m_t = i_t * BT + o_t < L
        o_p, _ = path_position(i_t * BT + o_t, loops, line, L, ORDERED)
        o_s = ((i_n * tl.cdiv(L, BT) + i_t) * K + o_k[:, None]) * V + o_v[None, :]
        b_s = tl.load(states + o_s, m_k[:, None] & m_v[None, :], 0.0)  # [BK, BV]
        b_q = gated_rows(q, q_strides, o_p, o_k, m_t, m_k, 4, 0.0).to(tl.float32)  # [BT, BK]
        b_k = gated_rows(k, k_strides, o_p, o_k, m_t, m_k, 4, 0.0).to(tl.float32)
        b_v = gated_rows(v, v_strides, o_p, o_v, m_t, m_v, 5, 0.0).to(tl.float32)  # [BT, BV]
        b_dy = gated_rows(dy, y_strides, o_p, o_v, m_t, m_v, 5, 0.0).to(tl.float32)
        b_d = gated_rows(d, d_strides, o_p, o_k, m_t, m_k, 4, 1.0).to(tl.float32)
        b_pre, b_suf = b_d, tl.full([BT, BK], 1.0, tl.float32)
        b_a = tl.where(m_diagonal, tl.sum(b_q * b_k, 1)[:, None], 0.0)  # [BT, BT]
        for level in tl.static_range(LEVELS):
            b_a += gated_pairs(b_q, b_k, b_pre, b_suf, o_t, 1 << level, PRECISION)
            b_pre, b_suf, _ = gated_doubled(b_pre, b_suf, o_t, 1 << level, BT, BK)
        b_gv = tl.dot(b_k * b_suf, b_g, input_precision=PRECISION)
        b_gv = tl.dot(tl.trans(b_a), b_dy, b_gv, input_precision=PRECISION)
        gated_put(gv, gv_strides, o_p, o_v, m_t, m_v, b_gv, 5)
        # What the state before reads and the one behind gets: the products over all BT rows.
        b_gpre = tl.dot(b_dy, tl.trans(b_s), input_precision=PRECISION)  # [BT, BK]
        b_gsuf = tl.dot(b_v, tl.trans(b_g), input_precision=PRECISION)
        b_gq, b_gpre = b_gpre * b_pre, b_gpre * b_q
        b_gk, b_gsuf = b_gsuf * b_suf, b_gsuf * b_k
        b_gall = tl.broadcast_to(tl.sum(b_s * b_g, 1)[None, :], [BT, BK])
        b_all = tl.sum(tl.where((o_t == BT - 1)[:, None], b_pre, 0.0), 0)  # [BK]
        b_qs = tl.trans(b_q * b_pre)
        b_g = tl.dot(b_qs, b_dy, b_g * b_all[:, None], input_precision=PRECISION)
        b_ga = tl.dot(b_dy, tl.trans(b_v), input_precision=PRECISION)  # [BT, BT]
        b_diagonal = tl.sum(tl.where(m_diagonal, b_ga, 0.0), 1)[:, None]
        b_gq += b_diagonal * b_k
        b_gk += b_diagonal * b_q
        for level in tl.static_range(LEVELS):
            b_pre, b_suf = b_d, tl.full([BT, BK], 1.0, tl.float32)
            for finer in tl.static_range(LEVELS - 1 - level):
                b_pre, b_suf, _ = gated_doubled(b_pre, b_suf, o_t, 1 << finer, BT, BK)
            _, _, b_whole = gated_doubled(b_pre, b_suf, o_t, 1 << (LEVELS - 1 - level), BT, BK)
            b_gql, b_gkl, b_gpre, b_gsuf, b_gall = gated_halved(
                b_q, b_k, b_pre, b_suf, b_whole, b_ga, b_gpre, b_gsuf, b_gall, o_t, 1 << (LEVELS - 1 - level), PRECISION,
                BT, BK,
            )  # fmt: skip
            b_gq += b_gql
            b_gk += b_gkl
        gated_put(gq, gq_strides, o_p, o_k, m_t, m_k, b_gq, 4)
        gated_put(gk, gk_strides, o_p, o_k, m_t, m_k, b_gk, 4)
        gated_put(gd, gd_strides, o_p, o_k, m_t, m_k, b_gpre + b_gall, 4)


class Gated(Recurrence):
    """Gated linear attention: S[t] = decay[t] S[t - 1] + k[t] v[t]^T, and o[t] = q[t] S[t]. Tensors: q, k, v, decay.

    s are the axes of q and k, over which the states are summed, f those of v; the decay is the same for all f. States
    exist in registers, and before every BT steps while gradients are computed.
    """

    cast = 3

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float], **_: Any) -> int:
        sizes = self.folded(self.sizes(shapes))
        return 4 * sizes["b"] * sizes["w"] * sizes["p"] * sizes["r"] * sizes["f"] * sizes["s"]

    def tile(self, sizes: dict[str, int]) -> tuple[int, int, int, int]:
        """BT, BK, BV and warps."""
        bk = max(16, triton.next_power_of_2(sizes["s"]))
        return 32 if bk <= 64 else 16, bk, min(64, max(16, triton.next_power_of_2(sizes["f"]))), 4

    def run(self, tensors: Sequence[Tensor], y: Tensor, states: Tensor, keep: bool) -> None:
        """The forward pass: y, or with `keep` the states before every BT steps."""
        sizes = self.sizes([x.shape for x in tensors])
        folded = self.folded(sizes)
        laid = [self.laid(x, letters, sizes) for x, letters in zip(tensors, self.axes, strict=True)]
        line, ways, count = self.paths(sizes, y.device)
        bt, bk, bv, warps = self.tile(folded)
        gated_kernel[(folded["b"] * folded["w"] * count * folded["r"], triton.cdiv(folded["f"], bv))](
            *(x for x, _ in laid), y, states, y if line is None else line, *(strides for _, strides in laid),
            self.laid(y, self.result, sizes)[1], ways, folded["p"] // count, count, folded["r"], folded["w"], folded["s"],
            folded["f"], KEEP=keep, ORDERED=line is not None, PRECISION=self.precision(tensors[0]), LEVELS=bt.bit_length() - 1,
            BT=bt, BK=bk, BV=bv, num_warps=warps, num_stages=1,
        )  # fmt: skip

    def precision(self, x: Tensor) -> str:
        """That of matrix products. Their sides are products themselves, and sums: bfloat16 would round them too coarsely,
        float16 has not the range, and the matrix units are not what such a kernel waits for."""
        return "tf32" if x.element_size() == 2 or torch.backends.cuda.matmul.allow_tf32 else "ieee"

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        (y,) = self.results(tensors, numbers)
        self.run(tensors, y, y, False)
        return [y]

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        dy = grads[0].contiguous()
        sizes = self.sizes([x.shape for x in tensors])
        folded = self.folded(sizes)
        laid = [self.laid(x, letters, sizes) for x, letters in zip(tensors, self.axes, strict=True)]
        line, ways, count = self.paths(sizes, dy.device)
        bt, bk, bv, warps = self.tile(folded)
        n, tiles, steps = folded["b"] * folded["w"] * count * folded["r"], triton.cdiv(folded["f"], bv), folded["p"] // count
        states = dy.new_empty((n, triton.cdiv(steps, bt), folded["s"], folded["f"]), dtype=torch.float32)
        self.run(tensors, dy, states, True)
        has = ["bwprs", "bwprs", "bwprf", "bwprs"]
        rooms = [
            self.stored(x, have, letters, folded, (count, tiles, 1))
            for x, have, letters in zip(tensors, has, self.axes, strict=True)
        ]
        gated_gradient_kernel[(n, tiles)](
            *(x for x, _ in laid), dy, states, dy if line is None else line, *(strides for _, strides in laid),
            self.laid(dy, self.result, sizes)[1], *(x for x, _ in rooms), *(strides for _, strides in rooms), ways, steps,
            count, folded["r"], folded["w"], folded["s"], folded["f"], ORDERED=line is not None,
            PRECISION=self.precision(tensors[0]), LEVELS=bt.bit_length() - 1, BT=bt, BK=bk, BV=bv, num_warps=warps, num_stages=1,
        )  # fmt: skip
        found = [
            self.gathered(x, have, given, letters, sizes)
            for (x, _), have, given, letters in zip(rooms, has, tensors, self.axes, strict=True)
        ]
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]
