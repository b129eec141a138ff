"""`archc flops` against fvcore, ptflops and torch's own counter, on van_b2 at 224 x 224.

    pip install -c constraints.txt '.[torch,bench]'
    python benchmarks/flops.py [PAIRS]

The others count the module that archc writes for the spec. Each of their processes is what a user would run: import
torch, make the model, count. archc should be 10 times faster at least.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from paired import archc, described, pairs, python, run

COUNTERS = {
    "fvcore": """
from fvcore.nn import FlopCountAnalysis
total = FlopCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
""",
    "ptflops": """
from ptflops import get_model_complexity_info
total, _ = get_model_complexity_info(model, (3, 224, 224), as_strings=False, print_per_layer_stat=False)
""",
    "torch": """
from torch.utils.flop_counter import FlopCounterMode
with FlopCounterMode(display=False) as counter, torch.no_grad():
    model(image)
total = counter.get_total_flops()
""",
}
PROCESS = """
import sys
import torch
sys.path.insert(0, {folder!r})
from van_b2 import van_b2
model, image = van_b2().eval(), torch.randn(1, 3, 224, 224)
{count}
assert total > 4e9, total
"""

if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as folder:
        run(archc("compile", "van_b2", "-o", folder))
        for name, count in COUNTERS.items():
            script = Path(folder) / f"with_{name}.py"
            script.write_text(PROCESS.format(folder=folder, count=count))
            found = pairs(python(str(script)), archc("flops", "van_b2"), number)
            print(described(f"{name} / archc flops", found))
