from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .epilogue import Epilogued, Rooms
from .strip import COUNTS, StripTile, Windows, nothing, spread, strip, strip_tile, strip_weight_sums, too_far
from .toeplitz import ToeplitzTile, toeplitz, toeplitz_tile, toeplitz_weight_sums

MEMORY = 0.31  # clocks of a multiprocessor of an H100 for 4 bytes to or from its memory: a result in 16 bits and its input


def toeplitz_pays(strip: StripTile, toeplitz: ToeplitzTile) -> bool:
    """Whether products of matrices take less time than strips of multiply-adds: with large kernels, and on small maps.

    Taps 7 x 7 that are 3 apart, 128 maps of 7 x 7: 0.3 clocks of a multiprocessor for a result, not 1.7; of 14 x 14: 0.6,
    not 0.9; of 28 x 28: 0.8, not 0.9; of 56 x 56: 1.1, not 0.8. Taps 31 x 31 there: 5, not 14.
    """
    return MEMORY < strip.slots / 128 > toeplitz.clocks


class Depthwise(Epilogued):
    """A stencil over each channel, whose results go through an epilogue: [N, C, H, W] -> [N, C, OH, OW]; with one axis
    behind the channels, a sequence [N, C, L].

    The weight is [C, 1, KH, KW]; a `mean` over its kernel has none, and is `counted` where padding counts. Settings are of
    rows and columns, and a text is the name of a number, "n0" the first. `padding` is before and behind an axis, or "tf":
    ceil(size / stride) results, the odd pixel behind. `plain`: the gradient of the sums is that of the results.
    """

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], epilogue: Any, gradient: Any, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, mean: Any = None, counted: bool = False, plain: bool = False,
        behind: int = 2, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path, epilogue, gradient, behind=behind, **options)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.mean, self.plain = 0 if mean is None else 2 if counted else 1, plain
        self.kernel, self.weights = mean, int(mean is None)

    # ---- sizes

    def pair(self, setting: Any, numbers: Sequence[float]) -> tuple[int, int]:
        rows, columns = setting if isinstance(setting, tuple) else (setting, setting)
        found = [int(numbers[int(one[1:])]) if isinstance(one, str) else one for one in (rows, columns)]
        return found[0], found[1]

    def windows(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> tuple[Windows, list[int]]:
        """The windows, and how many there are along rows and columns. A sequence is one row."""
        sizes = list(shapes[0][2:])
        kernel = self.pair(self.kernel, numbers) if self.mean else tuple(shapes[1][2:])
        stride, dilation, same = self.pair(self.stride, numbers), self.pair(self.dilation, numbers), self.padding == "tf"
        before = [0, 0] if same else list(self.pair(self.padding, numbers))
        if len(sizes) == 1:
            sizes, kernel, before = [1, *sizes], (1, kernel[-1]), [0, before[1]]
            stride = 1, stride[1]
        counts = []
        for at, (size, k, s, d) in enumerate(zip(sizes, kernel, stride, dilation, strict=True)):
            span = d * (k - 1) + 1
            if same:
                counts.append(-(-size // s))
                before[at] = max((counts[at] - 1) * s + span - size, 0) // 2
            else:
                counts.append((size + 2 * before[at] - span) // s + 1)
        return Windows((kernel[0], kernel[1]), stride, dilation, (before[0], before[1])), counts

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        x = tensors[0]
        _, counts = self.windows([t.shape for t in tensors], numbers)
        sizes = counts[-len(x.shape[2:]) :]
        return [self.of_rows(x.new_empty((x.shape[0], *sizes, x.shape[1]), dtype=self.dtype(tensors)))]

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        windows, counts = self.windows(shapes, numbers)
        n, c = shapes[0][:2]
        return 0 if self.mean else 2 * n * c * counts[0] * counts[1] * windows.kernel[0] * windows.kernel[1]

    def planar(self, tensor: Tensor) -> Tensor:
        """A map of channels innermost as [N, H, W, C]; a sequence is one row."""
        return tensor if tensor.ndim == 4 else tensor.unsqueeze(1)

    def weight(self, tensors: Sequence[Tensor]) -> Tensor | None:
        """[C, 1, KH, KW]; None for a mean."""
        return None if self.mean else tensors[1] if tensors[1].ndim == 4 else tensors[1].unsqueeze(2)

    # ---- kernels

    def tile(self, windows: Windows, x: Tensor, y: Tensor) -> StripTile | ToeplitzTile:
        """The kernel and its tile, for the map x [N, H, W, C] and the results y."""
        n, h, w, c = x.shape
        oh, ow = y.shape[1:3]
        # A mean has as little to compute in short strips.
        short = tuple(t for t in (4, 2) if t % windows.up[1] == 0) or (windows.up[1],)
        strips = strip_tile(windows, (oh, ow), c, x.element_size(), short if self.mean else COUNTS)
        if self.mean or x.dtype not in (torch.float16, torch.bfloat16):
            return strips
        products = toeplitz_tile(windows, (h, w), (oh, ow), n, c)
        return products if products is not None and toeplitz_pays(strips, products) else strips

    def sums(
        self, x: Tensor, weight: Tensor | None, y: Tensor, windows: Windows, given: Sequence[Tensor | None] = (),
        numbers: Sequence[float | None] = (), epilogue: Any = nothing, mirrored: bool = False, mean: int = 0,
        rooms: Rooms | None = None, needed: bool = True,
    ) -> None:  # fmt: skip
        """The sums, where they are `needed`, and of them the epilogue."""
        if too_far(windows):
            x, windows = spread(x, windows)
        tile = self.tile(windows, x, y)
        if isinstance(tile, ToeplitzTile) and weight is not None:
            toeplitz(x, weight, y, given, numbers, epilogue, windows, tile, mirrored, rooms, needed)
        elif isinstance(tile, StripTile):
            strip(x, weight, y, given, numbers, epilogue, windows, tile, mirrored, mean, rooms, needed)

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        results, (windows, _) = self.results(tensors, numbers), self.windows([t.shape for t in tensors], numbers)
        x, y = (self.planar(self.rows(tensor)) for tensor in (tensors[0], results[0]))
        given = self.given(tensors)
        told = self.told(numbers, x, given)
        self.sums(x, self.weight(tensors), y, windows, given, told, self.epilogue, mean=self.mean)
        return results

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        windows, _ = self.windows([t.shape for t in tensors], numbers)
        x, dy, weight = self.planar(self.rows(tensors[0])), self.rows(grads[0]), self.weight(tensors)
        operands = tensors[1 + self.weights + self.bias :]
        found: list[Tensor | None] = [None] * len(tensors)
        if self.plain and not self.mean:
            dz = dy.to(x.dtype)
        else:
            # The sums are computed again and become their gradient; the gradients of operands are made on the way.
            dz, given = torch.empty_like(dy, dtype=x.dtype), self.given(tensors)
            rooms = self.rooms(given, dy, self.tile(windows, x, self.planar(dz)).tiles(self.planar(dz)))
            self.sums(
                x, weight, self.planar(dz), windows, [*given, dy, *rooms.maps], self.told(numbers, x, given),
                self.epilogue_gradient, mean=self.mean, rooms=rooms, needed=self.recomputes,
            )  # fmt: skip
            found[len(tensors) - len(operands) :] = rooms.gradients(operands, self.of_rows)
        dz = self.planar(dz)
        if wanted[0]:
            dx = torch.empty_like(x)
            self.sums(dz, weight, dx, windows.mirrored, mirrored=True)
            found[0] = self.of_rows(dx.view(self.rows(tensors[0]).shape))
        if weight is not None and any(wanted[1 : 2 + self.bias]):
            tile = self.tile(windows, x, dz)
            products = isinstance(tile, ToeplitzTile)
            sums = toeplitz_weight_sums(x, dz, windows, tile) if products else strip_weight_sums(x, dz, windows)
            found[1] = sums[:-1].t().contiguous().view(tensors[1].shape).to(tensors[1].dtype)
            if self.bias:
                found[2] = sums[-1].to(tensors[2].dtype, copy=True)  # results may not share memory
        triples = zip(found, wanted, tensors, strict=True)
        return [made if want and made is not None else given.new_empty(0) for made, want, given in triples]
