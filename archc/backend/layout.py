"""Statements laid out as ruff's formatter lays them out, without ruff.

A line that is too long is parsed and written as a document, rule by rule of ruff's stable style: what breaks
first, and where parentheses are added, is not a matter of width alone.
"""

from __future__ import annotations

import ast
import re

from archc.backend.document import SOFT, WIDTH, Choice, Doc, Group, Nest, Parens, Printer
from archc.backend.layout_expressions import WITHIN, Expressions
from archc.backend.layout_source import DISPLAYS, OPERATORS, Survey

# Slices and powers, whose spaces depend on what stands beside them, and parentheses that may be needless. All
# else that fits is right as it is.
_UNSURE = re.compile(r"^assert|\[:|:\S| :|[\w)\]}] ?\*\*|(?:=|\b(?:return|if|elif|while|in)) \(")


def lay_out(indent: int, text: str, comment: str = "") -> list[str]:
    """One statement as lines of at most `WIDTH` columns where Python can be broken; the comment stands behind
    it, or above where that is too long. The text has ruff's quotes and spaces, and no trailing commas."""
    pad = " " * indent
    lines = [pad + text]
    if len(lines[0]) > WIDTH or _UNSURE.search(text):
        lines = _laid_out(indent, text) or lines
    if not comment:
        return lines
    if len(lines) == 1 and len(lines[0]) + len(comment) + 4 <= WIDTH:
        return [f"{lines[0]}  # {comment}"]
    return [f"{pad}# {comment}", *lines]


def _laid_out(indent: int, text: str) -> list[str]:
    """The lines, or none for a text that is not one statement on one line."""
    chained = text.startswith("elif ")
    source = text[2:] if chained else text
    try:
        body = ast.parse(f"{source} pass" if source.endswith(":") else source).body
    except SyntaxError:
        return []
    if "\n" in text or len(body) != 1:
        return []
    document = _Statements(source).statement(body[0])
    return Printer().print(["el", document] if chained else document, indent)


_TRAILERS = ast.Attribute | ast.Call | ast.Subscript
_SUMS = ast.BitOr | ast.BitXor | ast.LShift | ast.RShift | ast.Add | ast.Sub
_ALWAYS, _BEST, _NEVER = range(3)  # parentheses that an expression may be given, from its own point of view


