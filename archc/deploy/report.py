"""What was folded, what is left to do for each channel, and why: rows for people."""

from __future__ import annotations

from collections import Counter

from archc.deploy.decide import Decisions
from archc.deploy.flat import Flat, Node
from archc.deploy.roles import Affine, Total, Weighted
from archc.deploy.terms import ONE, ZERO, keys, placed
from archc.records import dataclass


@dataclass(frozen=True)
class Row:
    """`times` affine maps called `name` in a component; folded, or left because of `why`."""

    component: str
    name: str
    times: int
    why: str = ""


def rows(flat: Flat, found: Decisions) -> tuple[Row, ...]:
    """What has weights, in the order of the text; then the factors and shifts that took the place of others."""
    counts: Counter[tuple[str, str, str]] = Counter()
    told: set[tuple[str, int]] = set()  # weights that are used several times are told once
    for node in flat.nodes:
        if isinstance(node.role, Affine) and node.instance is not None and node.instance.live and _names(node):
            if (node.instance.prefix, id(node.statement)) in told:
                continue
            told.add((node.instance.prefix, id(node.statement)))
            why = "" if node.number in found.removed else _why(flat, found, node)
            counts[node.instance.template.name, ", ".join(_names(node)), why] += 1
    for (number, _), one in found.inserts.items():
        node = flat.nodes[number]
        if node.instance is not None and node.instance.live and node.statement is not None:
            parts = [part for part, idle in (("factor", one.scale == ONE), ("shift", one.shift == ZERO)) if not idle]
            name = f"a {' and a '.join(parts)} at `{node.statement.op.name}`"
            counts[node.instance.template.name, name, "in place of what could go no further"] += 1
    return tuple(Row(component, name, times, why) for (component, name, why), times in counts.items())


def _names(node: Node) -> list[str]:
    """What the weights of an affine operation are called in the text; nothing where it has none."""
    assert isinstance(node.role, Affine) and node.statement is not None
    found = {
        key: None for term in (node.role.scale, node.role.shift) for key in keys(placed(term, node.key, node.terms))
    }
    if node.key and found:
        return [(node.statement.entry or "").lstrip("^") or node.statement.op.name]
    return list(dict.fromkeys(key.rpartition(".")[2] for key in found))


def _why(flat: Flat, found: Decisions, node: Node) -> str:
    """Why an operation stays, by the first of its readers that cannot take it."""
    for number, _ in found.kept.get(node.number, ()):
        reader = flat.nodes[number]
        if reader.statement is None:
            return "it is a result, or a branch decides about it"
        name = f"`{reader.statement.op.name}`"
        if isinstance(reader.role, Weighted):
            if reader.role.inner is not None and reader.role.padded:
                return f"a shift does not pass the zeros that {name} pads with"
            return f"{name} reads it, with weights that are used elsewhere" if reader.role.inner else f"{name} reads it"
        if isinstance(reader.role, Total):
            return "a sum reads it, before which as much would be left"
        return f"{name} reads it, which is not linear in each channel"
    return "nothing takes it"
