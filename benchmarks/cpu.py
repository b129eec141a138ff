"""archc's module on a CPU against the published one: torch.compile, ONNX Runtime, OpenVINO; and the operator alone.

    pip install -c constraints.txt '.[torch,onnx,bench]'
    python benchmarks/cpu.py --official van.py [--specs van_b0 van_b2] [--batches 1 8] [--dtypes float32 bfloat16]

`--official` is `models/van.py` of Visual-Attention-Network/VAN-Classification; what it imports of timm is stood in for.
Both modules hold the same weights. All variants of a line run in turn in one process, the order reversed every round;
a ratio is the median over the rounds of official / ours, with quartiles; `deploy` is ours with its weights folded.
`--clock cpu` (with one thread) does not feel
what else the machine does; `--clock wall` is what a user waits for, on a machine that is left alone.
Errors are norms of differences from the official module in float64, as shares of its norm.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
import torch._inductor.config
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent.parent))

from archc import driver
from archc.export import export_onnx, network
from archc.weights.keys import state_dict
from archc.weights.plan import fill_weights, plan

Run = Callable[[], Any]
# Batch, channels and side of the maps of VAN-B0 and VAN-B2.
SHAPES = [(b, c, n) for b in (1, 8) for c, n in ((32, 56), (64, 56), (64, 28), (128, 28), (160, 14), (320, 14), (512, 7))]


def official(path: Path, name: str) -> nn.Module:
    """The published module, with statistics and scales as after some training."""
    for place in ("timm", "timm.models", "timm.models.layers", "timm.models.registry", "timm.models.vision_transformer"):
        sys.modules.setdefault(place, types.ModuleType(place))
    layers: Any = sys.modules["timm.models.layers"]
    layers.DropPath, layers.to_2tuple, layers.trunc_normal_ = nn.Identity, lambda n: (n, n), nn.init.trunc_normal_
    sys.modules["timm.models.registry"].register_model = lambda made: made  # type: ignore[attr-defined]
    sys.modules["timm.models.vision_transformer"]._cfg = lambda **_: {}  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("official", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    net = getattr(module, name)(drop_path_rate=0.0).eval()
    for one in net.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.running_mean.normal_(0, 0.1), one.running_var.uniform_(1, 2)
            nn.init.uniform_(one.weight, 0.5, 1), nn.init.normal_(one.bias, 0, 0.1)
    for key, weight in net.named_parameters():
        if "layer_scale" in key:
            nn.init.uniform_(weight, 0.02, 0.22)
    return net


def measured(runs: dict[str, Run], rounds: int, clock: Callable[[], float], least: float) -> dict[str, list[float]]:
    """Seconds of each, in turn; as many calls at once as take `least` seconds."""
    calls = {}
    for name, run in runs.items():
        run()
        begin = clock()
        run()
        calls[name] = max(1, round(least / max(clock() - begin, 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs) if number % 2 else list(runs)[::-1]:
            begin = clock()
            for _ in range(calls[name]):
                runs[name]()
            found[name].append((clock() - begin) / calls[name])
    return found


def ratio(a: list[float], b: list[float]) -> dict[str, float]:
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return {"ratio": median(ratios), "low": low, "high": high, "ms": median(b) * 1e3}


def shown(one: dict[str, float]) -> str:
    return f"{one['ratio']:5.2f} [{one['low']:.2f} {one['high']:.2f}]"


# ---- the operator


def operator(options: argparse.Namespace, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """A dilated 7 x 7 depthwise convolution, as F.conv2d and as archc writes it."""
    text = "model net() {{ input x: [B, C=8, H, W]\n output y = x |> far: conv(8, 7, dilation=3, groups=8) }}\nnet = net()\n"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.arch"
        path.write_text(text.replace("{{", "{\n").replace("}}", "\n}").replace("net = net", "one = net"))
        spec = driver.load_spec(str(path))
        with network(driver.compile_variant(spec, driver.only(spec)), None) as net:
            ours = sys.modules[type(net).__module__].dilated_depthwise
            for dtype in options.dtypes:
                for layout in ("contiguous_format", "channels_last"):
                    for batch, channels, side in SHAPES:
                        rows.append(_operator(ours, dtype, layout, batch, channels, side, options.rounds, clock))
                        print("  ".join(f"{rows[-1][k]!s:>{w}}" for k, w in (("dtype", 8), ("layout", 17), ("shape", 14))),
                              f"  inference {shown(rows[-1]['inference'])}   training {shown(rows[-1]['training'])}",
                              flush=True)  # fmt: skip
    return rows


def _operator(
    ours: Any, dtype: str, layout: str, batch: int, channels: int, side: int, rounds: int, clock: Callable[[], float]
) -> dict[str, Any]:
    kind, form = getattr(torch, dtype), getattr(torch, layout)
    x = torch.randn(batch, channels, side, side, dtype=kind).contiguous(memory_format=form).requires_grad_()
    weight = torch.randn(channels, 1, 7, 7, dtype=kind, requires_grad=True)
    bias, given = torch.randn(channels, dtype=kind, requires_grad=True), torch.randn_like(x)

    def plain() -> Tensor:
        return F.conv2d(x, weight, bias, 1, 9, 3, channels)

    def fast() -> Tensor:
        return ours(x, weight, bias, 9, 3)

    def inference(function: Callable[[], Tensor]) -> Run:
        def run() -> None:
            with torch.no_grad():
                function()

        return run

    def training(function: Callable[[], Tensor]) -> Run:
        return lambda: torch.autograd.grad(function(), (x, weight, bias), given)

    row: dict[str, Any] = {"dtype": dtype, "layout": layout, "shape": f"{batch}x{channels}x{side}x{side}"}
    for name, way in (("inference", inference), ("training", training)):
        found = measured({"plain": way(plain), "fast": way(fast)}, rounds, clock, 4e-3)
        row[name] = ratio(found["plain"], found["fast"])
    return row


# ---- networks


def networks(options: argparse.Namespace, clock: Callable[[], float]) -> list[dict[str, Any]]:
    rows = []
    for name in options.specs:
        theirs = official(options.official, name)
        spec = driver.load_spec(name)
        module = driver.compile_variant(spec, driver.only(spec))
        deployed = driver.compile_variant(spec, driver.only(spec), deploy=True)
        program, tensors = module.checked.program, theirs.state_dict()
        placed = plan(program.rules, {k: tuple(t.shape) for k, t in tensors.items()}, state_dict(program), program.span)
        weights = {**fill_weights(placed, tensors)}
        weights |= {key: torch.zeros((), dtype=torch.int64) for key in placed.missing}
        with network(module, weights) as ours, network(deployed, weights) as folded:
            for batch in options.batches:
                x = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))
                with torch.no_grad():
                    wanted = theirs.double()(x.double())
                theirs.float()
                sizes = {"B": batch, "H": 224, "W": 224}
                nets = {"official": theirs, "ours": ours, "deploy": folded}
                files = {"official": _published(theirs, x), "ours": export_onnx(ours, program, sizes).content}
                files["deploy"] = export_onnx(folded, deployed.checked.program, sizes).content
                for dtype in options.dtypes:
                    for way, (runs, outputs) in ways(nets, files, x, dtype, options.threads).items():
                        found = measured(runs, options.rounds, clock, options.least)
                        error = {k: ((y.double() - wanted).norm() / wanted.norm()).item() for k, y in outputs.items()}
                        row: dict[str, Any] = {"spec": name, "batch": batch, "dtype": dtype, "way": way, "errors": error}
                        rows.append(row | {k: ratio(found["official"], found[k]) for k in ("ours", "deploy")})
                        print(f"{name}  batch {batch}  {dtype:<8}  {way:<13}",
                              *(f"{k} {shown(rows[-1][k])} {rows[-1][k]['ms']:8.1f} ms" for k in ("ours", "deploy")),
                              "errors", *(f"{one:.1e}" for one in error.values()), sep="  ", flush=True)  # fmt: skip
    return rows


def _published(net: nn.Module, x: Tensor) -> bytes:
    made = torch.onnx.export(net, (x,), dynamo=True, verbose=False)
    assert made is not None
    return made.model_proto.SerializeToString()


Way = tuple[dict[str, Run], dict[str, Tensor]]


def ways(nets: dict[str, nn.Module], files: dict[str, bytes], x: Tensor, dtype: str, threads: int) -> dict[str, Way]:
    """What runs each network, by its name, and what it gives."""
    import copy

    kind = getattr(torch, dtype)
    made: dict[str, Way] = {}
    given = x.to(kind)
    for way in ("eager", "torch.compile"):
        kinds: dict[str, Any] = {k: copy.deepcopy(net).to(kind) for k, net in nets.items()}
        if way == "torch.compile":
            torch._dynamo.reset()
            kinds = {k: torch.compile(net, fullgraph=True) for k, net in kinds.items()}
        made[way] = _runs({k: (lambda net=net: net(given)) for k, net in kinds.items()})
    import numpy as np
    import openvino

    core = openvino.Core()
    hint = {"INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype], "INFERENCE_NUM_THREADS": threads}
    requests = {k: core.compile_model(core.read_model(f), "CPU", hint).create_infer_request() for k, f in files.items()}

    def infer(request: Any) -> Tensor:
        return torch.from_numpy(np.array(next(iter(request.infer([x.numpy()]).values()))))

    made["OpenVINO"] = _runs({k: (lambda r=r: infer(r)) for k, r in requests.items()})
    if dtype == "float32":
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.log_severity_level = threads, 3
        sessions = {k: onnxruntime.InferenceSession(f, settings, ["CPUExecutionProvider"]) for k, f in files.items()}

        def session(one: Any) -> Tensor:
            return torch.from_numpy(one.run(None, {one.get_inputs()[0].name: x.numpy()})[0])

        made["ONNX Runtime"] = _runs({k: (lambda s=s: session(s)) for k, s in sessions.items()})
    return made


def _runs(calls: dict[str, Callable[[], Tensor]]) -> Way:
    def quiet(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.no_grad():
                return call()

        return run

    runs = {name: quiet(call) for name, call in calls.items()}
    return runs, {name: run() for name, run in runs.items()}  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, help="The published models/van.py; without it, the operator alone.")
    parser.add_argument("--specs", nargs="+", default=["van_b0", "van_b2"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    parser.add_argument("--least", type=float, default=0.1, help="Seconds that a measurement takes at least.")
    parser.add_argument("--no-operator", action="store_true", help="The networks alone.")
    parser.add_argument("--json", type=Path, help="Where to write everything.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch._inductor.config.freezing = True
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    print(f"official / ours: median [quartiles] of {options.rounds} rounds, {options.clock} time, {options.threads} threads")
    rows = [] if options.no_operator else operator(options, clock)
    rows += networks(options, clock) if options.official else []
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
