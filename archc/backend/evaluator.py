"""The part of Python that constructors of generated modules are written in, evaluated without running it.

Numbers, strings and lists are computed here; what calls of a library and of classes make is left to a subclass.
Whatever is not known raises RereadError: nothing is guessed.
"""

from __future__ import annotations

import ast
import builtins
import math
import operator
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_STEPS = 500_000
MOST_ITEMS = 100_000
MOST_BITS = 4096
DEEPEST = 40


class RereadError(Exception):
    """The text does something that is not understood here, or that torch would refuse."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.message, self.line = message, line


@dataclass(frozen=True)
class Dotted:
    """A name of a library, as `torch.nn.Conv2d`."""

    path: str


@dataclass(frozen=True)
class Unread:
    """A name whose definition is beyond this reader; to use it is an error."""

    line: int


@dataclass(frozen=True, eq=False)
class Function:
    node: ast.FunctionDef


@dataclass(frozen=True, eq=False)
class Bound:
    """A method of an object, by name."""

    owner: Any
    name: str


@dataclass(frozen=True)
class _Returned:
    value: Any


_BREAK, _CONTINUE = object(), object()
Scope = dict[str, Any]

BUILTINS: dict[str, Callable[..., Any]] = {
    name: getattr(builtins, name)
    for name in "sum len range enumerate zip min max int float round abs reversed list tuple dict bool str "
    "sorted any all isinstance".split()
}
_MATH = frozenset("sqrt exp log log2 log10 floor ceil prod gcd lcm pow cos sin tanh".split())
_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
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
_TYPES: dict[Any, type] = {
    **{kind: kind for kind in (int, float, str, bool, list, tuple, dict)},
    **{Dotted(f"{source}.Sequence"): abc.Sequence for source in ("collections.abc", "typing")},
}
_PYTHON = (int, float, str, list, tuple, dict, type(None), abc.KeysView, abc.ValuesView, abc.ItemsView)
_REFUSALS = (TypeError, ValueError, IndexError, KeyError, ArithmeticError, AttributeError)


class Evaluator:
    """Statements and expressions over the names of a file."""

    def __init__(self) -> None:
        self.names: Scope = {}
        self.steps = self.depth = self.line = 0

    # ---- what a subclass knows

    def invoke(self, function: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """A call of something that is no function of Python or of the file."""
        raise self.error(f"{self.kind(function)} cannot be called")

    def attribute(self, owner: Any, name: str) -> Any:
        raise self.error(f"`{name}` of {self.kind(owner)} is not known here")

    def set_attribute(self, owner: Any, name: str, value: Any) -> None:
        raise self.error(f"`{name}` of {self.kind(owner)} cannot be set here")

    def parts(self, owner: Any) -> Sequence[Any]:
        """What a loop over `owner`, which is nothing of Python's own, goes through."""
        raise self.error(f"{self.kind(owner)} is nothing to go through")

    def start(self, owner: Any) -> None:
        """`super().__init__()`."""
        raise self.error("super().__init__() stands outside of a constructor")

    def kind(self, value: Any) -> str:
        return f"a {type(value).__name__}"

    # ---- limits and errors

    def error(self, message: str) -> RereadError:
        return RereadError(message, self.line)

    def _step(self, node: ast.stmt | ast.expr) -> None:
        self.steps += 1
        self.line = node.lineno
        if self.steps > MOST_STEPS:
            raise self.error("this takes too long")

    def _limit(self, value: Any) -> Any:
        """A result, unless it is larger than anything that a constructor needs."""
        if isinstance(value, (list, tuple, str, range)):
            self._few(len(value))
        elif isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise self.error("a number is too large")
        return value

    def _few(self, items: int) -> None:
        if items > MOST_ITEMS:
            raise self.error(f"a list has more than {MOST_ITEMS:,} items")

    def _guarded(self, work: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """What `work` gives within the limits; what Python refuses, with the line."""
        try:
            return self._limit(work(*args, **keywords))
        except _REFUSALS as error:
            raise self.error(f"this raises {type(error).__name__}: {error}") from None

    # ---- calls

    def call(self, function: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        if isinstance(function, Function):
            return self.run(function.node, args, keywords)
        if isinstance(function, Bound) and isinstance(function.owner, _PYTHON):
            if function.name in ("extend", "insert", "append"):
                self._few(len(function.owner) + (len(args[0]) if function.name == "extend" and args else 1))
            return self._guarded(getattr(function.owner, function.name), *args, **keywords)
        if isinstance(function, Dotted) and function.path.startswith("math.") and function.path[5:] in _MATH:
            return self._guarded(getattr(math, function.path[5:]), *args, **keywords)
        if function is isinstance:
            return self._isinstance(*args)
        if function in BUILTINS.values():
            return self._builtin(function, args, keywords)
        return self.invoke(function, args, keywords)

    def run(self, node: ast.FunctionDef, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """A function of the file, or a constructor."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error(f"calls are nested more than {DEEPEST} deep")
        line, result = self.line, self._block(node.body, self._bind(node, args, keywords))
        self.depth -= 1
        self.line = line
        return result.value if isinstance(result, _Returned) else None

    def _bind(self, node: ast.FunctionDef, args: Sequence[Any], keywords: Mapping[str, Any]) -> Scope:
        a, scope = node.args, {}
        names = [x.arg for x in (*a.posonlyargs, *a.args)]
        if len(args) > len(names) and a.vararg is None:
            raise self.error(f"`{node.name}` takes {len(names)} arguments")
        scope.update(zip(names, args, strict=False))
        if a.vararg is not None:
            scope[a.vararg.arg] = tuple(args[len(names) :])
        extra: dict[str, Any] = {}
        allowed = {x.arg for x in (*a.args, *a.kwonlyargs)}
        for key, value in keywords.items():
            if key in scope or (key not in allowed and a.kwarg is None):
                raise self.error(f"`{node.name}` has no argument `{key}`, or has it twice")
            (scope if key in allowed else extra)[key] = value
        if a.kwarg is not None:
            scope[a.kwarg.arg] = extra
        defaults = dict(zip(names[len(names) - len(a.defaults) :], a.defaults, strict=True))
        defaults |= {x.arg: d for x, d in zip(a.kwonlyargs, a.kw_defaults, strict=True) if d is not None}
        for name in (*names, *(x.arg for x in a.kwonlyargs)):
            if name not in scope:
                if name not in defaults:
                    raise self.error(f"`{node.name}` needs `{name}`")
                scope[name] = self.expr(defaults[name], {})
        return scope

    def _builtin(self, function: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        name = function.__name__
        if set(keywords) - {"default", "strict", "reverse", "start"}:
            raise self.error(f"what `{name}` makes of `{min(keywords)}` is not known here")
        args = [a if isinstance(a, _PYTHON) else list(self.parts(a)) for a in args]
        made = self._guarded(function, *args, **keywords)
        return list(made) if name in ("range", "enumerate", "zip", "reversed") else made

    def _isinstance(self, value: Any, kinds: Any) -> bool:
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(value, _PYTHON) or not all(kind in _TYPES for kind in kinds):
            raise self.error(f"whether {self.kind(value)} is of these types is not known here")
        return isinstance(value, tuple(_TYPES[kind] for kind in kinds))

    # ---- statements

    def _block(self, body: Sequence[ast.stmt], scope: Scope) -> Any:
        for statement in body:
            signal = self._statement(statement, scope)
            if signal is not None:
                return signal
        return None

    def _statement(self, node: ast.stmt, scope: Scope) -> Any:
        self._step(node)
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
                return self._block(then if self._truth(self.expr(test, scope)) else otherwise, scope)
            case ast.For(target=target, iter=iterable, body=body, orelse=[]):
                for item in self._items(self.expr(iterable, scope)):
                    self._assign(target, item, scope)
                    signal = self._block(body, scope)
                    if signal is _BREAK:
                        break
                    if isinstance(signal, _Returned):
                        return signal
            case ast.Return(value=value):
                return _Returned(None if value is None else self.expr(value, scope))
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
                items = self._items(value)
                if len(items) != len(names):
                    raise self.error(f"{len(items)} values for {len(names)} names")
                for name, item in zip(names, items, strict=True):
                    self._assign(name, item, scope)
            case _:
                raise self.error("this assignment is not understood here")

    # ---- expressions

    def _items(self, value: Any) -> Sequence[Any]:
        if isinstance(value, (int, float, type(None))):
            raise self.error(f"{self.kind(value)} is nothing to go through")
        return list(value) if isinstance(value, _PYTHON) else self.parts(value)

    def _truth(self, value: Any) -> bool:
        return bool(value) if isinstance(value, _PYTHON) else len(self.parts(value)) > 0

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
        self._step(node)
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
                held = held if isinstance(held, _PYTHON) else self.parts(held)
                return self._guarded(operator.getitem, held, self.expr(index, scope))
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
                return self._limit(str(self._plain(self.expr(value, scope))))
        raise self.error(f"an expression of the kind {type(node).__name__} is not understood here")

    def _plain(self, value: Any) -> Any:
        if not isinstance(value, _PYTHON):
            raise self.error(f"{self.kind(value)} as text is not known here")
        return value

    def _many(self, nodes: Sequence[ast.expr], scope: Scope) -> list[Any]:
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += self._items(self.expr(node.value, scope))
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
        if function is None or not all(isinstance(v, (int, float, str, list, tuple)) for v in (left, right)):
            raise self.error(f"{self.kind(left)} and {self.kind(right)} under this operator are not understood")
        if isinstance(op, ast.Mult):
            for many, times in ((left, right), (right, left)):
                if isinstance(many, (str, list, tuple)) and isinstance(times, int):
                    self._few(len(many) * times)
        if isinstance(op, ast.Pow) and isinstance(left, int) and isinstance(right, int) and abs(left) > 1:
            self._limit(1 << min(left.bit_length() * max(right, 0), MOST_BITS))
        return self._guarded(function, left, right)

    def _compare(self, left: Any, ops: Sequence[ast.cmpop], others: Sequence[ast.expr], scope: Scope) -> bool:
        for op, other in zip(ops, others, strict=True):
            right = self.expr(other, scope)
            if not isinstance(left, _PYTHON) or not isinstance(right, _PYTHON):
                raise self.error("this comparison is not understood here")
            if not self._guarded(_COMPARE[type(op)], left, right):
                return False
            left = right
        return True

    def _comprehension(self, item: ast.expr, loops: Sequence[ast.comprehension], scope: Scope) -> list[Any]:
        loop, rest = loops[0], loops[1:]
        found: list[Any] = []
        for value in self._items(self.expr(loop.iter, scope)):
            self._assign(loop.target, value, scope)
            if all(self._truth(self.expr(test, scope)) for test in loop.ifs):
                found += self._comprehension(item, rest, scope) if rest else [self.expr(item, scope)]
                self._few(len(found))
        return found