class _Statements(Expressions):
    """Documents of statements and of headers of compound statements."""

    def statement(self, node: ast.stmt) -> Doc:
        match node:
            case ast.Return(ast.Tuple() as value):
                return ["return ", self.tuple(value, None, len(value.elts) == 2)]
            case ast.Return(ast.expr() as value):
                return ["return ", self.optionally(value)]
            case ast.Assign(targets, value):
                return self.assignment(targets, value)
            case ast.AugAssign(target, op, value):
                return self.assigned(target, f"{OPERATORS[type(op)][0]}=", value)
            case ast.AnnAssign(target, annotation, None):
                return [self.expression(target, None), ": ", self.optionally(annotation)]
            case ast.AnnAssign(target, annotation, ast.expr() as value):
                head = [self.expression(target, None), ": "]
                if self.is_plain(annotation):
                    return [*head, self.read(annotation), " = ", self.optionally(value)]
                return [*head, self.right_to_left(annotation, "=", value)]
            case ast.Raise(ast.expr() as error, cause):
                behind = [" from ", self.optionally(cause, keep=True)] if cause else []
                return ["raise ", self.optionally(error, keep=True), *behind]
            case ast.Assert(test, message):
                behind = [", ", self.optionally(message, whole=True)] if message else []
                return ["assert ", self.optionally(test), *behind]
            case ast.Expr(value):
                sums = isinstance(value, ast.BinOp) and isinstance(value.op, _SUMS)
                return self.optionally(value, keep=True) if sums else self.expression(value, None)
            case ast.If(test) | ast.While(test):
                return [self.read(node).split()[0], " ", self.optionally(test), ":"]
            case ast.For(target, iterable):
                return ["for ", self.loop_target(target), " in ", self.optionally(iterable), ":"]
            case ast.FunctionDef():
                return self.function(node)
            case ast.ClassDef(name, bases, keywords) if bases or keywords:
                return [f"class {name}", self.arguments(bases, keywords, None), ":"]
        return self.text.decode()

    def needs(self, node: ast.expr) -> int:
        """When parentheses help an expression: as soon as it breaks, only if it fits in them, or never."""
        match node:
            case ast.Attribute(inner) | ast.Subscript(inner) | ast.Call(inner):
                if self.is_fluent(node):
                    return _ALWAYS
                return _NEVER if self.parens(inner) else self.needs(inner)
            case ast.UnaryOp(operand=operand):
                return _NEVER if self.parens(operand) else self.needs(operand)
            case ast.Name() | ast.Constant() | ast.JoinedStr():
                return _BEST
        return _NEVER if isinstance(node, ast.Tuple | DISPLAYS) else _ALWAYS

    def optionally(self, node: ast.expr, keep: bool = False, whole: bool = False) -> Doc:
        """An expression, in parentheses if that helps. `whole` gives names some, `keep` keeps what it has."""
        if keep and self.parens(node):
            return self.in_parens(node, None)
        needs = self.needs(node)
        if needs == _ALWAYS or (needs == _BEST and whole):
            return self.optional(lambda level: self.bare(node, level), Survey(self, node).has_break())
        if needs == _BEST and not keep:
            id = next(self.ids)
            return Parens(self.bare(node, id), id)
        return self.bare(node, None)

    def assignment(self, targets: list[ast.expr], value: ast.expr) -> Doc:
        heads = [x for t in targets[:-1] for x in (self.expression(t, None), " = ")]
        if heads:
            return [*heads, self.right_to_left(targets[-1], "=", value)]
        return self.assigned(targets[0], "=", value)

    def assigned(self, target: ast.expr, operator: str, value: ast.expr) -> Doc:
        if self.holds(target) and not self.parens(target):
            return self.right_to_left(target, operator, value)
        return [self.expression(target, None), f" {operator} ", self.optionally(value)]

    def holds(self, target: ast.expr) -> bool:
        """Whether a target has brackets of its own to break in."""
        return isinstance(target, ast.Tuple) or self.brackets(target) is not None

    def is_plain(self, annotation: ast.expr) -> bool:
        """Whether an annotation cannot break."""
        while isinstance(annotation, ast.Attribute):
            annotation = annotation.value
        return isinstance(annotation, ast.Name | ast.Constant)

    def before(self, target: ast.expr) -> Doc:
        """What stands before the last `=`."""
        inner = target
        while isinstance(inner, ast.Attribute) and self.brackets(inner.value) is None:
            inner = inner.value
        if self.holds(target) or isinstance(inner, ast.Attribute | ast.Subscript):
            return self.bare(target, None)
        return self.optional(lambda level: self.bare(target, level), Survey(self, target).has_break())

    def right_to_left(self, target: ast.expr, operator: str, value: ast.expr) -> Doc:
        """Break the value before the target."""
        head, sign = self.before(target), f" {operator} "
        if self.needs(value) != _BEST or isinstance(value, ast.UnaryOp):
            return [head, sign, self.optionally(value)]
        shown = self.bare(value, None)
        flat, split = [head, sign, shown], [Group(head, always=True), sign, shown]
        parens = [head, sign, "(", Group([Nest([SOFT, shown]), SOFT], always=True), ")"]
        if isinstance(value, _TRAILERS):
            return Choice((flat, [head, sign, Group(shown, always=True)], parens, split))
        return Choice((flat, parens, split))

    def loop_target(self, target: ast.expr) -> Doc:
        if isinstance(target, ast.Tuple) and len(target.elts) > 1:
            return self.optional(lambda level: self.sequence(target.elts, level), True)
        return self.expression(target, None) if isinstance(target, ast.Tuple) else self.optionally(target)

    # ---- functions

    def function(self, node: ast.FunctionDef) -> Doc:
        parts = self.parameters(node.args)
        head: list[Doc] = [f"def {node.name}("]
        if parts:
            inside = self.commas(parts, least=1)
            alone = len(parts) == 1
            head += [Nest([SOFT, inside if alone else Group(inside)]), SOFT]
        head.append(")")
        if node.returns is not None:
            head += [" -> ", self.returned(node.returns, bool(parts))]
        return [Group(head), ":"]

    def returned(self, node: ast.expr, parameters: bool) -> Doc:
        if isinstance(node, ast.Tuple):
            return self.bare(node, None)
        if isinstance(node, ast.Subscript) and self.needs(node) == _BEST and parameters:
            return self.bare(node, None)
        return self.optionally(node, whole=not parameters)

    def parameters(self, args: ast.arguments) -> list[Doc]:
        named = [*args.posonlyargs, *args.args]
        defaults = [None] * (len(named) - len(args.defaults)) + args.defaults
        parts = [self.parameter(a, d) for a, d in zip(named, defaults, strict=True)]
        if args.posonlyargs:
            parts.insert(len(args.posonlyargs), "/")
        if args.vararg or args.kwonlyargs:
            parts.append(["*", self.parameter(args.vararg)] if args.vararg else "*")
        parts += [self.parameter(a, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
        return [*parts, ["**", self.parameter(args.kwarg)]] if args.kwarg else parts

    def parameter(self, node: ast.arg, default: ast.expr | None = None) -> Doc:
        kind = [": ", self.expression(node.annotation, WITHIN)] if node.annotation else []
        value = [" = " if kind else "=", self.expression(default, WITHIN)] if default else []
        return [node.arg, *kind, *value]
