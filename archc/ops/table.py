"""Every operation by name, found by importing the files of this folder: there is no list to extend."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from archc.ops.arithmetic import NEGATIVE, NOT, OPERATORS
from archc.ops.base import Op


def _classes() -> dict[str, type[Op]]:
    found: dict[str, type[Op]] = {}
    for info in sorted(pkgutil.iter_modules([str(Path(__file__).parent)]), key=lambda i: i.name):
        if info.name == "table":
            continue
        module = importlib.import_module(f"archc.ops.{info.name}")
        # A family of one-liners is a table of classes.
        tables = [table.values() for table in vars(module).values() if isinstance(table, dict)]
        for item in [*vars(module).values(), *(row for table in tables for row in table)]:
            if isinstance(item, type) and issubclass(item, Op) and "name" in vars(item):
                other = found.setdefault(item.name, item)
                assert other is item, f"two operations are called {item.name}"
    return found


ALL = _classes()
# What a spec may call by name; the others are written as operators, subscripts or declarations.
OPERATIONS = {name: op for name, op in ALL.items() if op.called}
PICK = ALL.get("pick", Op)

__all__ = ["ALL", "NEGATIVE", "NOT", "OPERATIONS", "OPERATORS", "PICK"]
