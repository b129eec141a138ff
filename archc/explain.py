"""`archc explain CODE`: the page of an error code.

Each code has a Markdown page `grammar/errors/CODE.md`:

    # E0102: a bracket is never closed
    what the message means and why archc insists
    a code block marked `arch fails`, which gives the error
    a code block marked `arch works`, the same mended

Where the error is not about spec text, the blocks show a terminal and are marked `console` instead of `arch`.
"""

from __future__ import annotations

from pathlib import Path

from archc.diagnostics import did_you_mean, fail
from archc.resources import folder


def explain(code: str) -> str:
    """The Markdown page of `code`, in either case of letters; raises ArchError for an unknown code."""
    known = _pages()
    page = known.get(code.upper())
    if page is None:
        helps = did_you_mean(code.upper(), known) or ("the codes are printed in messages: error[E0102]",)
        raise fail("E0901", f"no error has the code `{code}`", helps=helps)
    return page.read_text(encoding="utf-8")


def codes() -> list[str]:
    """All error codes that have a page, in order."""
    return sorted(_pages())


def _pages() -> dict[str, Path]:
    return {page.stem: page for page in (folder("grammar") / "errors").glob("E*.md")}
