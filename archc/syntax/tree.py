"""The syntax tree: what a spec says, before anything is looked up.

Every node carries the span it was read from. Nodes are frozen; equality ignores spans, so two texts that
say the same thing give equal trees.
"""

from __future__ import annotations

from dataclasses import field

from archc.records import dataclass
from archc.source import Source, Span


@dataclass(frozen=True)
class Node:
    span: Span = field(compare=False, repr=False, kw_only=True)


# ---- expressions


@dataclass(frozen=True)
class Name(Node):
    name: str


@dataclass(frozen=True)
class Number(Node):
    """`value` is an int where the text has neither point, exponent nor unit that makes a fraction (`4.1M` is 4100000)."""

    value: int | float
    text: str


@dataclass(frozen=True)
class String(Node):
    value: str


@dataclass(frozen=True)
class Constant(Node):
    """`true`, `false` or `none`."""

    value: bool | None


@dataclass(frozen=True)
class Paren(Node):
    """Parentheses that the author wrote: `|>` beside arithmetic is only legal through them."""

    expr: Expr


@dataclass(frozen=True)
class TupleExpr(Node):
    items: tuple[Expr, ...]


@dataclass(frozen=True)
class ListExpr(Node):
    items: tuple[Expr, ...]


@dataclass(frozen=True)
class Comprehension(Node):
    """`[expr for targets in iterable]`."""

    expr: Expr
    targets: tuple[str, ...]
    iterable: Expr


@dataclass(frozen=True)
class Unary(Node):
    """`op` is "-" or "not"."""

    op: str
    operand: Expr


