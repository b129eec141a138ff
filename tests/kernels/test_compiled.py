"""Every kernel that the shipped specs launch, compiled for sm_90 without a GPU, and held to the recorded table."""

from __future__ import annotations

import warnings

import pytest
from resources import SLACK, TARGETS, read, regressions
from resources import compiled as compiled_for

pytest.importorskip("triton")

TARGET = "sm_90"
AGAIN = "record the table again: python tests/kernels/resources.py"


def test_compiled() -> None:
    table = read()
    if TARGET not in table:
        pytest.skip(f"nothing is recorded for {TARGET}; {AGAIN}")
    made = compiled_for(TARGET)
    assert made
    assert regressions(TARGET, made, table) == [], (
        f"more than {SLACK - 1:.0%} over tests/kernels/resources.json, or amiss; if it is meant to be so, {AGAIN}"
    )
    unlike = made.keys() ^ table[TARGET].keys()
    if unlike:
        warnings.warn(f"{len(unlike)} kernels are new, or launched no longer; {AGAIN}", stacklevel=1)


def test_the_table_is_of_known_targets() -> None:
    assert read().keys() <= set(TARGETS)
