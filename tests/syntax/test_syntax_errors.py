"""What the author is told about a text that does not parse."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_texts import ALL

from archc.diagnostics import ArchError, Diagnostic
from archc.source import Source
from archc.syntax.lines import SCAN
from archc.syntax.parse import parse


def found(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(ArchError) as error:
        parse(Source("test", text))
    return error.value.diagnostics


def only(text: str) -> Diagnostic:
    (diagnostic,) = found(text)
    return diagnostic


def in_body(text: str) -> Diagnostic:
    return only(f"block f(x: [B]) {{\n    {text}\n}}\n")


def caret(diagnostic: Diagnostic) -> str:
    assert diagnostic.span is not None
    return diagnostic.span.text


# text of a body, what the caret is under, the message, and words of the label or the helps
BODIES = [
    ("y = f(a b)", "b", "unexpected `b`", "expected `)` or `,`"),
    ("y = [a b]", "b", "unexpected `b`", "expected `]` or `,`"),
    ("y = f(a, , b)", ",", "unexpected `,`", "expected an expression or `)`"),
    ("y =", "=", "the line ends too early", "expected an expression after this"),
    ("y = x |>", "|>", "the line ends too early", "expected an expression after this"),
    ("return", "return", "the line ends too early", "expected an expression"),
    ("y = a b", "b", "unexpected `b`", "the end of the line"),
    ("for j range(3) { }", "range", "unexpected `range`", "expected `,` or `in`"),
    ("repeat { }", "{", "unexpected `{`", "expected an expression"),
    ("output x", "x", "`output x` has no value", "write `output x = ...`"),
    ("output a, b", "b", "`output a, b` has no value", "expected `=` after this"),
    ("output x: y", ":", "the value of `output x` follows `=`", "expected `=`"),
    ("param w = 3", "w", "`w` needs a type", "`param w: [C]`"),
    ("const n", "n", "`n` needs a type", "`const n: [C]`"),
    ("x = y |>\n    return x", "|>", "nothing follows this `|>`", "a step is missing"),
    ("a: for i, (b, c) in xs { }", "(", "the names of a loop stand without parentheses", "`for i, a, b in zip("),
    ("a = [f(b) for (b, c) in xs]", "(", "the names of a loop stand without parentheses", "`for a, b in zip(xs, ys)`"),
    ("for i in xs blocks: { }", "blocks", "the label of a loop stands before it", "`blocks: for ...`"),
    ("repeat 3 blocks: { }", "blocks", "the label of a loop stands before it", "`blocks: repeat ...`"),
    ("// remark", "//", "a remark begins with `#`", "write `#`"),
    ("claim params == 26.6 M", "M", "a unit follows its number at once", "`26.6M`"),
    ("claim params == 26,600", ",", "the digits of a number are not grouped", "`26.6M`"),
    ("x -= 3", "-=", "`-=` is not an operator of the language", "x = x - ..."),
    ("f(x)", "(", "an expression alone is not a statement", "give the value a name"),
    ("x |> relu", "|>", "an expression alone is not a statement", "or `return` it"),
    ("x", "x", "an expression alone is not a statement", "give the value a name"),
    ("y = a\n  + b", "+", "a statement cannot begin with `+`", "end the line above with `+`"),
    (
        "norm: batch_norm",
        "batch_norm",
        "a label at the beginning of a statement belongs to a loop",
        "|> norm:",
    ),
    ("x: int = 3", "int", "a label at the beginning of a statement belongs to a loop", "types follow"),
    ("(a, b) = f(x)", "(", "a statement cannot begin with `(`", "`a, b = ...`"),
    ('"text"', '"text"', "a text alone is not a statement", '"""'),
    ("else { }", "else", "`else` without an `if`", "no `if`"),
    ("if x = 3 { }", "=", "`=` does not compare", "write `==`"),
    ("if x {} elif y {}", "elif", "`elif` is not a word of the language", "} else if"),
    ("if x {}\n    elif y {}", "elif", "`elif` is not a word of the language", "} else if"),
    ("if x\n    { y = x }", "x", "the body is missing", "on the same line"),
    ("if x: y", ":", "unexpected `:`", "between `{` and `}`"),
    ("while x { }", "while", "`while` is not a word of the language", "repeat n { }"),
    ("let y = 3", "let", "`let` is not a word of the language", "name = expression"),
    ("y = lambda a: a", "lambda", "`lambda` is not a word of the language", "fn name"),
    ("assert x == 3", "assert", "`assert` is not a word of the language", "require"),
    ("y = if", "if", "unexpected `if`", "expected an expression"),
    ("for = 3", "for", "`for` is a word of the language and never a name", "expected a name"),
    ("y = 3x", "3x", "`3x` is neither a number nor a name", "units k, M, G, T"),
    ("y = 26.6MB", "26.6MB", "`26.6MB` is neither a number nor a name", "units k, M, G, T"),
    ("y = 1_000", "1_000", "`1_000` is neither a number nor a name", "not grouped"),
    ("y = .5", ".", "a number begins with a digit", "write `0.5`"),
    ("y = 5. + 2", "5.", "a number ends with a digit", "write `5.0`"),
]


