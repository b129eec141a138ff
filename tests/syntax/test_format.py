"""The formatter: one form, nothing lost."""

from __future__ import annotations

import random
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_texts import ALL

from archc.source import Source
from archc.syntax.format import format_source
from archc.syntax.lines import CONTINUE_AFTER, SCAN
from archc.syntax.parse import parse


def formatted(text: str) -> str:
    """`text` formatted, held to what holds of every text."""
    source = Source("test", text)
    once = format_source(source)
    again = Source("again", once)
    assert parse(again) == parse(source)
    assert [c.text for c in parse(again).comments] == [c.text for c in parse(source).comments]
    assert format_source(again) == once
    assert all(line == line.rstrip() for line in once.split("\n") if '"""' not in line)
    assert once.endswith("\n") or not once
    assert "\n\n\n" not in once and not once.startswith("\n")
    return once


def check(before: str, after: str) -> None:
    assert formatted(dedent(before)) == dedent(after).removeprefix("\n")


def in_body(before: str, after: str) -> None:
    """The same for the statements of a body."""
    frame = "block f(x: [B]) {{\n{}}}\n"
    indented = "".join(f"    {line}\n" if line else "\n" for line in dedent(after).strip("\n").split("\n"))
    assert formatted(frame.format(before)) == frame.format(indented)


@pytest.mark.parametrize("name", ALL)
def test_specs(name: str) -> None:
    text = formatted(ALL[name])
    assert max(len(line) for line in text.split("\n") if "#" not in line) <= 100


def test_spaces() -> None:
    in_body(
        "y=f( a,k = 3 ,)+b*  -c**2\nz = not(a)\nu = x[ N = 1 : , C=0]\nv = [a  for b,c in  d]\nw=(a,)\na,b=(c,d)",
        """
        y = f(a, k=3) + b * -c ** 2
        z = not (a)
        u = x[N=1:, C=0]
        v = [a for b, c in d]
        w = (a,)
        a, b = c, d
        """,
    )


def test_statements() -> None:
    in_body(
        "param w:[C,D = 2*C]=0 with( decay =false )\nstate  m : bool [B,...]\noutput a,b  when training=c\n"
        'require a==b,"why \\"so\\""\ninit conv . weight=normal( 1 )\nclaim  a<b<=c within .05\nx+=y|>f\n'
        'matches   "a.json"\nreturn a,b'.replace(" .05", " 0.05"),
        r"""
        param w: [C, D=2 * C] = 0 with (decay=false)
        state m: bool[B, ...]
        output a, b when training = c
        require a == b, "why \"so\""
        init conv.weight = normal(1)
        claim a < b <= c within 0.05
        x += y |> f
        matches "a.json"
        return a, b
        """,
    )


def test_bodies_stay_on_their_line_where_the_author_wrote_them_so() -> None:
    in_body(
        "if a { b = c }\nif a {\nb = c }\na:repeat n as j{b = c}\nif a{b = c}else if d{ }else{e = f}\nstage{}",
        """
        if a { b = c }
        if a {
            b = c
        }
        a: repeat n as j { b = c }
        if a { b = c } else if d {} else { e = f }
        stage {}
        """,
    )


def test_a_body_that_does_not_fit_on_its_line_is_broken() -> None:
    name = "n" * 60
    check(
        f"block {name}(x: [B]) {{ return x |> {name} }}",
        f"""
        block {name}(x: [B]) {{
            return x |> {name}
        }}
        """,
    )


def test_blank_lines() -> None:
    check(
        '''
        """Doc."""


        from a import b
        from c import d
        fn f(x: int) = x


        x = a()
        y = b()

        z = c()
        block g(x: [B]) {

            a = b


            c = d
            e = f

        }
        # about h
        block h(x: [B]) { return x }
        block i(x: [B]) { return x }
        ''',
        '''
        """Doc."""

        from a import b
        from c import d

        fn f(x: int) = x

        x = a()
        y = b()

        z = c()

        block g(x: [B]) {
            a = b

            c = d
            e = f
        }

        # about h
        block h(x: [B]) { return x }
        block i(x: [B]) { return x }
        ''',
    )


