"""Where the grammar, the specs and the templates live, in a wheel and in a checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parent


def folder(name: str) -> Path:
    """The data folder `name`: packed as `_data/name` in a wheel, beside the package in a checkout.

    Raises FileNotFoundError where neither is there.
    """
    packed = PACKAGE / "_data" / name
    if packed.is_dir():
        return packed
    beside = CHECKOUT / name
    # Without this guard a broken install would pick up somebody else's `site-packages/codegen`.
    if (CHECKOUT / "pyproject.toml").is_file() and beside.is_dir():
        return beside
    raise FileNotFoundError(f"archc has no {name}/ folder: looked for {packed} and {beside}")
