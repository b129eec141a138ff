"""The message about tensors without a place and weights that got nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from archc.diagnostics import Diagnostic
from archc.source import Span

MOST_SHOWN = 5
MOST_SUGGESTED = 2


def leftovers(
    unplaced: Mapping[str, Sequence[int]], empty: Mapping[str, Sequence[int]], span: Span | None
) -> Diagnostic:
    """E0601: what is left over on either side (key -> shape), shortened, with rules that might mend it."""
    counts = []
    if unplaced:
        counts.append(f"{_count(len(unplaced), 'tensor has', 'tensors have')} no place")
    if empty:
        counts.append(f"{_count(len(empty), 'weight', 'weights')} got nothing")
    notes = [f"no place: {_listed(unplaced)}"] if unplaced else []
    notes += [f"got nothing: {_listed(empty)}"] if empty else []
    return Diagnostic("E0601", ", ".join(counts), span, notes=tuple(notes), helps=tuple(_suggestions(unplaced, empty)))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _listed(shapes: Mapping[str, Sequence[int]]) -> str:
    shown = [f"`{key}` {list(shape)}" for key, shape in list(shapes.items())[:MOST_SHOWN]]
    more = len(shapes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _suggestions(unplaced: Mapping[str, Sequence[int]], empty: Mapping[str, Sequence[int]]) -> list[str]:
    """Rules for the first few tensors: each to the weight of its shape that has the closest name."""
    found = []
    for key, shape in list(unplaced.items())[:MOST_SHOWN]:
        alike = [k for k, s in empty.items() if tuple(s) == tuple(shape)]
        same_leaf = [k for k in alike if k.rpartition(".")[2] == key.rpartition(".")[2]]
        close = get_close_matches(key, same_leaf or alike, n=1, cutoff=0.3)
        if close:
            found.append(f'perhaps `"{key}" -> "{close[0]}"`')
    if not found and unplaced:
        first = next(iter(unplaced))
        found.append(f'what the model does not use is dropped in plain sight: `"{first}" -> drop`')
    return found[:MOST_SUGGESTED]
