"""Binding names."""

from __future__ import annotations

from typing import Any

from archc.diagnostics import fail
from archc.elaborate.frame import Scope, tensors_in
from archc.elaborate.reading import all_assigned
from archc.elaborate.values import Deferred, Many, Module
from archc.ir.graph import (
    Assign,
    Value,
)
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Scalar, Var
from archc.syntax import tree


def bind_name(name: str, value: Any, node: tree.Node, scope: Scope) -> None:
    """Bind a name. Raises ArchError E0224 for the sizes of the signature, E0225 for modules and parameters."""
    if name in scope.sizes:
        raise fail("E0224", f"`{name}` is a size of the signature and cannot get a new value", node.span,
                   helps=(f"use another name, e.g. `{name.lower()}_out = ...`",))  # fmt: skip
    if isinstance(scope.env.get(name), Module):
        raise fail("E0225", f"`{name}` is a module and cannot get a new value", node.span)
    if isinstance(value, Scalar) and isinstance(value.sym, SymApply):
        value = Scalar(value.value, Var(name, value.sym)) if _may_name(name, scope) else value
    scope.env[name] = value
    if tensors_in(value) and not isinstance(value, Deferred):
        _note(name, value, node, scope)


def _may_name(name: str, scope: Scope) -> bool:
    """A name that stands for one number in the whole component may appear in the module under that name."""
    return scope.component is not None and _times_assigned(name, scope.component) == 1


def _times_assigned(name: str, component: tree.Component) -> int:
    taken = sum(1 for p in component.parameters if p.name == name)
    return taken + sum(1 for n in all_assigned(component.body) if n == name)


def _note(name: str, value: Any, node: tree.Node, scope: Scope) -> None:
    frame = scope.frame
    if isinstance(value, Value):
        frame.add(Assign(name, frame.use(value), node.span))
    elif (
        isinstance(value, Many)
        and not value.is_tuple
        and all(isinstance(i, Value) and i.uid in frame.owned for i in value.items)
    ):
        # To hold a tensor in a list is not to read it: what stands outside of a loop stays there.
        frame.add(Assign(name, tuple(frame.use(t) for t in value.items), node.span))
