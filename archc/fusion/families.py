"""The families of kernels: which cores each takes, and what it is made with.

The kernels themselves are ordinary Triton files, `codegen/kernels/NAME.py`, which a module that needs them contains.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from archc.fusion.cores import Core, Matmul, Stencil


class Family(Protocol):
    """`name` is that of the file and of its class of operators."""

    name: ClassVar[str]
    operator: ClassVar[str]

    def refuses(self, core: Core, followers: int) -> str:
        """Why a library is as good for the core with so many operations behind it; empty where it is not."""
        ...

    def word(self, core: Core) -> str:
        """The core in a word, for the name of the operator."""
        ...

    def axes(self, core: Core, names: tuple[str, ...]) -> tuple[str, ...]:
        """The order of axes in which the operator takes its maps."""
        ...

    def settings(self, core: Core) -> str:
        """The keyword arguments with which the operator is made."""
        ...

    def twin(self, core: Core) -> str:
        """The PyTorch expression of the core, of `x`, `weight` and `bias`."""
        ...


class Strip:
    """Depthwise stencils: each lane makes several results side by side, so that a column is read once for all."""

    name: ClassVar[str] = "strip"
    operator: ClassVar[str] = "Strip"

    def refuses(self, core: Stencil, followers: int) -> str:
        return ""

    def word(self, core: Stencil) -> str:
        return f"depthwise{core.kernel}" + (f"_dilated{core.dilation}" if core.dilation > 1 else "")

    def axes(self, core: Stencil, names: tuple[str, ...]) -> tuple[str, ...]:
        channels = (name for name in names if name != "B" and name not in core.axes)
        return ("B", *channels, *core.axes)

    def settings(self, core: Stencil) -> str:
        return f"kernel={core.kernel}, dilation={core.dilation}, bias={core.bias}"

    def twin(self, core: Stencil) -> str:
        parts = ["x", "weight", "bias" if core.bias else "None", f"padding={core.dilation * (core.kernel // 2)}"]
        parts += [f"dilation={core.dilation}"] if core.dilation > 1 else []
        return f"F.conv2d({', '.join(parts)}, groups=x.shape[1])"


class Pointwise:
    """Linear maps of the channels as one matrix product, the channels innermost."""

    name: ClassVar[str] = "pointwise"
    operator: ClassVar[str] = "Pointwise"

    def refuses(self, core: Matmul, followers: int) -> str:
        return "" if followers else "a matrix product alone is the library's"

    def word(self, core: Matmul) -> str:
        return "linear"

    def axes(self, core: Matmul, names: tuple[str, ...]) -> tuple[str, ...]:
        return (*(name for name in names if name != core.axis), core.axis)

    def settings(self, core: Matmul) -> str:
        return f"bias={core.bias}"

    def twin(self, core: Matmul) -> str:
        return f"F.linear(x, weight.flatten(1){', bias' if core.bias else ''})"


FAMILIES: dict[type[Core], Family] = {Stencil: Strip(), Matmul: Pointwise()}
