"""Branches: on compile-time numbers both arms are kept, on sizes both are checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from archc.contract import Condition, Relation
from archc.diagnostics import ArchError, fail
from archc.elaborate import statements
from archc.elaborate.expressions import evaluate, truth
from archc.elaborate.frame import Scope
from archc.elaborate.reading import assigned_names
from archc.elaborate.values import POISON, Module, Poison
from archc.ir.graph import (
    Branch,
    Merge,
    Value,
)
from archc.ir.sym import Const, Scalar, Sym, apply, const, variables
from archc.ir.types import Dim, TensorType
from archc.sizes import Size
from archc.syntax import tree


def run_branch(statement: tree.If, scope: Scope) -> None:
    condition = evaluate(statement.condition, scope)
    if isinstance(condition, Poison):
        for name in assigned_names(statement.then + statement.otherwise):
            scope.env[name] = POISON
        return
    chosen = truth(condition, statement.condition)
    if chosen is not None and isinstance(condition.sym, Const):
        statements.run_statements(statement.then if chosen else statement.otherwise, scope)
        return
    if chosen is None:
        _branch_on_sizes(condition, statement, scope)
        return
    saved = dict(scope.env)
    taken, other = (statement.then, statement.otherwise) if chosen else (statement.otherwise, statement.then)
    body, env = _arm(taken, condition.sym, chosen, scope, saved)
    ghost = _ghost_arm(other, condition.sym, not chosen, scope, saved)
    scope.env.clear()
    scope.env.update(env)
    merges = _merge(saved, env, ghost[1] if ghost else None, chosen, condition, statement, scope)
    arms = (body, ghost[0] if ghost else None) if chosen else (ghost[0] if ghost else None, body)
    scope.frame.add(Branch(condition, chosen, *arms, merges, statement.span))


def _arm(
    body: tuple[tree.Statement, ...], condition: Sym | None, truth_here: bool, scope: Scope, env: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    from archc.ir.graph import Guard

    frame = scope.frame
    outer, frame.body = frame.body, []
    guards = frame.level.guards
    # One module serves calls with and without an optional input: it has the weights of both arms.
    if condition is not None and not _optional_inputs(scope) & variables(condition).keys():
        frame.level.guards = (*guards, Guard(condition, truth_here))
    scope.env.clear()
    scope.env.update(env)
    try:
        statements.run_statements(body, scope)
        return tuple(frame.body), dict(scope.env)
    finally:
        frame.body = outer
        frame.level.guards = guards


def _optional_inputs(scope: Scope) -> set[str]:
    return {i.name for i in scope.model.inputs if i.default is not None} if scope.model is not None else set()


def _ghost_arm(
    body: tuple[tree.Statement, ...], condition: Sym, truth_here: bool, scope: Scope, env: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:  # fmt: skip
    """The arm that this build does not take, for the sake of builds that do; None where it makes no sense here."""
    level, frame = scope.frame.level, scope.frame
    entries, returned, captured = list(level.entries), scope.returned, list(frame.inputs)
    try:
        with scope.session.ghost():
            return _arm(body, condition, truth_here, scope, env)
    except (ArchError, AssertionError):
        level.entries[:] = entries
        frame.inputs[:] = captured
        return None
    finally:
        scope.returned = returned


def _merge(
    before: dict[str, Any], taken: dict[str, Any], other: dict[str, Any] | None, chosen: bool, condition: Scalar,
    statement: tree.If, scope: Scope,
) -> tuple[Merge, ...]:  # fmt: skip
    """After a branch: numbers become choices, tensors get one name for both arms."""
    merges = []
    for name in assigned_names(statement.then + statement.otherwise):
        mine = taken.get(name)
        theirs = (other or {}).get(name, before.get(name))
        if isinstance(mine, Scalar) and isinstance(theirs, Scalar) and mine.sym != theirs.sym:
            arms = (mine.sym, theirs.sym) if chosen else (theirs.sym, mine.sym)
            scope.env[name] = replace(mine, sym=apply("if", condition.sym, *arms))
        if not isinstance(mine, Value):
            continue
        value = scope.frame.use(mine)
        type = value.type
        alternative = None
        if isinstance(theirs, Value) and theirs.type.names == mine.type.names and theirs.type.dtype == mine.type.dtype:
            alternative = scope.frame.use(theirs)
            type = _choose_types(value.type, alternative.type, condition.sym, chosen)
        result = scope.frame.value(type, statement.span, name)
        merges.append(Merge(name, value, alternative, result) if chosen else Merge(name, alternative, value, result))
        scope.env[name] = result
    return tuple(merges)


def _choose_types(mine: TensorType, theirs: TensorType, condition: Sym, chosen: bool) -> TensorType:
    axes = []
    for a, b in zip(mine.axes, theirs.axes, strict=True):
        sym = a.dim.sym
        if sym is not None and b.dim.sym is not None and sym != b.dim.sym:
            sym = apply("if", condition, *((sym, b.dim.sym) if chosen else (b.dim.sym, sym)))
        axes.append(a.sized(Dim(a.size, sym)))
    return mine.with_axes(axes)


def _branch_on_sizes(condition: Scalar, statement: tree.If, scope: Scope) -> None:
    """Both arms run for some sizes: both are checked, must agree in their types and own no weights."""
    from archc.elaborate.frame import rewrite

    condition = scope.frame.localise(condition)
    del rewrite
    saved = dict(scope.env)
    guards = _guards_of(statement.condition, scope)
    entries = {e.name for e in scope.frame.level.entries}
    arms = []
    outer_guards = scope.session.guards
    for body, guard in ((statement.then, guards[0]), (statement.otherwise, guards[1])):
        scope.session.guards = (*outer_guards, *guard)
        try:
            arms.append(_arm(body, None, True, scope, saved))
        finally:
            scope.session.guards = outer_guards
    shared = {m.name for m in saved.values() if isinstance(m, Module)}
    if any(e.name not in entries | shared for e in scope.frame.level.entries):
        raise fail("E0227", "a branch on the sizes of the inputs cannot make weights", statement.span,
                   helps=("declare a `module` above the `if` and use it in both arms",))  # fmt: skip
    scope.env.clear()
    scope.env.update(saved)
    merges = []
    for name in assigned_names(statement.then + statement.otherwise):
        pair = [env.get(name) for _, env in arms]
        if not all(isinstance(v, Value) for v in pair):
            if any(isinstance(v, Poison) for v in pair):
                scope.env[name] = POISON
            elif None not in pair and pair[0] == pair[1]:
                scope.env[name] = pair[0]
            elif name in saved:
                raise fail("E0227", f"the arms give `{name}` different values", statement.span,
                           helps=("behind the branch it must be one number or list, or a tensor of one type",))  # fmt: skip
            else:
                scope.env.pop(name, None)  # one arm's own
            continue
        then, otherwise = (scope.frame.use(v) for v in pair)  # type: ignore[arg-type]
        if then.type.names != otherwise.type.names or any(
            a.size != b.size for a, b in zip(then.type.axes, otherwise.type.axes, strict=True)
        ):
            raise fail(
                "E0227", f"the arms give `{name}` different types: {then.type} and {otherwise.type}", statement.span
            )
        result = scope.frame.value(then.type, statement.span, name)
        merges.append(Merge(name, then, otherwise, result))
        scope.env[name] = result
    scope.frame.add(Branch(condition, None, arms[0][0], arms[1][0], tuple(merges), statement.span))


def _guards_of(expr: tree.Expr, scope: Scope) -> tuple[tuple[Condition, ...], tuple[Condition, ...]]:
    """What is known of the sizes in either arm of a branch on `expr`. Obligations of an arm hold under these guards:
    where they say less than the condition, more is asked of the inputs than need be, never less."""
    match expr:
        case tree.Paren(expr=inner):
            return _guards_of(inner, scope)
        case tree.Unary(op="not", operand=operand):
            holds, fails = _guards_of(operand, scope)
            return fails, holds
        case tree.Binary(op="and" | "or" as op, left=left, right=right):
            one, other = _guards_of(left, scope), _guards_of(right, scope)
            return (one[0] + other[0], ()) if op == "and" else ((), one[1] + other[1])
        case tree.Compare(ops=ops, operands=operands):
            pairs = list(zip(ops, operands, operands[1:], strict=False))
            found = [_compared(op, evaluate(a, scope), evaluate(b, scope)) for op, a, b in pairs]
            known = tuple(one for one in found if one is not None)
            return known, (known[0].opposite,) if len(pairs) == len(known) == 1 else ()
    number = evaluate(expr, scope)
    is_zero = _compared("==", number, const(0))
    return ((is_zero.opposite,), (is_zero,)) if is_zero is not None else ((), ())


def _compared(op: str, left: Any, right: Any) -> Condition | None:
    """A comparison of sizes as a guard; None for anything else."""
    sides = [x.value for x in (left, right) if isinstance(x, Scalar) and isinstance(x.value, (int, Size))]
    relations: dict[str, Relation] = {"<": "lt", ">=": "ge", ">": "gt", "<=": "le", "==": "eq", "!=": "ne"}
    return Condition(relations[op], Size.of(sides[0]), Size.of(sides[1])) if len(sides) == 2 else None
