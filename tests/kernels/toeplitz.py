"""Stencils by products of matrices, whether they pay or not: `python tests/kernels/toeplitz.py`.

The operators of the network "stencils" are given sizes at which all rows are of one tile, of several, and whole planes of
one; each has to be within its limit of float64, forward and backward. Prints one line of JSON for each comparison.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import torch
from interpreted import check_operator
from planned import small, with_kernels

from archc.reference.seeded import seeded_weights
from archc.trials import fused_calls, loaded, make, random_inputs

SIZES = ({"B": 3, "H": 8, "W": 10, "L": 9}, {"B": 1, "H": 6, "W": 70, "L": 67}, {"B": 2, "H": 6, "W": 8, "L": 7})


def main() -> None:
    program, contract = small("stencils")
    with loaded(with_kernels(program, contract)) as module:
        module.toeplitz_pays = lambda strip, toeplitz: True
        network = make(module, program)
        network.load_state_dict(seeded_weights(program))
        for at, sizes in enumerate(SIZES):
            inputs = random_inputs({i.name: i.value for i in program.inputs}, sizes, program.root)
            found = fused_calls(module, lambda given=inputs: network(**given))
            for count, called in enumerate(c for c in found if not c[0].mean):
                dtype = torch.bfloat16 if (at + count) % 2 else torch.float16
                print(json.dumps(asdict(check_operator("stencils", called, dtype))), flush=True)


if __name__ == "__main__":
    main()
