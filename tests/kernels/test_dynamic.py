"""Sums over the taps of a region and scores alone: what becomes one operator, what does not, and the sums themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from planned import SPECS, small, with_kernels

from archc import driver
from archc.elaborate.loader import load
from archc.fusion.plan import Region, fuse
from archc.locate import Spec
from archc.source import Source

HERE = Path(__file__).parent


def planned(body: str, head: str = "x: [B, C=24, H, W]") -> list[Region]:
    """The regions of this family in a small network."""
    text = f"""
from std.attention import attend, dynconv
from std.layout import split_heads
model net(size: int = 3) {{
    input {head}
    {body}
}}
small = net()
"""
    library = load(Source("small.arch", text, SPECS.resolve() / "small.arch"), {})
    found = fuse(driver.build(Spec(library, ("small",), "small"), "small"))[1]
    return [region for region in found if region.family == "dynamic"]


def names(region: Region) -> list[str]:
    return [step.op.name for step in region.steps]


TAPS = 'x |> w: conv(9, 1) |> rename(C="tap")'


@pytest.mark.parametrize(
    ("body", "operations"),
    [
        ("output y = dynconv(x, x |> w: conv(9, 1), neighborhood(3))", ["softmax", "aggregate"]),
        (f"output y = aggregate(sigmoid(2 * ({TAPS})), x, neighborhood(3))", ["multiply", "sigmoid", "aggregate"]),
        (f"w = {TAPS}\n    output y = aggregate(softmax(w * w, tap), x, halo(1, 1))", ["multiply", "softmax", "aggregate"]),
        # What somebody else reads too is written, and not computed again.
        (f"w = softmax({TAPS}, tap)\n    output y = aggregate(w, x, neighborhood(3))\n    output z = w", ["aggregate"]),
        # A softmax of something else than the taps is PyTorch's.
        (f"output y = aggregate(softmax({TAPS}, W), x, neighborhood(3))", ["aggregate"]),
        ("output y = correlate(x, x, neighborhood(3, dilation=2)) * 2", ["correlate"]),
        (f"output y = aggregate({TAPS}, x, window(3, on=H) * grid(3, on=W))", ["aggregate"]),
    ],
)
def test_what_becomes_one_operator(body: str, operations: list[str]) -> None:
    (region,) = planned(body)
    assert region.fused is not None
    assert names(region) == operations


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (f'output y = aggregate({TAPS}, x, neighborhood(3, edge="wrap"))', "not a formula"),
        (f"output y = aggregate({TAPS}, x, neighborhood(size))", "same numbers in every build"),
        (f"output y = aggregate({TAPS}, x, neighborhood(3, on=W) + neighborhood(5, on=H) + self)", "not a formula"),
        ("param w: [C=24, tap=9] = 1\n    output y = aggregate(w, x, neighborhood(3))", "weights of its own"),
        (f"output y = aggregate({TAPS}, mean(x, C), neighborhood(3))", "no channels"),
        ("output y = correlate(x, x, everywhere)", "the library's"),
        (
            "s = correlate(x, x, window(3))\n    output y = aggregate(softmax(s, tap), x, window(3))\n    output z = s",
            "the library's",
        ),
    ],
)
def test_what_is_left_to_pytorch_and_why(body: str, why: str) -> None:
    (region,) = planned(body)
    assert region.fused is None
    assert why in region.why


def test_operators_are_told_of_the_region_alone() -> None:
    """One operator serves all widths: nothing of the sizes of its tensors is in its text."""
    text = with_kernels(*small("dynamic"))
    assert 'none=float("-inf")' in text
    for taps in (
        "taps=(Taps(around, 3, step=2), Taps(around, 3, step=2))",
        "taps=(Taps(shifted, 3), Taps(shifted, 3))",
        "taps=(Taps(blocks, 4, block=2), Taps(blocks, 4, block=2))",
        "taps=(Taps(around, 7),)",
        "taps=(Taps(blocks, 2, step=0), Taps(blocks, 6, step=0))",
    ):
        assert taps in text


def rows(script: str, *arguments: str) -> str:
    """What a script beside this one prints, in a process of its own: what Triton does is chosen where kernels are made."""
    pytest.importorskip("triton")
    done = subprocess.run([sys.executable, str(HERE / script), *arguments], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_sums_beside_an_index_of_taps() -> None:
    found = [json.loads(line) for line in rows("tapped.py").splitlines() if line.startswith("{")]
    assert len(found) == 18
    # A few hundred numbers may be off by chance a little further than many.
    far = [row for row in found if not max(row["errors"]) <= 1.1 * row["limit"]]
    assert far == []


def test_they_compile_without_spills() -> None:
    """For sm_90, and within the shared memory of all targets; the products of tiles on tensor cores."""
    made = json.loads(rows("tapped_compiled.py", "sm_90", "dynamic convolution", "involution"))
    assert len(made) == 6  # sums and both gradients, on tensor cores and on vector units
    assert [name for name, one in made.items() if one["spills"] or one["shared"] > 65536 or not one["wide"]] == []
    assert [name for name, one in made.items() if bool(one["matrix"]) != one["products"]] == []
