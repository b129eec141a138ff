"""The functions of a kernel that follow its sums: what the operations behind the core compute, and its gradient."""

from __future__ import annotations

from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused


class Epilogue:
    """The text of a chain of pointwise operations on the result of a core.

    `maps` are the tensors of the result's shape that the chain reads besides, in the order in which a kernel is given
    them. Gradients follow from the slopes of the operations, last first.
    """

    def __init__(self, region: Fused) -> None:
        core, *chain = region.steps
        self.chain, self.bias = tuple(chain), region.core.bias
        self.maps = region.inputs[1:]
        self.arguments = [f"m{at}" for at in range(len(self.maps))]
        self.names = {value.uid: name for value, name in zip(self.maps, self.arguments, strict=True)}
        self.names[core.outputs[0].uid] = "z"
        self.names |= {step.outputs[0].uid: f"v{number}" for number, step in enumerate(chain)}
        self.last = self.names[region.outputs[0].uid]

    def _sides(self, step: Apply) -> list[str]:
        """The sides of an operation: tensors by name, numbers as they are."""
        return step.op.sides_of([self.names[v.uid] for v in values(step.inputs)])

    def _loads(self) -> list[str]:
        lines = []
        if self.bias:
            lines.append("z = acc + tl.load(operands[0] + o_c, m_c, 0.0).to(tl.float32)[None, :]")
        else:
            lines.append("z = acc")
        for at in range(len(self.maps)):
            lines.append(f"m{at} = tl.load(operands[{at + self.bias}] + o_y, m_y, 0.0).to(tl.float32)")
        return lines

    def _values(self) -> list[str]:
        return [f"{self.names[s.outputs[0].uid]} = {s.op.tile(*self._sides(s))}" for s in self.chain]

    def forward(self) -> list[str]:
        """The lines of the function that makes the result of the sums `acc`."""
        return [*self._loads(), *self._values(), f"return {self.last}"]

    def backward(self) -> list[str]:
        """The lines of the function that makes the gradient of the sums, and stores those of the maps."""
        count = len(self.maps) + self.bias
        lines = [*self._loads(), *self._values()]
        lines.append(f"dy = tl.load(operands[{count}] + o_y, m_y, 0.0).to(tl.float32)")
        gradients: dict[str, list[str]] = {self.last: ["dy"]}
        for step in reversed(self.chain):
            name = self.names[step.outputs[0].uid]
            terms = gradients.pop(name, [])
            given = f"d_{name}"
            lines.append(f"{given} = {' + '.join(terms)}")
            slopes = step.op.slopes(*self._sides(step), result=name)
            tensors = list(values(step.inputs))
            for value, slope in zip(tensors, slopes, strict=True):
                gradients.setdefault(self.names[value.uid], []).append(
                    given if slope == "1.0" else f"{given} * ({slope})"
                )
        for at in range(len(self.maps)):
            target = f"operands[{count + 1 + at}]"
            total = " + ".join(gradients.get(f"m{at}", ["0.0 * dy"]))
            lines.append(f"tl.store({target} + o_y, ({total}).to({target}.dtype.element_ty), m_y)")
        return [*lines, f"return {' + '.join(gradients.get('z', ['dy']))}"]

