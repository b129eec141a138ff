"""Judge thousands of mutants and keep what came of each: `python tests/mutants/campaign.py RESULTS [COUNT]`.

RESULTS is a file of JSON lines to which every judgement is added; a mutant that is in it already is left out, so a run that
was broken off goes on where it ended. Mutants come in an order of chance that is always the same: all mutations that are
no typos come once, and as many typos as are still wanted. What was found is summed up at the end.
"""

from __future__ import annotations

import json
import random
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from bases import FILES, mutations_of
from mutations import Mutation


def chosen(count: int, seed: int = 0) -> list[Mutation]:
    """All mutations but typos, then typos, `count` in all; in random order."""
    drawn = random.Random(seed)
    pool = [m for file in FILES for m in mutations_of(file)]
    others, typos = [m for m in pool if m.kind != "typo"], [m for m in pool if m.kind == "typo"]
    drawn.shuffle(others)
    drawn.shuffle(typos)
    every = [*others[:count], *typos[: max(0, count - len(others))]]
    drawn.shuffle(every)
    return every


def key(mutation: Mutation) -> str:
    return f"{mutation.file}:{mutation.start}:{mutation.end}:{mutation.new}"


def run(path: Path, count: int) -> None:
    from judge import judge

    done = {json.loads(line)["key"] for line in path.open()} if path.exists() else set()
    with path.open("a") as results:
        for number, mutation in enumerate(chosen(count)):
            if key(mutation) in done:
                continue
            start = time.perf_counter()
            try:
                # Values are compared for one mutant in eight.
                row = asdict(judge(mutation, values=number % 8 == 0))
            except Exception as error:
                where = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-4:]]
                row = {
                    "mutation": asdict(mutation),
                    "verdict": "crash",
                    "outcome": repr(error)[:300],
                    "said": str(where),
                }
            row |= {"key": key(mutation), "seconds": round(time.perf_counter() - start, 3)}
            results.write(json.dumps(row) + "\n")
            results.flush()


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20_000)
