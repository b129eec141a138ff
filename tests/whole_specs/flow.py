"""Loops and branches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from whole_specs.author import Author, Diverged, Tape, Unfit
from whole_specs.statements import carried_name, change, fold, forget, statement, write


@statement("loop", deepest=1)
def loop(a: Author, depth: int) -> None:
    """`repeat`, `loop`, `for` and `stage`, some turns each."""
    frame = a.frame
    keyword = a.pick(["repeat", "loop", "for", "stage"])
    if keyword != "loop" and not frame.owning:
        raise Unfit
    carried = carried_name(a)
    frame.fresh += 1
    label = f"m{frame.fresh}"
    index = a.pick(["", f"i{frame.fresh}"])
    values: list[dict[str, int]] = []
    if keyword in ("repeat", "loop"):
        text, count = a.number([2, 1, 3])
        head = f"{label}: {keyword} {text}{f' as {index}' if index else ''} {{"
        values = [{index: i} if index else {} for i in range(count)]
    else:
        items = a.pick([[4, 2], [6], [2, 4, 3]])
        lists = [n for n, v in frame.recipes.items() if v == repr(items)]
        over = a.pick([str(items), *lists])
        dim = f"d{frame.fresh}"
        turns = f"{index}, {dim} in enumerate({over})" if index else f"{dim} in {over}"
        head = f"{label}: {keyword} {turns} {{"
        values = [{dim: n, **({index: i} if index else {})} for i, n in enumerate(items)]
    a.uses(keyword)
    weighted = frame.owning and (keyword != "loop" or a.coin())
    number = a.pick([0, 1, 2])
    tape: Tape = a.source.take(Tape)
    outer = (frame.prefix, frame.labels, frame.scalars, frame.lines, frame.modules, a.sharing, frame.indent)
    start, before, known = frame.fresh, set(frame.unread), set(frame.tensors)
    body: list[str] | None = None
    a.line(head)
    opened = frame.lines
    try:
        for turn, numbers in enumerate(values):
            frame.prefix = f"{outer[0]}{label}." + ("" if keyword == "loop" else f"{turn}.")
            frame.labels, frame.scalars = set(), {**outer[2], **numbers}
            frame.modules = outer[4] if keyword == "loop" else {}
            frame.lines, frame.fresh, frame.indent = [], start, outer[6] + 1
            a.sharing = outer[5] or (keyword == "loop" and turn > 0)
            with a.playing(tape):
                write(a, number, depth + 1)
                if a.frame.tensors[carried].fixed("C") is None or a.frame.tensors[carried].dtype != "float":
                    raise Unfit
                change(a, carried, weighted)
                fold(a, before, carried)
            forget(a, known)
            before -= {carried}
            if body is not None and frame.lines != body:
                raise Unfit
            body = frame.lines
    except Diverged:
        raise Unfit from None
    finally:
        frame.prefix, frame.labels, frame.scalars, _, frame.modules, a.sharing, frame.indent = outer
        frame.lines = opened
    frame.lines += body or []
    a.line("}")


@statement("if on numbers", deepest=1)
def branch_on_numbers(a: Author, depth: int) -> None:
    """`if k > 1 { } else { }`: decided when the network is built."""
    frame = a.frame
    names = [n for n in frame.scalars if n != "C"] or list(frame.scalars)
    name = a.pick(names)
    value = frame.scalars[name]
    sign = a.pick([">", "==", "<="])
    taken = {">": value > 1, "==": value == 1, "<=": value <= 1}[sign]
    if isinstance(value, bool):
        text, taken = a.pick([(name, value), (f"not {name}", not value)])
    else:
        text = f"{name} {sign} 1"
    target = carried_name(a)
    other = a.coin()
    tapes = [a.source.take(Tape), a.source.take(Tape)] if other else [a.source.take(Tape)]
    number = a.pick([0, 1])
    a.line(f"if {text} {{")
    start, known, before = frame.fresh, set(frame.tensors), set(frame.unread)
    names_before = frame.tensors[target].names
    lines, frame.lines = frame.lines, []
    arms = []
    for tape, chosen in zip(tapes, (taken, not taken), strict=False):
        frame.lines, frame.fresh = [], start + (0 if not arms else 20)
        saved = _mind(a)
        with a.playing(tape), _arm(a):
            write(a, number, depth + 2)
            change(a, target, frame.owning and a.coin())
            fold(a, before, target)
        written = frame.lines
        if frame.tensors[target].names != names_before:
            raise Unfit
        forget(a, known)
        if not chosen:
            _forget_arm(a, saved)
        arms.append(written)
    frame.lines, frame.fresh = lines, start + 40
    frame.lines += arms[0]
    if other:
        a.line("} else {")
        frame.lines += arms[1]
    a.line("}")
    frame.tensors.update({n: t.exact() for n, t in frame.tensors.items()})
    frame.unread[target] = None


@contextmanager
def _arm(a: Author) -> Iterator[None]:
    """Within an arm, which is written one step in."""
    frame = a.frame
    outer = frame.arm, frame.indent
    frame.arm, frame.indent = True, frame.indent + 1
    try:
        yield
    finally:
        frame.arm, frame.indent = outer


def _mind(a: Author) -> tuple[Any, ...]:
    """What an arm may change."""
    frame, count = a.frame, a.count
    return (
        dict(frame.tensors),
        dict(frame.unread),
        set(frame.labels),
        count.alive.copy(),
        list(count.needs),
        dict(count.weights),
        count.macs.copy(),
    )


def _forget_arm(a: Author, saved: tuple[Any, ...]) -> None:
    """An arm that is not taken leaves nothing behind."""
    frame, count = a.frame, a.count
    frame.tensors, frame.unread, _, count.alive, count.needs, count.weights, count.macs = saved


@statement("if on sizes", deepest=1)
def branch_on_sizes(a: Author, depth: int) -> None:
    """`if H > 4 { } else { }`: both arms are checked."""
    frame = a.frame
    if not frame.sizes:
        raise Unfit
    name = a.pick(sorted(frame.sizes))
    if frame.sizes[name].constant is not None:
        raise Unfit
    condition, where, plain = _condition_on_sizes(a, name, frame.sizes[name].at)
    target = carried_name(a)
    tapes = [a.source.take(Tape), a.source.take(Tape)]
    # What arms of a compound condition need may be asked of all inputs.
    statements = a.pick([0, 1]) if plain else 0
    start, known, before = frame.fresh, set(frame.tensors), set(frame.unread)
    type = frame.tensors[target]
    a.line(f"if {condition} {{")
    lines, owning = frame.lines, frame.owning
    arms = []
    frame.owning = False
    try:
        for tape, guard in zip(tapes, (where, ~where), strict=True):
            frame.lines, frame.fresh = [], start + 20 * len(arms)
            held = dict(frame.tensors), dict(frame.unread)
            with a.playing(tape), a.guarded(guard), _arm(a):
                write(a, statements, depth + 2)
                change(a, target, False)
                fold(a, before, target)
            made = frame.tensors[target]
            if made.names != type.names or not all(made[n].same(s) for n, s in type.axes):
                raise Unfit
            arms.append(frame.lines)
            frame.tensors, frame.unread = held
            frame.tensors.pop(target)
            frame.tensors[target] = type
    finally:
        frame.owning = owning
    forget(a, known)
    frame.lines, frame.fresh = lines, start + 40
    frame.lines += arms[0]
    a.line("} else {")
    frame.lines += arms[1]
    a.line("}")
    frame.tensors.update({n: t.exact() for n, t in frame.tensors.items()})
    frame.unread[target] = None


def _condition_on_sizes(a: Author, name: str, at: np.ndarray) -> tuple[str, np.ndarray, bool]:
    """A condition with where it holds, and whether it is one comparison."""
    n = a.pick([4, 8, 6])
    plain = {f"{name} > {n}": at > n, f"{name} <= {n}": at <= n, f"{name} == {n}": at == n, f"{name} != {n}": at != n}
    plain |= {f"{name} % 2 == 1": at % 2 == 1, f"not ({name} >= {n})": at < n, f"{name} % 3": at % 3 != 0}
    others = {f"2 < {name} <= {n}": (at > 2) & (at <= n), f"{name} > {n} and {name} % 2 == 0": (at > n) & (at % 2 == 0)}
    others |= {f"{name} == {n} or {name} < 3": (at == n) | (at < 3)}
    text = a.pick([*plain, *others])
    return text, {**plain, **others}[text], text in plain
