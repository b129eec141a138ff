"""From lark's tree to the syntax tree."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

from lark import Token, Tree

from archc.diagnostics import MOST_FINDINGS, ArchError, Diagnostic, fail
from archc.source import Source, Span
from archc.syntax import tree
from archc.syntax.lines import TRUTH

MAX_DEPTH = 150  # of the syntax tree: whoever walks it may recurse
MAX_DIGITS = 30
UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "none": None}
ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
ARITHMETIC = (tree.Binary, tree.Compare, tree.Unary, tree.Conditional)

Part: TypeAlias = "Tree[Token] | Token"


def build(source: Source, parsed: Tree[Token]) -> tuple[tree.Top, ...]:
    """The items of the file `source` that lark has parsed.

    Raises ArchError for every pipeline mixed with arithmetic, every number too large and every unknown
    escape, and for an expression nested too deeply.
    """
    builder = _Builder(source)
    items = tuple(builder.top(part) for part in parsed.children if isinstance(part, Tree))
    if builder.found:
        raise builder.error()
    return items


class _Builder:
    """Builds nodes, gathering what is wrong with them; `depth` counts the nodes above the one being built."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.found: list[Diagnostic] = []

    def report(self, finding: Diagnostic) -> None:
        self.found.append(finding)
        if len(self.found) >= MOST_FINDINGS:
            raise self.error()

    def error(self) -> ArchError:
        return ArchError(sorted(self.found, key=lambda d: d.span.start if d.span else 0))

    def span(self, part: Part) -> Span:
        if isinstance(part, Token):
            assert part.start_pos is not None and part.end_pos is not None
            return Span(self.source, part.start_pos, part.end_pos)
        return Span(self.source, part.meta.start_pos, part.meta.end_pos)

    def around(self, first: tree.Node, last: tree.Node) -> Span:
        return Span(self.source, first.span.start, last.span.end)

    # ---- the file

    def top(self, part: Tree[Token]) -> tree.Top:
        children: list[Any] = part.children
        span = self.span(part)
        if part.data == "import":
            source, *names = children
            dots = next((str(token) for token in source.children if token.type == "DOTS"), "")
            path = tuple(str(token) for token in source.children if token.type == "NAME")
            imported = tuple(self.imported(name) for name in names)
            return tree.Import(len(dots), path, imported, span=span)
        if part.data == "binding":
            facts = self.statements(children[2], 1) if len(children) == 3 else ()
            return tree.Binding(str(children[0]), self.expr(children[1], 1), facts, span=span)
        if part.data == "function":
            value = self.expr(children[-1], 1)
            return tree.Function(str(children[0]), self.parameters(part, 1), value, span=span)
        if part.data == "component":
            role, name, *_ = children
            parameters, results = self.parameters(part, 1), self.results(part, 1)
            body = self.statements(children[-1], 1)
            return tree.Component(str(role), str(name), parameters, results, body, span=span)
        return self.doc(part, 0)

    def imported(self, part: Tree[Token]) -> tree.Imported:
        return tree.Imported(str(part.children[0]), str(part.children[-1]), span=self.span(part))

    def doc(self, part: Tree[Token], _: int) -> tree.Doc:
        return tree.Doc(str(part.children[0])[3:-3], span=self.span(part))

    def parameters(self, part: Tree[Token], depth: int) -> tuple[tree.Parameter, ...]:
        found: list[tree.Parameter] = []
        for parameter in _parts(part, "parameters"):
            name, type_, *default = parameter.children
            value = self.expr(default[0], depth + 1) if default else None
            found.append(tree.Parameter(str(name), self.type(type_, depth + 1), value, span=self.span(parameter)))
        return tuple(found)

    def results(self, part: Tree[Token], depth: int) -> tuple[tree.TypeDecl, ...]:
        return tuple(self.type(child, depth + 1) for child in _parts(part, "types"))

    # ---- types

    def type(self, part: Any, depth: int) -> tree.TypeDecl:
        self.check_depth(part, depth)
        span = self.span(part)
        if part.data == "kind":
            return tree.Kind(str(part.children[0]), span=span)
        if part.data == "list_type":
            return tree.ListDecl(self.type(part.children[0], depth + 1), span=span)
        dtype = str(part.children[0]) if part.data == "typed_tensor" else "float"
        axes: list[tree.AxisDecl | tree.Rest] = []
        for axis in _parts(part, "axes"):
            if axis.data == "rest":
                axes.append(tree.Rest(span=self.span(axis)))
                continue
            name, *size = axis.children
            value = self.expr(size[0], depth + 1) if size else None
            axes.append(tree.AxisDecl(str(name), value, span=self.span(axis)))
        return tree.TensorDecl(dtype, tuple(axes), span=span)

    # ---- statements

    def statements(self, body: Tree[Token], depth: int) -> tuple[Any, ...]:
        return tuple(self.statement(part, depth) for part in body.children if isinstance(part, Tree))

    def statement(self, part: Tree[Token], depth: int) -> tree.Statement:
        self.check_depth(part, depth)
        return getattr(self, f"{part.data}_statement", self.doc)(part, depth)

    def assign_statement(self, part: Any, depth: int) -> tree.Assign:
        targets, values = part.children
        return tree.Assign(_names(targets), self.one_value(values, depth + 1), span=self.span(part))

    def augment_statement(self, part: Any, depth: int) -> tree.Augment:
        target, op, value = part.children
        return tree.Augment(str(target), str(op), self.expr(value, depth + 1), span=self.span(part))

    def return_statement(self, part: Any, depth: int) -> tree.Return:
        values = tuple(self.expr(value, depth + 1) for value in part.children[0].children)
        return tree.Return(values, span=self.span(part))

    def declare_statement(self, part: Any, depth: int) -> tree.Declare:
        keyword, name, type_, *rest = part.children
        options: tuple[tree.Argument, ...] = ()
        if rest and isinstance(rest[-1], Tree) and rest[-1].data == "options":
            options = self.arguments(rest.pop(), depth + 1)
        value = self.expr(rest[0], depth + 1) if rest else None
        decl = self.type(type_, depth + 1)
        return tree.Declare(str(keyword), str(name), decl, value, options, span=self.span(part))

    def bind_statement(self, part: Any, depth: int) -> tree.Bind:
        keyword, targets, *when, values = part.children
        state = str(when[0].children[0]) if when else None
        value = self.one_value(values, depth + 1)
        return tree.Bind(str(keyword), _names(targets), state, value, span=self.span(part))

    def require_statement(self, part: Any, depth: int) -> tree.Require:
        condition, *message = part.children
        text = self.string(message[0]) if message else None
        return tree.Require(self.expr(condition, depth + 1), text, span=self.span(part))

    def init_statement(self, part: Any, depth: int) -> tree.Init:
        owner, weight, value = part.children
        return tree.Init(str(owner), str(weight), self.expr(value, depth + 1), span=self.span(part))

    def claim_statement(self, part: Any, depth: int) -> tree.Claim:
        condition, *within = part.children
        tolerance = self.expr(within[0], depth + 1) if within else None
        return tree.Claim(self.expr(condition, depth + 1), tolerance, span=self.span(part))

    def matches_statement(self, part: Any, _: int) -> tree.Matches:
        return tree.Matches(self.string(part.children[0]), span=self.span(part))

    def for_statement(self, part: Any, depth: int) -> tree.Loop:
        label, targets, iterable = None, (), None
        *head, body = part.children
        for child in head:
            if isinstance(child, Tree) and child.data == "level":
                label = str(child.children[0])
            elif isinstance(child, Tree) and child.data in ("targets", "turn"):
                targets = _names(child)
            else:
                iterable = self.expr(child, depth + 1)
        statements = self.statements(body, depth + 1)
        return tree.Loop(str(part.data), label, targets, iterable, statements, span=self.span(part))

    repeat_statement = loop_statement = stage_statement = for_statement

    def if_statement(self, part: Any, depth: int) -> tree.If:
        condition, then, *rest = part.children
        otherwise: tuple[tree.Statement, ...] = ()
        if rest and rest[0].data == "if":
            otherwise = (self.statement(rest[0], depth + 1),)
        elif rest:
            otherwise = self.statements(rest[0], depth + 1)
        value = self.expr(condition, depth + 1)
        return tree.If(value, self.statements(then, depth + 1), otherwise, span=self.span(part))

    def entry_statement(self, part: Any, depth: int) -> tree.Entry:
        parameters, results = self.parameters(part, depth + 1), self.results(part, depth + 1)
        body = self.statements(part.children[-1], depth + 1)
        return tree.Entry(str(part.children[0]), parameters, results, body, span=self.span(part))

    def weights_statement(self, part: Any, depth: int) -> tree.Weights:
        rules: list[tree.Rule] = []
        for rule in part.children:
            if isinstance(rule, Token):
                continue
            sources, target, *transforms = rule.children
            names = tuple(self.string(token) for token in sources.children)
            where = self.string(target) if target.type == "STRING" else None
            steps = tuple(self.expr(step, depth + 1) for step in transforms)
            rules.append(tree.Rule(names, where, steps, span=self.span(rule)))
        return tree.Weights(tuple(rules), span=self.span(part))

    # ---- expressions

    def one_value(self, part: Any, depth: int) -> tree.Expr:
        """The value after `=`: `a, b` without parentheses is a tuple."""
        items = tuple(self.expr(item, depth + 1) for item in part.children)
        return items[0] if len(items) == 1 else tree.TupleExpr(items, span=self.span(part))

    def check_depth(self, part: Part, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise fail(
                "E0106",
                f"nested more than {MAX_DEPTH} deep",
                self.span(part),
                "too deep here",
                notes=(
                    "every operator, call and bracket inside another one counts, and so does each sum of a long sum",
                ),
                helps=("give a part of it a name: `y = a + b + c`, then `y += d + e`",),
            )

    def expr(self, part: Any, depth: int) -> tree.Expr:
        self.check_depth(part, depth)
        if isinstance(part, Token):
            return self.atom(part)
        return _EXPRESSIONS[part.data](self, part, depth)

    def atom(self, token: Token) -> tree.Expr:
        if token.type == "NAME":
            if token in ("True", "False", "None"):
                told = f"nothing is called `{token}` here"
                self.report(Diagnostic("E0201", told, self.span(token), "unknown name", helps=(TRUTH,)))
            return tree.Name(str(token), span=self.span(token))
        if token.type == "NUMBER":
            return self.number(token)
        if token.type == "STRING":
            return tree.String(self.string(token), span=self.span(token))
        return tree.Constant(CONSTANTS[str(token)], span=self.span(token))

    def number(self, token: Token) -> tree.Number:
        text, span = str(token), self.span(token)
        digits = sum(char.isdigit() for char in re.split("[eE]", text)[0])
        value: int | float = 0
        if digits <= MAX_DIGITS:
            if text.isdigit():
                value = int(text)
            elif text[-1] not in UNITS:
                value = float(text)
            elif "e" in text or "E" in text:
                value = float(text[:-1]) * UNITS[text[-1]]
            else:
                exact = Decimal(text[:-1]) * UNITS[text[-1]]
                value = int(exact) if exact == exact.to_integral_value() else float(exact)
        if digits > MAX_DIGITS or math.isinf(value):
            label = f"{digits} digits, at most {MAX_DIGITS}" if digits > MAX_DIGITS else "beyond 1.8e308"
            self.report(Diagnostic("E0108", "the number is too large", span, label))
            value = 0
        return tree.Number(value, text, span=span)

    def string(self, token: Token) -> str:
        def replace(match: re.Match[str]) -> str:
            char = match.group(1)
            if char in ESCAPES:
                return ESCAPES[char]
            start = self.span(token).start + 1 + match.start()
            known = 'the escapes are `\\n`, `\\t`, `\\"` and `\\\\`'
            span = Span(self.source, start, start + 2)
            line = self.source.line(span.line)
            helps = (
                ("in the rules of weights `*` is text without a dot, `**` any text, `{i}` a number",)
                if "->" in line
                else ()
            )
            self.report(Diagnostic("E0101", f"unknown escape `\\{char}`", span, notes=(known,), helps=helps))
            return char

        return re.sub(r"\\(.)", replace, str(token)[1:-1])

    def chain(self, part: Any, depth: int) -> tree.Expr:
        """Operators of one precedence, left to right; `and` and `or` come without their tokens."""
        word = {"conjunction": "and", "disjunction": "or"}.get(str(part.data))
        operands = part.children if word else part.children[::2]
        ops = [word] * (len(operands) - 1) if word else [str(op) for op in part.children[1::2]]
        depth += len(ops)
        self.check_depth(operands[0], depth)
        left = self.expr(operands[0], depth)
        for op, operand in zip(ops, operands[1:], strict=True):
            right = self.expr(operand, depth)
            left = tree.Binary(op, left, right, span=self.around(left, right))
        return left

    def comparison(self, part: Any, depth: int) -> tree.Expr:
        operands = tuple(self.expr(operand, depth + 1) for operand in part.children[::2])
        return tree.Compare(tuple(str(op) for op in part.children[1::2]), operands, span=self.span(part))

    def power(self, part: Any, depth: int) -> tree.Expr:
        left, right = (self.expr(operand, depth + 1) for operand in part.children)
        return tree.Binary("**", left, right, span=self.span(part))

    def unary(self, part: Any, depth: int) -> tree.Expr:
        op = "-" if part.data == "negative" else "not"
        return tree.Unary(op, self.expr(part.children[0], depth + 1), span=self.span(part))

    def conditional(self, part: Any, depth: int) -> tree.Expr:
        then, condition, otherwise = (self.expr(child, depth + 1) for child in part.children)
        return tree.Conditional(then, condition, otherwise, span=self.span(part))

    def paren(self, part: Any, depth: int) -> tree.Expr:
        return tree.Paren(self.expr(part.children[0], depth + 1), span=self.span(part))

    def tuple_expr(self, part: Any, depth: int) -> tree.Expr:
        first, *rest = part.children
        items = (first, *(rest[0].children if rest else ()))
        return tree.TupleExpr(tuple(self.expr(item, depth + 1) for item in items), span=self.span(part))

    def list_expr(self, part: Any, depth: int) -> tree.Expr:
        items = tuple(self.expr(item, depth + 1) for item in _parts(part, "items"))
        return tree.ListExpr(items, span=self.span(part))

    def comprehension(self, part: Any, depth: int) -> tree.Expr:
        value, targets, iterable = part.children
        head, source = self.expr(value, depth + 1), self.expr(iterable, depth + 1)
        return tree.Comprehension(head, _names(targets), source, span=self.span(part))

    def arguments(self, part: Any, depth: int) -> tuple[tree.Argument, ...]:
        found: list[tree.Argument] = []
        for argument in _parts(part, "arguments"):
            *keyword, value = argument.children
            name = str(keyword[0]) if keyword else None
            found.append(tree.Argument(name, self.expr(value, depth + 1), span=self.span(argument)))
        return tuple(found)

    def call(self, part: Any, depth: int) -> tree.Expr:
        function = self.expr(part.children[0], depth + 1)
        return tree.Call(function, self.arguments(part, depth), span=self.span(part))

    def index(self, part: Any, depth: int) -> tree.Expr:
        value, *subscripts = part.children
        items = tuple(self.subscript(item, depth + 1) for item in subscripts)
        return tree.Index(self.expr(value, depth + 1), items, span=self.span(part))

    def subscript(self, part: Any, depth: int) -> tree.Subscript:
        axis, place = None, part
        if isinstance(part, Tree) and part.data == "on_axis":
            axis, place = str(part.children[0]), part.children[1]
        if not (isinstance(place, Tree) and place.data == "range"):
            return tree.Subscript(axis, self.expr(place, depth), span=self.span(part))
        sides: list[tree.Expr | None] = [None, None]
        side = 0
        for child in place.children:
            if isinstance(child, Token) and child.type == "COLON":
                side = 1
            else:
                sides[side] = self.expr(child, depth)
        return tree.Subscript(axis, tree.Slice(*sides, span=self.span(place)), span=self.span(part))

    def attribute(self, part: Any, depth: int) -> tree.Expr:
        value, name = part.children
        return tree.Attribute(self.expr(value, depth + 1), str(name), span=self.span(part))

    def labelled(self, part: Any, depth: int) -> tree.Expr:
        label, call = part.children
        return tree.Labelled(str(label), self.expr(call, depth + 1), span=self.span(part))

    def pipe(self, part: Any, depth: int) -> tree.Expr:
        left, right = (self.expr(child, depth + 1) for child in part.children)
        for side in (left, right):
            if isinstance(side, ARITHMETIC):
                self.report(_mixed(side, None if side is left else left))
        return tree.Pipe(left, right, span=self.span(part))


_EXPRESSIONS: dict[str, Callable[[_Builder, Any, int], tree.Expr]] = {
    "sum": _Builder.chain,
    "term": _Builder.chain,
    "conjunction": _Builder.chain,
    "disjunction": _Builder.chain,
    "comparison": _Builder.comparison,
    "power": _Builder.power,
    "negative": _Builder.unary,
    "logical_not": _Builder.unary,
    "conditional": _Builder.conditional,
    "paren": _Builder.paren,
    "tuple": _Builder.tuple_expr,
    "list": _Builder.list_expr,
    "comprehension": _Builder.comprehension,
    "call": _Builder.call,
    "index": _Builder.index,
    "attribute": _Builder.attribute,
    "labelled": _Builder.labelled,
    "pipe": _Builder.pipe,
}


def _parts(part: Any, kind: str) -> list[Any]:
    """The children of the child of `part` that is a `kind`; none where it is left out."""
    trees = (child for child in part.children if isinstance(child, Tree))
    return next((child.children for child in trees if child.data == kind), [])


def _names(part: Any) -> tuple[str, ...]:
    return tuple(str(token) for token in part.children)


def _mixed(side: tree.Expr, before: tree.Expr | None) -> Diagnostic:
    """E0107: `|>` binds more loosely than arithmetic, which is seldom what a residual means.

    `side` stands on the left of the `|>`, or on its right behind `before`.
    """
    is_left = before is None
    text = " ".join(side.span.text.split())
    text = text if len(text) <= 60 else "..."
    op = {tree.Conditional: "if", tree.Compare: "=="}.get(type(side))
    if isinstance(side, tree.Compare):
        op = side.ops[0]
    elif isinstance(side, tree.Binary | tree.Unary):
        op = side.op
    meant = "enter the pipeline" if is_left else "be one step"
    helps = [f"put parentheses around `{text}` if all of it is meant to {meant}"]
    if before is not None and isinstance(side, tree.Binary):
        first = " ".join(before.span.text.split())
        first = first if len(first) <= 40 else f"{first.partition('|>')[0]}|> ..."
        step, last = (" ".join(part.span.text.split()) for part in (side.left, side.right))
        helps.insert(0, f"put parentheses around the pipeline: `({first} |> {step}) {op} {last}`")
    if is_left and isinstance(side, tree.Binary):
        last = " ".join(side.right.span.text.split())
        first = " ".join(side.left.span.text.split())
        helps.insert(0, f"put parentheses around the pipeline: `{first} {op} ({last} |> ...)`")
        if op == "+" and isinstance(side.left, tree.Name):
            helps.insert(0, f"for a residual write `{first} += {last} |> ...`")
    return Diagnostic(
        "E0107",
        f"`{op}` and `|>` are mixed without parentheses",
        side.span,
        "all of this would enter the pipeline" if is_left else "this belongs to one step",
        notes=("`|>` binds more loosely than every other operator",),
        helps=tuple(helps),
    )
