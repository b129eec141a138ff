"""Specs with one small change are judged rightly: what is valid runs as predicted, what is refused fails or breaks a rule."""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from bases import FILES, mutations_of, network, text_of
from judge import Judgement, judge, said, suggested
from mutations import KINDS, Mutation

REFERENCE = Path(__file__).parent.parent.parent / "grammar" / "README.md"
OF_EACH_KIND = 85
TYPOS = 600
# Of all mutants: those whose contract is not proved. Of typos that are mistakes: those with the right suggestion.
MOST_UNPROVED = 0.03  # of one kind; of all kinds together 1 % (RECORD.md)
LEAST_SUGGESTED = 0.93


@cache
def pools() -> dict[str, list[Mutation]]:
    found: dict[str, list[Mutation]] = {kind: [] for kind in KINDS}
    for file in FILES:
        for mutation in mutations_of(file):
            found[mutation.kind].append(mutation)
    return found


@cache
def judged(kind: str) -> tuple[Judgement, ...]:
    """The same mutants in every run; the values of one in eight are compared with the reference interpreter."""
    chosen = random.Random(kind).sample(pools()[kind], OF_EACH_KIND)
    return tuple(judge(mutation, values=number % 8 == 0) for number, mutation in enumerate(chosen))


def listed() -> tuple[set[str], set[str]]:
    """The codes of the reference's two tables: what PyTorch would run, and what stands for nothing."""
    section = REFERENCE.read_text(encoding="utf-8").split("\n## What is refused\n")[1].split("\n## ")[0]
    tables = section.split("\n\n| what ")[1:]
    assert len(tables) == 2
    rules, nothing = (set(re.findall(r"\bE0\d{3}\b", table)) for table in tables)
    return rules, nothing


def test_every_file_of_components_has_networks() -> None:
    for file in FILES:
        made, name = network(file, text_of(file), "")
        assert name in made.main.bindings


@pytest.mark.parametrize("kind", KINDS)
def test_mutants(kind: str) -> None:
    """No mutant that is called valid fails, has other shapes or other values, or takes a size that it should not."""
    found = judged(kind)
    assert [(j.mutation, j.outcome) for j in found if not j.sound] == []
    rules, nothing = listed()
    for one in found:
        if one.outcome == "runs":
            assert set(one.codes) <= rules, one
        if one.outcome == "unbuilt":
            assert set(one.codes) <= rules | nothing, one
    verdicts = Counter(j.verdict for j in found)
    assert verdicts["unproved"] <= max(1, MOST_UNPROVED * len(found))
    # Both sorts are tried: a change of an axis or a typo is seldom harmless, one of a width often.
    assert verdicts["invalid"] >= 5
    assert verdicts["valid"] >= 5


def test_typos_get_the_right_suggestion() -> None:
    mistakes = [(m, e) for m in random.Random(7).sample(pools()["typo"], TYPOS) if (e := said(m)) is not None]
    wrong = [(m.file, m.word, m.new) for m, error in mistakes if not suggested(m, error)]
    assert len(mistakes) > TYPOS // 2
    assert len(wrong) <= (1 - LEAST_SUGGESTED) * len(mistakes), wrong


def test_the_two_tables_share_no_code() -> None:
    rules, nothing = listed()
    assert rules and nothing and not rules & nothing
