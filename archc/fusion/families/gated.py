"""Gated linear attention: states that are products of two vectors, read by a third, in blocks of steps on matrix units."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from archc.fusion.cores import Recurrence
from archc.fusion.cost import Work, region_bytes
from archc.fusion.recurrences import RecurrenceFamily, extent, features, fits, lettered, product, summed, unfit
from archc.fusion.view import Found, Refused, View
from archc.ir.dataflow import values
from archc.ir.graph import Fused

if TYPE_CHECKING:
    from archc.analysis.setting import Setting

LEAST = 8  # what matrix units would pad to more than twice is cheaper without them
MOST = 64  # what a program holds of k


class Gated(RecurrenceFamily):
    name: ClassVar[str] = "gated"
    operator: ClassVar[str] = "Gated"

    def word(self, core: Recurrence) -> str:
        return "gated_linear"

    def find(self, view: View, place: int, core: Recurrence) -> Found | Refused | None:
        if unfit(core):
            return None
        step = view.step(place)
        decay, update = values(step.inputs)
        read, sides = summed(view, step.outputs[0]), product(view, update)
        if read is None or sides is None:
            return None
        at, q, axes = read
        for k, v in sides.orders():
            free = features(core, v.type) - features(core, k.type) - features(core, q.type) - features(core, decay.type)
            if not free or not set(axes) <= features(core, k.type) or set(axes) & set(v.type.names):
                continue
            made = lettered(core, step.outputs[0].type, axes, free)
            if not fits(made, (q, k, v, decay)):
                continue
            sizes = extent(k.type, axes), extent(v.type, free)
            if any(size is None or size < LEAST for size in sizes) or (sizes[0] or 0) > MOST:
                continue
            places = (sides.place, place, at)
            return Found(replace(made, roles="qkvd"), places, (q, k, v, decay), ("q", "k", "v", "decay"))
        return None

    def work(self, region: Fused, setting: Setting) -> Work:
        """Most of its instructions make and apply products of decays: about three for each k and result."""
        core, result = region.core, region.outputs[0]
        assert isinstance(core, Recurrence)
        letters, products = dict(core.letters), 1
        for axis in setting.type(region.inputs[0].type).axes:
            products *= setting.number(axis.size) if letters[axis.name] == "s" else 1
        results = setting.bytes(result.type) // setting.element("float")
        return Work(region_bytes(region, setting), matrix=10 * products * results, slots=3 * products * results)


FAMILY = Gated()
