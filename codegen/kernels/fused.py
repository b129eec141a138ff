import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula

try:
    triton: Any = import_module("triton")
    tl: Any = import_module("triton.language")
except ImportError:  # everything runs on its PyTorch path
    triton = tl = None

WARPS_OF_LARGE_TILES = 4 if torch.version.hip else 8  # AMD's are as wide as two, and eight leave each half the registers


def jit(kernel: Callable[..., Any]) -> Any:
    """A Triton kernel, or a function that kernels call; as it is where there is no triton."""
    return kernel if triton is None else triton.jit(kernel)


def uses_kernels(x: Tensor) -> bool:
    """Whether fused kernels run where `x` is: on GPUs, and in Triton's interpreter; never with ARCHC_KERNELS=0."""
    if triton is None or os.environ.get("ARCHC_KERNELS") == "0":
        return False
    return x.is_cuda or (x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1")


def transformed() -> bool:
    """Whether functions are being transformed (torch.func, forward-mode differentiation): those see through PyTorch."""
    if torch.compiler.is_compiling():
        return False
    return forward_ad._current_level >= 0 or torch._C._functorch.peek_interpreter_stack() is not None


def promoted(*tensors: Tensor) -> torch.dtype:
    """The element type that torch gives to what it computes of some maps."""
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def unpacked(given: Sequence[Any]) -> list[Any]:
    """What an operator is called with, the weights of modules in their places."""
    items: list[Any] = []
    for item in given:
        if isinstance(item, nn.Module):
            bias = getattr(item, "bias", None)
            items += [item.weight] if bias is None else [item.weight, bias]
        else:
            items.append(item)
    return items


class FusedOp:
    """An operator that kernels compute, forward and backward, beside the same in plain PyTorch (`torch_path`).

    It takes tensors, or modules that own a weight and maybe a bias, then numbers. Subclasses have `forward`, which gives the
    results and then what the backward pass needs besides; `backward`, the gradients of the tensors, in the memory order of
    `room`; `results`, room for what `forward` gives; and `flops`. Under autocast the first `cast` tensors are cast, as the
    library's products cast theirs.
    """

    outputs = 1  # how many of what `forward` gives are results
    keeps_results = False  # whether the backward pass needs the results too, which are the first of what is kept then
    cast = 1

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
        self.op.register_vmap(self.one_by_one)
        space, word = name.split("::")
        operators = getattr(torch.ops, space)
        register_flop_formula(getattr(operators, word))(lambda *given, **_: self.flops(*given))
        register_flop_formula(getattr(operators, f"{word}_backward"))(
            lambda grads, kept, *given, **_: self.backward_flops(*given)
        )

    def __call__(self, *given: Any) -> Any:
        given = tuple(unpacked(given))
        tensors = [item for item in given if isinstance(item, Tensor)]
        device = tensors[0].device.type
        numbers = [float(number) for number in given[len(tensors) :]]
        exact = any(tensor.dtype == torch.float64 for tensor in tensors)  # kernels make their sums in float32
        if exact or not uses_kernels(tensors[0]) or transformed() or not self.suits(tensors, numbers):
            return self.torch_path(*given)
        if torch.is_autocast_enabled(device):
            low = torch.get_autocast_dtype(device)
            tensors = self.lowered(tensors, low)
        made = self.op(tensors, numbers)
        return made[0] if self.outputs == 1 else tuple(made[: self.outputs])

    # ---- what subclasses say

    def suits(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> bool:
        """Whether kernels compute it for these sizes at least as fast as the library."""
        return True

    def lowered(self, tensors: Sequence[Tensor], low: torch.dtype) -> list[Tensor]:
        """The tensors under autocast to `low`."""
        return [t.to(low) if at < self.cast and t.is_floating_point() else t for at, t in enumerate(tensors)]

    def forward(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        raise NotImplementedError

    def backward(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        raise NotImplementedError

    def results(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> list[Tensor]:
        raise NotImplementedError

    def flops(self, shapes: Sequence[Sequence[int]], numbers: Sequence[float]) -> int:
        """From the shapes of the tensors: two for a multiply-add of a product, as torch counts."""
        raise NotImplementedError

    def backward_flops(
        self, shapes: Sequence[Sequence[int]], numbers: Sequence[float], wanted: Sequence[bool]
    ) -> int:
        """A product has one for each of its sides; what is computed again is not counted."""
        return 2 * self.flops(shapes, numbers)

    def room(self, tensor: Tensor) -> Tensor:
        """Room for the gradient of a tensor."""
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)

    # ---- autograd and vmap

    def kept(self, output: list[Tensor]) -> list[Tensor]:
        """What the backward pass is given of what `forward` gives."""
        return output if self.keeps_results else output[self.outputs :]

    def gradients(
        self, grads: Sequence[Tensor], kept: Sequence[Tensor], tensors: Sequence[Tensor], numbers: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        """Room for the gradients of the tensors; empty for those that nobody wants."""
        return [self.room(t) if want else t.new_empty(0) for t, want in zip(tensors, wanted, strict=True)]

    def save(self, ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        tensors, ctx.numbers = inputs
        ctx.count, ctx.wanted = len(tensors), [t.requires_grad for t in tensors]
        ctx.mark_non_differentiable(*output[self.outputs :])
        ctx.save_for_backward(*tensors, *self.kept(output))

    def differentiate(self, ctx: Any, grads: Sequence[Tensor]) -> tuple[list[Any], list[Any] | None]:
        saved = list(ctx.saved_tensors)
        tensors, kept = saved[: ctx.count], saved[ctx.count :]
        found = self.gradient(list(grads[: self.outputs]), kept, tensors, ctx.numbers, ctx.wanted)
        # torch wants no numbers' gradients as None, but an empty list for no numbers.
        nothing = None if ctx.numbers else []
        return [grad if want else None for grad, want in zip(found, ctx.wanted, strict=True)], nothing

    def one_by_one(
        self, info: Any, in_dims: tuple[Any, ...], tensors: Sequence[Tensor], numbers: Sequence[float]
    ) -> tuple[list[Tensor], list[int]]:
        """vmap: a launch for each item."""
        dims = in_dims[0] or [None] * len(tensors)

        def item(at: int) -> list[Tensor]:
            return [t if d is None else t.select(d, at) for t, d in zip(tensors, dims, strict=True)]

        made = [self.op(item(at), numbers) for at in range(info.batch_size)]
        results = [torch.stack(list(same)) for same in zip(*made, strict=True)]
        return results, [0] * len(results)
