from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .fused import FusedOp, jit, promoted, tl


@jit
def store_sums(
    by_channel, by_row, channel_sums, row_sums, i_m, i_c, tiles_m, tiles_c, o_m, o_c, m_m, m_c, M, C
):  # fmt: skip
    """The sums of a tile [BM, BC]: channel_sums[k, i_m, c] over its rows, row_sums[k, i_c, m] over its channels."""
    for k in tl.static_range(len(by_channel)):
        tl.store(channel_sums + (k * tiles_m + i_m) * C + o_c, tl.sum(by_channel[k], 0), m_c)
    for k in tl.static_range(len(by_row)):
        tl.store(row_sums + (k * tiles_c + i_c) * M + o_m, tl.sum(by_row[k], 1), m_m)


@jit
def placed(o_y, o_m, o_c, stride):
    """Where the numbers of a map lie: where those of the results do (o_y), or in rows so far apart."""
    return o_y if stride is None else o_m * stride + o_c


def row_stride(rows: Tensor | None) -> int | None:
    """How far apart rows lie that are parts of longer ones; None where nothing lies between them, 0 where they do not lie
    evenly."""
    if rows is None or rows.is_contiguous():
        return None
    if rows.stride(-1) != 1:
        return 0
    stride, count = 0, 1
    for size, step in zip(reversed(rows.shape[:-1]), reversed(rows.stride()[:-1]), strict=True):
        if size > 1:
            stride = stride or step
            if step != stride * count:
                return 0
            count *= size
    return stride if stride >= rows.shape[-1] else 0


