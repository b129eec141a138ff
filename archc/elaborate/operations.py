"""Applying operations: shape rule, obligations, weights, one more statement of the frame."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archc.contract import Obligation
from archc.diagnostics import ArchError, Diagnostic, Label, fail
from archc.elaborate import components
from archc.elaborate.frame import Scope, tensors_in
from archc.elaborate.trail import in_library, place, written
from archc.elaborate.values import (
    Deferred,
    Many,
)
from archc.ir.graph import Apply, Value
from archc.ir.types import Axis, TensorType
from archc.ops.base import Op, OpError, parameters
from archc.ops.checks import listed_divisors
from archc.sizes import Size, SizeError
from archc.source import Span

if TYPE_CHECKING:
    from archc.elaborate.arguments import Arg


def construct(op: type[Op], given: dict[str, Any], span: Span, scope: Scope) -> Op:
    fields = {p.name: p for p in parameters(op)}
    for name, p in fields.items():
        if name not in given and p.kind == "sizes":
            given[name] = {}
    try:
        return scope.frame.localise(op(**given))
    except OpError as error:
        raise op_error(error, span) from None


def op_error(
    error: OpError, span: Span, args: list[Arg] | None = None, types: tuple[TensorType, ...] = ()
) -> ArchError:
    """An operation's refusal, with the place it is about and the operand that it refuses."""
    at = next((a.span for a in args or () if a.keyword == error.argument), span) if error.argument else span
    said = f"{error.message} {error.label}"
    notes = tuple(f"the operand is {type}" for type in types if str(type) not in said)
    texts = {a.keyword: a.axis for a in args or () if a.keyword and a.axis and isinstance(a.value, Value)}
    helps = (with_texts(error.help, texts),) if error.help else ()
    return ArchError([Diagnostic(error.code, error.message, at, error.label, notes=notes, helps=helps)])


def with_texts(help: str, texts: Mapping[str, str]) -> str:
    """A help in which the names of operands, within code, are what is written for them."""
    if not texts:
        return help
    named = re.compile(rf"\b({'|'.join(map(re.escape, texts))})(?![\w(=])")
    parts = help.split("`")
    parts[1::2] = [named.sub(lambda found: texts[found.group()], part) for part in parts[1::2]]
    return "`".join(parts)


class Checker:
    """Collects what a shape rule demands: proved in silence, refused as an error, else part of the contract."""

    def __init__(self, scope: Scope, span: Span) -> None:
        self.scope, self.span = scope, place(span, scope.session.trail)

    def equal(self, left: Size, right: Size, why: str, code: str = "E0331") -> None:
        self._state(Obligation("equal", left, right, self.span, why, code, self.scope.session.guards))

    def divides(self, divisor: Size, size: Size, why: str, code: str = "E0312") -> None:
        self._state(Obligation("divides", size, divisor, self.span, why, code, self.scope.session.guards))

    def at_least(self, size: Size, least: Size | int, why: str, code: str = "E0333") -> None:
        self._state(Obligation("at_least", size, Size.of(least), self.span, why, code, self.scope.session.guards))

    def _state(self, obligation: Obligation) -> None:
        verdict = self.scope.session.settle(obligation)
        if verdict == "refused":
            why, label = obligation.why, _refusal(obligation)
            if obligation.kind == "equal":
                why = f"{why}, and the sizes differ: {obligation.left} and {obligation.right}"
            self.refuse(OpError(why, obligation.code, label=label, help=_divisors(obligation)))
        if verdict == "depends":
            symbols = obligation.left.symbols | obligation.right.symbols
            if "B" in symbols:
                why = f"{obligation.why}: this would restrict the batch"
                self.refuse(OpError(why, obligation.code, label=_refusal(obligation)))
            self.scope.session.oblige(obligation)

    def refuse(self, error: OpError) -> None:
        if not self.scope.session.forced:
            raise error
        self.scope.session.refuse(op_error(error, self.span))


def _divisors(o: Obligation) -> str:
    """What would divide a size that is a number."""
    size, by = o.left.constant, o.right.constant
    if o.kind != "divides" or size is None or size < 1:
        return ""
    near = (
        f"; sizes near {size} that {by} divides: {size // by * by}, {size // by * by + by}" if by and size > by else ""
    )
    return f"what divides {size}: {listed_divisors(size)}{near}"


def _refusal(o: Obligation) -> str:
    match o.kind:
        case "equal":
            return f"{o.left} and {o.right}"
        case "divides":
            return f"{o.left} is not a multiple of {o.right}"
        case _:
            return f"{o.left} is less than {o.right}"


