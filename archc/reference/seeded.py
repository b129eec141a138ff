"""Deterministic tensors: two programs hold the same weights without shipping a file."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from archc.diagnostics import fail
from archc.ir.program import Program
from archc.ops.base import Weight
from archc.weights.keys import state_dict

if TYPE_CHECKING:
    import numpy

Shape = tuple[int, ...]


def tensor_values(key: str, shape: Shape) -> numpy.ndarray:
    """What the tensor `key` holds, in float64: a function of its key and shape alone.

    Vectors named weight or scale lie around 1, other vectors and scalars around 0, variances between 0.5 and
    1.5; anything else is normal with the variance 1 / fan-in, so that activations keep their size through any
    depth.
    """
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    leaf = key.rpartition(".")[2]
    if leaf == "running_var":
        return np.asarray(rng.uniform(0.5, 1.5, shape))
    draw = rng.standard_normal(shape)
    if len(shape) <= 1:
        return np.asarray(1.0 + 0.1 * draw if leaf in ("weight", "scale") else 0.1 * draw)
    return draw / np.sqrt(max(math.prod(shape[1:]), 1))


def input_values(seed: int, shape: Shape) -> numpy.ndarray:
    """A standard normal input in float64."""
    import numpy as np

    return np.asarray(np.random.Generator(np.random.PCG64(seed)).standard_normal(shape))


def seeded_weights(program: Program) -> dict[str, Any]:
    """Weights for a test, as float64 torch tensors by state-dict key; counters are 0."""
    return seeded(state_dict(program))


def seeded(weights: Mapping[str, Weight]) -> dict[str, Any]:
    """The same for any weights by key."""
    import torch

    result = {}
    for key, weight in weights.items():
        if weight.dtype == "float" and weight.kind != "counter":
            result[key] = torch.from_numpy(tensor_values(key, weight.shape))
        else:
            dtype = torch.bool if weight.dtype == "bool" else torch.int64
            result[key] = torch.zeros(weight.shape, dtype=dtype)
    return result


def table(weight: Weight) -> Any:
    """A tensor that is never saved, as its text makes it. Raises ArchError E0622 where that is random."""
    import torch

    dtype = {"float": torch.float64, "int": torch.int64, "bool": torch.bool}[weight.dtype]
    match weight.init.kind:
        case "fill":
            return torch.full(weight.shape, weight.init.args[0].value, dtype=dtype)
        case "zeros":
            return torch.zeros(weight.shape, dtype=dtype)
        case "ones":
            return torch.ones(weight.shape, dtype=dtype)
        case "eye":
            return torch.eye(*weight.shape, dtype=dtype)
    raise fail(
        "E0622",
        f"`{weight.name}` is neither saved nor the same in every build: it starts as {weight.init.kind}",
    )
