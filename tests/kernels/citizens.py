"""What PyTorch asks of an operator, asked of fused ones in Triton's interpreter: prints a JSON object of outcomes.

    python tests/kernels/citizens.py FOLDER

writes modules with kernels into FOLDER and runs every check below; the outcome is "" where all is well, else the error.
A process of its own, because Triton reads its settings when it is imported.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

from archc import driver

HERE = Path(__file__).parent
CHECKS: dict[str, Callable[[Any], None]] = {}


def check(run: Callable[[Any], None]) -> Callable[[Any], None]:
    CHECKS[run.__name__] = run
    return run


def load(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Given:
    """Two modules with the same operators, a network of the first one, its input, and what its PyTorch path gives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = driver.load_spec(str(HERE / "citizens.arch"))
        for name in spec.variants:
            (folder / f"{name}.py").write_text(driver.compile_variant(spec, name, kernels=True).text)
        self.module, self.other = (load(folder / f"{name}.py", name) for name in spec.variants)
        torch.manual_seed(0)
        self.net, self.x = self.module.citizen_1(), torch.randn(2, 3, 12, 8)
        self.operators = {k: v for k, v in vars(self.module).items() if isinstance(v, self.module.FusedOp)}
        with plain():
            self.y = self.net(self.x).detach()
            self.grads = gradients(self.net, self.x)


class plain:
    """Kernels off."""

    def __enter__(self) -> None:
        os.environ["ARCHC_KERNELS"] = "0"

    def __exit__(self, *_: object) -> None:
        os.environ.pop("ARCHC_KERNELS")


def gradients(net: Any, x: Tensor) -> list[Tensor]:
    net.zero_grad()
    net(x).square().sum().backward()
    return [p.grad.clone() for p in net.parameters()]


def close(a: Any, b: Any, bound: float = 1e-5) -> None:
    for mine, theirs in zip(a, b, strict=True):
        worst = ((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6)).item()
        assert worst < bound, worst


def calls(given: Given, run: Callable[[], Any]) -> dict[str, int]:
    """How often `run` calls the kernels of each operator."""
    counts = dict.fromkeys(given.operators, 0)
    whole = {name: operator.op for name, operator in given.operators.items()}

    def counted(name: str) -> Any:
        def call(*args: Any) -> Any:
            counts[name] += 1
            return whole[name](*args)

        return call

    for name, operator in given.operators.items():
        operator.op = counted(name)
    try:
        run()
    finally:
        for name, operator in given.operators.items():
            operator.op = whole[name]
    return counts


# ---- the checks


@check
def kernels_run_and_agree(given: Given) -> None:
    counts = calls(given, lambda: close([given.net(given.x)], [given.y]))
    assert len(counts) == 5 and all(counts.values()), counts
    close(gradients(given.net, given.x), given.grads)


@check
def one_variable_switches_kernels_off(given: Given) -> None:
    def off() -> None:
        with plain():
            given.net(given.x)

    assert not any(calls(given, off).values())


@check
def float64_is_left_to_pytorch(given: Given) -> None:
    net, x = copy.deepcopy(given.net).double(), given.x.double()

    def exact() -> None:
        y = net(x)
        with plain():
            close([y], [net(x)], 1e-14)

    assert not any(calls(given, exact).values())


@check
def opcheck(given: Given) -> None:
    seen: dict[str, Any] = {}
    for name, operator in given.operators.items():
        real = operator.op

        def note(tensors: Any, numbers: Any, name: str = name, real: Any = real) -> Any:
            seen[name] = [t.detach().clone().requires_grad_() for t in tensors], numbers
            return real(tensors, numbers)

        operator.op = note
        try:
            given.net(given.x)
        finally:
            operator.op = real
    for name, arguments in seen.items():
        found = torch.library.opcheck(given.operators[name].op, arguments)
        assert set(found.values()) == {"SUCCESS"}, (name, found)


@check
def compile_fullgraph(given: Given) -> None:
    compiled = torch.compile(given.net, fullgraph=True)
    close([compiled(given.x)], [given.y])
    close(gradients(compiled, given.x), given.grads)


@check
def export_with_dynamic_batch(given: Given) -> None:
    program = torch.export.export(given.net, (given.x,), dynamic_shapes=({0: torch.export.Dim("batch", max=64)},))
    assert any("depthwise" in str(node.target) for node in program.graph.nodes)
    path = given.folder / "exported.pt2"
    torch.export.save(program, path)
    close([torch.export.load(path).module()(torch.cat([given.x, given.x]))[:2]], [given.y])


@check
def aot_inductor(given: Given) -> None:
    program = torch.export.export(given.net, (given.x,))
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(given.folder / "package.pt2"))
    close([torch._inductor.aoti_load_package(path)(given.x)], [given.y])


@check
def vmap_over_networks(given: Given) -> None:
    several = [{k: v.detach() * (1 + i) for k, v in given.net.named_parameters()} for i in range(2)]
    stacked = {k: torch.stack([one[k] for one in several]) for k in several[0]}
    call = torch.func.functional_call
    got = torch.func.vmap(lambda weights: call(given.net, weights, (given.x,)))(stacked)
    close(got, [call(given.net, one, (given.x,)) for one in several])


