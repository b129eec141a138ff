"""Statements: names are bound, loops are run turn by turn, branches keep both arms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from archc.contract import Obligation, settle
from archc.diagnostics import ArchError, did_you_mean, fail
from archc.elaborate import calls
from archc.elaborate.components import _call, finish, fresh
from archc.elaborate.expressions import bind_targets, binary, evaluate, help_label, items_of, symbolic, truth
from archc.elaborate.frame import Conflict, Frame, Level, Scope, mentions, tensors_in
from archc.elaborate.values import POISON, Deferred, Many, Module, Poison, kind_of
from archc.ir.graph import (
    Append,
    Assign,
    Branch,
    Call,
    ChildEntry,
    InitRule,
    ListEntry,
    Merge,
    OpEntry,
    Phi,
    Repeat,
    Template,
    Value,
    WeightEntry,
)
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Const, Scalar, Sym, Var, apply, const, variables
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Init, Weight
from archc.sizes import Size
from archc.syntax import tree

DTYPES = ("float", "int", "bool")
INITS = {"normal": (1, 2), "trunc_normal": (1, 2), "uniform": (1, 2), "eye": (0, 0), "xavier_uniform": (0, 1),
         "xavier_normal": (0, 1), "kaiming_uniform": (0, 0), "kaiming_normal": (0, 0), "zeros": (0, 0), "ones": (0, 0)}  # fmt: skip


def run_statements(body: tuple[tree.Statement, ...], scope: Scope) -> None:
    """Run statements in order. Errors are reported and the names of a failed statement poisoned, so that all of a
    component's independent mistakes are told at once."""
    for statement in body:
        try:
            run_statement(statement, scope)
        except ArchError as error:
            scope.session.report(error)
            for name in assigned_names((statement,)):
                scope.env[name] = POISON
            if isinstance(statement, tree.Return):
                scope.returned = (POISON,)


def run_statement(statement: tree.Statement, scope: Scope) -> None:
    match statement:
        case tree.Assign():
            _assign(statement, scope)
        case tree.Augment(target=target, op=op, value=value):
            if target not in scope.env:
                raise fail("E0201", f"nothing is called `{target}` here", statement.span,
                           helps=did_you_mean(target, scope.env))  # fmt: skip
            result = binary(op[0], scope.env[target], evaluate(value, scope), statement, scope)
            bind_name(target, result, statement, scope)
        case tree.Return(values=values):
            if scope.returned is not None:
                raise fail("E0215", "a component returns once", statement.span)
            scope.returned = tuple(evaluate(v, scope) for v in values)
            if len(scope.returned) == 1 and isinstance(scope.returned[0], Many) and scope.returned[0].is_tuple:
                scope.returned = scope.returned[0].items
        case tree.Declare(keyword="input" | "state"):
            _model_only(statement.keyword, statement, scope)
            scope.model.declare_input(statement, scope)
        case tree.Declare():
            _declare(statement, scope)
        case tree.Bind(keyword="module", targets=targets, value=value):
            _module(targets, value, statement, scope)
        case tree.Bind():
            _model_only(statement.keyword, statement, scope)
            scope.model.bind_output(statement, scope)
        case tree.Loop():
            _loop(statement, scope)
        case tree.If():
            _branch(statement, scope)
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


# ---- names


def bind_name(name: str, value: Any, node: tree.Node, scope: Scope) -> None:
    """Bind a name. Raises ArchError E0224 for the sizes of the signature, E0225 for modules and parameters."""
    if name in scope.sizes:
        raise fail("E0224", f"`{name}` is a size of the signature and cannot get a new value", node.span,
                   helps=(f"use another name, e.g. `{name.lower()}_out = ...`",))  # fmt: skip
    if isinstance(scope.env.get(name), Module):
        raise fail("E0225", f"`{name}` is a module and cannot get a new value", node.span)
    if isinstance(value, Scalar) and isinstance(value.sym, SymApply):
        value = Scalar(value.value, Var(name, value.sym)) if _may_name(name, scope) else value
    scope.env[name] = value
    if tensors_in(value) and not isinstance(value, Deferred):
        _note(name, value, node, scope)


def _may_name(name: str, scope: Scope) -> bool:
    """A name that stands for one number in the whole component may appear in the module under that name."""
    return scope.component is not None and _times_assigned(name, scope.component) == 1


