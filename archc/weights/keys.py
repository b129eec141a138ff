"""The state dict of the module that a program becomes: every key and its weight, in torch's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any

from archc.ir.graph import ChildEntry, Entry, ListEntry, OpEntry, Template, WeightEntry, is_live
from archc.ir.program import Program
from archc.ir.sym import Scalar, plain
from archc.ops.base import Weight
from archc.records import dataclass


@dataclass
class Registered:
    """What one torch module registers, in order of registration."""

    params: dict[str, Weight] = field(default_factory=dict)
    buffers: dict[str, Weight] = field(default_factory=dict)
    children: dict[str, Registered] = field(default_factory=dict)
    shared: bool = False  # it stands in several places, and is complete

    def register(self, weight: Weight, name: str) -> None:
        # A table is a buffer that torch does not save.
        if weight.kind != "table":
            (self.params if weight.kind == "param" else self.buffers).setdefault(name, weight)

    def child(self, path: str) -> Registered:
        """The submodule at a dotted path, this one where the path is empty; made when it is not there."""
        module = self
        for name in path.split(".") if path else ():
            module = module.children.setdefault(name, Registered())
            assert not module.shared, f"{path} is one of several copies, and none may have more than the others"
        return module

    def items(self, prefix: str) -> Iterator[tuple[str, Weight]]:
        """torch's order: a module's own parameters, its buffers, then its children."""
        for name, weight in (*self.params.items(), *self.buffers.items()):
            yield prefix + name, weight
        for name, child in self.ordered():
            yield from child.items(f"{prefix}{name}.")

    def ordered(self) -> list[tuple[str, Registered]]:
        """The children by name; a list of modules is in the order of its indices, however its items were met."""
        numbered = all(name.isdigit() for name in self.children)
        return [(name, self.children[name]) for name in (sorted(self.children, key=int) if numbered else self.children)]


def state_dict(program: Program) -> dict[str, Weight]:
    """Every state-dict key of the program's module and the weight under it, in torch's order."""
    return template_dict(program.root)


def template_dict(template: Template) -> dict[str, Weight]:
    """The same for the module of one component."""
    return dict(registered(template).items(""))


def registered(template: Template) -> Registered:
    """The same as a tree of modules, in which copies are one."""
    module = Registered()
    _fill(module, template)
    return module


def values(parameters: tuple[tuple[str, Scalar], ...]) -> dict[str, Any]:
    """Compile-time parameters with their values in this build."""
    return {name: plain(value) for name, value in parameters}


def _fill(module: Registered, template: Template) -> None:
    known = values(template.parameters)
    for entry in template.entries:
        if is_live(entry, known):
            _add(module, entry)


def _add(module: Registered, entry: Entry) -> None:
    match entry:
        case WeightEntry(name=name, weight=weight):
            module.register(weight, name)
        case ListEntry(name=name, items=items):
            units: dict[int, Registered] = {}  # of copies, which register the same
            listed = module.child(name)
            for number, item in enumerate(items):
                alike = id(item.template) if isinstance(item, ChildEntry) else id(item)
                if alike in units and str(number) not in listed.children:
                    units[alike].shared = True
                    listed.children[str(number)] = units[alike]
                    continue
                units[alike] = listed.child(str(number))
                _add_unit(units[alike], item)
        case OpEntry(name=name) | ChildEntry(name=name):
            _add_unit(module.child(name), entry)


def _add_unit(module: Registered, unit: OpEntry | ChildEntry) -> None:
    """`unit` as the module itself: an item of a list has no name of its own."""
    if isinstance(unit, ChildEntry):
        _fill(module, unit.template)
        return
    for weight in unit.weights:
        module.register(weight, weight.name)
