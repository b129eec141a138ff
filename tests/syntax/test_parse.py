"""What texts mean: the trees and the spans that `parse` gives."""
# ruff: noqa: E501

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from spec_texts import ALL

from archc.source import Source
from archc.syntax import tree as t
from archc.syntax.parse import parse
from archc.syntax.tree import Node


def expression(text: str) -> str:
    """The expression `text`, every operation in brackets."""
    (item,) = parse(Source("test", f"x = {text}")).items
    assert isinstance(item, t.Binding)
    return show(item.value)


def statement(text: str) -> t.Statement:
    (item,) = parse(Source("test", f"block f(x: [B]) {{\n{text}\n}}")).items
    assert isinstance(item, t.Component)
    (found,) = item.body
    return found


def show(node: object) -> str:
    """A tree as nested lists: (op a b)."""
    match node:
        case t.Name(name=name):
            return name
        case t.Number(text=text):
            return text
        case t.String(value=value):
            return repr(value)
        case t.Constant(value=value):
            return f"<{value}>"
        case Node():
            words = [show(getattr(node, f.name)) for f in fields(node) if f.name != "span"]
            return f"({type(node).__name__.lower()} {' '.join(words)})"
        case tuple():
            return "[" + " ".join(map(show, node)) + "]"
    return str(node)


