"""Small programs written by hand, for tests that need no spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archc.ir.graph import Apply, Call, ChildEntry, ListEntry, OpEntry, Repeat, Template, Value
from archc.ir.program import Input, Output, Program
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Op
from archc.sizes import Size
from archc.source import Source, Span

SOURCE = Source("test.arch", "test")
SPAN = Span(SOURCE, 0, 4)


class Anything:
    """Accepts every demand of a shape rule."""

    def equal(self, *args: object) -> None: ...

    def divides(self, *args: object) -> None: ...

    def at_least(self, *args: object) -> None: ...

    def refuse(self, *args: object) -> None: ...


def tensor(dtype: str = "float", **axes: int | str) -> TensorType:
    """`tensor(B="B", C=3, H="H")`: text is a symbol."""
    return TensorType(
        dtype, tuple(Axis(n, Dim.of(Size.symbol(s) if isinstance(s, str) else s)) for n, s in axes.items())
    )


class Builder:
    """Adds statements to a template one by one."""

    uids = 0

    def __init__(self, name: str, *inputs: TensorType, role: str = "block") -> None:
        self.name, self.role = name, role
        self.body: list[Any] = []
        self.entries: list[Any] = []
        self.inputs = [self.value(type) for type in inputs]

    def value(self, type: TensorType) -> Value:
        Builder.uids += 1
        return Value(Builder.uids, type, SPAN)

    def apply(self, op: Op, *inputs: Any, entry: str | None = None) -> Any:
        types = [tuple(v.type for v in x) if isinstance(x, tuple) else x.type for x in inputs]
        outputs = tuple(self.value(type) for type in op.infer(Anything(), *types))
        weights = op.weights(*types)
        if weights and all(e.name != entry for e in self.entries):
            self.entries.append(OpEntry(entry or op.name, op, tuple(types), weights, SPAN))
        self.body.append(Apply(op, inputs, outputs, SPAN, entry or op.name if weights else None))
        return outputs[0] if len(outputs) == 1 else outputs

    def call(self, template: Template, *inputs: Value, entry: str | None = None) -> Any:
        call = self._call(template, inputs, entry)
        if entry is not None and all(e.name != entry for e in self.entries):
            self.entries.append(ChildEntry(entry, template, (), SPAN))
        self.body.append(call)
        return call.outputs[0] if len(call.outputs) == 1 else call.outputs

    def _call(self, template: Template, inputs: Sequence[Value], entry: str | None) -> Call:
        outputs = tuple(self.value(v.type) for v in template.outputs)
        return Call(template, tuple(inputs), outputs, (), SPAN, entry)

    def repeat(self, template: Template, x: Value, times: int, label: str, keyword: str = "repeat") -> Value:
        turns = []
        for number in range(times):
            turns.append(self._call(template, [x], label if keyword == "loop" else f"{label}.{number}"))
            x = turns[-1].outputs[0]
        child = ChildEntry("", template, (), SPAN)
        made: Any = ListEntry(label, (child,) * times, SPAN)
        self.entries.append(ChildEntry(label, template, (), SPAN) if keyword == "loop" else made)
        self.body.append(Repeat(keyword, label, (), None, tuple(turns), (), (), SPAN))
        return x

    def template(self, *outputs: Value) -> Template:
        return Template(
            self.name,
            self.role,
            "",
            (),
            tuple(self.inputs),
            outputs,
            tuple(self.body),
            tuple(self.entries),
            SPAN,
        )

    def program(
        self, *outputs: Value, symbols: tuple[str, ...] = ("B", "H", "W"), when: str | None = None
    ) -> Program:
        """The finished model; the last output exists only where `when` says."""
        last = len(outputs) - 1
        return Program(
            name=self.name,
            model=self.name,
            doc="",
            source=SOURCE,
            sources=(SOURCE,),
            span=SPAN,
            root=self.template(*outputs),
            parameters=(),
            kinds=(),
            inputs=tuple(Input(f"x{i}" if i else "x", v) for i, v in enumerate(self.inputs)),
            outputs=tuple(
                Output(f"y{i}", v, "output", when if i == last else None, SPAN) for i, v in enumerate(outputs)
            ),
            entry_points=(),
            symbols=symbols,
            obligations=(),
            claims=(),
            rules=(),
            matches=(),
        )
