"""The pages of the error codes: each there, each with a spec that fails and one that works."""

from __future__ import annotations

import re

import pytest

from archc.diagnostics import ArchError
from archc.explain import codes, explain
from archc.source import Source
from archc.syntax.parse import parse

FENCE = re.compile(r"^```(\w+) (fails|works)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_an_unknown_code_suggests_a_close_one():
    with pytest.raises(ArchError) as caught:
        explain("E01020")
    [found] = caught.value.diagnostics
    assert found.message == "no error has the code `E01020`"
    assert found.helps == ("did you mean `E0102`?",)


def test_an_unknown_word_says_where_codes_are_found():
    with pytest.raises(ArchError) as caught:
        explain("../../etc/passwd")
    assert "printed in messages" in caught.value.diagnostics[0].helps[0]


def test_case_does_not_matter():
    assert explain("e0102") == explain("E0102")


@pytest.mark.parametrize("code", codes())
def test_every_page_has_a_title_and_a_failing_and_a_mended_example(code):
    page = explain(code)
    assert re.match(rf"# {code}: \S.*\n\n\S", page)
    assert [kind for _, kind, _ in FENCE.findall(page)] == ["fails", "works"]
    assert {language for language, _, _ in FENCE.findall(page)} <= {"arch", "console"}
    assert all(len(line) <= 112 for line in page.splitlines())


@pytest.mark.parametrize("code", [code for code in codes() if code < "E0109"])
def test_the_examples_of_syntax_errors_fail_and_parse(code):
    fails, works = (Source(f"{code}.arch", text) for _, _, text in FENCE.findall(explain(code)))
    with pytest.raises(ArchError) as caught:
        parse(fails)
    assert [found.code for found in caught.value.diagnostics] == [code]
    assert parse(works).source is works
