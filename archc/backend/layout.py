"""Statements laid out as ruff's formatter lays them out, without ruff.

A line that is too long is parsed and written as a document, rule by rule of ruff's stable style: what breaks first, and
where parentheses are added, is not a matter of width alone.
"""

from __future__ import annotations

import ast
import re
from typing import TypeAlias

from archc.backend.document import Printer
from archc.backend.python import WIDTH

# Slices and powers, whose spaces depend on what stands beside them. Everything else that fits is right as it is.
_SPACED = re.compile(r"\[[^\]]*:|[\w)\]] ?\*\*")


def lay_out(indent: int, text: str, comment: str = "") -> list[str]:
    """One statement as lines of at most `WIDTH` columns where Python can be broken; the comment stands behind it, or
    above where that is too long. The text has no line breaks and no trailing commas, and ruff's quotes and spaces."""
    pad = " " * indent
    lines = [pad + text]
    if len(lines[0]) > WIDTH or _SPACED.search(text):
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


# What an expression stands in: no parentheses (None), some (0), or a group that adds them if it breaks (its id).
_Level: TypeAlias = "int | None"
_WITHIN = 0
# Operators as written, and how late they bind: the last are broken first.
_OPERATORS: dict[type[ast.AST], tuple[str, int]] = {
    ast.Pow: ("**", 2), ast.Mult: ("*", 4), ast.MatMult: ("@", 4), ast.Div: ("/", 4), ast.Mod: ("%", 4), ast.FloorDiv: ("//", 4),
    ast.Add: ("+", 5), ast.Sub: ("-", 5), ast.LShift: ("<<", 6), ast.RShift: (">>", 6), ast.BitAnd: ("&", 7),
    ast.BitXor: ("^", 8), ast.BitOr: ("|", 9), ast.Eq: ("==", 10), ast.NotEq: ("!=", 10), ast.Lt: ("<", 10),
    ast.LtE: ("<=", 10), ast.Gt: (">", 10), ast.GtE: (">=", 10), ast.Is: ("is", 10), ast.IsNot: ("is not", 10),
    ast.In: ("in", 10), ast.NotIn: ("not in", 10), ast.And: ("and", 11), ast.Or: ("or", 11),
}  # fmt: skip
_RANK = dict(_OPERATORS.values())
_ATTRIBUTE, _INVERT, _CONDITIONAL = 1, 3, 12
_UNARY = {ast.Not: "not ", ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}
_TRAILERS = ast.Attribute | ast.Call | ast.Subscript
_DISPLAYS = ast.Dict | ast.List | ast.Set | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_ARITHMETIC = ast.BitOr | ast.BitXor | ast.LShift | ast.RShift | ast.Add | ast.Sub


class _Source:
    """The statement's text, where the tree does not say how things are written."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()

    def read(self, node: ast.AST) -> str:
        return self.text[node.col_offset : node.end_col_offset].decode()  # type: ignore[attr-defined]

    def parens(self, node: ast.expr) -> int:
        """How many pairs of parentheses stand directly around an expression. A call's own count for its only argument."""
        before, after = self.text[: node.col_offset].replace(b" ", b""), self.text[node.end_col_offset :].replace(b" ", b"")
        opened, closed = len(before) - len(before.rstrip(b"(")), len(after) - len(after.lstrip(b")"))
        return min(opened, closed)

    def own_parens(self, node: ast.Tuple) -> bool:
        """Whether a tuple has parentheses."""
        if not node.elts:
            return True
        first = node.elts[0]
        return self.text[node.col_offset : first.col_offset].count(b"(") > self.parens(first)

    def brackets(self, node: ast.expr) -> bool | None:
        """Whether an expression's brackets hold anything, if it ends in some or stands in some."""
        match node:
            case ast.List(elts) | ast.Set(elts) | ast.Dict(values=elts):
                own = bool(elts)
            case ast.Call(args=args, keywords=keywords):
                own = bool(args or keywords)
            case ast.Tuple(elts) if self.own_parens(node):
                own = bool(elts)
            case ast.Subscript() | _DISPLAYS():
                own = True
            case _:
                own = None
        return own or bool(self.parens(node)) or own

    def is_fluent(self, node: ast.expr) -> bool:
        """Whether a chain of methods is long enough to stand one call a line."""
        links = 0
        while True:
            match node:
                case ast.Attribute(value):
                    parens = bool(self.parens(value))
                    links += parens or isinstance(value, ast.Call | ast.Subscript)
                case ast.Call(func=value) | ast.Subscript(value):
                    parens = bool(self.parens(value))
                case _:
                    return links > 1
            if parens:
                return links > 1
            node = value


