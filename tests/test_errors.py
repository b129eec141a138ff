"""The pages of the error codes against what archc says: every code has one, each example gives its code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archc import driver
from archc.diagnostics import ArchError, Diagnostic
from archc.elaborate.habits import CALLS, KEYWORDS, LEFT_OUT, components
from archc.elaborate.loader import load, read
from archc.elaborate.scalars import FUNCTIONS
from archc.explain import codes, explain
from archc.ops.base import parameters
from archc.ops.table import OPERATIONS
from archc.source import Source
from archc.syntax.mistakes import ROLES
from archc.where.regions import REGIONS

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w+) (fails|works)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The syntax pages show parts of files, and are tested where the parser is.
EXAMPLES = [code for code in codes() if code > "E0109" and "```arch fails" in explain(code)]


def used() -> set[str]:
    """The codes that stand in the code of archc."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "archc").rglob("*.py"))
    return {code for text in texts for code in re.findall(r'"(E\d{4})"', text)}


def findings(code: str, text: str) -> list[Diagnostic]:
    """What `archc check` finds in a text beside the library."""
    found: list[Diagnostic] = []
    try:
        library = load(Source(f"{code}.arch", text, ROOT / "specs" / f"{code}.arch"))
        assert library.main.bindings, "an example without a variant proves nothing"
        spec = driver.Spec(library, tuple(library.main.bindings))
        for name in spec.variants:
            found += driver.check(driver.build(spec, name)).warnings
        found += driver.remarks(spec)
    except ArchError as error:
        return list(error.diagnostics)
    return found


def test_every_code_has_a_page_and_every_page_a_use():
    assert used() == set(codes())


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_failing_example_gives_exactly_its_code(code):
    text = next(text for _, kind, text in FENCE.findall(explain(code)) if kind == "fails")
    found = findings(code, text)
    assert [one.code for one in found] == [code]
    assert found[0].span is not None, "a finding in a spec points at it"
    assert found[0].span.source.name.endswith(".arch")


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_mended_example_passes(code):
    text = next(text for _, kind, text in FENCE.findall(explain(code)) if kind == "works")
    assert findings(code, text) == []


def test_every_code_is_seen_by_a_test():
    """By its page, by a page of a mistake, or by name."""
    seen = set(EXAMPLES) | {code for code in codes() if code <= "E0109"}
    for path in (ROOT / "tests").rglob("*"):
        if path.suffix in (".py", ".md"):
            seen |= set(re.findall(r"E\d{4}", path.read_text(encoding="utf-8")))
    assert set(codes()) - seen == set()


# ---- imports, whose mistakes need several files


def imported(folder: Path, files: dict[str, str]) -> list[Diagnostic]:
    """What is found in the first of some files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    try:
        load(read(folder / next(iter(files))))
    except ArchError as error:
        return list(error.diagnostics)
    return []


def test_a_circle_of_files_is_spelled_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = {"a.arch": "from .b import tail\n", "b.arch": "from .c import mid\n", "c.arch": "from .b import tail\n"}
    [found] = imported(Path(), texts)
    assert found.code == "E0702"
    assert found.message == "files import each other in a circle: b.arch -> c.arch -> b.arch"
    assert found.span is not None and found.span.source.name == "c.arch"


@pytest.mark.parametrize("path", ["....up", "..linked"])
def test_imports_stay_near_their_file(tmp_path, path):
    here = tmp_path / "one" / "two" / "three"
    here.mkdir(parents=True)
    outside = tmp_path / "elsewhere.arch"
    outside.write_text("fn up(n: int) = n\n")
    (here.parent / "linked.arch").symlink_to(outside)
    [found] = imported(here, {"a.arch": f"from {path} import up\n"})
    assert found.code == "E0704"


def test_a_text_without_a_file_has_nothing_beside_it():
    with pytest.raises(ArchError) as caught:
        load(Source("<stdin>", "from .b import tail\n"))
    assert [found.code for found in caught.value.diagnostics] == ["E0704"]


# ---- the calls that led to a finding


def test_a_finding_tells_the_calls_that_led_to_it():
    text = """from std.layout import split_heads
