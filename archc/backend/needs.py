"""What a generated file needs besides its classes: helper functions, compile-time functions, imports."""

from __future__ import annotations

import ast
import re
from dataclasses import field
from functools import cache, cached_property
from typing import TYPE_CHECKING

from archc.backend.layout import lay_out
from archc.backend.python import Expressions, global_name, identifier
from archc.ir.sym import Extent, FnDef
from archc.records import dataclass
from archc.resources import folder

if TYPE_CHECKING:
    from archc.backend.kernels import Kernels


@cache
def helper_source(name: str) -> str:
    """The text of `codegen/helpers/NAME.py`."""
    return (folder("codegen") / "helpers" / f"{name}.py").read_text(encoding="utf-8")


@cache
def helper_uses(name: str) -> tuple[str, ...]:
    """The other helpers that a helper calls, and what those call, each before what calls it."""
    names = {node.id for node in ast.walk(ast.parse(helper_source(name))) if isinstance(node, ast.Name)}
    called = sorted(n for n in names if n != name and (folder("codegen") / "helpers" / f"{n}.py").is_file())
    return tuple(dict.fromkeys(inner for n in called for inner in (*helper_uses(n), n)))


@dataclass
class Needs:
    """Collected while classes are written."""

    helpers: dict[str, None] = field(default_factory=dict)
    functions: dict[str, FnDef] = field(default_factory=dict)
    checkpoint: bool = False

    @cached_property
    def kernels(self) -> Kernels:
        """The fused operators of the file."""
        from archc.backend.kernels import Kernels

        return Kernels(self)

    def helper(self, name: str) -> str:
        if name not in self.helpers:
            for other in helper_uses(name):
                self.helper(other)
            self.helpers[name] = None
        return name

    def define(self, fn: FnDef) -> str:
        name = global_name(fn.name)
        self.functions.setdefault(name, fn)
        return name

    def helper_texts(self, text: str) -> list[str]:
        """The helpers and functions that `text` uses, without their imports, each before what calls it."""
        functions = self.function_texts()
        words = set(re.findall(r"\w+", "\n".join([text, *functions])))
        wanted: dict[str, None] = {}
        for name in self.helpers:
            if name in words:
                for other in (*helper_uses(name), name):
                    wanted.setdefault(other)
        used = [f for f in functions if re.findall(r"def (\w+)", f)[0] in words]
        return [*(without_imports(helper_source(name)) for name in wanted), *used]

    def function_texts(self) -> list[str]:
        """The spec's compile-time functions as Python functions."""
        texts, written = [], 0
        while written < len(self.functions):  # writing one may ask for another
            name, fn = list(self.functions.items())[written]
            written += 1
            texts.append(self._function(name, fn))
        return texts

    def _function(self, name: str, fn: FnDef) -> str:
        def no_extent(extent: Extent) -> str:
            raise AssertionError(extent)

        writer = Expressions(lambda var: identifier(var.name), no_extent, self.helper, self.define)
        kinds = ", ".join(f"{identifier(p)}: Any" for p in fn.parameters)
        return "\n".join([f"def {name}({kinds}) -> Any:", *lay_out(4, f"return {writer.write(fn.body)}")])


def without_imports(text: str) -> str:
    """A file of `codegen` without its imports and its docstring."""
    tree = ast.parse(text)
    lines = text.splitlines()
    first = 0
    for node in tree.body:
        is_doc = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, (ast.Import, ast.ImportFrom)) or is_doc:
            first = node.end_lineno or first
        else:
            break
    return "\n".join(lines[first:]).strip("\n")