class Rooms:
    """Room for the gradients of operands, by a kernel that makes y [.., C] in `tiles` of rows and of channels; and for
    that of the bias, if it is one of the sums by channel (the first)."""

    def __init__(
        self, kinds: Sequence[str], passes: Sequence[int], given: Sequence[Tensor | None], y: Tensor,
        tiles: tuple[int, int], bias: bool,
    ) -> None:  # fmt: skip
        self.kinds, self.bias, self.samples = kinds, bias, y.shape[0]
        rows, channels = y.numel() // y.shape[-1], y.shape[-1]
        large = [k in ("NPC", "NC", "PC") and at not in passes for at, k in enumerate(kinds)]
        self.maps = [y.new_empty(y.shape, dtype=t.dtype) if one else None for t, one in zip(given, large, strict=True)]
        sums = [bias + sum(kind == "C" for kind in kinds), sum(kind in ("N", "P", "NP", "S") for kind in kinds)]
        self.channel_sums = y.new_empty((sums[0], tiles[0], channels), dtype=torch.float32)
        self.row_sums = y.new_empty((sums[1], tiles[1], rows), dtype=torch.float32)

    def gradients(self, operands: Sequence[Tensor], of_rows: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """The gradients; empty for operands that take none, and for those that the gradient of the result passes to."""
        by_channel, by_row, found = iter(self.channel_sums[self.bias :]), iter(self.row_sums), []
        for kind, room, operand in zip(self.kinds, self.maps, operands, strict=True):
            match kind:
                case "C":
                    made = next(by_channel).sum(0)
                case "S":
                    made = next(by_row).sum()
                case "NP" | "N" | "P":
                    rows = next(by_row).sum(0)
                    made = rows if kind == "NP" else rows.view(self.samples, -1).sum(1 if kind == "N" else 0)
                case "NC" | "PC" if room is not None:
                    parts = room.view(self.samples, -1, room.shape[-1])
                    made = parts.sum(1 if kind == "NC" else 0, dtype=torch.float32)
                case "NPC" if room is not None:
                    found.append(of_rows(room))
                    continue
                case _:
                    found.append(operand.new_empty(0))
                    continue
            found.append(made.to(operand.dtype).view(operand.shape))
        return found


class Epilogued(FusedOp):
    """An operator whose results go through `epilogue`, which may read operands besides.

    The tensors are x, `weights` more, the bias [C] where `bias` is set, and the operands. `operands` says of each which
    axes it has of a result: samples N, positions P, channels C, or that it is a single number S; in small letters where it
    takes no gradient. An empty operand is not there. `gradient` makes the gradient of what the epilogue is given, from the
    same and the gradient of the result; it stores those of operands with all axes, or with channels and one other, and
    returns the terms of the sums that are those of the others. Operands in `passes` have the gradient of the result itself.
    Where `recomputes` is not set, `gradient` works without what the epilogue is given.

    In maps, the axis of channels has `behind` axes behind it. Kernels see maps with their channels innermost: rows.
    """

    weights = 1

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], epilogue: Any, gradient: Any, operands: Sequence[str] = (),
        passes: Sequence[int] = (), recomputes: bool = True, bias: bool = True, behind: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path)
        self.epilogue, self.epilogue_gradient, self.operands, self.passes = epilogue, gradient, operands, passes
        self.recomputes, self.bias, self.channels = recomputes, bias, -1 - behind

    @property
    def kinds(self) -> list[str]:
        """The axes of what follows the weights."""
        return ["C"] * self.bias + list(self.operands)

    def rows(self, tensor: Tensor) -> Tensor:
        """A map with its channels innermost: no copy where it lies so in memory."""
        return tensor.movedim(self.channels, -1).contiguous()

    def apart(self, tensor: Tensor) -> Tensor:
        """The same for a kernel that is told how far apart the rows lie: those of a part of a map are not copied either."""
        rows = tensor.movedim(self.channels, -1)
        return rows.contiguous() if row_stride(rows) == 0 else rows

    def of_rows(self, rows: Tensor) -> Tensor:
        return rows.movedim(-1, self.channels)

    def given(self, tensors: Sequence[Tensor]) -> list[Tensor | None]:
        """The bias and the operands as kernels take them."""
        pairs = zip(tensors[1 + self.weights :], self.kinds, strict=True)
        return [(self.apart(t) if k.upper() == "NPC" else t.contiguous()) if t.numel() else None for t, k in pairs]

    def told(self, numbers: Sequence[float], x: Tensor, given: Sequence[Tensor | None]) -> list[float | None]:
        """The numbers as kernels take them: behind them, how far apart the rows of x lie, and of operands that are maps."""
        maps = [x, *(t for t, kind in zip(given, self.kinds, strict=True) if kind.upper() == "NPC")]
        return [*numbers, *map(row_stride, maps)]

    def dtype(self, tensors: Sequence[Tensor]) -> torch.dtype:
        """The element type of the result, which single numbers have no part in."""
        maps = (t for t in tensors[1 + self.weights + self.bias :] if t.is_floating_point() and t.dim())
        return promoted(tensors[0], *maps)

    def gradients(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        kinds = ["NPC", *[""] * self.weights, *self.kinds]
        made = []
        for tensor, kind, want in zip(tensors, kinds, wanted, strict=True):
            like = self.of_rows(torch.empty_like(self.rows(tensor))) if kind == "NPC" else self.room(tensor)
            made.append(like if want else tensor.new_empty(0))
        return made

    def differentiate(self, ctx: Any, grads: Sequence[Tensor]) -> tuple[list[Any], list[Any] | None]:
        first = 1 + self.weights + self.bias
        fixed = [1 + self.weights + at for at, kind in enumerate(self.kinds) if kind.islower()]
        passed = [first + at for at in self.passes if ctx.wanted[first + at]]
        wanted, ctx.wanted = ctx.wanted, [want and at not in fixed + passed for at, want in enumerate(ctx.wanted)]
        found, nothing = super().differentiate(ctx, grads)
        ctx.wanted = wanted
        for at in passed:
            found[at] = grads[0].to(ctx.saved_tensors[at].dtype)
        return found, nothing

    # ---- the gradients of operands

    def rooms(
        self, given: Sequence[Tensor | None], y: Tensor, tiles: tuple[int, int], bias: bool = False
    ) -> Rooms:  # fmt: skip
        return Rooms(self.operands, self.passes, given[self.bias :], y, tiles, bias)
