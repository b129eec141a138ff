"""A bound on time: no operation is faster than its arithmetic at the peak rate, or its bytes at the full
bandwidth.

It is a bound and not a prediction: launches, caches, shapes that fit a unit badly and everything but the
graph's own operations are left out. Fusion can beat it where it saves the bytes between operations.
"""

from __future__ import annotations

from collections.abc import Mapping

from archc.analysis.figures import Cost, Part
from archc.records import dataclass


@dataclass(frozen=True)
class Device:
    """Peak rates in FLOP/s, dense, by element type: `matrix` for multiply-adds, `vector` for the rest;
    `bandwidth` in bytes/s."""

    name: str
    matrix: Mapping[str, float]
    vector: Mapping[str, float]
    bandwidth: float


def _device(name: str, half: float, single: float, double: float, vector: float, bandwidth: float) -> Device:
    matrix = {"float16": half, "bfloat16": half, "float32": single, "float64": double}
    slow = min(vector, double)
    return Device(name, matrix, {**dict.fromkeys(matrix, vector), "float64": slow}, bandwidth)


# From the vendors' data sheets; float32 without TF32, tensor cores without sparsity, at the boost clock.
DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        _device("a100-80gb-sxm", 312e12, 19.5e12, 19.5e12, 19.5e12, 2.039e12),
        _device("h100-sxm", 989.4e12, 66.9e12, 66.9e12, 66.9e12, 3.35e12),
        _device("l4", 121e12, 30.3e12, 0.47e12, 30.3e12, 0.3e12),
        _device("rtx-4090", 165.2e12, 82.6e12, 1.29e12, 82.6e12, 1.008e12),
        # Eight cores at 3 GHz with two 256-bit multiply-add units, two channels of DDR5-4800.
        _device("laptop-cpu", 0.768e12, 0.768e12, 0.384e12, 0.768e12, 0.0768e12),
    )
}


def seconds(cost: Cost, device: Device) -> float:
    """The least time of a forward pass, operation by operation."""
    matrix, vector, bandwidth = device.matrix[cost.dtype], device.vector[cost.dtype], device.bandwidth

    def least(part: Part) -> float:
        arithmetic = sum(2 * exact.macs / matrix + exact.others / vector for exact in part.counted)
        return max(arithmetic, part.figures.moved_bytes / bandwidth)

    return cost.total(least)
