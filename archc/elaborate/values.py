"""What a name may stand for while a spec is elaborated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from archc.ir.graph import ChildEntry, OpEntry, Value
from archc.ir.sym import FnDef, Scalar, Sym
from archc.ops.base import Op
from archc.ops.checks import shown
from archc.records import dataclass
from archc.sizes import Size
from archc.source import Span
from archc.syntax import tree

LONGEST = 48  # of a number, string or list that a message repeats


class Poison:
    """The result of something that has been reported: whatever reads it stays silent."""

    def __repr__(self) -> str:
        return "POISON"


POISON = Poison()


@dataclass(frozen=True)
class Many:
    """A list or tuple that holds tensors, recipes or modules (lists of numbers are Scalars)."""

    items: tuple[Any, ...]
    is_tuple: bool = False
    # Where a loop over a parameter made it grow: what takes it apart is written for this length alone.
    growth: Growth | None = field(default=None, compare=False)


@dataclass(frozen=True, eq=False)
class Growth:
    """How long a list is in the terms of the frame in which it grew."""

    frame: Any
    length: Sym


@dataclass(frozen=True, eq=False)
class ComponentRef:
    """A component, and the file whose names its body sees."""

    tree: tree.Component
    file: FileNames


@dataclass(frozen=True, eq=False)
class FnRef:
    """A compile-time function. `definition` is its body as an expression over its parameters."""

    tree: tree.Function
    file: FileNames
    definition: FnDef


@dataclass(frozen=True, eq=False)
class OpRef:
    """An operation by name; `ops` are the classes that share the name."""

    op: type[Op]


@dataclass(frozen=True, eq=False)
class Recipe:
    """A component or operation with some compile-time arguments, and no tensors: it makes new weights at each use."""

    target: ComponentRef | OpRef | Recipe
    arguments: tuple[tuple[str | None, Any, Span], ...]
    span: Span


@dataclass(eq=False)
class Module:
    """`module f = recipe`: one set of weights. The entry is made by the first use."""

    name: str
    recipe: Any
    span: Span
    level: Any
    entry: OpEntry | ChildEntry | None = None
    item_of: str | None = None


@dataclass(frozen=True, eq=False)
class Deferred:
    """An operation that waits for the tensor whose positions it takes (`relative(table, over)`)."""

    op: Op
    inputs: tuple[Any, ...]
    span: Span


@dataclass(eq=False)
class FileNames:
    """The top-level names of one file."""

    file: tree.File
    names: dict[str, Any] = field(default_factory=dict)
    bindings: dict[str, tree.Binding] = field(default_factory=dict)


def kind_of(value: Any) -> str:
    """A value's kind in the words of a message."""
    match value:
        case Value():
            return f"a tensor {value.type}"
        case Scalar(value=None):
            return "none"
        case Scalar(value=tuple(items)) if len(shown(value)) > LONGEST or len(items) > 8:
            return f"a list of {len(items)} items"
        case Scalar(value=v):
            words: Mapping[type, str] = {bool: "the truth value", int: "the whole number", float: "the real number",
                                         str: "the string", tuple: "the list", Size: "the size"}  # fmt: skip
            if type(v) not in words:
                return "a number that depends on the sizes of the inputs"
            text = shown(value)
            return f"{words[type(v)]} {text if len(text) <= LONGEST else text[:LONGEST] + '...'}"
        case Many():
            return "a list"
        case Recipe() | ComponentRef() | OpRef():
            return "a recipe"
        case Module():
            return "a module"
        case FnRef():
            return "a function"
        case Deferred():
            return f"`{value.op.name}(...)`"
        case _:
            return type(value).__name__.lower()


def help_kind(value: Any, wanted: str, text: str) -> tuple[str, ...]:
    """How a value, written as `text`, becomes one of the kind that is wanted."""
    raw = value.value if isinstance(value, Scalar) else value
    match raw:
        case float() if abs(raw) >= 1 and ("int" in wanted or "whole" in wanted or "size" in wanted):
            shown = f"int({text.rpartition('=')[2].strip()})" if len(text) < 40 else "int(...)"
            return (f"`{shown}` cuts it to a whole number; `//` divides whole numbers into one",)
        case Value() if "recipe" in wanted:
            return ("a recipe is an operation or component without its tensor, as in `mixer=conv(C, 3)`",)
        case str() if "recipe" in wanted:
            return (f"write it without quotes: {raw}",)
        case str() if _is_number(raw):
            return (f"write it without quotes: {raw}",)
        case int() if wanted.startswith("`list") and not isinstance(raw, bool):
            return (f"a list of one is written `[{raw}]`",)
        case Many() | tuple() if "list" not in wanted and "tensor" not in wanted:
            return ("one item of a list is written `xs[i]`",)
        case _:
            return ()


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
