"""Parse the text of a spec into its syntax tree."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from archc.resources import folder
from archc.source import Source
from archc.syntax.lines import split_statements
from archc.syntax.tree import File

if TYPE_CHECKING:
    from lark import Lark


def parse(source: Source) -> File:
    """The syntax tree of `source`, with its comments.

    Raises ArchError, whatever the text is.
    """
    lines = split_statements(source)

    # lark is loaded here, not above: whoever only names this module should not pay for it.
    from lark.exceptions import UnexpectedInput

    from archc.syntax.build import build
    from archc.syntax.mistakes import explain

    try:
        parsed = _parser().parse(lines.text)
    except UnexpectedInput as error:
        raise explain(source, lines.text, error, _parser()) from None
    return File(source, build(source, parsed), lines.comments)


@cache
def _parser() -> Lark:
    """The parser of the grammar; from the user's cache, where it is: building it takes ten times as long."""
    import lark

    grammar = (folder("grammar") / "arch.lark").read_text(encoding="utf-8")
    stored = _cache_file(f"{lark.__version__} {sys.version} {grammar}")
    try:
        with stored.open("rb") as file:
            return lark.Lark.load(file)
    except Exception:
        pass  # absent, unreadable, cut short: it is only a cache
    parser = lark.Lark(
        grammar, parser="lalr", lexer="contextual", propagate_positions=True, maybe_placeholders=False
    )
    _store(parser, stored)
    return parser


def _cache_file(key: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "archc" / f"grammar-{hashlib.sha256(key.encode()).hexdigest()[:16]}.pickle"


def _store(parser: Lark, path: Path) -> None:
    """Write the cache file at once or not at all; a folder that cannot be written to is no error."""
    import tempfile

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            parser.save(file)
        os.replace(file.name, path)
    except OSError:
        pass
