"""The meaning of a program: its graph executed statement by statement, in float64.

Every operation runs its own `reference`; nothing here knows one by name. What runs is the graph that everything else is
derived from, so that whatever is emitted can be held to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from archc.diagnostics import ArchError, Diagnostic, did_you_mean, fail
from archc.ir.graph import (
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
)
from archc.ir.program import Input, Program
from archc.ir.sym import Const, Scalar, Sym, evaluate, plain
from archc.ir.types import Axis, Dim, TensorType
from archc.reference.named import Named, Run
from archc.sizes import Size, SizeError
from archc.source import Span
from archc.weights.keys import inside, live_entries, values

Bindings = dict[str, Any]


def run(
    program: Program, weights: Mapping[str, Any], inputs: Mapping[str, Any], entry: str | None = None
) -> dict[str, Any]:
    """The outputs of a program, by name in declared order; a list of tensors is a list.

    `weights` are torch tensors by state-dict key, `inputs` torch tensors by name; both are taken to float64 and gradients
    flow through. `entry` runs a further method of the model, whose inputs are its parameters and whose outputs are called
    0, 1, ... Raises ArchError E0621 where inputs do not fit, E0622 where a weight is missing or has another shape.
    """
    if entry is None:
        template, wanted = program.root, program.inputs
    else:
        found = {point.name: point.template for point in program.entry_points}
        if entry not in found:
            raise fail("E0621", f"`{program.name}` has no entry `{entry}`", helps=did_you_mean(entry, found))
        template = found[entry]
        wanted = tuple(Input(value.name, value) for value in template.inputs)
    import torch

    given = _given(program, wanted, inputs, torch)
    sizes = bind_sizes(wanted, {name: tuple(tensor.shape) for name, tensor in given.items()})
    _admit(program, sizes)
    machine = _Machine(torch, weights, sizes)
    frame = _Frame(template, "", inside(template, values(program.parameters)))
    for item in wanted:
        frame.values[item.value.uid] = Named(given[item.name], item.value.type.names, item.value.type)
    machine.execute(template.body, frame)
    if entry is not None:
        return {str(number): machine.result(value, frame) for number, value in enumerate(template.outputs)}
    results = {}
    for output in program.outputs:
        value = output.value
        many = isinstance(value, tuple)
        results[output.name] = [machine.result(v, frame) for v in value] if many else machine.result(value, frame)
    return results


# ---- inputs


def bind_sizes(inputs: Sequence[Input], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The sizes of the input symbols for inputs of these shapes. Raises ArchError E0621 where they do not fit."""
    sizes: dict[str, int] = {}
    origin: dict[str, str] = {}
    held = [
        (item, axis, number)
        for item in inputs
        for axis, number in zip(_axes(item, shapes[item.name]), shapes[item.name], strict=True)
    ]
    for item, axis, number in held:
        symbol = str(axis.size)
        if axis.size != Size.symbol(symbol):
            continue
        if sizes.setdefault(symbol, number) != number:
            raise fail("E0621", f"{symbol} is {sizes[symbol]} in `{origin[symbol]}` and {number} in `{item.name}`", item.value.span)
        origin.setdefault(symbol, item.name)
    for item, axis, number in held:
        if axis.size.symbols <= sizes.keys() and axis.size.evaluate(sizes) != number:
            wanted = axis.size.evaluate(sizes)
            raise fail("E0621", f"the axis {axis.name} of `{item.name}` must be {wanted}, and is {number}", item.value.span)
    return sizes


