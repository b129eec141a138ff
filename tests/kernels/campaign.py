"""All that is too much for every run of the tests: `python tests/kernels/campaign.py FOLDER [RANDOM]`.

Every network in every type and order, RANDOM random ones (300), every bug that can be planted, and every kernel for every
target. FOLDER gets a file of JSON lines for each part; a part that has its file is left out. What was found is summed
up at the end, as in RECORD.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from planned import NETWORKS
from resources import TARGETS, compiled, faults

HERE = Path(__file__).parent
PLANTED = [name for name in NETWORKS if name.startswith("one_")]


def part(path: Path, script: str, *arguments: str) -> list[dict[str, Any]]:
    """The rows of one part, from its file or from the script that makes it."""
    if not path.exists():
        made = path.with_suffix(".part")
        with made.open("w") as file:
            done = subprocess.run([sys.executable, str(HERE / script), *arguments], stdout=file, text=True)
        if done.returncode:
            print(f"{script} {' '.join(arguments)[:80]} failed", file=sys.stderr)
            return []
        made.rename(path)
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def errors(rows: list[dict[str, Any]]) -> None:
    """The largest error of the operators in each type, and what is beyond its limit."""
    operators = [r for r in rows if r["what"] != "network"]
    for dtype in sorted({r["dtype"] for r in operators}):
        worst = max((r for r in operators if r["dtype"] == dtype), key=lambda r: r["error"])
        count = sum(r["dtype"] == dtype for r in operators)
        print(f"  {dtype}: {count} runs, at most {worst['error']:.1e} ({worst['network']}: {worst['what']}, {worst['worst']})")
    for r in rows:
        if not r["error"] <= r["limit"]:
            print(f"  FAILS {r['network']}: {r['what']} at {r['sizes']} in {r['dtype']}: {r['worst']} {r['error']:.1e}")


def main(folder: Path, count: int = 300) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    print("networks")
    rows = [r for n in NETWORKS for r in part(folder / f"{n}.jsonl", "interpreted.py", "--thorough", n)]
    errors(rows)
    print(f"{count} random networks")
    blocks = [range(1, count + 1)[at : at + 20] for at in range(0, count, 20)]
    rows = []
    for block in blocks:
        names = [f"random_{seed}" for seed in block]
        rows += part(folder / f"random_{block[0]}.jsonl", "interpreted.py", "--thorough", *names)
    errors(rows)
    for name in PLANTED:
        file = folder / f"planted_{name}.jsonl"
        fates = part(file, "planted.py", name)
        again = part(folder / f"survivors_{name}.jsonl", "planted.py", name, "0", str(file))
        left = [f["key"] for f in again if not f["caught"]]
        print(f"{name}: {len(fates)} bugs, {len(fates) - len(again)} caught by the interpreter, {len(again) - len(left)} by")
        print(f"  the compiler, {len(left)} by neither: {dict(Counter(key.split()[0] for key in left))}")
    for target in TARGETS:
        kernels = compiled(target)
        slow = max(one["seconds"] for one in kernels.values())
        print(f"{target}: {len(kernels)} kernels, the slowest compiled in {slow:.1f} s")
        for fault in faults(target, kernels):
            print(f"  {fault}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(word) for word in sys.argv[2:]))
