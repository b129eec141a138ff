"""Applying components: called where they own weights, written in place where they own nothing of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archc.diagnostics import fail
from archc.elaborate.binding import Bound, bind, bind_defaults, bind_sizes, check_kind, check_sizes, fit, signature_of
from archc.elaborate.frame import Conflict, Scope
from archc.elaborate.templates import captured, run_body, template_for, with_tensors
from archc.elaborate.trail import Use
from archc.elaborate.turns import sizes_behind
from archc.elaborate.values import (
    POISON,
    ComponentRef,
    Many,
    Module,
    Poison,
)
from archc.ir.graph import Call, ChildEntry, OpEntry, Relabel, Template, Value
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Comprehension, Const, Scalar, Sym, Var, substitute
from archc.ir.types import Dim, TensorType
from archc.ops.base import Op, Weight
from archc.source import Span
from archc.syntax import tree


def place_op(
    label: str | None, op: Op, types: tuple[Any, ...], weights: tuple[Weight, ...], span: Span, scope: Scope
) -> str:  # fmt: skip
    """The entry that holds an operation's weights: under its label, else its own name."""
    level = scope.frame.level
    name = op.name if label is None else scope.self_label if label == "_" else label
    entry = level.add(OpEntry(name, op, types, weights, span, functional=name == "" and not level.adopt))
    assert isinstance(entry, OpEntry)
    return entry.name


def apply_component(ref: ComponentRef, args: list[Any], piped: Any, label: str | None, span: Span, scope: Scope) -> Any:
    """A component applied to tensors."""
    if ref.tree.role == "model":
        raise fail("E0216", f"`{ref.tree.name}` is a model and cannot be part of another component", span,
                   "only variants are made of a model",
                   helps=("write what both need as a `block` with tensor parameters and `return`",))  # fmt: skip
    own = next((s for s in ref.tree.body if isinstance(s, tree.Declare) and s.keyword in ("input", "state")), None)
    if own is not None:
        how = f"a {ref.tree.role} takes tensors as parameters, `{own.name}: [B, C]`, and gives results with `return`"
        raise fail("E0223", f"`{own.keyword}` belongs to a model", own.span, helps=(how,))
    bound = bind(ref, args, piped, span)
    if any(isinstance(v, Poison) for v in bound.values.values()):
        return POISON
    bound.values = {name: with_tensors(value, scope.frame.use) for name, value in bound.values.items()}
    for p in ref.tree.parameters:
        if p.name in bound.values:
            check_kind(ref.tree.name, p, bound.values[p.name], bound.spans[p.name], signature_of(ref.tree))
    with scope.session.using(Use(ref, span, bound.values, bound.spans)):
        return _apply_bound(ref, bound, label, span, scope)


def _apply_bound(ref: ComponentRef, bound: Bound, label: str | None, span: Span, scope: Scope) -> Any:
    if any(isinstance(v, Module) or _modules_in(v) for v in bound.values.values()):
        return _inline_shared(ref, bound, _label_here(ref, label, scope), span, scope)
    made, passed = template_for(ref, bound, span, scope)
    if made is None:
        return POISON
    level = scope.frame.level
    name = _label_here(ref, label, scope)
    if not made.entries:
        return inline(ref, bound, "", span, scope)
    if made.unit is not None:
        return inline(ref, bound, name, span, scope)
    again = level.reuse and level.find("") is not None
    if name == "" and not (level.adopt and (again or not level.entries)):
        if level.adopt:
            raise Conflict
        return inline(ref, bound, "", span, scope)
    entry = level.add(ChildEntry(name, made, passed, span))
    return call_template(made, passed, ref, bound, span, scope, entry.name)


def _modules_in(value: Any) -> bool:
    return isinstance(value, Many) and any(isinstance(i, Module) for i in value.items)


def _label_here(ref: ComponentRef, label: str | None, scope: Scope) -> str:
    return ref.tree.name if label is None else scope.self_label if label == "_" else label


def _inline_shared(ref: ComponentRef, bound: Bound, name: str, span: Span, scope: Scope) -> Any:
    """A component that is given a shared module: written in place, so it may own nothing under a name of its own."""
    known = {e.name for e in scope.frame.level.entries}
    result = inline(ref, bound, name, span, scope)
    shared = {
        m.name
        for v in bound.values.values()
        for m in (v.items if isinstance(v, Many) else (v,))
        if isinstance(m, Module)
    }
    own = [e.name for e in scope.frame.level.entries if e.name not in known | shared | {name}]
    if own:
        raise fail(
            "E0406", f"`{ref.tree.name}` is given what belongs to its caller, and has weights of its own (`{own[0]}`)", span,
            helps=("a shared module can only be passed to what owns no weights",),
        )  # fmt: skip
    return result


