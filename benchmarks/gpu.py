"""Fused kernels on a GPU: are they right, and are they faster than eager PyTorch, torch.compile and other libraries?

    python benchmarks/gpu.py                      # everything, within ten minutes; writes gpu.json
    python benchmarks/gpu.py --networks van_b2    # some networks only
    python benchmarks/gpu.py --rehearse           # the same steps on the CPU, at tiny sizes: measures nothing

First every fused operator of every network, at its real shapes in bfloat16, against float64. Then the time of each,
forward and with its backward pass, against the same operations in eager PyTorch, under torch.compile, and attention within
blocks by FlexAttention, and of whole networks in inference and training. Times are medians of runs in turn; `floor` is the
share of the time that moving the operator's operands and results once would take, at the bandwidth of a copy; `model` is
what the static cost model says. The table comes last; everything measured is in the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from archc import driver
from archc.analysis.setting import Setting
from archc.backend.kernels import Kernels
from archc.backend.needs import Needs
from archc.backend.python import global_name, identifier
from archc.fusion.families import family
from archc.fusion.plan import calls
from archc.ir.graph import Fused, Template, statements
from archc.ir.program import Program
from archc.sizing import choose
from archc.trials import fused_calls, loaded
from archc.verify import choose_sizes

NETWORKS = ("van_b0", "van_b2", "maxvit_tiny", "vig_t", "conv_attention", "mamba_attention")
LIMITS = {torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 3e-3}
ROUNDS = 20


@dataclass
class Region:
    """One fused operator at one set of shapes. Times are seconds; `errors` norm-relative, the result's then the gradients'."""

    network: str
    operator: str
    shapes: list[list[int]]
    errors: list[float]
    bytes: int
    model: float | None
    forward: dict[str, float] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)


@dataclass
class Network:
    """A whole network: seconds of a batch, and peak bytes, by what runs it."""

    name: str
    batch: int
    inference: dict[str, float] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)


class Bench:
    """One run: where, in which batch, and until when."""

    def __init__(self, rehearse: bool, batch: int, minutes: float) -> None:
        self.device = "cpu" if rehearse else "cuda"
        self.batch = 2 if rehearse else batch
        self.rounds = 1 if rehearse else ROUNDS
        self.rehearse = rehearse
        self.end = time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def seconds(self, runs: dict[str, Callable[[], object]]) -> dict[str, float]:
        """The median time of each, measured in turn; what cannot run is left out."""
        good = {}
        for name, run in runs.items():
            try:
                for _ in range(1 if self.rehearse else 3):
                    run()
                self.wait()
                good[name] = run
            except Exception as error:
                print(f"  {name} does not run: {type(error).__name__}: {str(error)[:120]}", file=sys.stderr)
        times: dict[str, list[float]] = {name: [] for name in good}
        for turn in range(self.rounds):
            order = list(good.items())
            for name, run in order if turn % 2 else reversed(order):
                times[name].append(self.once(run))
        return {name: median(found) for name, found in times.items()}

    def once(self, run: Callable[[], object]) -> float:
        if self.device == "cpu":
            begin = time.perf_counter()
            run()
            return time.perf_counter() - begin
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) / 1e3

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def peak(self, run: Callable[[], object]) -> int:
        if self.device == "cpu":
            return 0
        self.wait()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        run()
        self.wait()
        return torch.cuda.max_memory_allocated()

    def bandwidth(self) -> float:
        """Bytes a second of a copy, read and written."""
        x = torch.empty(1 << (20 if self.rehearse else 30), dtype=torch.uint8, device=self.device)
        y = torch.empty_like(x)
        return 2 * x.numel() / self.seconds({"copy": lambda: y.copy_(x)})["copy"]


class kernels:
    """Kernels on or off."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __enter__(self) -> None:
        os.environ["ARCHC_KERNELS"] = "1" if self.on else "0"

    def __exit__(self, *_: object) -> None:
        os.environ.pop("ARCHC_KERNELS")


# ---- operators


def operands(module: Any, net: Any, inputs: dict[str, Any]) -> list[tuple[Any, list[Any]]]:
    """Every fused operator of a network with what it is called with, each set of shapes once."""
    with torch.no_grad():
        found = fused_calls(module, lambda: net(**inputs))
    return [(operator, [*(tensor.clone() for tensor in tensors), *numbers]) for operator, tensors, numbers in found]


