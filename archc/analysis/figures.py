"""What is known of a program after counting: plain figures, as totals and as a tree of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from functools import cached_property

from archc.analysis.conventions import Convention, Counted
from archc.analysis.receptive import Seen
from archc.ir.dataflow import Turn
from archc.ir.graph import Apply, Call, Fused
from archc.ir.program import Program
from archc.records import dataclass


@dataclass(frozen=True)
class Figures:
    """What is counted: whole numbers, bytes where the name says so.

    `params` and `buffers` are elements; `others` are the operations besides the multiply-adds; `moved_bytes`
    are what operations read and write; `kept_bytes` what training keeps for the backward pass; `peak_bytes`
    an estimate of the most that is held at once in inference, the inputs included.
    """

    params: int = 0
    buffers: int = 0
    macs: int = 0
    others: int = 0
    moved_bytes: int = 0
    kept_bytes: int = 0
    peak_bytes: int = 0

    @property
    def flops(self) -> int:
        return 2 * self.macs + self.others

    @property
    def intensity(self) -> float | None:
        """FLOPs for each byte moved."""
        return self.flops / self.moved_bytes if self.moved_bytes else None


@dataclass(frozen=True)
class Row:
    """A stage, block, turn or operation: the figures of one copy, of which there are `count`.

    `kind` is op, turn, loop's keyword or the role of the component; `what` the operation or component;
    `shape` the first result's. `sets` is how many sets of weights the copies have: one for a loop, none where
    the weights are those of an earlier row. `receptive` is what an element of the result sees of each input's
    axis, in the last copy.
    """

    name: str
    kind: str
    what: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    figures: Figures
    receptive: Seen
    count: int = 1
    sets: int = 1
    children: tuple[Row, ...] = ()

    @property
    def macs(self) -> int:
        """MACs of all copies."""
        return self.figures.macs * self.count

    @property
    def params(self) -> int:
        """Parameters of all copies, each counted where it stands first."""
        return self.figures.params * self.sets


@dataclass(frozen=True)
class Part:
    """A step with its figures: an operation or several that are fused (`counted` has the exact ones of each), or a call
    and its parts."""

    step: Apply | Fused | Call | Turn
    figures: Figures
    counted: tuple[Counted, ...] = ()
    inner: tuple[Part, ...] = ()
    shared: bool = False

    @property
    def call(self) -> Apply | Fused | Call:
        return self.step.call if isinstance(self.step, Turn) else self.step


@dataclass(frozen=True)
class Cost:
    """The figures of a program. `reported` is the total that the convention's tool or table would print."""

    program: Program = field(repr=False)
    sizes: Mapping[str, int]
    dtype: str
    training: bool
    convention: Convention
    figures: Figures
    weight_bytes: int
    reported: int
    parts: tuple[Part, ...] = field(repr=False)
    make_rows: Callable[[], tuple[Row, ...]] = field(repr=False, compare=False)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The breakdown, made when it is first asked for."""
        return self.make_rows()

    def total(self, each: Callable[[Part], float]) -> float:
        """The sum of `each` over all operations and fused regions, as often as they run."""
        known: dict[int, float] = {}

        def add(parts: tuple[Part, ...]) -> float:
            if id(parts) not in known:
                known[id(parts)] = sum(each(p) if p.counted else add(p.inner) for p in parts)
            return known[id(parts)]

        return add(self.parts)

    def under(self, convention: Convention) -> int:
        """What another convention would report."""
        macs = self.total(lambda p: sum(convention.weigh(counted)[0] for counted in p.counted))
        others = self.total(lambda p: sum(convention.weigh(counted)[1] for counted in p.counted))
        return convention.total(int(macs), int(others))
