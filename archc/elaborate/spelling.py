"""Words of a statement that nobody knows and that are one slip away from a word that is known here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from archc.diagnostics import ArchError, closest_slip
from archc.elaborate.frame import Scope, tensors_in
from archc.elaborate.owned import INITS
from archc.elaborate.scalars import CONSTANTS, FUNCTIONS
from archc.ops.base import parameters
from archc.ops.table import OPERATIONS
from archc.syntax import tree
from archc.syntax.lines import SCAN
from archc.syntax.mistakes import HARD
from archc.where.paths import PATHS
from archc.where.regions import REGIONS

HINT = re.compile(r"did you mean `([^`]*)`")
MOST_WORDS = 100  # of a statement that are looked at
# Words that are no names in statements.
MARKS = frozenset("in as with when within return param buffer const input output module exit loss init require".split())


def spelled(error: ArchError, statement: tree.Statement, scope: Scope) -> ArchError:
    """`error` with a word that the statement may misspell, where the error itself names none.

    An unknown word may be the name of an axis, so what is wrong with it often shows elsewhere.
    """
    if not error.diagnostics:
        return error
    first, *rest = error.diagnostics
    found = next(_slips(statement, scope), None)
    # What is said already is kept, unless it is a guess from afar about the very word.
    if found is None or any(HINT.match(help) for d in rest for help in d.helps):
        return error
    word, meant = found
    told = (
        f"did you mean `{meant}`?"
        if f"`{word}`" in first.message
        else f"`{word}` is not known here: did you mean `{meant}`?"
    )
    guesses = [help for help in first.helps if HINT.match(help)]
    if first.code == "E0201" and first.helps and not guesses:
        return error  # what the name is has been said
    if guesses and (f"`{word}`" not in first.message or any(_is_slip(word, help) for help in guesses)):
        return error
    return ArchError([replace(first, helps=(told, *(h for h in first.helps if h not in guesses))), *rest])


def _is_slip(word: str, help: str) -> bool:
    hint = HINT.match(help)
    return hint is not None and closest_slip(word, hint.groups()) is not None


def _slips(statement: tree.Statement, scope: Scope) -> Iterator[tuple[str, str]]:
    """(word, what it may be meant for)."""
    near = dict.fromkeys(name.removeprefix("next ") for name in scope.env)
    axes = {a.name for value in scope.env.values() for t in tensors_in(value) for a in t.type.axes}
    near |= dict.fromkeys([*sorted(axes), "positions"])
    if isinstance(statement, tree.Init) and statement.owner in OPERATIONS:
        near |= dict.fromkeys(OPERATIONS[statement.owner].attributes)
    names = {
        **near,
        **dict.fromkeys(
            [*scope.file.names, *OPERATIONS, *REGIONS, *PATHS, *FUNCTIONS, *CONSTANTS, *INITS, "true", "false", "none"]
        ),
    }
    words = list(islice(_words(statement), MOST_WORDS))
    called = [OPERATIONS[word] for word, _ in words if word in OPERATIONS]
    keywords = {**dict.fromkeys(p.name for op in called for p in parameters(op)), **dict.fromkeys(sorted(axes))}
    for word, is_keyword in words:
        known = keywords if is_keyword else names
        meant = closest_slip(word, known) if word not in known and word not in HARD | MARKS else None
        if meant is not None:
            yield word, meant


def _words(statement: tree.Statement) -> Iterator[tuple[str, bool]]:
    """The names that a statement reads, and whether each is the keyword of an argument; of a loop or branch, its head's."""
    match statement:
        case tree.Loop(iterable=read) | tree.If(condition=read) | tree.Assign(value=read) | tree.Bind(value=read):
            span = read.span if read is not None else None
        case tree.Entry():
            span = None
        case _:
            span = statement.span
    if span is None:
        return
    text = span.source.text
    for token in SCAN.finditer(text, span.start, span.end):
        after = text[token.end() :].lstrip()[:2]
        if token.lastgroup == "word" and token.group().isidentifier() and after[:1] != ":":
            yield token.group(), after[:1] == "=" and after != "=="