def _times_assigned(name: str, component: tree.Component) -> int:
    taken = sum(1 for p in component.parameters if p.name == name)
    return taken + sum(1 for n in _all_assigned(component.body) if n == name)


def _note(name: str, value: Any, node: tree.Node, scope: Scope) -> None:
    frame = scope.frame
    if isinstance(value, Value):
        frame.add(Assign(name, frame.use(value), node.span))
    elif isinstance(value, Many) and not value.is_tuple and all(isinstance(i, Value) for i in value.items):
        frame.add(Assign(name, tuple(frame.use(t) for t in value.items), node.span))


def _assign(statement: tree.Assign, scope: Scope) -> None:
    value = evaluate(statement.value, scope)
    if len(statement.targets) == 1:
        bind_name(statement.targets[0], value, statement, scope)
        return
    if isinstance(value, Poison):
        for name in statement.targets:
            scope.env[name] = POISON
        return
    items = items_of(value, statement.value)
    if len(items) != len(statement.targets):
        raise fail("E0208", f"{len(statement.targets)} names for {len(items)} results", statement.span)
    for name, item in zip(statement.targets, items, strict=True):
        bind_name(name, item, statement, scope)


def _all_assigned(body: tuple[tree.Statement, ...]) -> list[str]:
    names: list[str] = []
    for statement in body:
        match statement:
            case tree.Assign(targets=targets):
                names += targets
            case tree.Augment(target=target):
                names.append(target)
            case tree.Loop(targets=targets, body=inner):
                names += [*targets, *_all_assigned(inner)]
            case tree.If(then=then, otherwise=otherwise):
                names += _all_assigned(then) + _all_assigned(otherwise)
            case tree.Bind(targets=targets):
                names += targets
            case _:
                pass
    return names


def assigned_names(body: tuple[tree.Statement, ...]) -> list[str]:
    """The names that statements may bind, each once."""
    return list(dict.fromkeys(_all_assigned(body)))


# ---- weights


def _declare(statement: tree.Declare, scope: Scope) -> None:
    """`param`, `buffer`, `const`: a tensor that the component owns."""
    if not isinstance(statement.type, tree.TensorDecl):
        raise fail("E0222", f"`{statement.keyword}` needs axes, e.g. `[C]`", statement.type.span)
    axes: list[Axis] = []
    for axis in statement.type.axes:
        if not isinstance(axis, tree.AxisDecl):
            raise fail("E0222", f"the axes of a {statement.keyword} are all written out", axis.span)
        size = evaluate(axis.size, scope) if axis.size is not None else scope.env.get(axis.name)
        if isinstance(size, Poison):
            scope.env[statement.name] = POISON
            return
        if not isinstance(size, Scalar) or not isinstance(size.value, (int, Size)) or isinstance(size.value, bool):
            raise fail("E0222", f"the size of `{axis.name}` is not known here", axis.span, helps=(f"write `{axis.name}=...`",))
        if isinstance(size.value, Size):
            raise fail("E0304", f"the shape of a {statement.keyword} cannot depend on the input: `{axis.name}` is {size.value}", axis.span,
                       helps=("give the model a parameter for the size it is built for (`img_size: int`)",
                              "or declare one size and use `resize(...)` where it is read"))  # fmt: skip
        if size.value < 1:
            raise fail("E0213", f"the size of `{axis.name}` must be at least 1, and is {size.value}", axis.span)
        axes.append(Axis(axis.name, Dim.of(size)))
    if statement.keyword == "const":
        if statement.value is None:
            raise fail("E0222", "a `const` needs a value", statement.span)
        bind_name(statement.name, evaluate(statement.value, scope), statement, scope)
        return
    options = {o.keyword: evaluate(o.value, scope) for o in statement.options}
    for option in statement.options:
        if option.keyword not in ("decay", "saved", "clamp"):
            raise fail("E0203", f"a {statement.keyword} has no option `{option.keyword}`", option.span,
                       helps=did_you_mean(option.keyword or "", ("decay", "saved", "clamp")))  # fmt: skip
    decay, saved = options.get("decay"), options.get("saved")
    init = initialiser(statement.value, scope) if statement.value is not None else Init("fill", (const(0),))
    kind = statement.keyword
    if kind == "buffer" and isinstance(saved, Scalar) and saved.value is False:
        kind = "table"
    weight = Weight(statement.name, tuple(axes), init, kind, statement.type.dtype,
                    decay=not (isinstance(decay, Scalar) and decay.value is False))  # fmt: skip
    scope.frame.level.add(WeightEntry(statement.name, weight, statement.span))
    value = scope.frame.value(TensorType(statement.type.dtype, tuple(axes)), statement.span, statement.name)
    scope.session.templates[("weight", value.uid)] = statement.name
    from archc.ir.graph import Apply
    from archc.ops.parameter import Parameter as Own

    scope.frame.add(Apply(Own(name_=statement.name, type_=value.type), (), (value,), statement.span, statement.name))
    scope.env[statement.name] = value


