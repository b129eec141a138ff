"""Whole processes measured in turn, A B A B ..., and the ratios of what they take, pair by pair.

A ratio of neighbours holds where the machine is busy or changes its speed; an absolute time does not. CPU time is the
operating system's account of the finished process, user and system together. Needs a POSIX system.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parent.parent
# As in an installation, byte code is kept; archc is the one of this checkout.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)


@dataclass(frozen=True)
class Taken:
    """Seconds of one process."""

    cpu: float
    wall: float


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def archc(*arguments: str) -> list[str]:
    return python("-m", "archc", *arguments)


def run(command: Sequence[str]) -> Taken:
    """One process, its output thrown away. Raises RuntimeError where it fails."""
    with open(os.devnull, "wb") as nowhere:
        away = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1)]
        begin = time.perf_counter()
        number = os.posix_spawn(command[0], command, ENVIRONMENT, file_actions=away)
        _, status, usage = os.wait4(number, 0)
        wall = time.perf_counter() - begin
    if status:
        raise RuntimeError(f"{' '.join(command)} failed")
    return Taken(usage.ru_utime + usage.ru_stime, wall)


def pairs(a: Sequence[str], b: Sequence[str], number: int) -> list[tuple[Taken, Taken]]:
    """`number` runs of each in turn, after one of each that is not counted."""
    run(a), run(b)
    return [(run(a), run(b)) for _ in range(number)]


def described(what: str, found: Sequence[tuple[Taken, Taken]]) -> str:
    """The median of the ratios A / B, with the quartiles and the extremes, by CPU time and by the clock."""
    lines = [what]
    for clock in ("cpu", "wall"):
        ratios = [getattr(a, clock) / getattr(b, clock) for a, b in found]
        low, _, high = quantiles(ratios, n=4)
        seconds = " and ".join(
            f"{median(getattr(one, clock) for one in side):.3f} s" for side in zip(*found, strict=True)
        )
        lines.append(
            f"  {clock:<4}  median {median(ratios):.2f}   quartiles {low:.2f} to {high:.2f}   "
            f"all {min(ratios):.2f} to {max(ratios):.2f}   ({len(found)} pairs; medians {seconds})"
        )
    return "\n".join(lines)