class _Survey:
    """What decides whether a long expression may break in its own brackets, or is set in parentheses."""

    def __init__(self, source: _Source, root: ast.expr) -> None:
        self.source = source
        self.loosest = self.times = 0
        self.brackets = False
        self.first: ast.expr | None = None
        self.last: ast.expr | None = None
        self.begun = False
        self._look(root)

    def has_break(self) -> bool:
        if not self.brackets or self.times > 1:
            return False
        ends = (x for x in (self.first, self.last) if x is not None and not isinstance(x, ast.Subscript))
        return self.loosest <= _ATTRIBUTE or any(self.source.brackets(x) for x in ends)

    def _count(self, rank: int, times: int = 1) -> None:
        if rank >= self.loosest:
            self.loosest, self.times = rank, times + (self.times if rank == self.loosest else 0)

    def _visit(self, node: ast.expr) -> None:
        self.last = node
        if self.source.parens(node):
            self.brackets = True
        else:
            self._look(node)
        if not self.begun:
            self.begun, self.first = True, node

    def _look(self, node: ast.expr) -> None:
        match node:
            case _DISPLAYS():
                self.brackets = True
                return
            case ast.Tuple() if self.source.own_parens(node):
                self.brackets = True
                return
            case ast.Call(func=inner) | ast.Subscript(value=inner):
                self.brackets = True
                self._visit(inner)
                self.last = node
                return
            case ast.Attribute(value):
                self._visit(value)
                if self.source.brackets(value) is not None:
                    self._count(_ATTRIBUTE)
                self.last = node
                return
            case ast.BoolOp(op, values):
                self._count(_OPERATORS[type(op)][1], len(values) - 1)
            case ast.BinOp(op=op):
                self._count(_OPERATORS[type(op)][1])
            case ast.Compare(ops=ops):
                self._count(_RANK["=="], len(ops))
            case ast.IfExp():
                self._count(_CONDITIONAL, 2)
            case ast.UnaryOp(op):
                self._count(_INVERT if isinstance(op, ast.Invert) else 0, isinstance(op, ast.Invert))
                self.begun = True
            case ast.Starred():
                self.begun = True
            case ast.Slice() | ast.JoinedStr():
                return
        parts = (part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))
        for part in sorted(parts, key=lambda part: part.col_offset):
            self._visit(part)