def initialiser(expr: tree.Expr, scope: Scope) -> Init:
    """What a weight starts with. Raises ArchError E0226."""
    inner = expr
    while isinstance(inner, tree.Paren):
        inner = inner.expr
    if isinstance(inner, tree.Call) and isinstance(inner.function, tree.Name) and inner.function.name in INITS:
        kind = inner.function.name
        least, most = INITS[kind]
        args = [evaluate(a.value, scope) for a in inner.arguments]
        if not least <= len(args) <= most:
            raise fail("E0205", f"`{kind}` takes {least} to {most} numbers, and {len(args)} were given", inner.span)
        if not all(isinstance(a, Scalar) and isinstance(a.value, (int, float)) for a in args):
            raise fail("E0206", f"`{kind}` takes numbers", inner.span)
        return Init(kind, tuple(args))
    value = evaluate(expr, scope)
    if isinstance(value, Scalar) and isinstance(value.value, (int, float)):
        return Init("fill", (value,))
    raise fail("E0226", f"a weight starts as a number or an initialiser, not as {kind_of(value)}", expr.span,
               helps=("initialisers are " + ", ".join(INITS),))  # fmt: skip


def init_rule(statement: tree.Init, scope: Scope) -> InitRule:
    """`init owner.weight = ...`: its numbers may read the owner's own arguments, which are left as variables."""
    inner = statement.value
    while isinstance(inner, tree.Paren):
        inner = inner.expr
    kind, arguments = "fill", (inner,)
    if isinstance(inner, tree.Call) and isinstance(inner.function, tree.Name) and inner.function.name in INITS:
        kind, arguments = inner.function.name, tuple(a.value for a in inner.arguments)
        least, most = INITS[kind]
        if not least <= len(arguments) <= most:
            raise fail("E0205", f"`{kind}` takes {least} to {most} numbers, and {len(arguments)} were given", inner.span)
    from archc.elaborate.expressions import function_named
    from archc.elaborate.scalars import translate
    from archc.ops.table import OPERATIONS

    op = OPERATIONS.get(statement.owner)
    owned = set(op.attributes) if op is not None else set()
    if op is None and statement.owner not in scope.file.names:
        raise fail("E0201", f"no operation or component is called `{statement.owner}`", statement.span,
                   helps=did_you_mean(statement.owner, [*OPERATIONS, *scope.file.names]))  # fmt: skip

    def name(text: str) -> Sym:
        if text in owned:
            return Var(f"{statement.owner}.{text}")
        found = scope.env.get(text)
        if isinstance(found, Scalar):
            return found.sym
        raise KeyError(text)

    try:
        syms = tuple(translate(a, name, lambda text: function_named(text, scope)) for a in arguments)
    except KeyError as missing:
        raise fail("E0226", f"an initialiser cannot read {missing}", statement.value.span,
                   helps=(f"`{statement.owner}` has " + ", ".join(sorted(owned)),) if owned else ())  # fmt: skip
    return InitRule(statement.owner, statement.weight, kind, syms, statement.span)


