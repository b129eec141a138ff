"""What a written module promises its user: overrides, timm's conventions, and sizes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn
from written import MACHINERY, imported, network, shapes, shipped, tensors, variation

from archc.backend.module import Figures, emit
from archc.contract import solve
from archc.weights.keys import state_dict

Overrides = dict[str, Any]

OVERRIDES: list[tuple[str, Overrides, tuple[int, int]]] = [
    ("van_b2", {"num_classes": 10}, (33, 40)),
    ("van_b0", {"in_chans": 1}, (40, 33)),
    ("van_b0", {"drop_path_rate": 0.3}, (32, 32)),
    ("van_b0", {"dims": (8, 16, 24), "depths": (1, 2, 1), "ratios": (2, 3, 4)}, (32, 48)),
    ("maxvit_tiny", {"img_size": 256}, (256, 256)),
    ("maxvit_tiny", {"img_size": (64, 96), "num_classes": 7}, (64, 96)),
    ("maxvit_tiny", {"img_size": 32, "dims": (32, 64), "depths": (1, 2), "stem_dim": 16, "hidden": 8}, (32, 32)),
    ("vig_t", {"depth": 2, "num_classes": 3}, (40, 32)),
    ("ccnet_r101", {"depths": (1, 1, 2, 1), "num_classes": 4, "recurrence": 3}, (33, 40)),
    ("dasiamrpn_vot", {"anchors": 3, "features": 16}, (110, 130)),
]


@pytest.mark.parametrize("name, arguments, size", OVERRIDES, ids=[f"{n}-{'-'.join(a)}" for n, a, _ in OVERRIDES])
def test_a_module_with_overrides_is_the_variant_with_these_arguments(
    name: str, arguments: Overrides, size: tuple[int, int]
) -> None:
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}
    program = variation(name, **plain)
    other = imported(emit(program, solve(program.symbols, program.obligations), Figures(0)))
    mine, theirs = network(name, **arguments), getattr(other, name)().eval()
    assert shapes(mine) == shapes(theirs) == {key: w.shape for key, w in state_dict(program).items()}
    torch.manual_seed(1)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.05)
    mine.load_state_dict(theirs.state_dict())
    given = [torch.randn(2, shipped_channels(mine), *size) for _ in program.inputs]
    with torch.no_grad():
        for a, b in zip(tensors(mine(*given)), tensors(theirs(*given)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def shipped_channels(net: nn.Module) -> int:
    return next(m.in_channels for m in net.modules() if isinstance(m, nn.Conv2d))


def test_the_drop_path_rate_reaches_every_block() -> None:
    rates = [m.rate for m in network("van_b0", drop_path_rate=0.3).modules() if hasattr(m, "rate")]
    assert len(rates) == 13 and rates[0] == 0 and rates[-1] == pytest.approx(0.3) and rates == sorted(rates)


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(TypeError, match="num_clases"):
        network("van_b0", num_clases=10)


# ---- timm's conventions

CLASSIFIERS = {"van_b0": (64, 96), "maxvit_tiny": (64, 96), "vig_t": (64, 96)}
SMALL: dict[str, Overrides] = {
    "van_b0": {},
    "maxvit_tiny": {"img_size": (64, 96), "depths": (1, 1, 1, 1)},
    "vig_t": {"depth": 2},
    "deit_s": {"depth": 2, "img_size": (32, 48)},
}


@pytest.fixture(params=list(CLASSIFIERS))
def classifier(request: pytest.FixtureRequest) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(3)
    return network(request.param, **SMALL[request.param]), torch.randn(2, 3, *CLASSIFIERS[request.param])


def test_features_and_head_make_the_forward(classifier: tuple[Any, torch.Tensor]) -> None:
    net, x = classifier
    with torch.no_grad():
        features = net.forward_features(x)
        assert features.shape[:2] == (2, net.num_features)
        torch.testing.assert_close(net.forward_head(features), net(x))
        pre = net.forward_head(features, pre_logits=True)
        assert pre.shape == (2, net.head_hidden_size)
        torch.testing.assert_close(net.get_classifier()(pre), net(x))
    assert net.num_classes == net(x).shape[1] == 1000


def test_the_classifier_is_reset(classifier: tuple[Any, torch.Tensor]) -> None:
    net, x = classifier
    with torch.no_grad():
        pre = net.forward_head(net.forward_features(x), pre_logits=True)
        net.reset_classifier(10)
        assert net.num_classes == 10 and net(x).shape == (2, 10)
        assert isinstance(net.get_classifier(), nn.Linear)
        net.reset_classifier(0)
        assert net.num_classes == 0 and isinstance(net.get_classifier(), nn.Identity)
        torch.testing.assert_close(net(x), pre)
        net.reset_classifier(5, global_pool="avg")
        assert net(x).shape == (2, 5)
        with pytest.raises(ValueError, match="global_pool"):
            net.reset_classifier(5, global_pool="max")
    net.to(torch.float64)
    net.reset_classifier(4)
    assert net(x.double()).dtype == torch.float64


def test_feature_info_says_what_the_stages_give(classifier: tuple[Any, torch.Tensor]) -> None:
    net, x = classifier
    info = net.feature_info
    assert info and [row["reduction"] for row in info] == sorted(row["reduction"] for row in info)
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        net.get_submodule(row["module"]).register_forward_hook(
            lambda module, args, out, name=row["module"]: seen.__setitem__(name, out)
        )
        for row in info
        if row["module"]
    ]
    with torch.no_grad():
        features = net.forward_features(x)
    for hook in hooks:
        hook.remove()
    for row in info:
        tensor = seen[row["module"]] if row["module"] else features
        assert tensor.shape[1] == row["num_chs"]
        assert tuple(tensor.shape[2:]) == tuple(-(-n // row["reduction"]) for n in x.shape[2:])
    assert info[-1]["num_chs"] == net.num_features


@pytest.mark.parametrize("name", ["van_b0", "maxvit_tiny"])
def test_a_network_of_stages_has_a_row_for_each(name: str) -> None:
    rows = network(name, **SMALL[name]).feature_info
    assert [row["reduction"] for row in rows] == [4, 8, 16, 32]


def test_overridden_widths_reach_feature_info() -> None:
    net = network("van_b0", dims=(8, 16, 24), depths=(1, 1, 1), ratios=(2, 2, 2))
    assert [(r["num_chs"], r["reduction"]) for r in net.feature_info] == [(8, 4), (16, 8), (24, 16)]
    assert net.num_features == 24


def test_checkpointing_changes_nothing_but_memory(classifier: tuple[Any, torch.Tensor]) -> None:
    net, x = classifier
    net.double()
    saved: list[int] = []

    def run() -> tuple[torch.Tensor, list[torch.Tensor]]:
        held = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal held
            held += tensor.numel()
            return tensor

        net.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = net(x.double())
        saved.append(held)
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)).sum().backward()
        return out.detach(), [p.grad.clone() for p in net.parameters() if p.grad is not None]

    before, gradients = run()
    net.set_grad_checkpointing()
    after, again = run()
    net.set_grad_checkpointing(False)
    assert len(gradients) == len(again) == len(list(net.parameters()))
    torch.testing.assert_close(before, after)
    for a, b in zip(gradients, again, strict=True):
        torch.testing.assert_close(a, b)
    assert saved[1] < saved[0] / 2, "activations inside of the blocks are not kept"


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("van_b0", set()),
        ("vig_t", {"pos_embed"}),
        ("maxvit_tiny", set()),
        ("deit_s", {"cls_token", "pos_embed"}),
    ],
)
def test_no_weight_decay(name: str, wanted: set[str]) -> None:
    assert network(name, **SMALL[name]).no_weight_decay() == wanted


# ---- sizes

SIZES = {
    "van_b0": (1, 2, 31, 33, 64),
    "vig_t": (5, 6, 7, 8, 23, 40),
    "maxvit_tiny": (60, 61, 63, 64, 65, 124, 125, 128),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_inside_of_the_contract_run_and_others_are_refused(name: str) -> None:
    overrides = MACHINERY[name]
    program = variation(name, **{k: list(v) if isinstance(v, tuple) else v for k, v in overrides.items()})
    contract = solve(program.symbols, program.obligations)
    net = imported(emit(program, contract, Figures(0)))
    net = getattr(net, name)().eval()
    verdicts = set()
    for h, w in itertools.product(SIZES[name], repeat=2):
        if h * w > 64 * 65:
            continue
        admitted = contract.admits({"B": 1, "H": h, "W": w})
        verdicts.add(admitted)
        with torch.no_grad():
            if admitted:
                assert torch.isfinite(net(torch.randn(1, 3, h, w))).all()
            else:
                with pytest.raises(ValueError, match=f"{name} needs .*got") as caught:
                    net(torch.randn(1, 3, h, w))
                assert str(h) in str(caught.value) or str(w) in str(caught.value)
    assert verdicts == ({True} if name == "van_b0" else {True, False})


def test_the_error_names_the_requirement() -> None:
    net = network("dasiamrpn_vot", features=4)
    for z, x in (((100, 110), (130, 130)), ((110, 110), (130, 90))):
        with pytest.raises(ValueError, match=r"dasiamrpn_vot needs .*>= 103"):
            net(torch.randn(1, 3, *z), torch.randn(1, 3, *x))
    needed = [line for line in shipped("dasiamrpn_vot").checked.contract.describe() if "//" in line]
    assert needed
    with pytest.raises(ValueError, match=r"dasiamrpn_vot needs .*//"):
        net(torch.randn(1, 3, 200, 200), torch.randn(1, 3, 130, 130))


def test_a_contract_for_other_arguments_is_not_enforced() -> None:
    """Sizes were solved for img_size 224; another build takes other sizes."""
    net = network("maxvit_tiny", img_size=64, depths=(1, 1, 1, 1))
    with torch.no_grad():
        assert net(torch.randn(1, 3, 64, 128)).shape == (1, 1000)
    with pytest.raises(ValueError, match="maxvit_tiny needs H"):
        network("maxvit_tiny")(torch.randn(1, 3, 64, 64))
