import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula

try:
    import triton
    import triton.language as tl
except ImportError:  # everything runs on its PyTorch path
    triton = tl = None


def jit(kernel: Callable[..., Any]) -> Any:
    """A Triton kernel, or a function that kernels call; as it is where there is no triton."""
    return kernel if triton is None else triton.jit(kernel)


def uses_kernels(x: Tensor) -> bool:
    """Whether fused kernels run where `x` is: on GPUs, and in Triton's interpreter; never with ARCHC_KERNELS=0."""
    if triton is None or os.environ.get("ARCHC_KERNELS") == "0":
        return False
    return x.is_cuda or (x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1")


class FusedOp:
    """An operator that kernels compute, forward and backward, beside the same in plain PyTorch (`torch_path`).

    It takes tensors, then numbers. Subclasses have `forward`, which gives the results and then what the backward pass
    needs besides; `backward`, the gradients of the tensors; `results`, room for what `forward` gives; and `flops`.
    """

    outputs = 1  # how many of what `forward` gives are results

    def __init__(self, name: str, torch_path: Callable[..., Any]) -> None:
        self.name, self.torch_path = name, torch_path
        given = "Tensor[] tensors, float[] numbers"
        self.op = torch.library.custom_op(name, self.forward, mutates_args=(), schema=f"({given}) -> Tensor[]")
        self.op.register_fake(self.results)
        self.gradient = torch.library.custom_op(
            f"{name}_backward", self.backward, mutates_args=(),
            schema=f"(Tensor[] grads, Tensor[] kept, {given}, bool[] wanted) -> Tensor[]",
        )  # fmt: skip
        self.gradient.register_fake(self.gradients)
        self.op.register_autograd(self.differentiate, setup_context=self.save)
        space, word = name.split("::")
        register_flop_formula(getattr(getattr(torch.ops, space), word))(lambda *given, **_: self.flops(*given))

    def __call__(self, *given: Any) -> Any:
        tensors = [item for item in given if isinstance(item, Tensor)]
        if not uses_kernels(tensors[0]):
            return self.torch_path(*given)
        if not torch.compiler.is_compiling() and forward_ad._current_level >= 0:
            raise NotImplementedError(f"{self.name} has no forward-mode derivative: set ARCHC_KERNELS=0")
        if torch.is_autocast_enabled(tensors[0].device.type):
            tensors[0] = tensors[0].to(torch.get_autocast_dtype(tensors[0].device.type))
        made = self.op(tensors, [float(number) for number in given[len(tensors) :]])
        return made[0] if self.outputs == 1 else tuple(made[: self.outputs])

    # ---- what subclasses say

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        raise NotImplementedError

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        raise NotImplementedError

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        raise NotImplementedError

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float], **_: Any) -> int:
        """From the shapes of the tensors; a multiply-add counts as two."""
        raise NotImplementedError

    # ---- autograd

    def gradients(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        """Room for the gradients of the tensors; empty for those that nobody wants."""
        return [torch.empty_like(t) if want else t.new_empty(0) for t, want in zip(tensors, wanted, strict=True)]

    def save(self, ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        tensors, ctx.numbers = inputs
        kept = output[self.outputs :]
        ctx.count, ctx.wanted = len(tensors), [t.requires_grad for t in tensors]
        ctx.mark_non_differentiable(*kept)
        ctx.save_for_backward(*tensors, *kept)

    def differentiate(self, ctx: Any, grads: Sequence[Tensor]) -> tuple[list[Any], list[None]]:
        tensors, kept = list(ctx.saved_tensors[: ctx.count]), list(ctx.saved_tensors[ctx.count :])
        found = self.gradient(list(grads[: self.outputs]), kept, tensors, ctx.numbers, ctx.wanted)
        nothing = [None] * len(ctx.numbers)
        return [grad if want else None for grad, want in zip(found, ctx.wanted, strict=True)], nothing
