"""What `archc.report` draws, whole pictures compared."""

from __future__ import annotations

import io
import json
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archc.diagnostics import Diagnostic, Label
from archc.glyphs import layout, measure
from archc.report import render, to_json, wants_color
from archc.source import Source, Span

SPEC = Source(
    "specs/van.arch",
    """\
block attention(x: [B, C, H, W]) {
    # one

    # two
    y = x |> proj_1: conv(2 * C, 1)
    return x + y
}
""",
)


def at(text: str, source: Source = SPEC, occurrence: int = 0) -> Span:
    start = -1
    for _ in range(occurrence + 1):
        start = source.text.index(text, start + 1)
    return Span(source, start, start + len(text))


def picture(text: str) -> str:
    return textwrap.dedent(text).strip("\n")


def body(source: Source, *labels: Label, width: int = 100) -> str:
    """The drawn snippet alone: the first label is the cause, header and closing count are left off."""
    first, *related = labels
    drawn = render([Diagnostic("E0001", "m", first.span, first.text, tuple(related))], width=width)
    return "\n".join(drawn.split("\n")[3:-2])


def test_cause_related_place_note_and_help():
    found = Diagnostic(
        "E0301",
        "axes do not fit together",
        at("+"),
        "64 on the left, 128 on the right",
        related=(Label(at("C"), "64, from here"), Label(at("2 * C"), "made 128")),
        notes=("C is dims[0]\nof van_b2",),
        helps=("`proj_1: conv(C, 1)`",),
    )
    assert render([found]) == picture("""
        error[E0301]: axes do not fit together
         --> specs/van.arch:6:14
          |
        1 | block attention(x: [B, C, H, W]) {
          |                        - 64, from here
        ...
        5 |     y = x |> proj_1: conv(2 * C, 1)
          |                           ----- made 128
        6 |     return x + y
          |              ^ 64 on the left, 128 on the right
          |
          = note: C is dims[0]
                  of van_b2
          = help: `proj_1: conv(C, 1)`

        1 error
        """)


def test_a_cause_within_a_related_place_stays_visible():
    assert body(SPEC, Label(at("+"), "cause"), Label(at("x + y"), "the sum")) == picture("""
        6 |     return x + y
          |            --^-- the sum
          |              |
          |              cause
        """)


def test_three_labels_on_one_line():
    line = Source("a", "one two three")
    places = [Label(at(word, line), str(n)) for n, word in enumerate(line.text.split(), 1)]
    assert body(line, *places) == picture("""
        1 | one two three
          | ^^^ --- ----- 3
          | |   |
          | |   2
          | 1
        """)


def test_two_labels_on_one_place_are_both_read():
    line = Source("a", "one")
    assert body(line, Label(at("one", line), "cause"), Label(at("one", line), "other")) == picture("""
        1 | one
          | ^^^ cause
          | |
          | other
        """)


def test_a_mark_over_several_lines_is_a_bar():
    call = Source("a", "x = conv(\n    C,\n    1,\n)\ny\n")
    drawn = body(call, Label(at("conv(\n    C,\n    1,\n)", call), "this call"), Label(at("y", call), "then"))
    assert drawn == picture("""
        1 |   x = conv(
          |  _____^
        2 | |     C,
        3 | |     1,
        4 | | )
          | |_^ this call
        5 |   y
          |   - then
        """)


def test_a_long_bar_leaves_out_its_middle():
    lines = Source("a", "{\n" + "x\n" * 20 + "}\n")
    assert body(lines, Label(Span(lines, 0, len(lines.text)), "all")) == picture("""
         1 |   {
           |  _^
        ...  |
        22 | | }
           | |_^ all
        """).replace("\n         1", "\n 1")


def test_bars_within_bars():
    nested = Source("a", "a(\n b(\n  1\n )\n)")
    whole = Span(nested, 0, len(nested.text))
    drawn = body(nested, Label(whole, "outer"), Label(at("b(\n  1\n )", nested), "inner"))
    assert drawn == picture("""
        1 |     a(
          |  ___^
        2 | |    b(
          | |  __-
        3 | | |   1
        4 | | |  )
          | | |__- inner
        5 | |   )
          | |___^ outer
        """)


def test_a_related_place_in_another_file():
    other = Source("specs/std.arch", "mixer attend() {}")
    found = Diagnostic("E0301", "m", at("return"), "", related=(Label(at("attend", other), "declared"),))
    assert render([found]) == picture("""
        error[E0301]: m
         --> specs/van.arch:6:5
          |
        6 |     return x + y
          |     ^^^^^^
          |
         ::: specs/std.arch:1:7
          |
        1 | mixer attend() {}
          |       ------ declared

        1 error
        """)


@pytest.mark.parametrize(
    ("text", "strokes"),
    [
        ("\tx = +", "        ^"),
        ('"日本" +', "       ^"),
        ("e\u0301e\u0301 +", "   ^"),
        ("\uff58 +", "   ^"),
        ("\x1b +", "     ^"),
        ("\u202e\u200b +", "             ^"),
    ],
    ids=["tab", "wide", "combining", "fullwidth", "escape", "bidirectional"],
)
def test_the_caret_stands_under_its_character(text, strokes):
    source = Source("a", text)
    shown, under = body(source, Label(at("+", source), "")).split("\n")
    assert under == f"  | {strokes}"
    assert measure(shown) == measure(under)


