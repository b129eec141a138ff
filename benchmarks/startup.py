"""`archc check` and `archc flops` on van_b2 against a Python that only imports lark, networkx and rich.

    python benchmarks/startup.py [PAIRS]

The aim is a ratio of 1.5, the limit 2.
"""

from __future__ import annotations

import sys

from paired import archc, described, pairs, python

IMPORTS = python("-c", "import lark, networkx, rich")

if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 21
    for command in ("check", "flops"):
        print(
            described(
                f"archc {command} van_b2 / importing three packages", pairs(archc(command, "van_b2"), IMPORTS, number)
            )
        )
