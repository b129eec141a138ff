"""`verify` sees what is wrong: wrong values, wrong gradients, wrong names, and modules that do not run."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from written import from_text, shipped

from archc import blockwise
from archc import verify as verification
from archc.backend.module import emitted_classes
from archc.cli.verify import judged
from archc.trials import distance, loaded
from archc.verify import Report, choose_sizes, macs, verify, verify_program

SPEC = """
block layer(x: [B, C, H, W]) {
    param scale: [C] = 0.5
    x += (x |> norm: batch_norm |> conv: conv(C, 3) |> gelu) * scale
    return x
}
model net(depth: int = 2) {
    input image: [B, C=3, H, W]
    x = image |> stem: conv(8, 3, stride=2)
    blocks: repeat depth { x = x |> _: layer }
    output logits = x |> mean(H, W) |> head: linear(5)
}
small = net()
"""


@pytest.fixture(scope="module")
def small() -> tuple:
    module = from_text(SPEC, kernels=False)  # what is broken on purpose below is found by its text
    return module.checked.program, module.text


def changed(small: tuple, before: str, after: str, **options: object) -> Report:
    program, text = small
    assert text.count(before) == 1, before
    return verify(program, text.replace(before, after), **options)  # type: ignore[arg-type]


def test_a_sound_module_holds(small: tuple) -> None:
    report = verify(*small)
    assert report.ok and report.scope == "network"
    assert report.worst_output < 1e-13 and report.worst_gradient < 1e-12
    assert report.parameters == 8 * 27 + 8 + 2 * (8 + 16 + 8 * 72 + 8) + 45
    assert len({tuple(s.items()) for s in report.sizes}) == len(report.sizes) >= 2
    for trial in report.trials:
        assert [d.name for d in trial.outputs] == ["logits"]
        assert {d.name for d in trial.gradients} >= {"image", "blocks.1.scale", "head.bias"}
        assert trial.idle == ()


WRONG = {
    "another activation": ("F.gelu(", "F.silu("),
    "another approximation": ("F.gelu(self.conv(self.norm(x)))", 'F.gelu(self.conv(self.norm(x)), approximate="tanh")'),
    "a scale of one part in a million": ("return x + ", "return x * 1.000001 + "),
    "another eps": ("nn.BatchNorm2d(8)", "nn.BatchNorm2d(8, eps=1.1e-5)"),
    "training in evaluation": ("return x + ", "self.norm.train()\n        return x + "),
    "a constant that is not double": ("return x + ", "return x.float().double() + "),
    "a block that is left out": ("for block in self.blocks:", "for block in self.blocks[1:]:"),
}


@pytest.mark.parametrize("before, after", WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_seen(small: tuple, before: str, after: str) -> None:
    report = changed(small, before, after, gradients=False)
    assert not report.ok and report.worst_output > 1e-9


@pytest.mark.parametrize(
    "after", ["x.detach() + ", "x.detach() * 2 - x + "], ids=["a gradient that is cut", "a gradient of the wrong sign"]
)
def test_a_wrong_gradient_is_seen(small: tuple, after: str) -> None:
    report = changed(small, "return x + ", f"return {after}")
    assert not report.ok
    assert report.worst_output < 1e-13 and report.worst_gradient > 1e-3


def test_parameters_without_a_gradient_are_named(small: tuple) -> None:
    report = changed(small, "* self.scale", "* self.scale.detach()")
    assert not report.ok
    assert set(report.trials[0].idle) == {"blocks.0.scale", "blocks.1.scale"}


@pytest.mark.parametrize(
    "before, after, message",
    [
        ("return x + ", "return x @ ", "RuntimeError"),
        ("self.conv = nn.Conv2d(8, 8, 3", "self.conv = nn.Conv2d(8, 8, 1", "other shapes"),
        ("self.norm = ", "self.nor = ", "the module lacks"),
        ("super().__init__()\n        self.stem", "self.stem", "AttributeError"),
        ("import torch\n", "import torch as t\n", "NameError"),
        ("return self.head", "return (self.head", "SyntaxError"),
        ("x if pre_logits else self.head(x)", "x[0]", "is off"),
    ],
)
def test_a_module_that_does_not_run_fails(small: tuple, before: str, after: str, message: str) -> None:
    program, text = small
    report = verify(program, text.replace(before, after, 1))
    assert not report.ok and report.worst_output == float("inf")
    failures = [t.failure for t in report.trials if t.failure]
    assert message == "is off" or any(message in failure for failure in failures), failures


def test_nothing_stays_behind(small: tuple) -> None:
    before = set(sys.modules)
    verify(*small, sizes=[{"B": 1, "H": 4, "W": 4}])
    assert not [name for name in set(sys.modules) - before if name.startswith("archc_generated")]


def test_sizes_may_be_given(small: tuple) -> None:
    report = verify(*small, sizes=[{"B": 2, "H": 7, "W": 9}])
    assert report.ok and report.sizes == ({"B": 2, "H": 7, "W": 9},)


def test_single_precision_has_its_own_tolerance(small: tuple) -> None:
    assert verify(*small, dtype="float32").ok
    report = verify(*small, dtype="float32", tolerance=1e-9)
    assert not report.ok and report.worst_output < 1e-4


@pytest.mark.parametrize("name", ["van_b0", "maxvit_tiny", "dasiamrpn_vot", "vig_t"])
def test_the_sizes_that_are_chosen(name: str) -> None:
    checked = shipped(name).checked
    chosen = choose_sizes(checked.program, checked.contract)
    assert chosen == list({tuple(s.items()): s for s in chosen}.values())
    for sizes in chosen:
        assert checked.contract.admits(sizes)
    assert all(macs(checked.program, s) <= verification.WORK for s in chosen[1:])


# ---- recorded answers


@pytest.fixture(scope="module")
def recorded() -> tuple:
    module = shipped("ccnet_cca_r2")
    return module.checked.program, module.text


def test_recorded_answers_are_checked(recorded: tuple) -> None:
    report = verify(*recorded, sizes=[{"B": 1, "H": 3, "W": 2}])
    assert report.ok and [a.output for a in report.answers] == ["out"]
    assert 0 < report.answers[0].worst < 1e-12


def test_an_answer_that_is_off_fails(recorded: tuple) -> None:
    program, text = recorded
    assert "range(self.recurrence)" in text
    wrong = text.replace("range(self.recurrence)", "range(self.recurrence + 1)")
    report = verify(program, wrong, sizes=[])
    assert not report.ok and report.answers[0].worst > 0.01
    [found] = [d for d in judged(report, shipped("ccnet_cca_r2")) if d.code == "E0632"]
    assert found.span is not None and found.span.text.startswith("matches")
    assert verify(program, text, sizes=[], answers=False).ok is False, "nothing was run"


# ---- networks that are too large


def test_a_large_network_is_verified_block_by_block(small: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MOST_PARAMETERS", 100)
    report = verify(*small)
    assert report.ok and report.scope == "blocks"
    assert [t.what for t in report.trials] == ["Layer"]
    assert report.left_out == ("NET",)
    assert {d.name for d in report.trials[0].gradients} >= {"x", "scale", "norm.weight", "conv.bias"}
    assert not changed(small, "F.gelu(", "F.silu(").ok


def test_blocks_that_are_too_large_are_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MOST_PARAMETERS", 100)
    monkeypatch.setattr(blockwise, "MOST_PARAMETERS", 60_000)
    module = shipped("maxvit_tiny")
    report = verify(module.checked.program, module.text, answers=False)
    assert report.ok
    run, kept = {t.what for t in report.trials}, set(report.left_out)
    classes = emitted_classes(module.checked.program, module.checked.contract)
    assert run | kept <= {made.name for made in classes.emitted} | {"Maxvit"}
    assert "Maxvit" in kept and len(run) >= 3 and not run & kept


# ---- parts


def test_distance() -> None:
    one, inf = torch.tensor([1.0, -2.0]), float("inf")
    assert distance(one, one) == 0
    assert distance(one + 0.5, one) == 0.25
    assert distance(one, torch.zeros(2)) == 2
    assert distance(one, torch.zeros(2), least=4.0) == 0.5
    assert distance(one, torch.zeros(3)) == inf
    assert distance(torch.tensor([float("nan")]), torch.ones(1)) == inf
    assert distance(torch.tensor([inf, 1.0]), torch.tensor([inf, 2.0])) == 0.5
    assert distance(torch.tensor([inf, 1.0]), torch.tensor([-inf, 1.0])) == inf
    assert distance(torch.zeros(0), torch.zeros(0)) == 0


def test_integer_inputs_stay_inside_their_table() -> None:
    module = from_text(
        "model net() {\n    input ids: int[B, N]\n    output x = ids |> words: embed(3, 4)\n}\none = net()\n"
    )
    assert verify(module.checked.program, module.text).ok


def test_the_file_that_is_written_now(small: tuple) -> None:
    program, text = small
    report = verify_program(program, shipped("van_b0").checked.contract)
    assert report.ok and report.name == "small"
    with loaded(text) as module:
        assert hasattr(module, "small")


def test_a_report_of_nothing_does_not_hold(small: tuple) -> None:
    report = verify(*small)
    assert not replace(report, trials=()).ok