@check
def vmap_of_an_operator(given: Given) -> None:
    operator = given.operators["linear_gelu"]
    x, weight, bias = torch.randn(3, 2, 8), torch.randn(4, 8), torch.randn(4)
    got = torch.func.vmap(lambda one: operator.op([one, weight, bias], [])[0])(x)
    close(got, [operator(one, weight, bias) for one in x])


@check
def transforms_of_functions(given: Given) -> None:
    weights = {k: v.detach() for k, v in given.net.named_parameters()}
    loss = lambda w: torch.func.functional_call(given.net, w, (given.x,)).square().sum()  # noqa: E731
    close(torch.func.grad(loss)(weights).values(), given.grads)


@check
def forward_derivatives_are_not_zero(given: Given) -> None:
    direction = torch.ones_like(given.x)
    _, pushed = torch.func.jvp(given.net, (given.x,), (direction,))
    with torch.autograd.forward_ad.dual_level():
        y = given.net(torch.autograd.forward_ad.make_dual(given.x, direction))
        close([torch.autograd.forward_ad.unpack_dual(y).tangent], [pushed])
    step = 1e-2
    with plain():
        quotient = (given.net(given.x + step * direction) - given.net(given.x - step * direction)) / (2 * step)
    close([pushed], [quotient], 1e-2)


@check
def second_derivatives_raise(given: Given) -> None:
    x = given.x.clone().requires_grad_()
    (first,) = torch.autograd.grad(given.net(x).square().sum(), x, create_graph=True)
    try:
        first.sum().backward()
    except RuntimeError as error:
        assert "backward" in str(error)
    else:
        raise AssertionError("a second derivative without an error")


@check
def autocast(given: Given) -> None:
    mixer, x = given.net.blocks[0].mixer, torch.randn(1, 8, 3, 2)
    with torch.autocast("cpu", torch.float16):
        mine = given.net(given.x), mixer(x)
        with plain():
            theirs = given.net(given.x), mixer(x)
    assert [t.dtype for t in mine] == [t.dtype for t in theirs] == [torch.float16, torch.float32]
    close([t.float() for t in mine], [t.float() for t in theirs], 5e-2)
    given.net.zero_grad()
    mine[0].float().sum().backward()
    assert {p.grad.dtype for p in given.net.parameters() if p.grad is not None} == {torch.float32}


@check
def activation_checkpointing(given: Given) -> None:
    given.net.set_grad_checkpointing(True)
    try:
        close(gradients(given.net, given.x), given.grads)
    finally:
        given.net.set_grad_checkpointing(False)


@check
def flop_counter(given: Given) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    totals = []
    for device in ("cpu", "meta"):  # where no convolution is taken apart for the sake of CPUs
        with FlopCounterMode(display=False) as counter:
            copy.deepcopy(given.net).to(device)(given.x.to(device))
        totals.append(counter.get_total_flops())
    assert totals[0] == totals[1] > 0, totals


@check
def deterministic(given: Given) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        first, second = gradients(given.net, given.x), gradients(given.net, given.x)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@check
def copies(given: Given) -> None:
    for net in (copy.deepcopy(given.net), pickle.loads(pickle.dumps(given.net))):
        close([net(given.x)], [given.y])


@check
def several_files_together(given: Given) -> None:
    again = load(given.folder / "citizen_1.py", "again").citizen_1()
    again.load_state_dict(given.net.state_dict())
    close([again(given.x), given.net(given.x)], [given.y, given.y])
    close(gradients(given.net, given.x), given.grads)
    assert given.other.citizen_2()(given.x).shape == given.y.shape


@check
def distributed_data_parallel(given: Given) -> None:
    distributed(given, "ddp")


@check
def fully_sharded(given: Given) -> None:
    distributed(given, "fsdp")


def distributed(given: Given, kind: str) -> None:
    """Two processes with half of the batch each have the gradients of the whole."""
    store = f"file://{given.folder}/{kind}.store"
    torch.multiprocessing.spawn(_rank, (kind, store, given.net, given.x, given.grads), nprocs=2)


def _rank(rank: int, kind: str, store: str, net: Any, x: Tensor, grads: list[Tensor]) -> None:
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.set_num_threads(1)
    try:
        if kind == "ddp":
            whole = torch.nn.parallel.DistributedDataParallel(net)
        else:
            from torch.distributed.fsdp import fully_shard

            mesh = torch.distributed.init_device_mesh("cpu", (2,))
            for block in net.blocks:
                fully_shard(block, mesh=mesh)
            whole = fully_shard(net, mesh=mesh)
        whole(x[rank : rank + 1]).square().sum().backward()
        found = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for p in net.parameters()]
        close([2 * g for g in found], grads)
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
    # Gloo's threads outlive the group and may still let go of a tensor while the interpreter is torn down, which
    # aborts the process now and then (pytorch/pytorch#179291): everything has been checked, so none of that is run.
    sys.stdout.flush()
    os._exit(0)


def main(folder: Path) -> None:
    sys.path.insert(0, str(folder))
    given, outcomes = Given(folder), {}
    for name, run in CHECKS.items():
        try:
            run(given)
            outcomes[name] = ""
        except Exception:
            outcomes[name] = traceback.format_exc()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
