"""Scores, what is done to them, their softmax, and the sums of values: the chain that kernels of attention compute."""

from __future__ import annotations

from dataclasses import replace

from archc.fusion.cores import Mixture, Offsets, Scores, Softmax
from archc.fusion.view import View, core_of
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Value
from archc.records import dataclass
from archc.where.text import TAP


@dataclass(frozen=True)
class Attended:
    """The operations at `places` compute attention of `q` to `k` and `v`. `maps` are what the scores are computed with
    besides, `tables` the places of the operations that read some of them, by what they make."""

    places: tuple[int, ...]
    q: Value
    k: Value
    v: Value
    maps: tuple[Value, ...]
    tables: dict[int, int]
    instead: dict[int, Apply]


def attended(view: View, place: int, core: Scores) -> Attended | str:
    """The chain that begins with the scores at `place`, or why there is none."""
    first = view.step(place)
    q, k, *masks = values(first.inputs)
    places, maps, last = [place], list(masks), first.outputs[0]
    tables, instead = dict[int, int](), dict[int, Apply]()
    while True:
        instead |= tables_beside(view, last, q)
        after = view.reader(last, instead)
        if after is None:
            return "its scores have more than one reader"
        step = view.step(after)
        kind = core_of(step)
        places.append(after)
        if isinstance(kind, Softmax) and kind.axis == TAP:
            break
        axes = [(a.name, a.size) for a in last.type.axes]
        if not step.op.follows or [(a.name, a.size) for a in step.outputs[0].type.axes] != axes:
            return f"`{step.op.name}` stands between its scores and their softmax"
        sides = step.op.sides(list(values(step.inputs)))
        side = next(at for at, v in enumerate(sides) if isinstance(v, Value) and v.uid == last.uid)
        if core.over.gaps and not step.op.sinks(side):
            return f"`{step.op.name}` gives taps that are none a score"
        for other in values(step.inputs):
            if other.uid != last.uid:
                maker = view.maker(other)
                kind = None if maker is None else core_of(view.step(maker))
                if maker is not None and isinstance(kind, Offsets) and kind.over == core.over:
                    tables[other.uid] = maker
                maps.append(other)
        last = step.outputs[0]
    weights = view.step(places[-1]).outputs[0]
    final = view.reader(weights)
    if final is None or not isinstance(kind := core_of(view.step(final)), Mixture) or kind.over != core.over:
        return "no sum over the same region follows the softmax"
    w, v, *again = values(view.step(final).inputs)
    if w.uid != weights.uid or again != masks:
        return "no sum over the same region follows the softmax"
    if not riding(q) or any(_shape(x, riding(x)) != _shape(q, riding(q)) for x in (k, v)):
        return "queries, keys and values do not have the same axes besides positions and channels"
    if riding(q)[0] != "B":
        return "there is no batch"
    if any(x.uid == y.uid for at, x in enumerate(maps) for y in maps[:at]):
        return "its scores are computed with one tensor twice"
    return Attended((*places, final), q, k, v, tuple(maps), tables, instead)


def tables_beside(view: View, scores: Value, q: Value) -> dict[int, Apply]:
    """What stands in the place of tables of offsets that read the scores: they do so for the axes only, which the queries
    have too."""
    found = {}
    for user in view.users.get(scores.uid, []):
        table, *like = values(view.step(user).inputs)
        if isinstance(core_of(view.step(user)), Offsets) and table.uid != scores.uid and like == [scores]:
            found[user] = replace(view.step(user), inputs=(table, q))
    return found


def riding(x: Value) -> tuple[str, ...]:
    """The axes of a map that are neither positions nor channels nor taps."""
    return tuple(axis.name for axis in x.type.axes if not axis.is_position and axis.name not in ("C", TAP))


def _shape(x: Value, names: tuple[str, ...]) -> list[object]:
    return [(name, x.type[name].size) for name in names]
