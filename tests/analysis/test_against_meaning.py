"""What `reach` promises, held to the reference: no result changes with an input it does not see."""

from __future__ import annotations

import pytest
import torch

from archc.analysis.receptive import Flow
from archc.analysis.setting import Setting
from archc.contract import solve
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.ir.program import Program
from archc.ops.table import ALL
from archc.reference.interpreter import run
from archc.reference.seeded import seeded_weights
from archc.source import Source

EXAMPLES = [(op.name, text) for op in ALL.values() for text in op.examples]
SMALL = {"B": 2, "N": 7, "M": 5, "T": 4, "H": 6, "W": 9}


def program(example: str) -> Program:
    operands, _, expression = example.partition(" -> ")
    depth, parts = 0, [""]
    for char in operands:
        depth += {"[": 1, "]": -1}.get(char, 0)
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    inputs = "\n".join(f"    input {part.strip()}" for part in parts if part.strip())
    text = f"model m() {{\n{inputs}\n    output result = {expression}\n}}\nv = m()\n"
    library = load(Source("example.arch", text))
    return elaborate(library, variant(library, "v"))


def small_sizes(built: Program) -> dict[str, int]:
    sizes = {name: SMALL.get(name, 3) for name in built.symbols}
    return solve(built.symbols, built.obligations).nearest(sizes)[0] if built.obligations else sizes


def draw(dtype: str, shape: list[int]) -> torch.Tensor:
    if dtype == "float":
        return torch.rand(shape, dtype=torch.float64) + 0.5
    return torch.randint(0, 2, shape) if dtype == "int" else torch.rand(shape) < 0.5


def other(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype == torch.bool:
        return ~tensor
    return 1 - tensor if tensor.dtype == torch.int64 else tensor * 2 + torch.rand_like(tensor)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(EXAMPLES)])
def test_results_change_only_with_what_they_see(name, example):
    torch.manual_seed(0)
    built = program(example)
    if not built.inputs:
        return
    sizes = small_sizes(built)
    flow = Flow(Setting(sizes))
    begin = {item.value.uid: flow.start(number, item.value) for number, item in enumerate(built.inputs)}
    views = flow.through(built.root, begin)
    weights = seeded_weights(built)
    given = {
        i.name: draw(i.value.type.dtype, [a.size.evaluate(sizes) for a in i.value.type.axes])
        for i in built.inputs
    }
    results = [v for o in built.outputs for v in (o.value if isinstance(o.value, tuple) else (o.value,))]

    def outputs(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        found = run(built, weights, inputs)["result"]
        return found if isinstance(found, list) else [found]

    before = outputs(given)
    for number, item in enumerate(built.inputs):
        for place, axis in enumerate(item.value.type.axes):
            if not axis.is_position:
                continue
            length = given[item.name].shape[place]
            for at in sorted({0, length // 2, length - 1}):
                changed = given[item.name].clone()
                changed.select(place, at).copy_(other(changed.select(place, at)))
                for value, old, new in zip(
                    results, before, outputs({**given, item.name: changed}), strict=True
                ):
                    view = views[value.uid]
                    differs = ~torch.isclose(old, new, rtol=1e-9, atol=1e-12, equal_nan=True)
                    if (number, axis.name) not in view:
                        assert not differs.any(), f"{axis.name} of {item.name} is not seen"
                        continue
                    window = view[number, axis.name]
                    if window is None:
                        continue
                    rows = (
                        differs.movedim(value.type.names.index(window.axis), 0).flatten(1)
                        if differs.ndim > 1
                        else differs
                    )
                    for p, row in enumerate(rows):
                        low, high = window.stride * p + window.low, window.stride * p + window.high
                        assert not row.any() or low <= at <= high, f"{p} sees {at}, promised {low} to {high}"
