"""The text of fused operators: the functions of their kernels, their PyTorch twins, and one line that makes each.

Kernels are files of `codegen/kernels`, which a module contains as they are; what is a region's own are small functions
that those are given.
"""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from archc.backend.layout import lay_out
from archc.backend.operand import Operand
from archc.backend.writer import ClassNames, Line, Writer, count_uses, without_unused
from archc.fusion.families import family
from archc.ir.graph import Apply, Drawn, Fused, Owned, Value
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Const, Scalar, Sym, Var
from archc.ir.types import Dim
from archc.resources import folder

if TYPE_CHECKING:
    from archc.backend.needs import Needs


# Kernels keep the layout in which they were written. Type checkers know neither their types nor whether triton is there.
MARK = """\
# Fused operators: each computes in one kernel, forward and backward, what its `..._torch` says in PyTorch, which runs where
# there is no GPU, no triton, or with ARCHC_KERNELS=0 in the environment.
# fmt: off
# pyright: reportInvalidTypeForm=false, reportOptionalMemberAccess=false, reportMissingImports=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false, reportCallIssue=false"""


class Piece(NamedTuple):
    """A function, class or constant of a file of kernels: the names that it defines and those that it reads, and its text
    with the comment before it."""

    names: frozenset[str]
    reads: frozenset[str]
    text: str


def _reads(node: ast.AST) -> frozenset[str]:
    return frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))


