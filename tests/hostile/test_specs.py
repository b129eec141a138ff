"""Hostile texts: each ends in the diagnostic that is named with it, promptly and in bounded memory."""

from __future__ import annotations

import json
import os
import sys

import pytest
from running import archc, well

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are those of Linux")
LAST = "\nm_8 = m()\n"


def net(output: str = "x", body: str = "", top: str = "") -> str:
    """A model whose input is x, with lines before its output and before itself."""
    return f"{top}\nmodel m(dim: int = 8) {{\n    input x: [B, C=3, H, W]\n{body}\n    output y = {output}\n}}{LAST}"


def chain(line: str, count: int, first: str) -> str:
    """Functions or components, each of which uses the one before it."""
    return "\n".join([first, *(line.format(i=i, j=i - 1) for i in range(1, count))])


PRIMES = [p for p in range(2, 72) if all(p % q for q in range(2, p))]
NOT_TEXT = {
    "bytes": (bytes(range(256)), "E0109"),
    "utf-16": ("model m() {}\n".encode("utf-16"), "E0109"),
    "latin-1": ('"""é"""\n'.encode("latin-1"), "E0109"),
    "surrogates": (b'"""\xed\xa0\x80"""', "E0109"),
    "null bytes": (bytes(1_000_000), "E0105"),
    "a form feed": (b"model m() {\f}\x0b", "E0105"),
    "lone carriage returns": (net().replace("\n", "\r").encode(), "E0101"),
}
TEXTS = {
    "a million opening brackets": ("(" * 1_000_000, "E0106"),
    "a million closing brackets": (")" * 1_000_000, "E0103"),
    "pairs of brackets": ("()" * 500_000, "E0404"),
    "quotes": ('"' * 100_001, "E0104"),
    "backslashes": ('"' + "\\" * 1_000_000, "E0104"),
    "strings that never end": ('x = "\n' * 150_000, "E0104"),
    "unknown characters": (";\n" * 500_000, "E0105"),
    "other letters": ("é" * 400_000, "E0105"),
    "a name of a megabyte": ("a" * 1_000_000, "E0404"),
    "a number of a megabyte": ("x = m(" + "9" * 1_000_000 + ")", "E0108"),
    "a hundred thousand numbers too large": (net("x + [" + f"{'9' * 40}, " * 20_000 + "0]"), "E0108"),
    "two hundred thousand lines": ("x = 1\n" * 170_000, "E0404"),
    "names defined twice": ("fn f() = 1\n" * 12_000, "E0405"),
    "letters that look alike": (net("х"), "E0105"),
    "text that runs backwards": (net('rename(x, H="\u202e\u2066\x1b[31m")'), "E0213"),
    "combining marks": ("# \n" + net("x + y") + "#" + "\u0301" * 300_000, "E0201"),
    "a pipeline without end": (net("x" + " |> relu" * 30_000), "E0106"),
    "a sum without end": (net("x" + " + x" * 30_000), "E0106"),
    "signs without end": (net("x + " + "-" * 30_000 + "1"), "E0106"),
    "statements without end": (net(body="    x = x |> relu\n" * 40_000), "E0404"),
    "mistakes without end": (net(body="".join(f"    a{i} = zz{i}\n" for i in range(20_000))), "E0201"),
    "variants without end": (net() + "".join(f"v{i} = m()\n" for i in range(5_000)), "E0404"),
    "components, each twice the one before": (
        net("x |> f60", top=chain("block f{i}(x: [B, C, H, W]) {{ return x |> f{j} |> f{j} }}", 61,
                                  "block f0(x: [B, C, H, W]) { return x |> relu }")), "E0404"),
    "blocks, each twice the one before": (
        net("x |> a: f40", top=chain("block f{i}(x: [B, C, H, W]) {{ return x |> a: f{j} |> b: f{j} }}", 41,
                                     "block f0(x: [B, C, H, W]) { return x |> c: conv(C, 1) }")), "E0404"),
    "functions, each twice the one before": (
        net("x * f60(1)", top=chain("fn f{i}(x: int) = f{j}(x) + f{j}(x)", 61, "fn f0(x: int) = x + 1")), "E0404"),
    "functions of functions": (
        net("f60(x)", top=chain("fn f{i}(x: [B, C, H, W]) = f{j}(f{j}(x))", 61, "fn f0(x: tensor) = x |> relu")), "E0404"),
    "a list twice as long": (net("x * len(l)", "    l = [1]\n" + "    l = l + l\n" * 60), "E0404"),
    "a list of lists": (net("x * len(l)", "    l = [1]\n" + "    l = [l, l]\n" * 60), "E0404"),
    "a list of all numbers": (net("x * len(range(10**9))"), "E0404"),
    "numbers between": (net("x * sum(linspace(0, 1, 10**9))"), "E0404"),
    "lists in lists in lists": (net("x * len([[[k for k in range(999)] for j in range(999)] for i in range(999)])"), "E0404"),
    "a text a billion times": (net('x |> rename(H="a" * 1000000000)'), "E0206"),
    "a tower of powers": (net("x * 10**10**10"), "E0210"),
    "squares of squares": (net("x * a", "    a = 3\n" + "    a = a * a\n" * 60), "E0210"),
    "a billion turns": (net(body="    b: repeat 10**9 { x = x |> c: conv(3, 1) }"), "E0404"),
    "turns in turns": (net(body="    loop 9999 { loop 9999 { loop 9999 { x = x |> relu } } }"), "E0404"),
    "empty turns in turns": (net(body="    repeat 9999 { repeat 9999 { n = 3 } }"), "E0404"),
    "parts without end": (net(body="    a = x |> expand(N=2**31 - 1) |> split(2**31 - 1, N)"), "E0213"),
    "more channels than there are": (net("x |> conv(10**12, 1)"), "E0213"),
    "a whole number beyond 64 bits": (net("x |> roll(H=10**29)"), "E0213"),
    "division by zero": (net("x * (1 // 0)"), "E0210"),
    "a size divided by zero": (net("x * (H // 0)"), "E0210"),
    "no number": (net("x * int(inf - inf)"), "E0210"),
    "a real number too large": (net("x * 10.0**400"), "E0210"),
    "a pattern without end": (net('x |> rearrange("H=(' + " ".join(f"a{i}" for i in range(3000)) + ') -> H")'), "E0222"),
    "a power of a sum of sizes": (net(body="    a = H + W + 1\n" + "    a = a * a\n" * 20 + "    require a == 7"), "E0210"),
    "remainders of remainders": (net(body="    a = H\n" + "".join(
        f"    a = (a + {p}) // {p} * {p + 1} % {p * 7}\n" for p in range(2, 60)) + "    require a == 7"), "E0210"),
    "many periods": (net(body="".join(f"    require H % {p} == {p - 1}\n" for p in PRIMES)), None),
    "many needs": (net(body="".join(f"    require H >= {i}\n" for i in range(1, 3000))), "E0404"),
    "long periods": (net(body="".join(f"    require H % {10**5 + 7 * i} == 3\n" for i in range(30))), None),
    "a formula of many choices": (net(body="".join(
        f"    require H % {p} == 1 or H % {p} == 2 or W % {p} == 0\n" for p in PRIMES[2:])), "E0209"),
}  # fmt: skip
CASES: dict[str, tuple[bytes, str | None]] = {
    **NOT_TEXT, **{name: (text.encode(), code) for name, (text, code) in TEXTS.items()}}  # fmt: skip
