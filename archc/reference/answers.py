"""Recorded answers: what a published model's own code said, and how far from it a module is.

A spec names such a file with `matches "answers/x.json"`. The file lists the published tensors (key and
shape), and cases of inputs and outputs:

    {"model": ..., "source": ..., "tensors": [[key, shape], ...], "kept_as_initialised": [key, ...],
     "cases": [{"inputs": {name: {"seed": 0, "shape": [...]} or {"values": ..., "shape": [...]}},
                "outputs": {name: {"shape": [...], "std": ..., "positions": [...], "values": [...]}}}]}

Neither weights nor inputs are stored: both sides make them by the same rule from the key or the seed
(`archc.reference.seeded`). Inputs and outputs correspond in order, whatever they are called, and an axis of
size 1 in front, the batch, may be written or left out. Of every output the values at `positions` (into the
flattened tensor) are recorded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from archc.diagnostics import fail
from archc.ir.program import Input, Program
from archc.records import dataclass
from archc.reference.seeded import input_values, tensor_values
from archc.source import Span
from archc.weights.keys import state_dict
from archc.weights.plan import COUNTER, Plan, fill_weights, plan

# Agreement in float64: at every recorded position, as a share of the standard deviation of the output.
TOLERANCE = 1e-9
LARGEST_FILE = 64 * 2**20
LARGEST_TENSOR = 2**28

Shape = tuple[int, ...]
# Weights by state-dict key and inputs by name, all torch tensors in float64, to outputs by name.
Model = Callable[[dict[str, Any], dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class RecordedInput:
    """A seed, or the values, flattened."""

    name: str
    shape: Shape
    seed: int | None
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class RecordedOutput:
    name: str
    shape: Shape
    std: float
    positions: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Case:
    inputs: tuple[RecordedInput, ...]
    outputs: tuple[RecordedOutput, ...]


@dataclass(frozen=True)
class Answers:
    """A file of recorded answers. `kept` are keys that held what the published code gives them."""

    model: str
    source: str
    tensors: dict[str, Shape]
    kept: frozenset[str]
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Agreement:
    """How far an output of case number `case` is off, as a share of its standard deviation."""

    case: int
    output: str
    worst: float

    @property
    def holds(self) -> bool:
        return self.worst <= TOLERANCE


# ---- reading


def read_answers(path: Path, span: Span | None = None) -> Answers:
    """Raises ArchError E0623 for a file that is missing or not of this form."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file")
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
        return _answers(json.loads(path.read_text(encoding="utf-8")))
    except KeyError as error:
        why = f"`{error.args[0]}` is missing"
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
    raise fail("E0623", f"`{path.name}` holds no recorded answers: {why}", span)


def _answers(content: dict[str, Any]) -> Answers:
    tensors = {str(key): _shape(shape) for key, shape in content["tensors"]}
    kept = frozenset(content.get("kept_as_initialised", ()))
    cases = tuple(_case(case) for case in content["cases"])
    return Answers(str(content["model"]), str(content["source"]), tensors, kept, cases)


def _case(case: dict[str, Any]) -> Case:
    inputs = []
    for name, given in case["inputs"].items():
        if "seed" in given:
            inputs.append(RecordedInput(name, _shape(given["shape"]), int(given["seed"])))
            continue
        shape = _shape(given.get("shape") or _nested_shape(given["values"]))
        values = tuple(_flattened(given["values"]))
        if len(values) != math.prod(shape):
            raise ValueError(f"`{name}` has {len(values)} values and the shape {list(shape)}")
        inputs.append(RecordedInput(name, shape, None, values))
    outputs = []
    for name, told in case["outputs"].items():
        shape, positions = _shape(told["shape"]), tuple(int(p) for p in told["positions"])
        values = tuple(float(v) for v in told["values"])
        if len(values) != len(positions) or any(not 0 <= p < math.prod(shape) for p in positions):
            raise ValueError(f"the positions of `{name}` do not fit its values and shape")
        outputs.append(RecordedOutput(name, shape, float(told["std"]), positions, values))
    return Case(tuple(inputs), tuple(outputs))


def _shape(sizes: Sequence[int]) -> Shape:
    shape = tuple(sizes)
    if any(type(size) is not int or size < 0 for size in shape) or math.prod(shape) > LARGEST_TENSOR:
        raise ValueError(f"{list(shape)[:8]} is not the shape of a tensor")
    return shape


def _nested_shape(values: Any) -> list[int]:
    return [len(values), *_nested_shape(values[0])] if isinstance(values, list) and values else []


def _flattened(values: Any) -> Iterator[float]:
    if isinstance(values, list):
        for inner in values:
            yield from _flattened(inner)
    elif isinstance(values, (int, float)):
        yield values
    else:
        raise ValueError(f"{values!r:.60} is not a number")


