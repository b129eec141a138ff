"""The families of kernels, one file each, found by their place.

A file defines `FAMILY`. Its kernels are an ordinary Triton file, `codegen/kernels/NAME.py`, with the class of operators
that launches them; a module that needs it contains it.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from archc.fusion.families.base import Family


@cache
def families() -> tuple[Family, ...]:
    """All of them, in the order in which they are tried: smaller `rank` first, then by name."""
    found: list[Family] = []
    for module in pkgutil.iter_modules(__path__):
        if module.name != "base":
            found.append(importlib.import_module(f"{__name__}.{module.name}").FAMILY)
    return tuple(sorted(found, key=lambda family: (family.rank, family.name)))


@cache
def family(name: str) -> Family:
    """The family of that name."""
    return next(one for one in families() if one.name == name)
