"""The text of fused operators: the functions of their kernels, their PyTorch twins, and one line that makes each."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from archc.backend.layout import lay_out
from archc.backend.operand import Operand
from archc.fusion.epilogue import Epilogue
from archc.fusion.families import FAMILIES
from archc.ir.graph import Fused
from archc.resources import folder

if TYPE_CHECKING:
    from archc.backend.needs import Needs


@cache
def kernel_source(name: str) -> str:
    """The text of `codegen/kernels/NAME.py`."""
    return (folder("codegen") / "kernels" / f"{name}.py").read_text(encoding="utf-8")


def order_of(region: Fused) -> tuple[str, ...]:
    """The order of axes in which the operator of a region takes its maps and gives its result."""
    return FAMILIES[type(region.core)].axes(region.core, region.outputs[0].type.names)


class Kernels:
    """The fused operators of a file, each once."""

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        self.names: dict[tuple[str, ...], str] = {}  # by what an operator is without its name
        self.texts: dict[str, str] = {}
        self.families: dict[str, None] = {}

    def of(self, region: Fused) -> str:
        """The name of the operator for a region."""
        epilogue, twin = Epilogue(region), self._twin(region)
        settings = FAMILIES[type(region.core)].settings(region.core)
        key = (settings, *epilogue.forward(), *twin)
        if key not in self.names:
            family = FAMILIES[type(region.core)]
            base = "_".join([family.word(region.core), *(step.op.name for step in region.steps[1:])])
            name = next(n for n in (base, *(f"{base}_{i}" for i in range(2, 1000))) if n not in self.texts)
            self.names[key] = name
            self.families[family.name] = None
            self.texts[name] = self._text(name, region, epilogue, twin, settings)
        return self.names[key]

    def _text(self, name: str, region: Fused, epilogue: Epilogue, twin: list[str], settings: str) -> str:
        what = ", then ".join(step.op.name for step in region.steps)
        lines: list[str] = []
        for kind, body in (("epilogue", epilogue.forward()), ("gradient", epilogue.backward())):
            head = f"def {name}_{kind}(acc, operands, o_y, o_c, m_y, m_c):"
            lines += ["@jit", head, *(f"    {line}" for line in body), "", ""]
        given = ["x", "weight", *(["bias"] if region.core.bias else []), *epilogue.arguments]
        head = f"def {name}_torch({', '.join(f'{g}: Tensor' for g in given)}) -> Tensor:"
        lines += [*lay_out(0, head), f'    """{what}"""', *(text for line in twin for text in lay_out(4, line)), "", ""]
        functions = f"{name}_torch, {name}_epilogue, {name}_gradient"
        operator = FAMILIES[type(region.core)].operator
        return "\n".join([*lines, *lay_out(0, f'{name} = {operator}("{{namespace}}::{name}", {functions}, {settings})')])

    def _twin(self, region: Fused) -> list[str]:
        """The body of the function that computes the same in plain PyTorch."""
        from archc.backend.writer import ClassNames, Writer, count_uses

        order, chain = order_of(region), region.steps[1:]
        writer = Writer(ClassNames({}), self.needs, _NoModule(), count_uses(chain, region.outputs), indent=4)
        first = region.steps[0].outputs[0]
        writer.values[first.uid] = Operand(FAMILIES[type(region.core)].twin(region.core), first.type, order)
        for at, value in enumerate(region.inputs[1:]):
            writer.values[value.uid] = Operand(f"m{at}", value.type, order)
        writer.write(chain)
        writer.emit(f"return {writer.operand(region.outputs[0]).to(order).text}")
        return [line.text for line in writer.lines]

    def texts_of_file(self, namespace: str, without_imports: Any) -> list[str]:
        """What all fused operators need, and then each of them."""
        if not self.texts:
            return []
        words = " ".join(self.texts.values())
        shared = ["fused", *(name for name in ("gelu",) if f"{name}(" in words), *self.families]
        return [
            *(without_imports(kernel_source(name)) for name in shared),
            *(text.replace("{namespace}", namespace) for text in self.texts.values()),
        ]


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
