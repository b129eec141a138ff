"""Python text: names, literals, and expressions from Syms."""

from __future__ import annotations

import builtins
import keyword
import math
import re
from collections.abc import Callable
from functools import cache

from archc.backend.kernel_files import kernel_globals
from archc.backend.layout import lay_out as lay_out
from archc.ir.sym import Apply, Comprehension, Const, Extent, FnDef, Sym, Var
from archc.resources import folder

# How tightly each operator binds, as in Python's grammar.
_BINARY = {"or": 1, "and": 2, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4, "+": 9, "-": 9, "*": 10, "/": 10, "//": 10,
           "%": 10, "**": 12}  # fmt: skip
_BUILTINS = {"len", "sum", "min", "max", "abs", "int", "float", "round", "range", "enumerate", "zip", "reversed"}
_MATH = {"sqrt", "exp", "log", "log2", "floor", "ceil"}
_HELPERS = {"linspace", "pair"}


def literal(value: object) -> str:
    """A constant as Python writes it. Strings are escaped."""
    if isinstance(value, float):
        if math.isinf(value) or math.isnan(value):
            return f'float("{value}")'
        return repr(value)
    if isinstance(value, str):
        return quoted(value)
    return repr(value)


def quoted(text: str) -> str:
    """A string literal in double quotes, in ASCII."""
    body = ascii(text)[1:-1]
    if ascii(text)[0] == "'":
        body = body.replace("\\'", "'").replace('"', '\\"')
    return f'"{body}"'


class Expressions:
    """Writes Syms. `name` says how a variable is written, `extent` how the size of a value's axis is; functions that the
    text needs are asked for through `helper` and `define`."""

    def __init__(
        self, name: Callable[[Var], str], extent: Callable[[Extent], str], helper: Callable[[str], str],
        define: Callable[[FnDef], str],
    ) -> None:  # fmt: skip
        self.name, self.extent, self.helper, self.define = name, extent, helper, define

    def write(self, sym: Sym) -> str:
        return self._write(sym)[0]

    def _inside(self, sym: Sym, least: int) -> str:
        text, binding = self._write(sym)
        return text if binding >= least else f"({text})"

    def _write(self, sym: Sym) -> tuple[str, int]:
        match sym:
            case Const(value):
                text = literal(value)
                return text, 11 if text.startswith("-") else 20
            case Var():
                text = self.name(sym)
                return text, 20 if re.fullmatch(r"[\w.\[\]]+", text) or (
                    text.startswith("(") and text.endswith(")")
                ) else 0
            case Extent():
                return self.extent(sym), 20
            case Comprehension(expr, targets, iterable):
                names = ", ".join(map(identifier, targets))
                return f"[{self.write(expr)} for {names} in {self.iterable(iterable)}]", 20
            case Apply(_, args, FnDef() as fn):
                return f"{self.define(fn)}({', '.join(self.write(a) for a in args)})", 20
            case Apply("if", (condition, then, otherwise)):
                return f"{self._inside(then, 1)} if {self._inside(condition, 1)} else {self.write(otherwise)}", 0
            case Apply("neg", (a,)):
                return f"-{self._inside(a, 13)}", 11
            case Apply("not", (a,)):
                return f"not {self._inside(a, 3)}", 3
            case Apply("==" | "!=" as op, (a, Const(None))):
                return f"{self._inside(a, 5)} {'is' if op == '==' else 'is not'} None", 4
            case Apply("**", (a, b)):
                base, exponent = self._inside(a, 13), self._inside(b, 11)
                simple = all(t.lstrip("-").replace(".", "").replace("_", "").isalnum() for t in (base, exponent))
                return (f"{base}**{exponent}" if simple else f"{base} ** {exponent}"), 12
            case Apply(op, (a, b)) if op in _BINARY:
                binding = _BINARY[op]
                # Comparisons do not nest, subtraction and division associate to the left.
                left = self._inside(a, binding + 1 if binding == 4 else binding)
                return f"{left} {op} {self._inside(b, binding + 1)}", binding
            case Apply("index", (xs, i)):
                return f"{self._inside(xs, 20)}[{self.write(i)}]", 20
            case Apply("slice", (xs, a, b)):
                start, stop = ("" if x == Const(None) else self.write(x) for x in (a, b))
                return f"{self._inside(xs, 20)}[{start}:{stop}]", 20
            case Apply("list", args):
                return f"[{', '.join(self.write(a) for a in args)}]", 20
            case Apply(op, args):
                inner = ", ".join(self.write(a) for a in args)
                if op in _BUILTINS:
                    return f"{op}({inner})", 20
                if op in _MATH:
                    return f"math.{op}({inner})", 20
                assert op in _HELPERS, op
                return f"{self.helper(op)}({inner})", 20
        raise AssertionError(sym)

    def iterable(self, sym: Sym) -> str:
        """What a `for` runs over: a literal list as a tuple."""
        if isinstance(sym, Apply) and sym.op == "list":
            parts = [self.iterable(a) for a in sym.args]
            return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        return self.write(sym)


# What the text of a method calls by these names must not be hidden by a variable.
_NAMES = frozenset(
    "self nn torch math F Tensor Any Sequence Callable checkpoint range len enumerate zip sum max min int float bool str "
    "round abs reversed list tuple isinstance super annotations".split()
)


@cache
def _helpers() -> frozenset[str]:
    return frozenset(path.stem for path in (folder("codegen") / "helpers").glob("*.py"))


def identifier(name: str) -> str:
    """A variable's name close to the author's, which hides nothing that a generated file uses."""
    name = attribute_name(name)
    return f"{name}_" if name in _NAMES or name in _helpers() else name


def global_name(name: str) -> str:
    """The name of a function in a generated file: close to the author's, and none that kernels have beside it."""
    name = identifier(name)
    return f"{name}_" if name in kernel_globals() else name


def attribute_name(name: str) -> str:
    """What stands behind `self.`: the author's name, and a part of the names in the state dict."""
    name = re.sub(r"\W", "_", name)
    return f"{name}_" if keyword.iskeyword(name) else name


def class_name(name: str) -> str:
    """`partition_attention` -> PartitionAttention, `lka` -> LKA."""
    words = [word for word in name.split("_") if word]
    if len(words) == 1 and len(name) <= 3:
        return name.upper()
    made = "".join(word[0].upper() + word[1:] for word in words) or "Module"
    if keyword.iskeyword(made) or hasattr(builtins, made):
        return f"{made}Module"
    return f"_{made}" if made[0].isdigit() else made


def plain_text(text: str) -> str:
    """Text from a spec as it may stand in a docstring or comment: printable ASCII, no quotes that end it."""
    safe = "".join(c if " " <= c <= "~" else "?" for c in text)
    return safe.replace("\\", "/").replace('"""', "'''").rstrip('"')