def call_template(
    made: Template, passed: tuple[tuple[str, Scalar], ...], ref: ComponentRef, bound: Bound, span: Span, scope: Scope,
    entry: str | None,
) -> Any:  # fmt: skip
    frame = scope.frame
    frame.session.count(span)
    inputs: list[Any] = []
    back: dict[str, str] = {}
    for p in ref.tree.parameters:
        value = bound.values.get(p.name)
        for tensor in captured(value):
            inputs.append(frame.use(tensor))
            if isinstance(p.type, tree.TensorDecl):
                for theirs, ours in fit(p, tensor, ref.tree.name, span, scope.session).items():
                    back.setdefault(ours, theirs)
    arguments = tuple((name, frame.localise(value)) for name, value in passed)
    known = {name: value.sym for name, value in arguments}
    outputs = tuple(frame.value(_outside(v.type, back, known, made), span) for v in made.outputs)
    frame.add(Call(made, tuple(inputs), outputs, arguments, span, entry))
    results = [outputs[i] if isinstance(i, int) else Many(tuple(outputs[j] for j in i)) for i in _result_shape(made)]
    return results[0] if len(results) == 1 else Many(tuple(results), True)


def _result_shape(made: Template) -> list[Any]:
    """Where each result lies among the outputs: an index, or the indices of a list."""
    return (
        [i[0] if len(i) == 1 and i[0] >= 0 else tuple(i) for i in made.lists]
        if made.lists
        else list(range(len(made.outputs)))
    )


def _outside(type: TensorType, back: dict[str, str], args: dict[str, Sym], made: Template) -> TensorType:
    """A result's type in the caller's terms: its axis names, and its sizes' expressions over its own variables.

    A size that a loop of the component leaves behind is told by the component's arguments, or by its number.
    """
    behind: dict[str, Sym] | None = None
    axes = []
    for axis in type.axes:
        sym = axis.dim.sym
        if sym is not None and _strange(sym, args):
            behind = sizes_behind(made.body) if behind is None else behind
            sym = substitute(sym, behind)
            if _strange(sym, args):
                sym = Const(axis.dim.constant)
        if sym is not None:
            sym = substitute(sym, args)
        axes.append(axis.renamed(back).sized(Dim(axis.size, sym)))
    return type.with_axes(axes)


def _strange(sym: Sym, known: Mapping[str, Any]) -> bool:
    """Whether an expression reads a variable that is not among `known`."""
    match sym:
        case Var(name, definition):
            return name not in known and (definition is None or _strange(definition, known))
        case SymApply(_, args):
            return any(_strange(arg, known) for arg in args)
        case Comprehension(expr, targets, iterable):
            return _strange(iterable, known) or _strange(expr, {**known, **dict.fromkeys(targets)})
        case _:
            return False


def inline(ref: ComponentRef, bound: Bound, self_label: str, span: Span, scope: Scope) -> Any:
    """The component's body written into the caller's frame."""
    inner = Scope(scope.frame, ref.file, {}, ref.tree, self_label, model=scope.model)
    late: list[Any] = []
    back: dict[str, str] = {}
    for p in ref.tree.parameters:
        if p.name not in bound.values:
            continue
        value = bound.values[p.name]
        if isinstance(p.type, tree.TensorDecl) and isinstance(value, Value):
            names = fit(p, value, ref.tree.name, span, scope.session)
            for theirs, ours in names.items():
                back.setdefault(ours, theirs)
            if any(a != b for a, b in names.items()):
                value = _relabel(value, names, inner)
            bind_sizes(p.type, value, ref.tree.name, bound.spans[p.name], inner, late)
        inner.env[p.name] = value
    bind_defaults(ref, bound, inner)
    check_sizes(ref.tree.name, inner, late)
    results = run_body(ref, inner)
    if results is None:
        return POISON
    outside = tuple(_relabel_result(r, back, inner) for r in results)
    return outside[0] if len(outside) == 1 else Many(outside, True)


def _relabel(value: Value, names: dict[str, str], scope: Scope) -> Value:
    frame = scope.frame
    value = frame.use(value)
    renamed = frame.value(value.type.renamed(names), value.span, value.name)
    frame.add(Relabel(value, renamed))
    return renamed


def _relabel_result(result: Any, back: dict[str, str], scope: Scope) -> Any:
    if isinstance(result, Many):
        return Many(tuple(_relabel_result(r, back, scope) for r in result.items), result.is_tuple)
    if isinstance(result, Value) and any(back.get(n, n) != n for n in result.type.names):
        names = {n: back.get(n, n) for n in result.type.names}
        if len(set(names.values())) != len(names):
            names = {n: n for n in names}
        return _relabel(result, names, scope)
    return result
