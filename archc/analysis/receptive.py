"""What each value sees of the inputs, along every position axis: a window of positions, or all of them.

Windows are affine: position p sees `stride * p + low` to `stride * p + high`, edges not cut off. They
compose, so a template is looked at once and then placed wherever it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import floor

from archc.analysis.setting import Setting
from archc.ir.dataflow import Same, Turn, single, steps, values
from archc.ir.graph import Apply, Operand, Template, Value
from archc.ir.program import Input
from archc.ops.base import Reach
from archc.records import dataclass

# What a value sees, by (number of the input, axis of the input); None is all of it.
View = Mapping[tuple[int, str], Reach | None]
Views = dict[int, View]


@dataclass(frozen=True)
class Extent:
    """How many positions of an input's axis an element sees, None for all. `exact` is False for a bound."""

    input: str
    axis: str
    size: int | None
    exact: bool

    def __str__(self) -> str:
        return "all" if self.size is None else f"{'' if self.exact else '<='}{self.size}"


Seen = tuple[Extent, ...]


def extents(view: View, inputs: Sequence[Input]) -> Seen:
    """A view in the words of the model's inputs."""
    return tuple(
        Extent(inputs[number].name, axis, None if reach is None else floor(reach.high - reach.low) + 1,
               reach is None or reach.exact)
        for (number, axis), reach in view.items()
    )  # fmt: skip


class Flow:
    """Views of values under one setting; what templates do to views is found once for each."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._transfers: dict[int, tuple[Template, tuple[View, ...]]] = {}

    def start(self, number: int, value: Value) -> View:
        """Input number `number` sees itself."""
        return {(number, axis.name): Reach(axis.name) for axis in value.type.axes if axis.is_position}

    def transfer(self, template: Template) -> tuple[View, ...]:
        """What each result of a template sees of its inputs."""
        known = self._transfers.get(id(template))
        if known is None:
            begin = {value.uid: self.start(number, value) for number, value in enumerate(template.inputs)}
            views = self.through(template, begin)
            known = self._transfers[id(template)] = (
                template,
                tuple(views.get(v.uid, {}) for v in template.outputs),
            )
        return known[1]

    def through(self, template: Template, views: Views) -> Views:
        """The views of all values in the body of a template, from those of its inputs."""
        views = dict(views)
        for step in single(steps(template.body, self.setting.decider(template))):
            if isinstance(step, Same):
                views[step.target.uid] = _renamed(views.get(step.source.uid, {}), step.source, step.target)
                continue
            call = step.call if isinstance(step, Turn) else step
            if isinstance(call, Apply):
                view = self._applied(call, views)
                views |= {value.uid: view for value in call.outputs}
                continue
            given = [
                _renamed(views.get(outside.uid, {}), outside, inside)
                for outside, inside in zip(values(call.inputs), call.template.inputs, strict=True)
            ]
            for value, inner, known in zip(
                call.outputs, self.transfer(call.template), call.template.outputs, strict=True
            ):
                parts = (_through(reach, given[number], axis) for (number, axis), reach in inner.items())
                views[value.uid] = _renamed(self._union(parts, known), known, value)
        return views

    def _applied(self, apply: Apply, views: Views) -> View:
        xs = [self.setting.operand(x) for x in apply.inputs]
        ys = [self.setting.type(y.type) for y in apply.outputs]
        flat = list(_flat(apply.inputs))
        types = [self.setting.type(value.type) for _, value in flat]
        parts = []
        for number, (place, value) in enumerate(flat):
            view = views.get(value.uid)
            if not view:
                continue
            given = xs if not isinstance(xs[place], tuple) else [*xs[:place], types[number], *xs[place + 1 :]]
            moves = {
                axis.name: apply.op.reach(axis.name, place, given, ys) for axis in types[number].positions
            }
            parts.append(
                {key: None if r is None else _after(moves.get(r.axis), r) for key, r in view.items()}
            )
        return self._union(parts, apply.outputs[0]) if parts else {}

    def _union(self, parts: Iterable[View], value: Value) -> View:
        """What several operands see together."""
        type = self.setting.type(value.type)
        total: dict[tuple[int, str], Reach | None] = {}
        for part in parts:
            for key, reach in part.items():
                if key not in total:
                    total[key] = reach
                    continue
                other = total[key]
                length = type[other.axis].size.constant if other is not None and other.axis in type else None
                total[key] = _joined(other, reach, length or 1)
        return total


def _flat(operands: tuple[Operand, ...]) -> Iterator[tuple[int, Value]]:
    for place, operand in enumerate(operands):
        yield from ((place, value) for value in values((operand,)))


def _after(outer: Reach | None, inner: Reach) -> Reach | None:
    """The result sees `outer` of a value whose positions see `inner`."""
    if outer is None:
        return None
    stride = inner.stride
    return Reach(
        outer.axis, stride * outer.stride, stride * outer.low + inner.low, stride * outer.high + inner.high,
        outer.exact and inner.exact,
    )  # fmt: skip


def _joined(a: Reach | None, b: Reach | None, length: int) -> Reach | None:
    """Both windows as one; where their strides differ, as wide as the `length` positions need."""
    if a is None or b is None or a.axis != b.axis:
        return None
    drift = (b.stride - a.stride) * (length - 1)
    low, high = min(a.low, b.low + min(drift, Fraction(0))), max(a.high, b.high + max(drift, Fraction(0)))
    exact = a.exact and b.exact and not drift
    return Reach(a.axis, a.stride, low, high, exact)


def _through(reach: Reach | None, outer: View, axis: str) -> View:
    """A result that sees `reach` along `axis` of an input, in terms of what the input sees."""
    return {
        key: None if seen is None or reach is None else _after(reach, seen)
        for key, seen in outer.items()
        if seen is None or seen.axis == axis
    }


def _renamed(view: View, source: Value, target: Value) -> View:
    """The same view of the same tensor under other axis names."""
    if source.type.names == target.type.names:
        return view
    names = dict(zip(source.type.names, target.type.names, strict=False))
    return {k: r if r is None else replace(r, axis=names.get(r.axis, r.axis)) for k, r in view.items()}
