"""The part of Python that constructors of generated modules are written in, evaluated without running it.

Numbers, strings and lists are computed here; what calls of a library and of classes make is left to a subclass.
Whatever is not known raises RereadError: nothing is guessed.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from archc.backend.evaluator_calls import (
    BUILTINS,
    MOST_BITS,
    PYTHON,
    Bound,
    Calls,
    Dotted,
    Function,
    RereadError,
    Returned,
    Scope,
    Unread,
)

__all__ = ["BUILTINS", "Bound", "Dotted", "Evaluator", "Function", "RereadError", "Unread"]

_BREAK, _CONTINUE = object(), object()
_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_OPERANDS = (int, float, str, list, tuple)
_COMPARE: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_METHODS = {
    list: {"append", "extend", "index", "count", "pop", "insert", "copy"},
    dict: {"get", "keys", "values", "items"},
    tuple: {"index", "count"},
}


class Evaluator(Calls):
    """Statements and expressions over the names of a file."""

    # ---- statements

    def block(self, body: Sequence[ast.stmt], scope: Scope) -> Any:
        for statement in body:
            signal = self._statement(statement, scope)
            if signal is not None:
                return signal
        return None

    def _statement(self, node: ast.stmt, scope: Scope) -> Any:
        self.step(node)
        match node:
            case ast.Assign(targets=targets, value=value):
                made = self.expr(value, scope)
                for target in targets:
                    self._assign(target, made, scope)
            case ast.AnnAssign(target=target, value=value):
                if value is not None:
                    self._assign(target, self.expr(value, scope), scope)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                held = self._lookup(name, scope)
                if isinstance(held, list):
                    raise self.error("a list that is changed in place is not understood here")
                scope[name] = self._binary(op, held, self.expr(value, scope))
            case ast.Expr(value=value) if ast.unparse(value) == "super().__init__()":
                self.start(next(iter(scope.values()), None))
            case ast.Expr(value=value):
                if not isinstance(value, ast.Constant):
                    self.expr(value, scope)
            case ast.If(test=test, body=then, orelse=otherwise):
                return self.block(then if self._truth(self.expr(test, scope)) else otherwise, scope)
            case ast.For(target=target, iter=iterable, body=body, orelse=[]):
                for item in self.items(self.expr(iterable, scope)):
                    self._assign(target, item, scope)
                    signal = self.block(body, scope)
                    if signal is _BREAK:
                        break
                    if isinstance(signal, Returned):
                        return signal
            case ast.Return(value=value):
                return Returned(None if value is None else self.expr(value, scope))
            case ast.Break():
                return _BREAK
            case ast.Continue():
                return _CONTINUE
            case ast.Pass():
                pass
            case ast.Raise(exc=ast.Call(func=ast.Name(id=name))):
                raise self.error(f"these arguments raise {name}")
            case _:
                raise self.error(f"a statement of the kind {type(node).__name__} is not understood here")
        return None

    def _assign(self, target: ast.expr, value: Any, scope: Scope) -> None:
        match target:
            case ast.Name(id=name):
                scope[name] = value
            case ast.Attribute(value=owner, attr=name):
                self.set_attribute(self.expr(owner, scope), name, value)
            case ast.Tuple(elts=names) | ast.List(elts=names):
                items = self.items(value)
                if len(items) != len(names):
                    raise self.error(f"{len(items)} values for {len(names)} names")
                for name, item in zip(names, items, strict=True):
                    self._assign(name, item, scope)
            case _:
                raise self.error("this assignment is not understood here")

    # ---- expressions

    def items(self, value: Any) -> Sequence[Any]:
        if isinstance(value, (int, float, type(None))):
            raise self.error(f"{self.kind(value)} is nothing to go through")
        return list(value) if isinstance(value, PYTHON) else self.parts(value)  # type: ignore[arg-type]

    def _truth(self, value: Any) -> bool:
        return bool(value) if isinstance(value, PYTHON) else len(self.parts(value)) > 0

    def _lookup(self, name: str, scope: Scope) -> Any:
        if name in scope:
            return scope[name]
        if name not in self.names and name not in BUILTINS:
            raise self.error(f"`{name}` is not known here")
        found = self.names[name] if name in self.names else BUILTINS[name]
        if isinstance(found, Unread):
            raise self.error(f"the definition of `{name}` in line {found.line} is not understood here")
        return found

    def expr(self, node: ast.expr, scope: Scope) -> Any:
        self.step(node)
        match node:
            case ast.Name(id=name):
                return self._lookup(name, scope)
            case ast.Constant(value=value):
                return value
            case ast.Call():
                return self._call(node, scope)
            case ast.Attribute(value=owner, attr=name):
                return self._attribute(self.expr(owner, scope), name)
            case ast.BinOp(left=left, op=op, right=right):
                return self._binary(op, self.expr(left, scope), self.expr(right, scope))
            case ast.Subscript(value=owner, slice=index):
                held = self.expr(owner, scope)
                held = held if isinstance(held, PYTHON) else self.parts(held)
                return self.guarded(operator.getitem, held, self.expr(index, scope))
            case ast.Slice(lower=lower, upper=upper, step=step):
                return slice(*(None if p is None else self.expr(p, scope) for p in (lower, upper, step)))
            case ast.IfExp(test=test, body=then, orelse=otherwise):
                return self.expr(then if self._truth(self.expr(test, scope)) else otherwise, scope)
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._compare(self.expr(left, scope), ops, others, scope)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._truth(self.expr(operand, scope))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
                zero = ast.Sub() if isinstance(op, ast.USub) else ast.Add()
                return self._binary(zero, 0, self.expr(operand, scope))
            case ast.BoolOp(op=op, values=values):
                for one in values[:-1]:
                    value = self.expr(one, scope)
                    if self._truth(value) == isinstance(op, ast.Or):
                        return value
                return self.expr(values[-1], scope)
            case ast.Tuple(elts=items):
                return tuple(self._many(items, scope))
            case ast.List(elts=items):
                return self._many(items, scope)
            case ast.Dict(keys=keys, values=values):
                pairs = [(k, v) for k, v in zip(keys, values, strict=True) if k is not None]
                if len(pairs) == len(keys):
                    return {self.expr(k, scope): self.expr(v, scope) for k, v in pairs}
            case ast.ListComp(elt=item, generators=loops) | ast.GeneratorExp(elt=item, generators=loops):
                return self._comprehension(item, loops, dict(scope))
            case ast.JoinedStr(values=values):
                return "".join(str(self.expr(value, scope)) for value in values)
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                return self.limit(str(self._plain(self.expr(value, scope))))
        raise self.error(f"an expression of the kind {type(node).__name__} is not understood here")

    def _plain(self, value: Any) -> Any:
        if not isinstance(value, PYTHON):
            raise self.error(f"{self.kind(value)} as text is not known here")
        return value

    def _many(self, nodes: Sequence[ast.expr], scope: Scope) -> list[Any]:
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += self.items(self.expr(node.value, scope))
            else:
                found.append(self.expr(node, scope))
        return found

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        function = self.expr(node.func, scope)
        args = self._many(node.args, scope)
        keywords: dict[str, Any] = {}
        for one in node.keywords:
            value = self.expr(one.value, scope)
            keywords |= value if one.arg is None else {one.arg: value}
        self.line = node.lineno
        return self.call(function, args, keywords)

    def _attribute(self, owner: Any, name: str) -> Any:
        if isinstance(owner, Dotted):
            return getattr(math, name) if (owner.path, name) == ("math", "pi") else Dotted(f"{owner.path}.{name}")
        return Bound(owner, name) if name in _METHODS.get(type(owner), ()) else self.attribute(owner, name)

    def _binary(self, op: ast.operator, left: Any, right: Any) -> Any:
        function = _BINARY.get(type(op))
        if function is None or not isinstance(left, _OPERANDS) or not isinstance(right, _OPERANDS):
            raise self.error(f"{self.kind(left)} and {self.kind(right)} under this operator are not understood")
        if isinstance(op, ast.Mult):
            for many, times in ((left, right), (right, left)):
                if isinstance(many, (str, list, tuple)) and isinstance(times, int):
                    self.few(len(many) * times)
        if isinstance(op, ast.Pow) and isinstance(left, int) and isinstance(right, int) and abs(left) > 1:
            self.limit(1 << min(left.bit_length() * max(right, 0), MOST_BITS))
        return self.guarded(function, left, right)

    def _compare(self, left: Any, ops: Sequence[ast.cmpop], others: Sequence[ast.expr], scope: Scope) -> bool:
        for op, other in zip(ops, others, strict=True):
            right = self.expr(other, scope)
            if not isinstance(left, PYTHON) or not isinstance(right, PYTHON):
                raise self.error("this comparison is not understood here")
            if not self.guarded(_COMPARE[type(op)], left, right):
                return False
            left = right
        return True

    def _comprehension(self, item: ast.expr, loops: Sequence[ast.comprehension], scope: Scope) -> list[Any]:
        loop, rest = loops[0], loops[1:]
        found: list[Any] = []
        for value in self.items(self.expr(loop.iter, scope)):
            self._assign(loop.target, value, scope)
            if all(self._truth(self.expr(test, scope)) for test in loop.ifs):
                found += self._comprehension(item, rest, scope) if rest else [self.expr(item, scope)]
                self.few(len(found))
        return found
