"""Paths: orders in which a recurrence visits the positions of a map, as values of the language.

A path over axes of sizes S is a bijection from 0..L-1 to S, axes slowest first. Axes that it does not name
are batch. A path may fall into several sequences of equal length, each of which starts anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from archc.ir.sym import Scalar
from archc.ir.types import TensorType
from archc.ops.base import Check, Code, OpError, arg
from archc.records import dataclass
from archc.sizes import Size
from archc.where.base import fixed, numbers
from archc.where.text import product_text, tuple_text

Position = tuple[int, ...]


@dataclass(frozen=True)
class Path:
    """Base of all paths."""

    name: ClassVar[str]

    @property
    def over(self) -> tuple[str, ...]:
        """The axes it runs over; positions of a sequence are given in this order."""
        raise NotImplementedError

    def check(self, check: Check, x: TensorType) -> None:
        """What it needs of the axes. Raises OpError, or states it through `check`."""
        axes = self.over
        if not axes:
            raise OpError(
                f"`{self.name}` needs the axes it runs over",
                "E0302",
                argument="along",
                help=f"write `{self.name}({', '.join(a.name for a in x.positions) or 'H, W'})`",
            )
        for name in axes:
            if name not in x:
                positions = ", ".join(axis.name for axis in x.positions)
                raise OpError(
                    f"`{self.name}` runs over `{name}`, and the tensor is {x}",
                    "E0302",
                    argument="along",
                    help=f"its positions are {positions}: `{self.name}({positions})`" if positions else "",
                )
            if not x[name].is_position:
                raise OpError(f"`{self.name}` runs over positions, and `{name}` is none", "E0213", argument="along")
        if len(set(axes)) != len(axes):
            raise OpError(f"`{self.name}` names an axis twice", "E0213", argument="along")

    def sequences(self, sizes: Sequence[int]) -> list[list[Position]]:
        """The positions of every sequence in order, for axes of these sizes. The meaning."""
        raise NotImplementedError

    def lattices(self) -> int:
        """How many sequences there are."""
        return 1

    def count(self, code: Code) -> str:
        """The text of that number, which another build may have otherwise; `1` where every build has one."""
        return "1"

    @property
    def plain(self) -> bool:
        """Whether the order is that of the axes, so that nothing has to move."""
        return False

    def order(self, code: Code, sizes: Sequence[str], device: str) -> str:
        """The text of an integer tensor: the flat positions, all sequences one behind the other."""
        raise NotImplementedError

    def unreversed(self) -> tuple[Path, bool]:
        """The path, or the one that it goes backwards; and whether it does."""
        return self, False

    def numbers(self) -> tuple[Scalar, ...]:
        """The numbers that its order depends on, besides the sizes of its axes."""
        return ()


def row_major(sizes: Sequence[int]) -> list[Position]:
    """Every position, the last axis fastest."""
    positions: list[Position] = [()]
    for size in sizes:
        positions = [(*p, i) for p in positions for i in range(size)]
    return positions


def unfold(paths: Any) -> tuple[Path, ...]:
    """A path argument as the paths it stands for: one, a list, or a cross."""
    if isinstance(paths, Cross):
        return paths.ways()
    if isinstance(paths, tuple):
        return tuple(way for path in paths for way in unfold(path))
    if not isinstance(paths, Path):
        raise OpError("a path is needed here, as in `raster(H, W)`", "E0206", argument="along")
    return (paths,)


def reverse_path(path: Path) -> Path:
    """`-path`."""
    if isinstance(path, Reverse):
        return path.path
    if isinstance(path, Cross):
        raise OpError("`cross` goes both ways already", "E0213")
    return Reverse(path)


@dataclass(frozen=True)
class Over(Path):
    """A path that is given by its axes alone."""

    axes: Any = arg("axes", ())

    @property
    def over(self) -> tuple[str, ...]:
        return (self.axes,) if isinstance(self.axes, str) else tuple(self.axes)


@dataclass(frozen=True)
class Raster(Over):
    """Line by line: p(t) = (t div W, t mod W). `raster(W, H)`: by columns; `raster(W)`: each row apart."""

    name: ClassVar[str] = "raster"

    def sequences(self, sizes: Sequence[int]) -> list[list[Position]]:
        return [row_major(sizes)]

    @property
    def plain(self) -> bool:
        return True

    def order(self, code: Code, sizes: Sequence[str], device: str) -> str:
        return f"torch.arange({' * '.join(sizes)}, device={device})"


@dataclass(frozen=True)
class Planar(Over):
    """A path over exactly two axes."""

    def check(self, check: Check, x: TensorType) -> None:
        super().check(check, x)
        if len(self.over) != 2:
            raise OpError(
                f"`{self.name}` runs over two axes, and {len(self.over)} are named", "E0303", argument="along"
            )

    def order(self, code: Code, sizes: Sequence[str], device: str) -> str:
        return f"{code.helper(self.name + '_order')}({', '.join(sizes)}, {device})"


@dataclass(frozen=True)
class Snake(Planar):
    """Line by line, odd lines backwards."""

    name: ClassVar[str] = "snake"

    def sequences(self, sizes: Sequence[int]) -> list[list[Position]]:
        h, w = sizes
        return [[(y, x if y % 2 == 0 else w - 1 - x) for y in range(h) for x in range(w)]]


@dataclass(frozen=True)
class Diagonal(Planar):
    """By y + x, then by y."""

    name: ClassVar[str] = "diagonal"

    def sequences(self, sizes: Sequence[int]) -> list[list[Position]]:
        return [sorted(row_major(sizes), key=lambda p: (p[0] + p[1], p[0]))]


@dataclass(frozen=True)
class Cross(Over):
    """Four paths: line by line, its reverse, column by column, its reverse."""

    name: ClassVar[str] = "cross"

    def ways(self) -> tuple[Path, ...]:
        if len(self.over) != 2:
            raise OpError(f"`cross` runs over two axes, and {len(self.over)} are named", "E0303", argument="along")
        there, across = Raster(self.over), Raster(self.over[::-1])
        return there, Reverse(there), across, Reverse(across)


@dataclass(frozen=True)
class Reverse(Path):
    """p(L - 1 - t), each sequence for itself."""

    name: ClassVar[str] = "reverse"
    path: Any = arg("path")

    @property
    def over(self) -> tuple[str, ...]:
        return self.path.over

    def check(self, check: Check, x: TensorType) -> None:
        self.path.check(check, x)

    def sequences(self, sizes: Sequence[int]) -> list[list[Position]]:
        return [sequence[::-1] for sequence in self.path.sequences(sizes)]

    def lattices(self) -> int:
        return self.path.lattices()

    def unreversed(self) -> tuple[Path, bool]:
        path, reverse = self.path.unreversed()
        return path, not reverse

    def numbers(self) -> tuple[Scalar, ...]:
        return self.path.numbers()

    def count(self, code: Code) -> str:
        return self.path.count(code)

    def order(self, code: Code, sizes: Sequence[str], device: str) -> str:
        order = self.path.order(code, sizes, device)
        many = self.count(code)
        return f"{order}.flip(0)" if many == "1" else f"{order}.unflatten(0, ({many}, -1)).flip(1).flatten()"


@dataclass(frozen=True)
class Blocked(Path):
    """A path built on another one and a size for each axis that divides it."""

    number: ClassVar[str]

    @property
    def over(self) -> tuple[str, ...]:
        return self._inner().over

    def _inner(self) -> Path:
        path = getattr(self, "path")  # noqa: B009
        if isinstance(path, Cross) or not isinstance(path, Path):
            raise OpError(f"`{self.name}` takes one path", "E0213", argument="along")
        return path

    def cuts(self) -> tuple[Scalar, ...]:
        return numbers(getattr(self, self.number), len(self.over), self.number)

    def numbers(self) -> tuple[Scalar, ...]:
        return (*self.cuts(), *self._inner().numbers())

    def check(self, check: Check, x: TensorType) -> None:
        self._inner().check(check, x)
        if self._inner().lattices() != 1:
            raise OpError(f"`{self.name}` takes a path of one sequence", "E0213", argument="along")
        for name, cut in zip(self.over, self.cuts(), strict=True):
            check.divides(Size.of(fixed(cut)), x[name].size, f"`{self.name}` cuts {name} by {fixed(cut)}")


@dataclass(frozen=True)
class Windowed(Blocked):
    """The path over windows of the map, and inside each window again."""

    name: ClassVar[str] = "windowed"
    number: ClassVar[str] = "size"
    size: Any = arg("size")
    path: Any = arg("path")

    def sequences(self, sizes: Sequence[int]) -> list[list[Position]]:
        cuts = [fixed(c) for c in self.cuts()]
        (outer,) = self.path.sequences([n // c for n, c in zip(sizes, cuts, strict=True)])
        (inner,) = self.path.sequences(cuts)
        return [[tuple(a * c + b for a, b, c in zip(o, i, cuts, strict=True)) for o in outer for i in inner]]

    def order(self, code: Code, sizes: Sequence[str], device: str) -> str:
        cuts = [code.number(c) for c in self.cuts()]
        grid = [_quotient(n, c) for n, c in zip(sizes, cuts, strict=True)]
        outer, inner = self.path.order(code, grid, device), self.path.order(code, cuts, device)
        return f"{code.helper('windowed_order')}({outer}, {inner}, {tuple_text(grid)}, {tuple_text(cuts)})"


@dataclass(frozen=True)
class Every(Blocked):
    """Interleaved lattices of every s-th position; each is a sequence of its own along the path."""

    name: ClassVar[str] = "every"
    number: ClassVar[str] = "step"
    step: Any = arg("size")
    path: Any = arg("path")

    def lattices(self) -> int:
        total = 1
        for cut in self.cuts():
            total *= fixed(cut)
        return total

    def count(self, code: Code) -> str:
        return product_text([code.number(c) for c in self.cuts()])

    def sequences(self, sizes: Sequence[int]) -> list[list[Position]]:
        cuts = [fixed(c) for c in self.cuts()]
        (inner,) = self.path.sequences([n // c for n, c in zip(sizes, cuts, strict=True)])
        return [
            [tuple(a * c + b for a, b, c in zip(p, start, cuts, strict=True)) for p in inner]
            for start in row_major(cuts)
        ]

    def order(self, code: Code, sizes: Sequence[str], device: str) -> str:
        cuts = [code.number(c) for c in self.cuts()]
        grid = [_quotient(n, c) for n, c in zip(sizes, cuts, strict=True)]
        inner = self.path.order(code, grid, device)
        return f"{code.helper('lattice_order')}({inner}, {tuple_text(grid)}, {tuple_text(cuts)})"


def _quotient(size: str, cut: str) -> str:
    return str(int(size) // int(cut)) if size.isdigit() and cut.isdigit() else f"({size} // {cut})"


PATHS: dict[str, type[Path]] = {path.name: path for path in (Raster, Snake, Diagonal, Windowed, Every, Cross)}
