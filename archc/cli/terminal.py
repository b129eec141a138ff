"""Writing to the terminal: text that a spec cannot abuse, and diagnostics."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from archc.diagnostics import ArchError, Diagnostic, fail, in_order
from archc.glyphs import clean
from archc.report import render, wants_color


def say(text: str = "") -> None:
    """Data, to stdout; control characters are drawn as escapes."""
    print("\n".join(clean(line) for line in text.split("\n")))


def note(text: str) -> None:
    """A message, to stderr."""
    print("\n".join(clean(line) for line in text.split("\n")), file=sys.stderr)


def complain(diagnostics: Iterable[Diagnostic]) -> None:
    """Diagnostics, to stderr, in colour on a terminal."""
    import shutil

    width = shutil.get_terminal_size((100, 24)).columns if sys.stderr.isatty() else 100
    text = render(diagnostics, wants_color(sys.stderr), width)
    if text:
        print(text, file=sys.stderr)


def unique(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Each finding once, in the order of the text: variants of one file share most of it."""
    once: dict[tuple[str, ...], Diagnostic] = {}
    for d in diagnostics:
        once.setdefault((d.code, d.message, str(d.span), d.label), d)
    return tuple(in_order(once.values()))


def needs(error: ModuleNotFoundError) -> ArchError:
    """E0921 for a package that is optional, the error itself for any other."""
    package = (error.name or "").partition(".")[0]
    extras = {"torch": "torch", "numpy": "torch", "safetensors": "torch", "triton": "torch"}
    extras |= {"onnx": "torch,onnx", "onnxscript": "torch,onnx", "onnx_ir": "torch,onnx"}
    if package not in extras:
        raise error
    return fail("E0921", f"this needs the package {package}, which is not installed",
                helps=(f"pip install 'archc[{extras[package]}]'",))  # fmt: skip


def table(rows: Sequence[Sequence[str]], left: int = 1, indent: str = "") -> list[str]:
    """Rows of cells in columns: the first `left` to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        (
            indent
            + "  ".join(
                c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
        ).rstrip()
        for row in rows
    ]
