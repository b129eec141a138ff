"""Patterns of rename rules: what they match, what they make of it, and what they refuse."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.weights.patterns import Match, PatternError, fill, match, source_pattern, target_pattern


def renamed(source: str, target: str, key: str) -> str | None:
    found = match(source_pattern(source), key)
    return None if found is None else fill(target_pattern(target), found)


@pytest.mark.parametrize(
    ("source", "target", "key", "expected"),
    [
        ("head.weight", "fc.weight", "head.weight", "fc.weight"),
        ("head.weight", "fc.weight", "head.weights", None),
        ("patch_embed{i}.proj.*", "stages.{i-1}.proj.*", "patch_embed3.proj.weight", "stages.2.proj.weight"),
        ("patch_embed{i}.proj.*", "stages.{i-1}.proj.*", "patch_embed.proj.weight", None),
        ("patch_embed{i}.proj.*", "x.*", "patch_embed3.proj.a.weight", None),
        ("block{i}.{j}.**", "stages.{i - 1}.blocks.{j}.**", "block10.7.a.b.c", "stages.9.blocks.7.a.b.c"),
        ("*.bn.**", "**.norm.*", "layer.bn.weight", "layer.norm.weight"),
        ("*_conv.*", "*.*", "query_conv.bias", "query.bias"),
        ("**.weight", "**.w", "a.b.weight", "a.b.w"),
        # The leftmost star takes as much as it can.
        ("**.**", "**|**", "a.b.c", "a.b|c"),
        ("{i}.x.{i}", "{i}", "3.x.3", "3"),
        ("{i}.x.{i}", "{i}", "3.x.4", None),
        # A number is a whole run of digits, with nothing of it left to a star.
        ("*{i}", "{i}|*", "block12", "12|block"),
        ("a{i}2", "{i}", "a12", None),
        ("a{i}.{j}", "{2*i+j%3}.{(i+j)//2}.{j-i*2}", "a2.7", "5.4.3"),
        ("layer0{i}", "{i}", "layer07", None),
        ("norm*.weight", "n*.weight", "norm.weight", "n.weight"),
    ],
)
def test_renaming(source: str, target: str, key: str, expected: str | None) -> None:
    assert renamed(source, target, key) == expected


@pytest.mark.parametrize(
    "source",
    ["", "a{i", "a}b", "{i-1}", "{}", "{i j}", "***", "*{i}{j}", "a" * 600, "*a" * 20, "{1}"],
)
def test_malformed_sources_are_refused(source: str) -> None:
    with pytest.raises(PatternError):
        source_pattern(source)


@pytest.mark.parametrize(
    "target",
    ["{i +}", "{i**2}", "{i.x}", "{__import__('os')}", "{(i}", "{i)}", "{1.5}", "{9999999999}", "{-i}"],
)
def test_only_whole_number_arithmetic_stands_in_braces(target: str) -> None:
    with pytest.raises(PatternError):
        target_pattern(target)


def test_indices_must_not_be_negative_nor_divided_by_zero() -> None:
    with pytest.raises(PatternError, match="index -1"):
        renamed("a{i}", "b.{i-1}", "a0")
    with pytest.raises(PatternError, match="zero"):
        renamed("a{i}", "b.{4//i}", "a0")


def test_what_a_match_holds() -> None:
    assert match(source_pattern("*{i}.**"), "block12.a.b") == Match(("block", "a.b"), {"i": 12})
    assert match(source_pattern("{i}*"), "12a") == Match(("a",), {"i": 12})


def test_hostile_patterns_stay_fast() -> None:
    pattern = source_pattern("**a" * 15 + "b")
    start = time.perf_counter()
    assert match(pattern, "a" * 300) is None
    assert time.perf_counter() - start < 2


words = st.text(alphabet="ab0.", max_size=6)
parts = st.lists(st.sampled_from(["*", "**", "a", "b", ".", "0"]), min_size=1, max_size=7)


@given(parts, words)
def test_matching_agrees_with_regular_expressions(chosen: list[str], key: str) -> None:
    for at in range(len(chosen) - 1, 0, -1):
        if "*" in chosen[at] and "*" in chosen[at - 1]:
            chosen.insert(at, "b")
    text = "".join(chosen)
    regex = "".join({"*": r"([^.]*)", "**": r"(.*)"}.get(part, re.escape(part)) for part in chosen)
    expected = re.fullmatch(regex, key)
    found = match(source_pattern(text), key)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.stars == expected.groups()
