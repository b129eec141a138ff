"""Statements: what each does to the names of its scope and the body of its frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from archc.diagnostics import ArchError, Label, did_you_mean, fail
from archc.elaborate import branches, loops, operations
from archc.elaborate.assigning import bind_name
from archc.elaborate.expressions import binary, evaluate, items_of, truth
from archc.elaborate.frame import Scope
from archc.elaborate.owned import declare, declare_module, init_rule
from archc.elaborate.reading import assigned_names
from archc.elaborate.values import POISON, Many, Poison, kind_of
from archc.ir.graph import Value
from archc.ir.sym import Scalar
from archc.sizes import Size
from archc.source import Span
from archc.syntax import tree


def run_statements(body: tuple[tree.Statement, ...], scope: Scope) -> None:
    """Run statements in order. Errors are reported and the names of a failed statement poisoned, so that all of a
    component's independent mistakes are told at once."""
    for statement in body:
        try:
            run_statement(statement, scope)
        except ArchError as error:
            from archc.elaborate.spelling import spelled  # most runs have no mistake to tell

            scope.session.report(spelled(error, statement, scope))
            _poison_numbers(error, scope)
            declared = [statement.name] if isinstance(statement, tree.Declare) else []
            for name in (*assigned_names((statement,)), *declared):
                scope.env[name] = POISON
            if isinstance(statement, tree.Return):
                scope.returned = (POISON,)


def _poison_numbers(error: ArchError, scope: Scope) -> None:
    """A number that was refused where it stands alone is not told again at each further use of its name."""
    for found in error.diagnostics:
        name = found.span.text.rpartition("=")[2].strip() if found.span is not None else ""
        if found.code in ("E0206", "E0213") and isinstance(scope.env.get(name), Scalar):
            scope.env[name] = POISON


def run_statement(statement: tree.Statement, scope: Scope) -> None:
    match statement:
        case tree.Assign():
            _assign(statement, scope)
        case tree.Augment(target=target, op=op, value=value):
            if target not in scope.env:
                raise fail("E0201", f"nothing is called `{target}` here", statement.span,
                           helps=did_you_mean(target, scope.env))  # fmt: skip
            old = scope.env[target]
            result = binary(op[0], old, evaluate(value, scope), statement, scope)
            _same_axes(target, op, old, result, statement)
            bind_name(target, result, statement, scope)
        case tree.Return() if scope.component is not None and scope.component.role == "model":
            raise fail("E0223", "a model does not return", statement.span,
                       helps=("its results are bound by name: `output logits = ...`",))  # fmt: skip
        case tree.Return(values=values):
            if scope.returned is not None:
                raise fail("E0215", "a component returns once", statement.span, "this is a second `return`",
                           helps=("write it once, at the end: the arms of an `if` give their result the same name",))  # fmt: skip
            scope.returned = tuple(evaluate(v, scope) for v in values)
            if len(scope.returned) == 1 and isinstance(scope.returned[0], Many) and scope.returned[0].is_tuple:
                scope.returned = scope.returned[0].items
        case tree.Declare(keyword="input" | "state"):
            _model_only(statement.keyword, statement, scope)
            scope.model.declare_input(statement, scope)
        case tree.Declare():
            declare(statement, scope)
        case tree.Bind(keyword="module", targets=targets, value=value):
            declare_module(targets, value, statement, scope)
        case tree.Bind():
            _model_only(statement.keyword, statement, scope)
            scope.model.bind_output(statement, scope)
        case tree.Loop():
            loops.run_loop(statement, scope)
        case tree.If():
            branches.run_branch(statement, scope)
        case tree.Entry():
            _model_only("entry", statement, scope)
            scope.model.declare_entry(statement, scope)
        case tree.Require():
            _require(statement, scope)
        case tree.Init():
            scope.frame.inits.append(init_rule(statement, scope))
        case tree.Claim() | tree.Weights() | tree.Matches():
            if scope.model is None or scope.component is None or scope.component.role != "model":
                raise fail("E0223", "claims and weights belong to a model or a variant", statement.span)
            scope.model.fact(statement)
        case tree.Doc():
            pass
        case _:
            raise AssertionError(statement)


def _model_only(what: str, statement: tree.Node, scope: Scope) -> None:
    if scope.model is None or scope.component is None or scope.component.role != "model":
        raise fail("E0223", f"`{what}` belongs to a model", statement.span,
                   helps=("a component takes its tensors as parameters and gives results with `return`",))  # fmt: skip


