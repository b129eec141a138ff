"""What a random spec is held to."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from archc.analysis.cost import count
from archc.backend.module import Figures, emit
from archc.backend.python import identifier
from archc.backend.reread import compare, reread
from archc.contract import Contract, solve
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.elaborate.overrides import contract_parameters
from archc.ir.program import Program
from archc.reference.interpreter import run
from archc.reference.seeded import seeded_weights
from archc.source import Source
from archc.syntax.format import format_source
from archc.trials import distance, loaded, make, named_outputs, random_inputs, trial
from archc.verify import verify
from archc.weights.keys import state_dict
from whole_specs.models import Spec, Variant
from whole_specs.sizes import GRID, POINTS

# How far module and meaning may be apart, as a share of the largest value.
CLOSE = 1e-8
WORK = 20_000_000


class Wrong(AssertionError):
    """A spec for which archc says or does something else than the author of the spec."""


def hold(right: object, what: str) -> None:
    if not right:
        raise Wrong(what)


@dataclass(repr=False)
class Built:
    program: Program
    contract: Contract
    text: str
    variant: Variant
    ran: list[dict[str, int]] = field(default_factory=list)


def build(text: str, name: str) -> tuple[Program, Contract, str]:
    library = load(Source("random.arch", text))
    program = elaborate(library, variant(library, name))
    contract = solve(program.symbols, program.obligations, dict(program.least))
    depends = contract_parameters(library, variant(library, name), program, contract)
    return program, contract, emit(program, contract, Figures(0), depends)


def check(spec: Spec, *, gradients: bool = True, runs: int = 2) -> list[Built]:
    """Holds every variant to what its author says. Raises Wrong, or whatever archc raises."""
    formatted = check_format(spec.text)
    made = []
    for one in spec.variants:
        program, contract, text = build(spec.text, one.name)
        built = Built(program, contract, text, one)
        hold(not contract.refused, f"no size is admitted: {contract.refused}")
        check_again(spec.text, formatted, built)
        check_contract(built)
        check_weights(built)
        built.ran = chosen(built, runs)
        check_macs(built)
        check_runs(built)
        check_refusals(built)
        check_values(built, gradients)
        check_left_out(spec.text, built)
        made.append(built)
    if len(made) > 1:
        check_overrides(*made[:2])
    return made


def forward(net: Any, program: Program, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The outputs of a module by name. Raises Wrong where it fails."""
    failure = ""
    try:
        return named_outputs(program, net(**{identifier(name): x for name, x in given.items()}))
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    # Outside of the handler: where the file lies is another place each time, and hypothesis looks at it.
    raise Wrong(failure)


def check_format(text: str) -> str:
    """The canonical form is its own canonical form."""
    once = format_source(Source("random.arch", text))
    twice = format_source(Source("random.arch", once))
    hold(once == twice, f"formatting is not stable:\n{once}\n---\n{twice}")
    return once


def check_again(text: str, formatted: str, built: Built) -> None:
    """Compiling again gives the same bytes, and the canonical form of the spec the same module."""
    again = build(text, built.variant.name)[2]
    hold(again == built.text, "compiling twice gives two files")
    other = build(formatted, built.variant.name)[2]
    hold(_without_lines(other) == _without_lines(built.text), "the formatted spec gives another module")


def _without_lines(text: str) -> str:
    """Code without comments and docstrings, which name lines of the spec."""
    module = ast.parse(text)
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(module)


def check_contract(built: Built) -> None:
    """Admitted is what the author's needs admit, at every point of the grid."""
    names = built.contract.symbols
    hold(set(names) <= set(GRID), f"symbols {names}")
    needs = built.variant.count
    conditions = [r.condition({n: n for n in names}) for r in built.contract.requirements]
    said_by = compile(" and ".join(f"({c})" for c in conditions) or "True", "requirements", "eval")
    for point in range(POINTS):
        env = {n: int(GRID[n][point]) for n in names}
        admitted = built.contract.admits(env)
        hold(
            admitted == bool(needs.alive[point]), f"at {env} the contract says {admitted}, and the needs {needs.needs}"
        )
        said = bool(eval(said_by, {}, env))
        hold(said == admitted, f"at {env} the requirements say {said}: {built.contract.describe()}")


