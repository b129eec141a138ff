"""A template as a flow of data: its steps in order, and the same as a networkx graph.

Analyses walk `steps`, which leaves nothing but operations, calls and other names for a tensor. The graph has
a node for every value and every statement, an edge for every definition and use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from archc.ir.graph import (
    Apply,
    Assign,
    Branch,
    Call,
    Fused,
    Merge,
    Operand,
    Relabel,
    Repeat,
    Statement,
    Template,
    Value,
)
from archc.records import dataclass

if TYPE_CHECKING:
    import networkx

Node = tuple[str, int]  # ("value", uid), ("statement", number in the text)


@dataclass(frozen=True)
class Same:
    """`target` is the tensor `source` under another name."""

    source: Value
    target: Value


@dataclass(frozen=True)
class Turn:
    """Turn number `number` of a loop: the call, and the loop it belongs to."""

    call: Call
    loop: Repeat
    number: int


Step = Apply | Fused | Call | Turn | Same


def steps(body: Sequence[Statement | Step], holds: Callable[[Branch], bool]) -> Iterator[Step]:
    """What runs, in order; `holds` decides the branches that the sizes of the inputs decide."""
    return (step for step in steps_and_names(body, holds) if not isinstance(step, Assign))


def steps_and_names(
    body: Sequence[Statement | Step], holds: Callable[[Branch], bool]
) -> Iterator[Step | Assign]:
    """`steps`, and between them the names that the author gives."""
    for statement in body:
        match statement:
            case Apply() | Fused() | Call() | Turn() | Same() | Assign():
                yield statement
            case Relabel(source, target):
                yield Same(source, target)
            case Repeat(turns=turns):
                for number, call in enumerate(turns):
                    yield Turn(call, statement, number)
            case Branch(taken=taken, then=then, otherwise=otherwise, merges=merges):
                chosen = holds(statement) if taken is None else taken
                yield from steps_and_names((then if chosen else otherwise) or (), holds)
                for merge in merges:
                    source = merge.then if chosen else merge.otherwise
                    if source is not None:
                        yield Same(source, merge.result)


def reads(step: Step) -> tuple[Value, ...]:
    """The tensors that a step reads."""
    if isinstance(step, Same):
        return (step.source,)
    return tuple(values((step.call if isinstance(step, Turn) else step).inputs))


def makes(step: Step) -> tuple[Value, ...]:
    """The tensors that a step makes."""
    if isinstance(step, Same):
        return (step.target,)
    return (step.call if isinstance(step, Turn) else step).outputs


def needed(found: Iterable[Step], wanted: Iterable[Value]) -> tuple[Step, ...]:
    """The steps that `wanted` values need, in order."""
    uids = {value.uid for value in wanted}
    kept = []
    for step in reversed(list(found)):
        if any(value.uid in uids for value in makes(step)):
            uids |= {value.uid for value in reads(step)}
            kept.append(step)
    return tuple(reversed(kept))


def values(operands: tuple[Operand, ...]) -> Iterator[Value]:
    """The tensors among operands, lists taken apart."""
    for operand in operands:
        if isinstance(operand, Value):
            yield operand
        elif operand is not None:
            yield from operand


def single(found: Iterable[Step]) -> Iterator[Apply | Call | Turn | Same]:
    """The steps with the operations of a fused region one by one."""
    for step in found:
        yield from step.steps if isinstance(step, Fused) else (step,)


def parts(
    body: tuple[Statement, ...],
) -> Iterator[tuple[Apply | Fused | Call | Relabel | Merge, tuple[Value, ...], tuple[Value, ...]]]:
    """Every statement that makes values, with what it reads and makes; both arms of a branch, all turns."""
    for statement in body:
        match statement:
            case Apply(inputs=inputs, outputs=outputs) | Call(inputs=inputs, outputs=outputs):
                yield statement, tuple(values(inputs)), outputs
            case Fused(inputs=inputs, outputs=outputs):
                yield statement, inputs, outputs
            case Relabel(source, target):
                yield statement, (source,), (target,)
            case Repeat(turns=turns):
                yield from parts(turns)
            case Branch(then=then, otherwise=otherwise, merges=merges):
                yield from parts((then or ()) + (otherwise or ()))
                for merge in merges:
                    yield (
                        merge,
                        tuple(v for v in (merge.then, merge.otherwise) if v is not None),
                        (merge.result,),
                    )
            case Assign():
                pass


def dataflow(template: Template) -> networkx.MultiDiGraph:
    """The graph of a template: nodes have `value` or `statement`, uses have `operand`, the place among the
    operands.

    Results of the template have the attribute `output`, the place among its results.
    """
    import networkx

    graph = networkx.MultiDiGraph(name=template.name)
    for value in template.inputs:
        graph.add_node(("value", value.uid), value=value)
    for number, (statement, reads, makes) in enumerate(parts(template.body)):
        node: Node = ("statement", number)
        graph.add_node(node, statement=statement)
        for place, value in enumerate(reads):
            graph.add_node(("value", value.uid), value=value)
            graph.add_edge(("value", value.uid), node, operand=place)
        for value in makes:
            graph.add_node(("value", value.uid), value=value)
            graph.add_edge(node, ("value", value.uid))
    for place, value in enumerate(template.outputs):
        graph.add_node(("value", value.uid), value=value, output=place)
    return graph


def dead(template: Template) -> tuple[Apply | Fused | Call | Relabel | Merge, ...]:
    """The statements whose results reach no result of the template, in the order of the text."""
    import networkx

    graph = dataflow(template)
    live: set[Node] = set()
    for value in template.outputs:
        live |= networkx.ancestors(graph, ("value", value.uid))
    found = [node for node in graph if node[0] == "statement" and node not in live]
    return tuple(graph.nodes[node]["statement"] for node in sorted(found, key=lambda node: node[1]))
