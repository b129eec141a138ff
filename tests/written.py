"""Specs compiled for a test: their programs, their texts, and the networks that the texts make."""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from archc import driver
from archc.driver import Module
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, overridden, variant, variant_names
from archc.ir.program import Program
from archc.source import Source

# The tests run beside each other: one thread each is faster than all of them fighting for all cores.
torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent
SPECS = sorted((ROOT / "specs").glob("*.arch"))
CASES = sorted((Path(__file__).parent / "backend" / "cases").glob("*.arch"))
_NUMBER = itertools.count()

# Small relatives of the shipped networks, for what is slow in torch.
TINY_VAN: dict[str, Any] = {"dims": (8, 16, 24), "depths": (1, 2, 1), "ratios": (2, 2, 2)}
MACHINERY: dict[str, dict[str, Any]] = {
    "van_b0": TINY_VAN,
    "maxvit_tiny": {"img_size": 64, "dims": (32, 64), "depths": (1, 2), "stem_dim": 16},
    "vig_t": {"depth": 1},
    "ccnet_rcca_head": {"in_chans": 64},
    "ccnet_cca_r2": {},
    "dasiamrpn_vot": {"features": 8},
}


@cache
def variants(path: Path) -> tuple[str, ...]:
    return driver.load_spec(str(path)).variants


@cache
def compiled(path: Path, name: str, kernels: bool = True) -> Module:
    """A variant of a file, as `archc compile` writes it."""
    return driver.compile_variant(driver.load_spec(str(path)), name, kernels)


def shipped(name: str) -> Module:
    """A variant in a file of its own name in `specs`."""
    return compiled(ROOT / "specs" / f"{name}.arch", name)


def every(paths: list[Path]) -> list[tuple[Path, str]]:
    """Every variant of some files."""
    return [(path, name) for path in paths for name in variants(path)]


def from_text(text: str, name: str | None = None, kernels: bool = True, deploy: bool = False) -> Module:
    """The one variant of a spec that is written in the test."""
    library = load(Source("test.arch", text))
    spec = driver.Spec(library, tuple(variant_names(library)))
    return driver.compile_variant(spec, name or driver.only(spec), kernels, deploy)


def variation(name: str, **arguments: Any) -> Program:
    """The program of a shipped variant with other arguments."""
    library = driver.load_spec(str(ROOT / "specs" / f"{name}.arch")).library
    return elaborate(library, overridden(variant(library, name), **arguments))


def imported(text: str) -> ModuleType:
    """The generated file as a module that can be found again, as pickling needs."""
    number = next(_NUMBER)
    path = _folder() / f"written_{number}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="archc-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def _imported(name: str) -> ModuleType:
    return imported(shipped(name).text)


def network(name: str, **overrides: Any) -> Any:
    """A shipped variant as a torch module in evaluation, with the same weights in every test."""
    torch.manual_seed(0)
    return getattr(_imported(name), name)(**overrides).eval()


def shapes(net: Any) -> dict[str, tuple[int, ...]]:
    """The state dict of a torch module, as shapes."""
    return {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}


def tensors(value: Any) -> tuple[torch.Tensor, ...]:
    """What a forward gives, one tensor or several."""
    return value if isinstance(value, tuple) else (value,)