def check_weights(built: Built) -> None:
    """The same names and shapes for the author, the graph and the file."""
    mine = built.variant.count.weights
    graph = {key: w.shape for key, w in state_dict(built.program).items()}
    hold(graph == mine, f"weights: graph {_unlike(graph, mine)}, author {_unlike(mine, graph)}")
    found = compare(built.program, reread(built.text, built.program.name))
    hold(found == [], f"re-reading: {found}")
    with loaded(built.text) as module:
        net = make(module, built.program)
        held = {key: tuple(t.shape) for key, t in net.state_dict().items()}
    hold(list(held.items()) == list(graph.items()), "the module's state dict is not the graph's")


def _unlike(a: dict, b: dict) -> dict:
    return {k: v for k, v in a.items() if b.get(k) != v}


def chosen(built: Built, runs: int) -> list[dict[str, int]]:
    """Admitted points to run at: the cheapest, and others that are cheap."""
    cost = built.variant.count.macs + sum(
        _elements(built.variant, p) for p in (built.variant.inputs, built.variant.outputs)
    )
    points = [p for p in np.argsort(cost, kind="stable") if built.variant.count.alive[p] and cost[p] < WORK]
    names = built.contract.symbols
    envs: list[dict[str, int]] = []
    for place in [0, *range(len(points) // 3, len(points), max(1, len(points) // 5))]:
        if place < len(points):
            env = {n: int(GRID[n][points[place]]) for n in names}
            if env not in envs:
                envs.append(env)
    return envs[:runs]


def _elements(one: Variant, types: dict) -> np.ndarray:
    return sum((t.elements.at for t in types.values()), np.zeros(POINTS, dtype=np.int64))


def _point(env: dict[str, int]) -> int:
    same = np.ones(POINTS, dtype=bool)
    for name, size in env.items():
        same &= GRID[name] == size
    return int(np.argmax(same))


def check_macs(built: Built) -> None:
    for env in built.ran:
        found = count(built.program, env).figures.macs
        mine = int(built.variant.count.macs[_point(env)])
        hold(found == mine, f"at {env}: {found} MACs, and {mine} by the author")


def check_runs(built: Built) -> None:
    """A forward pass gives the shapes that author and graph predict."""
    with loaded(built.text) as module, torch.no_grad():
        net = make(module, built.program)
        for env in built.ran:
            given = random_inputs({i.name: i.value for i in built.program.inputs}, env, built.program.root)
            made = forward(net, built.program, given)
            point = _point(env)
            hold(list(made) == list(built.variant.outputs), f"outputs {list(made)}")
            for output in (o for o in built.program.outputs if o.name in made):
                graph = tuple(a.size.evaluate(env) for a in output.value.type.axes)
                mine = built.variant.outputs[output.name]
                shape = tuple(int(s.at[point]) for _, s in mine.axes)
                found = tuple(made[output.name].shape)
                hold(output.value.type.names == mine.names, f"{output.name} is {output.value.type}, not {mine.names}")
                hold(found == graph == shape, f"{output.name} at {env}: {found}, graph {graph}, author {shape}")
                dtype = made[output.name].dtype
                kind = "float" if dtype.is_floating_point else str(dtype).removeprefix("torch.").removesuffix("64")
                hold(kind == mine.dtype, f"{output.name} is {dtype}")
                if mine.dtype == "float":
                    hold(torch.isfinite(made[output.name]).all(), f"{output.name} at {env} is not finite")


def check_refusals(built: Built) -> None:
    """At sizes that are not admitted, the module says so in one line that names the network."""
    refused = np.flatnonzero(~built.variant.count.alive)
    cheap = [p for p in refused if all(t.elements.at[p] < 50_000 for t in built.variant.inputs.values())]
    with loaded(built.text) as module, torch.no_grad():
        net = make(module, built.program)
        for point in cheap[:2] + cheap[-1:]:
            env = {n: int(GRID[n][point]) for n in built.contract.symbols}
            given = random_inputs({i.name: i.value for i in built.program.inputs}, env, built.program.root)
            try:
                net(**{identifier(n): x for n, x in given.items()})
            except ValueError as error:
                hold(f"{built.program.name} needs" in str(error), f"at {env} it says: {error}")
                continue
            raise Wrong(f"at {env} the module runs, and {built.variant.count.needs} do not hold")


def check_values(built: Built, gradients: bool) -> None:
    """Module and meaning give the same values and gradients."""
    hold(built.ran, "nothing was cheap enough to run")
    report = verify(built.program, built.text, sizes=built.ran, gradients=gradients)
    for one in report.trials:
        hold(not one.failure, f"{one.what} at {one.sizes}: {one.failure}")
        far = {d.name: d.worst for d in (*one.outputs, *one.gradients) if d.worst > CLOSE}
        if far:
            noise = rounding(built, one.sizes)
            far = {name: worst for name, worst in far.items() if worst > noise.get(name, 0.0)}
        hold(not far, f"{one.what} at {one.sizes}: {far}")


def rounding(built: Built, env: dict[str, int]) -> dict[str, float]:
    """How far outputs and gradients of the module move when its inputs move in their last digits."""
    inputs = random_inputs({i.name: i.value for i in built.program.inputs}, env, built.program.root)
    weights = seeded_weights(built.program)
    with loaded(built.text) as module:
        net = make(module, built.program)
        net.load_state_dict(weights)

        def ours(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return forward(net, built.program, given)

        found: dict[str, float] = {}
        for turn in range(1, 5):

            def moved(
                given: dict[str, torch.Tensor], held: object, step: float = turn * 1e-12
            ) -> dict[str, torch.Tensor]:
                return ours({n: x * (1 + step) if x.is_floating_point() else x for n, x in given.items()})

            one = trial("forward", env, net, weights, inputs, ours, moved)
            for d in (*one.outputs, *one.gradients):
                found[d.name] = max(found.get(d.name, 0.0), d.worst)
    return found


def check_left_out(text: str, built: Built) -> None:
    """Without its optional inputs the module means the network that is built without them."""
    if not built.variant.optional:
        return
    library = load(Source("random.arch", text))
    absent = dict.fromkeys(built.variant.optional, False)
    program = elaborate(library, variant(library, built.variant.name), absent)
    given = random_inputs({i.name: i.value for i in program.inputs if i.name not in absent}, built.ran[0], program.root)
    weights = seeded_weights(built.program)
    with loaded(built.text) as module, torch.no_grad():
        net = make(module, built.program)
        net.load_state_dict(weights)
        found = forward(net, program, given)
        wanted = run(program, weights, given)
        far = {n: distance(y, wanted[n]) for n, y in found.items() if distance(y, wanted[n]) > CLOSE}
        hold(not far, f"without {sorted(absent)}: {far}")


def check_overrides(one: Built, other: Built) -> None:
    """The first variant's factory with the second's arguments makes the second."""
    weights = seeded_weights(other.program)
    with loaded(one.text) as module, torch.no_grad():
        net = getattr(module, one.program.name)(**other.variant.given).double().eval()
        held = {key: tuple(t.shape) for key, t in net.state_dict().items()}
        hold(list(held.items()) == [(k, tuple(w.shape)) for k, w in weights.items()], "another state dict by overrides")
        net.load_state_dict(weights)
        for env in other.ran:
            given = random_inputs({i.name: i.value for i in other.program.inputs}, env, other.program.root)
            found = forward(net, other.program, given)
            wanted = run(other.program, weights, given)
            far = {n: distance(y, wanted[n]) for n, y in found.items() if distance(y, wanted[n]) > CLOSE}
            hold(not far, f"with {other.variant.given} at {env}: {far}")
