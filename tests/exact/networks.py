"""Shipped networks as torch modules, with inputs, on the meta device or another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from written import ROOT, compiled, imported, variants

from archc.ir.program import Program
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
    "convnext_t": (224, "meta"),
    "maxvit_tiny": (224, "meta"),
    "conv_attention": (224, "meta"),
    "mamba_attention": (224, "meta"),
}


@dataclass(frozen=True)
class Network:
    """A shipped network at some sizes: its program, its module, and inputs of two samples where sizes are free."""

    program: Program
    sizes: dict[str, int]
    net: Any
    given: list[torch.Tensor]


def built(name: str, device: str | None = None) -> Network:
    size, usual = NETWORKS[name]
    device = device or usual
    path = ROOT / "specs" / f"{name}.arch"
    (variant,) = variants(path)
    module = compiled(path, variant, kernels=False)  # the program that is counted has every operation on its own
    checked, program = module.checked, module.checked.program
    if size is None:
        sizes = choose(program, checked.contract, {})
    else:
        sizes = {symbol: 2 if symbol == "B" else size for symbol in program.symbols}
    with torch.device(device):
        net = getattr(imported(module.text), variant)()
    return Network(program, sizes, net, inputs(program, sizes, device))
