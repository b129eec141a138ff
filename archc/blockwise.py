"""A network that is too large to be run twice: each of its distinct blocks alone against its meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from archc.backend.classes import Classes, Emitted
from archc.backend.module import emitted_classes
from archc.backend.python import class_name
from archc.contract import Contract
from archc.ir.graph import ChildEntry, ListEntry, Template, is_live
from archc.ir.program import Program
from archc.ir.sym import plain
from archc.ops.base import Weight
from archc.records import dataclass
from archc.trials import Sizes, Trial, random_inputs, trial
from archc.weights.keys import template_dict, values

# A block of more parameters than this is verified by the blocks that it is made of.
MOST_PARAMETERS = 100_000_000


@dataclass(frozen=True)
class Block:
    """A class of the file, with the arguments of its first use."""

    made: Emitted
    template: Template
    arguments: dict[str, Any]


def block_trials(
    program: Program, contract: Contract, module: ModuleType, sizes: Sizes, dtype: str
) -> tuple[tuple[Trial, ...], tuple[str, ...]]:
    """A trial for each distinct block, at the sizes that it has in the network; and the classes that were left out."""
    classes = emitted_classes(program, contract)
    chosen, left_out = _chosen(program, classes)
    return tuple(_trial(block, module, sizes, dtype) for block in chosen), left_out


def _chosen(program: Program, classes: Classes) -> tuple[list[Block], tuple[str, ...]]:
    """The largest blocks that are small enough; what contains them is left out."""
    chosen: dict[str, Block] = {}
    left_out: dict[str, None] = {class_name(program.model): None}

    def go(template: Template) -> None:
        for block in _blocks(template, classes):
            name = block.made.name
            if name in chosen or name in left_out:
                continue
            if _parameters(block) <= MOST_PARAMETERS and not block.made.outers:
                chosen[name] = block
            else:
                left_out[name] = None
                go(block.template)

    go(program.root)
    return list(chosen.values()), tuple(left_out)


def _blocks(template: Template, classes: Classes) -> Iterator[Block]:
    """The children of a template that are classes of their own, with their constructors' arguments."""
    known = values(template.parameters)
    for entry in template.entries:
        if not is_live(entry, known):
            continue
        for item in entry.items if isinstance(entry, ListEntry) else (entry,):
            while isinstance(item, ChildEntry) and item.template.unit is not None:
                item = item.template.unit  # a turn that is nothing but its child
            if not isinstance(item, ChildEntry):
                continue
            made = classes.of(item.template)
            given = {**known, **values(item.template.parameters), **{n: plain(v) for n, v in item.args}}
            yield Block(made, item.template, {name: given[name] for name in made.parameters})


def _weights(block: Block) -> dict[str, Weight]:
    return template_dict(block.template)


def _parameters(block: Block) -> int:
    return sum(w.elements for w in _weights(block).values() if w.kind == "param")


def _trial(block: Block, module: ModuleType, sizes: Sizes, dtype: str) -> Trial:
    import torch

    from archc.reference.interpreter import run_template
    from archc.reference.seeded import seeded

    made, template = block.made, block.template
    name = made.name
    weights = seeded(_weights(block))
    try:
        net = getattr(module, made.name)(**block.arguments).to(getattr(torch, dtype)).eval()
        net.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, ValueError) as error:
        return Trial(name, dict(sizes), failure=f"{type(error).__name__}: {error}")
    inputs = {v.name or f"x{at}": v for at, v in enumerate(template.inputs)}
    ours = _physical(net, made, template)

    def theirs(given: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
        results = run_template(template, held, list(given.values()), sizes)
        return {str(at): y for at, y in enumerate(results)}

    return trial(name, sizes, net, weights, random_inputs(inputs, sizes, template), ours, theirs, dtype)


def _physical(net: Any, made: Emitted, template: Template) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The class on tensors in the order of their types: it may want them, and give them, in another."""

    def run(given: dict[str, Any]) -> dict[str, Any]:
        signature = made.signature
        moved = [x.permute(order) for x, order in zip(given.values(), signature.inputs, strict=True)]
        result = net(*moved, *(0 for _ in made.counters))  # as in the first turn
        results = result if isinstance(result, tuple) else (result,)
        found = {}
        for at, (y, order, value) in enumerate(zip(results, signature.outputs, template.outputs, strict=True)):
            found[str(at)] = y.permute([order.index(axis) for axis in value.type.names])
        return found

    return run
