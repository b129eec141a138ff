"""Convolution with kernels that are a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.ir.sym import const
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import ZERO, Check, Code, Op, OpError, Reach, arg, need
from archc.ops.checks import floating, result_type, whole
from archc.ops.emission import bound, call, options
from archc.ops.slides import Slide, count_steps, frame, sizes, taps
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Convolve(Op):
    """Convolve each sample of `x` with its own kernels `w`: [B, out, C, kh, kw], or all with one set.

    The axes of `w` besides B, out and C are the kernel, in the order of the position axes of `x`; C of `w` is
    C of `x` / groups. The result has C = out.
    MACs: output positions x out x C/groups x product of the kernel.
    """

    name: ClassVar[str] = "convolve"
    cost_class: ClassVar[str] = "conv"
    operands: ClassVar[str] = "x w"
    saves: ClassVar[str] = "x:w w:x"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W], w: [B, out=3, C=4, kh=3, kw=2] -> convolve(x, w)",
        "x: [B, C=4, H, W], w: [B, out=6, C=2, kh=3, kw=3] -> convolve(x, w, stride=[1, 2], pad=1, groups=2)",
        "x: [B, N, C=4], w: [out=3, C=4, k=3] -> convolve(x, w, pad=1)",
        "x: [B, C=4, H, W], w: [B, out=2, C=4, kh, kw] -> convolve(x, w)",
    )
    stride: Any = arg("size", 1)
    pad: Any = arg("size", 0)
    groups: Any = arg("int", 1)

    @staticmethod
    def _kernel(w: TensorType) -> tuple[Axis, ...]:
        return tuple(axis for axis in w.axes if axis.name not in ("B", "out", "C"))

    def infer(self, check: Check, x: TensorType, w: TensorType) -> tuple[TensorType, ...]:
        for operand in (x, w):
            floating(operand, "`convolve`")
        channels, out, inner = (
            need(x, "C", "`convolve`"),
            need(w, "out", "`convolve`"),
            need(w, "C", "`convolve`"),
        )
        self._check_axes(check, x, w)
        groups = whole(self.groups, "groups")
        wanted = inner.size * groups
        if wanted.constant is not None and channels.size.constant is not None and wanted != channels.size:
            has = f"C={inner.size}" + (f", times {groups} groups" if groups > 1 else "")
            check.refuse(
                OpError(f"the channels do not match: C of `x` is {channels.size}, and the kernels have {has}")
            )
        check.equal(channels.size, wanted, "the kernels of `convolve` have the channels of `x`")
        if out.size.constant is not None and out.size.constant % groups:
            error = OpError(f"{groups} groups do not divide {out.size} output channels", "E0321", argument="groups")
            check.refuse(error)
        check.divides(
            Size.of(groups), out.size, "the groups of `convolve` divide the output channels", "E0321"
        )
        strides, pads = self._steps(len(x.positions))
        dims: dict[str, Dim | Size | int] = {"C": out.dim}
        for axis, kernel, stride, pad in zip(x.positions, self._kernel(w), strides, pads, strict=True):
            padded = axis.size + 2 * pad
            check.at_least(
                kernel.size, 1, f"the kernel of `convolve` has at least one element along {kernel.name}"
            )
            why = f"the kernel {kernel.name} must fit into {axis.name}" + (
                f", padded by {pad}" if pad else ""
            )
            check.at_least(padded, kernel.size, why)
            dims[axis.name] = (padded - kernel.size) // stride + 1
        return (x.resized(**dims),)

    def _check_axes(self, check: Check, x: TensorType, w: TensorType) -> None:
        """Raises OpError where the axes are not those of a convolution."""
        count = len(x.positions)
        if not 1 <= count <= 3:
            raise OpError(f"`convolve` works on 1 to 3 position axes, and {x} has {count}", "E0303")
        ride = [axis.name for axis in x.axes if not axis.is_position and axis.name not in ("B", "C")]
        if ride:
            raise OpError(
                f"`convolve` has no place for the axis `{ride[0]}` of {x}",
                "E0303",
                help=f'merge it into the batch: `rearrange(x, "B {ride[0]} -> B=(B {ride[0]})")`',
            )
        kernel = self._kernel(w)
        if len(kernel) != count or any(axis.is_position for axis in kernel):
            has = ", ".join(axis.name for axis in kernel) or "none"
            raise OpError(
                f"kernels need a lower-case axis for each of the {count} positions of {x}, and have {has}",
                "E0303",
                help='rename the positions that became kernels: `rename(w, H="kh", W="kw")`',
            )
        if "B" in w:
            check.equal(
                need(x, "B", "`convolve`").size, w["B"].size, "every sample of `convolve` has its own kernels"
            )

    def _steps(self, count: int) -> tuple[list[int], list[int]]:
        strides, pads = sizes(self.stride, count, "stride"), sizes(self.pad, count, "pad", 0)
        return [stride.value for stride in strides], [pad.value for pad in pads]

    def _slides(self, positions: Sequence[str], kernel: Sequence[int]) -> list[Slide]:
        strides, pads = self._steps(len(positions))
        rows = zip(positions, kernel, strides, pads, strict=True)
        return [Slide(name, const(k), const(s), const(1), const(p)) for name, k, s, p in rows]

    def macs(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        total = ys[0].elements * xs[1]["C"].size
        for axis in self._kernel(xs[1]):
            total = total * axis.size
        return total

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ZERO

    def reach(
        self, axis: str, operand: int, xs: Sequence[TensorType], ys: Sequence[TensorType]
    ) -> Reach | None:
        x, w = xs
        slides = self._slides([a.name for a in x.positions], [a.size.constant or 1 for a in self._kernel(w)])
        return next(
            (slide.seen(x[axis].size.constant or 0) for slide in slides if slide.axis == axis), Reach(axis)
        )

    # ---- PyTorch

    def torch(self, code: Code, x: Operand, w: Operand) -> Operand:
        result = result_type(self, x, w)
        positions = tuple(axis.name for axis in x.type.positions)
        kernel = tuple(axis.name for axis in self._kernel(w.type))
        x, w = x.merged(code), w.merged(code)
        own = "B" in w.type
        order = (*(("B",) if "B" in x.type else ()), "C", *positions)
        x, w = x.to(order), w.to((*(("B",) if own else ()), "out", "C", *kernel))
        count = len(positions)
        numbers = options(
            code,
            ("stride", sizes(self.stride, count, "stride"), 1),
            ("padding", sizes(self.pad, count, "pad", 0), 0),
        )
        if not own:
            text = call(f"F.conv{count}d", str(x), str(w), numbers, options(code, ("groups", self.groups, 1)))
            return Operand(text, result, order)
        # The samples become groups of one convolution.
        x, w = bound(code, x, "x"), bound(code, w, "kernels")
        groups = "" if self.groups.value == 1 else f" * {code.number(self.groups)}"
        folded = call(
            f"F.conv{count}d",
            f"{x}.flatten(0, 1)[None]",
            f"{w}.flatten(0, 1)",
            numbers,
            f"groups={x}.shape[0]{groups}",
        )
        return Operand(f"{folded}[0].unflatten(0, {w}.shape[:2])", result, order)

    # ---- meaning

    def reference(self, run: Run, x: Named, w: Named) -> Named:
        positions = tuple(name for name in x.names if name not in ("B", "C"))
        kernel = tuple(name for name in w.names if name not in ("B", "out", "C"))
        own, groups = "B" in w.names, self.groups.value
        slides = self._slides(positions, [w.size(name) for name in kernel])
        steps = [count_steps(slide, x.size(slide.axis)) for slide in slides]
        lead = ("B",) if "B" in x.names else ()
        data = frame(run, x.to((*lead, "C", *positions)), slides, fill=0).unflatten(len(lead), (groups, -1))
        weight = w.to((*(("B",) if own else ()), "out", "C", *kernel)).unflatten(int(own), (groups, -1))
        pattern = "bgip,bgoi->bgop" if own else "...gip,goi->...gop"
        total: Any = 0
        for tap, piece in taps(run, data, slides, steps):
            total = total + run.torch.einsum(pattern, piece.flatten(-len(steps)), weight[(..., *tap)])
        return run.named(total.flatten(-3, -2).unflatten(-1, steps), (*lead, "C", *positions))
