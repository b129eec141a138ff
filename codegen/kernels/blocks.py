from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .fused import WARPS_OF_LARGE_TILES, FusedOp, jit, tl, triton


@jit
def members(axis, group, o):
    """Where members `o` of a block lie along an axis: the position, on which side of the seam, and whether it is there.

    axis: (size of the map, pitch of blocks, pitch of members, shift). The map is a ring that begins at `shift`.
    """
    j = group * axis[1] + o * axis[2]
    i = j - axis[3]
    return tl.where(i < 0, i + axis[0], i), i < 0, j < axis[0]


@jit
def block_places(rows, columns, blocks_w, i_g, NH: tl.constexpr, NW: tl.constexpr, RAGGED: tl.constexpr, BN: tl.constexpr):
    """The members of block i_g: rows, columns, sides of the two seams as one number, which are there: [BN] each."""
    o = tl.arange(0, BN)
    o_h, far_h, m_h = members(rows, i_g // blocks_w, o // NW)
    o_w, far_w, m_w = members(columns, i_g % blocks_w, o % NW)
    there = o < NH * NW
    if RAGGED:  # the last blocks hang over the edge of the map
        there = there & m_h & m_w
    return o_h.to(tl.int64), o_w, 2 * far_h.to(tl.int32) + far_w.to(tl.int32), there


@jit
def block_bias(bias, s_bias, i_h, scale, N: tl.constexpr, HAS_BIAS: tl.constexpr, BN: tl.constexpr):
    """What scores start from, [BN, BN]: the bias of a head, which their scale will multiply."""
    o = tl.arange(0, BN)
    b_b = tl.zeros([BN, BN], tl.float32)
    if HAS_BIAS:
        m_b = (o < N)[:, None] & (o < N)[None, :]
        b_b += tl.load(bias + i_h * s_bias + o[:, None] * N + o[None, :], m_b, 0.0).to(tl.float32) / scale
    return b_b


@jit
def block_scores(b_q, b_k, b_b, scale, side, m, SEAM: tl.constexpr, PRECISION: tl.constexpr):
    """[BN, BN] scores of all members with all members, -inf for keys that are not there or beyond a seam."""
    b_s = tl.dot(b_q, tl.trans(b_k), b_b, input_precision=PRECISION) * scale
    seen = m[None, :]
    if SEAM:
        # Lanes that are not there see every key, so that no row is empty.
        seen = seen & ((side[:, None] == side[None, :]) | ~m[:, None])
    return tl.where(seen, b_s, float("-inf"))


@jit
def block_offsets(strides, i_b, i_h, o_r, o_c, o, size):
    """Where the channels `o` of the members lie, and which are there: [BN, channels] each."""
    return i_b * strides[0] + i_h * strides[1] + (o_r * strides[2] + o_c * strides[3])[:, None] + o[None, :], (o < size)[None, :]


@jit
def block_attention_kernel(
    q, k, v, y, lse, bias, scale, s_q, s_k, s_v, s_y, s_bias, rows, columns, blocks, heads, count, D, E,
    NH: tl.constexpr, NW: tl.constexpr, RAGGED: tl.constexpr, HAS_BIAS: tl.constexpr, SEAM: tl.constexpr,
    PRECISION: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr,
):  # fmt: skip
    """y = softmax(scale q k^T + bias) v within each block of NH x NW members, for one head.

    A program goes over the blocks z, z + programs, ... of `count`, so that it reads the bias once. Strides are those of
    batch, head, row and column; channels lie side by side. lse: [batch, heads, blocks, members].
    """
    i_p, i_h = tl.program_id(0), tl.program_id(1)
    N: tl.constexpr = NH * NW
    o, o_d, o_e = tl.arange(0, BN), tl.arange(0, BD), tl.arange(0, BE)
    b_b = block_bias(bias, s_bias, i_h, scale, N, HAS_BIAS, BN)
    for i in range(tl.cdiv(count - i_p, tl.num_programs(0))):
        i_z = i_p.to(tl.int64) + i * tl.num_programs(0)
        i_b, i_g = i_z // (blocks[0] * blocks[1]), (i_z % (blocks[0] * blocks[1])).to(tl.int32)
        o_r, o_c, side, m = block_places(rows, columns, blocks[1], i_g, NH, NW, RAGGED, BN)
        o_q, m_d = block_offsets(s_q, i_b, i_h, o_r, o_c, o_d, D)
        o_k, _ = block_offsets(s_k, i_b, i_h, o_r, o_c, o_d, D)
        b_q, b_k = tl.load(q + o_q, m[:, None] & m_d, 0.0), tl.load(k + o_k, m[:, None] & m_d, 0.0)
        b_s = block_scores(b_q, b_k, b_b, scale, side, m, SEAM, PRECISION)
        top = tl.max(b_s, 1)
        b_p = tl.exp(b_s - top[:, None])  # [BN, BN]
        total = tl.sum(b_p, 1)
        o_v, m_e = block_offsets(s_v, i_b, i_h, o_r, o_c, o_e, E)
        b_v = tl.load(v + o_v, m[:, None] & m_e, 0.0)
        b_y = tl.dot(b_p.to(b_v.dtype), b_v, input_precision=PRECISION) / total[:, None]
        o_y, _ = block_offsets(s_y, i_b, i_h, o_r, o_c, o_e, E)
        tl.store(y + o_y, b_y.to(y.dtype.element_ty), m[:, None] & m_e)
        o_l = ((i_b * heads + i_h) * blocks[0] * blocks[1] + i_g) * N + o
        tl.store(lse + o_l, top + tl.log(total), o < N)


@jit
def block_attention_gradient_kernel(
    q, k, v, dy, lse, bias, dq, dk, dv, part, scale, s_q, s_k, s_v, s_y, s_dq, s_dk, s_dv, s_bias, rows, columns, blocks,
    heads, count, D, E,
    NH: tl.constexpr, NW: tl.constexpr, RAGGED: tl.constexpr, HAS_BIAS: tl.constexpr, SEAM: tl.constexpr,
    PRECISION: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr,
):  # fmt: skip
    """The gradients of q, k and v of every block of a split, and the split's sum of those of the bias: part[z, h, n, n].

    A program goes over the blocks z, z + splits, ... of `count` for one head: the order of the sum is always the same.
    """
    i_p, i_h = tl.program_id(0), tl.program_id(1)
    N: tl.constexpr = NH * NW
    o, o_d, o_e = tl.arange(0, BN), tl.arange(0, BD), tl.arange(0, BE)
    b_b = block_bias(bias, s_bias, i_h, scale, N, HAS_BIAS, BN)
    acc = tl.zeros([BN, BN] if HAS_BIAS else [1, 1], tl.float32)
    for i in range(tl.cdiv(count - i_p, tl.num_programs(0))):
        i_z = i_p.to(tl.int64) + i * tl.num_programs(0)
        i_b, i_g = i_z // (blocks[0] * blocks[1]), (i_z % (blocks[0] * blocks[1])).to(tl.int32)
        o_r, o_c, side, m = block_places(rows, columns, blocks[1], i_g, NH, NW, RAGGED, BN)
        o_q, m_d = block_offsets(s_q, i_b, i_h, o_r, o_c, o_d, D)
        o_k, _ = block_offsets(s_k, i_b, i_h, o_r, o_c, o_d, D)
        b_q, b_k = tl.load(q + o_q, m[:, None] & m_d, 0.0), tl.load(k + o_k, m[:, None] & m_d, 0.0)
        b_s = block_scores(b_q, b_k, b_b, scale, side, m, SEAM, PRECISION)
        b_l = tl.load(lse + ((i_b * heads + i_h) * blocks[0] * blocks[1] + i_g) * N + o, o < N, 0.0)
        b_p = tl.where(m[:, None], tl.exp(b_s - b_l[:, None]), 0.0)  # [BN, BN]
        o_y, m_e = block_offsets(s_y, i_b, i_h, o_r, o_c, o_e, E)
        b_dy = tl.load(dy + o_y, m[:, None] & m_e, 0.0)
        b_dv = tl.dot(tl.trans(b_p).to(b_dy.dtype), b_dy, input_precision=PRECISION)
        o_v, _ = block_offsets(s_dv, i_b, i_h, o_r, o_c, o_e, E)
        tl.store(dv + o_v, b_dv.to(dv.dtype.element_ty), m[:, None] & m_e)
        o_v, _ = block_offsets(s_v, i_b, i_h, o_r, o_c, o_e, E)
        b_v = tl.load(v + o_v, m[:, None] & m_e, 0.0)
        b_dp = tl.dot(b_dy, tl.trans(b_v), input_precision=PRECISION)
        b_ds = b_p * (b_dp - tl.sum(b_p * b_dp, 1)[:, None])
        if HAS_BIAS:
            acc += b_ds
        b_ds = b_ds.to(b_k.dtype)
        b_dq = tl.dot(b_ds, b_k, input_precision=PRECISION) * scale
        o_q, _ = block_offsets(s_dq, i_b, i_h, o_r, o_c, o_d, D)
        tl.store(dq + o_q, b_dq.to(dq.dtype.element_ty), m[:, None] & m_d)
        b_dk = tl.dot(tl.trans(b_ds), b_q, input_precision=PRECISION) * scale
        o_k, _ = block_offsets(s_dk, i_b, i_h, o_r, o_c, o_d, D)
        tl.store(dk + o_k, b_dk.to(dk.dtype.element_ty), m[:, None] & m_d)
    if HAS_BIAS:
        p_part = part + ((i_p * heads + i_h) * N + o[:, None]) * N + o[None, :]
        tl.store(p_part, acc, (o < N)[:, None] & (o < N)[None, :])


class Geometry(NamedTuple):
    """How a map is taken apart. `rows` and `columns`: (size, pitch of blocks, pitch of members, shift); `counts` are the
    members of a block along both, of which some may be beyond the edge of a `ragged` map."""

    rows: tuple[int, int, int, int]
    columns: tuple[int, int, int, int]
    blocks: tuple[int, int]
    counts: tuple[int, int]
    ragged: bool
    scale: float

    @property
    def members(self) -> int:
        return self.counts[0] * self.counts[1]


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

    def geometry(self, q: Sequence[int], numbers: Sequence[float]) -> Geometry:
        """How a map of queries is taken apart, and by what the scores are multiplied."""
        given = iter(numbers)
        sizes = list(q[1 + self.heads : -1])
        counts = [int(next(given)) if kind in ("window", "grid") else 1 for kind in self.kinds]
        shifts = [int(next(given)) for _ in self.kinds] if self.shifted else [0] * len(sizes)
        counts = [size if kind == "whole" else n for kind, size, n in zip(self.kinds, sizes, counts, strict=True)]
        axes, blocks = [], []
        for kind, size, count, shift in zip(self.kinds, sizes, counts, shifts, strict=True):
            pitch, step = (1, size // count) if kind == "grid" else (count, 1)
            axes.append((size, pitch, step, shift % size))
            blocks.append(size // count if kind == "grid" else -(-size // count))
        scale = 1.0
        for sign in self.scales:
            scale = scale * next(given) if sign == "*" else scale / next(given)
        if len(axes) == 1:
            axes, blocks, counts = [(1, 1, 1, 0), *axes], [1, *blocks], [1, *counts]
        ragged = any(size % count > 0 for size, count in zip(sizes, counts[-len(sizes) :], strict=True))
        return Geometry(axes[0], axes[1], (blocks[0], blocks[1]), (counts[0], counts[1]), ragged, scale)

    def suits(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> bool:
        """A block must fit into one tile; larger ones, and those of a single member, are left to the library."""
        at = self.geometry(tensors[0].shape, numbers)
        return 1 < at.members <= self.most and max(tensors[0].shape[-1], tensors[2].shape[-1]) <= 256

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
        at = self.geometry(q.shape, numbers)
        heads = q.shape[1] if self.heads else 1
        lse = (q.shape[0], heads, prod(at.blocks), at.members)
        return [self.room(v), q.new_empty(lse, dtype=torch.float32)]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        q, _, v, *_ = shapes
        return 2 * prod(q[:-1]) * self.geometry(q, numbers).members * (q[-1] + v[-1])

    def options(self, q: Tensor, v: Tensor, at: Geometry, tiles: int) -> dict[str, Any]:
        """The constants of a launch that holds `tiles` tiles of scores: 32 registers of a lane for each."""
        bn = max(16, triton.next_power_of_2(at.members))
        bd, be = (max(16, triton.next_power_of_2(t.shape[-1])) for t in (q, v))
        numbers = tiles * bn * bn + bn * (2 * bd + 2 * be)
        return {
            "NH": at.counts[0], "NW": at.counts[1], "RAGGED": at.ragged, "HAS_BIAS": self.bias, "SEAM": self.seam,
            "PRECISION": "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
            "BN": bn, "BD": bd, "BE": be, "num_warps": min(WARPS_OF_LARGE_TILES, max(1, triton.next_power_of_2(numbers // 4096))),
        }  # fmt: skip

    def programs(self, count: int, heads: int) -> int:
        """How many programs go over the blocks of a head: with a bias few, which read it once and sum up its gradient;
        without one, one for each block."""
        return min(count, max(1, 1056 // heads)) if self.bias else count

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        q, k, v = (self.whole(t) for t in tensors[:3])
        at = self.geometry(tensors[0].shape, numbers)
        y, lse = self.results(tensors, numbers)
        bias = tensors[3].contiguous() if self.bias else q
        place = self.whole(y)
        count = q.shape[0] * prod(at.blocks)
        block_attention_kernel[(self.programs(count, q.shape[1]), q.shape[1])](
            q, k, v, y, lse, bias, at.scale, q.stride()[:4], k.stride()[:4], v.stride()[:4], place.stride()[:4],
            0 if self.shared_bias else at.members**2, at.rows, at.columns, at.blocks, q.shape[1], count, q.shape[-1],
            v.shape[-1], **self.options(q, v, at, 2),
        )  # fmt: skip
        return [y, lse]

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        q, k, v, dy = (self.whole(t) for t in (*tensors[:3], grads[0]))
        at = self.geometry(tensors[0].shape, numbers)
        rooms = [self.room(t) for t in tensors[:3]]
        dq, dk, dv = (self.whole(room) for room in rooms)
        bias = tensors[3].contiguous() if self.bias else q
        heads, n, count = q.shape[1], at.members, q.shape[0] * prod(at.blocks)
        splits = self.programs(count, heads)
        # One stage: registers hold five tiles of scores, and none are left for loads ahead.
        part = q.new_empty((splits, heads, n, n) if self.bias else (1,), dtype=torch.float32)
        block_attention_gradient_kernel[(splits, heads)](
            q, k, v, dy, kept[0], bias, dq, dk, dv, part, at.scale, q.stride()[:4], k.stride()[:4], v.stride()[:4],
            dy.stride()[:4], dq.stride()[:4], dk.stride()[:4], dv.stride()[:4], 0 if self.shared_bias else n * n,
            at.rows, at.columns, at.blocks, heads, count, q.shape[-1], v.shape[-1], num_stages=1,
            **self.options(q, v, at, 4 + self.bias),
        )  # fmt: skip
        if self.bias:
            sums = part.sum((0, 1) if self.shared_bias else 0)
            rooms.append(sums.view(tensors[3].shape).to(tensors[3].dtype))
        return [grad if want else grad.new_empty(0) for grad, want in zip(rooms, wanted, strict=True)]
