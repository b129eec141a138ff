"""The written modules against published code: the same tensors under the rules of the spec, and the same answers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from written import ROOT, compiled, imported

from archc.backend.python import identifier
from archc.driver import Module
from archc.locate import answers_file
from archc.reference.answers import (
    TOLERANCE,
    answer_weights,
    check_answers,
    read_answers,
)
from archc.trials import named_outputs

# Each spec that names recorded answers.
PUBLISHED = [
    "ccnet_cca_r2",
    "ccnet_r101",
    "ccnet_rcca_head",
    "convnext_t",
    "dasiamrpn_vot",
    "deit_s",
    "maxvit_tiny",
    "maxvit_tiny_features",
    "poolformer_s12",
    "swin_t",
    "van_b0",
    "vig_t",
]


def written(name: str) -> tuple[Module, Any]:
    module = compiled(ROOT / "specs" / f"{name}.arch", name)
    return module, getattr(imported(module.text), identifier(name))().double().eval()


def test_every_recorded_file_is_compared_here() -> None:
    texts = "".join((ROOT / "specs" / f"{name}.arch").read_text() for name in PUBLISHED)
    named = re.findall(r'matches "answers/(.*)"', texts)
    assert sorted(named) == sorted(path.name for path in (ROOT / "specs" / "answers").glob("*.json"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_module_answers_as_published(name: str) -> None:
    module, net = written(name)
    program = module.checked.program
    (matches,) = program.matches
    path = answers_file(matches)
    recorded = json.loads(path.read_text())

    # Every published tensor, and nothing else, fills every weight.
    answers = read_answers(path)
    weights = answer_weights(program, answers)
    assert answers.kept == frozenset()
    net.load_state_dict(weights, strict=True)
    count = sum(p.numel() for p in net.parameters())
    if name != "maxvit_tiny_features":  # the recorded count is that of the network with its head
        assert count == recorded["params"]
    assert count == sum(p.numel() for p in net.parameters() if p.requires_grad)

    def model(given: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
        net.load_state_dict(given, strict=True)
        with torch.no_grad():
            return named_outputs(program, net(*inputs.values()))

    agreements = check_answers(program, model, path)
    assert len(agreements) == sum(len(case["outputs"]) for case in recorded["cases"])
    for agreement in agreements:
        assert agreement.worst <= TOLERANCE == 1e-9, agreement

    # The comparison can fail: one weight that is off by a thousandth is seen.
    key = max(weights, key=lambda k: weights[k].numel())

    def off(given: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
        return model(given | {key: given[key] * 1.001}, inputs)

    if count < 10_000_000:
        assert not all(a.holds for a in check_answers(program, off, path))
