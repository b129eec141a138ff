"""One run of a generated module beside the meaning of its graph, and how far they are apart."""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from archc.backend.python import global_name, identifier
from archc.ir.graph import Apply, Branch, Call, Repeat, Statement, Template, Value
from archc.ir.program import Program
from archc.records import dataclass

# A difference counts as a share of the largest value of the tensor; tiny gradients, of the largest gradient.
FLOOR = 1e-3

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Distance:
    """How far a tensor is off, as a share of its largest value."""

    name: str
    worst: float


@dataclass(frozen=True)
class Trial:
    """One run at one size. `what` is forward, an entry, or a block; `idle` are parameters without a gradient.

    `failure` says why there is no comparison.
    """

    what: str
    sizes: dict[str, int]
    outputs: tuple[Distance, ...] = ()
    gradients: tuple[Distance, ...] = ()
    idle: tuple[str, ...] = ()
    failure: str = ""

    @property
    def forward(self) -> float:
        """The worst of the outputs."""
        return max((d.worst for d in self.outputs), default=0.0)

    @property
    def backward(self) -> float:
        """The worst of the gradients."""
        return max((d.worst for d in self.gradients), default=0.0)


# ---- the module


class Broken(Exception):
    """The file cannot be imported, or its factory makes nothing."""


@contextmanager
def loaded(text: str) -> Iterator[ModuleType]:
    """The file as a module of its own, which is forgotten afterwards. Raises Broken."""
    with tempfile.TemporaryDirectory(prefix="archc-") as folder:
        path = Path(folder) / "generated.py"
        path.write_text(text, encoding="utf-8")
        name = f"archc_generated_{next(_NUMBER)}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with _at_fault():
                spec.loader.exec_module(module)
            yield module
        finally:
            del sys.modules[name]


_NUMBER = itertools.count()


@contextmanager
def _at_fault() -> Iterator[None]:
    """Whatever a generated file raises, it is the file that is at fault."""
    try:
        yield
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error}") from None


def make(module: ModuleType, program: Program, dtype: str = "float64") -> Any:
    """The network that the file's factory makes, in evaluation. Raises Broken."""
    import torch

    with _at_fault():
        return getattr(module, global_name(program.name))().to(getattr(torch, dtype)).eval()


FusedCall = tuple[Any, list[Any], list[Any]]
"""A fused operator, and the tensors and numbers that it is called with."""


def fused_calls(module: Any, run: Callable[[], object]) -> list[FusedCall]:
    """What the fused operators of a module are called with in `run`, where they compute in plain PyTorch; the same one
    with tensors of the same sizes once."""
    from torch import Tensor

    if not hasattr(module, "FusedOp"):
        return []
    found: dict[tuple[Any, ...], FusedCall] = {}

    def call(operator: Any, *given: Any) -> Any:
        given = tuple(module.unpacked(given))
        tensors = [item.detach() for item in given if isinstance(item, Tensor)]
        numbers = list(given[len(tensors) :])
        found.setdefault((operator.name, *(t.shape for t in tensors)), (operator, tensors, numbers))
        return operator.torch_path(*given)

    whole, module.FusedOp.__call__ = module.FusedOp.__call__, call
    try:
        run()
    finally:
        module.FusedOp.__call__ = whole
    return list(found.values())


