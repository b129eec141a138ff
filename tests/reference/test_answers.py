"""Recorded answers: read with care, made by rule, held to 1e-9."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import archc
from archc.diagnostics import ArchError
from archc.elaborate.loader import load, read
from archc.elaborate.model import elaborate, variant
from archc.ir.program import Program
from archc.locate import answers_file
from archc.reference.answers import TOLERANCE, check_answers, place, read_answers
from archc.reference.interpreter import run
from archc.reference.seeded import input_values, seeded_weights, tensor_values
from archc.resources import folder
from archc.source import Source, Span
from archc.syntax.tree import Matches
from archc.weights.keys import state_dict

TEXT = """
model m() {
    input x: [B, C=3, N]
    input ids: int[B, N]
    param gamma: [] = 0
    y = (x * gamma) |> fc: linear(2)
    output logits = mean(y, N)
    output pair = [y, y * ids]
}
v = m() {
    weights { "head.*" -> "fc.*" }
}
"""
IDS = [[1, 0, 2, 5]]


def program() -> Program:
    library = load(Source("t.arch", TEXT))
    return elaborate(library, variant(library, "v"))


def expected() -> list[np.ndarray]:
    """The outputs of TEXT, computed with NumPy alone from the published names."""
    x = input_values(3, (1, 3, 4))
    weight, bias = tensor_values("head.weight", (2, 3)), tensor_values("head.bias", (2,))
    y = np.einsum("oc,bcn->bon", weight, x * tensor_values("gamma", (1,))) + bias[None, :, None]
    return [y.mean(2), y, y * np.array(IDS)[:, None]]


def recorded() -> dict[str, Any]:
    outputs = {
        f"out{i}": {
            "shape": list(y.shape), "mean": float(y.mean()), "std": float(y.std()),
            "positions": list(range(y.size)), "values": y.reshape(-1).tolist(),
        }
        for i, y in enumerate(expected())
    }  # fmt: skip
    return {
        "model": "m", "source": "by hand", "kept_as_initialised": [],
        "tensors": [["head.weight", [2, 3]], ["head.bias", [2]], ["gamma", [1]]],
        "cases": [{"inputs": {"a": {"seed": 3, "shape": [1, 3, 4]}, "b": {"values": IDS, "shape": [1, 4]}},
                   "outputs": outputs}],
    }  # fmt: skip


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "x.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def distances(tmp_path: Path, content: Any) -> list[float]:
    built = program()
    return [a.worst for a in check_answers(built, lambda w, i: run(built, w, i), written(tmp_path, content))]


def refusal(tmp_path: Path, content: Any) -> str:
    with pytest.raises(ArchError) as caught:
        distances(tmp_path, content)
    return caught.value.diagnostics[0].code


def test_agreement(tmp_path: Path) -> None:
    built = program()
    found = check_answers(built, lambda w, i: run(built, w, i), written(tmp_path, recorded()))
    assert [(a.case, a.output) for a in found] == [(0, "logits"), (0, "pair.0"), (0, "pair.1")]
    assert all(a.holds and a.worst < 1e-14 for a in found)


def test_a_difference_is_measured_by_the_spread_of_the_output(tmp_path: Path) -> None:
    content = recorded()
    out = content["cases"][0]["outputs"]["out1"]
    out["values"][5] += 1e-6 * out["std"]
    found = distances(tmp_path, content)
    assert math.isclose(found[1], 1e-6, rel_tol=1e-6)
    assert found[0] < TOLERANCE < found[1]
    out["values"][5] = math.nan
    assert distances(tmp_path, content)[1] == math.inf


def test_every_tensor_matters(tmp_path: Path) -> None:
    """Without its scale the model is far off: the comparison can fail."""
    built = program()

    def blind(weights: dict[str, torch.Tensor], inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return run(built, weights | {"gamma": torch.tensor(0.5)}, inputs)

    assert not any(a.holds for a in check_answers(built, blind, written(tmp_path, recorded())))


def test_a_batch_of_one_may_be_written_or_left_out(tmp_path: Path) -> None:
    content = recorded()
    case = content["cases"][0]
    case["inputs"]["a"]["shape"] = [3, 4]
    case["inputs"]["b"] = {"values": IDS[0]}
    case["outputs"]["out0"]["shape"] = [2]
    assert max(distances(tmp_path, content)) < TOLERANCE
    case["inputs"]["a"]["shape"] = [1, 1, 3, 4]
    assert max(distances(tmp_path, content)) < TOLERANCE


def test_tensors_that_kept_their_own_values_are_left_to_the_module(tmp_path: Path) -> None:
    content = recorded() | {"kept_as_initialised": ["gamma"]}
    built, seen = program(), []

    def model(weights: dict[str, torch.Tensor], inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append(sorted(weights))
        return run(built, weights | {"gamma": torch.from_numpy(tensor_values("gamma", ()))}, inputs)

    assert all(a.holds for a in check_answers(built, model, written(tmp_path, content)))
    assert seen == [["fc.bias", "fc.weight"]]


def change(path: str, value: Any) -> Any:
    """The recorded answers with one place changed; None removes it."""
    content = copy.deepcopy(recorded())
    *steps, last = path.split("/")
    at: Any = content
    for step in steps:
        at = at[int(step) if isinstance(at, list) else step]
    if value is None:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return content


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2",
        "[]",
        "3",
        "[" * 100_000,
        change("tensors", None),
        change("cases", None),
        change("model", None),
        change("tensors/0", ["x"]),
        change("tensors/0", ["x", [2, -1]]),
        change("tensors/0", ["x", [2**40, 2**40]]),
        change("tensors/0", ["x", "ab"]),
        change("cases/0/inputs/a", {"shape": [1]}),
        change("cases/0/inputs/a/seed", "x"),
        change("cases/0/inputs/b/values", [[1, 2]]),
        change("cases/0/inputs/b/values", [["a", "b", "c", "d"]]),
        change("cases/0/outputs/out0/positions", [0]),
        change("cases/0/outputs/out0/positions", [0, 2]),
        change("cases/0/outputs/out0/std", None),
        change("cases/0/outputs/out0", 5),
    ],
)
def test_files_that_are_no_answers_are_refused(tmp_path: Path, content: Any) -> None:
    assert refusal(tmp_path, content) == "E0623"


@pytest.mark.parametrize(
    "content",
    [
        change("cases/0/inputs/b", None),
        change("cases/0/inputs/c", {"seed": 1, "shape": [2]}),
        change("cases/0/inputs/a/shape", [2, 1, 3, 4]),
        change("cases/0/outputs/out2", None),
        change("cases/0/outputs/out1/shape", [2, 4, 1]),
    ],
)
def test_answers_that_do_not_correspond_are_refused(tmp_path: Path, content: Any) -> None:
    assert refusal(tmp_path, content) == "E0624"


def test_tensors_without_a_place_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, change("tensors/0", ["other", [2, 3]])) == "E0601"
    assert refusal(tmp_path, change("tensors/0", ["head.weight", [3, 2]])) == "E0603"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchError) as caught:
        read_answers(tmp_path / "none.json")
    assert caught.value.diagnostics[0].code == "E0623"


# ---- where the file lies


def matches(path: str, home: Path | None) -> Matches:
    source = Source("t.arch", f'matches "{path}"', home)
    return Matches(path, span=Span(source, 0, 7))


def test_answers_lie_below_the_folder_of_the_spec(tmp_path: Path) -> None:
    home = tmp_path / "specs" / "x.arch"
    home.parent.mkdir()
    assert answers_file(matches("answers/x.json", home)) == (home.parent / "answers" / "x.json").resolve()
    (home.parent / "link").symlink_to(tmp_path)
    for path in ("../x.json", "/etc/passwd", "a/../../x.json", "link/x.json"):
        with pytest.raises(ArchError) as caught:
            answers_file(matches(path, home))
        assert caught.value.diagnostics[0].code == "E0623"
    with pytest.raises(ArchError):
        answers_file(matches("x.json", None))


# ---- the rule

GOLDEN = {
    "matrix": 0.7452304202671931,
    "scale": 0.9874414685017602,
    "vector": -0.1508369413377084,
    "variance": 0.8059399001065242,
    "scalar": -0.15318573039754005,
    "input": -1.303157231604361,
}


def test_the_rule_gives_the_values_that_it_gave() -> None:
    """Golden values: were one of them to change, every recorded answer would be void."""
    assert math.isclose(tensor_values("head.weight", (2, 3))[1, 2], GOLDEN["matrix"], rel_tol=1e-15)
    assert math.isclose(tensor_values("norm.weight", (4,))[3], GOLDEN["scale"], rel_tol=1e-15)
    assert math.isclose(tensor_values("norm.bias", (4,))[3], GOLDEN["vector"], rel_tol=1e-15)
    assert math.isclose(tensor_values("norm.running_var", (4,))[3], GOLDEN["variance"], rel_tol=1e-15)
    assert math.isclose(tensor_values("gamma", ()).item(), GOLDEN["scalar"], rel_tol=1e-15)
    assert math.isclose(input_values(1, (2, 2))[1, 1], GOLDEN["input"], rel_tol=1e-15)


def test_seeded_weights_are_the_rule_on_the_modules_own_keys() -> None:
    built = program()
    weights = seeded_weights(built)
    assert list(weights) == list(state_dict(built))
    assert np.array_equal(weights["fc.weight"].numpy(), tensor_values("fc.weight", (2, 3)))
    assert weights["gamma"].shape == ()


# ---- the answers that come with archc


@pytest.mark.parametrize("path", sorted((folder("specs") / "answers").glob("*.json")), ids=lambda p: p.stem)
def test_every_recorded_file_can_be_read(path: Path) -> None:
    answers = read_answers(path)
    assert answers.tensors and answers.cases
    assert all(
        case.outputs and len(output.positions) > 1 for case in answers.cases for output in case.outputs
    )


def variants() -> list[tuple[str, str]]:
    """(file, variant) of every spec that names recorded answers."""
    found = []
    for path in sorted(folder("specs").glob("*.arch")):
        if "matches " in path.read_text(encoding="utf-8"):
            found += [(path.name, name) for name in load(read(path)).main.bindings]
    return found


def spec(file: str, name: str) -> Program:
    library = load(read(folder("specs") / file))
    return elaborate(library, variant(library, name))


@pytest.mark.parametrize(("file", "name"), variants())
def test_every_published_tensor_has_its_place(file: str, name: str) -> None:
    built = spec(file, name)
    for named in built.matches:
        assert place(built, read_answers(answers_file(named), named.span)).placements


@pytest.mark.parametrize("name", ["van_b0", "ccnet_cca_r2"])
def test_the_interpreter_answers_as_published(name: str) -> None:
    built = spec(f"{name}.arch", name)
    (named,) = built.matches
    with torch.no_grad():
        found = check_answers(built, lambda w, i: run(built, w, i), answers_file(named))
    assert found and all(agreement.worst < 1e-12 for agreement in found)


def test_rules_are_proved_without_torch_and_numpy() -> None:
    code = (
        "import sys\n"
        "from archc.elaborate.loader import load, read\n"
        "from archc.elaborate.model import elaborate, variant\n"
        "from archc.locate import answers_file\nfrom archc.reference.answers import place, read_answers\n"
        "from archc.resources import folder\n"
        "library = load(read(folder('specs') / 'van_b0.arch'))\n"
        "built = elaborate(library, variant(library, 'van_b0'))\n"
        "assert len(place(built, read_answers(answers_file(built.matches[0]))).placements) > 300\n"
        "assert not {'torch', 'numpy', 'safetensors'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(archc.__file__).parents[1])