@pytest.mark.parametrize(("text", "under", "message", "says"), BODIES, ids=[case[0] for case in BODIES])
def test_unexpected_text_in_a_body(text: str, under: str, message: str, says: str) -> None:
    diagnostic = in_body(text)
    assert diagnostic.code == "E0101"
    assert diagnostic.message == message
    assert says in " ".join((diagnostic.label, *diagnostic.helps))
    end = len(under) if diagnostic.message != "the line ends too early" else 1
    assert caret(diagnostic) == under[-end:]


FILES = [
    ("def f(x):\n  return x", "def", "`def` is not a word of the language", "`mixer`, `block`"),
    ("class A { }", "class", "`class` is not a word of the language", "`mixer`, `block`"),
    ("import torch", "import", "`import` is not a word of the language", "from path import name"),
    ("block (x: [B]) { }", "block", "this `block` has no name", "block name(parameters)"),
    ("block f(x) { }", "x", "parameter `x` needs a type", "`x: [B, C, H, W]`"),
    ("block f(x: [B], n=3) { }", "n", "parameter `n` needs a type", "`n: int`"),
    ("block f(x: [B]): [B] { }", ":", "unexpected `:`", "`-> [B, C, H, W]`"),
    ("block f(x: [B, 3]) { }", "3", "the axis of size 3 has no name", "`[B, C=3]`"),
    ("claim params == 3", "claim", "a `claim` belongs to a variant or a model", "`net_s = net() { claim ... }`"),
    ("block f(x: [B] y: int) { }", "y", "unexpected `y`", "expected `)`, `,` or `=`"),
    ("block f(x: [B]) -> { }", "{", "unexpected `{`", "expected a type"),
    ("fn f(x: int) { return x }", "{", "unexpected `{`", "one expression"),
    ("m = f() { x = 3 }", "x", "unexpected `x`", "`claim`"),
    ("m = f() { claim params = 3 }", "=", "`=` does not compare", "write `==`"),
    ("output y = 3", "output", "`output` stands only in the body of a component", "`mixer`"),
    ("if a { b = 3 }", "if", "`if` stands only in the body of a component", "`mixer`"),
    ("return 3", "return", "`return` stands only in the body of a component", "`mixer`"),
    ("from x import", "t", "the line ends too early", "expected a name after this"),
    (r'x = "a\qb"', r"\q", r"unknown escape `\q`", ""),
]


@pytest.mark.parametrize(("text", "under", "message", "says"), FILES, ids=[case[0] for case in FILES])
def test_unexpected_text_in_a_file(text: str, under: str, message: str, says: str) -> None:
    diagnostic = only(text)
    assert (diagnostic.code, diagnostic.message, caret(diagnostic)) == ("E0101", message, under)
    assert says in " ".join((diagnostic.label, *diagnostic.helps))


def test_the_bracket_around_is_shown() -> None:
    (label,) = in_body("y = f(a b)").related
    assert (label.span.text, label.text) == ("(", "inside this `(`")


