"""How a finding was reached: the calls around it, and what they hand over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import cache
from pathlib import Path
from typing import Any

from archc.diagnostics import Diagnostic, Label, fail
from archc.elaborate.reading import assigned_names, names_in
from archc.elaborate.values import ComponentRef, FnRef
from archc.ir.graph import Value
from archc.ir.sym import Scalar
from archc.ops.checks import shown
from archc.records import dataclass
from archc.resources import folder
from archc.sizes import Size
from archc.source import Source, Span
from archc.syntax import tree

SHOWN_CALLS = 4
LONGEST_NUMBER = 40
# What a call hands over may be the cause of these; all others are mended where they stand.
OF_VALUES = frozenset("E0111 E0206 E0210 E0211 E0212 E0213 E0404".split())
LOCAL = frozenset({"E0306", "E0351"})


@dataclass(frozen=True)
class Use:
    """A call of a component or function that is being elaborated, with what it was given."""

    callee: ComponentRef | FnRef
    span: Span
    given: Mapping[str, Any]
    spans: Mapping[str, Span] = field(default_factory=dict)  # where the arguments are written

    @property
    def label(self) -> Label:
        given = ", ".join(text for name, value in self.given.items() if (text := _given(name, value)))
        return Label(self.span, f"`{self.callee.tree.name}` is used here" + (f" with {given}" if given else ""))


def _given(name: str, value: Any) -> str:
    """One argument in a message; "" for what is neither a tensor nor a number, or too long to be read."""
    match value:
        case Value(type=type):
            return f"{name}: {type}"
        case Scalar(value=int() | float() | tuple() | Size()):
            text = shown(value)
            return f"{name} = {text}" if len(text) <= LONGEST_NUMBER else ""
        case _:
            return ""


def traced(diagnostic: Diagnostic, trail: Sequence[Use]) -> Diagnostic:
    """The finding with the calls that led to it, where sizes or numbers that they hand over may be the cause.

    What is found in the standard library is told at the call that led there: nobody mends it there.
    """
    span = diagnostic.span
    if span is None or diagnostic.uses:
        return diagnostic
    inside = [number for number, use in enumerate(trail) if _within(span, use.callee.tree.span)]
    around = [*reversed(trail[: inside[-1] + 1])] if inside else []
    if around and in_library(span.source):
        outer = next((n for n, use in enumerate(around) if not in_library(use.span.source)), len(around) - 1)
        there = Label(span, f"`{around[0].callee.tree.name}` asks for it here")
        told_at = around[outer].spans.get(span.text, around[outer].span)  # an argument, if that is what is refused
        diagnostic = replace(diagnostic, span=told_at, related=(*diagnostic.related, there))
        around = around[outer + 1 :]
    told = diagnostic.code in OF_VALUES or (diagnostic.code.startswith("E03") and diagnostic.code not in LOCAL)
    if not told:
        return diagnostic
    kept = around if len(around) <= SHOWN_CALLS else [*around[: SHOWN_CALLS - 1], around[-1]]
    return replace(diagnostic, uses=tuple(use.label for use in kept))


def written(name: str, value: Any, trail: Sequence[Use]) -> Span | None:
    """Where the value of a component's parameter was written, through the calls that only hand it on."""
    found = None
    for use in reversed(trail):
        if name not in use.spans or type(use.given.get(name)) is not type(value):
            break
        found = use.spans[name]
        name = found.text.rpartition("=")[2].strip()
    return found


def place(span: Span, trail: Sequence[Use]) -> Span:
    """`span`, or the call that led to it where it lies in the standard library."""
    return next((s for s in (span, *(use.span for use in reversed(trail))) if not in_library(s.source)), span)


def refuse_circles(use: Use, trail: Sequence[Use]) -> None:
    """Raises ArchError E0403 where a component or function that is being elaborated is used once more by its own text.

    A recipe may be given to the component that it was made of: only what the text names goes round.
    """
    again = next((known for known in trail if known.callee.tree.span == use.callee.tree.span), None)
    circle = _circle(use.callee, use.callee, [use.callee]) if again is not None else None
    if circle is None:
        return
    through = f" through {', '.join(f'`{ref.tree.name}`' for ref in circle)}" if circle else ""
    raise fail("E0403", f"`{use.callee.tree.name}` uses itself{through}", use.span, "this would never end",
               helps=("write `repeat n { }` or `for` for new weights each turn, `loop n { }` for the same weights",))  # fmt: skip


def _circle(ref: ComponentRef | FnRef, goal: ComponentRef | FnRef, seen: list[Any]) -> tuple[Any, ...] | None:
    """The components on the way from `ref` back to `goal`, without both; None where there is no way."""
    for name in _mentioned(ref):
        other = ref.file.names.get(name)
        if other is goal:
            return ()
        if isinstance(other, (ComponentRef, FnRef)) and other not in seen:
            seen.append(other)
            found = _circle(other, goal, seen)
            if found is not None:
                return (other, *found)
    return None


def _mentioned(ref: ComponentRef | FnRef) -> list[str]:
    """The names that a text reads from its file."""
    own = {p.name for p in ref.tree.parameters}
    if isinstance(ref.tree, tree.Component):
        own.update(assigned_names(ref.tree.body))
    return [name for name in dict.fromkeys(names_in(ref.tree.body)) if name not in own]


def _within(inner: Span, outer: Span) -> bool:
    return inner.source is outer.source and outer.start <= inner.start and inner.end <= outer.end


def in_library(source: Source) -> bool:
    """Whether a file belongs to the standard library that archc ships."""
    return source.path is not None and source.path.is_relative_to(_library())


@cache
def _library() -> Path:
    return folder("specs").resolve() / "std"
