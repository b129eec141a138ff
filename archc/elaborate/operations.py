"""Applying operations: shape rule, obligations, weights, one more statement of the frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archc.contract import Obligation
from archc.diagnostics import ArchError, Diagnostic, fail
from archc.elaborate import components
from archc.elaborate.frame import Scope
from archc.elaborate.trail import place
from archc.elaborate.values import (
    Deferred,
    Many,
)
from archc.ir.graph import Apply, Value
from archc.ir.types import TensorType
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
    return ArchError(
        [Diagnostic(error.code, error.message, at, error.label, notes=notes, helps=(error.help,) if error.help else ())]
    )


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
    size = o.left.constant
    if o.kind != "divides" or size is None or size < 1:
        return ""
    return f"what divides {size}: {listed_divisors(size)}"


def _refusal(o: Obligation) -> str:
    match o.kind:
        case "equal":
            return f"{o.left} here, {o.right} there"
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
        raise op_error(error, span, args, shown if error.code.startswith("E03") else ()) from None
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
