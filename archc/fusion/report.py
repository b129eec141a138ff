"""What became of the operations that kernels could compute: each fused region with its bytes and FLOPs before and after,
and for what is not fused the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from archc.analysis.setting import Setting
from archc.fusion.cost import flops_of, of_library, region_bytes
from archc.fusion.families import family
from archc.fusion.plan import Region, calls
from archc.ir.program import Program
from archc.records import dataclass


@dataclass(frozen=True)
class Entry:
    """Regions of one text: the component that they stand in, its operations, and how often they run in a forward pass.

    Bytes and FLOPs are those of all runs: of the operations one by one (`before`), and of the fused operator (`after`).
    Where `why` says why nothing is fused, the two are the same.
    """

    component: str
    operations: str
    kernel: str
    runs: int
    bytes_before: int
    bytes_after: int
    flops_before: int
    flops_after: int
    why: str = ""


def entries(program: Program, regions: Sequence[Region], setting: Setting) -> tuple[Entry, ...]:
    """The regions of `program`, which is not fused yet, at the sizes of `setting`; those of one text are one entry, in
    the order in which they run first."""
    runs = calls(program, setting)
    found: dict[tuple[object, ...], list[Entry]] = {}
    for region in regions:
        times = runs[id(region.template)]
        if not times:
            continue
        before = sum(work.bytes for work in of_library(region.steps, setting))
        flops = flops_of(region.steps, setting)
        after, done = before, flops
        if region.fused is not None:
            after = region_bytes(region.fused, setting)
            done = flops + family(region.family).extra_flops(region.fused, setting)
        entry = Entry(
            region.template.name, operations(region), region.family, times, times * before, times * after, times * flops,
            times * done, region.why,
        )  # fmt: skip
        found.setdefault((region.core, *(s.span for s in region.steps), region.family, region.why), []).append(entry)
    return tuple(_together(same) for same in found.values())


def operations(region: Region) -> str:
    """The core in the family's word, the operations around it by name; one that is left alone by its own."""
    words = family(region.family).words(region.core, region.steps)
    alone = region.fused is None and len(region.steps) == 1 and region.steps[0].op.follows
    return region.steps[0].op.name if alone else " + ".join(words)


def _together(same: list[Entry]) -> Entry:
    names = ("runs", "bytes_before", "bytes_after", "flops_before", "flops_after")
    return replace(same[0], **{name: sum(getattr(entry, name) for entry in same) for name in names})
