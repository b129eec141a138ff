from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from .fused import FusedOp, jit, promoted, tl


@jit
def way_item(numbers, i):
    """Item i of a tuple of numbers."""
    found = numbers[0]
    for n in tl.static_range(1, len(numbers)):
        found = tl.where(i == n, numbers[n], found)
    return found


@jit
def way_loops(ways, i_w):
    """The loops of a way: how many steps the inner one has, where they start, the steps of the outer and the inner."""
    inner, first, outer, step = ways
    return way_item(inner, i_w), way_item(first, i_w), way_item(outer, i_w), way_item(step, i_w)


@jit
def path_position(t, loops, line, L, ORDERED: tl.constexpr):
    """Where step t of a sequence is, and its place in the inner loop: as two nested `loops` count, or a `line` says."""
    if ORDERED:
        return tl.load(line + tl.minimum(t, L - 1)), 0
    else:
        inner, first, outer, step = loops
        return first + t // inner * outer + t % inner * step, t % inner


@jit
def next_position(t, p, j, loops, line, L, ORDERED: tl.constexpr):
    """`path_position` of step t from that of the step before, without a division."""
    if ORDERED:
        return tl.load(line + tl.minimum(t, L - 1)), 0
    else:
        inner, _, outer, step = loops
        wraps = j + 1 == inner
        return p + tl.where(wraps, outer - (inner - 1) * step, step), tl.where(wraps, 0, j + 1)


@jit
def sample_base(x, strides, sample):
    """The pointer to a sample (b, way, r) of a tensor that is laid out as `strides` say: (b, w, p, r, s, f)."""
    return x + sample[0] * strides[0] + sample[1] * strides[1] + sample[2] * strides[3]


@jit
def gradient_base(x, strides, sample, i_q, i_f, i_s):
    """`sample_base` of what a program stores of a gradient: the last three strides are those of lines and tiles to be summed."""
    return sample_base(x, strides, sample) + i_q * strides[6] + i_f * strides[7] + i_s * strides[8]


class Way:
    """One of the paths of a recurrence over the map: line by line through the axes `over`, outermost first (places among
    the path's axes), or in the order of the flat positions that `order(*sizes, device)` gives, which are `count`
    sequences one behind the other; or backwards."""

    def __init__(
        self, *over: int, reverse: bool = False, order: Callable[..., Tensor] | None = None, count: int = 1
    ) -> None:  # fmt: skip
        self.over, self.reverse, self.order, self.count = over, reverse, order, count

    def loops(self, sizes: Sequence[int]) -> tuple[int, int, int, int] | None:
        """The way as two nested loops over flat positions: how many steps the inner one has, where they start, and how
        far apart the steps of the outer and of the inner one are. None where it is something else."""
        total, found = prod(sizes), None
        if self.order is None and self.over == tuple(range(len(sizes))):
            found = (total, 0, 0, 1)
        elif self.order is None and self.over == (1, 0):
            found = (sizes[0], 0, 1, sizes[1])
        if found is None or not self.reverse:
            return found
        inner, _, outer, step = found
        return inner, total - 1, -outer, -step

    def positions(self, sizes: Sequence[int], device: torch.device) -> Tensor:
        """The flat positions in the order of the way."""
        flat = torch.arange(prod(sizes), device=device).view(tuple(sizes)).permute(self.over).flatten()
        if self.order is not None:
            flat = flat[self.order(*(sizes[axis] for axis in self.over), device)]
        return flat.view(self.count, -1).flip(1).flatten() if self.reverse else flat


