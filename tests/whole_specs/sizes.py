"""Sizes of random specs, computed beside archc: each is its values at many fixed input sizes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The free sizes that inputs may have.
SYMBOLS = ("B", "H", "W", "N", "T", "M", "Hz", "Wz", "Nz")
POINTS = 512


def _points() -> dict[str, np.ndarray]:
    """Where everything is computed: every size small, some that many numbers divide, some equal to each other."""
    rng = np.random.default_rng(7)
    small = rng.integers(1, 13, (len(SYMBOLS), POINTS))
    round_ones = rng.choice([4, 6, 8, 12, 16, 24, 36, 48], (len(SYMBOLS), POINTS))
    any_ones = rng.integers(1, 41, (len(SYMBOLS), POINTS))
    kind = rng.integers(0, 3, POINTS)
    values = np.where(kind == 0, small, np.where(kind == 1, round_ones, any_ones))
    values[1:, ::7] = values[1, ::7]
    values[0] = rng.integers(1, 4, POINTS)
    return dict(zip(SYMBOLS, values, strict=True))


GRID = _points()


@dataclass(frozen=True, eq=False, repr=False)
class Size:
    """A size at every point of the grid; `constant` where it depends on no input."""

    at: np.ndarray
    constant: int | None = None

    @staticmethod
    def of(value: int | Size) -> Size:
        return value if isinstance(value, Size) else Size(np.full(POINTS, value, dtype=np.int64), value)

    @staticmethod
    def symbol(name: str) -> Size:
        return Size(GRID[name].astype(np.int64))

    def _with(self, other: int | Size, make: object) -> Size:
        theirs = Size.of(other)
        at = make(self.at, theirs.at)  # type: ignore[operator]
        fixed = self.constant is not None and theirs.constant is not None
        return Size(at, int(at[0]) if fixed else None)

    def __add__(self, other: int | Size) -> Size:
        return self._with(other, np.add)

    def __sub__(self, other: int | Size) -> Size:
        return self._with(other, np.subtract)

    def __mul__(self, other: int | Size) -> Size:
        return self._with(other, np.multiply)

    def __floordiv__(self, other: int | Size) -> Size:
        return self._with(other, _quotient)

    def __mod__(self, other: int | Size) -> Size:
        return self - self // other * other

    def up(self, by: int) -> Size:
        """The quotient, rounded up."""
        return (self + (by - 1)) // by

    def same(self, other: int | Size) -> bool:
        """Whether both are equal everywhere."""
        return bool((self.at == Size.of(other).at).all())


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # Where a divisor is 0, an earlier need of the same spec has failed.
    return a // np.where(b == 0, 1, b)


def product(sizes: object) -> Size:
    total = Size.of(1)
    for size in sizes:  # type: ignore[attr-defined]
        total = total * size
    return total
