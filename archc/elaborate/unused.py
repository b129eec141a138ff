"""A tensor that is computed and never used is a mistake: usually a stale name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from archc.diagnostics import Diagnostic, Label
from archc.ir.graph import Apply, Assign, Branch, Call, Merge, Relabel, Repeat, Statement, Value


def unused(body: tuple[Statement, ...], outputs: Iterable[Value], owner: str) -> list[Diagnostic]:
    """E0351 for every operation or call of a finished body that nothing reads."""
    read: set[int] = {v.uid for v in outputs}
    merges = _note_reads(body, read)
    # What a branch leaves under a name is read where the name is.
    while used := [m for m in merges if m.result.uid in read]:
        merges = [m for m in merges if m not in used]
        for merge in used:
            _add((merge.then, merge.otherwise), read)
    names: dict[int, str] = {}
    _note_names(body, names)
    found: list[Diagnostic] = []
    for statement in _steps(body):
        results = statement.outputs
        if isinstance(statement, Apply) and not statement.op.called and not statement.inputs:
            continue  # a declared weight may wait for its use in another variant
        if not results or any(v.uid in read for v in results):
            continue
        name = next((names[v.uid] for v in results if v.uid in names), "")
        if name.startswith("_"):
            continue
        what = f"`{name}`" if name else "this tensor"
        again = next(
            (a for a in body if isinstance(a, Assign) and a.name == name and a.span.start > statement.span.start), None
        )
        related = (Label(again.span, f"`{name}` gets another value here"),) if again is not None else ()
        lost = f"begin with it to go on from it: `{name} = {name} |> ...`" if again is not None else ""
        found.append(Diagnostic(
            "E0351", f"{what} is computed and never used", statement.span, f"nothing in `{owner}` reads it", related,
            helps=(lost or "if it was to be used, a later line may read another name", "to drop a result on purpose, call it `_`"),
        ))  # fmt: skip
    return found


def _steps(body: tuple[Statement, ...]) -> Iterable[Apply | Call]:
    for statement in body:
        match statement:
            case Apply() | Call():
                yield statement
            case Branch(taken=taken, then=then, otherwise=otherwise):
                if taken is not False:
                    yield from _steps(then or ())
                if taken is not True:
                    yield from _steps(otherwise or ())
            case Repeat(turns=turns):
                # What a turn leaves for the next is read by it; the last turn has no next.
                for turn in turns[:1] if len(turns) > 1 else ():
                    yield from _steps(turn.template.body)
            case _:
                pass


def _note_reads(body: tuple[Statement, ...], read: set[int]) -> list[Merge]:
    """Note what a body reads, and give the merges of its branches: they read something only if they are read."""
    found: list[Merge] = []
    for statement in body:
        match statement:
            case Apply(op=op, inputs=inputs):
                _add(inputs, read)
                _add_extents(op, read)
            case Call(inputs=inputs):
                _add(inputs, read)
            case Relabel(input=source, output=renamed):
                found.append(Merge("", source, None, renamed))
            case Branch(then=then, otherwise=otherwise, merges=merges):
                found += [*_note_reads(then or (), read), *_note_reads(otherwise or (), read), *merges]
            case Repeat(turns=turns):
                for turn in turns:
                    _add(turn.inputs, read)
                    _add(turn.template.outputs, read)
                    found += _note_reads(turn.template.body, read)
            case _:
                pass
    return found


def _add(item: Any, read: set[int]) -> None:
    if isinstance(item, Value):
        read.add(item.uid)
    elif isinstance(item, tuple):
        for inner in item:
            _add(inner, read)


def _add_extents(op: Any, read: set[int]) -> None:
    from archc.elaborate.frame import rewrite
    from archc.ir.sym import Extent, Sym, walk

    def note(sym: Sym) -> Sym:
        read.update(part.value for part in walk(sym) if isinstance(part, Extent))
        return sym

    rewrite(op, note)


def _note_names(body: tuple[Statement, ...], names: dict[int, str]) -> None:
    for statement in body:
        match statement:
            case Assign(name=name, value=Value(uid=uid)):
                names[uid] = name
            case Branch(then=then, otherwise=otherwise):
                _note_names(then or (), names)
                _note_names(otherwise or (), names)
            case Repeat(turns=turns):
                for turn in turns[:1]:
                    _note_names(turn.template.body, names)
            case _:
                pass