def _module(targets: tuple[str, ...], value: tree.Expr, statement: tree.Bind, scope: Scope) -> None:
    if len(targets) != 1:
        raise fail("E0208", "one name for one module", statement.span)
    recipe = evaluate(value, scope)
    if isinstance(recipe, Poison):
        scope.env[targets[0]] = POISON
        return
    if isinstance(recipe, Many):
        made: Any = Many(tuple(Module(f"{targets[0]}.{i}", r, statement.span, scope.frame.level) for i, r in enumerate(recipe.items)))
    elif isinstance(recipe, (Value, Scalar, Deferred)):
        raise fail("E0206", f"a module is made from a recipe, and this is {kind_of(recipe)}", value.span,
                   helps=("leave out the tensor: `module f = linear(C)`",))  # fmt: skip
    else:
        made = Module(targets[0], recipe, statement.span, scope.frame.level)
    scope.env[targets[0]] = made


def _require(statement: tree.Require, scope: Scope) -> None:
    """A condition on numbers is tested here; one on sizes becomes part of the contract."""
    why = statement.message or f"required: {statement.condition.span.text}"
    if _require_sizes(statement.condition, why, scope):
        return
    condition = evaluate(statement.condition, scope)
    if isinstance(condition, Poison):
        return
    if truth(condition, statement.condition) is False:
        raise fail("E0212", why, statement.condition.span, "this does not hold")


def _require_sizes(expr: tree.Expr, why: str, scope: Scope) -> bool:
    while isinstance(expr, tree.Paren):
        expr = expr.expr
    if isinstance(expr, tree.Binary) and expr.op == "and":
        return _require_sizes(expr.left, why, scope) and _require_sizes(expr.right, why, scope)
    if not (isinstance(expr, tree.Compare) and len(expr.ops) == 1 and expr.ops[0] in ("==", ">=", "<=", ">", "<")):
        return False
    sides = [evaluate(o, scope) for o in expr.operands]
    if not all(isinstance(s, Scalar) and isinstance(s.value, (int, Size)) for s in sides):
        return False
    left, right = (Size.of(s.value) for s in sides)
    if left.constant is not None and right.constant is not None:
        return False
    checker = calls.Checker(scope, expr.span)
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
        raise calls.op_error(error, expr.span) from None
    return True


# ---- branches


def _branch(statement: tree.If, scope: Scope) -> None:
    condition = evaluate(statement.condition, scope)
    if isinstance(condition, Poison):
        for name in assigned_names(statement.then + statement.otherwise):
            scope.env[name] = POISON
        return
    chosen = truth(condition, statement.condition)
    if chosen is not None and isinstance(condition.sym, Const):
        run_statements(statement.then if chosen else statement.otherwise, scope)
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
    body: tuple[tree.Statement, ...], condition: Sym, truth_here: bool, scope: Scope, env: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    from archc.ir.graph import Guard

    frame = scope.frame
    outer, frame.body = frame.body, []
    guards = frame.level.guards
    frame.level.guards = (*guards, Guard(condition, truth_here))
    scope.env.clear()
    scope.env.update(env)
    try:
        run_statements(body, scope)
        return tuple(frame.body), dict(scope.env)
    finally:
        frame.body = outer
        frame.level.guards = guards


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
        axes.append(Axis(a.name, Dim(a.size, sym)))
    return mine.with_axes(axes)


def _branch_on_sizes(condition: Scalar, statement: tree.If, scope: Scope) -> None:
    """Both arms run for some sizes: both are checked, must agree in their types and own no weights."""
    from archc.elaborate.frame import rewrite

    condition = scope.frame.localise(condition)
    del rewrite
    saved = dict(scope.env)
    guards = _guards_of(statement.condition, scope)
    entries = len(scope.frame.level.entries)
    arms = []
    outer_guards = scope.session.guards
    for body, guard in ((statement.then, guards[0]), (statement.otherwise, guards[1])):
        scope.session.guards = (*outer_guards, *guard)
        try:
            arms.append(_arm(body, condition.sym, True, scope, saved))
        finally:
            scope.session.guards = outer_guards
    if len(scope.frame.level.entries) != entries:
        raise fail("E0227", "a branch on the sizes of the inputs cannot make weights", statement.span,
                   helps=("declare a `module` above the `if` and use it in both arms",))  # fmt: skip
    scope.env.clear()
    scope.env.update(saved)
    merges = []
    for name in assigned_names(statement.then + statement.otherwise):
        pair = [env.get(name) for _, env in arms]
        if not all(isinstance(v, Value) for v in pair):
            scope.env[name] = POISON if any(isinstance(v, Poison) for v in pair) else pair[0]
            if isinstance(pair[0], Scalar) and pair[0] != pair[1]:
                scope.env.pop(name)
            continue
        then, otherwise = (scope.frame.use(v) for v in pair)  # type: ignore[arg-type]
        if then.type.names != otherwise.type.names or any(
            a.size != b.size for a, b in zip(then.type.axes, otherwise.type.axes, strict=True)
        ):
            raise fail("E0227", f"the arms give `{name}` different types: {then.type} and {otherwise.type}", statement.span)
        result = scope.frame.value(then.type, statement.span, name)
        merges.append(Merge(name, then, otherwise, result))
        scope.env[name] = result
    scope.frame.add(Branch(condition, None, arms[0][0], arms[1][0], tuple(merges), statement.span))


