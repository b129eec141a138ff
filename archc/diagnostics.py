"""What archc says about a spec: data here, drawn by `archc.report`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from archc.records import dataclass
from archc.source import Span

MOST_FINDINGS = 50  # a stage looks no further, and no more are drawn
LONGEST_TEXT = 1_000  # of a message, a label or a note, in characters
MOST_WORDS = 1_000  # that a misspelt one is compared with


@dataclass(frozen=True)
class Label:
    """A place in a spec with a few words about it."""

    span: Span
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _short(self.text))


@dataclass(frozen=True)
class Diagnostic:
    """One finding.

    `label` is the cause, written under the caret; `related` are the places where what was expected comes
    from; `notes` explain and `helps` say how to mend it. `uses` are the calls that led to a component in
    which the cause lies, the innermost first.
    """

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    related: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()
    severity: str = "error"
    uses: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        for name in ("message", "label"):
            object.__setattr__(self, name, _short(getattr(self, name)))
        for name in ("notes", "helps"):
            object.__setattr__(self, name, tuple(_short(text) for text in getattr(self, name)))


class ArchError(Exception):
    """Raised at the end of a stage with everything that the stage found."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("; ".join(f"{d.code}: {d.message}" for d in self.diagnostics))


def fail(code: str, message: str, span: Span | None = None, label: str = "", **more: Any) -> ArchError:
    """An `ArchError` with one diagnostic, to be raised by the caller."""
    return ArchError([Diagnostic(code, message, span, label, **more)])


def in_order(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Findings in the order of the text: file by file as they are met, and from top to bottom in each."""
    found = list(diagnostics)
    files: dict[int, int] = {}
    for d in found:
        files.setdefault(id(d.span.source) if d.span is not None else 0, len(files))
    return sorted(
        found, key=lambda d: (files[id(d.span.source)], d.span.start) if d.span is not None else (files[0], 0)
    )


def _short(text: str) -> str:
    """A message may quote a spec, and a spec may hold a megabyte in one word."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."


def did_you_mean(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """A help line naming the known word closest to `name`, if one is close."""
    words: dict[str, str] = {}
    for word in islice(known, MOST_WORDS):
        if word != name:
            words.setdefault(word.lower(), word)
    found = closest_slip(name, words.values())
    if found is None:
        from difflib import get_close_matches  # most runs have no mistake to tell

        close = get_close_matches(name.lower(), words, n=1, cutoff=0.6)
        found = words[close[0]] if close else None
    return (f"did you mean `{found}`?",) if found is not None else ()


def closest_slip(name: str, known: Iterable[str]) -> str | None:
    """The known word that one slip of the hand turns into `name`, the commonest sort of slip first."""
    slips = [(slip, number, word) for number, word in enumerate(known) if (slip := _slip(name, word)) is not None]
    return min(slips)[2] if slips else None


def _slip(a: str, b: str) -> int | None:
    """What makes `b` of `a`: two neighbours exchanged (0), one letter more or less (1), one changed (2).

    None where it is more than that; one letter is no slip of another. Where capital letters differ besides, it is 3 more.
    """
    exact = _slip_of(a, b)
    if exact is not None or max(len(a), len(b)) < 3:
        return exact
    folded = 0 if a.lower() == b.lower() and a != b else _slip_of(a.lower(), b.lower())
    return folded + 3 if folded is not None else None


def _slip_of(a: str, b: str) -> int | None:
    if a == b or abs(len(a) - len(b)) > 1:
        return None
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    left, right = a[same:], b[same:]
    if len(left) > 1 and left[1::-1] == right[:2] and left[2:] == right[2:]:
        return 0
    if left[1:] == right or left == right[1:]:
        return 1
    return 2 if left[1:] == right[1:] and len(a) > 2 else None
