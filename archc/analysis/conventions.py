"""Ways of counting that published tables use, as filters over the same list of operations.

A convention sees every operation with its exact figures, its kind of work (`Op.work`) and the kinds of work
that made its operands, and gives the figures it would report.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from archc.ir.types import TensorType
from archc.records import dataclass


@dataclass(frozen=True)
class Counted:
    """One operation: its kind of work, the kinds its operands come from, types in numbers, exact figures."""

    work: str
    sources: tuple[str, ...]
    operands: tuple[TensorType, ...]
    results: tuple[TensorType, ...]
    macs: int
    others: int
    has_weights: bool

    @property
    def entering(self) -> int:
        """Elements of the first operand."""
        return elements(self.operands[0]) if self.operands else 0

    @property
    def leaving(self) -> int:
        """Elements of the first result."""
        return elements(self.results[0])


def elements(type: TensorType) -> int:
    return prod(axis.size.constant or 0 for axis in type.axes)


@dataclass(frozen=True)
class Convention:
    """`weigh` gives (MACs, other operations) of one operation; `total` is what the tool reports."""

    name: str
    text: str
    weigh: Callable[[Counted], tuple[int, int]]
    total: Callable[[int, int], int]
    unit: str  # what one unit of `total` is called there


# Operations that multiply and add with weights, or contract two tensors.
WEIGHTED = ("conv", "linear")
PRODUCTS = (*WEIGHTED, "contraction")


def _exact(c: Counted) -> tuple[int, int]:
    return c.macs, c.others


def _fvcore(c: Counted) -> tuple[int, int]:
    match c.work:
        case "conv" | "linear" | "contraction" | "region":
            return c.macs, 0
        case "batch_norm":
            return 0, c.entering * (2 if c.has_weights else 1)
        case "layer_norm":
            return 0, c.entering * 5
        case "adaptive_pool":
            return 0, c.entering
        case "resize":
            # Nearest 1 and bilinear 4 for each element, as the exact count; bicubic it does not see.
            return 0, c.others if c.others <= 4 * c.leaving else 0
        case "sampling":
            return 0, c.leaving * 4
    return 0, 0


def _torch(c: Counted) -> tuple[int, int]:
    # Keys of each query are contracted by matrix products too.
    return (c.macs if c.work in (*PRODUCTS, "region") else 0), 0


def _weighted(c: Counted) -> tuple[int, int]:
    return (c.macs if c.work in WEIGHTED else 0), 0


def _nine(c: Counted) -> tuple[int, int]:
    if c.work == "path":
        return 9 * c.macs, 0
    if c.work == "contraction" and "path" in c.sources:
        return 0, 0
    return (c.macs if c.work in PRODUCTS else 0), 0


_CONVENTIONS = (
    Convention(
        "exact",
        "MACs of every convolution, contraction, region, path and sampling operation; FLOPs = 2 x MACs + all "
        "other operations at the weights of the table",
        _exact, lambda macs, others: macs, "MACs",
    ),
    Convention(
        "fvcore",
        "what fvcore 0.1.5 totals, one multiply-add being one: convolutions, linear layers and matrix "
        "products, those of regions among them, batch norm 2 per element, layer and group norm 5, adaptive "
        "pooling 1, resizing and sampling by taps; no paths",
        _fvcore, lambda macs, others: macs + others, "flops",
    ),
    Convention(
        "torch",
        "what torch.utils.flop_counter totals: 2 x MACs of convolutions, linear layers and matrix products, "
        "those of regions among them, nothing else",
        _torch, lambda macs, others: 2 * macs, "FLOPs",
    ),
    Convention(
        "conv+linear",
        "MACs of convolutions and linear layers only, attention and scans left out, as many papers count",
        _weighted, lambda macs, others: macs, "MACs",
    ),
    Convention(
        "9LDN",
        "as papers on state space models count: 9 for each step, channel and state of a scan, with the "
        "contraction that reads the states; else MACs of convolutions, linear layers and matrix products",
        _nine, lambda macs, others: macs, "FLOPs",
    ),
)  # fmt: skip
CONVENTIONS: dict[str, Convention] = {convention.name: convention for convention in _CONVENTIONS}

# The weights of the operations besides multiply-adds, as `Op.flops` has them.
WEIGHTS: tuple[tuple[str, str], ...] = (
    ("bias of a convolution or linear layer", "1 per result element"),
    ("arithmetic, comparison, activation", "1 per result element"),
    ("batch norm (running statistics)", "2 per element"),
    ("layer, group and RMS norm", "8 per element"),
    ("softmax", "5 per element"),
    ("sum, mean, max and other reductions", "1 per operand element"),
    ("pooling", "product of the kernel per result element"),
    ("resize", "taps (1, 2 or 4 along each axis) per result element"),
    ("layout, slicing, padding, constants", "0"),
)
