"""A cost as a table for people (text, Markdown, LaTeX) or for programs (JSON, CSV)."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from archc.analysis.conventions import CONVENTIONS, WEIGHTS
from archc.analysis.figures import Cost, Row
from archc.analysis.roofline import DEVICES, seconds
from archc.records import dataclass
from archc.sizing import shown_sizes

LEVELS = ("stage", "block", "op")
FORMATS = ("text", "json", "csv", "markdown", "latex")
_LOOPS = ("turn", "stage")


def report(
    cost: Cost, per: str = "stage", format: str = "text", devices: Sequence[str] = tuple(DEVICES)
) -> str:
    """The figures in one of `FORMATS`, in the detail of one of `LEVELS`, with a last newline.

    Raises KeyError for an unknown format, level or device.
    """
    times = {name: seconds(cost, DEVICES[name]) for name in devices}
    lines = [*_lines(cost, cost.rows, {"stage": 0, "block": 1, "op": 2}[per])]
    writers: dict[str, Callable[[], str]] = {
        "text": lambda: _text(cost, lines, times),
        "json": lambda: _json(as_dict(cost, per, devices)),
        "csv": lambda: _csv(lines),
        "markdown": lambda: _markdown(cost, lines),
        "latex": lambda: _latex(cost),
    }
    return writers[format]()


# ---- which rows are shown


@dataclass(frozen=True)
class Line:
    """A row in a flat table: its place, how often it runs in all, its part of the MACs."""

    path: str
    depth: int
    row: Row
    times: int
    part: float | None


def _shown(row: Row, level: int, top: bool) -> bool:
    """Whether a row is in a table of detail `level` (0 stages, 1 blocks, 2 operations)."""
    if row.kind == "stage" or level == 2:
        return True
    if row.kind == "op":
        return top and row.figures.params > 0
    return level == 1 or (top and row.kind != "op")


def _lines(
    cost: Cost, rows: Sequence[Row], level: int, path: str = "", depth: int = 0, times: int = 1
) -> Iterator[Line]:
    total = cost.figures.macs
    for row in rows:
        if not _shown(row, level, depth == 0):
            continue
        here = f"{path}.{row.name}" if path else row.name
        runs = times * row.count
        part = row.figures.macs * runs / total if total else None
        yield Line(here, depth, row, runs, part)
        inside = [child for child in row.children if level > 0 or child.kind == "stage"]
        yield from _lines(cost, inside, level, here, depth + 1, runs)


# ---- numbers


def scaled(number: float, unit: str = "") -> str:
    """`849.6 M`: four digits and a unit."""
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            value = number / size
            return f"{value:.{3 if value < 10 else 2 if value < 100 else 1}f} {letter}{unit}"
    return f"{number:.0f} {unit}".rstrip()


def duration(time: float) -> str:
    return f"{time * 1e3:.3g} ms" if time < 1 else f"{time:.3g} s"


def receptive(row: Row) -> str:
    """What the row's result sees of the first input it sees: one number where all axes agree."""
    if not row.receptive:
        return ""
    first = row.receptive[0].input
    parts = [str(extent) for extent in row.receptive if extent.input == first]
    return parts[0] if len(set(parts)) == 1 else "x".join(parts)


def _shape(row: Row) -> str:
    sizes = [str(n) for axis, n in zip(row.axes, row.shape, strict=True) if axis != "B"]
    return "x".join(sizes) or "1"


