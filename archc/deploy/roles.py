"""What operations say of themselves to the pass that folds: how they act on single channels.

A channel is an index along one axis of the operand, which the result has too. All that is said holds in evaluation.
"""

from __future__ import annotations

from typing import Any

from archc.deploy.terms import ONE, ZERO, Term
from archc.records import dataclass


@dataclass(frozen=True)
class Affine:
    """result = scale * operand + shift, with one number for each index along `axis` (for all where it is None)."""

    operand: int
    axis: str | None
    scale: Term = ONE
    shift: Term = ZERO


@dataclass(frozen=True)
class Weighted:
    """Result channels that are scaled by scaling slices of the tensor `weight`, and shifted by the vector `bias`.

    `out` is the axis of the weight that counts the channels of the result. `inner` is the one that counts those of the
    operand, in which the result is linear; it is None where the weight multiplies something else (a norm). With
    `groups`, axis 0 of the weight holds all groups one after another, and axis 1 counts within a group. Where it is
    `padded`, zeros from outside count as operand, so that a shifted operand would be another thing. `biased` is the same
    operation with a bias, where it is a choice.
    """

    axis: str
    weight: str
    bias: str | None
    out: int = 0
    inner: int | None = None
    groups: int = 1
    padded: bool = False
    biased: Any = None

    @property
    def shifts(self) -> bool:
        """Whether its result can be shifted."""
        return self.bias is not None or self.biased is not None


@dataclass(frozen=True)
class Total:
    """The sum of its operands, some of them (`signs`) taken negatively."""

    signs: tuple[int, ...]


@dataclass(frozen=True)
class Through:
    """Each channel of the result is a weighted sum of numbers of that channel of `operand`; where `means`, the weights
    sum to 1, so that a shift passes too."""

    operand: int
    axes: tuple[str, ...]
    means: bool


Role = Affine | Weighted | Total | Through