class _Expressions(_Source):
    """Documents of expressions. A level says what parentheses they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.ids = count(1)

    def expression(self, node: ast.expr, level: _Level) -> Doc:
        """An expression, in parentheses if the text has some."""
        return self.in_parens(node, level) if self.parens(node) else self.bare(node, level)

    def in_parens(self, node: ast.expr, level: _Level) -> Doc:
        return self.bracket("(", self.bare(node, _WITHIN), ")", level)

    def bare(self, node: ast.expr, level: _Level, chain: bool | None = None) -> Doc:
        """An expression without parentheses around it. `chain` says what was decided of a chain it belongs to."""
        match node:
            case ast.BinOp() | ast.BoolOp() | ast.Compare():
                return self.grouped(self.operation(self.flattened(node), level), level)
            case ast.IfExp():
                return self.grouped(self.conditional(node, level), level)
            case ast.UnaryOp(op, operand):
                power = isinstance(operand, ast.BinOp) and isinstance(operand.op, ast.Pow)
                return [_UNARY[type(op)], self.in_parens(operand, level) if power else self.expression(operand, level)]
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

    def bracket(self, left: str, content: Doc, right: str, level: _Level) -> Doc:
        inner = Group([Nest([SOFT, content]), SOFT])
        return [left, Apart(inner, level) if level else inner, right]

    def grouped(self, content: Doc, level: _Level) -> Doc:
        return content if level is None else Group(content, inside=level)

    def space(self, level: _Level) -> Doc:
        """A space that is a line break in broken parentheses."""
        if level is None:
            return " "
        return [When(SPACE, True, level), When(" ", False, level)] if level else SPACE

    def optional(self, write: Callable[[int], Doc], last: bool) -> Doc:
        """In parentheses if it breaks; as the `last` resort if brackets inside may break instead."""
        id = next(self.ids)
        content = Nest([SOFT, write(id if last else _WITHIN)], id)
        return Group([When("("), content, SOFT, When(")")], id)

    def commas(self, parts: list[Doc], least: int = 2) -> Doc:
        """Parts between commas; `least` of them have one behind the last where they stand on lines of their own."""
        joined = [x for part in parts for x in (part, ",", SPACE)][:-2]
        return [*joined, When(",")] if len(parts) >= least else joined

    def sequence(self, parts: list[ast.expr], level: int = _WITHIN) -> Doc:
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
            parts += [_OPERATORS[type(op)][0], *self.flattened(operand, True)]
        return parts

    def operation(self, parts: list[ast.expr | str], level: _Level) -> Doc:
        """Broken before its loosest operators."""
        if len(parts) == 1:
            assert isinstance(parts[0], ast.expr)
            return self.expression(parts[0], level)
        loosest = max(_RANK[p] for p in parts if isinstance(p, str))
        cuts = [i for i, p in enumerate(parts) if isinstance(p, str) and _RANK[p] == loosest]
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

    def operand(self, parts: list[ast.expr | str], level: _Level) -> Doc:
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
        return isinstance(node, ast.Name) or isinstance(node, ast.Constant) and not isinstance(node.value, str | bytes)

    def conditional(self, node: ast.IfExp, level: _Level) -> Doc:
        head = [self.expression(node.body, level), self.space(level), "if ", self.expression(node.test, level),
                self.space(level), "else "]  # fmt: skip
        if isinstance(node.orelse, ast.IfExp) and not self.parens(node.orelse):
            return [*head, self.conditional(node.orelse, level)]
        return [*head, self.grouped(self.expression(node.orelse, level), level)]

    def trailer(self, node: ast.Attribute | ast.Call | ast.Subscript, level: _Level, chain: bool | None) -> Doc:
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
                inside = self.index(index) if isinstance(index, ast.Tuple) else self.expression(index, _WITHIN)
                doc = [head, self.bracket("[", inside, "]", level)]
        return Group(doc) if fluent and chain is None else doc

    def arguments(self, args: list[ast.expr], keywords: list[ast.keyword], level: _Level) -> Doc:
        match args, keywords:
            case [], []:
                return "()"
            case [ast.GeneratorExp() as only], [] if not self.parens(only):
                inside = self.comprehension(only)
            case [only], []:
                inside = self.in_parens(only, _WITHIN) if self.parens(only) > 1 else self.bare(only, _WITHIN)
            case _:
                parts = sorted([*args, *keywords], key=lambda part: part.col_offset)
                inside = self.commas([self.argument(part) for part in parts])
        return self.bracket("(", Group(inside), ")", level)

    def argument(self, node: ast.expr | ast.keyword) -> Doc:
        if isinstance(node, ast.expr):
            return self.expression(node, _WITHIN)
        return [f"{node.arg}=" if node.arg else "**", self.expression(node.value, _WITHIN)]

    def index(self, node: ast.Tuple) -> Doc:
        """A tuple in a subscript has no parentheses unless the text has."""
        if self.own_parens(node):
            return self.tuple(node, _WITHIN)
        if len(node.elts) == 1:
            return [self.expression(node.elts[0], _WITHIN), "," * self.read(node).endswith(",")]
        return Group(self.sequence(node.elts))

    def tuple(self, node: ast.Tuple, level: _Level, last: bool = False) -> Doc:
        if len(node.elts) == 1:
            return self.bracket("(", [self.expression(node.elts[0], _WITHIN), ","], ")", level)
        if self.own_parens(node):
            return self.bracket("(", self.sequence(node.elts), ")", level)
        return self.optional(lambda inside: self.sequence(node.elts, inside), last)

    def pair(self, key: ast.expr | None, value: ast.expr) -> Doc:
        shown = self.expression(value, _WITHIN)
        return Group(["**", shown] if key is None else [self.expression(key, _WITHIN), ": ", shown])

    def slice(self, node: ast.Slice, level: _Level) -> Doc:
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

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> Doc:
        if isinstance(node, ast.DictComp):
            head = [Group(self.expression(node.key, _WITHIN)), ": ", self.expression(node.value, _WITHIN)]
        else:
            head = [Group(self.expression(node.elt, _WITHIN))]
        for part in node.generators:
            target = part.target
            if isinstance(target, ast.Tuple) and len(target.elts) > 1 and not self.own_parens(target):
                names: Doc = [x for e in target.elts for x in (self.expression(e, _WITHIN), ", ")][:-1]
            else:
                names = self.expression(target, _WITHIN)
            head += [SPACE, "for ", names, " in ", self.expression(part.iter, _WITHIN)]
            head += [x for test in part.ifs for x in (SPACE, "if ", self.expression(test, _WITHIN))]
        return head


_ALWAYS, _BEST, _NEVER = range(3)  # parentheses that an expression may be given, from its own point of view


class _Statements(_Expressions):
    """Documents of statements and of headers of compound statements."""

    def statement(self, node: ast.stmt) -> Doc:
        match node:
            case ast.Return(ast.Tuple() as value):
                return ["return ", self.tuple(value, None, len(value.elts) == 2)]
            case ast.Return(ast.expr() as value):
                return ["return ", self.last(value)]
            case ast.Assign(targets, value):
                return self.assignment(targets, value)
            case ast.AugAssign(target, op, value):
                return self.assigned(target, f"{_OPERATORS[type(op)][0]}=", value)
            case ast.AnnAssign(target, annotation, None):
                return [self.expression(target, None), ": ", self.last(annotation)]
            case ast.AnnAssign(target, annotation, ast.expr() as value):
                head = [self.expression(target, None), ": "]
                if isinstance(annotation, ast.Name | ast.Constant):
                    return [*head, self.read(annotation), " = ", self.last(value)]
                return [*head, self.right_to_left(annotation, "=", value)]
            case ast.Raise(ast.expr() as error, cause):
                behind = [" from ", self.optionally(cause, keep=True)] if cause else []
                return ["raise ", self.optionally(error, keep=True), *behind]
            case ast.Assert(test, message):
                return ["assert ", self.optionally(test), *([", ", self.optionally(message, whole=True)] if message else [])]
            case ast.Expr(ast.BinOp(op=_ARITHMETIC()) as value):
                return self.optionally(value, keep=True)
            case ast.Expr(value):
                return self.expression(value, None)
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
            case ast.Tuple() | _DISPLAYS():
                return _NEVER
            case ast.Name() | ast.Constant() | ast.JoinedStr():
                return _BEST
        return _ALWAYS

    def optionally(self, node: ast.expr, keep: bool = False, whole: bool = False) -> Doc:
        """An expression in parentheses if that helps: around all that breaks if `whole`; `keep` keeps those it has."""
        if keep and self.parens(node):
            return self.in_parens(node, None)
        needs = self.needs(node)
        if needs == _ALWAYS or needs == _BEST and whole:
            return self.optional(lambda level: self.bare(node, level), _Survey(self, node).has_break())
        if needs == _BEST and not keep:
            id = next(self.ids)
            return Parens(self.bare(node, id), id)
        return self.bare(node, None)

    def last(self, node: ast.expr) -> Doc:
        return self.optionally(node)

    def assignment(self, targets: list[ast.expr], value: ast.expr) -> Doc:
        heads = [x for t in targets[:-1] for x in (self.expression(t, None), " = ")]
        if heads:
            return [*heads, self.right_to_left(targets[-1], "=", value)]
        return self.assigned(targets[0], "=", value)

    def assigned(self, target: ast.expr, operator: str, value: ast.expr) -> Doc:
        if self.holds(target) and not self.parens(target):
            return self.right_to_left(target, operator, value)
        return [self.expression(target, None), f" {operator} ", self.last(value)]

    def holds(self, target: ast.expr) -> bool:
        """Whether a target has brackets of its own to break in."""
        return isinstance(target, ast.Tuple) or self.brackets(target) is not None

    def before(self, target: ast.expr) -> Doc:
        """What stands before the last `=`."""
        inner = target
        while isinstance(inner, ast.Attribute) and self.brackets(inner.value) is None:
            inner = inner.value
        if self.holds(target) or isinstance(inner, ast.Attribute | ast.Subscript):
            return self.bare(target, None)
        return self.optional(lambda level: self.bare(target, level), _Survey(self, target).has_break())

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
        kind = [": ", self.expression(node.annotation, _WITHIN)] if node.annotation else []
        value = [" = " if kind else "=", self.expression(default, _WITHIN)] if default else []
        return [node.arg, *kind, *value]
