"""The written file, read again: what its model registers, derived from the text alone.

Nothing is run and torch is not imported. Names and shapes of parameters follow from the constructors in the text and
from torch's documented signatures, which is another way to them than the graph that the text was written from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from math import prod
from typing import Any

from archc.backend.evaluator import RereadError
from archc.backend.registered import Modules
from archc.backend.torch_shapes import Body, Module, Rows, Shape
from archc.ir.program import Program
from archc.records import dataclass
from archc.weights.keys import Registered, registered

__all__ = ["Reread", "RereadError", "compare", "reread"]

SHOWN = 20


@dataclass(frozen=True)
class Reread:
    """Shapes by state-dict name in torch's order."""

    body: Body

    @cached_property
    def rows(self) -> Rows:
        return self.body.rows()

    @cached_property
    def parameters(self) -> dict[str, Shape]:
        return self._of("param")

    @cached_property
    def buffers(self) -> dict[str, Shape]:
        return self._of("buffer")

    @cached_property
    def tables(self) -> dict[str, Shape]:
        """Buffers that no state dict holds."""
        return self._of("table")

    def _of(self, wanted: str) -> dict[str, Shape]:
        return {name: shape for name, kind, shape in self.rows if kind == wanted}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The keys of the state dict."""
        return tuple(name for name, kind, _ in self.rows if kind != "table")

    @property
    def attributes(self) -> dict[str, Any]:
        """The model's own numbers, strings and lists."""
        return {name: value for name, value in self.body.attributes.items() if _is_plain(value)}

    @cached_property
    def tensors(self) -> dict[str, int]:
        """How many tensors there are of each kind."""
        found = Counter[str]()
        for (kind, _), times in self.body.shapes().items():
            found[kind] += times
        return found

    @property
    def count(self) -> int:
        """The number of parameters."""
        return sum(times * prod(shape) for (kind, shape), times in self.body.shapes().items() if kind == "param")


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
    return Reread(made.body)


def compare(program: Program, found: Reread) -> list[str]:
    """Where the file and the graph differ in their state dict: names, shapes, kinds and order; nothing if they agree."""
    graph, forms = registered(program.root), _Forms()
    if forms.of_graph(graph) == forms.of_file(found.body):
        return []
    wanted = dict(graph.items(""))
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


class _Forms:
    """A number for what a module registers: names, kinds and shapes, in order. 0 is nothing at all.

    Modules of one number have the same rows of a state dict. Copies are looked at once, whether of the graph or of
    the file.
    """

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {((), ()): 0}
        self.known: dict[int, int] = {}  # by identity of the module

    def of_graph(self, module: Registered) -> int:
        if id(module) not in self.known:
            weights = (*module.params.items(), *module.buffers.items())
            own = tuple((name, weight.kind, tuple(weight.shape)) for name, weight in weights)
            children = [(name, self.of_graph(child)) for name, child in module.ordered()]
            self.known[id(module)] = self._number(own, children)
        return self.known[id(module)]

    def of_file(self, body: Body) -> int:
        body = body.registered
        if id(body) not in self.known:
            own = tuple(row for row in body.own() if row[1] != "table")
            children = [(name, self.of_file(child.body)) for name, child in body.children.items()]
            self.known[id(body)] = self._number(own, children)
        return self.known[id(body)]

    def _number(self, own: tuple[Any, ...], children: list[tuple[str, int]]) -> int:
        form = own, tuple((name, number) for name, number in children if number)
        return self.numbers.setdefault(form, len(self.numbers))


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return value is None or isinstance(value, (int, float, str))
