"""Recurrences step after step, their states in registers: selective scans, and all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from archc.fusion.cores import Recurrence
from archc.fusion.cost import Work, region_bytes
from archc.fusion.recurrences import (
    RecurrenceFamily,
    added,
    exponent,
    extent,
    features,
    fits,
    lettered,
    product,
    summed,
    unfit,
)
from archc.fusion.view import Found, Refused, View, core_of
from archc.ir.dataflow import values
from archc.ir.graph import Fused, Value

if TYPE_CHECKING:
    from archc.analysis.setting import Setting

MOST = 64  # states that one lane holds of a sum


class Scan(RecurrenceFamily):
    name: ClassVar[str] = "scan"
    operator: ClassVar[str] = "Scan"
    rank: ClassVar[int] = 1  # what is a matrix product is better made as one

    def word(self, core: Recurrence) -> str:
        return "scan"

    def settings(self, region: Fused) -> list[str]:
        assert isinstance(region.core, Recurrence)
        roles = region.core.roles
        return [f'roles="{roles.lower()}"', *super().settings(region), *(["times=True"] if "U" in roles else [])]

    def find(self, view: View, place: int, core: Recurrence) -> Found | Refused | None:
        why = unfit(core)
        if why:
            return Refused((place,), why)
        for places, tensors, made in (*_read(view, place, core), _alone(view, place, core)):
            if fits(made, tuple(tensors.values())):
                made = replace(made, roles="".join(tensors))
                names = ["step" if role == "d" and "a" in tensors else _NAMES[role.lower()] for role in tensors]
                return Found(made, places, tuple(tensors.values()), tuple(names))
        return Refused((place,), "its tensors are the same, or share axes in a way that no kernel has")

    def work(self, region: Fused, setting: Setting) -> Work:
        core, step = region.core, next(s for s in region.steps if isinstance(core_of(s), Recurrence))
        assert isinstance(core, Recurrence)
        states = setting.bytes(step.outputs[0].type) // setting.element("float")
        exponentials = states if "a" in core.roles else 0
        return Work(region_bytes(region, setting), slots=states * (16 if "b" in core.roles else 8), special=exponentials)


_NAMES = {"d": "decay", "a": "rate", "u": "u", "b": "b", "c": "c", "k": "skip"}

Match = tuple[tuple[int, ...], dict[str, Value], Recurrence]


def _read(view: View, place: int, core: Recurrence) -> Iterator[Match]:
    """The recurrence with what reads its states, and the products that its decay and update are."""
    step = view.step(place)
    decay, update = values(step.inputs)
    states, read = step.outputs[0], summed(view, step.outputs[0])
    if read is None:
        return
    at, c, axes = read
    size = extent(states.type, axes)
    if size is None or size > MOST or not set(axes) <= features(core, states.type):
        return
    free = features(core, states.type) - features(core, c.type)
    made = lettered(core, states.type, axes, free)
    places, tensors = [place, at], {"d": decay, "u": update, "c": c}
    sides = product(view, update)
    for u, b in () if sides is None else sides.orders():
        if not set(axes) & set(u.type.names) and set(axes) <= set(b.type.names) and not free & set(b.type.names):
            assert sides is not None
            places.append(sides.place)
            tensors = {"d": decay, "u": u, "b": b, "c": c}
            break
    if "b" not in tensors:
        yield tuple(places), tensors, made
        return
    power = exponent(view, decay)
    parts = None if power is None else product(view, power[1])
    for d, a in () if parts is None else parts.orders():
        inner = {"B", "way", *core.over}
        if not inner & set(a.type.names) and not set(axes) & set(d.type.names):
            assert power is not None and parts is not None
            places += [power[0], parts.place]
            tensors = {"d": d, "a": a, "u": tensors["u"], "b": tensors["b"], "c": c}
            break
    factors = product(view, tensors["u"])
    if "a" in tensors and factors is not None:
        for d, u in factors.orders():
            if d.uid == tensors["d"].uid:
                places.append(factors.place)
                tensors = {"U" if role == "u" else role: u if role == "u" else x for role, x in tensors.items()}
                break
    u = tensors.get("U") or tensors["u"]
    result = view.step(at).outputs[0]
    extra = added(view, result)
    term = None if extra is None else product(view, extra[1])
    for k, other in () if term is None else term.orders():
        lacks = {"B", "way", *core.over, *axes}
        same = extra is not None and set(view.step(extra[0]).outputs[0].type.names) == set(result.type.names)
        if other.uid == u.uid and same and not lacks & set(k.type.names):
            assert extra is not None and term is not None
            yield (*places, term.place, extra[0]), tensors | {"k": k}, made
            break
    yield tuple(places), tensors, made


def _alone(view: View, place: int, core: Recurrence) -> Match:
    """The recurrence alone: s are the axes that its decay has, f those along which that is the same."""
    step = view.step(place)
    decay, update = values(step.inputs)
    free = features(core, update.type) - features(core, decay.type) or features(core, update.type)
    summed = features(core, decay.type) - free
    made = lettered(core, step.outputs[0].type, summed, free)
    return (place,), {"d": decay, "u": update}, made


FAMILY = Scan()
