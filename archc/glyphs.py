"""How many terminal columns text takes, and what stands in for characters that a terminal would act on."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import accumulate

TAB = "    "
MOST_MARKS = 3  # combining marks that are drawn on one character; the others become escapes


@lru_cache(maxsize=4096)
def glyph(char: str) -> tuple[str, int]:
    """What is drawn for `char`, and its columns.

    Control, formatting (bidirectional overrides, zero-width), private and unassigned characters become
    escapes; a combining mark has no column of its own; a wide East Asian character has two.
    """
    if char == "\t":
        return TAB, len(TAB)
    category = unicodedata.category(char)
    if category in ("Mn", "Me"):
        return char, 0
    if category[0] == "C" or category in ("Zl", "Zp"):
        return _escaped(char)
    return char, 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _escaped(char: str) -> tuple[str, int]:
    text = char.encode("unicode_escape").decode("ascii")
    return text, len(text)


# Many diagnostics may point into one very long line: it is measured once.
@lru_cache(maxsize=64)
def layout(text: str) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
    """The glyphs of `text`, their widths, and the column where each starts, with the end as a last entry."""
    pairs = [glyph(char) for char in text]
    marks = 0
    for at, (_, size) in enumerate(pairs):
        marks = marks + 1 if size == 0 else 0
        if marks > MOST_MARKS:
            pairs[at] = _escaped(text[at])
    widths = tuple(size for _, size in pairs)
    return tuple(shown for shown, _ in pairs), widths, tuple(accumulate(widths, initial=0))


def measure(text: str) -> int:
    """The columns that `text` takes."""
    return layout(text)[2][-1]


def clean(text: str) -> str:
    """`text` in one line, safe to print: line breaks are spaces, other unsafe characters escapes."""
    return "".join(layout(" ".join(text.splitlines()) if "\n" in text else text)[0])
