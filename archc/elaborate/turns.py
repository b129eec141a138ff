"""What the variables of a loop are in one turn, and the sizes that its turns change when it is over."""

from __future__ import annotations

from archc.elaborate.frame import mentions
from archc.ir.graph import Repeat, Statement
from archc.ir.sym import Apply, Const, Scalar, Sym, apply, substitute


def items_at(keyword: str, targets: tuple[str, ...], iterable: Scalar | None, place: int, at: Sym) -> dict[str, Sym]:
    """What the loop's own variables are in one turn: number `at`, which is at `place` in the lists."""
    if keyword in ("repeat", "loop"):
        return dict.fromkeys(targets, at)
    match iterable.sym if iterable is not None else None:
        case Apply("enumerate", (items,)) if len(targets) == 2:
            return {targets[0]: at, targets[1]: apply("index", items, Const(place))}
        case Apply("zip", lists) if len(targets) == len(lists):
            return {target: apply("index", items, Const(place)) for target, items in zip(targets, lists, strict=True)}
        case Apply("list", items) if len(targets) == 1:
            return {targets[0]: items[place]}
        case sym if sym is not None and len(targets) == 1:
            return {targets[0]: apply("index", sym, Const(place))}
    return {}


def sizes_behind(body: tuple[Statement, ...]) -> dict[str, Sym]:
    """What the sizes that change in the loops of a finished body are behind them, where its own parameters say it."""
    found: dict[str, Sym] = {}
    for statement in body:
        if not isinstance(statement, Repeat) or not statement.turns:
            continue
        last = items_at(statement.keyword, statement.targets, statement.iterable, -1, _last_number(statement))
        changing = frozenset(statement.targets) | {phi.var.name for phi in statement.phis}
        for phi in statement.phis:
            size = substitute(substitute(phi.next, last), found)
            if not mentions(size, changing):
                found[phi.var.name] = size
    return found


def _last_number(loop: Repeat) -> Sym:
    """The number of the last turn of a loop that counts them."""
    count: Sym = Const(len(loop.turns))
    match loop.iterable.sym if loop.iterable is not None else None:
        case Apply("enumerate", (items,)):
            count = apply("len", items)
        case sym if sym is not None and loop.keyword in ("repeat", "loop"):
            count = sym
        case _:
            pass
    return apply("-", count, Const(1))