def apply_op(
    op: type[Op], operands: list[Any], given: dict[str, Any], label: str | None, span: Span, scope: Scope,
    args: list[Arg] | None = None,
) -> Any:  # fmt: skip
    """An operation on tensors: checks it, makes its weights under `label`, adds it to the frame.

    Raises ArchError with the operation's own codes.
    """
    frame = scope.frame
    given = dict(given)
    first = next((t for v in operands for t in (v if isinstance(v, tuple) else (v,)) if isinstance(t, Value)), None)
    for p in parameters(op):
        if p.kind == "axes" and p.name not in given and p.default == ("positions",) and first is not None:
            given[p.name] = tuple(axis.name for axis in first.type.positions)
    instance = construct(op, given, span, scope)
    inputs = tuple(
        tuple(frame.use(t) for t in v) if isinstance(v, tuple) else v if v is None else frame.use(v) for v in operands
    )
    extra = tuple(frame.use(v) for v in getattr(instance, "tensors", ()))
    types = [tuple(t.type for t in v) if isinstance(v, tuple) else v if v is None else v.type for v in inputs + extra]
    scope.session.count(span)
    try:
        results = instance.infer(Checker(scope, span), *types)
        weights = instance.weights(*types)
    except OpError as error:
        # With several operands the message says which it is about.
        shown = tuple(t for t in types if isinstance(t, TensorType)) if len(types) == 1 else ()
        refused = op_error(error, span, args, shown if error.code.startswith("E03") else ())
        raise ArchError(_located(d, error, instance, inputs, args or [], scope) for d in refused.diagnostics) from None
    except (SizeError, OverflowError) as error:
        raise fail("E0404", f"a size is too large: {error}", span) from None
    for type in results:
        if len(set(type.names)) != len(type.names):
            raise fail("E0301", f"the result would have two axes of one name: {type}", span)
    entry = None
    if weights:
        entry = components.place_op(label, instance, tuple(types), weights, span, scope)
    elif label is not None and label != "_":
        pass  # a label on something without weights is a remark
    outputs = tuple(frame.value(type, span) for type in results)
    frame.add(Apply(instance, inputs + extra, outputs, span, entry))
    return outputs[0] if len(outputs) == 1 else Many(outputs, True)


def _located(
    diagnostic: Diagnostic, error: OpError, op: Op, inputs: tuple[Any, ...], args: list[Arg], scope: Scope
) -> Diagnostic:  # fmt: skip
    """What an operation refuses, with the place of its region or path, and of the tensors of a list that do not agree."""
    for p in parameters(type(op)):
        a = next((a for a in args if a.keyword == p.name), None)
        if p.kind not in ("region", "path") or a is None or diagnostic.code not in ("E0213", "E0302", "E0303", "E0312"):
            continue
        at = a.span if a.axis is None else written(a.axis, a.value, scope.session.trail)
        if at is None or in_library(at.source):
            continue
        used = Label(place(diagnostic.span or at, scope.session.trail), "it is used here")
        return replace(
            diagnostic, span=at, related=(*diagnostic.related, *(() if used.span.line == at.line else (used,)))
        )
    if error.items is None:
        return diagnostic
    tensors = next(value for value in inputs if isinstance(value, tuple))
    pair = [tensors[i] for i in error.items]
    names = next((a.names for a in args if isinstance(a.value, Many) and len(a.names) == len(tensors)), ())
    texts = {f"xs[{i}]": name for i, name in enumerate(names)}
    labels = [Label(v.span, f"{v.type} is made here") for v in pair if made_apart(v.span, diagnostic.span, scope)]
    stale = [text for v in pair for axis in v.type.axes if (text := _stale_size(axis, v, scope))]
    helps = tuple(dict.fromkeys(stale))[:1] or tuple(with_texts(help, texts) for help in diagnostic.helps)
    return replace(diagnostic, related=(*diagnostic.related, *labels), helps=helps)


def _stale_size(axis: Axis, value: Value, scope: Scope) -> str:
    """Help where the call that made a tensor reads a size of the signature, and the tensor has come to have another."""
    known = scope.sizes.get(axis.name)
    read = re.search(rf"(?<![.\w]){axis.name}\b(?!\s*=[^=])", value.span.text)
    if not axis.is_position or known is None or read is None:
        return ""
    made = next((s for s in scope.frame.body if isinstance(s, Apply) and value in s.outputs), None)
    before = [v.type[axis.name].size for v in tensors_in(Many(made.inputs)) if axis.name in v.type] if made else []
    if not before or Size.of(known.value) in before:
        return ""  # what the call was given had that size
    whose = "the input" if scope.component is not None and scope.component.role == "model" else "the signature"
    return f"`{axis.name}` is a size of {whose}: the present one of a tensor `x` is `x.{axis.name}`"


def made_apart(made: Span, used: Span | None, scope: Scope) -> bool:
    """Whether a value was made on another line of the same body, and not handed over by the signature."""
    if scope.component is None or used is None or made.source is not used.source or made.line == used.line:
        return False
    body = scope.component.body
    return bool(body) and body[0].span.start <= made.start and made.end <= body[-1].span.end


def settle_deferred(deferred: Deferred, like: Value, scope: Scope) -> Value:
    """The waiting operation, with the positions of `like`."""
    frame = scope.frame
    inputs = (*(frame.use(t) for t in deferred.inputs), frame.use(like))
    op = frame.localise(deferred.op)
    try:
        results = op.infer(Checker(scope, deferred.span), *(t.type for t in inputs))
    except OpError as error:
        raise op_error(error, deferred.span) from None
    outputs = tuple(frame.value(type, deferred.span) for type in results)
    frame.add(Apply(op, inputs, outputs, deferred.span, None))
    return outputs[0]
