"""A deploy build, with weights folded from seeded ones, against the meaning of the network as it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archc.backend.python import identifier
from archc.contract import solve
from archc.deploy.fold import Deployed
from archc.deploy.weights import folded
from archc.ir.program import Program
from archc.records import dataclass
from archc.reference.interpreter import run
from archc.reference.seeded import seeded_weights
from archc.trials import Broken, Sizes, Trial, loaded, make, named_outputs, random_inputs, trial
from archc.verify import Report, choose_sizes
from archc.weights.keys import state_dict

# The largest difference that is none, by what is computed in, as a share of the largest value.
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
# How much larger the error in bfloat16 may be than that of the module as it was trained.
MOST_TIMES = 1.5


def verify_deployed(
    deployed: Deployed, text: str, *, sizes: Sequence[Sizes] | None = None, dtype: str = "float64"
) -> Report:
    """Holds the generated file `text` to the meaning of the trained program in evaluation, at `sizes` or at some that it
    admits: running statistics, factors and all other weights are seeded, and folded by the file itself. In float32 or
    float64."""
    program, trained = deployed.program, deployed.trained
    contract = solve(trained.symbols, trained.obligations, dict(trained.least))
    chosen = [dict(s) for s in sizes] if sizes is not None else choose_sizes(trained, contract)
    weights = seeded_weights(trained)
    outputs = [o.name for o in program.outputs if o.when != "training" and o.kind != "loss"]
    found: list[Trial] = []
    try:
        with loaded(text) as module:
            net = make(module, program, dtype)
            net.load_state_dict(module.fold_weights(weights), strict=True)

            def ours(given: dict[str, Any]) -> dict[str, Any]:
                return named_outputs(program, net(**{identifier(name): x for name, x in given.items()}))

            def theirs(given: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
                made = run(trained, held, given)
                return {name: made[name] for name in outputs}

            for one in chosen:
                given = random_inputs({i.name: i.value for i in trained.inputs}, one, trained.root)
                found.append(trial("forward", one, net, weights, given, ours, theirs, dtype, gradients=False))
            found += _methods(trained, net, weights, dtype)
    except Broken as error:
        found = [Trial("module", {}, failure=str(error))]
    count = sum(w.elements for w in state_dict(program).values() if w.kind == "param")
    return Report(program.name, "network", dtype, TOLERANCE[dtype], count, tuple(found))


def _methods(trained: Program, net: Any, weights: Mapping[str, Any], dtype: str) -> list[Trial]:
    """The further methods of the model, each at its least sizes."""
    found = []
    for point in trained.entry_points:
        method = getattr(net, identifier(point.name))

        def entered(given: dict[str, Any], method: Any = method) -> dict[str, Any]:
            made = method(*given.values())
            return {str(i): y for i, y in enumerate(made if isinstance(made, tuple) else (made,))}

        def meant(given: dict[str, Any], held: dict[str, Any], name: str = point.name) -> dict[str, Any]:
            return run(trained, held, given, entry=name)

        for sizes in solve(point.symbols, point.obligations).examples(1):
            given = random_inputs({v.name: v for v in point.template.inputs}, sizes, point.template)
            found.append(trial(point.name, sizes, net, weights, given, entered, meant, dtype, gradients=False))
    return found


@dataclass(frozen=True)
class Rounding:
    """Norms of the errors of all outputs in bfloat16, as shares of the norms of the outputs: of the module as it was
    trained, and of the deploy build."""

    name: str
    sizes: dict[str, int]
    trained: float
    deployed: float

    @property
    def times(self) -> float:
        return self.deployed / self.trained if self.trained else 1.0

    @property
    def ok(self) -> bool:
        return self.times <= MOST_TIMES


def rounding(deployed: Deployed, trained_text: str, text: str, sizes: Sizes, seeds: int = 3) -> Rounding:
    """What bfloat16 costs a deploy build, beside what it costs the module as it was trained; over some random inputs."""
    import torch

    trained = deployed.trained
    weights = seeded_weights(trained)
    drawn = [_drawn(trained, sizes, seed) for seed in range(seeds)]
    with torch.no_grad():
        wanted = [run(trained, weights, given) for given in drawn]
    errors = []
    for program, written, held in (
        (trained, trained_text, weights),
        (deployed.program, text, folded(deployed, weights)),
    ):
        with loaded(written) as module, torch.no_grad():
            net = make(module, program, "bfloat16")
            net.load_state_dict(held, strict=True)
            made = [
                named_outputs(program, net(**{identifier(n): _cast(x, torch.bfloat16) for n, x in given.items()}))
                for given in drawn
            ]
        pairs = [(_joined(a), _joined({n: b[n] for n in a})) for a, b in zip(made, wanted, strict=True)]
        errors.append(sum(float((a - b).norm() / b.norm()) for a, b in pairs) / len(pairs))
    return Rounding(deployed.program.name, dict(sizes), *errors)


def _drawn(program: Program, sizes: Sizes, seed: int) -> dict[str, Any]:
    """Inputs that bfloat16 can hold."""
    import torch

    from archc.reference.seeded import input_values

    found = random_inputs({i.name: i.value for i in program.inputs}, sizes, program.root)
    for number, (name, tensor) in enumerate(found.items()):
        if tensor.is_floating_point():
            normal = torch.from_numpy(input_values(100 * seed + number, tuple(tensor.shape)))
            found[name] = normal.bfloat16().double()
    return found


def _cast(tensor: Any, dtype: Any) -> Any:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _joined(outputs: Mapping[str, Any]) -> Any:
    import torch

    flat = [t for value in outputs.values() for t in (value if isinstance(value, (list, tuple)) else (value,))]
    return torch.cat([t.double().flatten() for t in flat])
