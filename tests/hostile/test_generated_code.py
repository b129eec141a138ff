"""Text that would like to become code: the written module has the same syntax tree, whatever strings its spec holds."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from archc import driver
from archc.cli.generate import prove
from archc.elaborate.loader import load
from archc.source import Source

SPEC = '''"""{doc}"""

block part(x: [B, C, H, W], mode: str) {{
    """{doc}"""
    # {comment}
    y = pad(x, H=1, W=1, mode="zeros") if mode == "{text}" else x
    return y |> mix: conv(C, 1)
}}

model whole(dim: int = 4, mode: str = "{text}") {{
    """{doc}"""
    input image: [B, C=3, H, W]
    require image.H >= 3, "{text}"
    y = image |> stem: conv(dim, 1) |> part: part(mode)
    output logits = y |> mean(H, W) |> head: linear(10)
}}

net_4 = whole() {{
    """{doc}"""
    claim params == 86 # {comment}
}}
'''
HARMLESS = dict(doc="Doc.", comment="why", text="harmless")
EVIL = [
    "'", "''", "\\\\", "\\\\\\\\\\\"", "' + __import__('os').system('true') + '", "\\\")\\nimport os\\nos.abort()\\n(\\\"",
    "{{ 7 * 7 }}", "{% raw %}", "{# x #}", "{0.__class__}", "%s%n%(x)s", "${HOME}", "`id`", "\\n", "\\n\\n    pass\\n",
    "\u2028import os", "\u2029x", "\x85x", "\x0cx", "\x0bx", "\x1b[31m", "\u202eabc", "\u0301" * 40, "é漢字🐍", "\x7f", "\x00",
    "#!", "# -*- coding: utf-7 -*-", "+AFw-", "\\\\N{BULLET}".replace("\\\\N", "N"), "a" * 5000, "f'{x}'", "\ufeff", "\ue000",
]  # fmt: skip


@cache
def written(**texts: str) -> str:
    """The module of the spec with other texts in it."""
    library = load(Source("texts.arch", SPEC.format(**{**HARMLESS, **texts})))
    return driver.compile_variant(driver.Spec(library, ("net_4",), "texts.arch"), "net_4").text


def shape(text: str) -> str:
    """The syntax tree without what its strings say."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


@pytest.mark.parametrize("evil", EVIL, ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("place", HARMLESS)
def test_a_text_stays_a_text(place, evil):
    if place == "comment" and any(char in evil for char in "\n\x00"):
        evil = evil.replace("\n", " ")
    if place == "doc":
        evil = evil.replace('"""', "")
    made = written(**{place: evil})
    assert shape(made) == shape(written())
    assert all(line.isascii() and line.isprintable() for line in made.split("\n")), "nothing unprintable is written"


def test_a_docstring_may_quote():
    quoted = written(doc='It\'s "quoted" \\"""\\" \\\\')
    assert shape(quoted) == shape(written())


def test_only_torch_is_imported_and_nothing_is_run():
    """What the module may do on import, with the worst texts in all places at once."""
    tree = ast.parse(written(doc="import os", comment="import os", text="{{ x }}\\nimport os"))
    imports = {a.name if isinstance(n, ast.Import) else n.module
               for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names}  # fmt: skip
    assert imports <= {"__future__", "collections.abc", "math", "torch", "torch.nn", "torch.utils.checkpoint", "typing"}
    allowed = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Assign, ast.Expr)
    assert all(isinstance(node, allowed) for node in tree.body)
    assert [n.value.value[:10] for n in tree.body if isinstance(n, ast.Expr)] == ["import os\n"]
    assert [ast.unparse(n.targets[0]) for n in tree.body if isinstance(n, ast.Assign)] == ["__all__"]
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    assert not names & {"eval", "exec", "open", "__import__", "getattr", "setattr", "globals", "compile", "os"}


def test_what_is_written_is_proved_with_texts_in_it():
    library = load(Source("texts.arch", SPEC.format(**{**HARMLESS, "text": "' + x + '"})))
    module = driver.compile_variant(driver.Spec(library, ("net_4",), "texts.arch"), "net_4")
    assert "same names" in prove(module, module.text)