@dataclass(frozen=True)
class Binary(Node):
    """`op` is one of + - * / // % ** & and or."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Compare(Node):
    """A chain `a < b <= c`: `operands` has one more item than `ops`."""

    ops: tuple[str, ...]
    operands: tuple[Expr, ...]


@dataclass(frozen=True)
class Conditional(Node):
    """`then if condition else otherwise`."""

    then: Expr
    condition: Expr
    otherwise: Expr


@dataclass(frozen=True)
class Argument(Node):
    """`value`, or `keyword=value` where `keyword` is not None."""

    keyword: str | None
    value: Expr


@dataclass(frozen=True)
class Call(Node):
    function: Expr
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Slice(Node):
    start: Expr | None
    stop: Expr | None


@dataclass(frozen=True)
class Subscript(Node):
    """One item between brackets: `axis` is None for lists (`xs[i]`, `xs[:i]`), a name for tensors (`x[N=1:]`)."""

    axis: str | None
    index: Expr | Slice


@dataclass(frozen=True)
class Index(Node):
    value: Expr
    subscripts: tuple[Subscript, ...]


@dataclass(frozen=True)
class Attribute(Node):
    value: Expr
    name: str


@dataclass(frozen=True)
class Labelled(Node):
    """`label: call`; the label `_` adds no level to the names of the weights."""

    label: str
    call: Expr


@dataclass(frozen=True)
class Pipe(Node):
    """`left |> right`."""

    left: Expr
    right: Expr


Expr = (
    Name | Number | String | Constant | Paren | TupleExpr | ListExpr | Comprehension | Unary | Binary | Compare
    | Conditional | Call | Index | Attribute | Labelled | Pipe
)  # fmt: skip


# ---- types


@dataclass(frozen=True)
class AxisDecl(Node):
    """`C`, or `C=expr`."""

    name: str
    size: Expr | None


@dataclass(frozen=True)
class Rest(Node):
    """`...` in a list of axes: any further axes."""


@dataclass(frozen=True)
class TensorDecl(Node):
    """`[B, C=3, H, W]`, `int[B, N]`, `bool[...]`; `dtype` is "float" where nothing is written."""

    dtype: str
    axes: tuple[AxisDecl | Rest, ...]


@dataclass(frozen=True)
class ListDecl(Node):
    item: TypeDecl


@dataclass(frozen=True)
class Kind(Node):
    """`int float bool str size region path recipe module tensor`, unchecked here."""

    name: str


TypeDecl = TensorDecl | ListDecl | Kind


@dataclass(frozen=True)
class Parameter(Node):
    name: str
    type: TypeDecl
    default: Expr | None


# ---- statements


@dataclass(frozen=True)
class Assign(Node):
    targets: tuple[str, ...]
    value: Expr


@dataclass(frozen=True)
class Augment(Node):
    """`target op value` where `op` is "+=" or "*="."""

    target: str
    op: str
    value: Expr


@dataclass(frozen=True)
class Return(Node):
    values: tuple[Expr, ...]


@dataclass(frozen=True)
class Declare(Node):
    """`param name: type = value with (...)`; `keyword` is param, buffer, const, input or state."""

    keyword: str
    name: str
    type: TypeDecl
    value: Expr | None
    options: tuple[Argument, ...]


@dataclass(frozen=True)
class Bind(Node):
    """`output a, b when training = expr`; `keyword` is module, output, exit, next or loss."""

    keyword: str
    targets: tuple[str, ...]
    when: str | None
    value: Expr


@dataclass(frozen=True)
class Loop(Node):
    """`label: for targets in iterable`, `repeat n as j`, `loop n as t`, `stage i, dim in enumerate(dims)`, `stage { }`.

    `keyword` is for, repeat, loop or stage. `iterable` is the count for repeat and loop, None for a lone stage.
    """

    keyword: str
    label: str | None
    targets: tuple[str, ...]
    iterable: Expr | None
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class If(Node):
    """`else if` is an `If` alone in `otherwise`."""

    condition: Expr
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True)
class Entry(Node):
    """A further way into a model: `entry name(parameters) -> types { }`."""

    name: str
    parameters: tuple[Parameter, ...]
    results: tuple[TypeDecl, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Require(Node):
    condition: Expr
    message: str | None


@dataclass(frozen=True)
class Init(Node):
    """`init owner.weight = expr`: `owner` is an operation or a component."""

    owner: str
    weight: str
    value: Expr


@dataclass(frozen=True)
class Claim(Node):
    condition: Expr
    within: Expr | None


@dataclass(frozen=True)
class Matches(Node):
    """`matches "answers.json"`: recorded answers that `archc verify` holds the module to."""

    path: str


@dataclass(frozen=True)
class Rule(Node):
    """`"a", "b" -> "c" |> transform`; `target` is None for `drop`."""

    sources: tuple[str, ...]
    target: str | None
    transforms: tuple[Expr, ...]


@dataclass(frozen=True)
class Weights(Node):
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Doc(Node):
    text: str


Fact = Claim | Matches | Weights | Init | Doc
Statement = Assign | Augment | Return | Declare | Bind | Loop | If | Entry | Require | Fact


# ---- the file


@dataclass(frozen=True)
class Imported(Node):
    name: str
    alias: str


@dataclass(frozen=True)
class Import(Node):
    """`from .std.mlp import a, b as c`: `dots` counts the leading dots."""

    dots: int
    path: tuple[str, ...]
    names: tuple[Imported, ...]


@dataclass(frozen=True)
class Binding(Node):
    """`van_b2 = van(...) { facts }`."""

    name: str
    value: Expr
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Function(Node):
    """`fn name(parameters) = expr`."""

    name: str
    parameters: tuple[Parameter, ...]
    body: Expr


@dataclass(frozen=True)
class Component(Node):
    """A mixer, block, stage or model (`role`). `results` is empty where no `->` was written."""

    role: str
    name: str
    parameters: tuple[Parameter, ...]
    results: tuple[TypeDecl, ...]
    body: tuple[Statement, ...]


Top = Doc | Import | Binding | Function | Component


@dataclass(frozen=True)
class Comment:
    """`# text`, kept for the formatter."""

    start: int
    text: str


@dataclass(frozen=True)
class File:
    source: Source = field(compare=False, repr=False)
    items: tuple[Top, ...]
    comments: tuple[Comment, ...] = field(compare=False, default=())
