"""The functions of a kernel that follow its sums, or make what it sums: what the operations around the core compute, and
its gradient."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from archc.ir.dataflow import values
from archc.ir.graph import Apply, Drawn, Fused, Owned, Value
from archc.ir.sym import Const, Scalar
from archc.ir.types import TensorType

# Where an operand lies that has some of the axes of the results: samples N, positions P, channels C, or is a single number S;
# and its mask.
_PLACES = {
    "NPC": ("o_y", "m_y"), "NP": ("o_m", "m_m"), "NC": ("(o_m // P) * C + o_c", "m_y"), "N": ("o_m // P", "m_m"),
    "PC": ("(o_m % P) * C + o_c", "m_y"), "P": ("o_m % P", "m_m"), "C": ("o_c", "m_c"), "S": ("", ""),
}  # fmt: skip

HEAD = "(acc, operands, numbers, o_y, o_m, o_c, m_m, m_c, C, P):"
"""What the functions are given: the core's results, the operands, the region's numbers and behind them how far apart the rows
of maps lie (those of x, then of operands; None where nothing lies between them), the places `o_y` of the results in a map,
their rows `o_m` (samples and positions in one) and channels `o_c` with the masks of both, the number of channels and of
positions; all broadcast to `acc`."""


def defined(name: str, lines: Iterable[str]) -> list[str]:
    """Such a function."""
    return [f"def {name}{HEAD}", *(f"    {line}" for line in lines)]


def axes_of(operand: TensorType, whole: TensorType, channels: str) -> str | None:
    """Which axes of a map `whole` an operand has: samples N, all positions P, channels C; S where it is a single number. None
    where it has only some of the positions, or other axes, or other sizes."""
    if not operand.axes:
        return "S"
    if any(a.name not in whole or a.size != whole[a.name].size for a in operand.axes):
        return None
    if len(operand.axes) == len(whole.axes):
        return "NPC"
    samples = whole.names[:1] if whole.names[0] == "B" else ()
    positions = [name for name in whole.names if name != channels and name not in samples]
    held = [name for name in positions if name in operand]
    if len(held) not in (0, len(positions)) or not (samples or operand.names == (channels,)):
        return None
    return "N" * (samples[:1] == ("B",) and "B" in operand) + "P" * bool(held) + "C" * (channels in operand)


class Epilogue:
    """The text of pointwise operations, the `chain`, behind the results `start` of a core.

    Of the region's tensors, the chain reads those `given` besides, and weights may be among them. The kernel gives its
    functions the `operands`: the bias, if there is one, then the tensors that the operations read besides, of which `kinds`
    says the axes; for the gradient, then that of the result, and room for those of the operands. Gradients follow from the
    slopes of the operations, last first. An operand that each channel or each row has one number of gets its gradient in
    sums: the function returns the terms, by channel and by row.
    """

    def __init__(
        self, region: Fused, chain: Sequence[Apply], given: slice, start: Value, channels: str, bias: bool, earlier: int = 0
    ) -> None:  # fmt: skip
        self.chain, self.bias = tuple(chain), bias
        self.names: dict[int, str] = {}
        self.drawn: dict[int, str] = {}  # by the result of the operation
        self.operands: list[tuple[str, Value | Drawn, str]] = []  # name, tensor, axes
        for tensor, name in zip(region.tensors[given], region.arguments[given], strict=True):
            if isinstance(tensor, Owned):
                continue
            if isinstance(tensor, Drawn):
                self.drawn[tensor.step.outputs[0].uid] = name
                self.operands.append((name, tensor, "N"))
            else:
                self.names[tensor.uid] = name
                axes = axes_of(tensor.type, start.type, channels)
                assert axes is not None
                self.operands.append((name, tensor, axes))
        self.names[start.uid] = "z"
        self.names |= {step.outputs[0].uid: f"v{number}" for number, step in enumerate(self.chain)}
        self.last = self.names[chain[-1].outputs[0].uid if chain else start.uid]
        self.numbers = {number.sym: at for at, number in enumerate(region.numbers)}
        # Behind the numbers are the strides of rows: of x, of `earlier` operands, of these.
        self.strides = len(region.numbers)
        maps = (name for name, _, axes in self.operands if axes == "NPC")
        self.stride_of = {name: self.strides + at for at, name in enumerate(maps, 1 + earlier)}

    def settings(self) -> list[str]:
        """The keyword arguments of the operator that tell of the operands: which axes each has, in small letters where
        it takes no gradient; which take the gradient of the result as it is; whether the gradient needs the sums."""
        passes = [at for at, (name, _, _) in enumerate(self.operands) if name in self._passes()]
        return [
            *([f"operands={self.kinds()}"] if self.operands else []),
            *([f"passes={_listed(map(str, passes))}"] if passes else []),
            *([] if self._reads_sums() else ["recomputes=False"]),
        ]

    def kinds(self) -> str:
        """Which axes each operand has, in small letters where it takes no gradient."""
        kinds = [axes if self._learns(tensor) else axes.lower() for _, tensor, axes in self.operands]
        return _listed(f'"{kind}"' for kind in kinds)

    def _learns(self, tensor: Value | Drawn) -> bool:
        """Whether a gradient reaches the tensor."""
        return isinstance(tensor, Value) and self.names[tensor.uid] in self._gradients()[1]

    def _passes(self) -> list[str]:
        """The maps whose gradient is that of the result."""
        found = self._gradients()[1]
        return [name for name, _, axes in self.operands if axes == "NPC" and found.get(name) == "dy"]

    def _reads_sums(self) -> bool:
        """Whether the gradient depends on the results of the core."""
        return any(re.search(r"\bacc\b", line) for line in self.backward())

    def _sides(self, step: Apply) -> list[str]:
        """The sides of an operation: tensors by name, numbers as they are or as the kernel is given them."""
        tensors = [self.names[v.uid] for v in values(step.inputs)]
        if step.outputs[0].uid in self.drawn:
            tensors.append(self.drawn[step.outputs[0].uid])
        return [self._number(s) if isinstance(s, Scalar) else s for s in step.op.sides(tensors)]

    def _number(self, side: Scalar) -> str:
        if not isinstance(side.sym, Const):
            return f"numbers[{self.numbers[side.sym]}]"
        assert isinstance(side.value, (int, float))
        text = repr(float(side.value))
        return f'float("{text}")' if text.lstrip("-") in ("inf", "nan") else text

    def _values(self, first: int, z: str) -> dict[str, list[str]]:
        """The lines that make each name. The `first` operands are not of the chain, which starts from `z`."""
        lines = {"m_y": ["m_y = m_m & m_c"], "z": [f"z = {z}"]}
        for at, (name, tensor, axes) in enumerate(self.operands, first):
            load = _load(at, axes, self.stride_of.get(name))
            if isinstance(tensor, Drawn):
                given = f"if operands[{at}] is not None:"
                lines[name] = [f"{name} = 1.0", given, f"    {name} = {load}.to(tl.float32)"]
            else:
                truth = tensor.type.dtype == "bool"
                lines[name] = [f"{name} = {load} != 0" if truth else f"{name} = {load}.to(tl.float32)"]
        for step in self.chain:
            name = self.names[step.outputs[0].uid]
            lines[name] = [f"{name} = {step.op.tile(*self._sides(step))}"]
        return lines

    def _sums(self) -> dict[str, list[str]]:
        return self._values(int(self.bias), f"acc + {_load(0, 'C')}.to(tl.float32)" if self.bias else "acc")

    def _gradients(self) -> tuple[dict[str, list[str]], dict[str, str]]:
        """The lines that make the gradients of intermediate results, and the gradient of everything else by its name."""
        lines: dict[str, list[str]] = {}
        gradients: dict[str, list[str]] = {self.last: ["dy"]}
        for step in reversed(self.chain):
            name = self.names[step.outputs[0].uid]
            if name not in gradients:
                continue  # a truth value
            given = " + ".join(gradients.pop(name))
            if not given.isidentifier():
                lines[f"d_{name}"] = [f"d_{name} = {given}"]
                given = f"d_{name}"
            sides = self._sides(step)
            for side, slope in zip(sides, step.op.slopes(*sides, result=name), strict=True):
                if slope and (side in self.names.values()):
                    factor = slope if slope.isidentifier() else f"({slope})"
                    gradients.setdefault(side, []).append(given if slope == "1.0" else f"{given} * {factor}")
        return lines, {name: " + ".join(terms) for name, terms in gradients.items()}

    @property
    def passes_on(self) -> bool:
        """Whether the gradient of the core's results is that of the result, and no other is left to make."""
        return self.backward()[-1] == "return dy, (), ()"

    def forward(self) -> list[str]:
        """The lines of the function that makes the result of the core's `acc`."""
        return _needed(self._sums(), [f"return {self.last}"])

    def backward(self) -> list[str]:
        """The lines of the function that makes the gradient of `acc`, stores those of the operands that are as large,
        and returns the terms of the others."""
        count = len(self.operands) + self.bias
        dy = [f"dy = {_load(count, 'NPC')}.to(tl.float32)"]
        return _needed({**self._sums(), "dy": dy, **self._gradients()[0]}, self._results(count + 1))

    def _results(self, first: int) -> list[str]:
        """The lines that store the gradients of operands, into those from the `first`, and return the rest."""
        gradients, passes = self._gradients()[1], self._passes()
        stores, by_channel, by_row = [], [], []
        for at, (name, _, axes) in enumerate(self.operands, first):
            if name not in gradients or name in passes:
                continue
            if axes in ("C", "N", "P", "NP", "S"):
                # Beyond the edge the slopes need not be finite.
                (by_channel if axes == "C" else by_row).append(f"tl.where(m_y, {gradients[name]}, 0.0)")
                continue
            stores += [f"d_{name} = {gradients[name]}", _store(at, f"d_{name}")]
        sums = [_listed(terms) for terms in (by_channel, by_row)]
        return [*stores, f"return {gradients.get('z', '0.0 * acc')}, {', '.join(sums)}"]


