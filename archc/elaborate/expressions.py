"""What an expression stands for: numbers are computed, tensors become statements of the frame."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from archc.diagnostics import ArchError, Diagnostic, Label, fail
from archc.elaborate import calls, operations
from archc.elaborate.frame import Scope, taken_apart
from archc.elaborate.habits import BASES, call_helps, foreign, name_helps
from archc.elaborate.reading import assigned_names, names_in
from archc.elaborate.scalars import (
    CONSTANTS,
    FUNCTIONS,
    Unknown,
    call_function,
    check_list,
    from_value,
    is_known,
    operate,
    translate,
)
from archc.elaborate.values import (
    POISON,
    ComponentRef,
    Deferred,
    FnRef,
    Growth,
    Many,
    Module,
    OpRef,
    Poison,
    Recipe,
    kind_of,
)
from archc.ir.graph import Value
from archc.ir.sym import Apply, Comprehension, Const, Extent, FnDef, Scalar, Sym, Var, apply, const
from archc.ir.types import TensorType
from archc.ops.base import parameters
from archc.ops.table import NEGATIVE, NOT, OPERATIONS, OPERATORS, PICK
from archc.source import Span
from archc.syntax import tree
from archc.where.paths import PATHS, Path, reverse_path
from archc.where.regions import REGIONS, Region, combine_regions


def evaluate(expr: tree.Expr, scope: Scope) -> Any:
    """The value of an expression. Raises ArchError; a poisoned operand gives POISON in silence."""
    scope.session.step(expr.span)
    match expr:
        case tree.Paren(expr=inner):
            return evaluate(inner, scope)
        case tree.Number(value=value) | tree.Constant(value=value) | tree.String(value=value):
            return Scalar(value, Const(value))
        case tree.Name():
            return lookup(expr, scope)
        case tree.ListExpr(items=items):
            return _collect([evaluate(item, scope) for item in items], expr.span)
        case tree.TupleExpr(items=items):
            return _collect([evaluate(item, scope) for item in items], expr.span, is_tuple=True)
        case tree.Comprehension():
            return _comprehension(expr, scope)
        case tree.Unary(op=op, operand=operand):
            return _unary(op, operand, expr, scope)
        case tree.Binary(op=op, left=left, right=right):
            if op in ("and", "or"):
                return _logic(op, left, right, expr, scope)
            return binary(op, evaluate(left, scope), evaluate(right, scope), expr, scope)
        case tree.Compare():
            return _compare(expr, scope)
        case tree.Conditional():
            return _conditional(expr, scope)
        case tree.Call():
            return calls.call(expr, scope, None, None)
        case tree.Pipe(left=left, right=right):
            return calls.pipe(evaluate(left, scope), right, expr, scope)
        case tree.Labelled(label=label, call=inner):
            if isinstance(inner, tree.Call):
                return calls.call(inner, scope, None, label)
            raise fail(
                "E0218", f"the label `{label}` stands before something that is not a call", expr.span, help_label(label)
            )
        case tree.Index():
            return _index(expr, scope)
        case tree.Attribute(value=value, name=name):
            if isinstance(value, tree.Name) and value.name in BASES and value.name not in scope.env:
                raise fail("E0201", f"nothing is called `{expr.span.text}` here", expr.span, "unknown name",
                           helps=call_helps(name, OPERATIONS) or _bare(value.name, name))  # fmt: skip
            return _attribute(evaluate(value, scope), name, expr, scope)
    raise AssertionError(expr)


def _bare(base: str, name: str) -> tuple[str, ...]:
    """Help for a name of a Python module or object."""
    if base == "self":
        return (f"a call and its weights are written where they are used: `x |> {name}: linear(C)`",)
    if name in OPERATIONS:
        return (f"write `{name}` alone",)
    return ("operations are written by their names alone: `conv`, `linear`, `softmax`",)


def help_label(label: str) -> str:
    return f"a label names the weights of one call, as in `x |> {label}: conv(C, 1)`"


def _collect(items: list[Any], span: Span, is_tuple: bool = False) -> Any:
    if any(isinstance(item, Poison) for item in items):
        return POISON
    check_list(items, span)
    if is_tuple:
        return Many(tuple(items), True)
    numbers = [_numbers(item) for item in items]  # a list of tuples of numbers is a list of lists
    if all(isinstance(item, Scalar) for item in numbers):
        return Scalar(tuple(numbers), Apply("list", tuple(item.sym for item in numbers)))
    return Many(tuple(items))


def _numbers(item: Any) -> Any:
    """A tuple of numbers as a number list; anything else as it is."""
    if isinstance(item, Many) and item.items and all(isinstance(i, Scalar) for i in item.items):
        return Scalar(item.items, Apply("list", tuple(i.sym for i in item.items)))
    return item


# ---- names


def lookup(name: tree.Name, scope: Scope) -> Any:
    """What a name stands for. Raises ArchError E0201 with the closest known name."""
    found = find(name.name, scope)
    if found is None:
        raise unknown_name(name.name, name.span, scope)
    return found


def unknown_name(name: str, span: Span, scope: Scope | None) -> ArchError:
    """E0201 for a name that stands for nothing, with what may be meant by it."""
    body = scope.component.body if scope is not None and scope.component is not None else ()
    condition = _bound_under(name, body, span.start)
    if condition is not None:
        return fail("E0201", f"`{name}` has no value here", span, "read without one",
                    related=(Label(condition.span, f"`{name}` gets one only in an arm of this"),),
                    helps=("give it a value in both arms, or before the `if`",))  # fmt: skip
    items = _items_of_loop(name, body, span.start)
    if items is not None:
        return fail("E0201", f"`{name}` is known in its loop alone", span, "behind the loop",
                    related=(Label(items.span, f"`{name}` is an item of this"),),
                    helps=("the last item of a list is `xs[-1]`; the width of a tensor is `x.C`",))  # fmt: skip
    known = [*OPERATIONS, *REGIONS, *PATHS, *FUNCTIONS, *CONSTANTS]
    helps: tuple[str, ...] = ()
    if scope is not None:
        known = [*scope.env, *scope.file.names, *known]
        helps = _axis_helps(name, scope)
    return fail(
        "E0201", f"nothing is called `{name}` here", span, "unknown name", helps=helps or name_helps(name, known)
    )


def _axis_helps(name: str, scope: Scope) -> tuple[str, ...]:
    """Help for the name of an axis where a size is needed."""
    tensors = [n for n, v in scope.env.items() if isinstance(v, Value) and name in v.type and n.isidentifier()]
    if not tensors:
        return ()
    role = scope.component.role if scope.component is not None else ""
    why = "in a model only the free sizes of inputs have names" if role == "model" else "no signature says it"
    return (f"`{tensors[-1]}.{name}` is the size of `{tensors[-1]}`: {why}",)


def _items_of_loop(name: str, body: tuple[tree.Statement, ...], before: int) -> tree.Expr | None:
    """What the last loop above a place runs over, of those that give a name its items."""
    loops = [s for s in body if isinstance(s, tree.Loop) and s.span.end <= before and name in s.targets]
    return loops[-1].iterable if loops else None


def _bound_under(name: str, body: tuple[tree.Statement, ...], before: int) -> tree.Expr | None:
    """The condition of the last `if` above a place that binds a name in one of its arms."""
    found = None
    for statement in body:
        if statement.span.start >= before:
            break
        match statement:
            case tree.If(condition=condition, then=then, otherwise=otherwise):
                found = condition if name in assigned_names((*then, *otherwise)) else found
            case tree.Loop(body=inner):
                found = _bound_under(name, inner, before) or found
            case _:
                pass
    return found


def find(name: str, scope: Scope) -> Any:
    if name in scope.env:
        found = scope.env[name]
        return scope.frame.use(found) if isinstance(found, Value) else found
    if name in scope.file.names:
        return scope.file.names[name]
    if name in CONSTANTS:
        return Scalar(CONSTANTS[name], Const(CONSTANTS[name]))
    if name in REGIONS and not any(p.required for p in parameters(REGIONS[name])):
        return REGIONS[name]()
    if name in OPERATIONS:
        return OpRef(OPERATIONS[name])
    return None


def find_callable(name: str, scope: Scope) -> Any:
    """What a name stands for where it is called: a number of the same name does not hide an operation or component."""
    local = scope.env.get(name)
    if local is not None and not isinstance(local, (Scalar, Value, Many)):
        return local
    if name in scope.file.names:
        return scope.file.names[name]
    if name in OPERATIONS:
        return OpRef(OPERATIONS[name])
    return local


# ---- arithmetic


def _unary(op: str, operand: tree.Expr, expr: tree.Unary, scope: Scope) -> Any:
    value = evaluate(operand, scope)
    match value:
        case Poison():
            return POISON
        case Scalar():
            return operate("neg" if op == "-" else op, [value], expr.span)
        case Path() if op == "-":
            return reverse_path(value)
        case Value():
            return operations.apply_op(NEGATIVE if op == "-" else NOT, [value], {}, None, expr.span, scope)
    raise fail("E0206", f"`{op}` works on numbers and tensors, not on {kind_of(value)}", expr.span)


def binary(op: str, left: Any, right: Any, expr: tree.Node, scope: Scope) -> Any:
    """`left op right` for numbers, tensors, regions, lists."""
    if isinstance(left, Poison) or isinstance(right, Poison):
        return POISON
    if isinstance(left, Scalar) and isinstance(right, Scalar):
        return operate(op, [left, right], expr.span)
    if isinstance(left, Region) and isinstance(right, (Region, Value)):
        combined = combine_regions(op, left, right)
        if combined is not None:
            return combined
    if op == "+" and any(isinstance(v, Many) for v in (left, right)):
        parts = [_items(v) for v in (left, right)]
        if parts[0] is not None and parts[1] is not None:
            check_list(parts[0] + parts[1], expr.span)
            return Many(parts[0] + parts[1], growth=_joint_growth(left, right))
    tensors = [v for v in (left, right) if isinstance(v, Value)]
    if isinstance(left, Deferred) and tensors:
        left = operations.settle_deferred(left, tensors[0], scope)
    if isinstance(right, Deferred) and tensors:
        right = operations.settle_deferred(right, tensors[0], scope)
    if tensors and op in ("*", "/") and isinstance(right, Scalar) and right.sym in (Const(1), Const(1.0)):
        return left  # what a `scale=1` means
    if tensors and all(isinstance(v, (Value, Scalar)) for v in (left, right)) and op in OPERATORS:
        sides = {name: v for name, v in (("left", left), ("right", right)) if isinstance(v, Scalar)}
        operands = [v for v in (left, right) if isinstance(v, Value)]
        for side in sides.values():
            if isinstance(side.value, (str, tuple, type(None))):
                raise fail("E0206", f"`{op}` works on tensors and numbers, not on {kind_of(side)}", expr.span)
        try:
            return operations.apply_op(OPERATORS[op], operands, sides, None, expr.span, scope)
        except ArchError as error:
            raise ArchError(_at_sides(d, left, right, expr, scope) for d in error.diagnostics) from None
    raise fail("E0206", f"`{op}` does not work between {kind_of(left)} and {kind_of(right)}", expr.span)


def _at_sides(diagnostic: Diagnostic, left: Any, right: Any, expr: tree.Node, scope: Scope) -> Diagnostic:
    """What an operator refuses, shown at its two sides instead of the whole expression, and where they come from."""
    if diagnostic.span != expr.span or not isinstance(left, Value) or not isinstance(right, Value):
        return diagnostic
    match expr:
        case tree.Binary(left=first, right=second) | tree.Compare(operands=(first, second)):
            pass
        case tree.Augment(target=target, value=second):
            first = tree.Name(target, span=Span(expr.span.source, expr.span.start, expr.span.start + len(target)))
        case _:
            return diagnostic
    made = [
        Label(value.span, f"`{side.name}` is made here")
        for side, value in ((first, left), (second, right))
        if isinstance(side, tree.Name) and operations.made_apart(value.span, expr.span, scope)
    ]
    stale = [_stale(name, left, second, first, scope) for name in left.type.names if name in right.type]
    return replace(
        diagnostic,
        span=second.span,
        label=str(right.type),
        related=(Label(first.span, str(left.type)), *made),
        helps=tuple(text for text in stale if text)[:1] or tuple(_at_texts(h, first, second) for h in diagnostic.helps),
    )


def _at_texts(help: str, first: tree.Node, second: tree.Node) -> str:
    """A help in which `left` and `right` within code are what stands there, unless that is long."""
    texts = {"left": first.span.text, "right": second.span.text}
    short = all("\n" not in text and len(text) <= 24 for text in texts.values())
    return operations.with_texts(help, texts) if short else help


def _stale(axis: str, left: Value, second: tree.Expr, first: tree.Expr, scope: Scope) -> str:
    """Help where the right side was written with a width of the signature that the left side no longer has."""
    known = scope.sizes.get(axis)
    now = left.type[axis].size.constant
    if (
        known is None
        or not isinstance(first, tree.Name)
        or now is None
        or known.value == now
        or axis not in names_in(second)
    ):
        return ""
    return f"`{axis}` is {known.value}, as in the signature: the width of `{first.name}` here is `{first.name}.{axis}`"


def _joint_growth(left: Any, right: Any) -> Growth | None:
    """The growth of two lists in a row."""
    grown = [v.growth for v in (left, right) if isinstance(v, Many) and v.growth is not None]
    if not grown or any(g.frame is not grown[0].frame for g in grown):
        return grown[0] if grown else None
    return Growth(grown[0].frame, apply("+", length_of(left), length_of(right)))


def length_of(value: Any) -> Sym:
    """The length of a list as an expression."""
    if isinstance(value, Many) and value.growth is not None:
        return value.growth.length
    return Const(len(_items(value) or ()))


def _items(value: Any) -> tuple[Any, ...] | None:
    match value:
        case Many(items=items):
            return items
        case Scalar(value=tuple() as items):
            return items
    return None


def _logic(op: str, left: tree.Expr, right: tree.Expr, expr: tree.Binary, scope: Scope) -> Any:
    first = evaluate(left, scope)
    if isinstance(first, Scalar):
        if not is_known(first):
            second = evaluate(right, scope)
            return Scalar(Unknown(op), apply(op, first.sym, second.sym)) if isinstance(second, Scalar) else POISON
        if bool(first.value) == (op == "or"):
            sym = symbolic(right, scope)
            return Scalar(first.value, first.sym if sym is None else apply(op, first.sym, sym))
        second = evaluate(right, scope)
        if isinstance(second, Scalar):
            return Scalar(second.value, apply(op, first.sym, second.sym))
        return second
    return binary(op, first, evaluate(right, scope), expr, scope)


def _compare(expr: tree.Compare, scope: Scope) -> Any:
    values = [evaluate(operand, scope) for operand in expr.operands]
    total: Any = None
    for op, left, right in zip(expr.ops, values, values[1:], strict=False):
        if op in ("==", "!=") and any(isinstance(v, Scalar) and v.value is None for v in (left, right)):
            other = right if isinstance(left, Scalar) and left.value is None else left
            missing = isinstance(other, Scalar) and other.value is None
            part: Any = const(missing == (op == "=="))
            if scope.model is not None:
                part = scope.model.presence(other, part, op)
        else:
            part = binary(op, left, right, expr, scope)
        total = part if total is None else _both(total, part, expr, scope)
    return total


def _both(left: Any, right: Any, expr: tree.Expr, scope: Scope) -> Any:
    if isinstance(left, Scalar) and isinstance(right, Scalar):
        sym = apply("and", left.sym, right.sym)
        sides = [bool(side.value) for side in (left, right) if is_known(side)]
        if len(sides) == 2 or False in sides:
            return Scalar(all(sides), sym)
        return Scalar(Unknown("and"), sym)
    return binary("and", left, right, expr, scope)


def truth(condition: Any, expr: tree.Expr) -> bool | None:
    """A compile-time condition; None where the sizes of the inputs decide. Raises ArchError E0209 for tensors."""
    if isinstance(condition, Scalar) and not isinstance(condition.value, (str, tuple)):
        if not is_known(condition):
            return None
        return bool(condition.value)
    raise fail(
        "E0209", f"a condition must be known at compile time, and this is {kind_of(condition)}", expr.span,
        notes=("`if` is decided when the network is built",),
        helps=("use `where(condition, a, b)` to choose by the data",),
    )  # fmt: skip


def _conditional(expr: tree.Conditional, scope: Scope) -> Any:
    condition = evaluate(expr.condition, scope)
    if isinstance(condition, Poison):
        return POISON
    chosen = truth(condition, expr.condition)
    if chosen is None:
        raise fail("E0209", "this condition depends on the sizes of the inputs", expr.condition.span,
                   helps=("write an `if` statement: both arms are then checked",))  # fmt: skip
    taken, other = (expr.then, expr.otherwise) if chosen else (expr.otherwise, expr.then)
    value = evaluate(taken, scope)
    if not isinstance(value, Scalar) or isinstance(condition.sym, Const):
        return value
    sym = symbolic(other, scope)
    if sym is None:
        return value
    arms = (value.sym, sym) if chosen else (sym, value.sym)
    return (
        Scalar(value.value, apply("if", condition.sym, *arms))
        if not isinstance(value.value, tuple)
        else from_value([item.value for item in value.value], apply("if", condition.sym, *arms))
    )


def symbolic(expr: tree.Expr, scope: Scope) -> Sym | None:
    """The provenance of an expression that this build does not compute, or None where it is not compile-time arithmetic."""

    def name(text: str) -> Sym:
        found = scope.env.get(text)
        if not isinstance(found, Scalar):
            raise KeyError(text)
        return found.sym

    try:
        return translate(expr, name, lambda text: function_named(text, scope))
    except (KeyError, ArchError):
        return None


def function_named(name: str, scope: Scope) -> FnDef | None:
    found = find_callable(name, scope)
    return found.definition if isinstance(found, FnRef) else None


# ---- lists


def _comprehension(expr: tree.Comprehension, scope: Scope) -> Any:
    iterable = evaluate(expr.iterable, scope)
    if isinstance(iterable, Poison):
        return POISON
    saved = dict(scope.env)
    results = []
    for number, item in enumerate(items_of(iterable, expr.iterable)):
        bind_targets(expr.targets, item, expr, scope, Const(number) if not isinstance(iterable, Scalar) else None)
        results.append(evaluate(expr.expr, scope))
    scope.env.clear()
    scope.env.update(saved)
    collected = _collect(results, expr.span)
    if isinstance(collected, Scalar) and isinstance(iterable, Scalar) and not isinstance(iterable.sym, Const):

        def name(text: str) -> Sym:
            if text in expr.targets:
                return Var(text)
            found = scope.env.get(text)
            if not isinstance(found, Scalar):
                raise KeyError(text)
            return found.sym

        try:
            inner = translate(expr.expr, name, lambda text: function_named(text, scope))
        except KeyError:
            return collected
        return from_value([item.value for item in collected.value], Comprehension(inner, expr.targets, iterable.sym))
    return collected


def items_of(value: Any, expr: tree.Expr) -> tuple[Any, ...]:
    """The items of a list. Raises ArchError E0208 for anything else."""
    items = _items(value)
    if items is None:
        raise fail("E0208", f"a list is needed here, and this is {kind_of(value)}", expr.span,
                   helps=("`range(n)` counts from 0 to n - 1",) if isinstance(value, Scalar) else ())  # fmt: skip
    return taken_apart(value) if isinstance(value, Many) else items


def bind_targets(targets: tuple[str, ...], item: Any, expr: tree.Node, scope: Scope, number: Sym | None = None) -> None:
    """Bind the names of a `for` to one item; several names take the item apart."""
    if len(targets) == 1:
        parts: tuple[Any, ...] = (item,)
    else:
        parts = _items(item) or ()
        if len(parts) != len(targets):
            at = (
                expr.iterable.span if isinstance(expr, (tree.Loop, tree.Comprehension)) and expr.iterable else expr.span
            )
            what = f"each item is {kind_of(item)}" if not parts else f"each item has {len(parts)} parts"
            helps = ("`enumerate(xs)` gives the number of each item too",) if not parts and len(targets) == 2 else ()
            raise fail("E0208", f"{len(targets)} names, and {what}", at, f"for {', '.join(f'`{t}`' for t in targets)}",
                       helps=helps)  # fmt: skip
    for name, part in zip(targets, parts, strict=True):
        scope.env[name] = part


def _index(expr: tree.Index, scope: Scope) -> Any:
    value = evaluate(expr.value, scope)
    if isinstance(value, Poison):
        return POISON
    if isinstance(value, Value):
        for subscript in expr.subscripts:
            value = _pick(value, subscript, expr, scope)
        return value
    items = _items(value)
    if items is None:
        raise fail("E0208", f"{kind_of(value)} cannot be indexed", expr.span)
    if len(expr.subscripts) != 1 or expr.subscripts[0].axis is not None:
        raise fail("E0208", "a list takes one index, without an axis", expr.span)
    index = expr.subscripts[0].index
    if isinstance(index, tree.Slice):
        bounds = [None if b is None else whole(evaluate(b, scope), b) for b in (index.start, index.stop)]
        plain = [b.value if b is not None else None for b in bounds]
        chosen = items[plain[0] : plain[1]]
        if isinstance(value, Scalar):
            return Scalar(chosen, apply("slice", value.sym, *(Const(None) if b is None else b.sym for b in bounds)))
        taken_apart(value)
        return Many(chosen)
    position = whole(evaluate(index, scope), index)
    if not -len(items) <= position.value < len(items):
        number = f"{len(items)} item{'s' * (len(items) != 1)}"
        raise fail("E0211", f"`{expr.value.span.text}` has {number}, and there is no item {position.value}", index.span,
                   f"0 to {len(items) - 1} are legal" if items else "the list is empty",
                   related=(Label(expr.value.span, kind_of(value)),),
                   helps=("items are counted from 0",) if position.value == len(items) else ())  # fmt: skip
    item = items[position.value]
    if isinstance(item, Scalar) and isinstance(value, Scalar):
        if isinstance(position.sym, Const) and isinstance(value.sym, Apply) and value.sym.op == "list":
            return item
        return from_value(_raw(item), apply("index", value.sym, position.sym))
    return item


def _raw(item: Scalar) -> Any:
    return [_raw(i) for i in item.value] if isinstance(item.value, tuple) else item.value


def whole(value: Any, expr: tree.Expr) -> Scalar:
    """A whole number known at compile time. Raises ArchError E0206."""
    if isinstance(value, Scalar) and isinstance(value.value, int) and not isinstance(value.value, bool):
        return value
    raise fail("E0206", f"a whole number is needed here, and this is {kind_of(value)}", expr.span)


def _pick(value: Value, subscript: tree.Subscript, expr: tree.Index, scope: Scope) -> Any:
    axis = subscript.axis
    if axis is None:
        raise fail("E0208", "a tensor is indexed by axis name", subscript.span, "which axis?",
                   helps=(_by_name(value.type, expr),))  # fmt: skip
    fields: dict[str, Any] = {"axis": axis}
    if isinstance(subscript.index, tree.Slice):
        for name, bound in (("start", subscript.index.start), ("stop", subscript.index.stop)):
            if bound is not None:
                fields[name] = evaluate(bound, scope)
    else:
        index = evaluate(subscript.index, scope)
        fields["list" if isinstance(index, Scalar) and isinstance(index.value, tuple) else "index"] = index
    for name, given in fields.items():
        if isinstance(given, Poison):
            return POISON
        if name != "axis" and not isinstance(given, Scalar):
            raise fail("E0111", "a tensor's value is used as an index", subscript.span,
                       helps=("use `gather(x, index, AXIS)` to read at computed places",))  # fmt: skip
    return operations.apply_op(PICK, [value], fields, None, expr.span, scope)


def _by_name(type: TensorType, expr: tree.Index) -> str:
    """The index as it is written with the names of axes."""
    pairs = list(zip(type.names, expr.subscripts, strict=False))
    whole = [isinstance(s.index, tree.Slice) and s.index.start is None and s.index.stop is None for _, s in pairs]
    named = [
        f"{n}={s.span.text}" for (n, s), all_of_it in zip(pairs, whole, strict=True) if s.axis is None and not all_of_it
    ]
    shown = f"`{expr.value.span.text}[{', '.join(named)}]`" if named else "`x[N=0]`, `x[N=1:]`"
    return f"counted from the first, this would be {shown}: the axes are {', '.join(type.names)}"


# ---- attributes


def _attribute(value: Any, name: str, expr: tree.Attribute, scope: Scope) -> Any:
    if isinstance(value, Poison):
        return POISON
    what = f"`.{name}` reads the size of a tensor's axis"
    if not isinstance(value, Value):
        weights = ("weights of a call are no values: what two places use is a `param`, read in both",)
        helps = weights if name in ("weight", "bias") else ()
        raise fail("E0207", f"{kind_of(value)} has no sizes", expr.span, what, helps=helps)
    if name not in value.type and (name in OPERATIONS or foreign(name)):
        helps = _as_step(value, expr) or (call_helps(name, ()) if foreign(name) else (f"write `x |> {name}(...)`",))
        raise fail("E0201", f"a tensor has no `{name}`", expr.span, what, helps=helps)
    if name not in value.type:
        axes = ", ".join(f"`.{axis}`" for axis in value.type.names)
        raise fail("E0302", f"{value.type} has no axis `{name}`", expr.span, what,
                   helps=call_helps(name, value.type.names) or (f"its sizes are {axes}",))  # fmt: skip
    return size_of_axis(value, name, scope)


def _as_step(value: Value, expr: tree.Attribute) -> tuple[str, ...]:
    """Help for an operation over axes that is written as a method: the same as a step of a pipeline."""
    given = re.match(r"\(([^()\n]*)\)", expr.span.source.text[expr.span.end :])
    axes = [text.strip() for text in given.group(1).split(",")] if given is not None else []
    if expr.name not in OPERATIONS or not axes or not all(axis in value.type for axis in axes):
        return ()
    return (f"write `{expr.value.span.text} |> {expr.name}({', '.join(axes)})`",)


def size_of_axis(value: Value, name: str, scope: Scope) -> Scalar:
    """The present size of an axis as a compile-time value: a number where it is static."""
    dim = value.type[name].dim
    if dim.constant is not None:
        return Scalar(dim.constant, dim.sym if dim.sym is not None else Const(dim.constant))
    scope.session.templates[("value", value.uid)] = value
    return Scalar(dim.size, Extent(value.uid, value.type.names.index(name)))


__all__ = ["ComponentRef", "Module", "Recipe", "call_function", "evaluate", "lookup"]