def _assign(statement: tree.Assign, scope: Scope) -> None:
    value = evaluate(statement.value, scope)
    if len(statement.targets) == 1:
        bind_name(statement.targets[0], value, statement, scope)
        return
    if isinstance(value, Poison):
        for name in statement.targets:
            scope.env[name] = POISON
        return
    if isinstance(value, Value):
        raise fail("E0208", f"{len(statement.targets)} names for one tensor", statement.value.span, str(value.type),
                   helps=(f"`split(x, {len(statement.targets)}, C)` makes several of one",))  # fmt: skip
    items = items_of(value, statement.value)
    if len(items) != len(statement.targets):
        names, start = len(statement.targets), statement.span.start
        text = statement.span.source.text
        span = Span(statement.span.source, start, start + len(text[start : text.index("=", start)].rstrip()))
        given = ", ".join(str(i.type) for i in items if isinstance(i, Value)) or kind_of(value)
        helps = ("a result that is not needed is called `_`",) if names < len(items) else ()
        raise fail("E0208", f"{names} names for {len(items)} results", span, f"{names} names",
                   related=(Label(statement.value.span, f"{len(items)} results: {given}"),), helps=helps)  # fmt: skip
    for name, item in zip(statement.targets, items, strict=True):
        bind_name(name, item, statement, scope)


def _require(statement: tree.Require, scope: Scope) -> None:
    """A condition on numbers is tested here; one on sizes becomes part of the contract."""
    _demand(statement.condition, statement.message or f"required: {statement.condition.span.text}", scope)


def _demand(expr: tree.Expr, why: str, scope: Scope) -> None:
    while isinstance(expr, tree.Paren):
        expr = expr.expr
    match expr:
        case tree.Binary(op="and", left=left, right=right):
            _demand(left, why, scope)
            _demand(right, why, scope)
            return
        case tree.Compare(ops=ops, operands=operands) if len(ops) > 1:
            for op, left, right in zip(ops, operands, operands[1:], strict=False):
                _demand(replace(expr, ops=(op,), operands=(left, right)), why, scope)
            return
    if _demand_sizes(expr, why, scope):
        return
    condition = evaluate(expr, scope)
    if isinstance(condition, Poison):
        return
    match truth(condition, expr):
        case False:
            raise fail("E0212", why, expr.span, "this does not hold")
        case None:
            raise fail("E0209", "this condition on the sizes of the inputs cannot be part of the contract", expr.span,
                       helps=("requirements on sizes are said with `==`, `<`, `<=`, `>`, `>=` and `and`",))  # fmt: skip


def _demand_sizes(expr: tree.Expr, why: str, scope: Scope) -> bool:
    """States a comparison of sizes as an obligation; False where it is none, or does not depend on the inputs."""
    if not (isinstance(expr, tree.Compare) and expr.ops[0] in ("==", ">=", "<=", ">", "<")):
        return False
    sides = [evaluate(o, scope) for o in expr.operands]
    if not all(isinstance(s, Scalar) and isinstance(s.value, (int, Size)) for s in sides):
        return False
    left, right = (Size.of(s.value) for s in sides)
    if left.constant is not None and right.constant is not None:
        return False
    checker = operations.Checker(scope, expr.span)
    from archc.ops.base import OpError

    try:
        match expr.ops[0]:
            case "==":
                checker.equal(left, right, why, "E0212")
            case ">=":
                checker.at_least(left, right, why, "E0212")
            case ">":
                checker.at_least(left, right + 1, why, "E0212")
            case "<=":
                checker.at_least(right, left, why, "E0212")
            case _:
                checker.at_least(right, left + 1, why, "E0212")
    except OpError as error:
        raise operations.op_error(error, expr.span) from None
    return True


def _same_axes(name: str, op: str, old: Any, new: Any, statement: tree.Augment) -> None:
    """Raises ArchError E0310 where `name op= ...` would give a tensor further axes."""
    if not isinstance(old, Value) or not isinstance(new, Value) or set(new.type.names) == set(old.type.names):
        return
    more = ", ".join(axis for axis in new.type.names if axis not in old.type)
    raise fail("E0310", f"`{name} {op} ...` keeps the axes of `{name}`, and the right side has {more} besides",
               statement.span, f"`{name}` is {old.type}",
               helps=(f"`sum` or `mean` over {more} first, or merge it into another axis",
                      f"to repeat `{name}` along {more}, write `{name} = {name} {op[0]} ...`"))  # fmt: skip
