"""Regions in which every query has keys of its own, gathered by an index along each axis."""

from __future__ import annotations

from collections.abc import Sequence

from archc.backend.operand import Operand
from archc.ops.base import Code
from archc.records import dataclass
from archc.where.base import Places
from archc.where.emit import query_sizes, spread
from archc.where.local import Local
from archc.where.text import TAP, arrange, bound, then, trailing, tuple_text


@dataclass(frozen=True)
class Single(Local):
    """A local region whose taps are gathered for each query; subclasses say their text along an axis."""

    @property
    def absent(self) -> bool:
        """Whether taps may lie outside the map."""
        return self.rule in ("drop", "zero")

    def queries(self, code: Code, x: Operand, at: Places) -> Operand:
        return arrange(x, at.names, trailing(x, at.names))

    def _arranged(self, code: Code, x: Operand, at: Places) -> tuple[Operand, tuple[str, ...]]:
        """A name for `x` with the axes that the region moves along innermost but for the last."""
        moved = self.axes(at.names)
        ride = tuple(name for name in at.names if name not in moved)
        return bound(code, arrange(x, (*ride, *moved), trailing(x, at.names)), "k"), moved

    def keys(self, code: Code, x: Operand, at: Places) -> Operand:
        last = trailing(x, at.names)
        x, moved = self._arranged(code, x, at)
        shown = x if last else then(x, f"{x}[..., None]", (*x.order, "@last"))
        absent = ", absent=True" if self.absent else ""
        text = f"{code.helper('take_taps')}({shown}, {self.places(code, x, moved)}{absent})"
        order = (*x.order[: len(x.order) - len(last)], TAP, *last)
        y = then(x, text if last else f"{text}[..., 0]", order)
        lead = tuple(name for name in x.order if name not in (*at.names, *last))
        return y.to((*lead, *at.names, TAP, *last))

    def places(self, code: Code, x: Operand, moved: Sequence[str]) -> str:
        """The name of the taps along all moved axes of a map."""
        rows = [
            self.rows(code, place, code.extent(x, name), f"{x}.device", len(moved)) for place, name in enumerate(moved)
        ]
        return code.let(f"[{', '.join(rows)}]", "taps")

    def mask(self, code: Code, k: Operand, at: Places) -> Operand | None:
        if not self.gaps:
            return None
        k, moved = self._arranged(code, k, at)
        sizes = tuple_text([code.extent(k, name) for name in moved])
        valid = code.let(f"{code.helper('taps_inside')}({self.places(code, k, moved)}, {sizes})", "valid")
        mask = Operand(valid, k.type, (*moved, TAP))
        if len(moved) == len(at.names):
            return mask.to((*at.names, TAP))
        return spread(mask, at.names, query_sizes(code, k, at))
