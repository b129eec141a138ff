"""Ahead-of-time compilation of every kernel that modules launch: `python tests/kernels/compiled.py sm_90`.

Every variant of every shipped spec stands on the meta device at its usual sizes, batch 128, in bfloat16. What its
fused operators launch, forward and backward, is compiled as a launch would, without a GPU; identical kernels once.
Prints JSON: what each kernel needs and issues, by name. One target in one process, as Triton keeps its first one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from planned import as_compiled, variants
from slots import Instructions, amd, loops, nvidia, weigh
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime.jit import JITFunction

from archc.backend.python import global_name, identifier
from archc.ir.program import Program
from archc.sizing import choose
from archc.trials import FusedCall, fused_calls, loaded

BATCH = 128
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
MATRIX = ("HMMA", "HGMMA", "QGMMA", "UTCHMMA", "UTCQMMA", "v_mfma")  # tensor-core instructions
# 512 bytes for all lanes: 16 for each of 32, or 8 for each of 64.
WIDE = re.compile(r"LDG\.E(\.\w+)*\.128|LDGSTS\.E(\.\w+)*\.128|UTMALDG|UBLKCP|(global|buffer)_load_dwordx[24]")
LOADS = re.compile(r"LDG|UTMALDG|UBLKCP|(global|buffer)_load")
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Compiled:
    """One kernel on one target. `slots`: instructions of all lanes for each element of the operator's result.

    `loops`: those of the machine code, and how many of them have a known trip count. `products`: the kernel's text
    has some, of 16-bit operands. `aligned`: nothing that it is given keeps it from loading 16 bytes at once.
    `scalars`: those that AMD's compiler puts into vector registers for a while. `seconds` are those of the compiler.
    """

    operator: str
    registers: int
    shared: int
    spills: int
    scalars: int
    slots: float
    loops: tuple[int, int]
    products: bool
    matrix: int
    loads: int
    wide: int
    aligned: bool
    seconds: float


class NoGPU(DriverBase):
    """The driver of a target that is not there: enough of one for everything before the launch."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_active_torch_device(self) -> torch.device:
        return torch.device("meta")

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_benchmarker(self) -> None:
        return None


def source(function: JITFunction, seen: dict[str, str] | None = None) -> dict[str, str]:
    """The text of a kernel and of all functions that it calls."""
    seen = {} if seen is None else seen
    if function._fn_name not in seen:
        seen[function._fn_name] = function.src
        for name in function.fn.__code__.co_names:
            other = function.fn.__globals__.get(name)
            if isinstance(other, JITFunction):
                source(other, seen)
    return seen


