"""The graph IR: a spec with everything looked up, one template for each distinct block.

A `Template` is a component applied to types and numbers: it owns weights (`entries`) and a `body` of statements over
`Value`s. A block that is used forty times is one template and forty `Call`s. Loops keep their turns, branches both
their arms, so that what is written from the graph still has the author's loops and conditions.

Statements are in the order of the text; `archc.ir.dataflow` gives the same graph to networkx.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from archc.fusion.cores import Core
from archc.ir.sym import Scalar, Sym, Var
from archc.ir.types import TensorType
from archc.ops.base import Op, Weight
from archc.records import dataclass
from archc.source import Span


@dataclass(frozen=True)
class Value:
    """A tensor. `uid` is unique in a program; `name` is what the author called an input, else empty."""

    uid: int
    type: TensorType
    span: Span = field(compare=False, repr=False)
    name: str = field(default="", compare=False)


Operand = Value | tuple[Value, ...] | None


@dataclass(frozen=True)
class Guard:
    """An entry exists where `condition` has the value `truth`."""

    condition: Sym
    truth: bool


# ---- what a template owns


@dataclass(frozen=True)
class OpEntry:
    """An operation's weights under `name`; with an empty name they are the template's own (or the template is nothing else)."""

    name: str
    op: Op
    types: tuple[TensorType | tuple[TensorType, ...] | None, ...]
    weights: tuple[Weight, ...]
    span: Span
    guards: tuple[Guard, ...] = ()
    functional: bool = False


@dataclass(frozen=True)
class ChildEntry:
    """A component under `name`."""

    name: str
    template: Template
    args: tuple[tuple[str, Scalar], ...]
    span: Span
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True)
class WeightEntry:
    """A parameter, buffer or constant table declared in the component itself."""

    name: str
    weight: Weight
    span: Span
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True)
class ListEntry:
    """`name.0`, `name.1`, ...: one unit for each turn of a loop, or each item of a list of modules."""

    name: str
    items: tuple[OpEntry | ChildEntry, ...]
    span: Span
    guards: tuple[Guard, ...] = ()


Entry = OpEntry | ChildEntry | WeightEntry | ListEntry


# ---- statements


@dataclass(frozen=True)
class Apply:
    """An operation. `entry` names what holds its weights (None where it has none)."""

    op: Op
    inputs: tuple[Operand, ...]
    outputs: tuple[Value, ...]
    span: Span
    entry: str | None = None


@dataclass(frozen=True)
class Call:
    """A component under the entry `entry`. `args` are its compile-time parameters, in the caller's terms."""

    template: Template
    inputs: tuple[Operand, ...]
    outputs: tuple[Value, ...]
    args: tuple[tuple[str, Scalar], ...]
    span: Span
    entry: str | None = None


@dataclass(frozen=True)
class Owned:
    """The weight `name` of the operation under the entry `entry`."""

    entry: str
    name: str


@dataclass(frozen=True)
class Drawn:
    """What the operation `step` draws by chance for each sample."""

    step: Apply


@dataclass(frozen=True)
class Fused:
    """Operations that one fused operator computes: `steps`, in order, around the `core` that a family of kernels takes.

    The operator takes `tensors`, which its functions call `arguments`, and then the `numbers`. `layout` is the order of axes
    in which maps lie, where the family takes them as they are.
    """

    family: str
    core: Core
    steps: tuple[Apply, ...]
    tensors: tuple[Value | Owned | Drawn, ...]
    arguments: tuple[str, ...]
    numbers: tuple[Scalar, ...]
    outputs: tuple[Value, ...]
    span: Span
    layout: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values among the tensors."""
        return tuple(tensor for tensor in self.tensors if isinstance(tensor, Value))


@dataclass(frozen=True)
class Relabel:
    """The same tensor under other axis names: costs nothing, does nothing."""

    input: Value
    output: Value


@dataclass(frozen=True)
class Assign:
    """The author's `name = value`. A tuple is a list of tensors."""

    name: str
    value: Value | tuple[Value, ...]
    span: Span


@dataclass(frozen=True)
class Phi:
    """A static size that changes from turn to turn: it starts as `first` and becomes `next` at the end of a turn."""

    var: Var
    first: Sym
    next: Sym


@dataclass(frozen=True)
class Append:
    """The list `name` grows by output number `output` in each turn."""

    name: str
    output: int


