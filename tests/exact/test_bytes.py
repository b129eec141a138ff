"""Bytes of activations, held to what torch sees when it runs the written modules.

On the meta device nothing is computed, so that networks have their full sizes. Where torch composes an operation in
another way there, or notes another type, the processor is asked.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from watch import kept_bytes, peak_bytes, weights
from written import ROOT, compiled, from_text, imported, variants

from archc.analysis.cost import count
from archc.analysis.memory import Memory
from archc.analysis.setting import Setting
from archc.contract import solve
from archc.ir.program import Program
from archc.ops.table import ALL
from archc.sizing import choose

DTYPES = {"float": torch.float32, "int": torch.int64, "bool": torch.bool}


def inputs(program: Program, sizes: dict[str, int], device: str) -> list[torch.Tensor]:
    return [
        torch.zeros(
            [axis.size.evaluate(sizes) for axis in item.value.type.axes],
            dtype=DTYPES[item.value.type.dtype],
            device=device,
        )
        for item in program.inputs
    ]


# ---- whole networks

# The sizes of all positions, and the device; None for the sizes of the claims.
NETWORKS: dict[str, tuple[int | None, str]] = {
    "van_b0": (224, "meta"),
    "vig_t": (64, "cpu"),
    "ccnet_cca_r2": (24, "meta"),
    "ccnet_rcca_head": (33, "meta"),
    "dasiamrpn_vot": (None, "meta"),
    "deit_s": (224, "meta"),
    "swin_t": (224, "meta"),
    "poolformer_s12": (224, "meta"),
    "maxvit_tiny": (224, "meta"),
    "conv_attention": (224, "meta"),
    "mamba_attention": (224, "meta"),
}
# Here the names of the module end as early as the values of the graph, and no layout changes.
SAME_PEAK = ("van_b0", "dasiamrpn_vot")


def built(name: str) -> tuple[Program, dict[str, int], Any, list[torch.Tensor]]:
    """(program, sizes, module, inputs) of a shipped network, with two samples where the sizes are free."""
    size, device = NETWORKS[name]
    path = ROOT / "specs" / f"{name}.arch"
    (variant,) = variants(path)
    module = compiled(path, variant)
    checked, program = module.checked, module.checked.program
    if size is None:
        sizes = choose(program, checked.contract, {})
    else:
        sizes = {symbol: 2 if symbol == "B" else size for symbol in program.symbols}
    with torch.device(device):
        net = getattr(imported(module.text), variant)()
    return program, sizes, net, inputs(program, sizes, device)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_training_keeps(name: str) -> None:
    program, sizes, net, given = built(name)
    seen = kept_bytes(lambda: net.train()(*given), weights(net))
    assert count(program, sizes).figures.kept_bytes == pytest.approx(seen, rel=0.01)


@pytest.mark.parametrize("name", SAME_PEAK)
def test_what_inference_holds(name: str) -> None:
    program, sizes, net, given = built(name)
    seen = peak_bytes(lambda: net.eval()(*given), given, weights(net))
    assert count(program, sizes).figures.peak_bytes == pytest.approx(seen, rel=0.01)


# ---- single operations

# Long enough that the tables of places, which depend on the sizes alone, weigh little.
SIZES = {"B": 24, "N": 56, "M": 40, "T": 8, "H": 24, "W": 36}
# The workspace that the kernel of an LSTM keeps is its own affair, and no two devices have the same.
EXAMPLES = [(op.name, text) for op in ALL.values() for text in op.examples if op.name != "lstm"]
# Bytes of the tables of places and of taps that are there: what torch keeps of the sizes alone, the graph does not.
PLACES = 2 * 8 * SIZES["H"] * SIZES["W"]
TAPS = 9 * SIZES["H"] * SIZES["W"] + 8 * 9 * (SIZES["H"] + SIZES["W"])
TABLES = {"recur": PLACES, "look": TAPS, "valid": TAPS, "relative": TAPS}
# Composed of simple operations on the processor, and one kernel elsewhere.
ON_CPU = ("rms_norm",)


def spec(example: str) -> str:
    operands, _, expression = example.partition(" -> ")
    given = "".join(f"    input {part}\n" for part in re.split(r", (?=\w+: )", operands) if part)
    return f"model m() {{\n{given}    output result = {expression}\n}}\nv = m()\n"


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(EXAMPLES)])
def test_what_an_operation_keeps(name: str, example: str) -> None:
    module = from_text(spec(example))
    program = module.checked.program
    sizes = {symbol: SIZES.get(symbol, 12) for symbol in program.symbols}
    if program.obligations:
        sizes = solve(program.symbols, program.obligations).nearest(sizes)[0]
    device = "cpu" if name in ON_CPU else "meta"
    with torch.device(device):
        net = imported(module.text).v()
    given = [x.requires_grad_() if x.is_floating_point() else x for x in inputs(program, sizes, device)]
    seen = kept_bytes(lambda: net.train()(*given), weights(net))
    # Here the inputs need gradients too.
    ours = Memory(Setting(sizes)).plan(program.root).kept
    assert ours == pytest.approx(seen, rel=0.01, abs=TABLES.get(name, 64))
