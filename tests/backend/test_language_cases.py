"""What the language can say, written as modules: each says what its graph means, and can be read again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from written import CASES, compiled, every, imported, shapes

from archc.backend.python import identifier
from archc.backend.reread import compare, reread
from archc.verify import verify
from archc.weights.keys import state_dict

ALL = [pytest.param(path, name, id=name) for path, name in every(CASES)]


@pytest.mark.parametrize("path, name", ALL)
def test_a_module_means_what_its_graph_means(path: Path, name: str) -> None:
    module = compiled(path, name)
    report = verify(module.checked.program, module.text)
    assert report.ok, [t for t in report.trials if t.failure or max(t.forward, t.backward) > report.tolerance]
    assert len(report.trials) >= 2, "at several sizes"


@pytest.mark.parametrize("path, name", ALL)
def test_a_file_read_again_is_its_graph_and_its_module(path: Path, name: str) -> None:
    module = compiled(path, name)
    found = reread(module.text, name)
    assert compare(module.checked.program, found) == []
    net = getattr(imported(module.text), identifier(name))()
    assert found.parameters | found.buffers == shapes(net)
    assert list(found.names) == list(net.state_dict())
    assert found.count == sum(p.numel() for p in net.parameters())
    assert found.tables == {n: tuple(b.shape) for n, b in net.named_buffers() if n not in net.state_dict()}


@pytest.mark.parametrize("path, name", ALL)
def test_weights_have_the_element_types_and_values_of_the_graph(path: Path, name: str) -> None:
    module = compiled(path, name)
    net = getattr(imported(module.text), identifier(name))()
    held = net.state_dict()
    for key, weight in state_dict(module.checked.program).items():
        real = held[key].dtype == torch.float32
        assert real == (weight.dtype == "float" and weight.kind != "counter"), key
        if weight.init.kind == "fill":
            assert torch.all(held[key] == weight.init.args[0].value), key
        assert torch.isfinite(held[key]).all(), key
