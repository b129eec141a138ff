"""What a text alone shows, in the parts that no variant reaches too: unknown names, and names that nothing reads.

Nothing here is evaluated, so nothing here depends on a variant: what is read only in an arm that this variant does not
take is read, and a name that is bound anywhere in a component is taken for known in all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

from archc.diagnostics import MOST_FINDINGS, Diagnostic, in_order
from archc.elaborate.habits import call_helps, name_helps
from archc.elaborate.loader import Library
from archc.elaborate.reading import all_assigned, names_in, nodes_in, parts
from archc.elaborate.scalars import CONSTANTS, FUNCTIONS
from archc.elaborate.values import FileNames
from archc.ops.table import OPERATIONS
from archc.records import dataclass
from archc.source import Span
from archc.syntax import tree
from archc.where.paths import PATHS
from archc.where.regions import REGIONS

BUILT_IN = frozenset((*OPERATIONS, *REGIONS, *PATHS, *FUNCTIONS, *CONSTANTS))


@dataclass(frozen=True)
class Survey:
    """Findings in the order of the text: E0201 in `unknown`, E0352 in `unread`, the warnings E0353 in `idle`."""

    unknown: tuple[Diagnostic, ...]
    unread: tuple[Diagnostic, ...]
    idle: tuple[Diagnostic, ...]

    def beside(self, found: Iterable[Diagnostic]) -> list[Diagnostic]:
        """What is wrong in a text beside what its elaboration found, each mistake once."""
        known = [d for d in found if d.span is not None]
        if not known:
            return in_order((*self.unknown, *self.unread))
        # That a name is not read may follow from any of the others.
        return [d for d in self.unknown if not any(_same(d.span, other.span) for other in known)]


@lru_cache(maxsize=8)  # variants of one file share it
def survey(library: Library) -> Survey:
    """What the texts of a file and of all that it imports show, and which of its own imports it does not use."""
    unknown: list[Diagnostic] = []
    unread: list[Diagnostic] = []
    idle: list[Diagnostic] = []
    for file in library.files:
        for item in file.file.items:
            if isinstance(item, (tree.Component, tree.Function)):
                # Of a text without end, so many are told as anyone is shown.
                unknown += islice(_unknown(item, file), MOST_FINDINGS - min(len(unknown), MOST_FINDINGS))
                idle += _idle_parameters(item, item.parameters, item.name)
            if isinstance(item, tree.Component):
                unread += _unread(item)
    idle += _idle_imports(library.main.file)
    return Survey(*(tuple(in_order(found)) for found in (unknown, unread, idle)))


def _same(one: Span | None, other: Span | None) -> bool:
    """Whether two findings are one: their places overlap, or the same name stands there."""
    assert one is not None and other is not None
    overlap = one.source is other.source and one.start < other.end and other.start < one.end
    return overlap or one.text == other.text


# ---- names that are not known


def _unknown(item: tree.Component | tree.Function, file: FileNames) -> Iterator[Diagnostic]:
    """E0201 for each name that nothing of a component, its file or the language can give a meaning."""
    bound = frozenset(_bound(item))
    told: set[str] = set()
    for name, called in _mentions(item):
        if name.name in bound or name.name in file.names or name.name in BUILT_IN or name.name in told:
            continue
        told.add(name.name)
        known = [*sorted(bound), *file.names, *OPERATIONS, *REGIONS, *PATHS, *FUNCTIONS, *CONSTANTS]
        if called:
            yield Diagnostic("E0201", f"no operation or component is called `{name.name}`", name.span, "unknown name",
                             helps=call_helps(name.name, known))  # fmt: skip
        else:
            yield Diagnostic("E0201", f"nothing is called `{name.name}` here", name.span, "unknown name",
                             helps=name_helps(name.name, known))  # fmt: skip


def _bound(item: tree.Component | tree.Function) -> Iterator[str]:
    """The names that any part of a text may bind, the sizes of types among them."""
    for node in nodes_in(item):
        match node:
            case tree.Parameter(name=name):
                yield name
            case tree.Comprehension(targets=targets):
                yield from targets
            case tree.TensorDecl(axes=axes):
                yield from (axis.name for axis in axes if isinstance(axis, tree.AxisDecl))
                yield from names_in(axes)
            case tree.Component(body=body):
                yield from all_assigned(body)
            case tree.Entry(name=name, body=body):
                yield name
                yield from all_assigned(body)


def _mentions(item: Any, called: bool = False) -> Iterator[tuple[tree.Name, bool]]:
    """The names in places where only a value may stand, and whether each is applied.

    A bare argument may be the name of an axis. Types, starts of weights and facts have words of their own.
    """
    match item:
        case tree.Name():
            yield item, called
        case tree.Call(function=function, arguments=arguments):
            yield from _mentions(function, True)
            for argument in arguments:
                value = argument.value
                while isinstance(value, tree.Paren):
                    value = value.expr
                if isinstance(value, (tree.TupleExpr, tree.ListExpr)):
                    if not all(isinstance(part, tree.Name) for part in value.items):
                        yield from _mentions(value)
                elif not isinstance(value, tree.Name):
                    yield from _mentions(value)
        case tree.Pipe(left=left, right=right):
            yield from _mentions(left)
            yield from _mentions(right, True)
        case tree.Paren(expr=inner):
            yield from _mentions(inner, called)
        case tree.Declare(keyword="const", value=value):
            yield from _mentions(value)
        case tree.TensorDecl() | tree.Declare() | tree.Claim() | tree.Weights() | tree.Init():
            pass
        case tuple():
            for inner in item:
                yield from _mentions(inner)
        case tree.Node():
            for part in parts(item):
                yield from _mentions(part)


# ---- names that nothing reads


def _unread(component: tree.Component) -> Iterator[Diagnostic]:
    """E0352 for each weight, module, input and state of a component that no line of it reads."""
    read = _read(component)
    advanced = {name for name in all_assigned(component.body) if name.startswith("next ")}
    for statement in _statements(component.body):
        match statement:
            case tree.Declare(keyword=keyword, name=name):
                names = (name,)
            case tree.Bind(keyword="module" as keyword, targets=names):
                pass
            case _:
                continue
        for name in names:
            if name in read or (keyword == "state" and f"next {name}" in advanced):
                continue
            what = f"the {keyword} `{name}` is never read"
            if keyword == "state":
                what += " and never advanced"
            elif keyword == "module":
                what = f"the module `{name}` is never used"
            yield Diagnostic("E0352", what, statement.span, f"nothing in `{component.name}` reads it",
                             helps=("use it, or leave this line out",))  # fmt: skip


def _idle_parameters(
    item: tree.Component | tree.Function, parameters: tuple[tree.Parameter, ...], owner: str
) -> Iterator[Diagnostic]:
    """E0353 for each parameter that nothing reads, itself or through the sizes that it alone names."""
    read = _read(item) | {axis.name for axis in _bare_axes(item)}
    for p in parameters:
        if p.name in read or p.name.startswith("_"):
            continue
        others = {name for other in parameters if other is not p for name in _sizes(other)}
        if isinstance(p.type, tree.TensorDecl) and (_sizes(p) - others) & read:
            continue
        yield Diagnostic("E0353", f"`{owner}` does not use its parameter `{p.name}`", p.span, "nothing reads it",
                         helps=("use it, or leave it out; one that only callers ask for begins with `_`",),
                         severity="warning")  # fmt: skip


def _idle_imports(file: tree.File) -> Iterator[Diagnostic]:
    """E0353 for each name that a file imports and does not use; a file of imports alone hands them on."""
    read = set(names_in(file.items)) | {node.owner for node in nodes_in(file.items) if isinstance(node, tree.Init)}
    if all(isinstance(item, (tree.Import, tree.Doc)) for item in file.items):
        return
    for item in file.items:
        for one in item.names if isinstance(item, tree.Import) else ():
            if one.alias not in read:
                yield Diagnostic("E0353", f"`{one.alias}` is imported and not used", one.span, "nothing reads it",
                                 helps=("leave it out",), severity="warning")  # fmt: skip


def _read(item: Any) -> set[str]:
    """The names that a text reads, `x` of `x += y` among them."""
    augmented = {s.target for s in nodes_in(item) if isinstance(s, tree.Augment)}
    return {*names_in(item), *augmented}


def _sizes(p: tree.Parameter) -> set[str]:
    """The names that a tensor parameter gives to its sizes."""
    if not isinstance(p.type, tree.TensorDecl):
        return set()
    return {axis.name for axis in p.type.axes if isinstance(axis, tree.AxisDecl)} | set(names_in(p.type))


def _bare_axes(item: tree.Component | tree.Function) -> Iterator[tree.AxisDecl]:
    """The axes of results and declarations, whose sizes are those of the signature where none is written."""
    for node in nodes_in((item.results, item.body) if isinstance(item, tree.Component) else ()):
        if isinstance(node, tree.AxisDecl) and node.size is None:
            yield node


def _statements(body: tuple[tree.Statement, ...]) -> Iterator[tree.Statement]:
    for statement in body:
        yield statement
        match statement:
            case tree.Loop(body=inner) | tree.Entry(body=inner):
                yield from _statements(inner)
            case tree.If(then=then, otherwise=otherwise):
                yield from _statements((*then, *otherwise))
