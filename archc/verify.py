"""The generated module against the meaning of its graph: outputs and gradients, in float64.

The module runs as it stands in the file, the graph in the reference interpreter; both hold the same seeded weights
and get the same inputs. torch is imported when the check runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from archc.backend.python import identifier
from archc.contract import Contract, solve
from archc.diagnostics import ArchError
from archc.ir.program import Program
from archc.locate import answers_file
from archc.records import dataclass
from archc.reference.answers import Agreement, check_answers
from archc.trials import Broken, Sizes, Trial, as_model, loaded, make, named_outputs, random_inputs, trial
from archc.weights.keys import state_dict

# The largest difference that is none, by what is computed in.
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}
# Beyond either, every distinct block is held to its meaning instead of the network as a whole.
MOST_PARAMETERS = 200_000_000
MOST_MACS = 40_000_000_000
# How much work the largest size of a whole network may be.
WORK = 4_000_000_000


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
                    agreements += check_answers(program, model, answers_file(one))
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


# ---- sizes


def choose_sizes(program: Program, contract: Contract) -> list[dict[str, int]]:
    """Admitted sizes: the least, one of unequal sizes with two in the batch, and an odd one, as far as they are cheap."""
    least = contract.examples(1)
    if not least:
        return _usual(program, contract)
    uneven = {name: 1 if name == "B" else least[0][name] + at for at, name in enumerate(contract.symbols)}
    found = least
    for floor in (_apart(contract), uneven, *contract.examples(3)[1:]):
        for one in contract.examples(1, floor):
            cheap = macs(program, one) <= WORK
            if one not in found and len(found) < 3 and cheap:
                found.append(one)
    return found


def _usual(program: Program, contract: Contract) -> list[dict[str, int]]:
    """Where the search finds no size: what the spec claims figures at, or the usual one, if it is admitted."""
    from archc.sizing import choose

    try:
        return [choose(program, contract, {})]
    except ArchError:
        return []


def _apart(contract: Contract) -> dict[str, int]:
    """Two in the batch, and sizes that are all different where they may be."""
    return {name: 2 if name == "B" else 19 + 6 * at for at, name in enumerate(contract.symbols)}


def macs(program: Program, sizes: Sizes) -> int:
    """Multiply-accumulates at some sizes."""
    from archc.analysis.cost import count

    return count(program, sizes).figures.macs


# ---- runs


def _difference(net: Any, weights: dict[str, Any]) -> str:
    """How a module's weights differ from the graph's, in a line."""
    found = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    wanted = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    lists = {
        "the module lacks": [key for key in wanted if key not in found],
        "the graph lacks": [key for key in found if key not in wanted],
        "other shapes": [f"{k} {list(found[k])}, not {list(s)}" for k, s in wanted.items() if found.get(k, s) != s],
    }
    return "; ".join(f"{what} {_some(keys)}" for what, keys in lists.items() if keys)


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(texts[:3]) + more


def _trials(program: Program, net: Any, sizes: Sizes, dtype: str, gradients: bool) -> Iterator[Trial]:
    from archc.reference.interpreter import run
    from archc.reference.seeded import seeded_weights

    weights = seeded_weights(program)
    try:
        net.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        yield Trial("forward", dict(sizes), failure=f"the state dicts differ: {_difference(net, weights) or error}")
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
