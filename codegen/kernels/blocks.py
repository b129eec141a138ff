from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from .fused import FusedOp, jit, tl, triton


@jit
def members(axis, group, o):
    """Where members `o` of a block lie along an axis: the position, on which side of the seam, and whether it is there.

    axis: (size of the map, members, pitch of blocks, pitch of members, shift). The map is a ring that begins at `shift`.
    """
    j = group * axis[2] + o * axis[3]
    i = j - axis[4]
    return tl.where(i < 0, i + axis[0], i), i < 0, (o < axis[1]) & (j < axis[0])


@jit
def block_places(rows, columns, blocks_w, i_g, BN: tl.constexpr):
    """The members of block i_g: rows, columns, sides of the two seams as one number, which are there: [BN] each."""
    o = tl.arange(0, BN)
    o_h, far_h, m_h = members(rows, i_g // blocks_w, o // columns[1])
    o_w, far_w, m_w = members(columns, i_g % blocks_w, o % columns[1])
    return o_h.to(tl.int64), o_w, 2 * far_h.to(tl.int32) + far_w.to(tl.int32), m_h & m_w


@jit
def block_scores(b_q, b_k, bias, s_bias, scale, i_h, side, m, n, HAS_BIAS: tl.constexpr, SEAM: tl.constexpr,
                 PRECISION: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    """[BN, BN] scores of all members with all members, -inf for keys that are not there or beyond a seam."""
    b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION) * scale
    if HAS_BIAS:
        o = tl.arange(0, BN)
        m_b = (o < n)[:, None] & (o < n)[None, :]
        b_s += tl.load(bias + i_h * s_bias + o[:, None] * n + o[None, :], m_b, 0.0).to(tl.float32)
    seen = m[None, :]
    if SEAM:
        # Lanes that are not there see every key, so that no row is empty.
        seen = seen & ((side[:, None] == side[None, :]) | ~m[:, None])
    return tl.where(seen, b_s, float("-inf"))


@jit
def block_attention_kernel(
    q, k, v, y, lse, bias, scale, s_q, s_k, s_v, s_y, s_bias, rows, columns, blocks, heads, D, E,
    HAS_BIAS: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    BE: tl.constexpr,
):  # fmt: skip
    """y = softmax(scale q k^T + bias) v within one block, for one head; a program for each of both.

    Strides are those of batch, head, row and column; channels lie side by side. lse: [batch, heads, blocks, members].
    """
    i_z, i_h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i_b, i_g = i_z // (blocks[0] * blocks[1]), (i_z % (blocks[0] * blocks[1])).to(tl.int32)
    o_r, o_c, side, m = block_places(rows, columns, blocks[1], i_g, BN)
    n = rows[1] * columns[1]
    o_d, o_e = tl.arange(0, BD), tl.arange(0, BE)
    m_d, m_e = m[:, None] & (o_d < D)[None, :], m[:, None] & (o_e < E)[None, :]
    p_q = q + i_b * s_q[0] + i_h * s_q[1] + (o_r * s_q[2] + o_c * s_q[3])[:, None] + o_d[None, :]
    p_k = k + i_b * s_k[0] + i_h * s_k[1] + (o_r * s_k[2] + o_c * s_k[3])[:, None] + o_d[None, :]
    p_v = v + i_b * s_v[0] + i_h * s_v[1] + (o_r * s_v[2] + o_c * s_v[3])[:, None] + o_e[None, :]
    p_y = y + i_b * s_y[0] + i_h * s_y[1] + (o_r * s_y[2] + o_c * s_y[3])[:, None] + o_e[None, :]
    b_q, b_k, b_v = tl.load(p_q, m_d, 0.0), tl.load(p_k, m_d, 0.0), tl.load(p_v, m_e, 0.0)
    b_s = block_scores(b_q, b_k, bias, s_bias, scale, i_h, side, m, n, HAS_BIAS, SEAM, PRECISION, BN)
    top = tl.max(b_s, 1)
    b_p = tl.exp(b_s - top[:, None])  # [BN, BN]
    total = tl.sum(b_p, 1)
    b_y = tl.dot(b_p.to(b_v.dtype), b_v, input_precision=PRECISION) / total[:, None]
    tl.store(p_y, b_y.to(y.dtype.element_ty), m_e)
    o = tl.arange(0, BN)
    p_l = lse + ((i_b * heads + i_h) * blocks[0] * blocks[1] + i_g) * n + o
    tl.store(p_l, top + tl.log(total), o < n)


@jit
def block_attention_gradient_kernel(
    q, k, v, dy, lse, bias, dq, dk, dv, part, scale, s_q, s_k, s_v, s_y, s_dq, s_dk, s_dv, s_bias, rows, columns, blocks,
    heads, count, D, E,
    HAS_BIAS: tl.constexpr, SEAM: tl.constexpr, PRECISION: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    BE: tl.constexpr,
):  # fmt: skip
    """The gradients of q, k and v of every block of a split, and the split's sum of those of the bias: part[z, h, n, n].

    A program goes over the blocks z, z + splits, ... of `count` for one head: the order of the sum is always the same.
    """
    i_p, i_h = tl.program_id(0), tl.program_id(1)
    n = rows[1] * columns[1]
    o = tl.arange(0, BN)
    o_d, o_e = tl.arange(0, BD), tl.arange(0, BE)
    acc = tl.zeros([BN, BN] if HAS_BIAS else [1, 1], tl.float32)
    for i in range(tl.cdiv(count - i_p, tl.num_programs(0))):
        i_z = i_p.to(tl.int64) + i * tl.num_programs(0)
        i_b, i_g = i_z // (blocks[0] * blocks[1]), (i_z % (blocks[0] * blocks[1])).to(tl.int32)
        o_r, o_c, side, m = block_places(rows, columns, blocks[1], i_g, BN)
        m_d, m_e = m[:, None] & (o_d < D)[None, :], m[:, None] & (o_e < E)[None, :]
        p_q = q + i_b * s_q[0] + i_h * s_q[1] + (o_r * s_q[2] + o_c * s_q[3])[:, None] + o_d[None, :]
        p_k = k + i_b * s_k[0] + i_h * s_k[1] + (o_r * s_k[2] + o_c * s_k[3])[:, None] + o_d[None, :]
        p_v = v + i_b * s_v[0] + i_h * s_v[1] + (o_r * s_v[2] + o_c * s_v[3])[:, None] + o_e[None, :]
        p_y = dy + i_b * s_y[0] + i_h * s_y[1] + (o_r * s_y[2] + o_c * s_y[3])[:, None] + o_e[None, :]
        b_q, b_k = tl.load(p_q, m_d, 0.0), tl.load(p_k, m_d, 0.0)
        b_v, b_dy = tl.load(p_v, m_e, 0.0), tl.load(p_y, m_e, 0.0)
        b_l = tl.load(lse + ((i_b * heads + i_h) * blocks[0] * blocks[1] + i_g) * n + o, o < n, 0.0)
        b_s = block_scores(b_q, b_k, bias, s_bias, scale, i_h, side, m, n, HAS_BIAS, SEAM, PRECISION, BN)
        b_p = tl.where(m[:, None], tl.exp(b_s - b_l[:, None]), 0.0)  # [BN, BN]
        b_dp = tl.dot(b_dy, tl.trans(b_v), input_precision=PRECISION)
        b_ds = b_p * (b_dp - tl.sum(b_p * b_dp, 1)[:, None])
        if HAS_BIAS:
            acc += b_ds
        b_dv = tl.dot(tl.trans(b_p).to(b_dy.dtype), b_dy, input_precision=PRECISION)
        b_ds = b_ds.to(b_k.dtype)
        b_dq = tl.dot(b_ds, b_k, input_precision=PRECISION) * scale
        b_dk = tl.dot(tl.trans(b_ds), b_q, input_precision=PRECISION) * scale
        o_q = i_b * s_dq[0] + i_h * s_dq[1] + (o_r * s_dq[2] + o_c * s_dq[3])[:, None] + o_d[None, :]
        o_k = i_b * s_dk[0] + i_h * s_dk[1] + (o_r * s_dk[2] + o_c * s_dk[3])[:, None] + o_d[None, :]
        o_v = i_b * s_dv[0] + i_h * s_dv[1] + (o_r * s_dv[2] + o_c * s_dv[3])[:, None] + o_e[None, :]
        tl.store(dq + o_q, b_dq.to(dq.dtype.element_ty), m_d)
        tl.store(dk + o_k, b_dk.to(dk.dtype.element_ty), m_d)
        tl.store(dv + o_v, b_dv.to(dv.dtype.element_ty), m_e)
    if HAS_BIAS:
        p_part = part + ((i_p * heads + i_h) * n + o[:, None]) * n + o[None, :]
        tl.store(p_part, acc, (o < n)[:, None] & (o < n)[None, :])


class BlockAttention(FusedOp):
    """Softmax attention within blocks of positions that are each other's keys: windows, grids, rows, columns.

    The tensors are q, k [B, heads, positions, D], v [B, heads, positions, E] with one or two axes of positions (`heads` as
    many axes as there are, none or one), then the bias [heads, n, n] between the n members of a block if there is one.
    `kinds` says of each axis of positions how it is taken apart: "window" into blocks side by side, "grid" into
    blocks that are spread out, "whole" not at all, "alone" into single positions. The numbers are the sizes of windows and
    grids, then where a ring begins if there is one (`shifted`; nobody sees over its `seam`), then the factors of
    the scores, which `scales` multiplies or divides.
    """

    cast = 3
    most = 128  # members of a block

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], kinds: tuple[str, ...], scales: str = "", shifted: bool = False,
        seam: bool = False, heads: bool = True, bias: bool = False, shared_bias: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path)
        self.kinds, self.scales, self.shifted, self.seam = kinds, scales, shifted, seam
        self.heads, self.bias, self.shared_bias = heads, bias, shared_bias

    def geometry(self, q: Sequence[int], numbers: Sequence[float]) -> tuple[list[tuple[int, ...]], list[int], float]:
        """What kernels are told of rows and columns, how many blocks lie along them, and the scale of the scores."""
        given = iter(numbers)
        sizes = list(q[1 + self.heads : -1])
        counts = [int(next(given)) if kind in ("window", "grid") else 1 for kind in self.kinds]
        shifts = [int(next(given)) for _ in self.kinds] if self.shifted else [0] * len(sizes)
        axes, blocks = [], []
        for kind, size, count, shift in zip(self.kinds, sizes, counts, shifts, strict=True):
            if kind == "whole":
                count = size
            pitch, step = (1, size // count) if kind == "grid" else (count, 1)
            axes.append((size, count, pitch, step, shift % size))
            blocks.append(size // count if kind == "grid" else -(-size // count))
        scale = 1.0
        for sign in self.scales:
            scale = scale * next(given) if sign == "*" else scale / next(given)
        if len(axes) == 1:
            axes, blocks = [(1, 1, 1, 1, 0), *axes], [1, *blocks]
        return axes, blocks, scale

    def suits(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> bool:
        """A block must fit into one tile; larger ones, and those of a single member, are left to the library."""
        axes, _, _ = self.geometry(tensors[0].shape, numbers)
        return 1 < axes[0][1] * axes[1][1] <= self.most and max(tensors[0].shape[-1], tensors[2].shape[-1]) <= 256

    def whole(self, tensor: Tensor) -> Tensor:
        """[B, heads, rows, columns, channels], with channels side by side in memory."""
        if tensor.stride(-1) != 1:
            tensor = tensor.contiguous()
        tensor = tensor if self.heads else tensor.unsqueeze(1)
        return tensor if len(self.kinds) == 2 else tensor.unsqueeze(2)

    def room(self, tensor: Tensor) -> Tensor:
        """As a map lies in memory: positions behind the batch, then heads and channels."""
        if tensor.ndim != 2 + self.heads + len(self.kinds) or not self.heads:
            return torch.empty_like(tensor, memory_format=torch.contiguous_format)
        order = [0, *range(2, tensor.ndim - 1), 1, tensor.ndim - 1]
        made = tensor.new_empty([tensor.shape[at] for at in order])
        return made.permute([order.index(at) for at in range(tensor.ndim)])

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        q, _, v, *_ = tensors
        axes, blocks, _ = self.geometry(q.shape, numbers)
        heads = q.shape[1] if self.heads else 1
        lse = (q.shape[0], heads, prod(blocks), axes[0][1] * axes[1][1])
        return [self.room(v), q.new_empty(lse, dtype=torch.float32)]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        q, _, v, *_ = shapes
        axes, _, _ = self.geometry(q, numbers)
        return 2 * prod(q[:-1]) * axes[0][1] * axes[1][1] * (q[-1] + v[-1])

    def options(self, q: Tensor, v: Tensor, n: int) -> dict[str, Any]:
        bn = max(16, triton.next_power_of_2(n))
        bd, be = (max(16, triton.next_power_of_2(t.shape[-1])) for t in (q, v))
        wide = bn * max(bn, bd, be) >= 64 * 128 or q.element_size() == 4
        return {
            "HAS_BIAS": self.bias, "SEAM": self.seam,
            "PRECISION": "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
            "BN": bn, "BD": bd, "BE": be, "num_warps": 8 if wide else 4,
        }  # fmt: skip

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        q, k, v = (self.whole(t) for t in tensors[:3])
        (rows, columns), blocks, scale = self.geometry(tensors[0].shape, numbers)
        y, lse = self.results(tensors, numbers)
        bias = tensors[3].contiguous() if self.bias else q
        place = self.whole(y)
        heads, n = q.shape[1], rows[1] * columns[1]
        block_attention_kernel[(q.shape[0] * prod(blocks), heads)](
            q, k, v, y, lse, bias, scale, q.stride()[:4], k.stride()[:4], v.stride()[:4], place.stride()[:4],
            0 if self.shared_bias else n * n, rows, columns, tuple(blocks), heads, q.shape[-1], v.shape[-1],
            **self.options(q, v, n),
        )  # fmt: skip
        return [y, lse]

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        q, k, v, dy = (self.whole(t) for t in (*tensors[:3], grads[0]))
        (rows, columns), blocks, scale = self.geometry(tensors[0].shape, numbers)
        rooms = [self.room(t) for t in tensors[:3]]
        dq, dk, dv = (self.whole(room) for room in rooms)
        bias = tensors[3].contiguous() if self.bias else q
        heads, n, count = q.shape[1], rows[1] * columns[1], q.shape[0] * prod(blocks)
        # With a bias, few programs sum its gradient over many blocks; without one, each block has its own.
        splits = min(count, max(1, 1024 // heads)) if self.bias else count
        part = q.new_empty((splits, heads, n, n) if self.bias else (1,), dtype=torch.float32)
        block_attention_gradient_kernel[(splits, heads)](
            q, k, v, dy, kept[0], bias, dq, dk, dv, part, scale, q.stride()[:4], k.stride()[:4], v.stride()[:4],
            dy.stride()[:4], dq.stride()[:4], dk.stride()[:4], dv.stride()[:4], 0 if self.shared_bias else n * n,
            rows, columns, tuple(blocks), heads, count, q.shape[-1], v.shape[-1], **self.options(q, v, n),
        )  # fmt: skip
        if self.bias:
            sums = part.sum((0, 1) if self.shared_bias else 0)
            rooms.append(sums.view(tensors[3].shape).to(tensors[3].dtype))
        return [grad if want else grad.new_empty(0) for grad, want in zip(rooms, wanted, strict=True)]