block inner(x: [B, N, C], heads: int) { return x |> split_heads(heads) |> mean(heads) }
block outer(x: [B, N, C], heads: int) { return x |> inner(heads) }
model net(heads: int) {
    input x: [B, N, C=8]
    output y = x |> outer(heads)
}
one = net(3)
"""
    [found] = findings("case", text)
    assert found.code == "E0321"
    assert found.span is not None and found.span.text == "split_heads(heads)", "nobody mends the library"
    assert [label.span.source.name for label in found.related] == ["specs/std/layout.arch"]
    assert [label.text for label in found.uses] == [
        "`inner` is used here with x: [B, N, C=8], heads = 3",
        "`outer` is used here with x: [B, N, C=8], heads = 3",
        "`net` is used here with heads = 3",
    ]


def test_many_calls_are_cut_short():
    parts = "block part0(x: [B, C]) { return x + (x |> grow: linear(2 * C)) }\n"
    parts += "".join(f"block part{n}(x: [B, C]) {{ return x |> part{n - 1} }}\n" for n in range(1, 9))
    text = parts + "model net(dim: int) {\n    input x: [B, C=dim]\n    output y = x |> part8\n}\none = net(8)\n"
    [found] = findings("case", text)
    assert [label.span.text for label in found.uses] == ["part0", "part1", "part2", "net(8)"]
    # What the text alone shows needs no trail.
    [found] = findings("case", text.replace("linear(2", "linaer(2"))
    assert found.code == "E0201" and found.uses == ()


def test_a_component_may_be_given_to_itself():
    """It goes round in a circle only where its own text names it."""
    text = """block twice(x: [B, C], f: recipe) { return x |> a: f |> b: f }
model net() {
    input x: [B, C=8]
    output y = x |> outer: twice(twice(linear(8)))
}
one = net()
"""
    assert findings("case", text) == []


@pytest.mark.parametrize(
    "last",
    [
        "fn down(n: int) = 0 if n == 0 else down(n - 1)",
        "fn down(n: int) = up(n)\nfn up(n: int) = down(n - 1)",
    ],
)
def test_functions_that_use_themselves(last):
    text = f"{last}\nmodel net() {{\n    input x: [B, C=8]\n    output y = x |> linear(8 + down(3))\n}}\none = net()\n"
    found = findings("case", text)
    assert [one.code for one in found] == ["E0403"]


# ---- words of other libraries


@pytest.mark.parametrize("text", sorted({*CALLS.values(), *LEFT_OUT.values()}))
def test_help_names_what_exists(text):
    known = {*OPERATIONS, *components(), *FUNCTIONS, *REGIONS, *ROLES, "rename"}
    called = [name for code in re.findall(r"`([^`]*)`", text) for name in re.findall(r"\b([a-z_]+)\(", code)]
    assert {name for name in called if name not in {"x", "normal", "trunc_normal"}} <= known
    for module, name in re.findall(r"from std\.(\w+) import (\w+)", text):
        assert components()[name] == module


@pytest.mark.parametrize(
    ("call", "operand"),
    [
        ('rearrange(x, "C H W -> H W C")', "[B, C=8, H=4, W=4]"),
        ('rearrange(x, "C=(heads C) -> heads C", heads=4)', "[B, N=4, C=8]"),
        ('rearrange(x, "H W -> N=(H W)")', "[B, C=8, H=4, W=4]"),
        ('rearrange(x, "C=(C h w) H W -> C H=(H h) W=(W w)", h=2, w=2)', "[B, C=8, H=4, W=4]"),
        ("resize(x, H=2 * x.H, W=2 * x.W)", "[B, C=8, H=4, W=4]"),
        ('adaptive_pool(x, H=7, W=7, kind="max")', "[B, C=8, H=14, W=14]"),
        ("x / sqrt(sum(x ** 2, C) + 1e-12)", "[B, C=8, H=4, W=4]"),
        ("sqrt(var(x, C))", "[B, C=8, H=4, W=4]"),
        ("clamp(x, 0, 6)", "[B, C=8]"),
        ("x[N=[0, 2]]", "[B, N=4, C=8]"),
        ("standardize(x)", "[B, C=8, H=4, W=4]"),
        ('pad(x, H=1, W=1, mode="reflect")', "[B, C=8, H=4, W=4]"),
        ("expand(x, N=4)", "[B, C=8]"),
    ],
)
def test_what_help_proposes_works(call, operand):
    text = f"model net() {{\n    input x: {operand}\n    output y = {call}\n}}\none = net()\n"
    assert findings("case", text) == []


def test_keywords_lead_to_arguments_that_exist():
    arguments = {p.name for op in OPERATIONS.values() for p in parameters(op)}
    own = {"heads", "slope", "size", "p"}
    assert {word for words in KEYWORDS.values() for word in words.split()} <= arguments | own
