"""What torch itself sees of memory: the tensors that autograd saves, the storages that are alive at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def storages(tensors: Sequence[Tensor]) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in tensors}


def weights(net: nn.Module) -> set[int]:
    return storages([*net.parameters(), *net.buffers()])


def kept_bytes(run: Callable[[], Any], weights: set[int]) -> int:
    """The bytes that autograd saves while `run` runs, each storage once, those of `weights` left out."""
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            # The storage is held, so that no other one gets its number.
            found[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    total = sum(storage.nbytes() for storage in found.values())
    del result
    return total


class Peak(TorchDispatchMode):
    """`high` is the most bytes of storages that are alive at once, `given` among them and `weights` left out."""

    def __init__(self, given: Sequence[Tensor], weights: set[int]) -> None:
        super().__init__()
        self.weights, self.alive = weights, {}
        self.now = self.high = 0
        self._see(given)

    def _see(self, tensors: Sequence[Any]) -> None:
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.weights and key not in self.alive:
                self.alive[key] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._end, key)
        self.high = max(self.high, self.now)

    def _end(self, key: int) -> None:
        self.now -= self.alive.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._see(tree_leaves(result))
        return result


def peak_bytes(run: Callable[[], Any], given: Sequence[Tensor], weights: set[int]) -> int:
    with torch.no_grad(), Peak(given, weights) as watch:
        result = run()
    del result
    return watch.high