def test_brackets_never_closed() -> None:
    text = "model m() {\n    y = f(a,\n        b\n    z = 3\n}\n"
    diagnostic = only(text)
    assert (diagnostic.code, diagnostic.message) == ("E0102", "`(` is never closed")
    assert str(diagnostic.span) == "test:3:9"  # behind `b`: the next line is indented as the line of the bracket
    assert diagnostic.label == "expected `)` here or before"
    assert [str(label.span) for label in diagnostic.related] == ["test:2:10"]


def test_a_missing_brace_is_sought_by_the_layout() -> None:
    text = "model m() {{\n    if a {{\n        x = 3\n{}    y = 4\n{}\nmodel k() {{\n    y = 3\n}}\n"
    assert parse(Source("test", text.format("    }\n", "}\n")))
    inner = only(text.format("", "}\n"))
    assert [str(label.span) for label in inner.related] == ["test:2:10"]
    assert str(inner.span) == "test:3:13"
    outer = only(text.format("    }\n", ""))
    assert [str(label.span) for label in outer.related] == ["test:1:11"]
    assert str(outer.span) == "test:5:9"


def test_brackets_never_opened() -> None:
    diagnostic = in_body("y = a)")
    assert (diagnostic.code, diagnostic.message, caret(diagnostic)) == ("E0103", "`)` closes nothing", ")")
    assert only("x = a\n}\n").message == "`}` closes nothing"


def test_brackets_of_different_kinds() -> None:
    diagnostic = in_body("y = (a]")
    assert (diagnostic.code, diagnostic.message, caret(diagnostic)) == ("E0103", "`]` cannot close `(`", "]")
    assert diagnostic.label == "expected `)`"
    assert [label.span.text for label in diagnostic.related] == ["("]


@pytest.mark.parametrize(("text", "under"), [('x = "abc\ny = 3\n', '"abc'), ('x = a\n"""doc\nmore', '"""')])
def test_strings_never_closed(text: str, under: str) -> None:
    diagnostic = only(text)
    assert (diagnostic.code, caret(diagnostic)) == ("E0104", under)


@pytest.mark.parametrize(
    ("text", "under", "help_"),
    [
        ("x = 'abc'", "'abc'", '`"abc"`'),
        ("x = a && b", "&&", "`and`"),
        ("x = a || b", "||", "`or`"),
        ("x = !a", "!", "`not`"),
        ("x = a | b", "|", "`|>`"),
        ("x = a; y = b", ";", "new line"),
        ("x = a ^ 2", "^", "`**`"),
        ("x = a \u00d7 b", "\u00d7", "`*`"),
        ("x = a \u2212 b", "\u2212", "`-`"),
        ("x = a\u00a0+ b", "\u00a0", "no-break space"),
        ("x = \u201ca\u201c", "\u201c", "double quotes"),
    ],
)
def test_characters_of_other_languages(text: str, under: str, help_: str) -> None:
    diagnostic = found(text)[0]
    assert (diagnostic.code, caret(diagnostic)) == ("E0105", under)
    assert help_ in " ".join(diagnostic.helps)


def test_names_are_made_of_ascii() -> None:
    diagnostic = only("x = größe + 1")
    assert (diagnostic.code, caret(diagnostic)) == ("E0105", "größe")


def test_everything_that_the_scan_finds_is_said_at_once() -> None:
    codes = [diagnostic.code for diagnostic in found("x = 'a'\ny = \"b\nz = a @ b\nu = (c\n")]
    assert codes == ["E0105", "E0104", "E0105", "E0102"]
    # A bracket that an open text has swallowed is no mistake of its own.
    assert [diagnostic.code for diagnostic in found('block f(x: [B], kind: str = "b) {\n    y = x @ x\n}\n')] == [
        "E0104",
        "E0105",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 101 + "a" + ")" * 101,
        "f(" * 5000,
        "-" * 5000 + "a",
        "not " * 5000 + "a",
        "+".join("a" * 5000),
        "|>".join("a" * 5000),
        " ** ".join("a" * 5000),
        " and ".join("a" * 5000),
        "a" + ".b" * 5000,
        "a" + "()" * 5000,
        "a" + " if b else c" * 5000,
    ],
    ids=lambda text: text[:8],
)
def test_too_deep(text: str) -> None:
    begun = time.perf_counter()
    assert {diagnostic.code for diagnostic in found(f"x = {text}")} == {"E0106"}
    assert time.perf_counter() - begun < 5


