"""What a kernel is built around: an operation as the kernel families see it.

An operation says of itself what it is (`Op.core`); a family of kernels takes the cores of one class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archc.records import dataclass

if TYPE_CHECKING:
    from archc.ops.slides import Slide
    from archc.where.paths import Path


@dataclass(frozen=True)
class Stencil:
    """A sum over what the windows `slides` see, for each channel by itself: with weights of its own, or a mean.

    A number of a window that builds may differ in has no value here, but its expression. A mean counts padding where it
    is `counted`.
    """

    slides: tuple[Slide, ...]
    bias: bool = False
    mean: bool = False
    counted: bool = False


@dataclass(frozen=True)
class Elementwise:
    """An operation that computes each element from one of each operand."""


@dataclass(frozen=True)
class Norm:
    """A norm of the rows along `axis`, called `word`: by mean and deviation (`centred`), with a weight and a bias; or by the
    root of the mean square, with a weight."""

    word: str
    axis: str
    eps: float
    centred: bool


@dataclass(frozen=True)
class Matmul:
    """A linear map of the axis `axis`, the same at all positions."""

    axis: str
    bias: bool
    behind: tuple[str, ...] = ()
    """The axes that lie behind the channels in the operation's own text: those of the positions, in a convolution."""


@dataclass(frozen=True)
class Scores:
    """Products of queries and keys over the taps of the region `over`."""

    over: Any


@dataclass(frozen=True)
class Mixture:
    """Sums of values over the taps of the region `over`, with weights."""

    over: Any


@dataclass(frozen=True)
class Softmax:
    """A softmax along `axis`."""

    axis: str


@dataclass(frozen=True)
class Offsets:
    """A number for each query and tap of the region `over` that depends on where they lie to each other alone: of a table
    that has the offsets along the position axes `axes` last, 0 at `centre` (None: in the middle)."""

    over: Any
    axes: tuple[str, ...] = ()
    centre: Any = None


@dataclass(frozen=True)
class Contraction:
    """The product of two tensors, aligned by name, summed over `axes`."""

    axes: tuple[str, ...]


@dataclass(frozen=True)
class Recurrence:
    """h[t] = decay[t] h[t-1] + update[t] along each of the paths `ways`, which run over the axes `over`.

    A family adds what it takes its tensors for: the `letters` of all axes, in the order in which its operator takes them,
    and the `roles` of the tensors.
    """

    ways: tuple[Path, ...]
    over: tuple[str, ...]
    letters: tuple[tuple[str, str], ...] = ()
    roles: str = ""


@dataclass(frozen=True)
class Line:
    """Where the taps of a region are along one axis: `where` is a function of `codegen/kernels/taps.py`, which says what it
    makes of the numbers. Nought stands for all there is."""

    where: str
    count: int
    step: int = 1
    block: int = 0
    stride: int = 1


@dataclass(frozen=True)
class Taps:
    """Scores, or sums with weights, over the taps of the region called `over`: `lines` has where they are along each of
    `axes`, the slow ones first, and is empty where kernels cannot compute it.

    `shared` says that all queries have all keys, so that nothing is gathered; `gaps` that taps outside of the map are none.
    """

    scored: bool
    over: str
    axes: tuple[str, ...]
    lines: tuple[Line, ...]
    shared: bool
    gaps: bool


Core = Elementwise | Norm | Stencil | Matmul | Taps | Scores | Mixture | Softmax | Offsets | Contraction | Recurrence
