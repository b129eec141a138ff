"""Fused operators in Triton's interpreter, held to float64: `python tests/kernels/interpreted.py van swin`.

A network runs in float64 on its PyTorch path and is held to the reference interpreter of its graph; on the way it
shows what its fused operators are called with. Each of them is then run by its kernels, forward and backward, on the
same tensors rounded to a narrower type, and held to its PyTorch path in float64 on the rounded tensors. At last the
whole network runs by its kernels in float32. Memory that nothing was written to is NaN, and programs also run in the
opposite order, and tensors lie otherwise in memory than kernels like. Prints one line of JSON for each comparison.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import hardened
import torch
from planned import NETWORKS, random_network, small, with_kernels

from archc.backend.python import identifier
from archc.contract import Contract
from archc.ir.program import Program
from archc.reference.interpreter import run
from archc.reference.seeded import seeded_weights
from archc.trials import FusedCall, fused_calls, loaded, make, named_outputs, random_inputs
from archc.weights.keys import state_dict

# The largest errors, as a share of the norm.
LIMITS = {"float64": 1e-9, "float32": 1e-6, "float16": 5e-4, "bfloat16": 3e-3}
# A gradient that cancels counts as large as this share of the largest one.
FLOOR = 1e-3

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)  # fills new tensors with NaN


@dataclass(frozen=True)
class Row:
    """One comparison: of which operator (`network` for the whole), at which sizes; the worst of its tensors."""

    network: str
    what: str
    sizes: str
    dtype: str
    worst: str
    error: float
    limit: float
    seconds: float

    @property
    def fails(self) -> bool:
        return not self.error <= self.limit


def root_mean_square(x: Any) -> float:
    return float(x.detach().double().square().mean().sqrt())


def errors(found: Sequence[Any], wanted: Sequence[Any]) -> list[float]:
    """The norm of each difference as a share of the norm, which counts as at least FLOOR of the largest; what is infinite
    is the same infinity."""
    scales = [0.0 if w is None or not w.numel() else root_mean_square(w.where(w.isfinite(), 0.0)) for w in wanted]
    least = FLOOR * max(scales, default=0.0)
    far = []
    for a, b, scale in zip(found, wanted, scales, strict=True):
        if (a is None) != (b is None) or (a is not None and a.shape != b.shape):
            far.append(math.inf)
        elif a is None or not a.numel():
            far.append(0.0)
        else:
            gap = root_mean_square((a.double() - b.double()).where(a != b, 0.0))
            far.append(math.inf if math.isnan(gap) else gap / (max(scale, least) or 1.0))
    return far


def scatter(dtype: torch.dtype, numbers: int) -> float:
    """How much larger an error of rounding may be in so many numbers: that of a few is of chance."""
    return 1.0 if dtype == torch.float32 else 1.0 + 2.0 / math.sqrt(max(numbers, 1))


# ---- one operator


def results_and_gradients(
    function: Any, tensors: Sequence[Any], numbers: Sequence[float], dtype: torch.dtype, seed: int = 0
) -> tuple[list[Any], list[Any]]:
    """What a function gives, and the gradients of a random projection (in `dtype`) of it; None for integers.

    In float16 the gradient of the first tensor is not wanted, as that of an image is not.
    """
    wanted = [t.is_floating_point() and t.numel() > 0 for t in tensors]  # an empty one is not there
    if dtype == torch.float16 and sum(wanted) > 1:
        wanted[wanted.index(True)] = False
    channels = getattr(function, "channels", -1)
    given = [reordered(t, dtype, channels).requires_grad_(want) for t, want in zip(tensors, wanted, strict=True)]
    made = function(*given, *numbers)
    made = list(made) if isinstance(made, (tuple, list)) else [made]
    drawn = torch.Generator().manual_seed(seed)
    grads = [torch.randn(y.shape, generator=drawn, dtype=torch.float64).to(dtype).to(y.dtype) for y in made]
    grads = [reordered(g, dtype, channels) for g in grads]
    found = iter(torch.autograd.grad(made, [g for g in given if g.requires_grad], grads, allow_unused=True))
    return made, [next(found) if g.requires_grad else None for g in given]


def reordered(tensor: Any, dtype: torch.dtype, channels: int = -1) -> Any:
    """A copy; in bfloat16 one whose first axis is the innermost in memory, as no kernel would lay it out; in float16 one whose
    channels lie side by side and are a part of a longer axis, the rest of which is NaN."""
    if dtype == torch.bfloat16 and tensor.ndim > 1:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if dtype == torch.float16 and tensor.is_floating_point() and tensor.ndim >= max(2, -channels):
        rows = tensor.movedim(channels, -1)
        return torch.cat([rows, torch.full_like(rows, math.nan)], -1)[..., : rows.shape[-1]].movedim(-1, channels)
    return tensor.clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Verdict:
    """The tensor that is the furthest beyond its limit, or the nearest to it."""

    worst: str
    error: float
    limit: float


def judge(
    path: Any, operator: Any, tensors: Sequence[Any], numbers: Sequence[float], dtype: torch.dtype, mixed: bool = False
) -> Verdict:
    """An operator by its kernels in `dtype`, held to `path` in float64 on the same rounded tensors, with gradients.

    `mixed`: all but the first tensors stay in float32, as under autocast. In float32 the programs run in both orders.
    The sum of a gradient may cancel by chance: an error a little beyond its limit has to be there for three random
    projections.
    """
    for seed in range(3):
        verdict = _judge(path, operator, tensors, numbers, dtype, mixed, seed)
        if verdict.error <= verdict.limit or not verdict.error <= 20 * verdict.limit:
            break
    return verdict


def _judge(
    path: Any, operator: Any, tensors: Sequence[Any], numbers: Sequence[float], dtype: torch.dtype, mixed: bool, seed: int
) -> Verdict:
    rounded = [t.to(dtype) if t.is_floating_point() else t for t in tensors]
    if mixed:
        whole = [t.float() if t.is_floating_point() else t for t in tensors]
        rounded = operator.lowered(whole, dtype)
    exact = [t.double() if t.is_floating_point() else t for t in rounded]
    wanted, found = (results_and_gradients(f, ts, numbers, dtype, seed) for f, ts in ((path, exact), (operator, rounded)))
    limit = LIMITS[str(dtype).removeprefix("torch.")]
    verdicts = []
    for what, ours, theirs in zip(("result", "gradient"), found, wanted, strict=True):
        for at, (far, y) in enumerate(zip(errors(ours, theirs), theirs, strict=True)):
            verdicts.append(Verdict(f"{what} {at}", far, limit * scatter(dtype, 0 if y is None else y.numel())))
    if dtype == torch.float32 and not hardened.backwards:
        hardened.backwards = True
        other = results_and_gradients(operator, rounded, numbers, dtype, seed)
        hardened.backwards = False
        pairs = zip([*found[0], *found[1]], [*other[0], *other[1]], strict=True)
        same = all(torch.equal(a, b) for a, b in pairs if a is not None)
        verdicts.append(Verdict("other order", 0.0 if same else math.inf, 0.0))
    return max(verdicts, key=lambda v: v.error / (v.limit or 1.0))


def check_operator(network: str, called: FusedCall, dtype: torch.dtype, mixed: bool = False) -> Row:
    operator, tensors, numbers = called
    start = time.perf_counter()
    verdict = judge(operator.torch_path, operator, tensors, numbers, dtype, mixed)
    kind, took = str(dtype).removeprefix("torch."), round(time.perf_counter() - start, 2)
    sizes = " ".join("x".join(map(str, t.shape)) for t in tensors)
    name = operator.name.rpartition("::")[2]
    return Row(network, name, sizes, kind + " mixed" * mixed, verdict.worst, verdict.error, verdict.limit, took)


# ---- a network


def check_network(
    network: str, program: Program, contract: Contract, sizes: dict[str, int], dtypes: Sequence[str], thorough: bool
) -> Iterator[Row]:
    """Every fused operator of a network, and the network as a whole.

    An operator runs in each of `dtypes` where it is `thorough`, else in one of them, in turn.
    """
    with loaded(with_kernels(program, contract)) as module:
        if not hasattr(module, "FusedOp"):
            return
        weights = seeded_weights(program)
        inputs = random_inputs({i.name: i.value for i in program.inputs}, sizes, program.root)
        meaning = _by_meaning(program, weights, inputs)

        def go(dtype: torch.dtype, kernels: bool) -> Run:
            os.environ["ARCHC_KERNELS"] = str(int(kernels))
            try:
                return _by_module(module, program, weights, inputs, dtype)
            finally:
                del os.environ["ARCHC_KERNELS"]

        exact: list[Run] = []
        found = fused_calls(module, lambda: exact.append(go(torch.float64, True)))
        yield compared(network, sizes, "float64", exact[0], meaning, LIMITS["float64"])
        for at, called in enumerate(found):
            for dtype in dtypes if thorough else [dtypes[at % len(dtypes)]] if dtypes else []:
                yield check_operator(network, called, getattr(torch, dtype))
        if found and (thorough or not dtypes):
            # PyTorch alone may be further off, where a network magnifies what is rounded.
            alone = max(errors_of(go(torch.float32, False), meaning))
            start = time.perf_counter()
            row = compared(network, sizes, "float32", go(torch.float32, True), meaning, max(LIMITS["float32"], 2 * alone))
            yield replace(row, seconds=round(time.perf_counter() - start, 2))


Run = tuple[list[Any], list[Any]]
"""Outputs, and the gradients of inputs and parameters."""


def _by_meaning(program: Program, weights: dict[str, Any], inputs: dict[str, Any]) -> Run:
    held = {n: w.clone().requires_grad_(w.is_floating_point()) for n, w in weights.items()}
    given = {n: x.clone().requires_grad_(x.is_floating_point()) for n, x in inputs.items()}
    made = run(program, held, given)
    kinds = state_dict(program)
    leaves = [x for x in given.values() if x.requires_grad] + [held[n] for n in held if kinds[n].kind == "param"]
    return projected({o.name: made[o.name] for o in program.outputs if o.when != "training" and o.kind != "loss"}, leaves)


def _by_module(module: Any, program: Program, weights: dict[str, Any], inputs: dict[str, Any], dtype: torch.dtype) -> Run:
    net = make(module, program)
    net.load_state_dict(weights)
    net = net.to(dtype)
    given = {n: x.to(dtype).clone().requires_grad_() if x.is_floating_point() else x for n, x in inputs.items()}
    made = named_outputs(program, net(**{identifier(n): x for n, x in given.items()}))
    parameters = dict(net.named_parameters())
    kinds = state_dict(program)
    leaves = [x for x in given.values() if x.requires_grad] + [parameters[n] for n in weights if kinds[n].kind == "param"]
    return projected(made, leaves)


def projected(outputs: dict[str, Any], leaves: Sequence[Any]) -> Run:
    flat = [y for value in outputs.values() for y in (value if isinstance(value, (list, tuple)) else [value])]
    reached = [y for y in flat if y.requires_grad]
    drawn = torch.Generator().manual_seed(1)
    grads = [torch.randn(y.shape, generator=drawn, dtype=torch.float64).to(y.dtype) for y in reached]
    return flat, list(torch.autograd.grad(reached, leaves, grads, allow_unused=True, materialize_grads=True))


def errors_of(ours: Run, theirs: Run) -> list[float]:
    return [*errors(ours[0], theirs[0]), *errors(ours[1], theirs[1])]


def compared(network: str, sizes: dict[str, int], dtype: str, ours: Run, theirs: Run, limit: float) -> Row:
    far = errors_of(ours, theirs)
    at = max(range(len(far)), key=lambda i: far[i])
    worst = f"output {at}" if at < len(ours[0]) else f"gradient {at - len(ours[0])}"
    return Row(network, "network", str(sizes), dtype, worst, far[at], limit, 0.0)


def check(name: str, thorough: bool) -> Iterator[Row]:
    """The network `name` of NETWORKS, or `random_SEED`. Not `thorough`: its operators in one narrow type each at the
    first sizes, and the whole at the last ones, with programs in the opposite order."""
    if name.startswith("random_"):
        program, contract, sizes = random_network(int(name.removeprefix("random_")))
    else:
        (program, contract), sizes = small(name), NETWORKS[name][1]
    if thorough:
        for one in sizes:
            yield from check_network(name, program, contract, one, ("float32", "float16", "bfloat16"), True)
        return
    yield from check_network(name, program, contract, sizes[0], ("bfloat16", "float16"), False)
    hardened.backwards = True
    yield from check_network(name, program, contract, sizes[-1], (), False)
    hardened.backwards = False


def main(*names: str, thorough: bool = False) -> None:
    for name in names:
        for row in check(name, thorough):
            print(json.dumps(asdict(row)), flush=True)


if __name__ == "__main__":
    main(*(n for n in sys.argv[1:] if n != "--thorough"), thorough="--thorough" in sys.argv)