def gradients(run: Callable[..., Any], given: list[Any], seed: int = 0) -> list[Any]:
    """The result, and the gradients of all floating tensors for a random gradient of the result."""
    leaves = [
        item.detach().requires_grad_() if isinstance(item, torch.Tensor) and item.is_floating_point() else item
        for item in given
    ]
    y = run(*leaves)
    y = y if isinstance(y, torch.Tensor) else torch.cat([part.flatten() for part in y])
    generator = torch.Generator(y.device).manual_seed(seed)
    dy = torch.randn(y.shape, generator=generator, device=y.device, dtype=torch.float32).to(y.dtype)
    y.backward(dy)
    return [y.detach(), *(leaf.grad for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.grad is not None)]


def errors(operator: Any, given: list[Any]) -> list[float]:
    """Of kernels against the PyTorch path in float64, on the same rounded operands."""
    exact = [item.double() if isinstance(item, torch.Tensor) and item.is_floating_point() else item for item in given]
    with kernels(False):
        theirs = gradients(operator, exact)
    with kernels(True):
        ours = gradients(operator, given)
    return [((a.double() - b).norm() / b.norm().clamp(min=1e-30)).item() for a, b in zip(ours, theirs, strict=True)]


def fused(template: Template, seen: set[int]) -> Iterator[tuple[Template, Fused]]:
    """The fused regions of a program, template by template."""
    if id(template) in seen:
        return
    seen.add(id(template))
    for statement in statements(template.body):
        if isinstance(statement, Fused):
            yield template, statement
        for inner in (getattr(statement, "template", None), *(t.template for t in getattr(statement, "turns", ()))):
            if inner is not None:
                yield from fused(inner, seen)


def modelled(program: Program, setting: Setting) -> dict[tuple[str, tuple[int, ...]], float]:
    """What the cost model says of each operator of a fused program, by its name and the elements of its tensors."""
    names, found = Kernels(Needs()), {}
    known = calls(program, setting)
    for template, region in fused(program.root, set()):
        if known[id(template)]:
            name = names.of(region)
            sizes = tuple(prod(setting.shape(value.type)) for value in (*region.inputs[:1], *region.outputs[:1]))
            found[name, sizes] = family(region.family).work(region, setting).seconds
    return found


