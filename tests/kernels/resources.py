"""The table of what kernels need and issue, and what a run of the compiler is held to.

`python tests/kernels/resources.py` compiles all kernels for all targets and writes `resources.json` (with `record sm_90`,
for that target alone); with nothing but the name of a target it writes nothing, and tells what is amiss.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TABLE = HERE / "resources.json"
TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")
SHARED = {"sm_80": 166_912, "sm_90": 232_448, "sm_100": 232_448, "gfx942": 65_536}  # bytes that one program may use
SECONDS = 5.0  # for one kernel
SLACK = 1.05
KEPT = ("registers", "shared", "slots")

Kernels = dict[str, dict[str, Any]]


def compiled(target: str, *variants: str) -> Kernels:
    """What `compiled.py` finds."""
    done = subprocess.run(
        [sys.executable, str(HERE / "compiled.py"), target, *variants], capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def amiss(target: str, one: dict[str, Any]) -> str:
    """What no kernel should do, whatever it did before; empty where all is well."""
    wrong = []
    if one["spills"]:
        wrong.append("spills")
    if one["scalars"]:
        wrong.append("keeps scalars in vector registers")
    if one["shared"] > SHARED[target]:
        wrong.append("too much shared memory")
    if one["products"] and not one["matrix"]:
        wrong.append("no tensor-core instruction for its products")
    if one["loads"] and not one["wide"] and one["aligned"]:
        wrong.append("no 128-bit load")
    if one["seconds"] > SECONDS:
        wrong.append(f"over {SECONDS:g} s to compile")
    return ", ".join(wrong)


def faults(target: str, kernels: Kernels) -> list[str]:
    """All that is amiss."""
    return [f"{target} {one['operator']}: {name}: {wrong}" for name, one in kernels.items() if (wrong := amiss(target, one))]


def regressions(target: str, kernels: Kernels, table: dict[str, Kernels]) -> list[str]:
    """Where a kernel needs or issues over 5 % more than recorded, or something is amiss that is not recorded so."""
    recorded = table.get(target, {})
    found = []
    for name, one in kernels.items():
        before = recorded.get(name, {})
        found += [
            f"{target} {name}: {what} {before[what]} -> {one[what]}"
            for what in KEPT
            if what in before and one[what] > SLACK * before[what]
        ]
        wrong = amiss(target, one)
        if wrong and wrong != before.get("amiss"):
            found.append(f"{target} {one['operator']}: {name}: {wrong}")
    return found


def read() -> dict[str, Kernels]:
    return json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}


def write(table: dict[str, Kernels]) -> None:
    """One line for each kernel."""
    lines = []
    for target, kernels in table.items():
        rows = [f"  {json.dumps(name)}: {json.dumps(kernels[name])}" for name in sorted(kernels)]
        lines.append(f" {json.dumps(target)}: {{\n" + ",\n".join(rows) + "\n }")
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main(*targets: str) -> int:
    """With names of targets, holds their kernels to the table; without, or behind `record`, writes the table."""
    recording = not targets or targets[0] == "record"
    wanted = tuple(t for t in targets if t != "record") or TARGETS
    wrong: list[str] = []
    for target in wanted:
        kernels, table = compiled(target), read()
        if recording:
            table[target] = {name: _row(target, one) for name, one in kernels.items()}
            table = {t: table[t] for t in TARGETS if t in table}
            write(table)
        wrong += regressions(target, kernels, table)
        slowest, seconds = max(k["seconds"] for k in kernels.values()), sum(k["seconds"] for k in kernels.values())
        for line in (*wrong, *faults(target, kernels)):
            print(line)
        print(f"{target}: {len(kernels)} kernels, compiled in {seconds:.0f} s, the slowest in {slowest:.1f} s", flush=True)
    return 1 if wrong else 0


def _row(target: str, one: dict[str, Any]) -> dict[str, Any]:
    wrong = amiss(target, one)
    return {"operator": one["operator"], **{what: one[what] for what in KEPT}, **({"amiss": wrong} if wrong else {})}


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
