"""Masks, picked keys and biases are handed to components that own weights: their tensors become inputs."""

import pytest

from archc.backend.module import Figures, emit
from archc.backend.reread import compare, reread
from archc.contract import solve
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.source import Source
from archc.verify import verify

SPEC = """
mixer attention(x: [B, C, N], over: region, bias: tensor = none) {{
    q = x |> q: linear(C)
    s = correlate(q, x |> k: linear(C), over)
    if bias != none {{ s = s + bias }}
    return aggregate(softmax(s, tap), x |> v: linear(C), over)
}}
block wrapped(x: [B, C, N], over: region) {{
    return x + (x |> norm: layer_norm |> inner: attention(over))
}}
model m() {{
    input x: [B, C=4, N]
    input keep: [B, N, tap=2]
    param table: [d=3] = normal(0.5)
    {line}
    output y = y
    output kept = keep * (table |> mean(d))
}}
net = m()
"""
LINES = {
    "a mask": "y = x |> att: attention(window(2) & (keep > 0))",
    "a mask, two components down": "y = x |> att: wrapped(window(2) & (keep > 0))",
    "masks in a union": "y = x |> att: attention((window(2) & (keep > 0)) + (window(2) & (keep > 1)))",
    "a mask in a loop": "y = x\n    blocks: repeat 3 { y = y |> att: attention(window(2) & (keep > 0)) }",
    "a bias": "y = x |> att: attention(window(2), relative(table, window(2)))",
    "a bias in a loop": "y = x\n    blocks: repeat 2 { y = y |> att: attention(window(2), relative(table, window(2))) }",
    "two masks": "y = (x |> a: attention(window(2) & (keep > 0))) + (x |> b: attention(window(2) & (keep > 1)))",
}


@pytest.mark.parametrize("name", LINES)
def test_what_is_carried_arrives(name: str) -> None:
    library = load(Source("carried.arch", SPEC.format(line=LINES[name])))
    program = elaborate(library, variant(library, "net"))
    text = emit(program, solve(program.symbols, program.obligations), Figures(0))
    assert compare(program, reread(text, program.name)) == [], text
    report = verify(program, text, sizes=[{"B": 2, "N": 6}], gradients=False)
    assert report.ok, f"{text}\n{report}"
