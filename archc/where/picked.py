"""Regions that carry tensors: taps named by an index, and taps taken away by a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.types import Axis, TensorType
from archc.ops.base import Check, Code, OpError, Reach, arg
from archc.ops.checks import numbered_alike
from archc.ops.emission import meet
from archc.records import dataclass
from archc.sizes import Size
from archc.where.base import NoCourse, Piece, Places, Region
from archc.where.text import TAP, arrange, then, trailing

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


def type_of(x: Any) -> TensorType:
    return x if isinstance(x, TensorType) else x.type


@dataclass(frozen=True)
class Picked(Region):
    """The keys that an index names: k(i, u) = index[i, u], a flat position among the keys.

    `index` is a tensor of whole numbers with the positions of the queries (or some of them), `tap`, and
    whatever rides along. Every index must be a position of the keys.
    """

    name: ClassVar[str] = "picked"
    local: ClassVar[bool] = False
    gaps: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride, reportAssignmentType]
    index: Any = arg("any")

    @property
    def tensors(self) -> tuple[Any, ...]:
        return (self.index,)

    def axes(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(names)

    def queried(self, k: Sequence[Axis], extra: Sequence[Any] = ()) -> tuple[Axis, ...]:
        return type_of(extra[0]).positions if extra else ()

    def check(self, check: Check, at: Places) -> None:
        if len(at.extra) != 1 or not hasattr(type_of(at.extra[0]), "axes"):
            raise OpError("`picked` takes a tensor of indices", "E0206", argument="over")
        index = type_of(at.extra[0])
        if index.dtype != "int" or TAP not in index:
            raise OpError(
                f"the index of `picked` holds whole numbers and has an axis `{TAP}`, and this is {index}",
                "E0305" if TAP in index else "E0302",
                argument="over",
                help=f'`rename(index, M="{TAP}")` names the axis of the picked keys',
            )
        if not at.k:
            raise OpError("`picked` needs keys with a position axis", "E0302", argument="over")
        for axis in index.positions:
            query = next((a for a in at.q if a.name == axis.name), None)
            if query is None:
                raise OpError(
                    f"the index of `picked` lies on {axis.name}, and the queries on [{', '.join(at.names)}]",
                    "E0301",
                )
            check.equal(axis.size, query.size, f"queries and index of `picked` must have the same {axis.name}")

    def pieces(self, at: Places) -> tuple[Piece, ...]:
        raise NoCourse("its keys are named by a tensor")

    def taps(self, at: Places) -> Size:
        return type_of(at.extra[0])[TAP].size

    def numbered(self, at: Places) -> tuple[str, ...]:
        return type_of(at.extra[0])[TAP].order

    def count(self, code: Code, k: Operand, at: Places) -> str:
        return code.extent(at.extra[0], TAP)

    def taken(self, run: Run, x: Named, at: Places) -> Iterator[tuple[Named, Named]]:
        torch, index = run.torch, at.extra[0]
        keys = [axis.name for axis in at.k]
        data = x.last(*keys)
        rest = tuple(name for name in x.names if name not in keys)
        data = data.reshape(*data.shape[: len(rest)], -1)
        places = index.last(TAP)
        own = tuple(name for name in index.names if name != TAP)
        true = run.named(torch.ones((), dtype=torch.bool), ())
        for u in range(places.shape[-1]):
            # The index broadcasts against what rides along in x: one key after the other is compared.
            total, names = 0, rest
            for place in range(data.shape[-1]):
                (value, at_place), names = run.align(run.named(data[..., place], rest), run.named(places[..., u], own))
                total = total + value * (at_place == place)
            yield run.named(total, names), true

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        raise OpError("`relative` is not defined for picked keys", "E0213", argument="over")

    # ---- PyTorch

    def queries(self, code: Code, x: Operand, at: Places) -> Operand:
        return arrange(x, at.names, trailing(x, at.names))

    def keys(self, code: Code, x: Operand, at: Places) -> Operand:
        from archc.where.emit import leads, lift

        keys = tuple(axis.name for axis in at.k)
        last = trailing(x, keys)
        x = arrange(x, keys, last)
        lead = x.order[: len(x.order) - len(keys) - len(last)]
        if len(keys) > 1:
            x = then(x, f"{x.atom}.flatten({len(lead)}, {len(lead) + len(keys) - 1})", (*lead, "@keys", *last))
        if not last:
            x = then(x, f"{x.atom}[..., None]", (*x.order, "@last"))
        index = arrange(at.extra[0].merged(code), [n for n in at.names if n in at.extra[0].type], (TAP,))
        own = [n for n in at.names if n in index.order]
        both = leads(x, index, 2, len(own) + 1)
        x, index = lift(x, both, 2), lift(index, both, len(own) + 1)
        text = f"{code.helper('picked_taps')}({x}, {index}, {len(own)})"
        y = then(x, text, (*both, *own, TAP, x.order[-1]))
        if not last:
            y = then(y, f"{y.atom}[..., 0]", y.order[:-1])
        missing = [n for n in at.names if n not in own]
        if missing:
            order = (*both, *at.names, TAP, *last)
            steps = ", ".join("None" if n in missing else ":" for n in order)
            y = then(y, f"{y.atom}[{steps}]", order)
        return y


@dataclass(frozen=True)
class Restricted(Region):
    """R's taps, none where the mask is false. The mask is bool over `tap` and axes of the scores."""

    name: ClassVar[str] = "&"
    region: Region
    allowed: Any

    @property
    def tensors(self) -> tuple[Any, ...]:
        return (*self.region.tensors, self.allowed)

    @property
    def local(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.region.local

    @property
    def gaps(self) -> bool:
        return True

    def _inner(self, at: Places) -> Places:
        return at.carrying(at.extra[:-1])

    def axes(self, names: Sequence[str]) -> tuple[str, ...]:
        return self.region.axes(names)

    def queried(self, k: Sequence[Axis], extra: Sequence[Any] = ()) -> tuple[Axis, ...]:
        return self.region.queried(k, extra[:-1])

    def keyed(self, q: Sequence[Axis]) -> tuple[Axis, ...]:
        return self.region.keyed(q)

    def check(self, check: Check, at: Places) -> None:
        if not at.extra or not hasattr(type_of(at.extra[-1]), "axes"):
            raise OpError("`&` takes a region and a mask", "E0206", argument="over")
        mask = type_of(at.extra[-1])
        if mask.dtype != "bool" or TAP not in mask:
            raise OpError(
                f"the mask of a region is bool and has an axis `{TAP}`, and this is {mask}",
                "E0302" if mask.dtype == "bool" else "E0305",
                argument="over",
            )
        self.region.check(check, self._inner(at))
        check.equal(mask[TAP].size, self.taps(at), "the mask has one truth value for each tap of the region")
        numbered_alike(mask[TAP], replace(mask[TAP], order=self.numbered(at)), "mask and region of `&`")
        for axis in mask.positions:
            query = next((a for a in at.q if a.name == axis.name), None)
            if query is None:
                raise OpError(
                    f"the mask of a region lies on {axis.name}, and the queries on [{', '.join(at.names)}]",
                    "E0301",
                )
            check.equal(axis.size, query.size, f"queries and mask must have the same {axis.name}")

    def pieces(self, at: Places) -> tuple[Piece, ...]:
        """Those of the region: its mask is the kernel's to read."""
        return self.region.pieces(self._inner(at))

    def taps(self, at: Places) -> Size:
        return self.region.taps(self._inner(at))

    @property
    def copies(self) -> bool:
        return self.region.copies

    def gathered(self, at: Places) -> Size:
        return self.region.gathered(self._inner(at))

    def numbered(self, at: Places) -> tuple[str, ...]:
        return self.region.numbered(self._inner(at))

    def count(self, code: Code, k: Operand, at: Places) -> str:
        return self.region.count(code, k, self._inner(at))

    def reach(self, at: Places, axis: str) -> Reach | None:
        return self.region.reach(self._inner(at), axis)

    def taken(self, run: Run, x: Named, at: Places) -> Iterator[tuple[Named, Named]]:
        allowed = at.extra[-1].last(TAP)
        own = tuple(name for name in at.extra[-1].names if name != TAP)
        for u, (value, there) in enumerate(self.region.taken(run, x, self._inner(at))):
            (a, b), names = run.align(there, run.named(allowed[..., u], own))
            yield value, run.named(a & b, names)

    def span(self, at: Places) -> tuple[tuple[Size, Size], ...]:
        return self.region.span(self._inner(at))

    def offsets(self, run: Run, at: Places) -> Any:
        return self.region.offsets(run, self._inner(at))

    # ---- PyTorch

    def scores(self, code: Code, q: Operand, k: Operand, at: Places) -> Operand:
        s = self.region.scores(code, q, k, self._inner(at))
        s, mask = meet(code, (s, at.extra[-1]))
        return replace(s, text=f'{s.atom}.masked_fill(~{mask.atom}, float("-inf"))', binding=ATOM)

    def mix(self, code: Code, w: Operand, v: Operand, at: Places) -> Operand:
        axes = {axis.name: axis for type in (w.type, type_of(at.extra[-1])) for axis in type.axes}
        w, mask = meet(code, (w, at.extra[-1]))
        w = replace(w, text=f"{w.atom}.where({mask}, 0.0)", binding=ATOM, type=w.type.with_axes(axes.values()))
        return self.region.mix(code, w, v, self._inner(at))

    def look(self, code: Code, x: Operand, at: Places) -> Operand:
        y, mask = meet(code, (self.region.look(code, x, self._inner(at)), at.extra[-1]))
        return replace(y, text=f"{y.atom}.masked_fill(~{mask.atom}, 0)", binding=ATOM)

    def bias(self, code: Code, table: Operand, at: Places, sizes: dict[str, str], centre: str | None) -> Operand:
        return self.region.bias(code, table, self._inner(at), sizes, centre)