class Recurrence(FusedOp):
    """Recurrences along paths over a map, one for each of the `ways`.

    The axes of each tensor are letters: b the batch, w the way, digits the axes of the map, r what else all tensors
    have, s and f those of a state. They come in this order, whole groups may be missing, and a group may have several.
    `axes` are the letters of the tensors, `result` those of what the operator gives. All kernels see six axes
    (b, w, p, r, s, f), p the flat position, by their strides: nothing is copied to be brought into an order.
    """

    groups = "bwprsf"

    def __init__(
        self, name: str, torch_path: Callable[..., Tensor], axes: Sequence[str], result: str, ways: Sequence[Way]
    ) -> None:  # fmt: skip
        super().__init__(name, torch_path)
        self.axes, self.result, self.ways = tuple(axes), result, tuple(ways)
        self.digits = "".join(sorted({letter for one in axes for letter in one if letter.isdigit()}))

    # ---- sizes and layouts

    def sizes(self, shapes: Sequence[Sequence[int]]) -> dict[str, list[int]]:
        """The sizes of the axes of each letter."""
        found: dict[str, list[int]] = {"w": [len(self.ways)]}
        for shape, letters in zip(shapes, self.axes, strict=True):
            for letter in dict.fromkeys(letters):
                found[letter] = [n for n, other in zip(shape, letters, strict=True) if other == letter]
        return found

    def folded(self, sizes: dict[str, list[int]]) -> dict[str, int]:
        """The sizes of the six axes."""
        found = {group: prod(sizes.get(group, ())) for group in self.groups}
        found["p"] = prod(sizes[digit][0] for digit in self.digits)
        return found

    def laid(self, x: Tensor, letters: str, sizes: dict[str, list[int]]) -> tuple[Tensor, tuple[int, ...]]:
        """A tensor with its strides along the six axes, 0 where it has none: itself, unless axes do not fold."""
        have = [digit for digit in self.digits if digit in letters]
        if have and len(have) < len(self.digits):
            at = letters.index(have[0])
            for n, digit in enumerate(self.digits):
                if digit not in have:
                    x = x.unsqueeze(at + n)
            whole = [sizes[digit][0] for digit in self.digits]
            x = x.expand(*x.shape[:at], *whole, *x.shape[at + len(whole) :])
            letters = letters[:at] + self.digits + letters[at + len(have) :]
        grouped = ["p" if letter.isdigit() else letter for letter in letters]
        have = list(dict.fromkeys(grouped))
        lengths = [prod(n for n, g in zip(x.shape, grouped, strict=True) if g == group) for group in have]
        x = x.reshape(lengths)
        strides = dict(zip(have, x.stride(), strict=True))
        return x, tuple(strides.get(group, 0) for group in self.groups)

    def stored(
        self, x: Tensor, have: str, letters: str, sizes: dict[str, int], tiles: Sequence[int]
    ) -> tuple[Tensor, tuple[int, ...]]:
        """Room for what programs store of the gradient of `x`: along the axes that they `have`, and once more for each
        line, f tile and s tile where these see all of it. And the strides of (b, w, p, r, s, f), lines and tiles."""
        again = [1 if group in have else count for group, count in zip("pfs", tiles, strict=True)]
        room_for = [*again, *(sizes[group] if group in have else 1 for group in self.groups)]
        alone = all(n == 1 or group in self.folds(letters) for n, group in zip(room_for, "tttbwprsf", strict=True))
        found = x.new_empty(room_for, dtype=x.dtype if alone else torch.float32)
        strides = [0 if n == 1 else stride for n, stride in zip(room_for, found.stride(), strict=True)]
        return found, (*strides[3:], *strides[:3])

    def folds(self, letters: str) -> set[str]:
        """The six axes that a tensor has."""
        whole = all(digit in letters for digit in self.digits)
        return {letter for letter in letters if not letter.isdigit()} | ({"p"} if whole else set())

    def gathered(self, found: Tensor, have: str, x: Tensor, letters: str, sizes: dict[str, list[int]]) -> Tensor:
        """The gradient of `x`: the sum of what programs stored over all that `x` has not."""
        names, shape = ["t"] * 3, list(found.shape[:3])
        for group in self.groups:
            for letter in self.digits if group == "p" else group:
                lengths = sizes.get(letter, []) if group in have else []
                names += [letter] * len(lengths)
                shape += lengths
        lacks = [at for at, name in enumerate(names) if name not in letters]
        found = found.view(shape)
        if any(shape[at] > 1 for at in lacks):
            found = found.sum(lacks, dtype=torch.float32)
        return found.reshape(x.shape).to(x.dtype)

    def paths(
        self, sizes: dict[str, list[int]], device: torch.device
    ) -> tuple[Tensor | None, tuple[tuple[int, ...], ...], int]:
        """How kernels find a position: the order of all ways, [way, p], or None and their loops; and how many sequences
        a way is."""
        lengths = [sizes[digit][0] for digit in self.digits]
        loops = [way.loops(lengths) for way in self.ways]
        if all(loop is not None for loop in loops):
            return None, tuple(zip(*(loop for loop in loops if loop is not None), strict=True)), 1
        order = torch.stack([way.positions(lengths, device) for way in self.ways]).to(torch.int32)
        return order, ((0,) * len(self.ways),) * 4, self.ways[0].count

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        sizes = self.sizes([x.shape for x in tensors])
        shape = [sizes[letter].pop(0) for letter in self.result]
        return [tensors[0].new_empty(shape, dtype=promoted(*tensors[: self.cast] or tensors))]
