"""The functions of a kernel that follow its sums: what the operations behind the core compute, and its gradient."""

from __future__ import annotations

from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused, Owned
from archc.ir.sym import Const, Scalar


class Epilogue:
    """The text of a chain of pointwise operations on the result of a core.

    The kernel gives its functions the `operands`: the bias, if there is one, then the maps of the result's shape that
    the chain reads besides; for the gradient, then that of the result, and room for those of the maps. Gradients follow
    from the slopes of the operations, last first.
    """

    def __init__(self, region: Fused) -> None:
        core, *chain = region.steps
        self.chain = tuple(chain)
        self.bias = any(isinstance(t, Owned) and t.name == "bias" for t in region.tensors)
        self.names = {
            tensor.uid: name
            for tensor, name in zip(region.tensors, region.arguments, strict=True)
            if not isinstance(tensor, Owned)
        }
        self.maps = [name for name in region.arguments if name not in ("x", "weight", "bias")]
        self.names[core.outputs[0].uid] = "z"
        self.names |= {step.outputs[0].uid: f"v{number}" for number, step in enumerate(chain)}
        self.last = self.names[region.outputs[0].uid]
        self.numbers = {number.sym: at for at, number in enumerate(region.numbers)}

    def _sides(self, step: Apply) -> list[str]:
        """The sides of an operation: tensors by name, numbers as they are or as the kernel is given them."""
        sides = step.op.sides([self.names[v.uid] for v in values(step.inputs)])
        return [self._number(side) if isinstance(side, Scalar) else side for side in sides]

    def _number(self, side: Scalar) -> str:
        if not isinstance(side.sym, Const):
            return f"numbers[{self.numbers[side.sym]}]"
        assert isinstance(side.value, (int, float))
        return repr(float(side.value))

    def _values(self) -> list[str]:
        lines = ["z = acc"]
        if self.bias:
            lines = ["z = acc + tl.load(operands[0] + o_c, m_c, 0.0).to(tl.float32)[None, :]"]
        for at, name in enumerate(self.maps):
            lines.append(f"{name} = tl.load(operands[{at + self.bias}] + o_y, m_y, 0.0).to(tl.float32)")
        return [*lines, *(f"{self.names[s.outputs[0].uid]} = {s.op.tile(*self._sides(s))}" for s in self.chain)]

    def forward(self) -> list[str]:
        """The lines of the function that makes the result of the sums `acc`."""
        return [*self._values(), f"return {self.last}"]

    def backward(self) -> list[str]:
        """The lines of the function that makes the gradient of the sums, and stores those of the maps."""
        count = len(self.maps) + self.bias
        lines = [*self._values(), f"dy = tl.load(operands[{count}] + o_y, m_y, 0.0).to(tl.float32)"]
        gradients: dict[str, list[str]] = {self.last: ["dy"]}
        for step in reversed(self.chain):
            name = self.names[step.outputs[0].uid]
            given, terms = f"d_{name}", gradients.pop(name)
            lines.append(f"{given} = {' + '.join(terms)}")
            sides = self._sides(step)
            for side, slope in zip(sides, step.op.slopes(*sides, result=name), strict=True):
                if side in self.names.values():
                    gradients.setdefault(side, []).append(given if slope == "1.0" else f"{given} * ({slope})")
        for at, name in enumerate(self.maps):
            target = f"operands[{count + 1 + at}]"
            lines.append(f"d_{name} = {' + '.join(gradients[name])}")
            lines.append(f"tl.store({target} + o_y, d_{name}.to({target}.dtype.element_ty), m_y)")
        return [*lines, f"return {' + '.join(gradients['z'])}"]
