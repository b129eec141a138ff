"""Deploy builds: what is folded, what must not be, and that the result answers as the network did."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from written import MACHINERY, from_text, shipped, variation

from archc import driver
from archc.backend.module import Figures, emit
from archc.backend.reread import compare, reread
from archc.cli.verify import rounded
from archc.deploy.flat import flatten
from archc.deploy.roles import Affine
from archc.deploy.verify import Rounding, rounding, verify_deployed
from archc.deploy.weights import folded
from archc.driver import Checked, Module
from archc.ir.program import Program
from archc.reference.seeded import seeded_weights
from archc.trials import loaded
from archc.weights.keys import state_dict

# A body of `model net` on `image: [B, C=4, H, W]`; what is left of batch norms, and of factors and shifts with weights.
BODIES = {
    "behind a convolution": ("x = image |> conv(6, 3) |> batch_norm |> relu", {}),
    "behind one with groups, without a bias": ("x = image |> conv(6, 3, groups=2, bias=false) |> batch_norm |> relu", {}),
    "before a convolution of one pixel": ("x = image |> relu |> batch_norm |> conv(6, 1, groups=2) |> relu", {}),
    "before one without padding": ("x = image |> relu |> batch_norm |> conv(6, 3, pad=0) |> relu", {}),
    # Zeros from beyond the border are no shifted zeros.
    "before a padded convolution": ("x = image |> relu |> batch_norm |> conv(6, 3) |> relu", {"batch_norm": 1}),
    "before TensorFlow's padding": ('x = image |> relu |> batch_norm |> conv(6, 3, pad="tf") |> relu', {"batch_norm": 1}),
    "a factor before a padded convolution": ("param g: [C=4] = 1\nx = (g * relu(image)) |> conv(6, 3) |> relu", {}),
    "around a transposed convolution": (
        "param g: [C=4] = 1\nx = (g * relu(image)) |> conv_transpose(6, 2, stride=2, groups=2) |> batch_norm |> relu", {},
    ),
    "before a transposed convolution": (
        "x = image |> relu |> batch_norm |> conv_transpose(6, 3) |> relu", {"batch_norm": 1},
    ),
    "behind a pool that looks for the largest": ("x = image |> conv(6, 3) |> max_pool(2) |> batch_norm", {"batch_norm": 1}),
    "through a pool that averages": ("x = image |> conv(6, 3) |> avg_pool(3, stride=1, pad=1) |> batch_norm |> relu", {}),
    "through one that counts zeros": (
        "x = image |> conv(6, 3) |> avg_pool(3, stride=1, pad=1, count_pad=true) |> batch_norm |> relu", {"batch_norm": 1},
    ),
    "through a mean, with the flow": ("x = relu(image) |> batch_norm |> mean(H, W) |> linear(3)", {}),
    "into the weights of a norm": ("param g: [C=4] = 1\nx = relu(g * (image |> group_norm(2)))", {}),
    "no shift into a norm without a bias": ("x = relu(image) |> rms_norm |> batch_norm |> relu", {"batch_norm": 1}),
    "between activations": ("x = image |> relu |> batch_norm |> relu", {"batch_norm": 1}),
    "two in a row between activations": (
        "param g: [C=4] = 1\nparam h: [C=4] = 0\nx = relu(g * relu(image) + h)", {"multiply": 1, "add": 1},
    ),
    "over positions": ("x = image |> rearrange(\"H W -> N=(H W)\") |> mean(N) |> linear(5) |> batch_norm |> relu", {}),
    "into both sides of a difference": (
        "n = image |> norm: group_norm(2)\nparam g: [C=4] = 1\nx = relu(image + g * ((n |> avg_pool(3, stride=1, pad=1)) - n))",
        {},
    ),
    "a shortcut that a norm feeds": (
        "param g: [C=4] = 1\nn = relu(image) |> norm: batch_norm\ny = n + (n |> conv1: conv(8, 1) |> relu |> conv2: conv(4, 3))\n"
        "x = image + g * y", {"multiply": 1},
    ),
    "a shortcut beside it, which takes the factor": (
        "param g: [C=4] = 1\ny = relu(image)\nn = y |> norm: batch_norm\n"
        "x = y + g * (n + (n |> conv1: conv(8, 1) |> relu |> conv2: conv(4, 3)))", {"multiply": 1},
    ),
    "a shortcut from which is taken what it feeds": (
        "param g: [C=4] = 1\ny = relu(image)\nn = y |> norm: batch_norm\n"
        "x = y + g * (n - (n |> conv1: conv(8, 1) |> relu |> conv2: conv(4, 3)))", {"multiply": 1},
    ),
    "a parameter that is computed": ("param g: [C=6] = -1\nx = relu((image |> conv(6, 3)) * (abs(g) + 0.5))", {}),
    "the same weights, used alike": (
        "module f = part\nx = f(image) + f(relu(image))", {},
    ),
    "the same weights, used otherwise": (
        "module c = conv(4, 1)\nx = relu(c(image) |> a: batch_norm) + relu(c(image) |> b: batch_norm)", {"batch_norm": 2},
    ),
    "the same weights in every turn": ("x = image\nturns: loop 3 { x = x |> part }", {}),
    "one arm of a branch": (
        "x = image |> conv(6, 3)\nif min(H, W) < 4 { x = relu(x) } else { x = -x }\nx = x |> norm: batch_norm",
        {"batch_norm": 1},
    ),
    "one parameter for both arms of a branch": (
        "n = image |> norm: std_part\nif min(H, W) < 4 { x = relu(n) } else { x = tanh(n) }", {"multiply": 2, "add": 2},
    ),
    "a factor without weights, on the way": ("x = relu(image + 0.5 * (image + (image |> conv(4, 1))))", {}),
    "sizes of what is gone": (
        "y = image |> conv(6, 3, pad=0) |> batch_norm\nx = relu(y) |> avg_pool(2) |> resize(H=y.H, W=y.W)", {},
    ),
    # The turns of a loop without weights have no place for any.
    "before the turns of a loop": (
        "n = image |> norm: std_part\ny = n\nfor t in [n] { y = y + t }\nx = 2 * y", {"batch_norm": 1, "multiply": 1, "add": 1},
    ),
    "dropout between": ("x = image |> conv(6, 3) |> dropout(0.3) |> batch_norm |> relu", {}),
}  # fmt: skip

TEXT = """
block part(x: [B, C, H, W]) {{ return x |> conv: conv(C, 3, bias=false) |> norm: batch_norm |> relu }}
block std_part(x: [B, C, H, W]) {{
    param gain: [C] = 1
    return (x |> norm: batch_norm) * gain + gain
}}
model net() {{
    input image: [B, C=4, H, W]
    {body}
    output out = x
}}
small = net()
"""


def deployed(text: str) -> Module:
    """The deploy build of a spec with one variant."""
    return built(from_text(text).checked.program)


def built(program: Program) -> Module:
    """The deploy build of a program."""
    checked, made = driver.for_inference(Checked(program, driver.contract_of(program), None))
    return Module(checked, emit(checked.program, checked.contract, Figures(0), (), made), program.name, (), made)


def small(case: str) -> Module:
    return deployed(TEXT.format(body=BODIES[case][0].replace("\n", "\n    ")))


def left(module: Module) -> dict[str, int]:
    """The operations of the deploy build on single channels that have weights, by name."""
    flow = flatten(module.checked.program)
    found = Counter(
        node.statement.op.name
        for node in flow.nodes
        if node.statement is not None and isinstance(node.role, Affine) and (node.key or any(node.terms))
    )
    return dict(found)


@pytest.mark.parametrize("case", BODIES)
def test_what_is_folded_answers_as_before(case: str) -> None:
    module = small(case)
    assert module.deployed is not None
    assert left(module) == BODIES[case][1]
    assert compare(module.checked.program, reread(module.text, "small_deploy")) == []
    report = verify_deployed(module.deployed, module.text)
    assert report.ok and report.worst_output < 1e-12, report
    assert verify_deployed(module.deployed, module.text, dtype="float32").worst_output < 1e-5
    # What the file folds by itself is what archc folds.
    weights = seeded_weights(module.deployed.trained)
    with loaded(module.text) as file:
        theirs = file.fold_weights(weights)
    ours = folded(module.deployed, weights)
    assert list(theirs) == list(ours) == list(state_dict(module.checked.program))
    assert all(torch.allclose(theirs[key], ours[key], rtol=1e-12, atol=1e-14) for key in ours)


# Small relatives of the shipped networks, and what is left: VAN keeps a factor for each of its blocks.
SHIPPED = {
    "van_b0": (MACHINERY["van_b0"], {"multiply": 4}),
    "maxvit_tiny": ({**MACHINERY["maxvit_tiny"], "dims": (32,), "depths": (2,)}, {}),
    "convnext_t": ({"dims": (8, 16), "depths": (1, 2)}, {}),
    "poolformer_s12": ({"dims": (8, 16), "depths": (1, 2)}, {}),
    "ccnet_rcca_head": (MACHINERY["ccnet_rcca_head"], {}),
    "vig_t": (MACHINERY["vig_t"], {}),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_networks(name: str) -> None:
    arguments, expected = SHIPPED[name]
    module = built(variation(name, **arguments))
    assert module.deployed is not None
    assert left(module) == expected
    assert compare(module.checked.program, reread(module.text, f"{name}_deploy")) == []
    contract = module.checked.contract
    report = verify_deployed(module.deployed, module.text, sizes=contract.examples(1))
    assert report.ok, report


def test_methods_over_the_same_weights() -> None:
    """The backbone of a tracker runs in two methods: its norms are folded in both, and loops stay loops."""
    module = built(variation("dasiamrpn_vot", features=8))
    assert left(module) == {} and "BatchNorm" not in module.text
    assert compare(module.checked.program, reread(module.text, "dasiamrpn_vot_deploy")) == []
    assert "for i in range(23)" in built(shipped("ccnet_r101").checked.program).text


def test_every_recipe_matters() -> None:
    """Without any one of the folded tensors, the build answers otherwise."""
    module = small("a shortcut beside it, which takes the factor")
    assert module.deployed is not None and len(module.deployed.recipes) == 5
    weights = seeded_weights(module.deployed.trained)
    shapes = state_dict(module.checked.program)
    for key in module.deployed.recipes:
        recipes = {k: r for k, r in module.deployed.recipes.items() if k != key}
        held = weights if key in weights else {**weights, key: torch.ones(shapes[key].shape, dtype=torch.float64)}
        wrong = replace(module.deployed, recipes=recipes)
        made = folded(wrong, held)
        assert not torch.allclose(made[key], folded(module.deployed, weights)[key])


def test_bfloat16_is_held_to_the_module_as_it_was_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    module = small("a shortcut beside it, which takes the factor")
    trained = from_text(TEXT.format(body=BODIES["a shortcut beside it, which takes the factor"][0].replace("\n", "\n    ")))
    assert module.deployed is not None
    found = rounding(module.deployed, trained.text, module.text, {"B": 2, "H": 9, "W": 7})
    assert 1e-4 < found.trained < 0.1 and found.ok
    monkeypatch.setattr("archc.deploy.verify.rounding", lambda *given: Rounding("small_deploy", {}, 1e-3, 1.6e-3))
    assert [d.code for d in rounded(module, trained, ())] == ["E0633"]