def test_bodies_too_deep() -> None:
    assert in_body("if a {" * 101 + "}" * 101).code == "E0106"
    assert in_body("if a {}" + " else if a {}" * 1000).code == "E0106"


def test_long_lists_are_not_deep() -> None:
    assert parse(Source("test", "x = [" + "a, " * 5000 + "]"))
    assert parse(Source("test", "x = a\n" * 5000))


def test_pipelines_mixed_with_arithmetic() -> None:
    body = ("x += s * y |> g", "y = a + b |> h", "z = x |> g + 1", "return not a |> g")
    diagnostics = found("block f(x: [B]) {\n" + "\n".join(body) + "\n}\n")
    assert {diagnostic.code for diagnostic in diagnostics} == {"E0107"}
    assert [caret(diagnostic) for diagnostic in diagnostics] == ["s * y", "a + b", "g + 1", "not a"]
    assert diagnostics[1].message == "`+` and `|>` are mixed without parentheses"
    assert diagnostics[1].helps[0] == "for a residual write `a += b |> ...`"
    assert "`s * (y |> ...)`" in diagnostics[0].helps[0]


@pytest.mark.parametrize(
    "text", ["x = a if b else c |> f", "x = a < b |> f", "x = -a |> f", "x = f(a |> g, a + b |> g)"]
)
def test_more_mixtures(text: str) -> None:
    assert only(text).code == "E0107"


@pytest.mark.parametrize(
    "text",
    [
        "x = (a + b) |> f",
        "x = a + (b |> f)",
        "x = a |> f(b + c)",
        "x = a[b + 1] |> f",
        "x = [a + b] |> f",
        "x = a |> n: f(-1)",
        "x = a.b |> (f if c else g)",
    ],
)
def test_pipelines_beside_arithmetic_in_brackets(text: str) -> None:
    assert parse(Source("test", text))


@pytest.mark.parametrize("text", ["1" * 31, "1e999", "9" * 31 + "k", "1" * 100_000])
def test_numbers_too_large(text: str) -> None:
    diagnostic = only(f"x = f({text})")
    assert (diagnostic.code, caret(diagnostic)) == ("E0108", text)


def test_thirty_digits_are_enough() -> None:
    assert parse(Source("test", "x = " + "1" * 30))


def test_hostile_texts_take_linear_time() -> None:
    begun = time.perf_counter()
    for text in (
        '"' * 200_001,
        '"""' + '\\"' * 200_000,
        '"a' * 100_001,
        "x = " + "'" * 100_001,
        "\n" * 200_000 + "}",
    ):
        found(text)
    assert time.perf_counter() - begun < 10


def damaged(text: str, rng: random.Random) -> str:
    words = [token.group() for token in SCAN.finditer(text)]
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(words))
        change = rng.randrange(4)
        if change == 0:
            del words[at]
        elif change == 1:
            words.insert(at, rng.choice(words))
        elif change == 2:
            words[at] = rng.choice(words)
        else:
            words.insert(at, rng.choice(["'", "!", "}", "(", '"', "\\", "é", "for", "3x", "\x00", "**", ":", "|>"]))
    return "".join(words)


def check_outcome(text: str) -> None:
    try:
        parse(Source("test", text))
    except ArchError as error:
        assert error.diagnostics
        for diagnostic in error.diagnostics:
            assert diagnostic.code.startswith("E010") and diagnostic.message
            for span in (diagnostic.span, *(label.span for label in diagnostic.related)):
                assert span is not None and 0 <= span.start <= span.end <= len(text)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(ALL)), st.integers(0, 2**32))
def test_a_damaged_spec_is_parsed_or_explained(name: str, seed: int) -> None:
    check_outcome(damaged(ALL[name], random.Random(seed)))


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from('ab1 .,:=()[]{}|>"\n#-+*/<!\'"&é\\'), max_size=60))
def test_any_text_is_parsed_or_explained(text: str) -> None:
    check_outcome(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_any_characters_are_parsed_or_explained(text: str) -> None:
    check_outcome(text)
