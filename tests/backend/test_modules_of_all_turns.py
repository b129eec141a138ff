"""Modules from outside of a loop, applied by its turns: one set of weights, the same keys, values and gradients."""

import pytest

from archc.backend.module import Figures, emit
from archc.backend.reread import compare, reread
from archc.contract import solve
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.source import Source
from archc.verify import verify
from archc.weights.keys import state_dict

SPEC = """
block tower(x: [B, C, N]) {{ return x |> fc: linear(C) |> norm: layer_norm }}
model m(depth: int = 2) {{
    input x: [B, C=4, N]
    module one = linear(4)
    module part = tower
    module heads = [linear(2), linear(2)]
    first = x |> pre: linear(4)
    ys = [one(part(first))]
    {loop}
    output ys = ys
    output first = [x |> h for h in heads]
}}
net = m()
"""
LOOPS = {
    "repeat": "layers: repeat depth { x = x + (part(x) |> one |> own: linear(4)) }",
    "nested": "layers: repeat 2 { inner: repeat depth { x = one(x) |> own: linear(4) }\n x = part(x) |> last: linear(4) }",
    "applied": "layers: loop 2 { x = one(x) + (x |> own: linear(4)) }",
    "without weights": "loop 3 as t { x = one(x) / (t + 1) }",
    "for": "layers: for w in [4, 8] { x = x + (one(x) |> own: linear(w) |> back: linear(4)) }",
    "modules in a list": "layers: for h in heads { ys += [x |> own: linear(4) |> h] }",
    "in a branch": "layers: repeat 2 as i { if depth > 1 { x = one(x) }\n x = x |> own: linear(4) }",
    "in the turns of a stage": "layers: stage i in range(2) { blocks: repeat 2 { x = part(x) |> own: linear(4) } }",
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_turns_apply_one_set_of_weights(name: str) -> None:
    library = load(Source("shared.arch", SPEC.format(loop=LOOPS[name] + "\n    ys += [x]")))
    program = elaborate(library, variant(library, "net"))
    text = emit(program, solve(program.symbols, program.obligations), Figures(0))
    assert compare(program, reread(text, program.name)) == [], text
    keys = [key for key in state_dict(program) if not key.startswith(("layers", "pre"))]
    assert keys == [
        *("part." + key for key in ("fc.weight", "fc.bias", "norm.weight", "norm.bias")),
        *("one.weight", "one.bias"),
        *(f"heads.{i}.{key}" for i in range(2) for key in ("weight", "bias")),
    ]
    report = verify(program, text, sizes=[{"B": 2, "N": 3}])
    assert report.ok, f"{text}\n{report}"
