"""More places at the ends of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import Const, Scalar, size_of
from archc.ir.types import Dim, TensorType
from archc.ops.base import Check, Code, OpError, Reach, arg, need
from archc.ops.checks import choice, result_type, shown
from archc.ops.emission import bound
from archc.ops.move import integer, items
from archc.ops.split import Layout
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


@dataclass(frozen=True)
class Pad(Layout):
    """More places at both ends of axes: `H=(a, b)` puts a before and b behind, `H=n` n at both.

    `mode` is "zeros" (or, with `value`, another number), "reflect" (the edge itself is not repeated),
    "replicate" or "circular".
    """

    name: ClassVar[str] = "pad"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> pad(x, H=(1, 2), W=1)",
        'x: [B, C=4, H, W] -> pad(x, W=(2, 0), mode="reflect")',
        'x: [B, C=4, H, W] -> pad(x, H=1, mode="replicate")',
        'x: [B, C=4, N] -> pad(x, N=(0, 3), C=1, mode="circular")',
        "x: [B, C=4, N] -> pad(x, N=2, value=-1.5)",
    )
    amounts: Any = arg("sizes")
    mode: Any = arg("str", "zeros")
    value: Any = arg("float", 0)

    def ends(self) -> dict[str, tuple[Scalar, Scalar]]:
        """(before, behind) for each padded axis. Raises OpError."""
        if not self.amounts:
            raise OpError("`pad` needs an axis with its amount", "E0204", help="write `pad(x, H=(before, behind))`")
        ends = {}
        for name, given in self.amounts.items():
            pair = items(given)
            if pair is None:
                pair = (given, given)
            if len(pair) != 2:
                raise OpError(f"`{name}` is padded by one number or by two, not {len(pair)}", "E0213", argument=name)
            ends[name] = (integer(pair[0], name, 0), integer(pair[1], name, 0))
        return ends

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        mode = choice(self.mode, "mode", ("zeros", "reflect", "replicate", "circular"))
        value = self.value.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OpError(f"`value` must be a number, and is {shown(self.value)}", "E0213", argument="value")
        if value != 0 and mode != "zeros":
            raise OpError(f'`value` is for the mode "zeros", and the mode is "{mode}"', "E0213", argument="value")
        if x.dtype == "int" and isinstance(value, float):
            raise OpError(f"{x} holds whole numbers, and the padding is {value}", "E0305", argument="value")
        if x.dtype == "bool" and value != 0:
            raise OpError(f"{x} holds truth values, which are padded by false", "E0305", argument="value")
        dims: dict[str, Dim | Size | int] = {}
        for name, (before, behind) in self.ends().items():
            dim = need(x, name, "`pad`").dim
            for end in (before, behind):
                if isinstance(end.value, Size):
                    check.at_least(end.value, 0, f"`pad` adds to {name}", "E0213")
                least = {"zeros": 0, "reflect": size_of(end) + 1, "replicate": 1, "circular": size_of(end)}[mode]
                if mode != "zeros" and end.value != 0:
                    check.at_least(
                        dim.size,
                        least,
                        f'padding {name} by {end.value} in the mode "{mode}" needs as many places',
                    )
            dims[name] = dim + before + behind
        return (x.resized(**dims),)

    def saved(self, x: TensorType) -> str:
        return "operands" if self.mode.value in ("reflect", "replicate") else ""

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        if axis not in self.amounts:
            return Reach(axis)
        before = self.ends()[axis][0].value
        if not isinstance(before, int) or self.mode.value != "zeros":
            return None
        return Reach(axis, 1, -before, -before)

    # ---- PyTorch

    def torch(self, code: Code, x: Operand) -> Operand:
        type = result_type(self, x)
        x = x.merged(code)
        ends = self.ends()
        if self.mode.value == "zeros" or (all(name in x.order[-2:] for name in ends) and len(x.order) in (3, 4)):
            return replace(self._whole(code, x, ends), type=type)
        # In these modes torch pads only the last axes, and of some ranks: one gather for each axis does all.
        for name, (before, behind) in ends.items():
            parts = (code.extent(x, name), code.number(before), code.number(behind), f'"{self.mode.value}"')
            at = x.at(name)
            x = bound(code, x, "x")
            index = f"{code.helper('pad_index')}({', '.join(parts)}, {x}.device)"
            x = replace(x, text=f"{x}.index_select({at}, {index})", binding=ATOM)
        return replace(x, type=type)

    def _whole(self, code: Code, x: Operand, ends: dict[str, tuple[Scalar, Scalar]]) -> Operand:
        """One call of F.pad, whose list starts with the innermost axis."""
        outermost = min(x.at(name) for name in ends)
        if self.mode.value != "zeros":
            last = len(x.order) == 3 and all(name == x.order[-1] for name in ends)
            outermost = len(x.order) - (1 if last else 2)
        amounts: list[str] = []
        for name in reversed(x.order[outermost:]):
            amounts += [code.number(end) for end in ends[name]] if name in ends else ["0", "0"]
        extra = ""
        if self.mode.value != "zeros":
            extra = f', mode="{self.mode.value}"'
        elif self.value.value != 0 or not isinstance(self.value.sym, Const):
            extra = f", value={code.number(self.value)}"
        return replace(x, text=f"F.pad({x}, ({', '.join(amounts)}){extra})", binding=ATOM)

    # ---- meaning

    def reference(self, run: Run, x: Named) -> Named:
        torch, data, order = run.torch, x.data, x.names
        mode = run.number(self.mode)
        for name, (before, behind) in self.ends().items():
            at, n = x.at(name), x.size(name)
            pieces = []
            for place in range(-run.number(before), n + run.number(behind)):
                if 0 <= place < n:
                    pieces.append(data.select(at, place))
                elif mode == "zeros":
                    edge = list(data.shape)
                    del edge[at]
                    pieces.append(torch.full(edge, run.number(self.value), dtype=data.dtype))
                elif mode == "circular":
                    pieces.append(data.select(at, place % n))
                elif mode == "replicate":
                    pieces.append(data.select(at, 0 if place < 0 else n - 1))
                else:
                    pieces.append(data.select(at, -place if place < 0 else 2 * (n - 1) - place))
            data = torch.stack(pieces, at) if pieces else data
        return run.named(data, order)