class Launches:
    """Stands in the place of `JITFunction.run`: compiles what is new, and launches nothing."""

    def __init__(self) -> None:
        self.made: dict[str, Compiled] = {}  # by what is printed
        self.names: dict[str, str] = {}  # of what has been compiled
        self.operator, self.elements = "", 1
        self.compile = JITFunction.run

    def run(self, kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        *_, binder = kernel.device_caches[0]
        bound, special, given = binder(*args, **options)
        module = kernel.fn.__module__
        chosen = [f"{p.name}={_shown(v)}" for p, (t, v) in zip(kernel.params, special, strict=True) if t == "constexpr"]
        types = hashlib.sha256(repr((special, sorted(given.items()))).replace(module, "").encode()).hexdigest()[:6]
        name = f"{kernel.fn.__name__}({', '.join([*chosen, *(f'{k}={v}' for k, v in given.items())])}) {types}"
        functions = [v for t, v in special if isinstance(v, JITFunction)]
        key = name + repr([source(f) for f in (kernel, *functions)]).replace(module, "")
        if key in self.names:
            return
        start = sum(os.times()[:4])  # processor time, that of the assembler too
        made = self.compile(kernel, *args, grid=grid, warmup=True, **options)
        seconds = sum(os.times()[:4]) - start
        while name in self.made:
            name += "'"
        self.names[key] = name
        grid = grid(bound) if callable(grid) else grid
        self.made[name] = self.judged(made, bound, (*grid, 1, 1)[:3], seconds)

    def judged(self, made: Any, bound: dict[str, Any], grid: tuple[int, ...], seconds: float) -> Compiled:
        ttir = made.asm["ttir"]
        numbers = {name: v for name, v in bound.items() if isinstance(v, int)}
        turns = loops(ttir, numbers, grid)
        if "cubin" in made.asm:
            registers, stack, sass = dissected(made.asm["cubin"])
            code, lanes = weigh(nvidia(sass), turns), 32
            scalars, spills = 0, stack + sum(n for op, n in code.static.items() if op.startswith(("LDL", "STL")))
        else:
            text = made.asm["amdgcn"]
            registers = _field(text, "vgpr_count") + _field(text, "agpr_count")
            code, lanes = weigh(amd(text), turns), 64
            spills = _field(text, "vgpr_spill_count") + _field(text, "private_segment_fixed_size")
            scalars = _field(text, "sgpr_spill_count")
        programs = grid[0] * grid[1] * grid[2]
        dots = [line for line in ttir.splitlines() if " tt.dot " in line]
        return Compiled(
            self.operator, registers, made.metadata.shared, spills, scalars,
            round(code.slots * lanes * made.metadata.num_warps * programs / self.elements, 2), code.loops,
            any(re.search(r"x(bf16|f16)>", line) for line in dots), _count(code, lambda op: op.startswith(MATRIX)),
            _count(code, lambda op: bool(LOADS.match(op))), _count(code, lambda op: bool(WIDE.match(op))), aligned(bound.values()),
            round(seconds, 2),
        )  # fmt: skip


def aligned(given: Iterable[Any]) -> bool:
    """Whether rows of all 16-bit tensors begin where 16 numbers do, as a kernel can know it."""
    for item in given:
        if isinstance(item, tuple) and not aligned(item):
            return False
        if isinstance(item, torch.Tensor) and item.element_size() == 2:
            row = [size for size, stride in zip(item.shape, item.stride(), strict=True) if stride == 1 and size > 1]
            if not row or row[0] % 16:
                return False
    return True


def _count(code: Instructions, wanted: Any) -> int:
    return sum(n for op, n in code.static.items() if wanted(op))


def _field(text: str, name: str) -> int:
    found = re.search(rf"\.{name}:\s+(\d+)", text)
    return int(found[1]) if found else 0


def _shown(value: Any) -> str:
    return value.fn.__name__ if isinstance(value, JITFunction) else str(value)


def dissected(cubin: bytes) -> tuple[int, int, str]:
    """Registers, bytes of stack, and machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _tool("cuobjdump", "-res-usage", file.name)
        sass = _tool("nvdisasm", "-c", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    return int(found[1]), int(found[2]), sass


def _tool(name: str, *arguments: str) -> str:
    return subprocess.run([TOOLS / name, *arguments], capture_output=True, text=True, check=True).stdout


@contextmanager
def compiling(target: str) -> Iterator[Launches]:
    """Launches of kernels are compilations for a target, of tensors on the meta device."""
    launches = Launches()
    triton.knobs.compilation.always_compile = True
    triton.runtime.driver.set_active(NoGPU(TARGETS[target]))
    torch.version.hip = "of no driver" if TARGETS[target].backend == "hip" else None
    JITFunction.run = lambda kernel, *args, **options: launches.run(kernel, *args, **options)
    try:
        with torch.device("meta"):
            yield launches
    finally:
        JITFunction.run = launches.compile


def launch(launches: Launches, name: str, called: FusedCall) -> None:
    """An operator's kernels, forward and backward."""
    operator, tensors, given = called
    numbers = [float(number) for number in given]
    launches.operator = name
    launches.elements = sum(y.numel() for y in operator.results(tensors, numbers)[: operator.outputs])
    made = operator.forward(tensors, numbers)
    operator.backward(made[: operator.outputs], operator.kept(made), tensors, numbers, [True] * len(tensors))


def called(module: Any, program: Program, sizes: Mapping[str, int]) -> list[FusedCall]:
    """What the operators of a module are called with at some sizes, in bfloat16 on the meta device."""
    net = getattr(module, global_name(program.name))().to(torch.bfloat16).eval()
    shapes = {i.name: [axis.size.evaluate(sizes) for axis in i.value.type.axes] for i in program.inputs}
    inputs = {identifier(n): torch.empty(shape, dtype=torch.bfloat16) for n, shape in shapes.items()}
    return fused_calls(module, lambda: net(**inputs))


def compile_all(target: str, only: tuple[str, ...] = ()) -> dict[str, Compiled]:
    """What the variants (all, or those in `only`) launch, by kernel and settings."""
    with compiling(target) as launches:
        for name, program, contract in variants():
            if not only or name in only:
                sizes = choose(program, contract, {"B": BATCH} if "B" in contract.symbols else {})
                with loaded(as_compiled(program, contract)) as module:
                    for one in called(module, program, sizes):
                        launch(launches, f"{name}.{one[0].name.rpartition('::')[2]}", one)
    return launches.made


if __name__ == "__main__":
    made = compile_all(sys.argv[1], tuple(sys.argv[2:]))
    print(json.dumps({name: asdict(one) for name, one in made.items()}))