def as_model(net: Any, program: Program) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
    """The module as `archc.reference.answers` wants it: weights and inputs to outputs by name."""
    import torch

    def model(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
        with torch.no_grad(), _at_fault():
            net.load_state_dict(weights, strict=False)
            return named_outputs(program, net(**{identifier(name): x for name, x in inputs.items()}))

    return model


def named_outputs(program: Program, made: Any) -> dict[str, Any]:
    """What `forward` gave in evaluation, by the names of the outputs."""
    outputs = [o for o in program.outputs if o.when != "training" and o.kind != "loss"]
    values = made if len(outputs) > 1 else (made,)
    return {o.name: value for o, value in zip(outputs, values, strict=True)}


# ---- runs


def random_inputs(values: Mapping[str, Value], sizes: Sizes, template: Template) -> dict[str, Any]:
    """Normal numbers; integers below the smallest table that `template` looks them up in; truth values."""
    import numpy as np
    import torch

    from archc.reference.seeded import input_values

    found = {}
    for seed, (name, value) in enumerate(values.items()):
        normal = input_values(seed, tuple(axis.size.evaluate(sizes) for axis in value.type.axes))
        if value.type.dtype == "float":
            drawn = normal
        elif value.type.dtype == "bool":
            drawn = np.asarray(normal > 0)
        else:
            drawn = np.asarray(np.abs(normal) * 1000, dtype=np.int64) % smallest_table(template)
        found[name] = torch.from_numpy(drawn)
    return found


def smallest_table(template: Template) -> int:
    """The least number of rows that anything in a template is looked up in; 2 where nothing is."""
    rows = [2**16]

    def go(body: Sequence[Statement]) -> None:
        for statement in body:
            match statement:
                case Apply(op=op):
                    size = getattr(getattr(op, "vocab", None), "value", None)
                    rows.extend([size] if isinstance(size, int) else [])
                case Call(template=inner):
                    go(inner.body)
                case Repeat(turns=turns):
                    for turn in turns:
                        go(turn.template.body)
                case Branch(then=then, otherwise=otherwise):
                    go(then or ())
                    go(otherwise or ())
                case _:
                    pass

    go(template.body)
    return min(rows) if len(rows) > 1 else 2


def trial(
    what: str,
    sizes: Sizes,
    net: Any,
    weights: Mapping[str, Any],
    inputs: dict[str, Any],
    ours: Callable[[dict[str, Any]], dict[str, Any]],
    theirs: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
    dtype: str = "float64",
    gradients: bool = True,
) -> Trial:
    """One comparison: outputs, then the gradients of a random projection of all outputs."""
    import torch

    kind = getattr(torch, dtype)
    mine = {n: x.to(kind).requires_grad_(gradients) if x.is_floating_point() else x for n, x in inputs.items()}
    told = {n: x.clone().requires_grad_(gradients) if x.is_floating_point() else x for n, x in inputs.items()}
    parameters = dict(net.named_parameters())
    held = {n: w.clone().requires_grad_(gradients) if n in parameters else w for n, w in weights.items()}
    wanted = _flat(theirs(told, held))
    try:
        with torch.set_grad_enabled(gradients), _at_fault():
            found = _flat(ours(mine))
    except Broken as error:
        return Trial(what, dict(sizes), failure=str(error))
    if list(found) != list(wanted):
        return Trial(what, dict(sizes), failure=f"outputs are {', '.join(found)} and should be {', '.join(wanted)}")
    outputs = tuple(Distance(n, distance(found[n].detach(), wanted[n].detach())) for n in wanted)
    if not gradients:
        return Trial(what, dict(sizes), outputs)
    leaves = [n for n, x in mine.items() if x.requires_grad]
    left = _gradients(found, [*(mine[n] for n in leaves), *parameters.values()])
    right = _gradients(wanted, [*(told[n] for n in leaves), *(held[n] for n in parameters)])
    names = [*leaves, *parameters]
    scale = max((float(g.abs().max()) for g in right if g is not None and g.numel()), default=0.0)
    rows = tuple(
        Distance(n, distance(_or_zeros(a, b), _or_zeros(b, a), scale * FLOOR))
        for n, a, b in zip(names, left, right, strict=True)
        if a is not None or b is not None
    )
    idle = tuple(n for n, a in zip(names, left, strict=True) if a is None)
    return Trial(what, dict(sizes), outputs, rows, idle)


def _gradients(outputs: Mapping[str, Any], leaves: Sequence[Any]) -> Sequence[Any]:
    import torch

    from archc.reference.seeded import tensor_values

    reached = {n: y for n, y in outputs.items() if y.requires_grad}
    if not reached or not leaves:
        return [None] * len(leaves)
    projections = [
        torch.from_numpy(tensor_values(f"projection of {n}", (1, *y.shape))[0]).to(y.dtype) * math.sqrt(y.numel() or 1)
        for n, y in reached.items()
    ]
    return torch.autograd.grad(list(reached.values()), leaves, projections, allow_unused=True)


def _or_zeros(gradient: Any, other: Any) -> Any:
    return other.new_zeros(other.shape) if gradient is None else gradient


def _flat(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Every tensor with a name; those of a list are numbered."""
    flat: dict[str, Any] = {}
    for name, value in outputs.items():
        if isinstance(value, (list, tuple)):
            flat |= {f"{name}.{i}": tensor for i, tensor in enumerate(value)}
        else:
            flat[name] = value
    return flat


def distance(ours: Any, theirs: Any, least: float = 0.0) -> float:
    """The largest difference as a share of the largest finite value (of `least`, where that is larger).

    Infinities must stand in the same places; so must NaN.
    """
    if ours.shape != theirs.shape:
        return math.inf
    ours, theirs = ours.double(), theirs.double()
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    gap = (ours - theirs).abs().masked_fill(same, 0.0)
    if not gap.numel():
        return 0.0
    largest = float(theirs.abs().masked_fill(~theirs.isfinite(), 0.0).max())
    worst = float(gap.max()) / (max(largest, least) or 1.0)
    return worst if math.isfinite(worst) else math.inf