@cache
def _files() -> dict[str, ast.Module]:
    """The files of `codegen/kernels`, by name."""
    paths = sorted((folder("codegen") / "kernels").glob("*.py"))
    return {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


@cache
def _pieces(name: str) -> tuple[Piece, ...]:
    """All of `codegen/kernels/NAME.py` but its imports."""
    lines = (folder("codegen") / "kernels" / f"{name}.py").read_text(encoding="utf-8").splitlines()
    pieces, end = [], 0
    for node in _files()[name].body:
        start, end = end, node.end_lineno or 0
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = {node.name}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        else:
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        pieces.append(Piece(frozenset(names), _reads(node), "\n".join(lines[start:end])))
    return tuple(pieces)


@cache
def _uses(name: str) -> tuple[str, ...]:
    """The files that a file imports from beside it."""
    imports = (n for n in _files()[name].body if isinstance(n, ast.ImportFrom) and n.level == 1)
    return tuple(n.module for n in imports if n.module)


@cache
def _ordered() -> tuple[str, ...]:
    """All files, each behind those that it uses."""
    found: dict[str, None] = {}

    def need(name: str) -> None:
        for other in _uses(name):
            need(other)
        found.setdefault(name)

    for name in _files():
        need(name)
    return tuple(found)


class Kernels:
    """The fused operators of a file, each once."""

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        self.names: dict[tuple[str, ...], str] = {}  # by all that an operator is but its name
        self.texts: dict[str, str] = {}
        self.hidden: frozenset[str] = frozenset()  # names that operators may not have

    def of(self, region: Fused) -> str:
        """The name of the operator for a region."""
        twin, chosen = self._twin(region), family(region.family)
        key = (region.family, *chosen.settings(region), *twin, *map(str, chosen.functions("", region).values()))
        if key not in self.names:
            words = [chosen.word(region.core), *(s.op.name for s in region.steps if s.op.follows)]
            base = "_".join(words) if len("_".join(words)) <= 40 else words[0]
            names = (base, *(f"{base}_{i}" for i in range(2, 1000)))
            name = next(n for n in names if n not in self.texts and n not in self.hidden)
            self.names[key] = name
            self.texts[name] = self._text(name, region, twin)
        return self.names[key]

    def _text(self, name: str, region: Fused, twin: list[str]) -> str:
        chosen = family(region.family)
        functions = chosen.functions(name, region)
        lines: list[str] = []
        for head, *body in functions.values():
            # Gradients need not all values, nor values all that they could be made of.
            kept = without_unused([Line(len(line) - len(line.lstrip()), line.strip()) for line in body])
            lines += ["@jit", head, *(" " * line.indent + line.text for line in kept), "", ""]
        kinds = [*(f"{given}: Tensor" for given in region.arguments), *number_arguments(region)]
        # Where there are no kernels, the function is the operator.
        own = f"{name}_torch" if chosen.operator else name
        head = f"def {own}({', '.join(kinds)}) -> {'Tensor' if len(region.outputs) == 1 else 'tuple[Tensor, ...]'}:"
        doc = f'    """{", then ".join(step.op.name for step in region.steps)}"""'
        lines += [*lay_out(0, head), doc, *(text for line in twin for text in lay_out(4, line))]
        if not chosen.operator:
            return "\n".join(lines)
        lines += ["", ""]
        made = ", ".join([f'"{{namespace}}::{name}"', f"{name}_torch", *functions, *chosen.settings(region)])
        return "\n".join([*lines, *lay_out(0, f"{name} = {chosen.operator_of(region)}({made})")])

    def _twin(self, region: Fused) -> list[str]:
        """The body of the function that computes the same in plain PyTorch."""
        writer = TwinWriter(self.needs, region)
        family(region.family).twin(region, writer)
        order = family(region.family).order
        results = [writer.operand(v).merged(writer).to(order(region, v)).text for v in region.outputs]
        writer.emit(f"return {', '.join(results)}")
        return [line.text for line in without_unused(writer.lines)]

    def defines(self, name: str) -> set[str]:
        """What stands at the head of the lines of an operator's text."""
        return set(re.findall(r"^(?:def )?(\w+)(?=\(| =)", self.texts[name], re.M))

    def parts(self, namespace: str) -> list[str]:
        """What the operators need of the files of kernels, and then the operators."""
        operators = [text.replace("{namespace}", namespace) for text in self.texts.values()]
        if not operators:
            return []
        files = ("\n".join(piece.text for piece in pieces).strip("\n") for pieces in self._needed().values())
        return [MARK, *files, *operators]

    def _needed(self) -> dict[str, list[Piece]]:
        """The pieces that the operators read, or that those read: by file, each behind those that it uses."""
        known = set(_reads(ast.parse("\n".join(self.texts.values()))))
        every = [(name, piece) for name in _ordered() for piece in _pieces(name)]
        needed: set[Piece] = set()
        while more := {piece for _, piece in every if piece.names & known} - needed:
            needed |= more
            known.update(*(piece.reads for piece in more))
        found: dict[str, list[Piece]] = {}
        for name, piece in every:
            if piece in needed:
                found.setdefault(name, []).append(piece)
        return found

    @property
    def imports(self) -> list[ast.Import | ast.ImportFrom]:
        """What those pieces import."""
        needed = self._needed()
        known: set[str] = set().union(*(piece.reads for pieces in needed.values() for piece in pieces))
        nodes = (node for name in needed for node in _files()[name].body)
        found: list[ast.Import | ast.ImportFrom] = []
        for node in nodes:
            names = [a for a in node.names if a.name in known] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            if names and isinstance(node, ast.Import):
                found.append(ast.Import(names))
            elif names and isinstance(node, ast.ImportFrom) and node.level == 0 and node.module != "__future__":
                found.append(ast.ImportFrom(node.module, names, 0))
        return found


def number_names(region: Fused) -> list[str]:
    """What the twin calls the numbers of a region."""
    return [f"n{at}" for at in range(len(region.numbers))]


def number_arguments(region: Fused) -> list[str]:
    """Its numbers as the twin is given them."""
    pairs = zip(number_names(region), region.numbers, strict=True)
    return [f"{name}: {'int' if isinstance(number.value, int) else 'float'}" for name, number in pairs]


class TwinWriter(Writer):
    """Writes a function that computes a region in plain PyTorch, from tensors alone."""

    def __init__(self, needs: Needs, region: Fused) -> None:
        super().__init__(ClassNames({}), needs, _NoModule(), count_uses(region.steps, region.outputs), indent=4)
        self.functional = True
        self.weights: dict[Owned, str] = {}
        self.numbers = {n.sym: name for n, name in zip(region.numbers, number_names(region), strict=True)}
        self.factors: dict[int, str] = {}  # by the result of the operation
        order = family(region.family).order
        for tensor, name in zip(region.tensors, region.arguments, strict=True):
            self.taken.add(name)
            if isinstance(tensor, Owned):
                self.weights[tensor] = name
            elif isinstance(tensor, Drawn):
                self.factors[tensor.step.outputs[0].uid] = name
            else:
                self.values[tensor.uid] = Operand(name, tensor.type, order(region, tensor))
        self.anchor = next(n for t, n in zip(region.tensors, region.arguments, strict=True) if isinstance(t, Value))

    def weight(self, name: str) -> str:
        assert self.entry is not None
        return self.weights[Owned(self.entry, name)]

    def drawn(self, statement: Apply) -> tuple[Operand, ...]:
        value = statement.outputs[0]
        return (Operand(self.factors[value.uid], value.type, ("B",)),) if value.uid in self.factors else ()

    def number(self, value: Scalar | Dim | Sym) -> str:
        sym = value.sym if isinstance(value, (Scalar, Dim)) else value
        assert sym is not None, value
        if sym in self.numbers:
            return self.numbers[sym]
        if isinstance(value, Scalar) and isinstance(value.value, tuple):
            return super().number(value)
        return super().number(self._given(sym))

    def _given(self, sym: Sym) -> Sym:
        """The expression with names in the place of the numbers that are given."""
        if sym in self.numbers:
            return Var(self.numbers[sym])
        if isinstance(sym, Var) and sym.definition is not None:
            return self._given(sym.definition)
        return replace(sym, args=tuple(map(self._given, sym.args))) if isinstance(sym, SymApply) else sym

    def extent(self, x: Operand, axis: str) -> str:
        """The size of an axis; where builds may differ in it, as the tensor has it."""
        if axis in x.type and not isinstance(x.type[axis].dim.sym, Const):
            axes = (a.sized(Dim(a.size)) if a.name == axis else a for a in x.type.axes)
            x = replace(x, type=x.type.with_axes(axes))
        return super().extent(x, axis)

    def _variable(self, var: Var) -> str:
        if var.name in self.numbers.values():
            return var.name
        raise NotImplementedError(f"{var.name} varies from build to build: the region must be given it as a number")


class _NoModule:
    """Stands where a method asks for the modules of its class: a function has none."""

    checkpointed = False
    loop_children: tuple[Any, ...] = ()

    def entry(self, name: str | None) -> _Functional:
        return _Functional()

    def child_text(self, entry: str) -> str:
        return ""

    def comment(self, type: Any, span: Any) -> str:
        return ""


class _Functional:
    """An entry whose operation is written as a function of its weights."""

    functional = True


