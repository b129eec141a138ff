"""`forward` of a model that is not a classifier: several inputs, outputs, states, exits and losses."""

from __future__ import annotations

from archc.backend.classes import ClassWriter
from archc.backend.operand import Operand
from archc.backend.python import identifier
from archc.backend.writer import Line, Writer, without_unused
from archc.ir.graph import Value
from archc.ir.program import Output, Program


def forward_lines(program: Program, owner: ClassWriter, checks: list[Line]) -> list[Line]:
    """The method `forward`: inputs and outputs in declared order (a tuple where there are several).

    Inputs that may be left out stand behind the others. Outputs `when training` and losses are added in training
    only; states come last on both sides.
    """
    writer = owner.writer(program.root)
    arguments = []
    for i in sorted(program.inputs, key=lambda i: (i.default is not None, i.kind == "state")):
        name = identifier(i.name)
        writer.taken.add(name)
        if i.value.type.dtype == "float" and i.default is None:
            writer.anchor = name
        default = " | None = None" if i.default is not None else ""
        arguments.append(f"{name}: Tensor{default}")
        writer.values[i.value.uid] = Operand(name, i.value.type, i.value.type.names)
    writer.lines += _first_states(program)
    writer.lines += checks
    writer.write(program.root.body)
    always, training = [], []
    for o in program.outputs:
        text = _text(o, owner, writer)
        (training if o.when == "training" or o.kind == "loss" else always).append(text)
    if training:
        writer.emit("if self.training:")
        with writer.nested():
            writer.emit(f"return {', '.join([*always, *training])}")
    writer.emit(f"return {', '.join(always)}")
    writer.lines = without_unused(writer.lines)
    returns = _returns(program)
    from archc.backend.classes import merge_return

    return [Line(4, f"def forward(self, {', '.join(arguments)}) -> {returns}:"), *merge_return(writer.lines)]


def _text(output: Output, owner: ClassWriter, writer: Writer) -> str:
    """What `forward` returns for an output; a list that a loop collected is returned as it is."""
    values = output.value if isinstance(output.value, tuple) else (output.value,)
    collected = writer.collected.get(tuple(value.uid for value in values))
    if collected is not None and isinstance(output.value, tuple):
        return collected
    texts = []
    for value in values:
        operand = writer.operand(value)
        if operand.where is not None:
            operand = operand.where.merge(writer, operand)
        texts.append(operand.logical().text)
    if isinstance(output.value, Value):
        return texts[0]
    if output.length is not None:
        owner.assumed.append(output.length)
    return f"[{', '.join(texts)}]"


def _first_states(program: Program) -> list[Line]:
    """What a state holds before the first call."""
    lines: list[Line] = []
    known: dict[str, str] = {}
    for i in program.inputs:
        if i.default is None:
            for at, axis in enumerate(i.value.type.axes):
                known.setdefault(str(axis.size), f"{identifier(i.name)}.shape[{at}]")
    anchor = next((identifier(i.name) for i in program.inputs if i.default is None), None)
    for i in program.inputs:
        if i.kind != "state" or i.default is None:
            continue
        name = identifier(i.name)
        # A size that no other input tells is 0: nothing is remembered yet.
        shape = [
            str(a.size.constant) if a.size.constant is not None else known.get(str(a.size), "0")
            for a in i.value.type.axes
        ]
        sized = f"({', '.join(shape)}{',' if len(shape) == 1 else ''})"
        value = (
            f"{anchor}.new_zeros({sized})"
            if i.default in ("empty", "0")
            else f"{anchor}.new_full({sized}, {i.default})"
        )
        lines += [Line(8, f"if {name} is None:"), Line(12, f"{name} = {value}")]
    return lines


def _returns(program: Program) -> str:
    kinds = [
        "Tensor" if isinstance(o.value, Value) else "list[Tensor]"
        for o in program.outputs
        if o.when is None and o.kind != "loss"
    ]
    if len(kinds) != len(program.outputs):
        return "Any"
    return kinds[0] if len(kinds) == 1 else f"tuple[{', '.join(kinds)}]"
