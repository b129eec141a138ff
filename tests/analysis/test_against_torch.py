"""Figures held to torch: the module's parameters and torch's FLOP counter."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from archc.analysis.conventions import CONVENTIONS
from archc.analysis.cost import count
from archc.driver import compile_variant, load_spec, only

SPECS = Path(__file__).parents[2] / "specs"
CASES = [("van_b0", 64), ("vig_t", 64), ("ccnet_cca_r2", 24)]


@pytest.fixture(scope="module", params=CASES, ids=[name for name, _ in CASES])
def case(request, tmp_path_factory):
    """(program, module, inputs, sizes) of a shipped spec."""
    name, size = request.param
    spec = load_spec(str(SPECS / f"{name}.arch"))
    written = compile_variant(spec, only(spec))
    path = tmp_path_factory.mktemp("written") / f"written_{name}.py"
    path.write_text(written.text)
    found = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module
    found.loader.exec_module(module)
    program = written.checked.program
    sizes = {symbol: 2 if symbol == "B" else size for symbol in program.symbols}
    torch.manual_seed(0)
    inputs = [torch.randn([axis.size.evaluate(sizes) for axis in i.value.type.axes]) for i in program.inputs]
    return program, getattr(module, name)(), inputs, sizes


def test_parameters_and_flops(case):
    program, net, inputs, sizes = case
    cost = count(program, sizes)
    assert cost.figures.params == sum(p.numel() for p in net.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(*inputs)
    assert cost.under(CONVENTIONS["torch"]) == counter.get_total_flops()