def flex(operator: Any, given: list[Any], compiled: bool) -> Callable[..., Any] | None:
    """Attention within blocks by FlexAttention, as it is best used for it: the blocks one behind the other in memory, a mask
    of blocks, and the bias as a change of the scores. None for other operators."""
    tensors = [item for item in given if isinstance(item, torch.Tensor)]
    if type(operator).__name__ != "BlockAttention" or len(tensors) > 4 or not operator.heads or operator.shared_bias:
        return None
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, device = tensors[0], tensors[0].device
    at = operator.geometry(q.shape, [float(number) for number in given[len(tensors) :]])
    if at.ragged:
        return None
    places, sides = [], []
    for (size, pitch, step, shift), groups, members in zip((at.rows, at.columns), at.blocks, at.counts, strict=True):
        place = torch.arange(groups, device=device)[:, None] * pitch + torch.arange(members, device=device) * step - shift
        places.append(place % size)
        sides.append(place < 0)
    n, columns = at.members, at.columns[0]
    order = (places[0][:, None, :, None] * columns + places[1][None, :, None, :]).flatten()
    side = (2 * sides[0][:, None, :, None] + sides[1].int()[None, :, None, :]).flatten()
    back = order.argsort()

    def same_block(b: Any, h: Any, i: Any, j: Any) -> Any:
        same = i // n == j // n
        return same & (side[i] == side[j]) if operator.seam else same

    mask = create_block_mask(same_block, None, None, len(order), len(order), device=str(device))
    attend = torch.compile(flex_attention) if compiled else flex_attention

    def run(*items: Any) -> Any:
        q, k, v, *bias = items[: len(tensors)]
        positions = q.shape[2:-1]

        def biased(score: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
            return score + bias[0][h, i % n, j % n] if bias else score

        q, k, v = (part.flatten(2, -2)[:, :, order] for part in (q, k, v))
        y = attend(q, k, v, score_mod=biased, block_mask=mask, scale=at.scale)
        return y[:, :, back].unflatten(2, positions)

    return run


def measure(bench: Bench, name: str, program: Program, module: Any, found: list[Any], model: dict[Any, float]) -> list[Region]:
    regions = []
    for operator, given in found:
        tensors = [item for item in given if isinstance(item, torch.Tensor)]
        with torch.no_grad(), kernels(False):
            y = operator(*given)
        outputs = [y] if isinstance(y, torch.Tensor) else list(y)
        moved = sum(t.numel() * t.element_size() for t in (*tensors, *outputs))
        word = operator.name.rpartition("::")[2]
        region = Region(
            name, word, [list(t.shape) for t in tensors], errors(operator, given), moved,
            model.get((word, (tensors[0].numel(), outputs[0].numel()))),
        )  # fmt: skip
        maps = [
            t.contiguous(memory_format=torch.channels_last) if isinstance(t, torch.Tensor) and t.ndim == 4 else t
            for t in given
        ]
        runs = {"kernel": (operator, maps, True), "eager": (operator.torch_path, given, False)}
        runs["channels_last"] = (operator.torch_path, maps, False)
        other = flex(operator, given, compiled=not bench.rehearse)
        if other is not None:
            runs["flex_attention"] = (other, given, False)
            with torch.no_grad(), kernels(False):
                off = (other(*given).double() - y.double()).norm() / y.double().norm()
            assert off < 2e-2, f"FlexAttention is asked for something else than {word}: {off:.1e}"
        if bench.left > 240 and not bench.rehearse:
            torch._dynamo.reset()
            compiled = torch.compile(operator.torch_path, mode="max-autotune-no-cudagraphs", fullgraph=True)
            runs["compiled"] = (compiled, maps, False)
        for kind in ("forward", "training"):

            def run(call: Any, items: list[Any], on: bool, kind: str = kind) -> None:
                with kernels(on):
                    if kind == "training":
                        gradients(call, items)
                    else:
                        with torch.no_grad():
                            call(*items)

            timed = {what: (lambda c=c, i=i, o=o: run(c, i, o)) for what, (c, i, o) in runs.items()}
            setattr(region, kind, bench.seconds(timed))
        regions.append(region)
    return regions


# ---- networks


def whole(bench: Bench, name: str, module: Any, program: Program, inputs: dict[str, Any], dtype: Any) -> Network:
    make = getattr(module, global_name(program.name))
    result = Network(name, bench.batch)
    nets = {"kernel": make(), "eager": make(), "channels_last": make()}
    if bench.left > 120 and not bench.rehearse:
        nets["compiled"] = make()
    for what, net in nets.items():
        net.to(bench.device, dtype)
        if what != "eager":
            net.to(memory_format=torch.channels_last)
    maps = {
        k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in inputs.items()
    }
    torch._dynamo.reset()
    callers = dict(nets)
    if "compiled" in nets:
        callers["compiled"] = torch.compile(nets["compiled"], mode="max-autotune-no-cudagraphs")

    def infer(what: str) -> None:
        with torch.no_grad(), kernels(what == "kernel"):
            callers[what](**(inputs if what == "eager" else maps))

    def train(what: str) -> None:
        with kernels(what == "kernel"):
            y = callers[what](**(inputs if what == "eager" else maps))
            y = y if isinstance(y, torch.Tensor) else sum(part.float().mean() for part in y)
            y.float().square().mean().backward()
            for parameter in nets[what].parameters():
                parameter.grad = None

    for net in nets.values():
        net.eval()
    result.inference = bench.seconds({what: (lambda w=what: infer(w)) for what in nets})
    for net in nets.values():
        net.train()
    result.training = bench.seconds({what: (lambda w=what: train(w)) for what in nets})
    result.peak = {what: bench.peak(lambda w=what: train(w)) for what in result.training}
    return result


def run(bench: Bench, names: list[str]) -> tuple[list[Region], list[Network]]:
    regions, networks = [], []
    for name in names:
        spec = driver.load_spec(name)
        variant = driver.only(spec)
        program = driver.build(spec, variant)
        contract = driver.contract_of(program)
        few = choose_sizes(program, contract)[0]
        sizes = {**few, "B": bench.batch} if bench.rehearse else choose(program, contract, {"B": bench.batch})
        setting = Setting(sizes, "bfloat16")
        dtype = torch.bfloat16
        with loaded(driver.compile_variant(spec, variant).text) as module:
            torch.manual_seed(0)
            shapes = {i.name: [axis.size.evaluate(sizes) for axis in i.value.type.axes] for i in program.inputs}
            inputs = {identifier(k): torch.randn(s).to(bench.device, dtype) for k, s in shapes.items()}
            net = getattr(module, global_name(program.name))().to(bench.device, dtype).eval()
            found = operands(module, net, inputs)
            print(f"{name}: {len(found)} operators", file=sys.stderr)
            regions += measure(bench, name, program, module, found, modelled(driver.fused(program, contract), setting))
            del net, found
            if bench.left > 60 or bench.rehearse:
                networks.append(whole(bench, name, module, program, inputs, dtype))
    return regions, networks


# ---- what is printed


def best(times: dict[str, float]) -> float | None:
    """How much faster kernels are than the fastest other."""
    others = [t for what, t in times.items() if what != "kernel"]
    return min(others) / times["kernel"] if "kernel" in times and others else None


def shown(number: float | None, form: str = ".2f") -> str:
    return "-" if number is None else format(number, form)


def table(regions: list[Region], networks: list[Network], bandwidth: float) -> list[str]:
    lines = ["operator                                        worst error   us  x best  x best with backward  floor  model"]
    for r in regions:
        took = r.forward.get("kernel")
        floor = None if took is None else r.bytes / bandwidth / took
        model = None if took is None or r.model is None else r.model / took
        lines.append(
            f"{r.network + '.' + r.operator:<46} {max(r.errors):>12.1e} {shown(took and took * 1e6, '4.0f'):>4} "
            f"{shown(best(r.forward)):>7} {shown(best(r.training)):>21} {shown(floor):>6} {shown(model):>6}"
        )
    lines += ["", "network          inference/s  x best  training/s  x best  peak of eager's"]
    for n in networks:
        rate = {kind: n.batch / times["kernel"] for kind, times in (("i", n.inference), ("t", n.training)) if "kernel" in times}
        memory = n.peak.get("kernel", 0) / n.peak["channels_last"] if n.peak.get("channels_last") else None
        lines.append(
            f"{n.name:<16} {shown(rate.get('i'), '11.0f')} {shown(best(n.inference)):>7} {shown(rate.get('t'), '11.0f')} "
            f"{shown(best(n.training)):>7} {shown(memory):>16}"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--minutes", type=float, default=9.5, help="leave out what does not fit in any more")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--rehearse", action="store_true", help="all steps on the CPU at tiny sizes; figures mean nothing")
    given = parser.parse_args()
    if not given.rehearse and not torch.cuda.is_available():
        print("there is no GPU here: nothing was measured", file=sys.stderr)
        return 2
    bench = Bench(given.rehearse, given.batch, given.minutes)
    name = "rehearsal" if given.rehearse else torch.cuda.get_device_name()
    bandwidth = bench.bandwidth()
    regions, networks = run(bench, given.networks)
    document = {
        "device": name, "torch": torch.__version__, "batch": bench.batch, "copy_bytes_per_second": bandwidth,
        "regions": [asdict(r) for r in regions], "networks": [asdict(n) for n in networks],
    }  # fmt: skip
    given.json.write_text(json.dumps(document, indent=1))
    wrong = [r for r in regions if not max(r.errors) <= LIMITS[torch.bfloat16]]
    head = f"{name}, torch {torch.__version__}, batch {bench.batch}, bfloat16"
    print("\n".join([head, "", *table(regions, networks, bandwidth)]))
    for r in wrong:
        print(f"WRONG: {r.network}.{r.operator} at {r.shapes}: {max(r.errors):.1e}")
    return 1 if wrong and not given.rehearse else 0


if __name__ == "__main__":
    sys.exit(main())
