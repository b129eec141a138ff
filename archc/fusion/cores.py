"""What a kernel is built around: an operation as the kernel families see it.

An operation says of itself what it is (`Op.core`); a family of kernels takes the cores of one class.
"""

from __future__ import annotations

from archc.records import dataclass


@dataclass(frozen=True)
class Stencil:
    """A sum over kernel x kernel neighbours, `dilation` apart, for each channel with weights of its own; sizes stay.

    `axes` are the two position axes, rows first.
    """

    axes: tuple[str, str]
    kernel: int
    dilation: int
    bias: bool


@dataclass(frozen=True)
class Matmul:
    """A linear map of the axis `axis`, the same at all positions."""

    axis: str
    bias: bool


Core = Stencil | Matmul
