"""One small change of a spec: where it is made, of which kind it is, and what the text is then.

Sites are found on the syntax tree, so a change is one that an author could have made: another width, a kernel in place of
a stride, a line less. `mutations` lists all of a file, always in the same order; whoever wants some of them draws.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any

from archc.ops.base import parameters
from archc.ops.table import OPERATIONS
from archc.source import Source, Span
from archc.syntax import tree
from archc.syntax.lines import SCAN
from archc.syntax.parse import parse
from archc.where.paths import PATHS
from archc.where.regions import REGIONS

KINDS = (
    "width", "head", "group", "kernel", "stride", "dilation", "window", "axis", "operand", "missing", "swapped", "typo",
)  # fmt: skip

# Which kind a parameter of this name is; what is not here counts as a width where it is a whole number.
ROLES = {
    "kernel": "kernel", "pad": "kernel", "output_pad": "kernel", "stride": "stride", "dilation": "dilation",
    "groups": "group", "parts": "group", "heads": "head", "size": "window", "extent": "window", "img_size": "window",
    "block": "window", "halo": "window", "multiple": "window", "shift": "window",
}  # fmt: skip
SLIDING = ("conv", "conv_transpose", "dwconv", "max_pool", "avg_pool", "convolve")
NUMBERS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)
AXES = ("B", "C", "H", "W", "N", "K", "heads", "tap", "way", "e", "s", "positions")
WINDOWS = (
    "self", "everywhere", "row", "column", "window(2)", "window(3)", "window(4)", "window(7)", "window([2, 4])", "grid(2)",
    "grid(3)", "grid(4)", "halo(2, 1)", "halo(4, 2)", "neighborhood(3)", "neighborhood(5)", "neighborhood(4)",
    "neighborhood(3, dilation=2)", 'neighborhood(3, edge="shift")', 'neighborhood(3, edge="zero")',
    'neighborhood(3, edge="wrap")', "shifted(window(4), 2)", "row + column", "row + (column - self)",
    'window(4, edge="drop")',
)  # fmt: skip
ORDERS = (
    "raster(H, W)", "raster(W, H)", "raster(W)", "raster(N)", "-raster(H, W)", "snake(H, W)", "diagonal(H, W)",
    "windowed(2, raster(H, W))", "every(2, raster(H, W))", "cross(H, W)", "[raster(H, W), raster(W, H)]",
)  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """`text[start:end]` becomes `new`. `owner` is the component or variant in which that is; `word` what a typo misspells."""

    file: str
    kind: str
    start: int
    end: int
    new: str
    owner: str
    word: str = ""

    def applied(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.end :]


def mutations(name: str, text: str) -> list[Mutation]:
    """All mutations of a file, without repetition, in the order of KINDS and of the text."""
    file = parse(Source(name, text))
    found: dict[tuple[int, int, str], Mutation] = {}
    for item in file.items:
        owner = getattr(item, "name", "")
        for kind, span, new, word in _of_item(item, file, text):
            start, end = span if isinstance(span, tuple) else (span.start, span.end)
            if text[start:end] != new:
                found.setdefault((start, end, new), Mutation(name, kind, start, end, new, owner, word))
    return sorted(found.values(), key=lambda m: (KINDS.index(m.kind), m.start, m.end, m.new))


Change = tuple[str, "Span | tuple[int, int]", str, str]


def _of_item(item: tree.Top, file: tree.File, text: str) -> Iterator[Change]:
    if isinstance(item, tree.Doc):
        return
    for change in (
        *_numbers(item, file, text), *_axes(item), *_operands(item, text), *_missing(item, text), *_swapped(item, text)
    ):  # fmt: skip
        yield *change, ""
    yield from _typos(item, text)


# ---- the tree


def children(node: Any) -> Iterator[tree.Node]:
    """The nodes directly below a node, in the order of their fields."""
    for field in fields(node):
        value = getattr(node, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if is_dataclass(part) and not isinstance(part, (Span, Source)):
                yield part  # type: ignore[misc]


def walk(node: tree.Node, above: tuple[tree.Node, ...] = ()) -> Iterator[tuple[tree.Node, tuple[tree.Node, ...]]]:
    """Every node with those above it, the nearest last. What is claimed of a variant is left out."""
    if isinstance(node, (tree.Claim, tree.Matches, tree.Weights, tree.Doc)):
        return
    yield node, above
    for child in children(node):
        yield from walk(child, (*above, node))


# ---- numbers


def _numbers(item: tree.Top, file: tree.File, text: str) -> Iterator[tuple[str, Any, str]]:
    signatures = {c.name: c for c in file.items if isinstance(c, tree.Component)}
    for node, above in walk(item):
        match node:
            case tree.Call(function=tree.Name(name=called)):
                piped = any(isinstance(a, tree.Pipe) and _steps(a)[-1] in (node, *above) for a in above[-3:])
                names = _parameter_names(called, signatures, piped)
                yield from _call(node, called, names, text)
            case tree.Name(name="everywhere" | "row" | "column"):
                yield from (("window", node.span, other) for other in WINDOWS)
            case tree.AxisDecl(name=name, size=size) if size is not None:
                yield from _values("head" if name == "heads" else "width", size)
            case tree.ListExpr(items=items) | tree.TupleExpr(items=items):
                role = _role(above)
                for one in items:
                    if isinstance(one, tree.Number) and isinstance(one.value, int):
                        yield from _values(role, one)
            case tree.Parameter(name=name, default=tree.Number(value=int()) as default):
                yield from _values(ROLES.get(name, "width"), default)
            case tree.Number(value=int()):
                yield from _values(_role(above), node)
            case tree.Loop(keyword="repeat" | "loop", iterable=count) if count is not None:
                yield from (("width", count.span, str(n)) for n in (1, 2, 3))
            case _:
                pass


def _role(above: tuple[tree.Node, ...]) -> str:
    """What a number stands for, by the keyword, function or axis that it stands in."""
    for node in reversed(above):
        match node:
            case tree.Argument(keyword=str(keyword)):
                return ROLES.get(keyword, "width")
            case tree.Call(function=tree.Name(name="split_heads")):
                return "head"
            case tree.Call(function=tree.Name(name=name)) if name in REGIONS:
                return "window"
            case tree.AxisDecl(name="heads"):
                return "head"
            case _:
                pass
    return "width"


def _parameter_names(called: str, signatures: dict[str, tree.Component], piped: bool) -> list[str]:
    """The parameters that the positional arguments of a call fill, the tensor of a pipeline left out."""
    if called in signatures:
        names = [p.name for p in signatures[called].parameters]
    elif called in OPERATIONS:
        op = OPERATIONS[called]
        names = [*(word.rstrip("?*") for word in op.operands.split()), *(p.name for p in parameters(op))]
    elif called in REGIONS or called in PATHS:
        return [p.name for p in parameters(REGIONS.get(called) or PATHS[called])]
    else:
        names = {"dwconv": ["x", "kernel", "stride"], "split_heads": ["x", "heads"]}.get(called, ["x"])
    return names[1:] if piped else names


def _call(node: tree.Call, called: str, names: list[str], text: str) -> Iterator[tuple[str, Any, str]]:
    given = {a.keyword for a in node.arguments if a.keyword is not None}
    for at, argument in enumerate(node.arguments):
        name = argument.keyword or (names[at] if at < len(names) else "")
        role = ROLES.get(name)
        if called in REGIONS:
            role = "window"
        if role is not None or (called in ("conv", "linear") and name == "out"):
            yield from _values(role or "width", argument.value)
        if role == "kernel":
            yield from (("kernel", argument.value.span, t) for t in ("[1, 3]", "[3, 1, 1]"))
    end = (node.span.end - 1, node.span.end - 1)
    comma = ", " if node.arguments else ""
    if called in SLIDING and text[end[0]] == ")":
        for keyword, kind, values in (
            ("groups", "group", ("2", "3", "4", "C")), ("stride", "stride", ("2", "3", "[1, 2]")),
            ("dilation", "dilation", ("2", "3", "0", "[1, 2]", "C")), ("pad", "kernel", ("0", "1", "2", '"tf"')),
        ):  # fmt: skip
            if keyword not in given and not (keyword == "groups" and called in ("dwconv", "max_pool", "avg_pool")):
                yield from ((kind, end, f"{comma}{keyword}={value}") for value in values)
    if called in REGIONS:
        yield from (("window", node.span, other) for other in WINDOWS)
    if called in PATHS:
        yield from (("window", node.span, other) for other in ORDERS)


def _values(kind: str, value: tree.Expr) -> Iterator[tuple[str, Span, str]]:
    """Other numbers in place of a value."""
    if isinstance(value, tree.Number):
        if not isinstance(value.value, int):
            return
        near = {value.value + 1, value.value - 1, 2 * value.value, value.value // 2, 3 * value.value}
        for n in sorted({*near, *(NUMBERS if kind not in ("width",) else (1,)), 0}):
            yield kind, value.span, str(n) if n >= 0 else f"-{-n}"
        return
    if isinstance(value, (tree.String, tree.Constant, tree.ListExpr, tree.TupleExpr)):
        return
    told = value.span.text if isinstance(value, tree.Name) else f"({value.span.text})"
    for new in (f"{told} + 1", f"2 * {told}", f"{told} // 2", f"{told} - 1", "2", "3", "0"):
        yield kind, value.span, new


# ---- axes


def _axes(item: tree.Top) -> Iterator[tuple[str, Any, str]]:
    for node, above in walk(item):
        match node:
            case tree.AxisDecl(name=name):
                start = (node.span.start, node.span.start + len(name))
                yield from (("axis", start, other) for other in AXES[:-1])
            case tree.TensorDecl(axes=axes):
                for first, second in pairwise(axes):
                    yield "axis", _both(first, second), _exchanged(first, second)
                    yield "axis", (first.span.start, second.span.start), ""
                if axes:
                    yield "axis", (axes[-1].span.end, axes[-1].span.end), ", N"
            case tree.Name(name=name) if name in AXES and _in_call(above):
                yield from (("axis", node.span, other) for other in AXES)
            case tree.Argument(keyword=str(keyword)) if keyword in AXES:
                yield from (("axis", (node.span.start, node.span.start + len(keyword)), o) for o in AXES[:-1])
            case tree.Subscript(axis=str(axis)):
                yield from (("axis", (node.span.start, node.span.start + len(axis)), o) for o in AXES[:-1])
            case tree.Attribute(name=name) if name in AXES:
                yield from (("axis", (node.span.end - len(name), node.span.end), o) for o in AXES[:-1])
            case tree.String(value=value) if value in AXES or re.search(r"[=(].*->|->.*[=(]", value):
                for word in re.finditer(r"\w+", node.span.text):
                    place = (node.span.start + word.start(), node.span.start + word.end())
                    yield from (("axis", place, other) for other in AXES[:-1])
            case _:
                pass


def _in_call(above: tuple[tree.Node, ...]) -> bool:
    return bool(above) and isinstance(above[-1], tree.Argument)


# ---- operands


def _operands(item: tree.Top, text: str) -> Iterator[tuple[str, Any, str]]:
    if not isinstance(item, (tree.Component, tree.Function)):
        return
    names = [p.name for p in item.parameters]
    for node, _ in walk(item):
        match node:
            case tree.Assign(targets=targets) | tree.Bind(targets=targets) | tree.Loop(targets=targets):
                names += targets
            case tree.Declare(name=name):
                names.append(name)
            case _:
                pass
    known = list(dict.fromkeys(names))
    for node, above in walk(item):
        match node:
            case tree.Name(name=name) if name in known and not any(isinstance(a, tree.AxisDecl) for a in above):
                yield from (("operand", node.span, other) for other in known if other != name)
            case tree.Binary(op=op, left=left, right=right):
                yield "operand", _both(left, right), _exchanged(left, right)
                place = text.index(op, left.span.end, right.span.start)
                for other in ("+", "-", "*", "/", "//"):
                    yield "operand", (place, place + len(op)), other
            case _:
                pass


# ---- missing and swapped


def _bodies(item: tree.Top) -> Iterator[tuple[tree.Statement, ...]]:
    for node, _ in walk(item):
        match node:
            case tree.Component(body=body) | tree.Loop(body=body) | tree.Entry(body=body):
                yield body
            case tree.If(then=then, otherwise=otherwise):
                yield then
                yield otherwise
            case _:
                pass


def _steps(node: tree.Expr) -> list[tree.Expr]:
    """The steps of a pipeline, what flows in first."""
    return [*_steps(node.left), node.right] if isinstance(node, tree.Pipe) else [node]


def _missing(item: tree.Top, text: str) -> Iterator[tuple[str, Any, str]]:
    if isinstance(item, (tree.Import, tree.Function)):
        yield "missing", item.span, ""
    for body in _bodies(item):
        yield from (("missing", s.span, "") for s in body if not isinstance(s, tree.Doc))
    for node, above in walk(item):
        match node:
            case tree.Pipe(left=left, right=right):
                yield "missing", (left.span.end, right.span.end), ""
            case tree.Call(arguments=items) | tree.ListExpr(items=items) | tree.TupleExpr(items=items):
                for at, one in enumerate(items):
                    if at + 1 < len(items):
                        yield "missing", (one.span.start, items[at + 1].span.start), ""
                    elif at:
                        yield "missing", (items[at - 1].span.end, one.span.end), ""
                    else:
                        yield "missing", one.span, ""
            case tree.Binary(left=left, right=right):
                yield "missing", (left.span.start, right.span.start), ""
                yield "missing", (left.span.end, right.span.end), ""
            case tree.Labelled(label=label, call=call):
                yield "missing", (node.span.start, call.span.start), ""
            case tree.Loop(label=str(label)):
                yield "missing", (node.span.start, text.index(node.keyword, node.span.start + len(label))), ""
            case tree.Paren(expr=inner):
                yield "missing", node.span, inner.span.text
            case tree.Parameter(default=default) if default is not None:
                yield "missing", (node.type.span.end, default.span.end), ""
            case tree.AxisDecl(name=name, size=size) if size is not None:
                yield "missing", (node.span.start + len(name), size.span.end), ""
            case tree.Component() if above == ():
                yield "missing", node.span, ""
            case _:
                pass


def _swapped(item: tree.Top, text: str) -> Iterator[tuple[str, Any, str]]:
    for body in _bodies(item):
        for at, first in enumerate(body):
            for second in body[at + 1 : at + 3]:
                if not isinstance(first, tree.Doc):
                    yield "swapped", _both(first, second), _exchanged(first, second)
    for node, above in walk(item):
        match node:
            case tree.Pipe() if not (above and isinstance(above[-1], tree.Pipe) and above[-1].left is node):
                steps = _steps(node)[1:]
                for first, second in pairwise(steps):
                    yield "swapped", _both(first, second), _exchanged(first, second)
            case tree.Call(arguments=items) | tree.ListExpr(items=items) | tree.TupleExpr(items=items):
                for first, second in pairwise(items):
                    yield "swapped", _both(first, second), _exchanged(first, second)
            case _:
                pass


def _both(first: tree.Node, second: tree.Node) -> tuple[int, int]:
    return first.span.start, second.span.end


def _exchanged(first: tree.Node, second: tree.Node) -> str:
    between = first.span.source.text[first.span.end : second.span.start]
    return second.span.text + between + first.span.text


# ---- typos


def _typos(item: tree.Top, text: str) -> Iterator[Change]:
    """Words of the language, names and axes with one letter too many, too few, changed, or two in the wrong order."""
    facts = [f.span for f in item.facts] if isinstance(item, tree.Binding) else []
    facts += [s.span for body in _bodies(item) for s in body if isinstance(s, (tree.Weights, tree.Doc))]
    for token in SCAN.finditer(text, item.span.start, item.span.end):
        word, start = token.group(), token.start()
        if token.lastgroup != "word" or word[0].isdigit() or any(s.start <= start < s.end for s in facts):
            continue
        for new in typos_of(word, start):
            yield "typo", (start, start + len(word)), new, word


def typos_of(word: str, seed: int) -> list[str]:
    """Some edits of a word, one of each sort at each place; letters are drawn by the place, so they are always the same."""
    letters = string.ascii_lowercase
    found: list[str] = []
    for at in range(len(word)):
        letter = letters[(seed * 7 + at * 11) % 26]
        letter = letter.upper() if word[at].isupper() else letter
        found.append(word[:at] + word[at + 1 :])
        found.append(word[:at] + letter + word[at + 1 :])
        found.append(word[:at] + letter + word[at:])
        if at + 1 < len(word):
            found.append(word[:at] + word[at + 1] + word[at] + word[at + 2 :])
    good = re.compile(r"[A-Za-z_]\w*$")
    return [new for new in dict.fromkeys(found) if new != word and good.match(new)]
