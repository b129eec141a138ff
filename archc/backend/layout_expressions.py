"""Documents of expressions, by the rules of ruff's formatter."""

from __future__ import annotations

import ast
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

from archc.backend.document import SOFT, SPACE, Apart, Doc, Group, Nest, When
from archc.backend.layout_source import OPERATORS, RANK, Source

# What an expression stands in: no parentheses, some (0), or a group that adds them if it breaks (its id).
Level: TypeAlias = "int | None"
WITHIN = 0
_Trailer: TypeAlias = "ast.Attribute | ast.Call | ast.Subscript"
_Comprehension: TypeAlias = "ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp"
_UNARY = {ast.Not: "not ", ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}


class Expressions(Source):
    """Documents of expressions. A level says what parentheses they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.ids = count(1)

    def expression(self, node: ast.expr, level: Level) -> Doc:
        """An expression, in parentheses if the text has some."""
        return self.in_parens(node, level) if self.parens(node) else self.bare(node, level)

    def in_parens(self, node: ast.expr, level: Level) -> Doc:
        return self.bracket("(", self.bare(node, WITHIN), ")", level)

    def bare(self, node: ast.expr, level: Level, chain: bool | None = None) -> Doc:
        """An expression without parentheses around it. `chain` is what was decided of the chain it is in."""
        match node:
            case ast.BinOp() | ast.BoolOp() | ast.Compare():
                return self.grouped(self.operation(self.flattened(node), level), level)
            case ast.IfExp():
                return self.grouped(self.conditional(node, level), level)
            case ast.UnaryOp(op, operand):
                power = isinstance(operand, ast.BinOp) and isinstance(operand.op, ast.Pow)
                write = self.in_parens if power else self.expression
                return [_UNARY[type(op)], write(operand, level)]
            case ast.Attribute() | ast.Call() | ast.Subscript():
                return self.trailer(node, level, chain)
            case ast.List([]) | ast.Dict([]) | ast.Tuple([]):
                return self.read(node)
            case ast.Tuple():
                return self.tuple(node, level)
            case ast.List(elts):
                return self.bracket("[", self.sequence(elts), "]", level)
            case ast.Set(elts):
                return self.bracket("{", self.sequence(elts), "}", level)
            case ast.Dict(keys, values):
                pairs = [self.pair(key, value) for key, value in zip(keys, values, strict=True)]
                return self.bracket("{", self.commas(pairs), "}", level)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                left, right = {ast.ListComp: "[]", ast.GeneratorExp: "()"}.get(type(node), "{}")
                return self.bracket(left, Group(self.comprehension(node)), right, level)
            case ast.Starred(value):
                return ["*", self.expression(value, level)]
            case ast.Slice():
                return self.slice(node, level)
        return self.read(node)

    # ---- what breaks

    def bracket(self, left: str, content: Doc, right: str, level: Level) -> Doc:
        inner = Group([Nest([SOFT, content]), SOFT])
        return [left, Apart(inner, level) if level else inner, right]

    def grouped(self, content: Doc, level: Level) -> Doc:
        return content if level is None else Group(content, inside=level)

    def space(self, level: Level) -> Doc:
        """A space that is a line break in broken parentheses."""
        if level is None:
            return " "
        return [When(SPACE, True, level), When(" ", False, level)] if level else SPACE

    def optional(self, write: Callable[[int], Doc], last: bool) -> Doc:
        """In parentheses if it breaks; as the `last` resort if brackets inside may break instead."""
        id = next(self.ids)
        content = Nest([SOFT, write(id if last else WITHIN)], id)
        return Group([When("("), content, SOFT, When(")")], id)

    def commas(self, parts: list[Doc], least: int = 2) -> Doc:
        """Parts between commas; if there are `least` of them, each on its line, with one behind the last."""
        joined = [x for part in parts for x in (part, ",", SPACE)][:-2]
        return [*joined, When(",")] if len(parts) >= least else joined

    def sequence(self, parts: list[ast.expr], level: int = WITHIN) -> Doc:
        return self.commas([self.expression(part, level) for part in parts])

    # ---- expressions

    def flattened(self, node: ast.expr, inner: bool = False) -> list[ast.expr | str]:
        """Operands and operators of an operation and the operations in it, as they are written."""
        if inner and self.parens(node):
            return [node]
        match node:
            case ast.BinOp(left, op, right):
                operators, operands = [op], [left, right]
            case ast.BoolOp(op, operands):
                operators = [op] * (len(operands) - 1)
            case ast.Compare(left, operators, operands):
                operands = [left, *operands]
            case _:
                return [node]
        parts = self.flattened(operands[0], True)
        for op, operand in zip(operators, operands[1:], strict=True):
            parts += [OPERATORS[type(op)][0], *self.flattened(operand, True)]
        return parts

    def operation(self, parts: list[ast.expr | str], level: Level) -> Doc:
        """Broken before its loosest operators."""
        if len(parts) == 1:
            assert isinstance(parts[0], ast.expr)
            return self.expression(parts[0], level)
        loosest = max(RANK[p] for p in parts if isinstance(p, str))
        cuts = [i for i, p in enumerate(parts) if isinstance(p, str) and RANK[p] == loosest]
        docs: list[Doc] = []
        for start, at in zip([0, *(i + 1 for i in cuts)], [*cuts, len(parts)], strict=True):
            docs.append(self.operand(parts[start:at], level))
            if at == len(parts):
                break
            operator = str(parts[at])
            if operator == "**" and self.simple(parts[at - 1]) and self.simple(parts[at + 1]):
                docs += [] if level is None else [When(SOFT, True, level) if level else SOFT]
                docs += [operator, "" if level is None else When(" ", True, level)]
            else:
                docs += [self.space(level), f"{operator} "]
        return docs

    def operand(self, parts: list[ast.expr | str], level: Level) -> Doc:
        doc = self.operation(parts, level)
        return doc if len(parts) == 1 else self.grouped(doc, level)

    def simple(self, node: ast.expr | str) -> bool:
        """Whether `**` stands beside it without a space."""
        if isinstance(node, str) or self.parens(node):
            return False
        while isinstance(node, ast.Attribute | ast.UnaryOp):
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
                return False
            node = node.value if isinstance(node, ast.Attribute) else node.operand
        number = isinstance(node, ast.Constant) and not isinstance(node.value, str | bytes)
        return number or isinstance(node, ast.Name)

    def conditional(self, node: ast.IfExp, level: Level) -> Doc:
        head = [self.expression(node.body, level), self.space(level), "if "]
        head += [self.expression(node.test, level), self.space(level), "else "]
        if isinstance(node.orelse, ast.IfExp) and not self.parens(node.orelse):
            return [*head, self.conditional(node.orelse, level)]
        return [*head, self.grouped(self.expression(node.orelse, level), level)]

    def trailer(self, node: _Trailer, level: Level, chain: bool | None) -> Doc:
        fluent = (level is not None and self.is_fluent(node)) if chain is None else chain
        inner = node.func if isinstance(node, ast.Call) else node.value
        if parens := bool(self.parens(inner)):
            head = self.in_parens(inner, level)
        else:
            head = self.bare(inner, level, None if isinstance(node, ast.Attribute) and not fluent else fluent)
        match node:
            case ast.Attribute(attr=name):
                cut = fluent and (parens or isinstance(inner, ast.Call | ast.Subscript))
                doc: Doc = [head, SOFT, f".{name}"] if cut else [head, f".{name}"]
            case ast.Call():
                doc = [head, self.arguments(node.args, node.keywords, level)]
            case ast.Subscript(slice=index):
                inside = self.index(index) if isinstance(index, ast.Tuple) else self.expression(index, WITHIN)
                doc = [head, self.bracket("[", inside, "]", level)]
        return Group(doc) if fluent and chain is None else doc

    def arguments(self, args: list[ast.expr], keywords: list[ast.keyword], level: Level) -> Doc:
        match args, keywords:
            case [], []:
                return "()"
            case [ast.GeneratorExp() as only], [] if not self.parens(only):
                inside = self.comprehension(only)
            case [only], []:
                inside = self.in_parens(only, WITHIN) if self.parens(only) > 1 else self.bare(only, WITHIN)
            case _:
                parts = sorted([*args, *keywords], key=lambda part: part.col_offset)
                inside = self.commas([self.argument(part) for part in parts])
        return self.bracket("(", Group(inside), ")", level)

    def argument(self, node: ast.expr | ast.keyword) -> Doc:
        if isinstance(node, ast.expr):
            return self.expression(node, WITHIN)
        return [f"{node.arg}=" if node.arg else "**", self.expression(node.value, WITHIN)]

    def index(self, node: ast.Tuple) -> Doc:
        """A tuple in a subscript has no parentheses unless the text has."""
        if self.own_parens(node):
            return self.tuple(node, WITHIN)
        if len(node.elts) == 1:
            return [self.expression(node.elts[0], WITHIN), "," * self.read(node).endswith(",")]
        return Group(self.sequence(node.elts))

    def tuple(self, node: ast.Tuple, level: Level, last: bool = False) -> Doc:
        if len(node.elts) == 1:
            return self.bracket("(", [self.expression(node.elts[0], WITHIN), ","], ")", level)
        if self.own_parens(node):
            return self.bracket("(", self.sequence(node.elts), ")", level)
        return self.optional(lambda inside: self.sequence(node.elts, inside), last)

    def pair(self, key: ast.expr | None, value: ast.expr) -> Doc:
        shown = self.expression(value, WITHIN)
        return Group(["**", shown] if key is None else [self.expression(key, WITHIN), ": ", shown])

    def slice(self, node: ast.Slice, level: Level) -> Doc:
        bounds = [node.lower, node.upper, node.step]
        space = "" if all(self.plain(x) for x in bounds) else " "
        lower, upper, step = ("" if x is None else self.expression(x, level) for x in bounds)
        docs = [lower, space if node.lower else "", ":", space if node.upper else "", upper]
        if node.step:
            docs += [space if node.upper else "", ":", space, step]
        return docs

    def plain(self, node: ast.expr | None) -> bool:
        """Whether a slice's colon stands beside it without a space."""
        while isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
            node = node.operand
        return node is None or isinstance(node, ast.Name | ast.Constant)

    def comprehension(self, node: _Comprehension) -> Doc:
        if isinstance(node, ast.DictComp):
            head: list[Doc] = [Group(self.expression(node.key, WITHIN)), ": "]
            head.append(self.expression(node.value, WITHIN))
        else:
            head = [Group(self.expression(node.elt, WITHIN))]
        for part in node.generators:
            target = part.target
            if isinstance(target, ast.Tuple) and len(target.elts) > 1 and not self.own_parens(target):
                names: Doc = [x for e in target.elts for x in (self.expression(e, WITHIN), ", ")][:-1]
            else:
                names = self.expression(target, WITHIN)
            head += [SPACE, "for ", names, " in ", self.expression(part.iter, WITHIN)]
            head += [x for test in part.ifs for x in (SPACE, "if ", self.expression(test, WITHIN))]
        return head
