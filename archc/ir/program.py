"""One variant, elaborated: what every analysis and back end reads."""

from __future__ import annotations

from archc.contract import Obligation
from archc.ir.graph import Template, Value
from archc.ir.sym import Scalar, Sym
from archc.records import dataclass
from archc.source import Source, Span
from archc.syntax import tree


@dataclass(frozen=True)
class Input:
    """An input of the model. `kind` is input or state; an optional one has a `default` ("none", "empty" or a number)."""

    name: str
    value: Value
    kind: str = "input"
    default: str | None = None


@dataclass(frozen=True)
class Output:
    """An output. `kind` is output, exit, loss or next; `when` is "training" where it exists only then."""

    name: str
    value: Value | tuple[Value, ...]
    kind: str
    when: str | None
    span: Span
    # For a list that grew in a loop over a parameter, its length in the parameters' terms and in this build.
    length: tuple[Sym, int] | None = None


@dataclass(frozen=True)
class EntryPoint:
    """A further method of the model."""

    name: str
    template: Template
    symbols: tuple[str, ...]
    obligations: tuple[Obligation, ...]


@dataclass(frozen=True)
class Program:
    """`root` is the model's template; its inputs and outputs are in declared order."""

    name: str
    model: str
    doc: str
    source: Source
    sources: tuple[Source, ...]
    span: Span
    root: Template
    parameters: tuple[tuple[str, Scalar], ...]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    entry_points: tuple[EntryPoint, ...]
    symbols: tuple[str, ...]
    obligations: tuple[Obligation, ...]
    claims: tuple[tree.Claim, ...]
    rules: tuple[tree.Rule, ...]
    matches: tuple[tree.Matches, ...]
    # The declared kind of each parameter as the spec writes it: `int`, `size`, `list[int]` ...
    kinds: tuple[tuple[str, str], ...] = ()
    # The least value of the symbols that may be 0: the sizes of states.
    least: tuple[tuple[str, int], ...] = ()
