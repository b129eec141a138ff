"""Diagnostics as people read them in a terminal, and as JSON for other programs.

    error[E0301]: axes do not fit together in `+`
      --> specs/van.arch:12:14
       |
    10 | block attention(x: [B, C, H, W]) {
       |                        - `x` is 64 wide here
    ...
    12 |     return x + (x |> proj_1: conv(2 * C, 1))
       |            - ^ 64 on the left, 128 on the right
       |            |
       |            this one is 64 wide
       |
       = help: `proj_1: conv(C, 1)`

    1 error

Spec text is untrusted: every control or formatting character is drawn as an escape such as `\\x1b`, so a spec
can neither move the cursor nor hide what it says.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import field
from itertools import groupby
from typing import IO, Any

from archc.diagnostics import MOST_FINDINGS, Diagnostic, Label
from archc.glyphs import clean, layout, measure
from archc.records import dataclass
from archc.source import Source, Span

MARKED_LINES = 5
LEAST_WIDTH = 40
LEAST_LABEL = 24
CUT = "..."

BOLD, BLUE = "1", "1;34"
SEVERITY_STYLES = {"error": "1;31", "warning": "1;33"}


def render(diagnostics: Iterable[Diagnostic], color: bool = False, width: int = 100) -> str:
    """The text of all `diagnostics` with a closing count, without a last newline; "" where there are none."""
    found = list(diagnostics)
    if not found:
        return ""
    painter = _Painter(color, max(width, LEAST_WIDTH))
    shown = found[:MOST_FINDINGS]
    closing = count(found) + (f", the first {len(shown)} of them shown" if len(shown) < len(found) else "")
    return "\n\n".join([*(painter.diagnostic(d) for d in shown), closing])


def count(diagnostics: Sequence[Diagnostic]) -> str:
    """How many there are of each severity: `1 error`, `3 errors, 1 warning`."""
    severities = [d.severity for d in diagnostics]
    kinds = sorted(set(severities), key=lambda s: (s != "error", s))
    return ", ".join(f"{n} {kind}{'s' * (n != 1)}" for kind in kinds if (n := severities.count(kind)))


def wants_color(stream: IO[str]) -> bool:
    """Whether `stream` is a terminal that has not asked for plain text (NO_COLOR, TERM=dumb)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def to_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """`diagnostic` as plain data; lines and columns count characters from 1, the end is exclusive."""
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        **_place(diagnostic.span),
        "label": diagnostic.label,
        "related": [{**_place(label.span), "label": label.text} for label in diagnostic.related],
        "uses": [{**_place(label.span), "label": label.text} for label in diagnostic.uses],
        "notes": list(diagnostic.notes),
        "helps": list(diagnostic.helps),
    }


def _place(span: Span | None) -> dict[str, Any]:
    if span is None:
        return dict.fromkeys(("file", "line", "column", "end_line", "end_column"))
    line, column = span.source.position(span.start)
    end_line, end_column = span.source.position(max(span.start, span.end))
    return {
        "file": span.source.name,
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
    }


@dataclass
class _Row:
    """A line of output, a cell for each terminal column; a wide character is followed by an empty cell."""

    cells: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)

    def put(self, column: int, text: str, style: str = "") -> None:
        for shown, size in zip(*layout(text)[:2], strict=True):
            missing = column + max(size, 1) - len(self.cells)
            self.cells += [" "] * missing
            self.styles += [""] * missing
            if size == 0:
                at = max(column - 1, 0)
                self.cells[at] += shown
                continue
            # An escape such as \x1b is one character of spec text in several cells.
            parts = [shown, ""] if size == 2 and len(shown) == 1 else list(shown)
            self.cells[column : column + size] = parts
            self.styles[column : column + size] = [style] * size
            column += size

    def text(self, color: bool) -> str:
        """The row as a string, with an ANSI sequence round each run of one style if `color`."""
        if not color:
            return "".join(self.cells).rstrip()
        used = max((i + 1 for i, cell in enumerate(self.cells) if cell.strip()), default=0)
        runs = groupby(zip(self.cells[:used], self.styles, strict=False), key=lambda pair: pair[1])
        return "".join(_paint("".join(cell for cell, _ in run), style) for style, run in runs)


