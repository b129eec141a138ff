"""The written file, read again: what its model registers, derived from the text alone.

Nothing is run and torch is not imported. Names and shapes of parameters follow from the constructors in the text and
from torch's documented signatures, which is another way to them than the graph that the text was written from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archc.backend.evaluator import RereadError
from archc.backend.registered import Modules
from archc.backend.torch_shapes import Module, Shape
from archc.ir.program import Program
from archc.records import dataclass
from archc.weights.keys import state_dict

__all__ = ["Reread", "RereadError", "compare", "reread"]

SHOWN = 20


@dataclass(frozen=True)
class Reread:
    """Shapes by state-dict name in torch's order. `tables` are buffers that no state dict holds; `attributes` are
    the model's own numbers, strings and lists."""

    parameters: dict[str, Shape]
    buffers: dict[str, Shape]
    tables: dict[str, Shape]
    names: tuple[str, ...]
    attributes: dict[str, Any]

    @property
    def count(self) -> int:
        """The number of parameters."""
        return sum(_elements(shape) for shape in self.parameters.values())


def reread(text: str, factory: str, arguments: Mapping[str, Any] | None = None) -> Reread:
    """What `factory(**arguments)` of a generated file registers.

    Raises RereadError, with the line, for anything that is not understood: then nothing is proved.
    """
    try:
        modules = Modules(text)
        if factory not in modules.names:
            raise RereadError(f"the file has no `{factory}`")
        made = modules.call(modules.names[factory], (), dict(arguments or {}))
    except RecursionError:
        raise RereadError("the text is nested too deeply") from None
    if not isinstance(made, Module):
        raise RereadError(f"`{factory}` makes no module")
    found: dict[str, dict[str, Shape]] = {"param": {}, "buffer": {}, "table": {}}
    rows = made.body.rows()
    for name, kind, shape in rows:
        found[kind][name] = shape
    attributes = {name: value for name, value in made.body.attributes.items() if _is_plain(value)}
    names = tuple(name for name, kind, _ in rows if kind != "table")
    return Reread(found["param"], found["buffer"], found["table"], names, attributes)


def compare(program: Program, found: Reread) -> list[str]:
    """Where the file and the graph differ in their state dict: names, shapes, kinds and order; nothing if they agree."""
    wanted = state_dict(program)
    differences: list[str] = []
    for name, weight in wanted.items():
        is_parameter = weight.kind == "param"
        held, other = (found.parameters, found.buffers) if is_parameter else (found.buffers, found.parameters)
        if name in held:
            if held[name] != weight.shape:
                differences.append(f"{name} is {list(held[name])} in the file and {list(weight.shape)} in the graph")
        elif name in other:
            differences.append(f"{name} is {'no ' if is_parameter else 'a '}parameter in the file")
        else:
            differences.append(f"{name} is missing in the file")
    differences += [f"{name} is not in the graph" for name in found.names if name not in wanted]
    if not differences and found.names != tuple(wanted):
        first = next(pair for pair in zip(found.names, wanted, strict=True) if pair[0] != pair[1])
        differences.append(f"the order differs: {first[0]} in the file where the graph has {first[1]}")
    if len(differences) > SHOWN:
        differences = [*differences[:SHOWN], f"... and {len(differences) - SHOWN} more"]
    return differences


def _elements(shape: Shape) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return value is None or isinstance(value, (int, float, str))