def test_pipelines() -> None:
    in_body(
        """
        y = x |> a: conv(1) |> b |> c
        y = x |> a: conv(1) |> b |> c |> d
        y = cat([x, a, b, c, d, e], C) |> a: conv(1) |> b |> c |> d
        y = x + (x |> a |> b |> c |> d)
        yy = x |> rearrange("C=(heads C) -> heads C", heads=heads) |> rearrange("C=(heads C) -> heads C") |> a
        """,
        """
        y = x |> a: conv(1) |> b |> c
        y = x |> a: conv(1)
              |> b
              |> c
              |> d
        y = cat([x, a, b, c, d, e], C)
            |> a: conv(1)
            |> b
            |> c
            |> d
        y = x + (x |> a |> b |> c |> d)
        yy = x |> rearrange("C=(heads C) -> heads C", heads=heads)
               |> rearrange("C=(heads C) -> heads C")
               |> a
        """,
    )


def test_long_lists() -> None:
    a, b = "a" * 50, "b" * 50
    numbers = ", ".join(str(n) for n in range(1000, 1040))
    check(
        f"x = f({a}, k={b})\ny = f(g({a}, {b}, {a}))\nz = [{numbers}]\nfn f(a: int, {a}: int, {b}: int) = a",
        f"""
        x = f(
            {a},
            k={b},
        )

        y = f(g(
            {a},
            {b},
            {a},
        ))

        z = [
            1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1015,
            1016, 1017, 1018, 1019, 1020, 1021, 1022, 1023, 1024, 1025, 1026, 1027, 1028, 1029, 1030, 1031,
            1032, 1033, 1034, 1035, 1036, 1037, 1038, 1039,
        ]

        fn f(
            a: int,
            {a}: int,
            {b}: int,
        ) = a
        """,
    )


def test_a_tuple_of_one_item_stays_a_tuple() -> None:
    name = "n" * 98
    check(f"x = ({name},)", f"\nx = (\n    {name},\n)\n")


def test_weight_rules_are_aligned() -> None:
    check(
        f"""
        v = f() {{ weights {{
            "a.*" -> "b.*"
            "long{{i}}.*","x"->"c.*"|>permute(a,b)
            "{"n" * 50}" -> drop
        }}
        }}
        """,
        f"""
        v = f() {{
            weights {{
                "a.*"            -> "b.*"
                "long{{i}}.*", "x" -> "c.*" |> permute(a, b)
                "{"n" * 50}" -> drop
            }}
        }}
        """,
    )


def test_comments() -> None:
    check(
        """
        # first

        # ---- heading -------
        block f(   # after the bracket
            x: [B],   # the input
            # about n
            n: int = 3
            # at the end
        ) {   # after the brace

            # own line
            y = x   # trailing
            y = [a,  # item a
                 b]
            y = x |> a  # step a
                  # about b
                  |> b  # step b
            y = x + (x |> a  # residual step
                       |> b  # last step
                    )
            y = a + (  # hoisted
                b)
            if a {  # header
                # lonely
            }
            # before else
            else { b = c }  # end of if
            # last
        }  # end of f
        # end of file
        """,
        """
        # first

        # ---- heading -------
        block f(
            # after the bracket
            x: [B],  # the input
            # about n
            n: int = 3,
            # at the end
        ) {  # after the brace
            # own line
            y = x  # trailing
            y = [
                a,  # item a
                b,
            ]
            y = x |> a  # step a
                  # about b
                  |> b  # step b
            y = x + (x |> a  # residual step
                       |> b  # last step
                    )
            # hoisted
            y = a + (b)
            if a {  # header
                # lonely
            } else {
                # before else
                b = c
            }  # end of if
            # last
        }  # end of f
        # end of file
        """,
    )


