"""What a kernel costs, without running it: the busiest of a GPU's units decides.

Memory, matrix units, vector units and special-function units work side by side, so that the time of a launch is bounded
by the one that is busy longest; the bound orders alternatives, and is not a prediction of a time. Rates are those of one
NVIDIA H100 SXM in bfloat16, of which 3.0 TB/s is what copies reach.
"""

from __future__ import annotations

from collections.abc import Iterable

from archc.analysis.conventions import PRODUCTS
from archc.analysis.setting import FLOATS, Setting
from archc.fusion.cores import Stencil
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused
from archc.records import dataclass

BANDWIDTH = 3.0e12  # bytes/s
MATRIX = 800e12  # FLOP/s of the tensor cores that kernels reach
ISSUE = 132 * 128 * 1.755e9  # lanes of instructions a second: streaming multiprocessors x lanes x clock
SPECIAL = 132 * 16 * 1.755e9  # exponentials, reciprocals and roots a second
LIBRARY_SLOTS = 5.0  # instructions of a multiply-add in a depthwise kernel that makes one result at a time
OTHER_SLOTS = 4  # of any other operation, which has its operands to convert
LAUNCH = 2e-6  # s, from the end of a kernel to the work of the next one


@dataclass(frozen=True)
class Work:
    """What an operation does: `bytes` to and from memory, `matrix` FLOPs on tensor cores, `slots` instructions of a lane,
    `special` functions, in `launches` kernels."""

    bytes: int = 0
    matrix: int = 0
    slots: int = 0
    special: int = 0
    launches: int = 1

    @property
    def bounds(self) -> dict[str, float]:
        """Seconds for which each unit is busy."""
        return {
            "memory": self.bytes / BANDWIDTH,
            "matrix units": self.matrix / MATRIX,
            "instructions": self.slots / ISSUE,
            "special functions": self.special / SPECIAL,
        }

    @property
    def seconds(self) -> float:
        return max(self.bounds.values()) + self.launches * LAUNCH


def of_library(steps: Iterable[Apply], setting: Setting) -> tuple[Work, ...]:
    """The operations one after another, each reading its operands and writing its result."""
    return tuple(_of_step(step, setting) for step in steps)


def of_region(region: Fused, setting: Setting, slots: float = 2.0) -> Work:
    """A region as one kernel that reads what goes in and writes what comes out once, at the arithmetic of its steps;
    a multiply-add outside of the matrix units takes it `slots` instructions."""
    works = [_of_step(step, setting, slots) for step in region.steps]
    return Work(region_bytes(region, setting), sum(w.matrix for w in works), sum(w.slots for w in works))


def region_bytes(region: Fused, setting: Setting) -> int:
    """The bytes of what goes in, weights included, and of what comes out."""
    maps = {value.uid: value for value in (*region.inputs, *region.outputs)}
    weights = (w for s in region.steps for w in s.op.weights(*(setting.operand(x) for x in s.inputs)))
    return sum(setting.bytes(v.type) for v in maps.values()) + sum(map(setting.weight_bytes, weights))


def flops_of(steps: Iterable[Apply], setting: Setting) -> int:
    """The FLOPs of the operations, two for a multiply-add."""
    total = 0
    for step in steps:
        xs, ys = setting.sized(step)
        total += 2 * setting.number(step.op.macs(xs, ys)) + setting.number(step.op.flops(xs, ys))
    return total


def _of_step(step: Apply, setting: Setting, slots: float = LIBRARY_SLOTS) -> Work:
    op = step.op
    xs, ys = setting.sized(step)
    if op.is_view(*xs):
        return Work(launches=0)
    maps = {v.uid: v for v in (*values(step.inputs), *step.outputs)}
    moved = sum(setting.bytes(v.type) for v in maps.values()) + sum(map(setting.weight_bytes, op.weights(*xs)))
    moved += 2 * setting.number(op.scratch(xs, ys)) * FLOATS[setting.dtype]
    macs, others = setting.number(op.macs(xs, ys)), setting.number(op.flops(xs, ys))
    dense = op.work() in PRODUCTS and not isinstance(op.core(*xs), Stencil)
    return Work(moved, 2 * macs if dense else 0, int((0 if dense else macs * slots) + others * OTHER_SLOTS))
