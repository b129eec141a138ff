"""Write a spec in the one canonical form."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from archc.source import Source
from archc.syntax import tree
from archc.syntax.layout import STEP, WIDTH, Layout, attach, column_after, steps_of
from archc.syntax.lines import SCAN, split_statements
from archc.syntax.parse import parse

MOST_STEPS = 3  # a statement's pipeline of more steps gets a line for each
ALIGNED = 40  # the arrows of weight rules are aligned behind patterns of at most so many characters
NO_WIDTH = 1 << 30

Block = tree.Component | tree.Entry | tree.Loop | tree.If | tree.Binding | tree.Weights
Draw = Callable[[Layout], str]


def format_source(source: Source) -> str:
    """The text of `source` in canonical form; it says the same and has the same comments in the same order.

    Raises ArchError where `source` does not parse.
    """
    file = parse(source)
    return _Formatter(source, file).file(file)


class _Formatter:
    """Walks the file once.

    `comments[self.next]` is the first comment not yet written, `self.end` the offset in the source of the end
    of what was written last.
    """

    def __init__(self, source: Source, file: tree.File) -> None:
        self.text = source.text
        self.comments = file.comments
        self.closers = split_statements(source).closers
        self.openers = {close: start for start, close in self.closers.items()}
        self.braces = sorted(start for start in self.closers if self.text[start] == "{")
        self.out: list[str] = []
        self.next = 0
        self.end = 0
        self.fresh = True  # nothing stands above in this body

    # ---- the file

    def file(self, file: tree.File) -> str:
        whole: list[str] = []
        above: tree.Top | None = None
        above_is_one_line = True
        for item in file.items:
            self.out = []
            self.own_line_comments(item.span.start, 0)
            comments = len(self.out)
            self.statement(item, 0)
            is_one_line = "\n" not in "\n".join(self.out[comments:]).lstrip("\n")
            if above is not None and self.out[0] != "":
                grouped = above_is_one_line and is_one_line
                if isinstance(above, tree.Doc | tree.Import):
                    grouped = isinstance(item, tree.Import)
                if not grouped:
                    whole.append("")
            whole += self.out
            above, above_is_one_line = item, is_one_line
        self.out = []
        self.own_line_comments(len(self.text), 0)
        return "".join(line + "\n" for line in whole + self.out)

    # ---- comments and blank lines

    def blank_line(self, start: int) -> None:
        """At most one blank line where the author left one above `start`."""
        if not self.fresh and self.text[self.end : start].count("\n") > 1:
            self.out.append("")

    def own_line_comments(self, until: int, indent: int) -> None:
        for comment in self.take(until):
            self.blank_line(comment.start)
            self.out.append(" " * indent + comment.text)
            self.wrote(comment.start + len(comment.text))

    def take(self, until: int) -> tuple[tree.Comment, ...]:
        """The comments before the offset `until` that are not yet written."""
        first = self.next
        while self.next < len(self.comments) and self.comments[self.next].start < until:
            self.next += 1
        return self.comments[first : self.next]

    def trailing_comment(self) -> None:
        """Write the comment that stands behind what was written last, on its line."""
        if self.next == len(self.comments):
            return
        comment = self.comments[self.next]
        between = self.text[self.end : comment.start]
        if comment.start >= self.end and "\n" not in between and not between.strip():
            self.out[-1] += "  " + comment.text
            self.next += 1
            self.end = comment.start + len(comment.text)

    def wrote(self, end: int) -> None:
        self.end = end
        self.fresh = False

    def with_comments(self, node: tree.Node, stop: int, indent: int, draw: Draw) -> str:
        """What `draw` gives, with the comments of `node` before `stop` in their places, or else above it."""
        inner = self.take(stop)
        if not inner:
            return draw(Layout())
        attached = attach(node, inner, self.text)
        if attached is not None:
            text = draw(Layout(WIDTH, attached))
            if _comments(text) == [comment.text for comment in inner]:
                return text
        self.out += [" " * indent + comment.text for comment in inner]
        return draw(Layout())

    # ---- statements

    def body(self, statements: Sequence[tree.Node], opener: int, indent: int) -> None:
        """The statements between the brace at `opener` and its partner."""
        self.end, self.fresh = opener + 1, True
        self.trailing_comment()
        width = self.arrow_column(statements)
        for statement in statements:
            self.own_line_comments(statement.span.start, indent)
            self.statement(statement, indent, width)
        self.own_line_comments(self.closers[opener], indent)

    def statement(self, node: tree.Node, indent: int, arrow: int = 0) -> None:
        self.blank_line(node.span.start)
        pad = " " * indent
        one_line = self.on_one_line(node, indent)
        if one_line is not None:
            self.out.append(pad + one_line)
        elif isinstance(node, tree.If):
            self.if_statement(node, indent)
        elif isinstance(node, Block) and (opener := self.opener(node)) is not None:
            text = self.with_comments(node, opener, indent, lambda layout: self.head(node, layout, indent))
            self.out.append(pad + text)
            self.braced(_body_of(node), opener, indent)
        else:
            draw: Draw = lambda layout: self.simple(node, layout, indent, arrow)  # noqa: E731
            self.out.append(pad + self.with_comments(node, node.span.end, indent, draw))
        self.wrote(node.span.end)
        self.trailing_comment()

    def braced(self, statements: Sequence[tree.Node], opener: int, indent: int) -> None:
        """A body in braces after its head, the last line written."""
        self.out[-1] += " {"
        line = len(self.out)
        written = self.out[-1]
        self.body(statements, opener, indent + STEP)
        if len(self.out) == line and self.out[-1] == written:
            self.out[-1] += "}"
        else:
            self.out.append(" " * indent + "}")

    def if_statement(self, node: tree.If, indent: int) -> None:
        prefix = "if "
        text = self.with_comments(
            node.condition,
            self.brace_after(node.condition.span.end),
            indent,
            lambda layout: prefix + layout.draw(node.condition, indent + 3, indent, 2),
        )
        self.out.append(" " * indent + text)
        while True:
            opener = self.brace_after(node.condition.span.end)
            self.braced(node.then, opener, indent)
            if node.span.end == self.closers[opener] + 1:
                return
            if not self.is_else_if(node):
                self.out[-1] += " else"
                self.braced(node.otherwise, self.openers[node.span.end - 1], indent)
                return
            node = node.otherwise[0]  # type: ignore[assignment]
            # A comment here would have no line of its own above it: it goes to the top of the body.
            self.out[-1] += " else if " + Layout().draw(node.condition, indent + 10, indent, 2)

    def is_else_if(self, node: tree.If) -> bool:
        """Whether `otherwise` is an `if` without braces around it."""
        return len(node.otherwise) == 1 and node.otherwise[0].span.end == node.span.end

    # ---- braces

    def brace_after(self, offset: int) -> int:
        return self.braces[bisect_left(self.braces, offset)]

    def opener(self, node: tree.Node) -> int | None:
        """The brace that opens the body of `node`; None for a binding without facts."""
        return self.openers[node.span.end - 1] if self.text[node.span.end - 1] == "}" else None

    # ---- one line

    def on_one_line(self, node: tree.Node, indent: int) -> str | None:
        """`node` with its body beside it, where the author wrote it so and it fits."""
        if not isinstance(node, Block) or "\n" in node.span.text or self.opener(node) is None:
            return None
        text = self.whole(node, Layout(NO_WIDTH))
        return text if indent + len(text) <= WIDTH else None

    def whole(self, node: tree.Node, layout: Layout) -> str:
        """`node` on one line, with everything in it."""
        if isinstance(node, tree.If):
            text = f"if {layout.flat(node.condition)} {self.inside(node.then, layout)}"
            if node.span.end == self.closers[self.brace_after(node.condition.span.end)] + 1:
                return text
            nested = self.is_else_if(node)
            return f"{text} else " + (
                self.whole(node.otherwise[0], layout) if nested else self.inside(node.otherwise, layout)
            )
        if isinstance(node, Block) and self.opener(node) is not None:
            return f"{self.head(node, layout, 0)} {self.inside(_body_of(node), layout)}"
        return self.simple(node, layout, 0, 0)

    def inside(self, statements: Sequence[tree.Node], layout: Layout) -> str:
        return "{ " + self.whole(statements[0], layout) + " }" if statements else "{}"

    # ---- heads of blocks

    def head(self, node: tree.Node, layout: Layout, indent: int) -> str:
        """`node` up to its opening brace."""
        if isinstance(node, tree.Component):
            return self.signature(f"{node.role} {node.name}", node, node.results, layout, indent)
        if isinstance(node, tree.Entry):
            return self.signature(f"entry {node.name}", node, node.results, layout, indent)
        if isinstance(node, tree.Binding):
            return self.valued(f"{node.name} = ", node.value, layout, indent, 2)
        if isinstance(node, tree.Loop):
            return self.loop_head(node, layout, indent)
        return "weights"

    def loop_head(self, node: tree.Loop, layout: Layout, indent: int) -> str:
        text = f"{node.label}: {node.keyword}" if node.label else node.keyword
        targets = ", ".join(node.targets)
        if node.iterable is None:
            return text
        if node.keyword in ("for", "stage"):
            text += f" {targets} in "
            return text + layout.draw(node.iterable, indent + len(text), indent, 2)
        turn = f" as {targets}" if targets else ""
        return text + " " + layout.draw(node.iterable, indent + len(text) + 1, indent, 2 + len(turn)) + turn

    def signature(
        self,
        prefix: str,
        node: tree.Component | tree.Entry | tree.Function,
        results: Sequence[tree.TypeDecl],
        layout: Layout,
        indent: int,
    ) -> str:
        arrow = " -> " + layout.flats(results) if results else ""
        flat = f"{prefix}({layout.flats(node.parameters)})"
        commented = layout.has_comments(node) or any(id(p) in layout.attached.broken for p in node.parameters)
        if commented or indent + len(flat) + len(arrow) + 2 > layout.width:
            flat = prefix + layout.bracketed(node, "(", ")", indent)
        if column_after(flat, indent) + len(arrow) + 2 > layout.width:
            arrow = " -> " + (",\n" + " " * (indent + STEP)).join(map(layout.flat, results))
        return flat + arrow

    # ---- statements without a body

    def valued(self, prefix: str, value: tree.Expr, layout: Layout, indent: int, tail: int = 0) -> str:
        """`prefix value`, where a long pipeline is broken even if it would fit."""
        long = isinstance(value, tree.Pipe) and len(steps_of(value)) - 1 > MOST_STEPS
        if long and layout.width != NO_WIDTH:
            layout.attached.broken.add(id(value))
        return prefix + layout.draw(value, indent + len(prefix), indent, tail)

    def open_tuple(self, prefix: str, value: tree.Expr, layout: Layout, indent: int) -> str:
        """`prefix a, b`: no parentheses are needed around short items that are no pipelines."""
        if isinstance(value, tree.TupleExpr) and len(value.items) > 1:
            bare = layout.flats(value.items)
            simple = not any(isinstance(item, tree.Pipe) for item in value.items)
            if simple and layout.fits(value, indent + len(prefix), 0):
                return prefix + bare
        return self.valued(prefix, value, layout, indent)

    def simple(self, node: tree.Node, layout: Layout, indent: int, arrow: int) -> str:
        return _SIMPLE[type(node)](self, node, layout, indent, arrow)

    def doc(self, node: tree.Doc, layout: Layout, indent: int, arrow: int) -> str:
        return node.span.text

    def import_(self, node: tree.Import, layout: Layout, indent: int, arrow: int) -> str:
        names = [f"{i.name} as {i.alias}" if i.alias != i.name else i.name for i in node.names]
        text = f"from {'.' * node.dots}{'.'.join(node.path)} import "
        joined = ", ".join(names)
        return text + (joined if len(text + joined) <= layout.width else (",\n" + " " * STEP).join(names))

    def binding(self, node: tree.Binding, layout: Layout, indent: int, arrow: int) -> str:
        return self.valued(f"{node.name} = ", node.value, layout, indent)

    def function(self, node: tree.Function, layout: Layout, indent: int, arrow: int) -> str:
        text = self.signature(f"fn {node.name}", node, (), layout, indent) + " = "
        return text + layout.draw(node.body, column_after(text, indent), indent)

    def assign(self, node: tree.Assign, layout: Layout, indent: int, arrow: int) -> str:
        return self.open_tuple(", ".join(node.targets) + " = ", node.value, layout, indent)

    def augment(self, node: tree.Augment, layout: Layout, indent: int, arrow: int) -> str:
        return self.valued(f"{node.target} {node.op} ", node.value, layout, indent)

    def return_(self, node: tree.Return, layout: Layout, indent: int, arrow: int) -> str:
        if len(node.values) == 1:
            return self.valued("return ", node.values[0], layout, indent)
        flat = "return " + layout.flats(node.values)
        commented = any(id(value) in layout.attached.broken for value in node.values)
        if not commented and indent + len(flat) <= layout.width:
            return flat
        at = indent + len("return ")
        values = [layout.draw(value, at, at, 1) for value in node.values]
        return "return " + (",\n" + " " * at).join(values)

    def declare(self, node: tree.Declare, layout: Layout, indent: int, arrow: int) -> str:
        options = f" with ({layout.flats(node.options)})" if node.options else ""
        text = f"{node.keyword} {node.name}: {layout.flat(node.type)}"
        if node.value is None:
            return text + options
        return self.valued(text + " = ", node.value, layout, indent, len(options)) + options

    def bind(self, node: tree.Bind, layout: Layout, indent: int, arrow: int) -> str:
        when = f" when {node.when}" if node.when else ""
        prefix = f"{node.keyword} {', '.join(node.targets)}{when} = "
        return self.open_tuple(prefix, node.value, layout, indent)

    def require(self, node: tree.Require, layout: Layout, indent: int, arrow: int) -> str:
        if node.message is None:
            return "require " + layout.draw(node.condition, indent + 8, indent)
        message = self.last_string(node)
        text = "require " + layout.draw(node.condition, indent + 8, indent, 1) + ","
        if column_after(text, indent) + 1 + len(message) <= layout.width or layout.width == NO_WIDTH:
            return f"{text} {message}"
        return text + "\n" + " " * (indent + STEP) + message

    def init(self, node: tree.Init, layout: Layout, indent: int, arrow: int) -> str:
        return self.valued(f"init {node.owner}.{node.weight} = ", node.value, layout, indent)

    def claim(self, node: tree.Claim, layout: Layout, indent: int, arrow: int) -> str:
        within = f" within {layout.flat(node.within)}" if node.within else ""
        return "claim " + layout.draw(node.condition, indent + 6, indent, len(within)) + within

    def matches(self, node: tree.Matches, layout: Layout, indent: int, arrow: int) -> str:
        return "matches " + self.last_string(node)

    def rule(self, node: tree.Rule, layout: Layout, indent: int, arrow: int) -> str:
        strings = self.strings(node)
        sources = ", ".join(strings[: len(node.sources)])
        target = "drop" if node.target is None else strings[len(node.sources)]
        text = f"{sources.ljust(arrow)} -> {target}"
        for step in node.transforms:
            text += " |> " + layout.draw(step, column_after(text, indent) + 4, indent)
        return text

    def strings(self, node: tree.Node) -> list[str]:
        """The strings of `node` as they are written, with their escapes."""
        return [match.group() for match in SCAN.finditer(node.span.text) if match.lastgroup == "text"]

    def last_string(self, node: tree.Node) -> str:
        return self.strings(node)[-1]

    def arrow_column(self, statements: Sequence[tree.Node]) -> int:
        """How wide the sources of weight rules are written."""
        widths = [
            len(", ".join(self.strings(rule)[: len(rule.sources)]))
            for rule in statements
            if isinstance(rule, tree.Rule)
        ]
        return max((width for width in widths if width <= ALIGNED), default=0)


def _body_of(node: tree.Node) -> Sequence[tree.Node]:
    if isinstance(node, tree.Binding):
        return node.facts
    if isinstance(node, tree.Weights):
        return node.rules
    assert isinstance(node, tree.Component | tree.Entry | tree.Loop)
    return node.body


def _comments(text: str) -> list[str]:
    return [match.group() for match in SCAN.finditer(text) if match.lastgroup == "comment"]


_SIMPLE: dict[type, Callable[..., str]] = {
    tree.Doc: _Formatter.doc,
    tree.Import: _Formatter.import_,
    tree.Binding: _Formatter.binding,
    tree.Function: _Formatter.function,
    tree.Assign: _Formatter.assign,
    tree.Augment: _Formatter.augment,
    tree.Return: _Formatter.return_,
    tree.Declare: _Formatter.declare,
    tree.Bind: _Formatter.bind,
    tree.Require: _Formatter.require,
    tree.Init: _Formatter.init,
    tree.Claim: _Formatter.claim,
    tree.Matches: _Formatter.matches,
    tree.Rule: _Formatter.rule,
}
