"""The text of fused operators: the functions of their kernels, their PyTorch twins, and one line that makes each."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from archc.backend.layout import lay_out
from archc.backend.operand import Operand
from archc.fusion.cores import Stencil
from archc.fusion.epilogue import Epilogue
from archc.ir.graph import Apply, Fused, Value
from archc.resources import folder

if TYPE_CHECKING:
    from archc.backend.needs import Needs


@cache
def kernel_source(name: str) -> str:
    """The text of `codegen/kernels/NAME.py`."""
    return (folder("codegen") / "kernels" / f"{name}.py").read_text(encoding="utf-8")


class Kernels:
    """The fused operators of a file, each once."""

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        self.texts: dict[tuple[str, ...], str] = {}  # by what they are without their name
        self.families: dict[str, None] = {}

    def of(self, region: Fused) -> str:
        """The name of the operator for a region."""
        stencil = core_of(region)
        epilogue = Epilogue(region.steps[0], region.steps[1:], stencil.bias)
        twin = self._twin(region, stencil, epilogue)
        settings = f"kernel={stencil.kernel}, dilation={stencil.dilation}, bias={stencil.bias}"
        key = (region.family, settings, *epilogue.forward(), *twin)
        if key not in self.texts:
            self.families[region.family] = None
            name = self._name(region, stencil)
            self.texts[key] = name
            self.needs.fused[name] = self._text(name, region, epilogue, twin, settings)
        return self.texts[key]

    def _name(self, region: Fused, stencil: Stencil) -> str:
        words = [f"depthwise{stencil.kernel}"]
        words += [f"dilated{stencil.dilation}"] if stencil.dilation > 1 else []
        base = "_".join([*words, *(s.op.name for s in region.steps[1:])])
        taken = set(self.texts.values())
        return next(n for n in (base, *(f"{base}_{i}" for i in range(2, 1000))) if n not in taken)

    def _text(self, name: str, region: Fused, epilogue: Epilogue, twin: list[str], settings: str) -> str:
        what = ", then ".join(s.op.name for s in region.steps)
        arguments = "acc, operands, o_y, o_c, m_y, m_c"
        lines = ["@jit", f"def {name}_epilogue({arguments}):", *(f"    {line}" for line in epilogue.forward()), "", ""]
        lines += ["@jit", f"def {name}_gradient({arguments}):", *(f"    {line}" for line in epilogue.backward()), "", ""]
        maps = [f"m{i}" for i in range(len(epilogue.maps))]
        given = ["x", "weight", *(["bias"] if epilogue.bias else []), *maps]
        lines += [f"def {name}_torch({', '.join(f'{g}: Tensor' for g in given)}) -> Tensor:", f'    """{what}"""']
        lines += [*(text for line in twin for text in lay_out(4, line)), "", ""]
        made = f'{name} = Strip("{{namespace}}::{name}", {name}_torch, {name}_epilogue, {name}_gradient, {settings})'
        return "\n".join([*lines, *lay_out(0, made)])

    def _twin(self, region: Fused, stencil: Stencil, epilogue: Epilogue) -> list[str]:
        """The body of the function that computes the same in plain PyTorch."""
        from archc.backend.writer import ClassNames, Writer, count_uses

        core, *chain = region.steps
        order = order_of(region)
        pad, parts = stencil.dilation * (stencil.kernel // 2), ["x", "weight"]
        parts += ["bias"] if stencil.bias else ["None"]
        parts += [f"padding={pad}"] + ([f"dilation={stencil.dilation}"] if stencil.dilation > 1 else [])
        writer = Writer(ClassNames({}), self.needs, _NoModule(), count_uses(tuple(chain), region.outputs), indent=4)
        first = core.outputs[0]
        writer.values[first.uid] = Operand(f"F.conv2d({', '.join(parts)}, groups=x.shape[1])", first.type, order)
        for at, value in enumerate(epilogue.maps):
            writer.values[value.uid] = Operand(f"m{at}", value.type, order)
        writer.write(tuple(chain))
        writer.emit(f"return {writer.operand(region.outputs[0]).to(order).text}")
        return [line.text for line in writer.lines]


class _NoModule:
    """Stands where a method asks for the modules of its class: a function has none."""

    checkpointed = False
    loop_children: tuple[Any, ...] = ()

    def entry(self, name: str | None) -> None:
        return None

    def child_text(self, entry: str) -> str:
        return ""

    def comment(self, type: Any, span: Any) -> str:
        return ""


def core_of(region: Fused) -> Stencil:
    first = region.steps[0]
    core = first.op.core(*(v.type for v in first.inputs if isinstance(v, Value)))
    assert core is not None
    return core


def order_of(region: Fused) -> tuple[str, ...]:
    """The order of axes in which the operator takes its maps: batch, channels, rows, columns."""
    axes = core_of(region).axes
    (channels,) = (n for n in region.outputs[0].type.names if n != "B" and n not in axes)
    return ("B", channels, *axes)