def _paint(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style and text else text


@dataclass(frozen=True)
class _Mark:
    """A label on the lines it covers; columns count characters from 0, the end column is exclusive."""

    first: int
    start: int
    last: int
    end: int
    text: str
    style: str
    stroke: str

    @classmethod
    def at(cls, label: Label, style: str, stroke: str) -> _Mark:
        source = label.span.source
        start = min(max(label.span.start, 0), len(source.text))
        # A statement's span may run over its newline: the blank tail is not worth a line of output.
        end = start + len(source.text[start : label.span.end].rstrip())
        first, column = source.position(start)
        last, end_column = source.position(end)
        return cls(first, column - 1, last, end_column - 1, clean(label.text), style, stroke)


@dataclass(frozen=True)
class _View:
    """A source line cut to the columns that fit: `column` tells where a character of it is drawn."""

    glyphs: tuple[str, ...]
    columns: tuple[int, ...]
    left: int
    room: int

    @classmethod
    def of(cls, line: str, marks: list[tuple[int, int]], focus: tuple[int, int], room: int) -> _View:
        glyphs, _, columns = layout(line)
        total = columns[-1] + 1
        if total <= room + 1:
            return cls(glyphs, columns, 0, total)
        spans = [(columns[min(a, len(line))], columns[min(b, len(line))]) for a, b in marks]
        low, high = min(a for a, _ in spans), max(b for _, b in spans)
        if high - low > room - 4 * len(CUT):
            low = columns[min(focus[0], len(line))]
            high = min(columns[min(focus[1], len(line))], low + room - 4 * len(CUT))
        left = min(low - (room - (high - low)) // 2, total - room)
        return cls(glyphs, columns, max(left, 0), room)

    def column(self, character: int) -> int:
        column = self.columns[min(character, len(self.columns) - 1)] - self.left
        return min(max(column, 0), self.room - 1)

    def draw(self, row: _Row, base: int) -> None:
        low = self.left + len(CUT) if self.left else 0
        cut = self.columns[-1] > self.left + self.room
        high = self.left + self.room - (len(CUT) if cut else 0)
        for glyph, start, end in zip(self.glyphs, self.columns, self.columns[1:], strict=False):
            if low <= start and end <= high:
                row.put(base + start - self.left, glyph)
        if self.left:
            row.put(base, CUT)
        if cut:
            row.put(base + self.room - len(CUT), CUT)


@dataclass(frozen=True)
class _Painter:
    color: bool
    width: int

    def paint(self, text: str, style: str) -> str:
        return _paint(text, style) if self.color else text

    def diagnostic(self, d: Diagnostic) -> str:
        style = SEVERITY_STYLES.get(d.severity, BLUE)
        head = self.paint(f"{d.severity}[{clean(d.code)}]", style)
        out = [head + self.paint(f": {clean(d.message)}", BOLD)]
        labels = [(label, BLUE, "-") for label in (*d.related, *d.uses)]
        if d.span is not None:
            labels.insert(0, (Label(d.span, d.label), style, "^"))
        by_source: dict[Source, list[tuple[Span, _Mark]]] = {}
        for label, mark_style, stroke in labels:
            mark = _Mark.at(label, mark_style, stroke)
            by_source.setdefault(label.span.source, []).append((label.span, mark))
        marks = [mark for group in by_source.values() for _, mark in group]
        gutter = max((len(str(mark.last)) for mark in marks), default=1)
        for number, (source, group) in enumerate(by_source.items()):
            arrow = "-->" if number == 0 else ":::"
            if number:
                out.append(self.margin("", gutter))
            out.append(f"{' ' * gutter}{self.paint(arrow, BLUE)} {clean(str(group[0][0]))}")
            out.append(self.margin("", gutter))
            out += _Snippet(self, source, [mark for _, mark in group], gutter).lines()
        remarks = [("note", text) for text in d.notes] + [("help", text) for text in d.helps]
        if marks and remarks:
            out.append(self.margin("", gutter))
        for kind, text in remarks:
            out += self.remark(kind, text, gutter)
        return "\n".join(out)

    def margin(self, number: str, gutter: int) -> str:
        return self.paint(f"{number:>{gutter}} |", BLUE)

    def remark(self, kind: str, text: str, gutter: int) -> list[str]:
        """A note or help, its own line breaks kept and long lines wrapped under its first word."""
        indent = gutter + len(f" = {kind}: ")
        lines: list[str] = []
        for line in map(clean, text.split("\n")):
            lines += _wrap(line, self.width - indent) or [""]
        first = f"{' ' * gutter} {self.paint('=', BLUE)} {self.paint(kind, BOLD)}: {lines[0]}"
        return [first, *((" " * indent + line).rstrip() for line in lines[1:])]


def _wrap(text: str, width: int) -> list[str]:
    width = max(width, LEAST_LABEL)
    if measure(text) <= width:
        return [text] if text else []
    indent = " " * min(len(text) - len(text.lstrip()), width // 2)
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


class _Snippet:
    """The lines of one source that have marks, and the marks under them.

    A mark over several lines is a bar left of the text, from a line under its first character to a line under
    its last:
         |    x = conv(
         |  ______^
         | |      C,
         | |  )
         | |__^ label
    """

    def __init__(self, painter: _Painter, source: Source, marks: list[_Mark], gutter: int) -> None:
        self.painter = painter
        self.source = source
        self.gutter = gutter
        self.marks = marks
        self.bars = sorted((m for m in marks if m.first < m.last), key=lambda m: (m.first, m.start, -m.end))
        self.open: set[int] = set()
        self.base = 2 * len(self.bars)
        self.room = max(painter.width - gutter - len(" | ") - self.base, LEAST_LABEL)
        self.out: list[str] = []

    def lines(self) -> list[str]:
        before = None
        for number in self.shown():
            if before is not None and number > before + 1:
                self.cut()
            self.line(number)
            before = number
        return self.out

    def cut(self) -> None:
        """Dots for lines left out, beside the bars that go on through them."""
        bars = self.row().text(self.painter.color)
        pad = " " * (self.gutter + len(" | ") - len(CUT)) if bars else ""
        self.out.append(self.painter.paint(CUT, BLUE) + pad + bars)

    def shown(self) -> list[int]:
        """The lines with a mark, all of a short mark's lines, and a line alone between two of them."""
        numbers: set[int] = set()
        for mark in self.marks:
            whole = mark.last - mark.first < MARKED_LINES
            numbers |= set(range(mark.first, mark.last + 1)) if whole else {mark.first, mark.last}
        return sorted(numbers | {n + 1 for n in numbers if n + 2 in numbers})

    def row(self) -> _Row:
        row = _Row()
        for index in self.open:
            row.put(2 * index, "|", self.bars[index].style)
        return row

    def emit(self, row: _Row, number: str = "") -> None:
        text = row.text(self.painter.color)
        self.out.append(self.painter.margin(number, self.gutter) + (f" {text}" if text else ""))

    def line(self, number: int) -> None:
        """Line `number` and the rows under it: marks within the line, ends of bars, starts of bars."""
        line = self.source.line(number).removesuffix("\r")
        inside = [m for m in self.marks if m.first == m.last == number]
        ends = [i for i, bar in enumerate(self.bars) if bar.last == number]
        starts = [i for i, bar in enumerate(self.bars) if bar.first == number]
        places = [(m.start, m.end) for m in inside]
        places += [(self.bars[i].end - 1, self.bars[i].end) for i in ends]
        places += [(self.bars[i].start, self.bars[i].start + 1) for i in starts]
        primary = [place for m, place in zip(inside, places, strict=False) if m.stroke == "^"]
        places = places or [(0, 0)]
        view = _View.of(line, places, (primary or places)[0], self.room)
        row = self.row()
        view.draw(row, self.base)
        self.emit(row, str(number))
        if inside:
            self.under(view, inside)
        # A later bar lies further right: it closes first and opens last, so that no bar is crossed.
        for index in reversed(ends):
            self.bar(index, view.column(self.bars[index].end - 1), self.bars[index].text)
            self.open.discard(index)
        for index in starts:
            self.bar(index, view.column(self.bars[index].start), "")
            self.open.add(index)

    def bar(self, index: int, column: int, text: str) -> None:
        bar = self.bars[index]
        row = self.row()
        at = 2 * index + 1
        row.put(at, "_" * (self.base + column - at) + bar.stroke, bar.style)
        self.labelled(row, self.base + column + 2, text, bar.style, [])

    def under(self, view: _View, marks: list[_Mark]) -> None:
        """The strokes under a line; the label of the rightmost goes beside it, the others hang below.

        A label alone that is too long to go beside its stroke goes below it, as far to the left as it needs.
        """
        places = {id(m): (view.column(m.start), view.column(m.end)) for m in marks}
        row = self.row()
        for mark in sorted(marks, key=lambda m: m.stroke == "^"):
            start, end = places[id(mark)]
            row.put(self.base + start, mark.stroke * max(end - start, 1), mark.style)
        beside = max(marks, key=lambda m: (places[id(m)][1], m.start, m.stroke == "^"))
        hanging = sorted((m for m in marks if m is not beside and m.text), key=lambda m: m.start)
        stems = [(self.base + places[id(m)][0], m) for m in hanging]
        width, right = measure(beside.text), self.base + self.room
        if stems or len(row.cells) + 1 + width <= right:
            self.labelled(row, len(row.cells) + 1, beside.text, beside.style, stems)
        else:
            self.emit(row)
            column = min(self.base + places[id(beside)][0], right - width)
            self.labelled(self.row(), max(self.base, column), beside.text, beside.style, [])
        if stems:
            self.emit(self.stemmed(stems))
        while stems:
            column, mark = stems.pop()
            left = [stem for stem in stems if stem[0] < column]
            self.labelled(self.stemmed(left), column, mark.text, mark.style, left)

    def stemmed(self, stems: list[tuple[int, _Mark]]) -> _Row:
        row = self.row()
        for column, mark in stems:
            row.put(column, "|", mark.style)
        return row

    def labelled(self, row: _Row, column: int, text: str, style: str, stems: list[tuple[int, _Mark]]) -> None:
        """Emit `row` with `text` at `column`, wrapped into rows below where it does not fit."""
        for line in _wrap(text, self.base + self.room - column) or [""]:
            row.put(column, line, style)
            self.emit(row)
            row = self.stemmed(stems)
