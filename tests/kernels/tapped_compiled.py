"""The operators of taps compiled ahead of time at the sizes of a network: `python tests/kernels/tapped_compiled.py sm_90`, or some
of them by name.

No shipped spec has weights of each position; what they launch is compiled here, in bfloat16, batch 128. Prints JSON, as
`compiled.py` does.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from compiled import BATCH, Compiled, compiling, launch

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "codegen"))

from kernels.dynamic import Aggregate, Correlate  # pyright: ignore[reportMissingImports]
from kernels.taps import Taps, around, blocks, shifted  # pyright: ignore[reportMissingImports]

# Taps along both axes, heads, channels of a head, rows and columns, and whether there is a softmax.
CASES: list[tuple[str, Any, int, int, int, bool]] = [
    ("dynamic convolution", Taps(around, 7), 1, 64, 56, True),
    ("involution", Taps(around, 7), 4, 16, 56, False),
    ("dilated and moved at edges", Taps(shifted, 7, 2), 4, 32, 28, False),
    ("halo", Taps(blocks, 14, block=8), 4, 32, 56, True),
    ("many channels", Taps(around, 5), 1, 320, 14, True),
]


def compile_all(target: str, only: tuple[str, ...] = ()) -> dict[str, Compiled]:
    given = ("B heads H W", "B heads H W")
    with compiling(target) as launches:
        for name, taps, heads, channels, size, softmax in CASES:
            if only and name not in only:
                continue
            word = name.replace(" ", "_")
            count = taps.count**2

            def drawn(last: int, heads: int = heads, size: int = size) -> torch.Tensor:
                return torch.empty(BATCH, size, size, heads, last, dtype=torch.bfloat16).movedim(-2, 1)

            common = {"axes": given[0], "given": given, "taps": (taps, taps)}
            sums = Aggregate(f"tapped::{word}", None, softmax=softmax, **common)
            launch(launches, name, (sums, [drawn(channels), drawn(count)], []))
            if not softmax:
                scores = Correlate(f"tapped::{word}_scores", None, **common)
                launch(launches, f"{name}, scores", (scores, [drawn(channels), drawn(channels)], []))
    return launches.made


if __name__ == "__main__":
    print(json.dumps({name: asdict(one) for name, one in compile_all(sys.argv[1], tuple(sys.argv[2:])).items()}))