def scattered(text: str, rng: random.Random) -> str:
    """`text` with blanks, line ends and comments put wherever they change nothing."""
    out: list[str] = []
    brackets: list[str] = []
    last = "{"
    for token in SCAN.finditer(text):
        kind, word = token.lastgroup, token.group()
        if kind == "comment":
            out.append(word)
            continue
        free = (brackets and brackets[-1] != "{") or last in CONTINUE_AFTER
        if kind == "mark" and word in ")]}":
            brackets.pop()
        if kind == "mark" and word in "([{":
            brackets.append(word)
        if kind == "blank":
            word = " " * rng.choice([1, 1, 2, 5])
        elif kind == "newline":
            word = rng.choice(
                ["\n", "\n", "  \n\n\n", f"  # c{rng.random()}\n", f"\n# own {rng.random()}\n\n"]
            )
        elif free and rng.random() < 0.08:
            out.append(rng.choice(["\n", f"# in {rng.random()}\n", f"\n  # in {rng.random()}\n", "  "]))
        out.append(word)
        if kind not in ("blank", "newline"):
            last = word if kind != "text" else "text"
    return "".join(out)


seeds = st.integers(0, 2**32)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(ALL)), seeds)
def test_blanks_and_comments_change_no_meaning(name: str, seed: int) -> None:
    text = scattered(ALL[name], random.Random(seed))
    assert parse(Source("scattered", text)) == parse(Source("plain", ALL[name]))
    formatted(text)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(ALL)), seeds)
def test_blanks_within_lines_change_nothing(name: str, seed: int) -> None:
    rng = random.Random(seed)
    words = [token.group() for token in SCAN.finditer(ALL[name])]
    spaced = "".join(
        " " * rng.randint(1, 4) if word.isspace() and "\n" not in word else word for word in words
    )
    assert formatted(spaced) == formatted(ALL[name])


names = st.sampled_from(["x", "C", "state", "heads", "a_rather_long_name_of_a_tensor", "n" * 45])
leaves = st.one_of(names, st.sampled_from(["1", "26.6M", "1e-5", '"C=(a b) -> a b"', "true", "none"]))


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=1, max_size=6)
    simple = inner.map(lambda text: f"({text})")
    arithmetic = st.tuples(simple, st.sampled_from("+ - * / // ** & and or == <".split()), simple).map(
        " ".join
    )
    steps = st.lists(st.tuples(names, names, several), min_size=1, max_size=6)
    pipeline = st.tuples(simple, steps).map(
        lambda p: p[0] + "".join(f" |> {a}: {b}({', '.join(c)})" for a, b, c in p[1])
    )
    return st.one_of(
        arithmetic,
        pipeline.map(lambda text: f"({text})"),
        several.map(lambda items: f"[{', '.join(items)}]"),
        several.map(lambda items: f"({', '.join(items)},)"),
        st.tuples(names, several).map(lambda p: f"{p[0]}({', '.join(p[1])}, key={p[1][0]})"),
        st.tuples(simple, inner).map(lambda p: f"{p[0]}[N={p[1]}]"),
        st.tuples(simple, inner).map(lambda p: f"[{p[0]} for t in {p[1]}]"),
        st.tuples(simple, simple, simple).map(lambda p: f"({p[0]} if {p[1]} else {p[2]})"),
        simple.map(lambda text: f"(-{text}.H)"),
        simple.map(lambda text: f"(not {text})"),
    )


expressions = st.recursive(leaves, compound, max_leaves=20)


# `require` is a word only where a condition follows: `require [x]` would read an item of it.
@settings(max_examples=300, deadline=None)
@given(expressions, expressions, st.sampled_from(["a = {}", "a, b = {}, {}", "return {}, {}", "if {} {{ a = {} }}",
       "x += {}", "for a in {} {{ b = {} }}", "output a = {}", "param a: [B, C={}] = {}", 'require ({}), "said"']))  # fmt: skip
def test_any_expression(first: str, second: str, form: str) -> None:
    formatted(f"block f(x: [B]) {{\n{form.format(first, second)}\n}}\n")


def test_the_deepest_expressions() -> None:
    for text in ("+".join("a" * 148), "(" * 95 + "a" + ")" * 95, "f(" * 90 + "a" + ")" * 90, "-" * 147 + "a"):
        formatted(f"x = {text}\n")
    formatted("x = " + "f(" * 60 + "# deep\na" + ")" * 60)
    formatted("x = a" + " |> f" * 145 + "\n")
