"""`archc convert-weights`: a published checkpoint as the state dict of the module that archc writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from archc.diagnostics import fail
from archc.ir.program import Program
from archc.output import replacement
from archc.version import __version__
from archc.weights.checkpoint import read, shapes
from archc.weights.keys import state_dict
from archc.weights.plan import Plan, fill_weights, plan

if TYPE_CHECKING:
    from archc.deploy.fold import Deployed


def convert(program: Program, checkpoint: Path, out: Path, deployed: Deployed | None = None) -> Plan:
    """Write the checkpoint's tensors as safetensors under the module's names, and say where each went; for the deploy
    build of the program, where it is given.

    Strict, by the rules of the spec. `out` appears whole or not at all. Raises ArchError: what
    `checkpoint.read` and `plan.plan` raise, and E0613 where `out` cannot be written.
    """
    import torch

    tensors = read(checkpoint)
    module = state_dict(program)
    placed = plan(program.rules, shapes(tensors), module, program.span)
    filled = fill_weights(placed, tensors)
    # A counter that the checkpoint lacks starts at 0, as in a new module.
    filled |= {key: torch.zeros(module[key].shape, dtype=torch.int64) for key in placed.missing}
    name = program.name
    if deployed is not None:
        from archc.deploy.weights import folded

        filled, name = folded(deployed, filled), deployed.program.name
        module = filled
    # safetensors refuses tensors that share memory, and views of larger ones.
    ordered = {key: filled[key].clone(memory_format=torch.contiguous_format) for key in module}
    _write(ordered, Path(out), {"format": "pt", "spec": name, "archc": __version__})
    return placed


def _write(tensors: dict, out: Path, metadata: dict[str, str]) -> None:
    """Whoever reads `out` never sees half a file. Raises ArchError E0613."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with replacement(out) as part:
            save_file(tensors, part, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise fail("E0613", f"`{out}` cannot be written: {getattr(error, 'strerror', None) or error}") from None