class Prologue(Epilogue):
    """The text of pointwise operations that make what a core works on, of its map and of operands.

    The function of their gradient follows the product that makes the gradient of what they make. Its operands are the map,
    those of the operations, room for what they make, which the gradient of the weight needs, and room for gradients.
    """

    def _passes(self) -> list[str]:
        return []

    def backward(self) -> list[str]:
        count = len(self.operands) + 1
        lines = {**self._values(1, f"{_load(0, 'NPC', self.strides)}.to(tl.float32)"), "dy": ["dy = acc"], **self._gradients()[0]}
        return _needed(lines, [_store(count, self.last), *self._results(count + 1)])


def _load(at: int, axes: str, stride: int | None = None) -> str:
    place, mask = _PLACES[axes]
    if stride is not None:
        place = f"placed(o_y, o_m, o_c, numbers[{stride}])"
    return f"tl.load(operands[{at}] + {place}, {mask}, 0.0)" if mask else f"tl.load(operands[{at}])"


def _store(at: int, value: str) -> str:
    return f"tl.store(operands[{at}] + o_y, {value}.to(operands[{at}].dtype.element_ty), m_y)"


def _listed(texts: Iterable[str]) -> str:
    """A Python tuple."""
    items = list(texts)
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def _needed(lines: dict[str, list[str]], ends: list[str]) -> list[str]:
    """The lines that the last ones need, directly or through others, and the last ones."""
    words = set(re.findall(r"\w+", " ".join(ends)))
    kept: list[str] = []
    for name, made in reversed(lines.items()):
        if name in words:
            words |= set(re.findall(r"\w+", " ".join(made)))
            kept = [*made, *kept]
    return [*kept, *ends]