# Besides `compile`, every fifth case meets one of these.
OTHERS = (["check", "--format", "json"], ["flops"], ["fmt", "--check"], ["show"], ["show", "--stage", "tree"], ["verify"])


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_text(name, tmp_path):
    data, code = CASES[name]
    (tmp_path / "x.arch").write_bytes(data)
    done = well(archc("compile", "x.arch", "-o", "out", cwd=tmp_path))
    if code is None:
        assert done.code == 0
    else:
        assert done.codes == {code} and done.code == (2 if code == "E0109" else 1), done.err[:500]
        assert not (tmp_path / "out").exists()
    number = list(CASES).index(name)
    if number % 5:
        return
    command, *options = OTHERS[number // 5 % len(OTHERS)]
    well(archc(command, "x.arch", *options, cwd=tmp_path))


@pytest.mark.parametrize("command", ["check", "compile", "fmt", "list", "diff"])
def test_what_is_no_spec_is_refused_by_every_command(command, tmp_path):
    """100 MB, a pipe that nobody writes to, a device that never ends, a folder."""
    with (tmp_path / "large.arch").open("wb") as file:
        file.truncate(100 * 2**20)
    os.mkfifo(tmp_path / "pipe.arch")
    (tmp_path / "folder.arch").mkdir()
    (tmp_path / "loop.arch").symlink_to("loop.arch")
    (tmp_path / "zero.arch").symlink_to("/dev/zero")
    for name in ("large.arch", "pipe.arch", "folder.arch", "loop.arch", "zero.arch"):
        arguments = {"list": ["."], "diff": [name, name]}.get(command, [name])
        done = well(archc(command, *arguments, cwd=tmp_path), seconds=5)
        assert (done.code, done.codes) == (2, {"E0109"}), (name, done.err)
        if command in ("list", "diff"):
            break


def test_findings_are_counted_and_not_all_drawn(tmp_path):
    (tmp_path / "x.arch").write_bytes(CASES["mistakes without end"][0])
    done = archc("check", "x.arch", "--format", "json", cwd=tmp_path)
    assert len(json.loads(done.out)["diagnostics"]) == 50
