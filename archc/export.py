"""A generated module as an ONNX file, by torch.onnx, and what ONNX Runtime computes from it beside what the module does.

torch and the packages of the extra `onnx` are imported when something is exported.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Any

from archc.diagnostics import fail
from archc.driver import Module
from archc.ir.program import Program
from archc.records import dataclass
from archc.trials import Sizes, loaded, make, named_outputs, random_inputs
from archc.weights.keys import state_dict

# ONNX Runtime and OpenVINO compute in float32; sums are taken in another order than torch takes them.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Exported:
    """`open` are the symbols whose sizes the file leaves open. `nodes` counts its operators."""

    content: bytes
    opset: int
    nodes: int
    open: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """How far `runtime` is from the module: the norm of the difference as a share of the norm of the output."""

    runtime: str
    outputs: Mapping[str, float]

    @property
    def worst(self) -> float:
        return max(self.outputs.values())


@contextmanager
def network(module: Module, weights: Mapping[str, Any] | None) -> Iterator[Any]:
    """The module in float32 and evaluation, with `weights` or as it starts. Raises ArchError E0601.

    A deploy build takes the weights of the network as it was trained, which its file folds, or weights folded before.
    """
    import torch

    program, deployed = module.checked.program, module.deployed
    with loaded(module.text) as file:
        torch.manual_seed(0)
        net = make(file, program, "float32")
        if weights is not None:
            held = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
            folding = deployed is not None and weights.keys() != held.keys()
            if deployed is not None and folding:
                held = {key: weight.shape for key, weight in state_dict(deployed.trained).items()}
            missing = [key for key in held if key not in weights]
            found = [key for key in weights if key not in held]
            found += [key for key in held if key in weights and held[key] != tuple(weights[key].shape)]
            if missing or found:
                one = f"has no `{missing[0]}`" if missing else f"has `{found[0]}`, which is not that of the module"
                raise fail(
                    "E0601",
                    f"the weights are not those of `{program.name}`: the file {one}",
                    helps=(f"archc convert-weights {module.address} ... makes such a file of a published checkpoint",),
                )
            net.load_state_dict(file.fold_weights(dict(weights)) if folding else dict(weights))
        yield net


def inputs_of(program: Program, sizes: Sizes) -> dict[str, Any]:
    """Random inputs at `sizes`, by the names of the arguments of `forward`; optional ones are left out."""
    from archc.backend.python import identifier

    values = {i.name: i.value for i in program.inputs if i.default is None}
    return {
        identifier(name): value.float() if value.is_floating_point() else value
        for name, value in random_inputs(values, sizes, program.root).items()
    }


def export_onnx(net: Any, program: Program, sizes: Sizes, open: Sequence[str] = ()) -> Exported:
    """`net` as ONNX with the input sizes `sizes`, of which those of the symbols `open` stay open.

    Raises ArchError E0922 where torch cannot export it so, and ModuleNotFoundError without onnxscript.
    """
    import torch

    import_module("onnxscript")
    given = inputs_of(program, sizes)
    shapes = {
        name: {at: torch.export.Dim.AUTO for at, axis in enumerate(value.type.axes) if str(axis.size) in open}
        for name, value in zip(given, (i.value for i in program.inputs if i.default is None), strict=True)
    }
    try:
        with _quiet(), torch.no_grad(), _rewritten():
            made = torch.onnx.export(
                net.eval(),
                kwargs=given,
                dynamo=True,
                dynamic_shapes=shapes if open else None,
                input_names=list(given),
                output_names=[o.name for o in program.outputs if o.when != "training" and o.kind != "loss"],
                verbose=False,
            )
            assert made is not None
            content = made.model_proto.SerializeToString()
    except (RuntimeError, ValueError, TypeError, torch.onnx.OnnxExporterError) as error:
        why = " ".join(str(error.__cause__ or error).split())[:300]
        raise fail("E0922", f"`{program.name}` cannot be exported as ONNX", program.span, why) from None
    fixed = [name for name in open if not _left_open(made.model, program, name)]
    if fixed:
        raise fail(
            "E0922",
            f"`{program.name}` cannot leave {' and '.join(fixed)} open: torch found that it must be one number",
            program.span,
            helps=("export it for each size that is needed: --size",),
        )
    return Exported(content, made.model.opset_imports[""], len(made.model.graph), tuple(open))


def compare(content: bytes, net: Any, program: Program, sizes: Sizes) -> Compared:
    """The file in ONNX Runtime against the module. Raises ModuleNotFoundError without onnxruntime."""
    import torch

    onnxruntime = import_module("onnxruntime")

    given = inputs_of(program, sizes)
    with torch.no_grad():
        wanted = named_outputs(program, net(**given))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.numpy() for name, value in given.items()})
    outputs = {}
    for (name, value), other in zip(_flat(wanted), found, strict=True):
        value, other = value.double(), torch.from_numpy(other).double()
        outputs[name] = ((value - other).norm() / value.norm().clamp_min(1e-30)).item()
    return Compared(f"ONNX Runtime {onnxruntime.__version__}", outputs)


def _flat(outputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in outputs.items():
        if isinstance(value, (tuple, list)):
            yield from ((f"{name}[{at}]", one) for at, one in enumerate(value))
        else:
            yield name, value


def _left_open(model: Any, program: Program, symbol: str) -> bool:
    values = (i.value for i in program.inputs if i.default is None)
    for made, value in zip(model.graph.inputs, values, strict=True):
        for size, axis in zip(made.shape, value.type.axes, strict=True):
            if str(axis.size) == symbol and isinstance(size, int):
                return False
    return True


@contextmanager
def _rewritten() -> Iterator[None]:
    """Norms over the last of four axes see three, with one axis of positions, for which OpenVINO has a kernel.

    A norm of the channels of [B, C, H, W], which stands between two permutations in the module, is written as one of
    [B, H * W, C]: of that, OpenVINO makes no copies, and of the permutations it makes two.
    """
    from torch import Tensor
    from torch.nn import functional as F
    from torch.overrides import TorchFunctionMode

    class Rewritten(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            # By the identity of a tensor [B, H, W, C], which is kept: that, and the one of [B, C, H, W] with its values.
            self.maps: dict[int, tuple[Tensor, Tensor]] = {}

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is Tensor.permute and not kwargs:
                return self._permuted(args[0], *args[1:])
            if func is F.layer_norm and args[0].ndim == 4 and len(args[1]) == 1:
                return self._normed(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {}))

        def _permuted(self, x: Tensor, *dims: Any) -> Tensor:
            order = tuple(dims[0]) if len(dims) == 1 else dims
            if order == (0, 3, 1, 2) and id(x) in self.maps:
                return self.maps[id(x)][1]
            y = x.permute(order)
            if order == (0, 2, 3, 1):
                self.maps[id(y)] = y, x
            return y

        def _normed(self, x: Tensor, *others: Any, **keywords: Any) -> Tensor:
            if id(x) not in self.maps:
                return F.layer_norm(x.flatten(1, 2), *others, **keywords).unflatten(1, x.shape[1:3])
            given = self.maps[id(x)][1]
            tokens = F.layer_norm(given.flatten(2).transpose(1, 2), *others, **keywords)
            made = tokens.transpose(1, 2).unflatten(2, given.shape[2:])
            y = made.permute(0, 2, 3, 1)
            self.maps[id(y)] = y, made
            return y

    with Rewritten():
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx tells of its progress, and warns of packages that nothing here needs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
