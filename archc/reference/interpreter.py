"""The meaning of a program: its graph executed statement by statement, in float64.

Every operation runs its own `reference`; nothing here knows one by name. What runs is the graph that
everything else is derived from, so that whatever is emitted can be held to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, fields, is_dataclass, replace
from typing import Any

from archc.diagnostics import did_you_mean, fail
from archc.ir.graph import (
    OUTER,
    Apply,
    Assign,
    Branch,
    Call,
    Operand,
    Relabel,
    Repeat,
    Statement,
    Template,
    Value,
    WeightEntry,
    is_live,
)
from archc.ir.program import Input, Program
from archc.ir.sym import Const, Scalar, Sym, evaluate, plain
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Weight
from archc.records import dataclass
from archc.reference.inputs import admit, bind_sizes, convert_inputs
from archc.reference.named import Named, Run
from archc.reference.seeded import table
from archc.sizes import Size, SizeError
from archc.source import Span
from archc.weights.keys import values

Bindings = dict[str, Any]


def run(
    program: Program, weights: Mapping[str, Any], inputs: Mapping[str, Any], entry: str | None = None
) -> dict[str, Any]:
    """The outputs of a program, by name in declared order; a list of tensors is a list.

    `weights` are torch tensors by state-dict key, `inputs` torch tensors by name; both are taken to float64
    and gradients flow through. `entry` runs a further method of the model, whose inputs are its parameters
    and whose outputs are called 0, 1, ... Raises ArchError E0621 where inputs do not fit, E0622 where a
    weight is missing or has another shape.
    """
    if entry is None:
        template, wanted = program.root, program.inputs
    else:
        methods = {point.name: point.template for point in program.entry_points}
        if entry not in methods:
            raise fail(
                "E0621", f"`{program.name}` has no entry `{entry}`", helps=did_you_mean(entry, methods)
            )
        template = methods[entry]
        wanted = tuple(Input(value.name, value) for value in template.inputs)
    import torch

    given = convert_inputs(program, wanted, inputs, torch)
    sizes = bind_sizes(wanted, {name: tuple(tensor.shape) for name, tensor in given.items()})
    admit(program, sizes)
    machine = _Machine(torch, weights, sizes)
    frame = _Frame(template, "", values(program.parameters))
    for item in wanted:
        frame.values[item.value.uid] = Named(given[item.name], item.value.type.names, item.value.type)
    machine.execute(template.body, frame)
    if entry is not None:
        return {str(number): machine.result(value, frame) for number, value in enumerate(template.outputs)}
    results = {}
    for output in program.outputs:
        found = [machine.result(value, frame) for value in _tensors(output.value)]
        results[output.name] = found if isinstance(output.value, tuple) else found[0]
    return results


def run_template(
    template: Template, weights: Mapping[str, Any], inputs: Sequence[Any], sizes: Mapping[str, int]
) -> list[Any]:
    """The results of one component for tensors in the order of its types, where the input symbols have `sizes`.

    `weights` are by the keys of the component's own module.
    """
    import torch

    machine = _Machine(torch, weights, sizes)
    frame = _Frame(template, "", values(template.parameters))
    for value, tensor in zip(template.inputs, inputs, strict=True):
        frame.values[value.uid] = Named(tensor, value.type.names, value.type)
    machine.execute(template.body, frame)
    return [machine.result(value, frame) for value in template.outputs]


def _tensors(value: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    return value if isinstance(value, tuple) else (value,)


# ---- execution


@dataclass
class _Frame:
    """One call: the state-dict prefix of its weights, its compile-time numbers, its tensors by uid."""

    template: Template
    prefix: str
    bindings: Bindings
    values: dict[int, Named] = field(default_factory=dict)
    around: _Frame | None = None

    def owner(self, entry: str) -> tuple[_Frame, str]:
        """The frame whose entry it is, and its name there."""
        frame = self
        while entry.startswith(OUTER):
            assert frame.around is not None
            frame, entry = frame.around, entry.removeprefix(OUTER)
        return frame, entry


@dataclass(frozen=True)
class _Machine:
    torch: Any
    weights: Mapping[str, Any]
    sizes: Mapping[str, int]

    def execute(self, body: Sequence[Statement], frame: _Frame) -> None:
        for statement in body:
            match statement:
                case Apply():
                    self.apply(statement, frame)
                case Call():
                    self.call(statement, frame, frame.bindings)
                case Relabel(input=old, output=new):
                    self.store(new, self.read(old, frame), frame)
                case Repeat():
                    self.repeat(statement, frame)
                case Branch():
                    self.branch(statement, frame)
                case Assign():
                    pass

    # ---- tensors

    def read(self, value: Value, frame: _Frame) -> Named:
        return frame.values[value.uid]

    def operand(self, operand: Operand, frame: _Frame) -> Any:
        if operand is None:
            return None
        if isinstance(operand, tuple):
            return tuple(self.read(value, frame) for value in operand)
        return self.read(operand, frame)

    def store(self, value: Value, tensor: Named, frame: _Frame) -> None:
        """`tensor` under the axis names of `value`, axis by axis in the order of its own type."""
        assert tensor.type is not None
        self.keep(value, Named(tensor.to(tensor.type.names), value.type.names), frame)

    def keep(self, value: Value, tensor: Named, frame: _Frame) -> None:
        """Holds a result to its type: where meaning and shape rule of an operation differ, one is wrong."""
        wanted = {axis.name: axis.size.evaluate(self.sizes) for axis in value.type.axes}
        found = dict(zip(tensor.names, tensor.data.shape, strict=True))
        assert found == wanted, f"{value.span}: {value.type} is {wanted}, and its value is {found}"
        frame.values[value.uid] = replace(tensor, type=value.type)

    def result(self, value: Value, frame: _Frame) -> Any:
        return self.read(value, frame).to(value.type.names)

    # ---- statements

    def apply(self, statement: Apply, frame: _Frame) -> None:
        op = self.rebound(statement.op, frame)
        operands = [self.operand(x, frame) for x in statement.inputs]
        result = op.reference(Run(self.torch, self.owned(statement, frame), self.sizes), *operands)
        results = result if isinstance(result, tuple) else (result,)
        for value, tensor in zip(statement.outputs, results, strict=True):
            self.keep(value, tensor, frame)

    def owned(self, statement: Apply, frame: _Frame) -> dict[str, Any]:
        """The weights of an operation by their names in it: its own, or the one of the component it reads."""
        if statement.entry is None:
            return {}
        frame, name = frame.owner(statement.entry)
        declared = (e for e in frame.template.entries if isinstance(e, WeightEntry))
        for entry in declared:
            if entry.name == name and is_live(entry, frame.bindings):
                key = frame.prefix + entry.name
                return {entry.weight.name: self.weight(key, entry.weight, statement.span)}
        types = [_type(x) for x in statement.inputs]
        prefix = _level(frame.prefix, name)
        # What counts batches says nothing about a result, and may be missing.
        return {
            weight.name: self.weight(prefix + weight.name, weight, statement.span)
            for weight in statement.op.weights(*types)
            if weight.kind != "counter"
        }

    def weight(self, key: str, weight: Weight, span: Span) -> Any:
        """The tensor under `key`; a table, which no state dict holds, as its text makes it."""
        tensor = self.weights.get(key)
        if tensor is None and weight.kind == "table":
            tensor = table(weight)
        if tensor is None:
            raise fail("E0622", f"the weight `{key}` is missing", span, helps=did_you_mean(key, self.weights))
        if tuple(tensor.shape) != weight.shape:
            raise fail("E0622", f"`{key}` is {list(tensor.shape)} and must be {list(weight.shape)}", span)
        return tensor.to(self.torch.float64) if weight.dtype == "float" else tensor

    def call(self, call: Call, frame: _Frame, bindings: Bindings) -> None:
        """`bindings` are the numbers around the call: the frame's and, in a loop, the turn's."""
        template = call.template
        known = {name: self.number(value, frame, bindings) for name, value in call.args}
        # A further method of the model is not passed the model's numbers: it reads them.
        around = bindings if template.role == "entry" else values(template.parameters)
        owner, name = frame.owner(call.entry or "")
        inner = _Frame(template, _level(owner.prefix, name), {**around, **known}, around=frame)
        for given, taken in zip(call.inputs, template.inputs, strict=True):
            assert isinstance(given, Value)
            self.store(taken, self.read(given, frame), inner)
        self.execute(template.body, inner)
        for made, result in zip(template.outputs, call.outputs, strict=True):
            self.store(result, self.read(made, inner), frame)

    def repeat(self, loop: Repeat, frame: _Frame) -> None:
        items = self.items(loop, frame)
        state = {phi.var.name: self.value(phi.first, None, frame, frame.bindings) for phi in loop.phis}
        for number, turn in enumerate(loop.turns):
            bindings = {**frame.bindings, **{name: size for name, size in state.items() if size is not None}}
            if items is not None and loop.targets:
                parts = [items[number]] if len(loop.targets) == 1 else items[number]
                bindings.update(zip(loop.targets, parts, strict=True))
            self.call(turn, frame, bindings)
            state = {phi.var.name: self.value(phi.next, None, frame, bindings) for phi in loop.phis}

    def items(self, loop: Repeat, frame: _Frame) -> Sequence[Any] | None:
        """What the targets of a loop stand for in each turn; None where that is no compile-time value."""
        if loop.iterable is None:
            return None
        items = self.number(loop.iterable, frame, frame.bindings)
        items = range(items) if isinstance(items, int) else items
        return items if isinstance(items, (list, range)) and len(items) == len(loop.turns) else None

    def branch(self, branch: Branch, frame: _Frame) -> None:
        taken = branch.taken
        if taken is None:
            taken = self.number(branch.condition, frame, frame.bindings)
            assert isinstance(taken, (bool, int)), f"{branch.span}: the condition of a branch is {taken!r}"
        self.execute((branch.then if taken else branch.otherwise) or (), frame)
        for merge in branch.merges:
            value = merge.then if taken else merge.otherwise
            if value is not None and value.uid in frame.values:
                self.store(merge.result, self.read(value, frame), frame)

    # ---- numbers

    def number(self, scalar: Scalar, frame: _Frame, bindings: Bindings) -> Any:
        """A compile-time value in this call, which may share its template with calls for other numbers."""
        recorded = scalar.value
        if isinstance(recorded, Size):
            return recorded.evaluate(self.sizes)
        fallback = plain(scalar)
        constant = isinstance(scalar.sym, Const)
        return fallback if constant else self.value(scalar.sym, fallback, frame, bindings)

    def value(self, sym: Sym, recorded: Any, frame: _Frame, bindings: Bindings) -> Any:
        """The value of an expression, `recorded` where it reads what is known to the elaborator alone."""

        def extent(uid: int, axis: int) -> int:
            tensor = frame.values[uid]
            assert tensor.type is not None
            return tensor.size(tensor.type.names[axis])

        try:
            return evaluate(sym, bindings, extent)
        except (KeyError, SizeError):
            return recorded

    def rebound(self, item: Any, frame: _Frame) -> Any:
        """An operation, or a part of one, with the numbers of this call."""
        match item:
            case Scalar(value=Size()) | Scalar(sym=Const()):
                return item
            case Scalar():
                return _like(item, self.number(item, frame, frame.bindings))
            case tuple():
                return tuple(self.rebound(inner, frame) for inner in item)
            case dict():
                return {key: self.rebound(inner, frame) for key, inner in item.items()}
            case Value() | TensorType() | Axis() | Dim() | Span():
                return item
        if not is_dataclass(item) or isinstance(item, type):
            return item
        made = {f.name: self.rebound(getattr(item, f.name), frame) for f in fields(item) if f.init}
        return replace(item, **made)


def _type(operand: Operand) -> Any:
    if operand is None:
        return None
    return tuple(value.type for value in operand) if isinstance(operand, tuple) else operand.type


def _level(prefix: str, entry: str | None) -> str:
    return f"{prefix}{entry}." if entry else prefix


def _like(scalar: Scalar, value: Any) -> Scalar:
    """`scalar` with another value; the items of a list keep their places."""
    if isinstance(scalar.value, tuple) and isinstance(value, list) and len(value) == len(scalar.value):
        return Scalar(tuple(_like(item, v) for item, v in zip(scalar.value, value, strict=True)), scalar.sym)
    return Scalar(value, scalar.sym)
