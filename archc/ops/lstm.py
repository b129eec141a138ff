"""Long short-term memory along a sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.ir.sym import Const, Scalar, apply
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Check, Code, Init, Op, OpError, Reach, Weight, arg
from archc.ops.checks import fixed, floating, result_type, whole
from archc.ops.emission import bound, call, fold, options
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Lstm(Op):
    """Layers of LSTM along the one position axis, from zeros; `both` adds the opposite direction to C.

        i, f, g, o = W x[t] + b + U h[t-1] + d      c[t] = sigmoid(f) c[t-1] + sigmoid(i) tanh(g)
        h[t] = sigmoid(o) tanh(c[t])

    The weights are stored as torch stores them, i f g o one below the other. Per step, layer and direction:
    MACs: 4 (in + size) size. FLOPs: 21 size (12 additions within the gates, 5 functions, 3 products, 1 sum).
    """

    name: ClassVar[str] = "lstm"
    attributes: ClassVar[dict[str, str]] = {"size": "hidden_size", "layers": "num_layers"}
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, N, C=4] -> lstm(x, 3)",
        "x: [B, C=4, T] -> lstm(x, 3, layers=2, both=true)",
        "x: [B, objects=2, N, C=4] -> lstm(x, 2)",
        "x: [N, C=4] -> lstm(x, 2)",
    )
    size: Any = arg("int")
    layers: Any = arg("int", 1)
    both: Any = arg("bool", False)

    @property
    def _directions(self) -> int:
        return 2 if self.both.value else 1

    def _width(self) -> Dim:
        """The channels of a layer's output."""
        if isinstance(self.both.sym, Const):
            return Dim.of(self.size) * self._directions
        factor = apply("if", self.both.sym, Const(2), Const(1))
        return Dim.of(self.size) * Scalar(self._directions, factor)

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        floating(x, "`lstm`")
        fixed(x, "C", "`lstm`")
        if len(x.positions) != 1:
            names = ", ".join(axis.name for axis in x.positions) or "none"
            raise OpError(
                f"`lstm` runs along one position axis, and {x} has {names}",
                "E0303",
                help='merge positions with `rearrange("H W -> N=(H W)")`, or move one into the batch',
            )
        whole(self.size, "size")
        if whole(self.layers, "layers") > 1024:
            raise OpError(
                f"`layers` is {self.layers.value}, and at most 1024 are made", "E0213", argument="layers"
            )
        check.at_least(x.positions[0].size, 1, "`lstm` needs at least one step")
        return (x.resized(C=self._width()),)

    # ---- weights and cost

    def _parts(self) -> Iterator[tuple[int, str]]:
        """Each layer and direction, as the end of its weights' names."""
        for layer in range(self.layers.value):
            yield layer, f"l{layer}"
            if self.both.value:
                yield layer, f"l{layer}_reverse"

    def weights(self, x: TensorType) -> tuple[Weight, ...]:
        bound = Scalar(self.size.value**-0.5, apply("**", self.size.sym, Const(-0.5)))
        init = Init("uniform", (Scalar(-bound.value, apply("neg", bound.sym)), bound))
        gates, size = Axis("gates", Dim.of(4) * self.size), Axis("size", Dim.of(self.size))
        rows = []
        for layer, end in self._parts():
            given = Axis("in", x["C"].dim if layer == 0 else self._width())
            shapes = (
                ("weight_ih", (gates, given)),
                ("weight_hh", (gates, size)),
                ("bias_ih", (gates,)),
                ("bias_hh", (gates,)),
            )
            rows += [Weight(f"{name}_{end}", axes, init) for name, axes in shapes]
        return tuple(rows)

    def _steps(self, x: TensorType) -> Size:
        return x.without("C").elements

    def macs(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        (x,), size = xs, self.size.value
        later = 4 * (size * self._directions + size) * size * (self.layers.value - 1)
        return self._steps(x) * ((x["C"].size + size) * 4 * size + later) * self._directions

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return self._steps(xs[0]) * (21 * self.size.value * self.layers.value * self._directions)

    def reach(
        self, axis: str, operand: int, xs: Sequence[TensorType], ys: Sequence[TensorType]
    ) -> Reach | None:
        return None

    # ---- PyTorch

    def module(self, code: Code, x: TensorType) -> str:
        numbers = options(code, ("num_layers", self.layers, 1))
        ways = options(code, ("bidirectional", self.both, False))
        sizes = [code.number(x["C"].dim), code.number(self.size)]
        return call("nn.LSTM", sizes, numbers, "batch_first=True", ways)

    def torch(self, code: Code, x: Operand) -> Operand:
        result = result_type(self, x)
        x = x.merged(code)
        along = x.type.positions[0].name
        ride = tuple(name for name in x.order if name not in (along, "C"))
        x = x.to((*ride, along, "C"))
        given, unfold = fold(code, x, len(ride), 1)
        if not code.functional:
            return Operand(f"{code.child}({given})[0]{unfold}", result, x.order)
        rows = bound(code, Operand(given, x.type, x.order), "rows")
        layers = (
            code.number(self.layers) if self._directions == 1 else str(self._directions * self.layers.value)
        )
        start = code.let(f"{rows}.new_zeros({layers}, {rows}.shape[0], {code.number(self.size)})", "start")
        names = ", ".join(code.weight(weight.name) for weight in self.weights(x.type))
        tail = f"True, {code.number(self.layers)}, 0.0, self.training, {code.number(self.both)}, True"
        return Operand(
            f"torch.lstm({rows}, ({start}, {start}), [{names}], {tail})[0]{unfold}", result, x.order
        )

    # ---- meaning

    def reference(self, run: Run, x: Named) -> Named:
        (along,) = (name for name in x.names if name[0].isupper() and name not in ("B", "C"))
        ride = tuple(name for name in x.names if name not in (along, "C"))
        steps = list(x.to((along, *ride, "C")))
        for layer in range(self.layers.value):
            ways = [self._scan(run, steps, f"l{layer}")]
            if self.both.value:
                ways.append(self._scan(run, steps[::-1], f"l{layer}_reverse")[::-1])
            steps = [run.torch.cat(parts, -1) for parts in zip(*ways, strict=True)]
        return run.named(run.torch.stack(steps), (along, *ride, "C"))

    def _scan(self, run: Run, steps: list[Any], end: str) -> list[Any]:
        """The states of one layer in one direction."""

        def sigmoid(value: Any) -> Any:
            return 1 / (1 + run.torch.exp(-value))

        state = memory = steps[0].new_zeros(*steps[0].shape[:-1], self.size.value)
        states = []
        for step in steps:
            gates = step @ run.weight(f"weight_ih_{end}").T + run.weight(f"bias_ih_{end}")
            gates = gates + state @ run.weight(f"weight_hh_{end}").T + run.weight(f"bias_hh_{end}")
            i, f, g, o = gates.chunk(4, -1)
            memory = sigmoid(f) * memory + sigmoid(i) * run.torch.tanh(g)
            state = sigmoid(o) * run.torch.tanh(memory)
            states.append(state)
        return states
