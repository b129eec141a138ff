"""What a plan takes into one operator, and what stays outside."""

from __future__ import annotations

from pathlib import Path

from archc import driver
from archc.elaborate.loader import load
from archc.fusion.plan import fuse
from archc.ir.graph import Fused
from archc.locate import Spec
from archc.source import Source


def fused(body: str) -> list[Fused]:
    text = f"model net() {{\n input x: [B, C=4, N]\n{body}\n}}\nsmall = net()\n"
    library = load(Source("small.arch", text, Path(__file__).parent / "small.arch"), {})
    program = driver.build(Spec(library, ("small",), "small"), "small")
    return [region.fused for region in fuse(program)[1] if region.fused is not None]


def test_what_a_core_alone_reads_stays_outside() -> None:
    regions = fused("y = x |> a: linear(4)\n z = (y + x) |> b: linear(4)\n output out = z * x")
    assert [[step.op.name for step in region.steps] for region in regions] == [["linear", "add"], ["linear", "multiply"]]
    for region in regions:
        made = {value.uid for step in region.steps for value in step.outputs}
        assert not made & {value.uid for value in region.inputs}
