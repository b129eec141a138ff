"""What must hold for every input, however it was made: a diagnostic or a proved module, and nothing else."""

from __future__ import annotations

import ast
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from archc import driver
from archc.cli.generate import prove
from archc.diagnostics import ArchError, Diagnostic
from archc.elaborate.loader import decode, load
from archc.report import render, to_json
from archc.source import Source, Span
from archc.syntax.format import format_source
from archc.syntax.parse import parse
from archc.weights.checkpoint import read, shapes

# A finding is read by a person: its text stays short whatever the spec holds.
LONGEST_FINDING = 20_000
MOST_VARIANTS = 2


def spec(data: bytes) -> str:
    """Take the bytes of a spec through the whole compiler; the last stage that was reached.

    Raises AssertionError, or whatever a bug raises.
    """
    try:
        source = decode(data, "fuzz.arch")
    except ArchError as error:
        told(error.diagnostics)
        return "decoded"
    try:
        parse(source)
    except ArchError as error:
        told(error.diagnostics)
        return "parsed"
    formatted(source)
    try:
        library = load(source)
    except ArchError as error:
        told(error.diagnostics)
        return "loaded"
    reached = "loaded"
    for name in list(library.main.bindings)[:MOST_VARIANTS]:
        try:
            module = driver.compile_variant(driver.Spec(library, (name,), "fuzz.arch"), name)
        except ArchError as error:
            told(error.diagnostics)
            continue
        ast.parse(module.text)
        module.text.encode("utf-8")
        prove(module, module.text)
        reached = "compiled"
    return reached


def told(diagnostics: tuple[Diagnostic, ...]) -> None:
    """Every finding can be drawn, in both forms, shortly, and nothing in it acts on a terminal."""
    assert diagnostics
    for one in diagnostics:
        for span in (one.span, *(label.span for label in one.related)):
            assert span is None or 0 <= span.start <= span.end <= len(span.source.text), (one.code, span)
        text = render([one])
        assert len(text) <= LONGEST_FINDING, (one.code, len(text))
        assert all(char == "\n" or char.isprintable() for char in text), (one.code, ascii(text[:500]))
        json.loads(json.dumps(to_json(one)))
    render(diagnostics[:5], color=True, width=60)


def formatted(source: Source) -> None:
    """The formatter changes no node, and its own output not at all."""
    once = format_source(source)
    again = Source("formatted.arch", once)
    assert format_source(again) == once, "formatting twice differs from formatting once"
    assert meaning(parse(again).items) == meaning(parse(source).items), "formatting changed the tree"


def meaning(value: Any) -> Any:
    """A tree without its places."""
    if isinstance(value, tuple):
        return tuple(meaning(item) for item in value)
    if is_dataclass(value) and not isinstance(value, Span):
        inner = ((f.name, meaning(getattr(value, f.name))) for f in fields(value) if f.name != "span")
        return (type(value).__name__, *inner)
    return None if isinstance(value, Span) else value


def checkpoint(path: Path) -> str:
    """Read a checkpoint; what came of it."""
    try:
        tensors = read(path)
    except ArchError as error:
        told(error.diagnostics)
        return error.diagnostics[0].code
    assert all(isinstance(key, str) for key in tensors)
    assert all(all(size >= 0 for size in shape) for shape in shapes(tensors).values())
    return "read"
