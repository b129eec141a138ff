from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .fused import FusedOp, jit, promoted, tl, triton


@jit
def strip_kernel(
    x, w, y, operands, numbers, H, W, OH, OW, C, EPILOGUE: tl.constexpr,
    K: tl.constexpr, D: tl.constexpr, S: tl.constexpr, T: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """y[n, h, o, c] = EPILOGUE(sum_ij w[i K + j, c] x[n, S h + (i - K // 2) D, S o + (j - K // 2) D, c])

    A program makes T BW results of one row, each lane T of them side by side, for BC channels.
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
        b_y = EPILOGUE(acc[t], operands, numbers, o_y, o_c, m_y, m_c)
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
def nothing(acc, operands, numbers, o_y, o_c, m_y, m_c):
    """The epilogue that leaves the sums as they are."""
    return acc


class Strip(FusedOp):
    """A depthwise K x K convolution, D apart, whose results go through an epilogue: [N, C, H, W] -> [N, C, H, W].

    The tensors are x, its weight [C, 1, K, K], the bias [C] where `bias` is set, then maps of the shape of the result,
    which `epilogue` reads. `gradient` gives the gradient of the sums and stores those of the maps.
    """

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], epilogue: Any, gradient: Any, kernel: int, dilation: int = 1,
        bias: bool = True, tile: tuple[int, int, int, int] = (4, 4, 64, 1),
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path)
        self.epilogue, self.epilogue_gradient, self.bias = epilogue, gradient, bias
        self.kernel, self.dilation, self.tile = kernel, dilation, tile

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, _, *operands = tensors
        dtype = promoted(x, *operands[self.bias :])
        return [torch.empty_like(x, dtype=dtype, memory_format=torch.channels_last)]

    def room(self, tensor: Tensor) -> Tensor:
        return torch.empty_like(self.laid_out(tensor))

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        n, c, h, w = shapes[0]
        return 2 * n * c * h * w * self.kernel**2

    def launch(
        self, x: Tensor, taps: Tensor, y: Tensor, operands: Sequence[Tensor], numbers: Sequence[float], epilogue: Any
    ) -> None:
        """`taps`: [K K, C] in float32; `x`, `y` and the maps have their channels innermost in memory."""
        n, c, h, w = y.shape
        t, bw, bc, warps = self.tile
        grid = (n * h, triton.cdiv(w, t * bw), triton.cdiv(c, bc))
        strip_kernel[grid](
            x, taps, y, tuple(operands), tuple(numbers), x.shape[2], x.shape[3], h, w, c, EPILOGUE=epilogue,
            K=self.kernel, D=self.dilation, S=1, T=t, BW=bw, BC=bc, num_warps=warps,
        )  # fmt: skip

    def laid_out(self, tensor: Tensor) -> Tensor:
        """Maps with their channels innermost."""
        is_map = tensor.ndim == 4 and tensor.shape[1] > 1
        return tensor.contiguous(memory_format=torch.channels_last) if is_map else tensor.contiguous()

    def taps(self, weight: Tensor) -> Tensor:
        """[C, 1, K, K] as [K K, C], in float32."""
        return weight.float().flatten(1).t().contiguous()

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x, weight, *operands = tensors
        (y,) = self.results(tensors, numbers)
        self.launch(self.laid_out(x), self.taps(weight), y, list(map(self.laid_out, operands)), numbers, self.epilogue)
        return [y]

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        x, weight, *operands = tensors
        x, dy, given = self.laid_out(x), self.laid_out(grads[0]), list(map(self.laid_out, operands))
        # The sums are computed again and become their gradient; the maps' gradients are stored on the way.
        dz = torch.empty_like(x)
        maps = [torch.empty_like(t) for t in given[self.bias :]]
        self.launch(x, self.taps(weight), dz, [*given, dy, *maps], numbers, self.epilogue_gradient)
        dx = torch.empty_like(x)
        self.launch(dz, self.taps(weight.flip(2, 3)), dx, [], [], nothing)
        sums = self.weight_sums(x, dz)
        dw = sums[:-1].t().contiguous().view(weight.shape).to(weight.dtype)
        db = [sums[-1].to(operands[0].dtype, copy=True)] if self.bias else []  # results may not share memory
        found = [dx, dw, *db, *maps]
        return [grad if want else grad.new_empty(0) for grad, want in zip(found, wanted, strict=True)]

    def weight_sums(self, x: Tensor, dz: Tensor) -> Tensor:
        """[K K + 1, C]: two stages, so that the order of the sum is always the same."""
        n, c, h, w = dz.shape
        rows = n * h
        splits = min(rows, 256)
        part = x.new_empty((splits, self.kernel**2 + 1, c), dtype=torch.float32)
        bc = min(64, triton.next_power_of_2(c))
        strip_weight_kernel[(self.kernel, splits, triton.cdiv(c, bc))](
            x, dz, part, rows, triton.cdiv(rows, splits), x.shape[2], x.shape[3], h, w, c,
            K=self.kernel, D=self.dilation, S=1, BW=8, BC=bc, num_warps=2,
        )  # fmt: skip
        return part.sum(0)
