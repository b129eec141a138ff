"""Lay an expression out in lines of at most a given width, in the one form that the formatter knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, fields
from typing import Any

from archc.records import dataclass
from archc.syntax import tree

WIDTH = 100
STEP = 4
SHORT_HEAD = 20  # a pipeline keeps its first step beside a head of at most so many characters
FAR_RIGHT = 40  # steps are not aligned under an expression that begins beyond this column


@dataclass
class Attached:
    """Comments inside a statement, by the node that they stand at; `broken` are the nodes that hold them."""

    before: dict[int, list[str]] = field(default_factory=dict)
    after: dict[int, str] = field(default_factory=dict)
    last: dict[int, list[str]] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)


def attach(root: tree.Node, comments: Sequence[tree.Comment], text: str) -> Attached | None:
    """Find a place for every comment inside `root`; None if one of them has none."""
    attached = Attached()
    return attached if all(_place(root, comment, text, attached) for comment in comments) else None


def _place(node: tree.Node, comment: tree.Comment, text: str, attached: Attached) -> bool:
    items = items_of(node)
    inside = next((child for child in items or _children(node) if _holds(child, comment)), None)
    done = inside is not None and _place(inside, comment, text, attached)
    if not done and isinstance(node, tree.Paren) and comment.start >= node.expr.span.end:
        attached.last.setdefault(id(node), []).append(comment.text)
        done = True
    if not done and items is not None:
        done = _place_among(node, items, inside, comment, text, attached)
    if done:
        attached.broken.add(id(node))
    return done


def _place_among(
    node: tree.Node,
    items: Sequence[tree.Node],
    inside: tree.Node | None,
    comment: tree.Comment,
    text: str,
    attached: Attached,
) -> bool:
    earlier = [item for item in items if item.span.end <= comment.start]
    later = inside or next((item for item in items if item.span.start > comment.start), None)
    if inside is None and earlier and "\n" not in text[earlier[-1].span.end : comment.start]:
        if id(earlier[-1]) in attached.after:
            return False
        attached.after[id(earlier[-1])] = comment.text
    elif later is not None:
        if isinstance(node, tree.Pipe) and later is items[0]:
            return False
        attached.before.setdefault(id(later), []).append(comment.text)
    elif isinstance(node, tree.Pipe):
        return False
    else:
        attached.last.setdefault(id(node), []).append(comment.text)
    return True


def _holds(node: tree.Node, comment: tree.Comment) -> bool:
    return node.span.start <= comment.start < node.span.end


def items_of(node: tree.Node) -> Sequence[tree.Node] | None:
    """What stands one to a line when `node` is broken; None where `node` has no such list."""
    if isinstance(node, tree.ListExpr | tree.TupleExpr):
        return node.items
    if isinstance(node, tree.Pipe):
        return steps_of(node)
    if isinstance(node, tree.Call):
        return node.arguments
    if isinstance(node, tree.Index):
        return node.subscripts
    if isinstance(node, tree.Component | tree.Entry | tree.Function):
        return node.parameters
    return None


def _children(node: tree.Node) -> list[tree.Node]:
    values = [getattr(node, item.name) for item in fields(node) if item.name != "span"]
    spread = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return [part for part in spread if isinstance(part, tree.Node)]


def steps_of(pipe: tree.Expr) -> list[tree.Expr]:
    """The head of a pipeline and its steps."""
    steps: list[tree.Expr] = []
    while isinstance(pipe, tree.Pipe):
        steps.append(pipe.right)
        pipe = pipe.left
    return [pipe, *reversed(steps)]


def column_after(text: str, column: int) -> int:
    """Where a line stands after `text` that began at `column`."""
    newline = text.rfind("\n")
    return column + len(text) if newline < 0 else len(text) - newline - 1


class Layout:
    """Draws nodes.

    In every method `column` is where the text begins, `indent` the indentation of the line that it begins on,
    and `tail` the room that what follows on the last line needs.
    """

    def __init__(self, width: int = WIDTH, attached: Attached | None = None) -> None:
        self.width = width
        self.attached = attached or Attached()
        self._flat: dict[int, str] = {}

    def draw(self, node: tree.Node, column: int, indent: int, tail: int = 0) -> str:
        flat = self.flat(node)
        if id(node) not in self.attached.broken and column + len(flat) + tail <= self.width:
            return flat
        drawer = _BROKEN.get(type(node))
        return drawer(self, node, column, indent, tail) if drawer else flat

    def flat(self, node: tree.Node) -> str:
        """`node` on one line."""
        known = self._flat.get(id(node))
        if known is None:
            known = self._flat[id(node)] = _FLAT[type(node)](self, node)
        return known

    def flats(self, nodes: Sequence[tree.Node]) -> str:
        return ", ".join(map(self.flat, nodes))

    def fits(self, node: tree.Node, column: int, tail: int) -> bool:
        return id(node) not in self.attached.broken and column + len(self.flat(node)) + tail <= self.width

    # ---- lists in brackets

    def bracketed(self, node: tree.Node, opener: str, closer: str, indent: int, comma: bool = True) -> str:
        """The items of `node` in brackets, on lines of their own."""
        items = list(items_of(node) or ())
        inner = indent + STEP
        pad, end = "\n" + " " * inner, "\n" + " " * indent + closer
        joined = self.flats(items) + ("," if isinstance(node, tree.TupleExpr) and len(items) == 1 else "")
        if id(node) not in self.attached.broken:
            if inner + len(joined) <= self.width:
                return opener + pad + joined + end
            if all(isinstance(item, tree.Number) for item in items):
                return opener + pad + self._filled(items, inner) + end
        out = [opener]
        for item in items:
            out += [pad + comment for comment in self.attached.before.get(id(item), ())]
            is_last = item is items[-1]
            out.append(pad + self.draw(item, inner, inner, 1) + ("," if comma or not is_last else ""))
            if id(item) in self.attached.after:
                out.append("  " + self.attached.after[id(item)])
        out += [pad + comment for comment in self.attached.last.get(id(node), ())]
        return "".join(out) + end

    def _filled(self, items: Sequence[tree.Node], inner: int) -> str:
        lines = [""]
        for item in items:
            word = self.flat(item) + ","
            if lines[-1] and inner + len(lines[-1]) + 1 + len(word) > self.width:
                lines.append("")
            lines[-1] += " " + word if lines[-1] else word
        return ("\n" + " " * inner).join(lines)

    def broken_list(self, node: tree.Node, column: int, indent: int, tail: int) -> str:
        opener, closer = ("[", "]") if isinstance(node, tree.ListExpr) else ("(", ")")
        return self.bracketed(node, opener, closer, indent)

    def broken_call(self, node: tree.Call, column: int, indent: int, tail: int) -> str:
        function = self.draw(node.function, column, indent, 1)
        at = column_after(function, column)
        if id(node) not in self.attached.broken:
            arguments = "(" + self.flats(node.arguments) + ")"
            if at + len(arguments) + tail <= self.width:
                return function + arguments
        if not self.has_comments(node):
            if len(node.arguments) == 1 and isinstance(node.arguments[0].value, _HUGGED):
                return function + "(" + self.draw(node.arguments[0], at + 1, indent, tail + 1) + ")"
            if not node.arguments:
                return function + "()"
        return function + self.bracketed(node, "(", ")", indent)

    def broken_index(self, node: tree.Index, column: int, indent: int, tail: int) -> str:
        value = self.draw(node.value, column, indent, 1)
        return value + self.bracketed(node, "[", "]", indent, comma=False)

    def broken_comprehension(self, node: tree.Comprehension, column: int, indent: int, tail: int) -> str:
        inner = indent + STEP
        pad = "\n" + " " * inner
        loop = f"for {', '.join(node.targets)} in "
        value = self.draw(node.expr, inner, inner)
        iterable = self.draw(node.iterable, inner + len(loop), inner)
        return f"[{pad}{value}{pad}{loop}{iterable}\n{' ' * indent}]"

    def has_comments(self, node: tree.Node) -> bool:
        """Whether comments stand between the items of `node` itself."""
        around = {*self.attached.before, *self.attached.after}
        return id(node) in self.attached.last or any(id(item) in around for item in items_of(node) or ())

    # ---- pipelines

    def broken_pipe(self, node: tree.Pipe, column: int, indent: int, tail: int) -> str:
        head, *steps = steps_of(node)
        attached = self.attached
        beside = column + len(self.flat(head)) + 1
        keep = len(self.flat(head)) <= SHORT_HEAD and self.fits(head, column, 0)
        keep = keep and id(head) not in attached.after and id(steps[0]) not in attached.before
        if keep and len(steps) == 1 and not self.fits(steps[0], beside + 3, tail):
            step = steps[0].call if isinstance(steps[0], tree.Labelled) else steps[0]
            if isinstance(step, _HUGGED):
                return self.flat(head) + " |> " + self.draw(steps[0], beside + 3, indent, tail)
        keep = keep and all(self.fits(step, beside + 3, tail if step is steps[-1] else 0) for step in steps)
        at = beside if keep else column if column <= FAR_RIGHT else indent + STEP
        pad = "\n" + " " * at
        text = self.draw(head, column, indent)
        if id(head) in attached.after:
            text += "  " + attached.after[id(head)]
        for number, step in enumerate(steps):
            text += "".join(pad + comment for comment in attached.before.get(id(step), ()))
            text += " " if keep and number == 0 else pad
            text += "|> " + self.draw(step, at + 3, at, tail if step is steps[-1] else 0)
            if id(step) in attached.after:
                text += "  " + attached.after[id(step)]
        return text

    # ---- operators

    def joined(self, left: str, op: str, right: tree.Expr, column: int, indent: int, tail: int) -> str:
        """`left op right`, where `right` goes on the next line if it does not fit beside and fits there."""
        at = column_after(left, column) + len(op) + 2
        inner = indent + STEP
        if self.fits(right, at, tail) or (isinstance(right, _HUGGED) and not self.fits(right, inner, tail)):
            return f"{left} {op} " + self.draw(right, at, indent, tail)
        return f"{left} {op}\n" + " " * inner + self.draw(right, inner, inner, tail)

    def broken_binary(self, node: tree.Binary, column: int, indent: int, tail: int) -> str:
        left = self.draw(node.left, column, indent, len(node.op) + 1)
        return self.joined(left, node.op, node.right, column, indent, tail)

    def broken_compare(self, node: tree.Compare, column: int, indent: int, tail: int) -> str:
        text = self.draw(node.operands[0], column, indent, 3)
        for op, operand in zip(node.ops, node.operands[1:], strict=True):
            text = self.joined(text, op, operand, column, indent, tail if operand is node.operands[-1] else 3)
        return text

    def broken_conditional(self, node: tree.Conditional, column: int, indent: int, tail: int) -> str:
        text = self.draw(node.then, column, indent, 3) + " if "
        text += self.draw(node.condition, column_after(text, column), indent)
        inner = indent + STEP
        return text + "\n" + " " * inner + "else " + self.draw(node.otherwise, inner + 5, inner, tail)

    def broken_paren(self, node: tree.Paren, column: int, indent: int, tail: int) -> str:
        comments = self.attached.last.get(id(node))
        text = "(" + self.draw(node.expr, column + 1, indent, 0 if comments else tail + 1)
        if not comments:
            return text + ")"
        pad = "\n" + " " * column
        more = "".join(f"{pad} {comment}" for comment in comments[1:])
        return f"{text}  {comments[0]}{more}{pad})"

    def prefixed(self, prefix: str, node: tree.Node, column: int, indent: int, tail: int) -> str:
        return prefix + self.draw(node, column + len(prefix), indent, tail)

    def broken_subscript(self, node: tree.Subscript, column: int, indent: int, tail: int) -> str:
        if isinstance(node.index, tree.Slice):
            return self.subscript(node)
        return self.prefixed(f"{node.axis}=" if node.axis else "", node.index, column, indent, tail)

    def broken_attribute(self, node: tree.Attribute, column: int, indent: int, tail: int) -> str:
        return self.draw(node.value, column, indent, tail + 1 + len(node.name)) + "." + node.name

    def broken_parameter(self, node: tree.Parameter, column: int, indent: int, tail: int) -> str:
        head = self.parameter_head(node)
        return self.prefixed(head, node.default, column, indent, tail) if node.default else head

    # ---- whole parts of statements

    def subscript(self, node: tree.Subscript) -> str:
        axis = f"{node.axis}=" if node.axis else ""
        if not isinstance(node.index, tree.Slice):
            return axis + self.flat(node.index)
        start, stop = node.index.start, node.index.stop
        return f"{axis}{self.flat(start) if start else ''}:{self.flat(stop) if stop else ''}"

    def tensor(self, node: tree.TensorDecl) -> str:
        axes = [
            "..." if isinstance(a, tree.Rest) else f"{a.name}={self.flat(a.size)}" if a.size else a.name
            for a in node.axes
        ]
        return ("" if node.dtype == "float" else node.dtype) + "[" + ", ".join(axes) + "]"

    def parameter_head(self, node: tree.Parameter) -> str:
        return f"{node.name}: {self.flat(node.type)}" + (" = " if node.default else "")


_HUGGED = tree.Call | tree.ListExpr | tree.TupleExpr | tree.Comprehension | tree.Paren | tree.Index


_FLAT: dict[type, Callable[[Layout, Any], str]] = {
    tree.Name: lambda d, n: n.name,
    tree.Number: lambda d, n: n.text,
    tree.String: lambda d, n: n.span.text,
    tree.Constant: lambda d, n: "none" if n.value is None else str(n.value).lower(),
    tree.Paren: lambda d, n: f"({d.flat(n.expr)})",
    tree.TupleExpr: lambda d, n: f"({d.flats(n.items)}{',' if len(n.items) == 1 else ''})",
    tree.ListExpr: lambda d, n: f"[{d.flats(n.items)}]",
    tree.Comprehension: lambda d, n: f"[{d.flat(n.expr)} for {', '.join(n.targets)} in {d.flat(n.iterable)}]",
    tree.Unary: lambda d, n: ("-" if n.op == "-" else "not ") + d.flat(n.operand),
    tree.Binary: lambda d, n: f"{d.flat(n.left)} {n.op} {d.flat(n.right)}",
    tree.Compare: lambda d, n: (
        d.flat(n.operands[0])
        + "".join(f" {op} {d.flat(operand)}" for op, operand in zip(n.ops, n.operands[1:], strict=True))
    ),
    tree.Conditional: lambda d, n: f"{d.flat(n.then)} if {d.flat(n.condition)} else {d.flat(n.otherwise)}",
    tree.Argument: lambda d, n: (f"{n.keyword}=" if n.keyword else "") + d.flat(n.value),
    tree.Call: lambda d, n: f"{d.flat(n.function)}({d.flats(n.arguments)})",
    tree.Subscript: lambda d, n: d.subscript(n),
    tree.Index: lambda d, n: f"{d.flat(n.value)}[{d.flats(n.subscripts)}]",
    tree.Attribute: lambda d, n: f"{d.flat(n.value)}.{n.name}",
    tree.Labelled: lambda d, n: f"{n.label}: {d.flat(n.call)}",
    tree.Pipe: lambda d, n: f"{d.flat(n.left)} |> {d.flat(n.right)}",
    tree.Kind: lambda d, n: n.name,
    tree.ListDecl: lambda d, n: f"list[{d.flat(n.item)}]",
    tree.TensorDecl: lambda d, n: d.tensor(n),
    tree.Parameter: lambda d, n: d.parameter_head(n) + (d.flat(n.default) if n.default else ""),
}

_BROKEN: dict[type, Callable[[Layout, Any, int, int, int], str]] = {
    tree.Paren: Layout.broken_paren,
    tree.TupleExpr: Layout.broken_list,
    tree.ListExpr: Layout.broken_list,
    tree.Comprehension: Layout.broken_comprehension,
    tree.Unary: lambda d, n, *at: d.prefixed("-" if n.op == "-" else "not ", n.operand, *at),
    tree.Binary: Layout.broken_binary,
    tree.Compare: Layout.broken_compare,
    tree.Conditional: Layout.broken_conditional,
    tree.Argument: lambda d, n, *at: d.prefixed(f"{n.keyword}=" if n.keyword else "", n.value, *at),
    tree.Call: Layout.broken_call,
    tree.Subscript: Layout.broken_subscript,
    tree.Index: Layout.broken_index,
    tree.Attribute: Layout.broken_attribute,
    tree.Labelled: lambda d, n, *at: d.prefixed(f"{n.label}: ", n.call, *at),
    tree.Pipe: Layout.broken_pipe,
    tree.Parameter: Layout.broken_parameter,
}