@dataclass(frozen=True)
class Repeat:
    """A loop of the spec. `keyword` is for, repeat, loop or stage; `turns` are the turns, each a call of its own template."""

    keyword: str
    label: str | None
    targets: tuple[str, ...]
    iterable: Scalar | None
    turns: tuple[Call, ...]
    phis: tuple[Phi, ...]
    appends: tuple[Append, ...]
    span: Span
    # For each output of a turn, the name the author gives it.
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Merge:
    """After a branch, `name` holds `result`: `then` or `otherwise`, whichever arm ran."""

    name: str
    then: Value | None
    otherwise: Value | None
    result: Value


@dataclass(frozen=True)
class Branch:
    """`if condition { } else { }` on a compile-time number (`taken` tells which arm this build has) or, with `taken`
    None, on the sizes of the inputs. An arm that could not be elaborated for these numbers is None."""

    condition: Scalar
    taken: bool | None
    then: tuple[Statement, ...] | None
    otherwise: tuple[Statement, ...] | None
    merges: tuple[Merge, ...]
    span: Span


Statement = Apply | Call | Fused | Relabel | Assign | Repeat | Branch


@dataclass(frozen=True, eq=False)
class Template:
    """A component applied to types and numbers.

    `parameters` are the compile-time numbers its text mentions; for the turn of a loop (`role` is "turn") they are
    what it reads of the component around it.
    """

    name: str
    role: str
    doc: str
    parameters: tuple[tuple[str, Scalar], ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    body: tuple[Statement, ...]
    entries: tuple[Entry, ...]
    span: Span
    inits: tuple[InitRule, ...] = ()
    lists: tuple[tuple[int, ...], ...] = ()
    # The declared kinds of the parameters that a spec declares: `int`, `size`, `list[int]` ...
    kinds: tuple[tuple[str, str], ...] = ()
    # Lengths of lists, as expressions of the parameters, that the body is written for.
    assumed: tuple[tuple[Sym, int], ...] = ()

    @property
    def unit(self) -> OpEntry | ChildEntry | None:
        """The one entry that is the whole template, under no name of its own."""
        if len(self.entries) != 1 or self.entries[0].guards:
            return None
        if self.entries[0].name == "" and isinstance(self.entries[0], (OpEntry, ChildEntry)):
            return None if isinstance(self.entries[0], OpEntry) and self.entries[0].functional else self.entries[0]
        return None


@dataclass(frozen=True)
class InitRule:
    """`init owner.weight = kind(args)`, where the arguments may read the owner's own arguments."""

    owner: str
    weight: str
    kind: str
    args: tuple[Sym, ...]
    span: Span


# In the turn of a loop, `^name` is the entry `name` of what stands around the loop, `^^name` one loop further out.
OUTER = "^"


def outer_entries(body: tuple[Statement, ...], depth: int = 0) -> tuple[str, ...]:
    """The entries of what stands around that the turn of a loop applies, each once, as the turn calls them."""
    found: dict[str, None] = {}
    for statement in body:
        match statement:
            case Apply(entry=str() as entry) | Call(entry=str() as entry):
                if len(entry) - len(entry.lstrip(OUTER)) > depth:
                    found.setdefault(entry[depth:])
            case Branch(then=then, otherwise=otherwise):
                found |= dict.fromkeys(outer_entries((*(then or ()), *(otherwise or ())), depth))
            case Repeat(turns=turns):
                for turn in turns:
                    found |= dict.fromkeys(outer_entries(turn.template.body, depth + 1))
            case _:
                pass
    return tuple(found)


def taken_arm(branch: Branch) -> tuple[Statement, ...]:
    """The statements of the arm that this build runs (the first, where the sizes decide)."""
    arm = branch.then if branch.taken in (True, None) else branch.otherwise
    return arm or ()


def statements(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """Every statement that this build runs, branches entered, loops and calls not."""
    for statement in body:
        yield statement
        if isinstance(statement, Branch):
            yield from statements(taken_arm(statement))


def unrolled(template: Template, known: dict[int, tuple[Template, int]]) -> int:
    """How many operations a call of `template` carries out; `known` are the templates that have been counted."""
    if id(template) not in known:
        total = 0
        for statement in statements(template.body):
            match statement:
                case Apply():
                    total += 1
                case Call(template=inner):
                    total += unrolled(inner, known)
                case Repeat(turns=turns):
                    total += sum(unrolled(turn.template, known) for turn in turns)
                case _:
                    pass
        known[id(template)] = template, total
    return known[id(template)][1]


def is_live(entry: Entry, bindings: dict[str, object]) -> bool:
    """Whether this build has the entry."""
    from archc.ir.sym import evaluate

    return all(bool(evaluate(guard.condition, bindings)) == guard.truth for guard in entry.guards)
