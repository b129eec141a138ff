"""The generated module against the meaning of its graph: outputs and gradients, in float64.

The module runs as it stands in the file, the graph in the reference interpreter; both hold the same seeded weights
and get the same inputs. torch is imported when the check runs.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from archc.backend.python import identifier
from archc.contract import Contract, solve
from archc.ir.graph import Apply, Branch, Call, Repeat, Statement, Template, Value
from archc.ir.program import Program
from archc.reference.answers import Agreement, check_answers, locate
from archc.weights.keys import state_dict

# A difference counts as a share of the largest value of the tensor; tiny gradients, of the largest gradient.
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}
FLOOR = 1e-6
# Beyond either, every distinct block is held to its meaning instead of the network as a whole.
MOST_PARAMETERS = 200_000_000
MOST_MACS = 40_000_000_000
# How much work the largest size of a whole network may be.
WORK = 4_000_000_000

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


@dataclass(frozen=True)
class Report:
    """`scope` is network, or blocks where the network is too large; `left_out` are classes that were not run then."""

    name: str
    scope: str
    dtype: str
    tolerance: float
    parameters: int
    trials: tuple[Trial, ...]
    answers: tuple[Agreement, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def worst_output(self) -> float:
        """Over all runs; infinite where one failed."""
        return max((math.inf if t.failure else t.forward for t in self.trials), default=0.0)

    @property
    def worst_gradient(self) -> float:
        return max((math.inf if t.failure else t.backward for t in self.trials), default=0.0)

    @property
    def sizes(self) -> tuple[dict[str, int], ...]:
        """The sizes of each run."""
        return tuple(t.sizes for t in self.trials)

    @property
    def ok(self) -> bool:
        """Whether everything that was run agrees, and something was run."""
        close = max(self.worst_output, self.worst_gradient) <= self.tolerance
        return close and bool(self.trials) and all(a.holds for a in self.answers)


def verify(
    program: Program,
    text: str,
    *,
    sizes: Sequence[Sizes] | None = None,
    dtype: str = "float64",
    tolerance: float | None = None,
    answers: bool = True,
    gradients: bool = True,
) -> Report:
    """Holds the generated file `text` to the meaning of `program`, at `sizes` or at some that it admits.

    Raises ArchError where the graph itself cannot be run: sizes that it does not admit, answers that do not fit.
    """
    contract = solve(program.symbols, program.obligations, dict(program.least))
    count = sum(w.elements for w in state_dict(program).values() if w.kind == "param")
    chosen = [dict(s) for s in sizes] if sizes is not None else choose_sizes(program, contract)
    large = count > MOST_PARAMETERS or (bool(chosen) and macs(program, chosen[0]) > MOST_MACS)
    trials: tuple[Trial, ...] = ()
    left_out: tuple[str, ...] = ()
    agreements: list[Agreement] = []
    try:
        with loaded(text) as module:
            net = None if large and sizes is None else make(module, program, dtype)
            if net is None:
                from archc.blockwise import block_trials

                trials, left_out = block_trials(program, contract, module, chosen[0], dtype)
            else:
                trials = (
                    *(t for s in chosen for t in _trials(program, net, s, dtype, gradients)),
                    *_entry_trials(program, net, dtype, gradients),
                )
            if answers and dtype == "float64":
                for one in program.matches:
                    model = as_model(make(module, program, dtype), program)
                    agreements += check_answers(program, model, locate(one))
    except Broken as error:
        trials = (Trial("module", {}, failure=str(error)),)
    return Report(
        program.name,
        "blocks" if large and sizes is None else "network",
        dtype,
        TOLERANCE[dtype] if tolerance is None else tolerance,
        count,
        tuple(trials),
        tuple(agreements),
        left_out,
    )


def verify_program(program: Program, contract: Contract) -> Report:
    """The same for the file that is written for `program` now."""
    from archc.backend.module import Figures, emit

    return verify(program, emit(program, contract, Figures(0)))


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
        return getattr(module, identifier(program.name))().to(getattr(torch, dtype)).eval()


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


# ---- sizes


def choose_sizes(program: Program, contract: Contract) -> list[dict[str, int]]:
    """Admitted sizes: the least, one of unequal sizes with two in the batch, and an odd one, as far as they are cheap."""
    least = contract.examples(1)
    if not least:
        return least
    uneven = {name: 1 if name == "B" else least[0][name] + at for at, name in enumerate(contract.symbols)}
    found = least
    for floor in (_apart(contract), uneven, *contract.examples(3)[1:]):
        for one in contract.examples(1, floor):
            cheap = macs(program, one) <= WORK
            if one not in found and len(found) < 3 and cheap:
                found.append(one)
    return found


def _apart(contract: Contract) -> dict[str, int]:
    """Two in the batch, and sizes that are all different where they may be."""
    return {name: 2 if name == "B" else 19 + 6 * at for at, name in enumerate(contract.symbols)}


def macs(program: Program, sizes: Sizes) -> int:
    """Multiply-accumulates at some sizes."""
    from archc.analysis.cost import count

    return count(program, sizes).figures.macs


# ---- runs


def _trials(program: Program, net: Any, sizes: Sizes, dtype: str, gradients: bool) -> Iterator[Trial]:
    from archc.reference.interpreter import run
    from archc.reference.seeded import seeded_weights

    weights = seeded_weights(program)
    try:
        net.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        yield Trial("forward", dict(sizes), failure=f"the state dicts differ: {error}")
        return
    inputs = {i.name: i.value for i in program.inputs}

    def ours(given: dict[str, Any]) -> dict[str, Any]:
        return named_outputs(program, net(**{identifier(name): x for name, x in given.items()}))

    def theirs(given: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
        made = run(program, held, given)
        return {o.name: made[o.name] for o in program.outputs if o.when != "training" and o.kind != "loss"}

    given = random_inputs(inputs, sizes, program.root)
    yield trial("forward", sizes, net, weights, given, ours, theirs, dtype, gradients)


def _entry_trials(program: Program, net: Any, dtype: str, gradients: bool) -> Iterator[Trial]:
    """The further methods, each at the least sizes of its own and at some with two in the batch."""
    from archc.reference.interpreter import run
    from archc.reference.seeded import seeded_weights

    weights = seeded_weights(program)
    for point in program.entry_points:
        values = {v.name: v for v in point.template.inputs}
        method = getattr(net, identifier(point.name))
        contract = solve(point.symbols, point.obligations)

        def entered(given: dict[str, Any], method: Any = method) -> dict[str, Any]:
            made = method(*given.values())
            return {str(i): y for i, y in enumerate(made if isinstance(made, tuple) else (made,))}

        def meant(given: dict[str, Any], held: dict[str, Any], name: str = point.name) -> dict[str, Any]:
            return run(program, held, given, entry=name)

        for sizes in (*contract.examples(1), *contract.examples(1, _apart(contract))):
            given = random_inputs(values, sizes, point.template)
            yield trial(point.name, sizes, net, weights, given, entered, meant, dtype, gradients)


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
