"""What a statement's text and tree say about where it may be broken."""

from __future__ import annotations

import ast

# Operators as written, and how late they bind: the last are broken first.
OPERATORS: dict[type[ast.AST], tuple[str, int]] = {
    ast.Pow: ("**", 2),
    ast.Mult: ("*", 4), ast.MatMult: ("@", 4), ast.Div: ("/", 4), ast.Mod: ("%", 4), ast.FloorDiv: ("//", 4),
    ast.Add: ("+", 5), ast.Sub: ("-", 5),
    ast.LShift: ("<<", 6), ast.RShift: (">>", 6),
    ast.BitAnd: ("&", 7), ast.BitXor: ("^", 8), ast.BitOr: ("|", 9),
    ast.Eq: ("==", 10), ast.NotEq: ("!=", 10), ast.Lt: ("<", 10), ast.LtE: ("<=", 10), ast.Gt: (">", 10),
    ast.GtE: (">=", 10), ast.Is: ("is", 10), ast.IsNot: ("is not", 10), ast.In: ("in", 10),
    ast.NotIn: ("not in", 10), ast.And: ("and", 11), ast.Or: ("or", 11),
}  # fmt: skip
RANK = dict(OPERATORS.values())
_ATTRIBUTE, _INVERT, _CONDITIONAL = 1, 3, 12
DISPLAYS = ast.Dict | ast.List | ast.Set | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Source:
    """The statement's text, where the tree does not say how things are written."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()

    def read(self, node: ast.AST) -> str:
        return self.text[node.col_offset : node.end_col_offset].decode()  # type: ignore[attr-defined]

    def parens(self, node: ast.expr) -> int:
        """How many pairs of parentheses stand right around an expression; a call's do around its argument."""
        before, after = self.text[: node.col_offset], self.text[node.end_col_offset :]
        return min(len(before) - len(before.rstrip(b"(")), len(after) - len(after.lstrip(b")")))

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
            case _:
                own = True if isinstance(node, ast.Subscript | DISPLAYS) else None
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


class Survey:
    """What decides whether a long expression may break in its own brackets, or is set in parentheses."""

    def __init__(self, source: Source, root: ast.expr) -> None:
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
                self._count(OPERATORS[type(op)][1], len(values) - 1)
            case ast.BinOp(op=op):
                self._count(OPERATORS[type(op)][1])
            case ast.Compare(ops=ops):
                self._count(RANK["=="], len(ops))
            case ast.IfExp():
                self._count(_CONDITIONAL, 2)
            case ast.UnaryOp(op):
                self._count(_INVERT if isinstance(op, ast.Invert) else 0, isinstance(op, ast.Invert))
                self.begun = True
            case ast.Starred():
                self.begun = True
            case _ if isinstance(node, DISPLAYS):
                self.brackets = True
                return
            case ast.Slice() | ast.JoinedStr():
                return
        parts = (part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))
        for part in sorted(parts, key=lambda part: part.col_offset):
            self._visit(part)