def nodes(node: object) -> list[Node]:
    if isinstance(node, tuple):
        return [found for item in node for found in nodes(item)]
    if not isinstance(node, Node):
        return []
    return [node, *nodes(tuple(getattr(node, f.name) for f in fields(node) if f.name != "span"))]


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("-x ** p", "(unary - (binary ** x p))"),
        ("2 ** -x ** 3", "(binary ** 2 (unary - (binary ** x 3)))"),
        ("a - b - c", "(binary - (binary - a b) c)"),
        ("a + b * c", "(binary + a (binary * b c))"),
        ("a // b & c", "(binary & (binary // a b) c)"),
        ("not a or b and c", "(binary or (unary not a) (binary and b c))"),
        ("a < b <= c", "(compare [< <=] [a b c])"),
        ("not a == b", "(unary not (compare [==] [a b]))"),
        ("a if b else c if d else e", "(conditional a b (conditional c d e))"),
        ("a |> f |> n: g(1)", "(pipe (pipe a f) (labelled n (call g [(argument None 1)])))"),
        ("(a + b) |> f", "(pipe (paren (binary + a b)) f)"),
        ("a.b.C ** 2", "(binary ** (attribute (attribute a b) C) 2)"),
        ("f(x, k=3,)", "(call f [(argument None x) (argument k 3)])"),
        ("f()(a)", "(call (call f []) [(argument None a)])"),
        ("f(a |> g)", "(call f [(argument None (pipe a g))])"),
        ("xs[:i]", "(index xs [(subscript None (slice None i))])"),
        ("xs[i:]", "(index xs [(subscript None (slice i None))])"),
        ("xs[:]", "(index xs [(subscript None (slice None None))])"),
        ("x[N=1:, C=0]", "(index x [(subscript N (slice 1 None)) (subscript C 0)])"),
        ("x[box=[1, 0]]", "(index x [(subscript box (listexpr [1 0]))])"),
        ("(a, b)", "(tupleexpr [a b])"),
        ("(a,)", "(tupleexpr [a])"),
        ("[]", "(listexpr [])"),
        ("[f(a) for a, b in xs]", "(comprehension (call f [(argument None a)]) [a b] xs)"),
        ("(true, false, none)", "(tupleexpr [<True> <False> <None>])"),
        (r'"a\"b\\n\n"', repr('a"b\\n\n')),
        ("state + next * output", "(binary + state (binary * next output))"),
        ("format(order, nothing)", "(call format [(argument None order) (argument None nothing)])"),
    ],
)
def test_expressions(text: str, tree: str) -> None:
    assert expression(text) == tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("4.1M", 4_100_000),
        ("26.6M", 26_600_000),
        ("230.35G", 230_350_000_000),
        ("1k", 1000),
        ("1.0001k", 1000.1),
        ("2T", 2 * 10**12),
        ("1e-5", 1e-5),
        ("0.02", 0.02),
        ("1e3", 1000.0),
        ("1.0", 1.0),
    ],
)
def test_numbers(text: str, value: float) -> None:
    (item,) = parse(Source("test", f"x = {text}")).items
    assert isinstance(item, t.Binding) and isinstance(item.value, t.Number)
    assert item.value.value == value
    assert type(item.value.value) is type(value)
    assert item.value.text == text


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a, b = f(x)", "(assign [a b] (call f [(argument None x)]))"),
        ("a, b = c, d", "(assign [a b] (tupleexpr [c d]))"),
        ("x += y |> f", "(augment x += (pipe y f))"),
        ("x *= 2", "(augment x *= 2)"),
        ("return a, b |> f", "(return [a (pipe b f)])"),
        ("return (a, b)", "(return [(tupleexpr [a b])])"),
        ("param w: [C, D=2] = 0 with (decay=false)", "(declare param w (tensordecl float [(axisdecl C None) (axisdecl D 2)]) 0 [(argument decay <False>)])"),
        ("state m: bool[B, ...]", "(declare state m (tensordecl bool [(axisdecl B None) (rest )]) None [])"),
        ("const n: list[list[int]] = []", "(declare const n (listdecl (listdecl (kind int))) (listexpr []) [])"),
        ("output a, b when training = c, d", "(bind output [a b] training (tupleexpr [c d]))"),
        ("module f = conv(C, 1)", "(bind module [f] None (call conv [(argument None C) (argument None 1)]))"),
        ("for a, b in xs { }", "(loop for None [a b] xs [])"),
        ("blocks: repeat n as j { a = b }", "(loop repeat blocks [j] n [(assign [a] b)])"),
        ("repeat n { }", "(loop repeat None [] n [])"),
        ("cca: loop turns as t { }", "(loop loop cca [t] turns [])"),
        ("s: stage i, d in f(x) { }", "(loop stage s [i d] (call f [(argument None x)]) [])"),
        ("stage { a = b }", "(loop stage None [] None [(assign [a] b)])"),
        ("if a { b = c } else if d { } else { e = f }", "(if a [(assign [b] c)] [(if d [] [(assign [e] f)])])"),
        ("if a { } else { if b { } }", "(if a [] [(if b [] [])])"),
        ("entry e(z: int) -> [B], size { }", "(entry e [(parameter z (kind int) None)] [(tensordecl float [(axisdecl B None)]) (kind size)] [])"),
        ('require a == b, "why"', "(require (compare [==] [a b]) why)"),
        ("require (a) > 2", "(require (compare [>] [(paren a) 2]) None)"),
        ("init conv.weight = normal(1)", "(init conv weight (call normal [(argument None 1)]))"),
        ("claim f(x=224) == 5.0G within 0.05", "(claim (compare [==] [(call f [(argument x 224)]) 5.0G]) 0.05)"),
        ("claim not a", "(claim (unary not a) None)"),
        ('matches "answers.json"', "(matches answers.json)"),
        ('weights { "a", "b" -> "c" |> f(1) |> g }', "(weights [(rule [a b] c [(call f [(argument None 1)]) g])])"),
        ('weights { "a.*" -> drop }', "(weights [(rule [a.*] None [])])"),
        ('"""said"""', "(doc said)"),
        # words that begin statements are names where no name follows
        ("state = x", "(assign [state] x)"),
        ("weights, output = x", "(assign [weights output] x)"),
        ("model += claim", "(augment model += claim)"),
        ("matches = weights |> output: next", "(assign [matches] (pipe weights (labelled output next)))"),
        ("stage: repeat stage { }", "(loop repeat stage [] stage [])"),
        ("claim = init(entry, fn=from)", "(assign [claim] (call init [(argument None entry) (argument fn from)]))"),
        ("list = drop", "(assign [list] drop)"),
    ],
)  # fmt: skip
def test_statements(text: str, tree: str) -> None:
    assert show(statement(text)) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("from .std.mlp import a, b as c", "(import 1 [std mlp] [(imported a a) (imported b c)])"),
        ("from x import y", "(import 0 [x] [(imported y y)])"),
        ("fn f(n: int = 2) = n + 1", "(function f [(parameter n (kind int) 2)] (binary + n 1))"),
        ("mixer m() { }", "(component mixer m [] [] [])"),
        ("v = f() { claim a }", "(binding v (call f []) [(claim a None)])"),
        ("v = f()", "(binding v (call f []) [])"),
    ],
)
def test_items(text: str, tree: str) -> None:
    (item,) = parse(Source("test", text)).items
    assert show(item) == tree


def test_where_statements_end() -> None:
    text = """x = a +   # goes on

        b |> f
    y = (c
         + d)
    z = e
        |> g   # a step

        # and another
        |> h
    """.replace("a +", "(a +").replace("b |>", "b) |>")
    items = parse(Source("test", text)).items
    assert [item.name for item in items if isinstance(item, t.Binding)] == ["x", "y", "z"]


