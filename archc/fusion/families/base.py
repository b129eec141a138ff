"""What a family of kernels is asked, and what those that are built around one linear core share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archc.fusion.cost import Work, of_region
from archc.fusion.epilogue import Epilogue
from archc.fusion.view import Found, Refused, View
from archc.ir.dataflow import values
from archc.ir.graph import Apply, Fused, Value
from archc.ir.sym import Const, Scalar

if TYPE_CHECKING:
    from archc.analysis.setting import Setting
    from archc.backend.kernels import TwinWriter


class Family:
    """`name` is that of its file of kernels, `operator` that of the class in it; it takes the cores of the classes
    `cores`. Families of smaller `rank` choose first."""

    name: ClassVar[str]
    operator: ClassVar[str]
    cores: ClassVar[tuple[type[Any], ...]]
    rank: ClassVar[int] = 0

    def find(self, view: View, place: int, core: Any) -> Found | Refused | None:
        """What it computes together around the operation at `place`, or why it leaves that to the library."""
        raise NotImplementedError

    def word(self, core: Any) -> str:
        """The core in a word, for the name of the operator."""
        raise NotImplementedError

    def operator_of(self, region: Fused) -> str:
        """The class of operators that computes it."""
        return self.operator

    def order(self, region: Fused, value: Value) -> tuple[str, ...]:
        """The order of axes in which the operator takes `value`, or gives it as a result."""
        raise NotImplementedError

    def functions(self, name: str, region: Fused) -> dict[str, list[str]]:
        """The functions of the kernels that are the region's own: the text of each by its name, in the order in which
        the operator is made with them."""
        return {}

    def settings(self, region: Fused) -> list[str]:
        """The keyword arguments with which the operator is made."""
        return []

    def work(self, region: Fused, setting: Setting) -> Work:
        """What its kernel does in a forward pass, at the sizes and element type of `setting`."""
        return of_region(region, setting)

    def extra_flops(self, region: Fused, setting: Setting) -> int:
        """How many FLOPs its kernel carries out in a forward pass besides those of the operations: on padding, or again."""
        return 0

    def twin(self, region: Fused, writer: TwinWriter) -> None:
        """Writes what the operator computes in plain PyTorch, up to the results."""
        writer.write(region.steps)


class LinearFamily(Family):
    """A core with one map, weights and maybe a bias, and pointwise operations behind it."""

    def refuses(self, core: Any, followers: int) -> str:
        """Why a library is as good for the core with so many operations behind it; empty where it is not."""
        return ""

    def find(self, view: View, place: int, core: Any) -> Found | Refused | None:
        owned = view.weights(place)
        if owned is None:
            return Refused((place,), "its weights are not in a module of their own")
        places = (place, *view.chain(place, follows))
        why = self.refuses(core, len(places) - 1)
        if why:
            return Refused(places, why)
        steps = [view.step(p) for p in places]
        made = {step.outputs[0].uid for step in steps}
        (source,) = values(steps[0].inputs)
        maps = {v.uid: v for step in steps[1:] for v in values(step.inputs) if v.uid not in made}
        tensors = (source, *owned, *maps.values())
        arguments = ("x", *(weight.name for weight in owned), *(f"m{at}" for at in range(len(maps))))
        return Found(core, places, tensors, arguments, varying(steps[1:]))

    def functions(self, name: str, region: Fused) -> dict[str, list[str]]:
        epilogue = Epilogue(region)
        head = "(acc, operands, numbers, o_y, o_c, m_y, m_c):"
        return {
            f"{name}_epilogue": [f"def {name}_epilogue{head}", *(f"    {line}" for line in epilogue.forward())],
            f"{name}_gradient": [f"def {name}_gradient{head}", *(f"    {line}" for line in epilogue.backward())],
        }


def varying(steps: Sequence[Apply]) -> tuple[Scalar, ...]:
    """The numbers of some operations that builds of one text may differ in: a kernel is given them."""
    found = {n.sym: n for step in steps for n in step.op.numbers if not isinstance(n.sym, Const)}
    return tuple(found.values())


def follows(step: Apply, last: Value) -> bool:
    """Whether an operation works element by element on `last` and on maps of the same axes and sizes."""
    sizes = [(a.name, a.size) for a in last.type.axes]
    return (
        step.op.follows
        and len(step.outputs) == 1
        and all([(a.name, a.size) for a in v.type.axes] == sizes for v in values(step.inputs))
    )