def _guards_of(expr: tree.Expr, scope: Scope) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The condition of a branch on sizes as guards of the obligations in its arms."""
    from archc.contract import Condition

    opposite = {"<": "ge", ">=": "lt", ">": "le", "<=": "gt", "==": "ne", "!=": "eq"}
    same = {"<": "lt", ">=": "ge", ">": "gt", "<=": "le", "==": "eq", "!=": "ne"}
    while isinstance(expr, tree.Paren):
        expr = expr.expr
    if isinstance(expr, tree.Compare) and len(expr.ops) == 1:
        sides = [evaluate(o, scope) for o in expr.operands]
        if all(isinstance(s, Scalar) and isinstance(s.value, (int, Size)) for s in sides):
            left, right = (Size.of(s.value) for s in sides)
            return (Condition(same[expr.ops[0]], left, right),), (Condition(opposite[expr.ops[0]], left, right),)  # type: ignore[arg-type]
    return (), ()


# ---- loops


def _loop(statement: tree.Loop, scope: Scope) -> None:
    if statement.keyword == "stage" and statement.iterable is None:
        run_statements(statement.body, scope)
        return
    assert statement.iterable is not None
    iterable = evaluate(statement.iterable, scope)
    if isinstance(iterable, Poison):
        for name in assigned_names(statement.body):
            scope.env[name] = POISON
        return
    if statement.keyword in ("repeat", "loop"):
        if not isinstance(iterable, Scalar) or not isinstance(iterable.value, int) or isinstance(iterable.value, bool):
            raise fail("E0206", f"`{statement.keyword}` needs a whole number, and this is {kind_of(iterable)}", statement.iterable.span)
        if not 0 <= iterable.value <= 100_000:
            raise fail("E0404", f"`{statement.keyword}` runs 0 to 100,000 times, not {iterable.value}", statement.iterable.span)
        items: tuple[Any, ...] = tuple(const(i) for i in range(iterable.value))
    else:
        items = items_of(iterable, statement.iterable)
    _Turns(statement, iterable, items, scope).run()


class _Turns:
    """The turns of one loop. Every turn is a frame of its own: what it reads of the outside are its inputs, what it
    leaves behind its outputs; sizes that change from turn to turn become variables (`Phi`)."""

    def __init__(self, statement: tree.Loop, iterable: Any, items: tuple[Any, ...], scope: Scope) -> None:
        self.statement, self.iterable, self.items, self.scope = statement, iterable, items, scope
        self.carried = [n for n in assigned_names(statement.body) if n in scope.env and n not in statement.targets]
        self.phis: dict[tuple[str, str], Var] = {}
        self.nexts: dict[tuple[str, str], Sym] = {}
        self.firsts: dict[tuple[str, str], Sym] = {}
        self.frames: list[Frame] = []
        self.units: list[OpEntry | ChildEntry | None] = []
        self.adopt = True
        self._frame = scope.frame

    def run(self) -> None:
        scope = self.scope
        start = dict(scope.env)
        body_so_far = list(scope.frame.body)
        while True:
            try:
                self._all(start)
                break
            except Conflict:
                # `_:` beside other weights: write it into the turn instead of letting it be the turn.
                self.adopt = False
                scope.frame.phi_names -= {v.name for v in self.phis.values()}
                scope.env.clear()
                scope.env.update(start)
                scope.frame.body[:] = body_so_far
                self.frames, self.phis, self.nexts, self.firsts = [], {}, {}, {}
        self._finish(start)

    def _all(self, start: dict[str, Any]) -> None:
        scope = self.scope
        for number, item in enumerate(self.items):
            before = dict(scope.env)
            frame = self._turn(number, item)
            if number == 0 and self._changing(before, frame):
                scope.env.clear()
                scope.env.update(before)
                frame = self._turn(number, item)
            self._note_sizes(before, frame, number)
            scope.frame.close(frame)
            self.frames.append(frame)
            if any(isinstance(scope.env.get(n), Poison) for n in self.carried):
                return
            if scope.returned is not None:
                raise fail("E0215", "`return` stands at the end of a component, not in a loop", self.statement.span)
        del start

    def _turn(self, number: int, item: Any) -> Frame:
        scope, statement = self.scope, self.statement
        outer = scope.frame
        name = statement.label or statement.keyword
        reuse = statement.keyword == "loop" and bool(self.frames)
        level = self.frames[0].level if reuse else Level(adopt=self.adopt)
        frame = Frame(scope.session, name, parent=outer, level=level)
        for carried in self.carried:
            value = scope.env.get(carried)
            if isinstance(value, Value):
                frame.called[value.uid] = carried
        for key in self.phis:
            value = scope.env.get(key[0])
            if isinstance(value, Value):
                frame.retyped[value.uid] = self._with_phis(key[0], outer.use(value).type)
        if statement.keyword in ("repeat", "loop"):
            if statement.targets:
                scope.env[statement.targets[0]] = Scalar(number, Var(statement.targets[0]))
        else:
            bind_targets(statement.targets, self._named(item), statement, scope)
        scope.frame = frame
        saved = level.reuse
        level.reuse = reuse
        label, scope.self_label = scope.self_label, ""
        try:
            run_statements(statement.body, scope)
        finally:
            scope.frame = outer
            level.reuse = saved
            scope.self_label = label
        for target in statement.targets:
            scope.env.pop(target, None)
        return frame

    def _named(self, item: Any) -> Any:
        """The item of a `for`, known by the loop's own variables."""
        from archc.elaborate.scalars import from_value
        from archc.ir.sym import plain

        targets = self.statement.targets

        def name(value: Any, variable: str) -> Any:
            if isinstance(value, Scalar):
                return from_value(plain(value), Var(variable)) if isinstance(value.value, tuple) else Scalar(value.value, Var(variable))
            return value

        if len(targets) == 1:
            return name(item, targets[0])
        parts = items_of(item, self.statement.iterable) if not isinstance(item, Scalar) else item.value  # type: ignore[arg-type]
        if len(parts) != len(targets):
            return item
        named = tuple(name(p, t) for p, t in zip(parts, targets, strict=True))
        return Scalar(named, Const(None)) if all(isinstance(p, Scalar) for p in named) else Many(named)

    # ---- sizes that change from turn to turn

    def _with_phis(self, name: str, type: TensorType) -> TensorType:
        axes = []
        for axis in type.axes:
            var = self.phis.get((name, axis.name))
            axes.append(Axis(axis.name, Dim(axis.size, var)) if var is not None else axis)
        return type.with_axes(axes)

    def _changing(self, before: dict[str, Any], frame: Frame) -> bool:
        """Whether the first turn left a static size other than it found it; the sizes become variables."""
        found = False
        for name in self.carried:
            old, new = before.get(name), self.scope.env.get(name)
            if not (isinstance(old, Value) and isinstance(new, Value) and frame.made(new)):
                continue
            old, new = self._frame.use(old), frame.use(new)
            if old.type.names != new.type.names:
                continue
            for a, b in zip(old.type.axes, new.type.axes, strict=True):
                if b.dim.sym is not None and a.dim.sym is not None and a.dim.sym != b.dim.sym:
                    key = (name, a.name)
                    self.phis[key] = Var(self._phi_name(a.name))
                    self.firsts[key] = a.dim.sym
                    found = True
        return found

    def _phi_name(self, axis: str) -> str:
        taken = {v.name for v in self.phis.values()} | set(self.scope.env) | set(self.statement.targets)
        around: Frame | None = self._frame
        while around is not None:
            taken |= around.phi_names | set(around.parameters)
            around = around.parent
        words = ("channels", "width", "features") if axis == "C" else (axis.lower(),)
        name = next((w for w in words if w not in taken), None) or fresh(words[0], dict.fromkeys(taken))
        self._frame.phi_names.add(name)
        return name

    def _note_sizes(self, before: dict[str, Any], frame: Frame, number: int) -> None:
        """What the changing sizes become, and the types under which a turn's results are known outside."""
        local = frozenset(self.statement.targets)
        for name in assigned_names(self.statement.body):
            for value in tensors_in(self.scope.env.get(name)):
                if not frame.made(value):
                    continue
                type = frame.use(value).type
                axes = []
                for axis in type.axes:
                    dim = axis.dim
                    key = (name, axis.name)
                    if key in self.phis and dim.sym is not None:
                        if number == 0:
                            self.nexts[key] = dim.sym
                        # What every turn sets to the same is known by that, also behind the loop.
                        changing = local | {v.name for v in self.phis.values()}
                        steady = not mentions(self.nexts[key], changing)
                        dim = Dim(dim.size, self.nexts[key] if steady and number == len(self.items) - 1 else self.phis[key])
                    elif dim.sym is not None and mentions(dim.sym, local):
                        same = next((v for k, v in self.phis.items() if self.nexts.get(k) == dim.sym), None)
                        dim = Dim(dim.size, same if same is not None else Const(dim.constant))
                    axes.append(Axis(axis.name, dim))
                frame_types = self.scope.frame.export_types
                frame_types.setdefault(value.uid, type.with_axes(axes))

    # ---- the loop as one statement

    def _finish(self, start: dict[str, Any]) -> None:
        scope, statement = self.scope, self.statement
        placeholder = len(scope.frame.body)
        owns = any(f.level.entries for f in self.frames)
        if owns and statement.label is None:
            raise fail(
                "E0402", f"`{statement.keyword}` makes copies that would share one name", statement.span,
                helps=(f"give the loop a label: `blocks: {statement.keyword} ...`",
                       "for one set of weights applied several times, write `loop`"),
            )  # fmt: skip
        entry = self._place_entries() if owns else None
        loop_env = dict(scope.env)
        self.deferred = (placeholder, entry, loop_env, start)
        # Turns are closed when the frame around is: until then later statements may still ask for results.
        scope.frame.add(Pending(self, entry))  # type: ignore[arg-type]

    def _place_entries(self) -> str:
        statement, level = self.statement, self.scope.frame.level
        assert statement.label is not None
        name = self.scope.self_label if statement.label == "_" else statement.label
        items = [self._item(i) for i in range(len(self.frames))]
        if statement.keyword == "loop":
            if name == "":
                raise fail("E0402", "a loop with weights needs a label of its own", statement.span)
            made: Any = replace(items[0], name=name)
        else:
            made = ListEntry(name, tuple(items), statement.span)
        return level.add(made).name

    def _item(self, number: int) -> OpEntry | ChildEntry:
        frame = self.frames[number]
        entries = frame.level.entries
        if len(entries) == 1 and entries[0].name == "" and isinstance(entries[0], (OpEntry, ChildEntry)):
            if not (isinstance(entries[0], OpEntry) and entries[0].functional):
                return entries[0]
        # The template of the turn is completed when the loop is (`Pending.settle`).
        return ChildEntry("", Template(frame.name, "turn", "", (), (), (), (), tuple(entries), self.statement.span), (), self.statement.span)

    def settle(self, entry: str | None) -> Repeat:
        """The finished loop. All uses of its results are known now."""
        calls_made: list[Call] = []
        templates: list[Template] = []
        outer: Frame = self._frame
        for number, frame in enumerate(self.frames):
            settle_body(frame)
            scalars = self._turn_scalars(number)
            made = Template(
                frame.name, "turn", "", tuple(scalars.items()), tuple(inside for _, inside in frame.inputs),
                tuple(inside for inside, _ in frame.outputs), tuple(frame.body), tuple(frame.level.entries),
                self.statement.span, tuple(frame.inits),
            )  # fmt: skip
            templates.append(made)
            calls_made.append(Call(
                made, tuple(outside for outside, _ in frame.inputs), tuple(outside for _, outside in frame.outputs),
                tuple(scalars.items()), self.statement.span, None if entry is None else self._path(entry, number),
            ))  # fmt: skip
        if entry is not None:
            self._complete_entries(outer.level, entry, templates)
        names = self._names()
        phis = tuple(
            Phi(var, self.firsts[key], self.nexts.get(key, var)) for key, var in self.phis.items() if key in self.firsts
        )
        return Repeat(
            self.statement.keyword, self.statement.label, self.statement.targets,
            self.iterable if isinstance(self.iterable, Scalar) else None, tuple(calls_made), phis, (), self.statement.span, names,
        )  # fmt: skip

    def _path(self, entry: str, number: int) -> str:
        return entry if self.statement.keyword == "loop" else f"{entry}.{number}"

    def _complete_entries(self, level: Level, entry: str, templates: list[Template]) -> None:
        """Put the finished templates of the turns into the entry that was made for them."""

        def completed(item: OpEntry | ChildEntry, made: Template) -> OpEntry | ChildEntry:
            if isinstance(item, ChildEntry) and item.template.role == "turn" and made.unit is None:
                return replace(item, template=made, args=made.parameters)
            return item

        for i, existing in enumerate(level.entries):
            if existing.name != entry:
                continue
            if isinstance(existing, ListEntry):
                level.entries[i] = replace(
                    existing, items=tuple(completed(item, made) for item, made in zip(existing.items, templates, strict=False))
                )
            elif isinstance(existing, ChildEntry) and templates:
                level.entries[i] = completed(existing, templates[0])

    def _turn_scalars(self, number: int) -> dict[str, Scalar]:
        """The numbers that a turn may read: those of the component around it, its own variables, changing sizes."""
        env: dict[str, Scalar] = {}
        around: Frame | None = self._frame
        while around is not None:
            for name, value in around.parameters.items():
                env.setdefault(name, value)
            around = around.parent
        for value in self.deferred[3].values():
            if isinstance(value, Scalar) and isinstance(value.sym, Var):
                env[value.sym.name] = value
        item = self.items[number]
        if self.statement.keyword in ("repeat", "loop"):
            for target in self.statement.targets:
                env[target] = Scalar(number, Var(target))
        else:
            named = self._named(item)
            parts = (named,) if len(self.statement.targets) == 1 else (named.value if isinstance(named, Scalar) else named.items)
            for target, part in zip(self.statement.targets, parts, strict=True):
                if isinstance(part, Scalar):
                    env[target] = part
        for key, var in self.phis.items():
            value = self.phi_value(key, number)
            if value is not None:
                env[var.name] = Scalar(value, var)
        return env

    def phi_value(self, key: tuple[str, str], number: int) -> int | None:
        for outside, inside in self.frames[number].inputs:
            for axis in inside.type.axes:
                if axis.dim.sym == self.phis[key]:
                    return axis.size.constant
            del outside
        return None

    def _names(self) -> tuple[str, ...]:
        """The author's name for each output of the last turn."""
        if not self.frames:
            return ()
        last = self.frames[-1]
        known = {}
        for name, value in self.final_env.items():
            if isinstance(value, Value):
                known.setdefault(last.exported.get(value.uid, value).uid, name)
        return tuple(known.get(inside.uid, "") for inside, _ in last.outputs)

    @property
    def final_env(self) -> dict[str, Any]:
        return self.deferred[2]


class Pending:
    """A loop whose results may still be asked for; replaced by a `Repeat` when its frame is finished."""

    def __init__(self, turns: _Turns, entry: str | None) -> None:
        self.turns, self.entry = turns, entry


def settle_body(frame: Frame) -> None:
    """Replace the pending loops of a frame, now that nothing can ask for their results any more."""
    frame.body[:] = [_settled(s) for s in frame.body]


def _settled(statement: Any) -> Any:
    if isinstance(statement, Pending):
        return statement.turns.settle(statement.entry)
    if isinstance(statement, Branch):
        arms = [None if arm is None else tuple(_settled(s) for s in arm) for arm in (statement.then, statement.otherwise)]
        return replace(statement, then=arms[0], otherwise=arms[1])
    return statement


__all__ = ["apply", "help_label", "init_rule", "run_statements", "settle_body", "symbolic", "variables", "_call", "finish"]
