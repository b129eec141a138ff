"""Layout of statements: as ruff's formatter has it, and the same program."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
from random_statements import statements

from archc.backend.layout import lay_out

CORPUS = Path(__file__).parent / "cases" / "statements.txt"
INDENT = "    "

Case = tuple[int, str]


def corpus() -> list[Case]:
    """Lines of generated modules, joined."""
    lines = CORPUS.read_text().splitlines()
    return [(len(line) - len(line.lstrip()), line.lstrip()) for line in lines]


def formatted(text: str) -> str:
    ruff = pytest.importorskip("ruff")
    command = [ruff.find_ruff_bin(), "format", "--isolated", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def framed(number: int, indent: int, text: str, lines: list[str]) -> list[str]:
    """The lines as a part of a file, behind a mark, in blocks that give them their indentation."""
    levels = indent // len(INDENT)
    before = [f"{INDENT * level}if case{number}:" for level in range(levels)]
    before += [f"{' ' * indent}if q:", f"{' ' * indent}    pass"] if text.startswith("elif ") else []
    after = [f"{' ' * indent}    pass"] if text.endswith(":") else []
    return [f"# case {number}", *before, *lines, *after]


def check(cases: list[Case]) -> None:
    """What `lay_out` makes is what ruff makes of the whole line, and the same statement."""
    long, ours = [], []
    for number, (indent, text) in enumerate(cases):
        lines = lay_out(indent, text)
        long += framed(number, indent, text, [" " * indent + text])
        ours += framed(number, indent, text, lines)
        assert max(map(len, lines)) <= max(88, indent + len(text))
    want = _cases(formatted("\n".join(long) + "\n"))
    have = _cases("\n".join(ours))
    different = [f"{want[case]}\n-- laid out as\n{have[case]}" for case in want if want[case] != have[case]]
    assert not different, f"{len(different)} of {len(cases)} differ, the first:\n{different[0]}"
    assert ast.dump(ast.parse("\n".join(long))) == ast.dump(ast.parse("\n".join(ours)))
    assert _cases(formatted("\n".join(ours) + "\n")) == have


def _cases(text: str) -> dict[str, str]:
    """Texts by their marks, without the blank lines that stand between functions."""
    cases: dict[str, str] = {}
    for part in text.split("# case ")[1:]:
        number, _, rest = part.partition("\n")
        cases[number] = "\n".join(line for line in rest.splitlines() if line.strip())
    return cases


def test_statements_of_generated_modules() -> None:
    cases = corpus()
    assert sum(indent + len(text) > 88 for indent, text in cases) > 100
    check(cases)


@pytest.mark.parametrize("seed", range(3))
def test_random_statements(seed: int) -> None:
    check(statements(seed, 1000))


def test_hand_made_statements() -> None:
    """Rules that are easy to get wrong, which nothing generated may need today."""
    name, other = "a" * 40, "b" * 46
    texts = [
        f"x = {name}.{other}",
        f"x = {name}.first({other}).second",
        f"x = {name}.first({other}).second.third()",
        f"x = ({name} + {other}).first().second()",
        f"{name}.b = {other}[0]",
        f"{name}[{other}] = y",
        f"{name}, b = {other}(1)",
        f"a = b = {name}({other})",
        f"x: dict[{name}, {other}] = y",
        f"x: {name}.b = f({other})",
        f"x: {name}.b = {other}",
        f"x = ({name})",
        f"del_({name}, **{other})",
        f'raise ValueError("{name}{other}")',
        f'raise ValueError("{name}{other}") from error',
        f"assert {name}, {other}",
        f"if ({name} or b) and not (c or {other}):",
        f"if {name}({other}):",
        f"for a, b in {name}({other}):",
        f"def f() -> {name}[{other}]:",
        f"def {name}{other}(x):",
        f"def f(a: {name}, *, b: int = {other}, c=1) -> None:",
        f"def f(a: {name}, /, *rest: {other}, **more) -> None:",
        f"class Model({name}, metaclass={other}):",
        f"x = -({name} ** {other})",
        f"x = {name} if a else {other} if b else c",
        f"x = f((a for a in {name}{other}))",
        f"x = f(({name} + {other}))",
        f"x = {{**{name}, 1: {other}}}",
        f"return {name}, ({other},)",
        f"x = y[{name} : {other}, ::2]",
        "x = y[a.b:, :-1, a:b, f(a) : b : -1]",
        "x = -(a**2) + a.b ** f(c) + a[0] ** 2",
        f"x = {name} < {other} <= c",
        f"x = ~{name} & {other}",
        f"x = {name}[0][1](2)(3)[{other}]",
        f'x = "{name}" % ({other},)',
    ]
    check([(0, text) for text in texts] + [(8, text) for text in texts])


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("x = 1", ["x = 1  # why"]),
        (f"x = {'a' * 71}", [f"x = {'a' * 71}  # why"]),
        (f"x = {'a' * 74}", ["# why", f"x = {'a' * 74}"]),
        (f"convolve({'a' * 40}, {'b' * 37})", ["# why", "convolve(", f"    {'a' * 40}, {'b' * 37}", ")"]),
    ],
)
def test_comments(text: str, lines: list[str]) -> None:
    assert lay_out(4, text, "why") == [f"    {line}" for line in lines]


@pytest.mark.parametrize("text", ["else:", "@torch.no_grad()", "# " + "long " * 30, f'"""{"a: b" * 30}"""'])
def test_what_cannot_break_stays(text: str) -> None:
    assert lay_out(4, text) == ["    " + text]