def test_escape_sequences_of_a_spec_are_neutralised_everywhere():
    evil = "\x1b[2J\x07\u202e\u2028\r"
    source = Source(f"{evil}.arch", f"x = {evil}\n")
    span = Span(source, 0, 1)
    found = Diagnostic("E0105", evil, span, evil, (Label(span, evil),), (evil,), (evil,))
    drawn = render([found])
    assert not set(drawn) & set("\x1b\x07\u202e\u2028\r")
    assert "x = \\x1b[2J\\x07\\u202e\\u2028" in drawn


def test_windows_line_ends_are_not_shown():
    source = Source("a", "one\r\ntwo\r\n")
    assert body(source, Label(at("one\r\n", source), "here")) == "1 | one\n  | ^^^ here"


@pytest.mark.parametrize("text", ["", "x", "x\n"])
def test_the_end_of_the_file_can_be_marked(text):
    source = Source("a", text)
    drawn = body(source, Label(Span(source, len(text), len(text) + 9), "ends here"))
    assert drawn.endswith("^ ends here")


def test_a_long_line_is_cut_round_the_caret():
    source = Source("a", "word " * 100 + "HERE" + " word" * 100)
    shown, under = body(source, Label(at("HERE", source), "this"), width=60).split("\n")
    assert shown == "1 | ...rd word word word word HERE word word word word wo..."
    assert under.endswith("^^^^ this")
    assert under.index("^^^^") == shown.index("HERE")


def test_a_mark_longer_than_the_screen_fits_it():
    source = Source("a", "x" * 1000)
    shown, under = body(source, Label(Span(source, 10, 900), ""), width=60).split("\n")
    assert measure(shown) <= 60 and measure(under) <= 60
    assert "^" in under


def test_long_labels_and_notes_are_wrapped():
    source = Source("a", "x" * 30)
    found = Diagnostic("E0001", "m", Span(source, 29, 30), "word " * 20, notes=("note " * 40,))
    lines = render([found], width=72).split("\n")
    assert all(len(line) <= 72 for line in lines)
    assert sum("word" in line for line in lines) > 1


def test_without_a_place_only_words():
    assert render([Diagnostic("E0109", "no such file", helps=("look again",))]) == picture("""
        error[E0109]: no such file
          = help: look again

        1 error
        """)


def test_the_count_names_severities():
    error = Diagnostic("E0001", "m")
    warning = Diagnostic("W0001", "m", severity="warning")
    assert render([]) == ""
    assert render([warning]).endswith("\n\n1 warning")
    assert render([warning, error, error, error, warning]).endswith("\n\n3 errors, 2 warnings")


def test_colour_adds_escape_sequences_and_nothing_else():
    found = Diagnostic("E0301", "m", at("+"), "cause", (Label(at("C"), "from"),), ("note",), ("help",))
    colored = render([found], color=True)
    assert "\x1b[1;31merror[E0301]\x1b[0m" in colored
    for code in ("1", "1;31", "1;34", "0"):
        colored = colored.replace(f"\x1b[{code}m", "")
    assert colored == render([found])


def test_colour_is_for_terminals_that_want_it(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_color(Terminal())
    assert not wants_color(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_color(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(Terminal())


def test_json_has_every_field():
    found = Diagnostic("E0301", "m", at("return x + y\n"), "cause", (Label(at("C"), "from"),), ("n",), ("h",))
    assert json.loads(json.dumps(to_json(found))) == {
        "code": "E0301",
        "severity": "error",
        "message": "m",
        "file": "specs/van.arch",
        "line": 6,
        "column": 5,
        "end_line": 7,
        "end_column": 1,
        "label": "cause",
        "related": [
            {
                "file": "specs/van.arch",
                "line": 1,
                "column": 24,
                "end_line": 1,
                "end_column": 25,
                "label": "from",
            }
        ],
        "uses": [],
        "notes": ["n"],
        "helps": ["h"],
    }


def test_json_without_a_place():
    assert to_json(Diagnostic("E0109", "m"))["file"] is None


TEXTS = st.text(alphabet="ab (){}\n\t\x1b\u0301日é", max_size=60)


PLACES = st.tuples(st.integers(0, 60), st.integers(0, 60), TEXTS)


@given(TEXTS, st.lists(PLACES, min_size=1, max_size=5))
def test_any_places_in_any_text_can_be_drawn(text, places):
    source = Source("a", text)
    labels = [Label(Span(source, min(a, b), max(a, b)), words) for a, b, words in places]
    found = Diagnostic("E0001", "m", labels[0].span, labels[0].text, tuple(labels[1:]))
    plain, colored = (render([found], color=color, width=50) for color in (False, True))
    assert not set(plain) & set("\t\x1b")
    assert plain.splitlines() == plain.split("\n")
    assert plain.count("\n") == colored.count("\n")


@given(st.text(max_size=40))
def test_glyphs_are_safe_and_measured(text):
    glyphs, widths, columns = layout(text)
    assert columns[-1] == sum(widths)
    assert all(glyph.isprintable() or glyph.isspace() for glyph in glyphs)
