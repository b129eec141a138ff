"""Every spec that archc ships, checked in one process, against its largest alone.

    python benchmarks/library.py [PAIRS]

The largest is the one that takes longest. The limit is a ratio of 20.
"""

from __future__ import annotations

import sys

from paired import ROOT, archc, described, pairs, run

if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    specs = [str(path) for path in sorted((ROOT / "specs").rglob("*.arch"))]
    run(archc("check", *specs))
    largest = max(specs, key=lambda spec: run(archc("check", spec)).cpu)
    name = largest.rpartition("/")[2]
    print(
        described(f"{len(specs)} specs / {name} alone", pairs(archc("check", *specs), archc("check", largest), number))
    )
