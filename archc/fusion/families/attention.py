"""Attention over regions that are lines along the axes, tile by tile: neighborhoods, blocks with a halo, sums of regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from archc.analysis.setting import Setting
from archc.backend.operand import Operand
from archc.fusion.attended import attended, riding
from archc.fusion.cores import Mixture, Offsets, Scores
from archc.fusion.cost import Work, region_bytes
from archc.fusion.families.base import Family
from archc.fusion.view import Found, Refused, View, core_of
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused, Value
from archc.ir.sym import Const, Scalar
from archc.ops.base import OpError
from archc.sizes import Size
from archc.where.base import Course, NoCourse, Piece, Places
from archc.where.text import TAP

if TYPE_CHECKING:
    from archc.backend.kernels import TwinWriter


class Attention(Family):
    name: ClassVar[str] = "attention"
    operator: ClassVar[str] = "TiledAttention"
    cores: ClassVar[tuple[type, ...]] = (Scores,)
    rank: ClassVar[int] = 1  # blocks of positions that fit into one tile have kernels of their own

    def find(self, view: View, place: int, core: Scores) -> Found | Refused | None:
        try:
            pieces = _pieces(view.step(place))
        except NoCourse as error:
            return Refused((place,), str(error))
        found = attended(view, place, core)
        if isinstance(found, str):
            return Refused((place,), found)
        if len(_moved(pieces)) > 2:
            return Refused(found.places, "its keys lie along more than two axes")
        tables = {uid: at for uid, at in found.tables.items() if _is_table(view.step(at), found.q)}
        places = (*found.places, *tables.values())
        maps = tuple(next(values(view.step(tables[m.uid]).inputs)) if m.uid in tables else m for m in found.maps)
        if len({m.uid for m in maps}) < len(maps):
            return Refused(places, "its scores are computed with one tensor twice")
        numbers = _numbers(core, [view.step(at) for at in places])
        if any(_whole(n) is None and not isinstance(n.value, float) for n in numbers):
            return Refused(places, "a word or a size in it varies")
        instead = tuple((at, step) for at, step in found.instead.items() if at not in places)
        arguments = ("q", "k", "v", *(f"m{at}" for at in range(len(maps))))
        return Found(core, places, (found.q, found.k, found.v, *maps), arguments, numbers, instead)

    def word(self, core: Scores) -> str:
        return f"attend_{core.over.name}" if core.over.name.isidentifier() else "attend"

    def order(self, region: Fused, value: Value) -> tuple[str, ...]:
        if value.uid in _tables(region):
            return value.type.names
        return tuple(name for name in (*_axes(region), TAP, "C") if name in value.type)

    def functions(self, name: str, region: Fused) -> dict[str, list[str]]:
        text = _Text(region)
        return {
            f"{name}_scores": [f"def {name}_scores(s, b, numbers):", *(f"    {line}" for line in text.forward())],
            f"{name}_gradient": [f"def {name}_gradient(s, b, numbers, d):", *(f"    {line}" for line in text.backward())],
        }

    def settings(self, region: Fused) -> list[str]:
        from archc.backend.kernels import TwinWriter, number_names
        from archc.backend.needs import Needs

        writer, pieces, axes = TwinWriter(Needs(), region), _pieces(_scores(region)), _axes(region)
        places = axes[-_places(pieces) :]
        texts = []
        for piece in pieces:
            lines = ", ".join(_course_text(writer, course) for name, course in piece.courses if name in places)
            texts.append(f"([{lines}], {piece.own})")
        head = f"lambda {', '.join(number_names(region))}".rstrip()
        parts = [f"region={head}: [{', '.join(texts)}]", f'axes="{" ".join(axes)}"']
        parts.append(f"riding={len(axes) - 1 - len(places)}")
        maps, tables = region.inputs[3:], _tables(region)
        if maps:
            operands = [
                _table_text(region, value, tables[value.uid], places)
                if value.uid in tables
                else f'"{" ".join(self.order(region, value))}"'
                for value in maps
            ]
            learned = [str(at) for at, value in enumerate(maps) if value.type.dtype == "float"]
            parts.append(f"operands=[{', '.join(operands)}]")
            parts.append(f"learned=[{', '.join(learned)}]")
        return parts

    def work(self, region: Fused, setting: Setting) -> Work:
        """Two products of tiles, a quarter of which is padding or beyond the region, and an exponential for each score."""
        pairs = setting.number(setting.type(_scores(region).outputs[0].type).elements)
        channels = sum(setting.number(setting.type(value.type)["C"].size) for value in region.inputs[1:3])
        return Work(region_bytes(region, setting), 2 * pairs * channels * 4 // 3, 12 * pairs, pairs)

    def twin(self, region: Fused, writer: TwinWriter) -> None:
        """The steps, with names of their own for queries, keys and values, which may be one tensor."""
        own = [replace(value, uid=-1 - at) for at, value in enumerate(region.inputs[:3])]
        for value, name in zip(own, region.arguments, strict=False):
            writer.values[value.uid] = Operand(name, value.type, self.order(region, value))
        q, k, v = own
        for step in region.steps:
            kind, (first, *rest) = core_of(step), step.inputs
            if isinstance(kind, Scores):
                step = replace(step, inputs=(q, k, *rest[1:]))
            elif isinstance(kind, Mixture):
                step = replace(step, inputs=(first, v, *rest[1:]))
            elif isinstance(kind, Offsets) and rest[0] == region.inputs[0]:
                step = replace(step, inputs=(first, q, *rest[1:]))
            writer.write((step,))


def _pieces(scores: Apply) -> tuple[Piece, ...]:
    """The lines along which the scores of a step lie. Raises NoCourse."""
    core = core_of(scores)
    assert isinstance(core, Scores)
    q, k, *extra = (value.type for value in values(scores.inputs))
    if q.names_of_positions != k.names_of_positions and set(q.names_of_positions) != set(k.names_of_positions):
        raise NoCourse("its keys lie on axes of their own")
    try:
        return core.over.pieces(Places(q.positions, k.positions, tuple(extra)))
    except OpError as error:
        raise NoCourse(str(error)) from error


def _moved(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """The position axes along which a query sees further than itself."""
    return tuple(name for name, _ in pieces[0].courses if not all(dict(p.courses)[name].stays for p in pieces))


def _places(pieces: Sequence[Piece]) -> int:
    """How many axes kernels take for those of positions: two at most, which others ride along with."""
    return len(pieces[0].courses) if len(pieces[0].courses) <= 2 else max(1, len(_moved(pieces)))


def _axes(region: Fused) -> tuple[str, ...]:
    """The axes of queries as kernels take them but for the channels: the batch, what rides along, then positions."""
    q, pieces = region.inputs[0], _pieces(_scores(region))
    names = tuple(name for name, _ in pieces[0].courses)
    moved = names if len(names) <= 2 else _moved(pieces) or names[-1:]
    return (*riding(q), *(name for name in names if name not in moved), *moved)


def _is_table(step: Apply, q: Value) -> bool:
    """Whether a kernel can read the table itself: at offsets along all axes that the region moves along."""
    kind, (table, *_) = core_of(step), values(step.inputs)
    assert isinstance(kind, Offsets)
    lead = table.type.names[: len(table.type.names) - len(kind.axes)]
    centre = kind.centre is None or (isinstance(kind.centre.sym, Const) and _whole(kind.centre) is not None)
    return kind.axes == kind.over.axes(q.type.names_of_positions) and set(lead) <= set(riding(q)[1:]) and centre


def _tables(region: Fused) -> dict[int, Offsets]:
    """What is read at offsets, by the tensor that is."""
    kinds = ((values(step.inputs), core_of(step)) for step in region.steps)
    return {next(iter(given)).uid: kind for given, kind in kinds if isinstance(kind, Offsets)}


def _table_text(region: Fused, table: Value, kind: Offsets, places: tuple[str, ...]) -> str:
    lead = table.type.names[: len(table.type.names) - len(kind.axes)]
    parts = [f'"{" ".join(lead)}"']
    axes = ("", *places)[-2:]
    parts += [f"{word}=False" for word, name in zip(("rows", "columns"), axes, strict=True) if name not in kind.axes]
    parts += [] if kind.centre is None else [f"centre={kind.centre.value}"]
    return f"OffsetTable({', '.join(parts)})"


def _course_text(writer: TwinWriter, course: Course) -> str:
    parts = []
    for name in ("block", "base", "halo", "step", "parts", "roll"):
        number = getattr(course, name)
        parts += [] if number is None else [f"{name}={writer.number(number)}"]
    parts += [f'edge="{course.edge}"'] if course.edge != "drop" else []
    parts += [f"{name}=True" for name in ("seam", "coarse") if getattr(course, name)]
    return f"AxisLine({', '.join(parts)})"


def _numbers(core: Scores, steps: Sequence[Apply]) -> tuple[Scalar, ...]:
    """The numbers that builds of one text may differ in: those of the region, then those of the operations."""
    given = [*core.over.sizes, *(n for step in steps for n in step.op.numbers)]
    return tuple({n.sym: n for n in given if not isinstance(n.sym, Const)}.values())


def _whole(number: Scalar) -> int | None:
    """A whole number that is the same for all inputs, None for any other value."""
    value = number.value.constant if isinstance(number.value, Size) else number.value
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class _Text:
    """The functions that make scores of products: `s`, with what they are computed with besides in `b`, in float32."""

    def __init__(self, region: Fused) -> None:
        self.numbers = {number.sym: at for at, number in enumerate(region.numbers)}
        self.maps = region.inputs[3:]
        words = ("(b[{at}] != 0)" if value.type.dtype == "bool" else "b[{at}]" for value in self.maps)
        self.names = {value.uid: word.format(at=at) for at, (value, word) in enumerate(zip(self.maps, words, strict=True))}
        first = _scores(region)
        self.masks = [self.names[value.uid] for value in list(values(first.inputs))[2:]]
        self.names[first.outputs[0].uid] = "v" if self.masks else "s"
        self.steps: list[Apply] = []
        for step in region.steps:
            kind = core_of(step)
            if isinstance(kind, Offsets):
                table = next(iter(values(step.inputs)))
                self.names[step.outputs[0].uid] = self.names[table.uid]
            elif step.op.follows:
                self.names[step.outputs[0].uid] = f"v{len(self.steps)}"
                self.steps.append(step)
        self.last = self.names[(self.steps[-1] if self.steps else first).outputs[0].uid]

    def _sides(self, step: Apply) -> list[str]:
        sides = step.op.sides([self.names[v.uid] for v in values(step.inputs)])
        return [self._number(side) if isinstance(side, Scalar) else side for side in sides]

    def _number(self, side: Scalar) -> str:
        if not isinstance(side.sym, Const):
            return f"numbers[{self.numbers[side.sym]}]"
        value = float(side.value)  # pyright: ignore[reportArgumentType]
        return f'float("{value}")' if abs(value) == float("inf") else repr(value)

    def _values(self) -> list[str]:
        lines = []
        if self.masks:
            seen = " & ".join(self.masks)
            lines.append(f'v = tl.where({seen}, s, float("-inf"))')
        return [*lines, *(f"{self.names[s.outputs[0].uid]} = {s.op.tile(*self._sides(s))}" for s in self.steps)]

    def forward(self) -> list[str]:
        return [*self._values(), f"return {self.last}"]

    def backward(self) -> list[str]:
        """From the gradient `d` of the scores, that of the products and of each operand with real numbers."""
        lines = self._values()
        gradients: dict[str, list[str]] = {self.last: ["d"]}
        for step in reversed(self.steps):
            name = self.names[step.outputs[0].uid]
            given, terms = f"d_{name}", gradients.pop(name)
            lines.append(f"{given} = {' + '.join(terms)}")
            sides = self._sides(step)
            for side, slope in zip(sides, step.op.slopes(*sides, result=name), strict=True):
                if slope and side in self.names.values():
                    gradients.setdefault(side, []).append(given if slope == "1.0" else f"{given} * ({slope})")
        first = "v" if self.masks else "s"
        found = [gradients.get(first, ["d * 0.0"])]
        found += [
            gradients.get(self.names[value.uid], ["d * 0.0"]) for value in self.maps if value.type.dtype == "float"
        ]
        texts = [" + ".join(terms) for terms in found]
        return [*lines, f"return ({', '.join(texts)},)"]


def _scores(region: Fused) -> Apply:
    return next(step for step in region.steps if isinstance(core_of(step), Scores))


FAMILY = Attention()
