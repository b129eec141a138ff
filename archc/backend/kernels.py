"""The text of fused operators: the functions of their kernels, their PyTorch twins, and one line that makes each.

Kernels stand in `codegen/kernels` as a module contains them; what is a region's own are small functions that those are
given.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archc.backend.kernel_files import needed
from archc.backend.layout import lay_out
from archc.backend.operand import Operand
from archc.backend.writer import ClassNames, Line, Writer, count_uses, without_unused
from archc.fusion.families import family
from archc.ir.graph import Apply, Drawn, Fused, Owned, Value
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Const, Scalar, Sym, Var
from archc.ir.types import Dim

if TYPE_CHECKING:
    from archc.backend.needs import Needs


# Kernels keep the layout in which they were written. Type checkers know neither their types nor whether triton is there.
MARK = """\
# Fused operators: each computes in one kernel, forward and backward, what its `..._torch` says in PyTorch, which runs where
# there is no GPU, no triton, or with ARCHC_KERNELS=0 in the environment.
# fmt: off
# pyright: reportInvalidTypeForm=false, reportOptionalMemberAccess=false, reportMissingImports=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false, reportCallIssue=false"""


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
            words = chosen.words(region.core, region.steps)
            base = "_".join(words) if len("_".join(words)) <= 40 else chosen.word(region.core)
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

    def parts(self, namespace: str) -> tuple[list[str], Sequence[ast.Import | ast.ImportFrom]]:
        """What the operators need of the files of kernels, and then the operators; and what that imports."""
        operators = [text.replace("{namespace}", namespace) for text in self.texts.values()]
        if not operators:
            return [], ()
        files = needed("\n".join(operators))
        return [MARK, *files.texts, *operators], files.imports


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


