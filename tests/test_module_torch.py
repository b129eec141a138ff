"""What a written module promises its user: torch.compile, torch.export, autocast, copies and pickles."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from written import MACHINERY, TINY_VAN, from_text, imported, network, shapes, tensors

TOKENS = """
mixer scan(x: [B, C, H, W]) {
    gate = x |> gate: linear(C) |> sigmoid
    return recur(gate, x, along=raster(H, W)) + recur(gate, x, along=-raster(H, W))
}
model net() {
    input image: [B, C=3, H, W]
    x = image |> stem: conv(8, 4, stride=4) |> norm: layer_norm
    x += x |> scan: scan
    output logits = x |> mean(H, W) |> head: linear(5)
}
scans = net()
"""


@pytest.fixture(params=[*MACHINERY, "scans"], scope="module")
def running(request: pytest.FixtureRequest) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """A network and inputs for it."""
    name = request.param
    torch.manual_seed(5)
    if name == "scans":
        return imported(from_text(TOKENS).text).scans().eval(), (torch.randn(2, 3, 16, 20),)
    net = network(name, **MACHINERY[name])
    given = {
        "ccnet_rcca_head": [(2, 64, 6, 8)],
        "ccnet_cca_r2": [(2, 64, 6, 8)],
        "dasiamrpn_vot": [(2, 3, 110, 103), (2, 3, 130, 128)],
    }.get(name, [(2, 3, 64, 64)])
    return net, tuple(torch.randn(*shape) for shape in given)


def close(a: Any, b: Any) -> None:
    for one, two in zip(tensors(a), tensors(b), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_one_graph_under_compile(running: tuple[Any, tuple[torch.Tensor, ...]]) -> None:
    net, given = running
    torch._dynamo.reset()
    graph = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        close(graph(*given), net(*given))
    mine, theirs = [x.clone().requires_grad_() for x in given], [x.clone().requires_grad_() for x in given]
    sum(y.square().mean() for y in tensors(graph(*mine))).backward()
    sum(y.square().mean() for y in tensors(net(*theirs))).backward()
    close(tuple(x.grad for x in mine), tuple(x.grad for x in theirs))


def test_one_graph_in_training() -> None:
    net = network("van_b0", drop_path_rate=0.2, **TINY_VAN).train()
    torch._dynamo.reset()
    out = torch.compile(net, backend="eager", fullgraph=True)(torch.randn(2, 3, 32, 32))
    out.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_new_size_makes_no_graph_for_each_number() -> None:
    net = network("van_b0", **TINY_VAN)
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    graph = torch.compile(net, backend=counter, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for n in (64, 96, 128, 160):
            graph(torch.randn(2, 3, n, n + 32))
    assert counter.frame_count <= 2


def test_inductor() -> None:
    net, given = network("ccnet_cca_r2"), (torch.randn(2, 64, 6, 8),)
    torch._dynamo.reset()
    try:
        graph = torch.compile(net, fullgraph=True)
        with torch.no_grad():
            found = graph(*given)
    except torch._inductor.exc.InductorError as error:
        pytest.skip(f"no compiler for inductor here: {error}"[:200])
    with torch.no_grad():
        close(found, net(*given))


EXPORTED = {
    "van_b0": ([{0: "B", 2: "H", 3: "W"}], [(3, 3, 40, 72)]),
    "ccnet_cca_r2": ([{0: "B", 2: "H", 3: "W"}], [(3, 64, 5, 9)]),
    "vig_t": ([{0: "B", 2: "H", 3: "W"}], [(3, 3, 48, 80)]),
    "maxvit_tiny": ([{0: "B"}], [(3, 3, 64, 64)]),
    "dasiamrpn_vot": ([{0: "B"}, {0: "B"}], [(3, 3, 110, 103), (3, 3, 130, 128)]),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_export_with_free_sizes(name: str) -> None:
    net = network(name, **MACHINERY[name])
    places, other = EXPORTED[name]
    first = [
        (2, *shape[1:]) if "H" not in place.values() else (2, shape[1], 64, 96)
        for place, shape in zip(places, other, strict=True)
    ]
    dims = {letter: torch.export.Dim.AUTO for letter in "BHW"}
    dynamic = tuple({axis: dims[letter] for axis, letter in place.items()} for place in places)
    torch.manual_seed(2)
    program = torch.export.export(net, tuple(torch.randn(*s) for s in first), dynamic_shapes=dynamic)
    given = tuple(torch.randn(*shape) for shape in other)
    with torch.no_grad():
        close(program.module()(*given), net(*given))


def test_export_keeps_the_contract() -> None:
    """What the network refuses, the exported program refuses too."""
    net = network("vig_t", depth=1)
    auto = torch.export.Dim.AUTO
    program = torch.export.export(net, (torch.randn(2, 3, 64, 96),), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    with pytest.raises(Exception, match=r"(?i)guard|expected|>=|constraint"):
        program.module()(torch.randn(2, 3, 5, 64))


def test_autocast(running: tuple[Any, tuple[torch.Tensor, ...]]) -> None:
    net, given = running
    inputs = [x.clone().requires_grad_() for x in given]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = tensors(net(*inputs))
    sum(y.float().square().mean() for y in found).backward()
    with torch.no_grad():
        for ours, exact in zip(found, tensors(net(*given)), strict=True):
            assert torch.isfinite(ours).all()
            spread = float(exact.std()) or 1.0
            assert float((ours.float() - exact).abs().mean()) < 0.1 * spread
    for x in inputs:
        assert x.grad is not None and torch.isfinite(x.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_element_type(running: tuple[Any, tuple[torch.Tensor, ...]], dtype: torch.dtype) -> None:
    net, given = running
    with torch.no_grad():
        for y in tensors(copy.deepcopy(net).to(dtype)(*(x.to(dtype) for x in given))):
            assert y.dtype == dtype


def test_copies_and_pickles(running: tuple[Any, tuple[torch.Tensor, ...]]) -> None:
    net, given = running
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    with torch.no_grad():
        wanted = tensors(net(*given))
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.load(buffer, weights_only=False)):
            assert shapes(other) == shapes(net)
            for a, b in zip(tensors(other(*given)), wanted, strict=True):
                assert torch.equal(a, b)
            next(other.parameters()).add_(1.0)  # its weights are its own
        for a, b in zip(tensors(net(*given)), wanted, strict=True):
            assert torch.equal(a, b)


def test_a_network_on_the_meta_device() -> None:
    with torch.device("meta"):
        net = network("van_b2")
        assert net(torch.empty(2, 3, 224, 224)).shape == (2, 1000)


def test_channels_last_memory(running: tuple[Any, tuple[torch.Tensor, ...]]) -> None:
    net, given = running
    other = copy.deepcopy(net).to(memory_format=torch.channels_last)
    with torch.no_grad():
        close(other(*(x.contiguous(memory_format=torch.channels_last) for x in given)), net(*given))
