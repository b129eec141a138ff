"""What is folded into what: the decisions of the pass, on the flow of tensors that `archc.deploy.flat` makes.

Every affine operation (`Affine`) is first lifted off the graph: what reads its result reads its operand instead, and the
affine stands on that edge. What all edges of a tensor begin with then moves against the flow, into the operation that makes
the tensor (`Weighted`), or through it (`Total`, `Through`) to the edges before it. What stays on an edge is taken by the
operation that reads it, if it is linear in its operand. What nobody takes goes back to where it was, or becomes a factor
and a shift on the edge if that leaves less to do. An edge through which means are taken (`Through`) may also hand on
what stands on it to the edges behind.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import field, replace
from typing import Any

from archc.deploy.flat import Flat, Instance, Node, operand_of
from archc.deploy.roles import Affine, Through, Total, Weighted
from archc.deploy.terms import ONE, ZERO, Number, Term, placed
from archc.ir.types import TensorType
from archc.records import dataclass
from archc.sizes import Size

Edge = tuple[int, int]  # the number of the node that reads, and the place among its operands


@dataclass(frozen=True)
class Atom:
    """scale * x + shift along axis number `axis` (None: the same for all). `node` is the operation that it was."""

    axis: int | None
    scale: Term
    shift: Term
    node: int = field(default=-1, compare=False)


Atoms = tuple[Atom, ...]


def composed(atoms: Iterable[Atom]) -> tuple[Term, Term]:
    """Scale and shift of one after the other."""
    scale, shift = ONE, ZERO
    for atom in atoms:
        scale, shift = atom.scale * scale, atom.scale * shift + atom.shift
    return scale, shift


def same_axis(atoms: Iterable[Atom]) -> bool:
    return len({atom.axis for atom in atoms} - {None}) <= 1


@dataclass(frozen=True)
class Insert:
    """What is put on an edge."""

    axis: int | None
    scale: Term
    shift: Term


@dataclass
class Decisions:
    """By numbers of nodes. `removed` operations become their operand at that place; `before` and `behind` are taken into
    weights; `kept` affine operations stay, each with the edges that want it."""

    removed: dict[int, int] = field(default_factory=dict)
    before: dict[int, Atoms] = field(default_factory=dict)
    behind: dict[int, Atoms] = field(default_factory=dict)
    inserts: dict[Edge, Insert] = field(default_factory=dict)
    kept: dict[int, list[Edge]] = field(default_factory=dict)


def decide(flat: Flat) -> Decisions:
    """What is folded. Where weights or a component are used several times, all uses decide the same, or none of them."""
    blocked: set[Any] = set()
    while True:
        plan = _Plan(flat, blocked)
        found = plan.decisions()
        conflicts = _conflicts(flat, found) - blocked
        if not conflicts:
            return found
        blocked |= conflicts


def biased(node: Node, found: Decisions) -> bool:
    """Whether an operation has a bias in every build now, because a shift is in it."""
    if not isinstance(node.role, Weighted) or node.role.biased is None:
        return False
    atoms = found.before.get(node.number, ()) + found.behind.get(node.number, ())
    return any(atom.shift != ZERO for atom in atoms)


def change(node: Node, found: Decisions) -> tuple[Any, ...]:
    """What is done to the text of an operation."""
    inserts = tuple(
        (place, made.axis, made.scale != ONE, made.shift != ZERO)
        for place in range(len(node.inputs))
        if (made := found.inserts.get((node.number, place))) is not None
    )
    return found.removed.get(node.number), biased(node, found), inserts


def _conflicts(flat: Flat, found: Decisions) -> set[Any]:
    """Keys and instances that are used several times, and decided differently."""
    by_key: dict[str, set[Any]] = defaultdict(set)
    by_place: dict[Any, set[Any]] = defaultdict(set)
    for node in flat.nodes:
        if isinstance(node.role, Weighted) and node.instance is not None and node.instance.live:
            by_key[node.key].add((found.before.get(node.number, ()), found.behind.get(node.number, ())))
    for instance in flat.instances:
        changes = tuple(
            (change(node, found), _terms(node, found)) for node in instance.nodes.values() if node.number >= 0
        )
        by_place[_site(instance)].add(changes)
    return {place for table in (by_key, by_place) for place, ways in table.items() if len(ways) > 1}


def _terms(node: Node, found: Decisions) -> tuple[Insert | None, ...]:
    return tuple(found.inserts.get((node.number, place)) for place in range(len(node.inputs)))


def _site(instance: Instance) -> Any:
    return instance.prefix, id(instance.template)


class _Plan:
    def __init__(self, flat: Flat, blocked: set[Any]) -> None:
        self.flat, self.blocked = flat, blocked
        self.base: dict[int, tuple[int, Atoms]] = {}  # of the results of affine operations
        self.edges: dict[Edge, tuple[int, Atoms]] = {}
        self.readers: dict[int, list[Edge]] = defaultdict(list)
        self.behind: dict[int, Atoms] = {}
        self.affine: dict[int, int] = {}  # the operand of each affine operation
        self.journal: list[Callable[[], None]] = []
        for node in flat.nodes:
            self._lift(node)
        self.original = dict(self.edges)

    # ---- affine operations onto edges

    def _lift(self, node: Node) -> None:
        role = self.role(node)
        if isinstance(role, Affine) and node.statement is not None:
            tensor, atoms = self.base.get(node.inputs[role.operand], (node.inputs[role.operand], ()))
            operand = operand_of(node.statement.inputs, role.operand)
            axis = None if role.axis is None else operand.type.names.index(role.axis)
            scale, shift = (placed(term, node.key, node.terms) for term in (role.scale, role.shift))
            atom = Atom(axis, scale, shift, node.number)
            real = {"float"} == {operand.type.dtype, node.statement.outputs[0].type.dtype}
            if real and same_axis((*atoms, atom)) and node.outputs[0] not in self.flat.terms:
                idle = scale == ONE and shift == ZERO
                self.base[node.outputs[0]] = tensor, atoms if idle else (*atoms, atom)
                self.affine[node.number] = role.operand
                return
        for place, read in enumerate(node.inputs):
            tensor, atoms = self.base.get(read, (read, ()))
            self.edges[node.number, place] = tensor, atoms
            self.readers[tensor].append((node.number, place))

    def role(self, node: Node) -> Any:
        if node.instance is None or node.key in self.blocked or _site(node.instance) in self.blocked:
            return None
        return node.role

    def node(self, edge: Edge) -> Node:
        return self.flat.nodes[edge[0]]

    # ---- who takes what

    def takes_behind(self, node: Node, atoms: Atoms) -> bool:
        """Whether weights can be changed so that the result is scaled and shifted."""
        role = self.role(node)
        if not isinstance(role, Weighted) or node.statement is None:
            return False
        axis = node.statement.outputs[0].type.names.index(role.axis)
        return all(atom.axis in (None, axis) and (atom.shift == ZERO or role.shifts) for atom in atoms)

    def takes_before(self, edge: Edge, atoms: Atoms) -> bool:
        """Whether weights can be changed so that the operand is scaled and shifted."""
        node = self.node(edge)
        role = self.role(node)
        if not isinstance(role, Weighted) or role.inner is None or node.statement is None:
            return False
        axis = operand_of(node.statement.inputs, edge[1]).type.names.index(role.axis)
        shifts = role.shifts and not role.padded
        return all(atom.axis in (None, axis) and (atom.shift == ZERO or shifts) for atom in atoms)

    def common(self, tensor: int) -> Atoms:
        """What all edges of a tensor begin with."""
        first, *rest = (self.edges[edge][1] for edge in self.readers[tensor])
        length = len(first)
        for atoms in rest:
            length = min(length, len(atoms))
            while first[:length] != atoms[:length]:
                length -= 1
        return first[:length]

    # ---- moving, and moving back

    def set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        old = table.get(key)
        self.journal.append((lambda: table.pop(key)) if old is None else (lambda: table.update({key: old})))
        table[key] = value

    def rewind(self, mark: int) -> None:
        while len(self.journal) > mark:
            self.journal.pop()()

    def strip(self, tensor: int, count: int) -> None:
        for edge in self.readers[tensor]:
            self.set(self.edges, edge, (tensor, self.edges[edge][1][count:]))

    def append(self, edge: Edge, atom: Atom) -> bool:
        tensor, atoms = self.edges[edge]
        self.set(self.edges, edge, (tensor, (*atoms, atom)))
        return same_axis((*atoms, atom))

    def back(self, tensor: int) -> tuple[int, ...] | None:
        """Moves what all edges of a tensor begin with into or before the operation that makes it. Gives the tensors on
        whose edges it then stands, None where nothing can be moved."""
        maker, atoms = self.flat.maker.get(tensor), self.common(tensor)
        if maker is None or not atoms:
            return None
        if isinstance(self.role(maker), Weighted):
            while not self.takes_behind(maker, atoms):
                atoms = atoms[:-1]
            self.set(self.behind, maker.number, self.behind.get(maker.number, ()) + atoms)
            self.strip(tensor, len(atoms))
            return ()
        placed_atoms = self._before(maker, atoms)
        if placed_atoms is None:
            return None
        self.strip(tensor, len(atoms))
        for place, atom in placed_atoms.items():
            if not self.append((maker.number, place), atom):
                return None
        return tuple({self.edges[maker.number, place][0] for place in placed_atoms})

    def _before(self, maker: Node, atoms: Atoms) -> dict[int, Atom] | None:
        """What `atoms` behind an operation are before it, by the place of the operand."""
        role, statement = self.role(maker), maker.statement
        if not isinstance(role, (Total, Through)) or statement is None:
            return None
        scale, shift = composed(atoms)
        axis = next((atom.axis for atom in atoms if atom.axis is not None), None)
        name = None if axis is None else statement.outputs[0].type.names[axis]
        if isinstance(role, Through):
            kind = operand_of(statement.inputs, role.operand).type
            if (name is not None and name not in role.axes) or (shift != ZERO and not role.means):
                return None
            return {role.operand: Atom(None if name is None else kind.names.index(name), scale, shift)}
        kinds = [operand_of(statement.inputs, place).type for place in range(len(role.signs))]
        if any(kind.dtype != "float" or (name is not None and name not in kind) for kind in kinds):
            return None
        taker = next((place for place in range(len(kinds)) if self._sheds(maker, place)), 0)
        return {
            place: Atom(
                None if name is None else kind.names.index(name),
                scale,
                ZERO if place != taker else signed(role.signs[place], shift),
            )
            for place, kind in enumerate(kinds)
        }

    def _sheds(self, total: Node, place: int) -> bool:
        """Whether an operand of a sum comes from weights that can take a shift."""
        tensor, atoms = self.edges[total.number, place]
        maker = self.flat.maker.get(tensor)
        if maker is None or len(self.readers[tensor]) != 1:
            return False
        return self.takes_behind(maker, (*atoms, Atom(None, ONE, Number(1))))

    def push(self, tensor: int) -> set[int]:
        """Moves back as far as it goes, and gives all tensors whose edges are others then."""
        affected, todo = {tensor}, [-tensor]
        while todo:
            one = -heapq.heappop(todo)
            mark = len(self.journal)
            further = self.back(one)
            if further is None:
                self.rewind(mark)
            for before in set(further or ()) - affected:
                affected.add(before)
                heapq.heappush(todo, -before)
        return affected

    def hand_on(self, edge: Edge) -> set[int] | None:
        """Moves what stands on an edge through the operation that reads it. None where it cannot pass."""
        node, (tensor, atoms) = self.node(edge), self.edges[edge]
        role = self.role(node)
        if not isinstance(role, Through) or role.operand != edge[1] or node.statement is None or not atoms:
            return None
        names, result = operand_of(node.statement.inputs, edge[1]).type.names, node.statement.outputs[0].type.names
        if any(atom.shift != ZERO for atom in atoms) and not role.means:
            return None
        if any(atom.axis is not None and names[atom.axis] not in role.axes for atom in atoms):
            return None
        moved = tuple(
            replace(atom, axis=None if atom.axis is None else result.index(names[atom.axis]), node=-1) for atom in atoms
        )
        self.set(self.edges, edge, (tensor, ()))
        affected = {tensor, node.outputs[0]}
        for reader in self.readers[node.outputs[0]]:
            behind, there = self.edges[reader]
            if not same_axis((*moved, *there)):
                return None
            self.set(self.edges, reader, (behind, (*moved, *there)))
            affected |= (self.hand_on(reader) or set()) if not self.takes_before(reader, (*moved, *there)) else set()
        return affected

    # ---- what is left to do

    def left(self, tensor: int) -> list[Edge]:
        """The edges whose affine nobody takes."""
        return [e for e in self.readers[tensor] if self.edges[e][1] and not self.takes_before(e, self.edges[e][1])]

    def nodes_kept(self, left: list[Edge]) -> set[int] | None:
        """The operations that stay if everything left stays as it was; None where it cannot."""
        kept: set[int] = set()
        for edge in left:
            atoms, before = self.edges[edge][1], self.original[edge][1]
            if any(atom.node < 0 for atom in atoms) or [a.node for a in before[-len(atoms) :]] != [a.node for a in atoms]:
                return None
            kept |= {atom.node for atom in atoms}
        return kept

    def insert(self, edge: Edge) -> tuple[Insert, int | None]:
        """What would stand on an edge, and the operand of the same sum whose weights take the shift."""
        scale, shift = composed(self.edges[edge][1])
        axis = next((atom.axis for atom in self.edges[edge][1] if atom.axis is not None), None)
        node = self.node(edge)
        role, taker = self.role(node), None
        if shift != ZERO and isinstance(role, Total):
            taker = next((p for p in range(len(role.signs)) if p != edge[1] and self._sheds(node, p)), None)
        return Insert(axis, scale, shift), taker

    def cost(self, tensor: int) -> float:
        """How many passes over a tensor are left."""
        left = self.left(tensor)
        kept = self.nodes_kept(left)
        as_it_was = math.inf if kept is None else len(kept)
        return min(as_it_was, self._anew(left))

    def _anew(self, left: list[Edge]) -> float:
        made: dict[Any, int] = {}
        for edge in left:
            instance = self.node(edge).instance
            if instance is None or not instance.owns:
                return math.inf
            one, taker = self.insert(edge)
            passes = (one.scale != ONE) + (one.shift != ZERO and taker is None)
            made[id(instance), self.edges[edge][0], one if taker is None else one.scale] = passes
        return sum(made.values())

    # ---- all of it

    def decisions(self) -> Decisions:
        tensors = sorted(self.readers, reverse=True)
        for tensor in tensors:
            maker = self.flat.maker.get(tensor)
            if maker is None or not self.common(tensor):
                continue
            if isinstance(self.role(maker), Weighted):
                self.back(tensor)
            elif isinstance(self.role(maker), (Total, Through)):
                self.attempt(lambda tensor=tensor: self.push(tensor))
        for tensor in reversed(tensors):
            for edge in self.left(tensor):
                self.attempt(lambda edge=edge: self.hand_on(edge))
        return self._decided()

    def attempt(self, move: Callable[[], set[int] | None]) -> None:
        """Does `move` where less is left to do then."""
        mark = len(self.journal)
        affected = move()
        after = math.inf if affected is None else sum(map(self.cost, affected))
        self.rewind(mark)
        if affected is not None and after < sum(map(self.cost, affected)):
            move()

    def _decided(self) -> Decisions:
        found = Decisions(behind=dict(self.behind))
        taken: list[tuple[Node, Atom]] = []
        for tensor in self.readers:
            left = self.left(tensor)
            kept = self.nodes_kept(left)
            if kept is None or self._anew(left) < len(kept):
                kept = set()
                for edge in left:
                    one, taker = self.insert(edge)
                    node = self.node(edge)
                    if taker is not None and isinstance(role := self.role(node), Total):
                        maker = self.flat.maker[self.edges[node.number, taker][0]]
                        sign = role.signs[edge[1]] * role.signs[taker]
                        axis = self._axis_of(node, edge[1], taker, one.axis)
                        taken.append((maker, Atom(axis, ONE, signed(sign, one.shift))))
                        one = replace(one, shift=ZERO)
                    found.inserts[edge] = one
            for edge in self.readers[tensor]:
                atoms = self.edges[edge][1]
                stays = max((i + 1 for i, atom in enumerate(atoms) if atom.node in kept), default=0)
                for atom in atoms[:stays]:
                    found.kept.setdefault(atom.node, []).append(edge)
                if atoms[stays:] and edge not in found.inserts:
                    found.before[edge[0]] = atoms[stays:]
        for maker, atom in taken:
            found.behind[maker.number] = (*found.behind.get(maker.number, ()), atom)
        found.removed = {number: place for number, place in self.affine.items() if number not in found.kept}
        self._merge_shortcuts(found)
        return found

    def _axis_of(self, node: Node, place: int, other: int, axis: int | None) -> int | None:
        assert node.statement is not None
        if axis is None:
            return None
        name = operand_of(node.statement.inputs, place).type.names[axis]
        return operand_of(node.statement.inputs, other).type.names.index(name)

    def _merge_shortcuts(self, found: Decisions) -> None:
        """x + (f * x + y) is (1 + f) * x + y: the outer sum is left out."""
        for edge, one in list(found.inserts.items()):
            inner = self.node(edge)
            role = self.role(inner)
            if one.shift != ZERO or not isinstance(role, Total) or role.signs[edge[1]] != 1:
                continue
            tensor, result = self.edges[edge][0], inner.outputs[0]
            readers = self.readers[result]
            if len(readers) != 1 or self.edges[readers[0]][1]:
                continue
            outer, place = self.node(readers[0]), readers[0][1]
            above = self.role(outer)
            if not isinstance(above, Total) or above.signs != (1, 1):
                continue
            shortcut = (outer.number, 1 - place)
            same = _sizes(self.flat.types[tensor]) == _sizes(self.flat.types[result])
            if self.edges[shortcut] != (tensor, ()) or shortcut in found.inserts or not same:
                continue
            if found.kept and any(shortcut in edges for edges in found.kept.values()):
                continue
            found.inserts[edge] = replace(one, scale=one.scale + ONE)
            found.removed[outer.number] = place


def signed(sign: int, term: Term) -> Term:
    return term if sign > 0 else ZERO - term


def _sizes(kind: TensorType) -> tuple[Size, ...]:
    return tuple(axis.size for axis in kind.axes)
