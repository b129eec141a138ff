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
    triton = None


def jit(kernel: Callable[..., Any]) -> Any:
    """A Triton kernel, or a function that kernels call; None where there is no triton."""
    return None if triton is None else triton.jit(kernel)


def uses_kernels(x: Tensor) -> bool:
    """Whether fused kernels run where `x` is: on GPUs, and in Triton's interpreter; never with ARCHC_KERNELS=0."""
    if triton is None or os.environ.get("ARCHC_KERNELS") == "0":
        return False
    return x.is_cuda or (x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1")


class FusedOp:
    """An operator that kernels compute, forward and backward, beside the same in plain PyTorch (`torch_path`).

    Subclasses have `forward(x, weight, operands)` and `backward(dy, x, weight, operands)`, the gradients of all three;
    `shape(x, weight)` of the result; and `flops(x_shape, weight_shape)`.
    """

    def __init__(self, name: str, torch_path: Callable[..., Tensor]) -> None:
        self.torch_path = torch_path
        inputs = "Tensor x, Tensor weight, Tensor[] operands"
        self.op = torch.library.custom_op(name, self.forward, mutates_args=(), schema=f"({inputs}) -> Tensor")
        self.op.register_fake(self.result)
        self.gradient = torch.library.custom_op(
            f"{name}_backward", self.backward, mutates_args=(), schema=f"(Tensor dy, {inputs}) -> Tensor[]"
        )
        self.gradient.register_fake(lambda dy, x, weight, operands: [torch.empty_like(t) for t in (x, weight, *operands)])
        self.op.register_autograd(self.differentiate, setup_context=self.save)
        packet = getattr(getattr(torch.ops, name.split("::")[0]), name.split("::")[1])
        register_flop_formula(packet)(lambda x, weight, *_, **__: self.flops(x, weight))

    def __call__(self, x: Tensor, weight: Tensor, *operands: Tensor) -> Tensor:
        if not uses_kernels(x):
            return self.torch_path(x, weight, *operands)
        if not torch.compiler.is_compiling() and forward_ad._current_level >= 0:
            raise NotImplementedError(f"{self.op._qualname} has no forward-mode derivative: set ARCHC_KERNELS=0")
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        return self.op(x, weight, list(operands))

    def result(self, x: Tensor, weight: Tensor, operands: Sequence[Tensor]) -> Tensor:
        """Room for the result."""
        return x.new_empty(self.shape(x, weight))

    def save(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, operands = inputs
        ctx.save_for_backward(x, weight, *operands)

    def differentiate(self, ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        x, weight, *operands = ctx.saved_tensors
        dx, dw, *rest = self.gradient(dy, x, weight, operands)
        return dx, dw, rest
