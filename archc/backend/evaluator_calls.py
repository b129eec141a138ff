"""What is known of Python where a file is evaluated instead of run: names, calls of functions, and limits."""

from __future__ import annotations

import ast
import builtins
import math
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archc.records import dataclass

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
class Returned:
    """That a block ended with `return`."""

    value: Any


Scope = dict[str, Any]

BUILTINS: dict[str, Callable[..., Any]] = {
    name: getattr(builtins, name)
    for name in "sum len range enumerate zip min max int float round abs reversed list tuple dict bool str "
    "sorted any all isinstance".split()
}
_MATH = frozenset("sqrt exp log log2 log10 floor ceil prod gcd lcm pow cos sin tanh".split())
_TYPES: dict[Any, type] = {
    **{kind: kind for kind in (int, float, str, bool, list, tuple, dict)},
    **{Dotted(f"{source}.Sequence"): abc.Sequence for source in ("collections.abc", "typing")},
}
PYTHON = (int, float, str, list, tuple, dict, type(None), abc.KeysView, abc.ValuesView, abc.ItemsView)
_REFUSALS = (TypeError, ValueError, IndexError, KeyError, ArithmeticError, AttributeError)


class Calls:
    """Calls and limits; statements and expressions are `archc.backend.evaluator`."""

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

    def block(self, body: Sequence[ast.stmt], scope: Scope) -> Any:
        """What statements do; a signal where they end early."""
        raise NotImplementedError

    def expr(self, node: ast.expr, scope: Scope) -> Any:
        """The value of an expression."""
        raise NotImplementedError

    # ---- limits and errors

    def error(self, message: str) -> RereadError:
        return RereadError(message, self.line)

    def step(self, node: ast.stmt | ast.expr) -> None:
        self.steps += 1
        self.line = node.lineno
        if self.steps > MOST_STEPS:
            raise self.error("this takes too long")

    def limit(self, value: Any) -> Any:
        """A result, unless it is larger than anything that a constructor needs."""
        if type(value) is float:
            return value
        if isinstance(value, (list, tuple, str, range)):
            self.few(len(value))
        elif isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise self.error("a number is too large")
        return value

    def few(self, items: int) -> None:
        if items > MOST_ITEMS:
            raise self.error(f"a list has more than {MOST_ITEMS:,} items")

    def guarded(self, work: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """What `work` gives within the limits; what Python refuses, with the line."""
        try:
            return self.limit(work(*args, **keywords))
        except _REFUSALS as error:
            raise self.error(f"this raises {type(error).__name__}: {error}") from None

    # ---- calls

    def call(self, function: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        if isinstance(function, Function):
            return self.run(function.node, args, keywords)
        if isinstance(function, Bound) and isinstance(function.owner, PYTHON):
            if isinstance(function.owner, list):
                self.few(len(function.owner) + (len(args[0]) if function.name == "extend" and args else 1))
            return self.guarded(getattr(function.owner, function.name), *args, **keywords)
        if isinstance(function, Dotted) and function.path.startswith("math.") and function.path[5:] in _MATH:
            return self.guarded(getattr(math, function.path[5:]), *args, **keywords)
        if function is isinstance:
            return self._isinstance(*args)
        if callable(function) and function in BUILTINS.values():
            return self._builtin(function, args, keywords)
        return self.invoke(function, args, keywords)

    def run(self, node: ast.FunctionDef, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """A function of the file, or a constructor."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error(f"calls are nested more than {DEEPEST} deep")
        line, result = self.line, self.block(node.body, self._bind(node, args, keywords))
        self.depth -= 1
        self.line = line
        return result.value if isinstance(result, Returned) else None

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
        args = [a if isinstance(a, PYTHON) else list(self.parts(a)) for a in args]
        made = self.guarded(function, *args, **keywords)
        return list(made) if name in ("range", "enumerate", "zip", "reversed") else made

    def _isinstance(self, value: Any, kinds: Any) -> bool:
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(value, PYTHON) or not all(kind in _TYPES for kind in kinds):
            raise self.error(f"whether {self.kind(value)} is of these types is not known here")
        return isinstance(value, tuple(_TYPES[kind] for kind in kinds))