def test_the_empty_file_and_windows_line_ends() -> None:
    assert parse(Source("test", "")).items == ()
    assert parse(Source("test", "\n\n# nothing\n")).items == ()
    text = ALL["van"]
    assert parse(Source("test", "\ufeff" + text.replace("\n", "\r\n"))) == parse(Source("test", text))


@pytest.mark.parametrize("name", ALL)
def test_every_span_is_the_text_of_its_node(name: str) -> None:
    file = parse(Source(name, ALL[name]))
    found = nodes(file.items)
    assert len(found) > 100
    for node in found:
        text = node.span.text
        assert text == text.strip() and text
        match node:
            case t.Name(name=word) | t.Number(text=word) | t.Kind(name=word):
                assert text == word
            case t.Paren() | t.Call():
                assert text.endswith(")")
            case t.ListExpr() | t.TensorDecl() | t.Index() | t.Comprehension():
                assert text.endswith("]")
            case t.Assign(targets=(word, *_)) | t.Binding(name=word) | t.Augment(target=word):
                assert text.startswith(word)
            case t.Component(role=word) | t.Declare(keyword=word) | t.Bind(keyword=word):
                assert text.startswith(word + " ")
            case t.If() | t.Loop() | t.Entry() | t.Weights():
                assert text.endswith("}")
            case t.Unary(op=word):
                assert text.startswith(word)
            case t.Compare(operands=operands):
                assert (node.span.start, node.span.end) == (operands[0].span.start, operands[-1].span.end)
            case t.Binary(left=left, right=right) | t.Pipe(left=left, right=right):
                assert (node.span.start, node.span.end) == (left.span.start, right.span.end)
        inner = nodes(tuple(getattr(node, f.name) for f in fields(node) if f.name != "span"))
        assert all(node.span.start <= child.span.start <= child.span.end <= node.span.end for child in inner)


def test_comments_are_kept_with_their_offsets() -> None:
    text = ALL["colormnet"]
    comments = parse(Source("test", text)).comments
    assert len(comments) == text.count("#")
    assert all(text.startswith(comment.text, comment.start) for comment in comments)
    assert comments[1].text == "# [B, H, W, M]"


def test_equality_ignores_places() -> None:
    assert parse(Source("a", "x = f( 1 )\n")) == parse(Source("b", "\n\n   x=f(1)  # said\n"))
    assert parse(Source("a", "x = f(1)")) != parse(Source("a", "x = f(2)"))


def test_as_deep_as_allowed_is_walked_by_recursion() -> None:
    for text in ("+".join("a" * 148), "(" * 95 + "a" + ")" * 95, "-" * 147 + "a", "a" + ".b" * 147):
        file = parse(Source("test", f"x = {text}"))
        assert file == parse(Source("test", f"x  =  {text}"))
        assert hash(file.items) and repr(file)


def test_blank_lines_cost_no_quadratic_time() -> None:
    text = "x = a" + "\n" * 200_000 + "y = b"
    assert len(parse(Source("test", text)).items) == 2


def test_the_grammar_has_no_conflicts() -> None:
    import logging

    import lark

    from archc.resources import folder

    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    level = lark.logger.level
    lark.logger.addHandler(handler)
    lark.logger.setLevel(logging.DEBUG)
    try:
        lark.Lark((folder("grammar") / "arch.lark").read_text(), parser="lalr", debug=True)
    finally:
        lark.logger.removeHandler(handler)
        lark.logger.setLevel(level)
    assert [record.getMessage() for record in records if "onflict" in record.getMessage()] == []


PROBE = """
import sys
import archc.syntax.parse as module
assert "lark" not in sys.modules
from archc.source import Source
assert len(module.parse(Source("test", "x = f(1)")).items) == 1
assert not {"torch", "networkx", "jinja2", "numpy"} & set(sys.modules)
"""


@pytest.mark.parametrize("state", ["absent", "present", "damaged", "in the way"])
def test_a_fresh_process_whatever_the_cache(tmp_path: Path, state: str) -> None:
    def run() -> None:
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", PROBE], env=environment, check=True, timeout=60)

    if state == "in the way":
        (tmp_path / "archc").write_text("a file where the folder should be")
    else:
        run()
        (cached,) = (tmp_path / "archc").iterdir()
        if state == "damaged":
            cached.write_bytes(cached.read_bytes()[:1000])
    if state != "absent":
        run()
