"""The functions of a kernel that follow its sums: what the operations behind the core compute, and its gradient."""

from __future__ import annotations

from collections.abc import Sequence

from archc.ir.graph import Apply, Value
from archc.ir.sym import Scalar


class Epilogue:
    """The text of a chain of pointwise operations on the result of a core.

    `maps` are the tensors of the result's shape that the chain reads besides, in the order in which a kernel is given
    them. Gradients follow from the slopes of the operations, last first.
    """

    def __init__(self, core: Apply, chain: Sequence[Apply], bias: bool) -> None:
        self.core, self.chain, self.bias = core, tuple(chain), bias
        self.names: dict[int, str] = {core.outputs[0].uid: "z"}
        self.maps: list[Value] = []
        for number, step in enumerate(self.chain):
            for value in step.inputs:
                assert isinstance(value, Value)
                if value.uid not in self.names:
                    self.names[value.uid] = f"m{len(self.maps)}"
                    self.maps.append(value)
            self.names[step.outputs[0].uid] = f"v{number}"

    def arguments(self, step: Apply) -> list[str]:
        """The sides of an operation: tensors by name, numbers as they are."""
        return step.op.sides_of([self.names[v.uid] for v in step.inputs if isinstance(v, Value)])

    def _loads(self) -> list[str]:
        lines = []
        if self.bias:
            lines.append("z = acc + tl.load(operands[0] + o_c, m_c, 0.0).to(tl.float32)[None, :]")
        else:
            lines.append("z = acc")
        for at in range(len(self.maps)):
            lines.append(f"m{at} = tl.load(operands[{at + self.bias}] + o_y, m_y, 0.0).to(tl.float32)")
        return lines

    def _values(self, steps: Sequence[Apply]) -> list[str]:
        return [f"{self.names[s.outputs[0].uid]} = {s.op.tile(*self.arguments(s))}" for s in steps]

    def forward(self) -> list[str]:
        """The lines of the function that makes the result of the sums `acc`."""
        last = self.names[self.chain[-1].outputs[0].uid] if self.chain else "z"
        return [*self._loads(), *self._values(self.chain), f"return {last}"]

    def backward(self) -> list[str]:
        """The lines of the function that makes the gradient of the sums, and stores those of the maps."""
        count = len(self.maps) + self.bias
        lines = [*self._loads(), *self._values(self.chain)]
        lines.append(f"dy = tl.load(operands[{count}] + o_y, m_y, 0.0).to(tl.float32)")
        last = self.names[self.chain[-1].outputs[0].uid] if self.chain else "z"
        gradients: dict[str, list[str]] = {last: ["dy"]}
        for step in reversed(self.chain):
            name = self.names[step.outputs[0].uid]
            terms = gradients.pop(name, [])
            given = f"d_{name}"
            lines.append(f"{given} = {' + '.join(terms)}")
            slopes = step.op.slopes(*self.arguments(step), result=name)
            tensors = [v for v in step.inputs if isinstance(v, Value)]
            for value, slope in zip(tensors, slopes, strict=True):
                gradients.setdefault(self.names[value.uid], []).append(
                    given if slope == "1.0" else f"{given} * ({slope})"
                )
        for at in range(len(self.maps)):
            target = f"operands[{count + 1 + at}]"
            total = " + ".join(gradients.get(f"m{at}", ["0.0 * dy"]))
            lines.append(f"tl.store({target} + o_y, ({total}).to({target}.dtype.element_ty), m_y)")
        return [*lines, f"return {' + '.join(gradients.get('z', ['dy']))}"]


def number_text(value: Scalar) -> str | None:
    """A number that a kernel is written with; None where it is not the same in every build."""
    raw = value.value
    return repr(float(raw)) if isinstance(raw, (int, float)) and not isinstance(raw, bool) else None
