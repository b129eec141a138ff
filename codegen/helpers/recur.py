import torch
from torch import Tensor


def _scan(decay: Tensor, update: Tensor, dim: int, reverse: bool) -> Tensor:
    """h[t] = decay[t] h[t-1] + update[t], one step after the other."""
    wide = update.float() if update.dtype in (torch.float16, torch.bfloat16) else update
    steps = list(zip(decay.to(wide.dtype).unbind(dim), wide.unbind(dim)))
    states: list[Tensor] = []
    for d, u in reversed(steps) if reverse else steps:
        states.append(u if not states else torch.addcmul(u, d, states[-1]))
    if not states:
        return update.clone()
    return torch.stack(states[::-1] if reverse else states, dim).to(update.dtype)


def _shifted(x: Tensor, dim: int, reverse: bool) -> Tensor:
    """The tensor one step later along the path, with a zero first."""
    n, zero = x.shape[dim], torch.zeros_like(x.narrow(dim, 0, min(1, x.shape[dim])))
    if reverse:
        return torch.cat([x.narrow(dim, min(1, n), n - min(1, n)), zero], dim)
    return torch.cat([zero, x.narrow(dim, 0, n - min(1, n))], dim)


def _define_recur() -> None:
    """Make torch.ops.archc.recur, unless another file of this process has."""
    if hasattr(torch.ops.archc, "recur"):
        return

    def forward(decay: Tensor, update: Tensor, dim: int, reverse: bool) -> Tensor:
        return _scan(decay, update, dim, reverse)

    def fake(decay: Tensor, update: Tensor, dim: int, reverse: bool) -> Tensor:
        return torch.empty_like(update, memory_format=torch.contiguous_format)

    def setup(ctx, inputs, output) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.dim, ctx.reverse = inputs[2], inputs[3]

    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        decay, states = ctx.saved_tensors
        dim, reverse = ctx.dim, ctx.reverse
        later = _shifted(decay, dim, not reverse)
        g = torch.ops.archc.recur(later, grad.contiguous(), dim, not reverse)
        wide = torch.float32 if g.dtype in (torch.float16, torch.bfloat16) else g.dtype
        product = g.to(wide) * _shifted(states, dim, reverse).to(wide)
        return product.sum_to_size(decay.shape).to(decay.dtype), g, None, None

    schema = "(Tensor decay, Tensor update, int dim, bool reverse) -> Tensor"
    op = torch.library.custom_op(
        "archc::recur", forward, mutates_args=(), schema=schema
    )
    op.register_fake(fake)
    op.register_autograd(backward, setup_context=setup)


def recur(decay: Tensor, update: Tensor, dim: int, reverse: bool = False) -> Tensor:
    """All states of h[t] = decay[t] h[t-1] + update[t] along `dim`, from h = 0.

    `decay` may have size 1 where `update` has more. Half types accumulate in float32.
    """
    dtype = torch.promote_types(decay.dtype, update.dtype)
    if decay.shape[dim] != update.shape[dim]:
        shape = [-1] * decay.ndim
        shape[dim] = update.shape[dim]
        decay = decay.expand(shape)
    return torch.ops.archc.recur(decay.to(dtype), update.to(dtype), dim, reverse)


_define_recur()