# ---- checking


def place(program: Program, answers: Answers) -> Plan:
    """Where the published tensors go by the rules of the spec. Raises what `plan.plan` raises."""
    return plan(program.rules, answers.tensors, state_dict(program), program.span)


def answer_weights(program: Program, answers: Answers) -> dict[str, Any]:
    """The weights of the module, as torch tensors, when the published tensors hold what the rule gives them.

    Weights that come from tensors that were kept as initialised are left out: the module has them from its
    own text.
    """
    import torch

    placed = place(program, answers)
    mine = tuple(p for p in placed.placements if not answers.kept & set(p.keys))
    tensors = {
        key: torch.from_numpy(tensor_values(key, answers.tensors[key])) for p in mine for key in p.keys
    }
    filled = fill_weights(Plan(mine, placed.dropped, placed.missing, placed.warnings), tensors)
    return filled | {
        key: torch.zeros((), dtype=torch.int64) for key in placed.missing if key.endswith(COUNTER)
    }


def answer_inputs(program: Program, case: Case) -> dict[str, Any]:
    """The inputs of a case as torch tensors, under the program's names.

    Raises ArchError E0624 where they do not correspond.
    """
    import numpy as np
    import torch

    wanted = program.inputs
    if len(case.inputs) != len(wanted):
        wanted = tuple(item for item in wanted if item.default is None)
    if len(case.inputs) != len(wanted):
        raise fail(
            "E0624",
            f"{len(case.inputs)} inputs are recorded, and `{program.name}` has {len(program.inputs)}",
            program.span,
        )
    given = {}
    for item, recorded in zip(wanted, case.inputs, strict=True):
        if recorded.seed is not None:
            values = input_values(recorded.seed, recorded.shape)
        else:
            values = np.asarray(recorded.values).reshape(recorded.shape)
        dtype = {"float": np.float64, "int": np.int64, "bool": np.bool_}[item.value.type.dtype]
        given[item.name] = torch.from_numpy(
            values.astype(dtype).reshape(_with_batch(recorded, item, program))
        )
    return given


def _with_batch(recorded: RecordedInput, item: Input, program: Program) -> Shape:
    """The recorded shape at the rank of the program's input: a batch of 1 may be written or left out."""
    shape, rank = recorded.shape, len(item.value.type.axes)
    if len(shape) == rank:
        return shape
    if len(shape) == rank - 1:
        return (1, *shape)
    if len(shape) == rank + 1 and shape[0] == 1:
        return shape[1:]
    raise fail(
        "E0624",
        f"the input `{item.name}` is {item.value.type}, and {list(shape)} is recorded for it",
        program.span,
    )


def check_answers(program: Program, model: Model, path: Path) -> list[Agreement]:
    """Holds `model` (the interpreter, or a written module of the same names) to the answers in a file.

    Raises ArchError: what reading and the rules raise, E0624 where inputs or outputs do not correspond.
    """
    answers = read_answers(path)
    weights = answer_weights(program, answers)
    agreements = []
    for number, case in enumerate(answers.cases):
        outputs = _flat(model(dict(weights), answer_inputs(program, case)))
        if len(outputs) != len(case.outputs):
            raise fail(
                "E0624",
                f"{len(case.outputs)} outputs are recorded, and `{program.name}` gave {len(outputs)}",
                program.span,
            )
        for (name, tensor), recorded in zip(outputs, case.outputs, strict=True):
            agreements.append(Agreement(number, name, _distance(name, tensor, recorded, program)))
    return agreements


def _flat(outputs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Every tensor with a name; those of a list are numbered."""
    flat: list[tuple[str, Any]] = []
    for name, value in outputs.items():
        many = isinstance(value, (list, tuple))
        flat += [(f"{name}.{i}", tensor) for i, tensor in enumerate(value)] if many else [(name, value)]
    return flat


def _distance(name: str, tensor: Any, recorded: RecordedOutput, program: Program) -> float:
    import torch

    shape = tuple(tensor.shape)
    if shape not in (recorded.shape, (1, *recorded.shape)) and (1, *shape) != recorded.shape:
        raise fail(
            "E0624", f"`{name}` is {list(shape)}, and {list(recorded.shape)} is recorded for it", program.span
        )
    flat = tensor.detach().to(device="cpu", dtype=torch.float64).reshape(-1)
    ours = flat[torch.tensor(recorded.positions, dtype=torch.int64)]
    gap = (ours - torch.tensor(recorded.values, dtype=torch.float64)).abs()
    if not gap.numel():
        return 0.0
    # A constant output has no spread to measure by.
    worst = float(gap.max()) / (recorded.std or 1.0)
    return worst if math.isfinite(worst) else math.inf