def _intensity(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


# ---- text

_HEADS = ("name", "", "out", "params", "MACs", "%", "FLOPs", "kept MB", "~peak MB", "FLOP/B", "sees")


def _cells(line: Line, indent: str = "  ") -> list[str]:
    row, f = line.row, line.row.figures
    name = indent * line.depth + row.name + (f"  x{row.count}" if row.count > 1 else "")
    return [
        name, row.what if row.what != row.name else "", _shape(row),
        f"{f.params:,}" if row.sets else "shared",
        scaled(f.macs), "" if line.part is None else f"{100 * line.part:.1f}", scaled(f.flops),
        f"{f.kept_bytes / 1e6:.2f}", f"{f.peak_bytes / 1e6:.2f}", _intensity(f.intensity), receptive(row),
    ]  # fmt: skip


def _total(cost: Cost) -> list[str]:
    f = cost.figures
    return [
        "total", "", "", f"{f.params:,}", scaled(f.macs), "100.0" if f.macs else "", scaled(f.flops),
        f"{f.kept_bytes / 1e6:.2f}", f"{f.peak_bytes / 1e6:.2f}", _intensity(f.intensity), "",
    ]  # fmt: skip


def _align(rows: list[list[str]], left: int) -> list[str]:
    """Rows of cells as lines: `left` columns to the left, the others to the right, empty columns dropped."""
    columns = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in columns}
    lines = []
    for row in rows:
        cells = [row[i].ljust(widths[i]) if i < left else row[i].rjust(widths[i]) for i in columns]
        lines.append("  ".join(cells).rstrip())
    return lines


def _text(cost: Cost, lines: list[Line], times: dict[str, float]) -> str:
    mode = ", with what only training has" if cost.training else ""
    head = f"{cost.program.name}   {_inputs(cost)}, {cost.dtype}{mode}"
    table = _align([list(_HEADS), *(_cells(line) for line in lines), _total(cost)], 2)
    said = [line for note in notes(cost) for line in textwrap.wrap(note, 118, subsequent_indent="  ")]
    return "\n".join([head, "", *table, "", *_summary(cost, times), "", *said]) + "\n"


def _inputs(cost: Cost) -> str:
    single = ", batch 1" if cost.sizes.get("B") == 1 else ""
    return shown_sizes(cost.program, cost.sizes) + single


def _summary(cost: Cost, times: dict[str, float]) -> list[str]:
    f = cost.figures
    others = [c for c in CONVENTIONS.values() if c is not cost.convention]
    counts = [f"{c.name} {scaled(cost.under(c))} {c.unit}" for c in others]
    return [
        f"MACs {scaled(f.macs)}   FLOPs {scaled(f.flops)} (2 x MACs + {scaled(f.others)} others)   "
        f"params {f.params:,}   buffers {f.buffers:,}   weights {scaled(cost.weight_bytes, 'B')}",
        f"activations: {scaled(f.kept_bytes, 'B')} kept in training, "
        f"about {scaled(f.peak_bytes, 'B')} at most at once in inference",
        f"moved {scaled(f.moved_bytes, 'B')}, {_intensity(f.intensity) or '0'} FLOPs for each byte",
        f"other conventions: {', '.join(counts)}",
        *(
            [f"at least (roofline): {', '.join(f'{duration(t)} {name}' for name, t in times.items())}"]
            if times
            else []
        ),
    ]


def notes(cost: Cost) -> list[str]:
    """The conventions under which the figures are true."""
    weights = "; ".join(f"{what} {weight}" for what, weight in WEIGHTS)
    return [
        f"Convention {cost.convention.name}: {cost.convention.text}.",
        f"FLOPs besides multiply-adds: {weights}.",
        "Rows give one copy, % all copies. kept: what autograd saves where the inputs need no gradient, each "
        "tensor once: operands and results that a backward pass reads, statistics of norms, masks, places, "
        "and what regions and paths gather; weights left out. ~peak: an estimate of what is alive at once in "
        "inference, inputs included: arguments are held until their call returns, variables until their name is "
        "given away or their method returns, other tensors until their last use; with them what an operation makes "
        "beside its result; views cost nothing. Copies in another layout and steps within one operation are not "
        "in it: a module may hold less or much more. moved: every operation reads its "
        "operands and weights and writes its result once. sees: positions of the first input along each "
        "axis, edges not cut off, `<=` where only a bound is known.",
        "The roofline is a bound from data-sheet rates, not a prediction.",
    ]


# ---- for programs