def _axes(item: Input, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    axes = item.value.type.axes
    if len(axes) != len(shape):
        raise fail("E0621", f"`{item.name}` is {item.value.type}, and a tensor of {len(shape)} axes was given", item.value.span)
    return axes


def _given(program: Program, wanted: Sequence[Input], inputs: Mapping[str, Any], torch: Any) -> dict[str, Any]:
    """The inputs in the dtypes of their types."""
    names = [item.name for item in wanted]
    for name in inputs:
        if name not in names:
            raise fail("E0621", f"`{program.name}` has no input `{name}`", helps=did_you_mean(name, names))
    dtypes = {"float": torch.float64, "int": torch.int64, "bool": torch.bool}
    found = {}
    for item in wanted:
        if inputs.get(item.name) is None:
            # A build without an optional input is a program of its own.
            raise fail("E0621", f"the input `{item.name}` is missing", item.value.span)
        found[item.name] = inputs[item.name].to(dtypes[item.value.type.dtype])
    return found


def _admit(program: Program, sizes: Mapping[str, int]) -> None:
    """Raises ArchError E0621 where the program needs other sizes than these."""
    diagnostics = []
    for need in program.obligations:
        try:
            holds = need.holds(sizes)
        except KeyError:
            continue  # about an input that was left out
        if not holds:
            shown = ", ".join(f"{name} = {number}" for name, number in sizes.items())
            diagnostics.append(Diagnostic("E0621", f"{need.why}, which does not hold for {shown}", need.span))
    if diagnostics:
        raise ArchError(diagnostics)


# ---- execution


@dataclass
class _Frame:
    """One call: the state-dict prefix of its weights, its compile-time numbers, its tensors by uid."""

    template: Template
    prefix: str
    bindings: Bindings
    values: dict[int, Named] = field(default_factory=dict)


@dataclass(frozen=True)
class _Weights(Mapping[str, Any]):
    """The weights of one operation, by their names in it, from the state dict."""

    machine: _Machine
    keys: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    span: Span

    def __getitem__(self, name: str) -> Any:
        key, tensors = self.keys[name], self.machine.weights
        if key not in tensors:
            raise fail("E0622", f"the weight `{key}` is missing", self.span, helps=did_you_mean(key, tensors))
        tensor = tensors[key]
        if tuple(tensor.shape) != self.shapes[name]:
            raise fail("E0622", f"the weight `{key}` is {list(tensor.shape)} and must be {list(self.shapes[name])}", self.span)
        return tensor.to(self.machine.torch.float64) if tensor.is_floating_point() else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


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
        """Holds a result to its type: an operation whose meaning and shape rule differ is wrong in one of them."""
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

    def owned(self, statement: Apply, frame: _Frame) -> Mapping[str, Any]:
        """The weights of an operation: its own under its entry, or the one declared in the component."""
        if statement.entry is None:
            return {}
        for entry in live_entries(frame.template, frame.bindings):
            if isinstance(entry, WeightEntry) and entry.name == statement.entry:
                key = frame.prefix + entry.name
                return _Weights(self, {entry.weight.name: key}, {entry.weight.name: entry.weight.shape}, statement.span)
        types = [
            tuple(v.type for v in x) if isinstance(x, tuple) else x if x is None else x.type for x in statement.inputs
        ]
        weights = statement.op.weights(*types)
        prefix = _level(frame.prefix, statement.entry)
        return _Weights(self, {w.name: prefix + w.name for w in weights}, {w.name: w.shape for w in weights}, statement.span)

    def call(self, call: Call, frame: _Frame, bindings: Bindings) -> None:
        """`bindings` are the numbers around the call: those of the frame and, in a loop, those of the turn."""
        template = call.template
        known = {name: self.number(value, frame, bindings) for name, value in call.args}
        inner = _Frame(template, _level(frame.prefix, call.entry), {**inside(template, bindings), **known})
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
            taken = bool(self.number(branch.condition, frame, frame.bindings))
        self.execute((branch.then if taken else branch.otherwise) or (), frame)
        for merge in branch.merges:
            value = merge.then if taken else merge.otherwise
            if value is not None and value.uid in frame.values:
                self.store(merge.result, self.read(value, frame), frame)

    # ---- numbers

    def number(self, scalar: Scalar, frame: _Frame, bindings: Bindings) -> Any:
        """A compile-time value as it is in this call, which may share its template with calls for other numbers."""
        recorded = scalar.value
        if isinstance(recorded, Size):
            return recorded.evaluate(self.sizes)
        fallback = plain(scalar)
        return fallback if isinstance(scalar.sym, Const) else self.value(scalar.sym, fallback, frame, bindings)

    def value(self, sym: Sym, recorded: Any, frame: _Frame, bindings: Bindings) -> Any:
        """The value of an expression, `recorded` where it reads what is known to the elaborator alone."""
        types = {uid: named.type for uid, named in frame.values.items()}

        def extent(uid: int, axis: int) -> int:
            return frame.values[uid].size(types[uid].names[axis])

        try:
            return evaluate(sym, bindings, extent)
        except (KeyError, SizeError):
            return recorded

    def rebound(self, item: Any, frame: _Frame) -> Any:
        """An operation, or a part of one, with the numbers of this call in place of those it was recorded with."""
        match item:
            case Scalar(value=Size()) | Scalar(sym=Const()):
                return item
            case Scalar():
                return _like(item, self.number(item, frame, frame.bindings))
            case tuple():
                return tuple(self.rebound(inner, frame) for inner in item)
            case dict():
                return {key: self.rebound(inner, frame) for key, inner in item.items()}
            case Value() | TensorType() | Axis() | Dim() | Span() | type():
                return item
        if not is_dataclass(item):
            return item
        made = {f.name: self.rebound(getattr(item, f.name), frame) for f in fields(item) if f.init}
        return replace(item, **made)


def _level(prefix: str, entry: str | None) -> str:
    return f"{prefix}{entry}." if entry else prefix


def _like(scalar: Scalar, value: Any) -> Scalar:
    """`scalar` with another value; the items of a list keep their places."""
    if isinstance(scalar.value, tuple) and isinstance(value, list) and len(value) == len(scalar.value):
        return Scalar(tuple(_like(item, v) for item, v in zip(scalar.value, value, strict=True)), scalar.sym)
    return Scalar(value, scalar.sym)
