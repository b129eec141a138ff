from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run(checkpointed: bool, module: nn.Module, *args: Tensor) -> Any:
    """Run a module; with gradient checkpointing its activations are recomputed."""
    if checkpointed and torch.is_grad_enabled():
        return checkpoint(module, *args, use_reentrant=False)
    return module(*args)