def as_dict(cost: Cost, per: str = "op", devices: Sequence[str] = tuple(DEVICES)) -> dict[str, Any]:
    """Everything as plain data; counts are whole numbers, sizes in bytes, times in seconds."""
    level = {"stage": 0, "block": 1, "op": 2}[per]
    f = cost.figures
    return {
        "name": cost.program.name,
        "model": cost.program.model,
        "sizes": dict(cost.sizes),
        "dtype": cost.dtype,
        "training": cost.training,
        "convention": cost.convention.name,
        "params": f.params,
        "buffers": f.buffers,
        "weight_bytes": cost.weight_bytes,
        "macs": f.macs,
        "flops": f.flops,
        "other_flops": f.others,
        "reported": cost.reported,
        "activation_bytes": {"inference_peak_estimate": f.peak_bytes, "training": f.kept_bytes},
        "bytes_moved": f.moved_bytes,
        "intensity": f.intensity,
        "conventions": {name: cost.under(convention) for name, convention in CONVENTIONS.items()},
        "roofline_seconds": {name: seconds(cost, DEVICES[name]) for name in devices},
        "notes": notes(cost),
        "breakdown": [_row_dict(row, level) for row in cost.rows if _shown(row, level, True)],
    }


def _row_dict(row: Row, level: int) -> dict[str, Any]:
    f = row.figures
    children = [c for c in row.children if _shown(c, level, False) and (level > 0 or c.kind == "stage")]
    return {
        "name": row.name,
        "kind": row.kind,
        "what": row.what,
        "count": row.count,
        "weight_sets": row.sets,
        "out": dict(zip(row.axes, row.shape, strict=True)),
        "params": f.params,
        "buffers": f.buffers,
        "macs": f.macs,
        "flops": f.flops,
        "other_flops": f.others,
        "activation_bytes": {"inference_peak_estimate": f.peak_bytes, "training": f.kept_bytes},
        "bytes_moved": f.moved_bytes,
        "intensity": f.intensity,
        "receptive_field": _receptive_dict(row),
        "children": [_row_dict(child, level) for child in children],
    }


def _receptive_dict(row: Row) -> dict[str, dict[str, int | str]]:
    found: dict[str, dict[str, int | str]] = {}
    for e in row.receptive:
        found.setdefault(e.input, {})[e.axis] = e.size if e.size is not None and e.exact else str(e)
    return found


_COLUMNS = (
    "path", "kind", "what", "count", "runs", "out", "params", "buffers", "macs", "flops", "kept_bytes",
    "peak_bytes_estimate", "bytes_moved", "intensity", "receptive_field",
)  # fmt: skip


# The packages of single formats are loaded with them: a table need not wait for those of the others.


def _json(document: dict[str, Any]) -> str:
    import json

    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _csv(lines: list[Line]) -> str:
    import csv

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for line in lines:
        row, f = line.row, line.row.figures
        writer.writerow([
            line.path, row.kind, row.what, row.count, line.times, "x".join(map(str, row.shape)),
            f.params, f.buffers, f.macs, f.flops, f.kept_bytes, f.peak_bytes, f.moved_bytes,
            "" if f.intensity is None else f"{f.intensity:.4f}", receptive(row),
        ])  # fmt: skip
    return out.getvalue()


# ---- for documents


def _markdown(cost: Cost, lines: list[Line]) -> str:
    rows = [list(_HEADS), *(_cells(line, "&nbsp;&nbsp;") for line in lines), _total(cost)]
    rows[0][1] = "what"
    text = [f"| {' | '.join(row)} |" for row in rows]
    rule = "| " + " | ".join("---" if i < 2 else "---:" for i in range(len(_HEADS))) + " |"
    return "\n".join([text[0], rule, *text[1:], "", f"{_inputs(cost)}, {cost.dtype}.", *notes(cost)]) + "\n"


def _latex(cost: Cost) -> str:
    """One row of a paper's table: name, parameters, MACs, FLOPs."""
    f = cost.figures
    name = cost.program.name.replace("_", r"\_")
    cells = [name, f"{f.params / 1e6:.1f}\\,M", f"{f.macs / 1e9:.2f}\\,G", f"{f.flops / 1e9:.2f}\\,G"]
    head = f"% model & parameters & MACs & FLOPs   ({_inputs(cost)}, {cost.convention.name})"
    return f"{head}\n{' & '.join(cells)} \\\\\n"
