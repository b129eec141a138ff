"""2,000 repeats of a block against 4: cost follows distinct blocks, though each copy has a rate of its own.

    python benchmarks/repeats.py [PAIRS]

The limit is a ratio of 1.5 for each command: counting is on its edge, compiling still misses it. What must not grow
is counted in tests/test_distinct_blocks.py.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from paired import archc, described, pairs

SPEC = """
from std.mlp import mlp
from std.regularise import drop_path

block layer(x: [B, C, H, W], rate: float) {
    x += x |> norm1: layer_norm |> conv: conv(C, 3, groups=C) |> gelu |> drop_path(rate)
    x += x |> norm2: layer_norm |> mlp: mlp(4) |> drop_path(rate)
    return x
}

model tower(dim: int, depth: int, rate: float = 0.1, num_classes: int = 10) {
    input image: [B, C=3, H, W]
    rates = linspace(0, rate, depth)
    x = image |> stem: conv(dim, 4, stride=4)
    blocks: repeat depth as i { x = x |> _: layer(rates[i]) }
    output logits = x |> mean(H, W) |> head: linear(num_classes)
}

"""

if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    with tempfile.TemporaryDirectory() as folder:
        few, many = (Path(folder) / f"tower_{depth}.arch" for depth in (4, 2000))
        few.write_text(f"{SPEC}tower_4 = tower(16, 4)\n")
        many.write_text(f"{SPEC}tower_2000 = tower(16, 2000)\n")
        for command in (["check"], ["flops"], ["compile", "--force", "-o", folder]):
            found = pairs(archc(*command, str(many)), archc(*command, str(few)), number)
            print(described(f"archc {command[0]}, 2,000 repeats / 4", found))
