"""Values that change their place: padding, rolling, flipping, and places picked along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import Const, Scalar, size_of
from archc.ir.types import Dim, TensorType
from archc.ops.base import Check, Code, OpError, Reach, arg, need
from archc.ops.checks import LARGEST, choice, distinct, result_type, shown
from archc.ops.split import Layout
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run


def integer(value: Any, argument: str, low: int = -LARGEST) -> Scalar:
    """A whole number, or a size that depends on the inputs. Raises OpError."""
    number = value.value if isinstance(value, Scalar) else None
    known = number.constant if isinstance(number, Size) else number
    if isinstance(number, Size) and known is None:
        return value
    if isinstance(known, bool) or not isinstance(known, int) or not low <= known <= LARGEST:
        said = shown(value) if isinstance(value, Scalar) else "something else"
        least = f" of at least {low}" if low > -LARGEST else ""
        raise OpError(f"`{argument}` must be a whole number{least}, and is {said}", "E0213", argument=argument)
    return value


def items(value: Any) -> tuple[Any, ...] | None:
    """The members of a pair or list, None for a single number."""
    if isinstance(value, tuple):
        return value
    return value.value if isinstance(value, Scalar) and isinstance(value.value, tuple) else None


@dataclass(frozen=True)
class Pad(Layout):
    """More places at both ends of axes: `H=(a, b)` puts a before and b behind, `H=n` n at both.

    `mode` is "zeros" (or, with `value`, another number), "reflect" (the edge itself is not repeated), "replicate" or
    "circular".
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
                least = {"zeros": 0, "reflect": size_of(end) + 1, "replicate": 1, "circular": size_of(end)}[mode]
                if mode != "zeros" and end.value != 0:
                    check.at_least(dim.size, least, f'padding {name} by {end.value} in the mode "{mode}" needs as many places')
            dims[name] = dim + before + behind
        return (x.resized(**dims),)

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
        if self.mode.value == "zeros" or all(name in x.order[-2:] for name in ends) and len(x.order) in (3, 4):
            return replace(self._whole(code, x, ends), type=type)
        # torch pads in these modes only the last axes of tensors of some ranks: one gather for each axis does all.
        for name, (before, behind) in ends.items():
            parts = (code.extent(x, name), code.number(before), code.number(behind), f'"{self.mode.value}"')
            at = x.at(name)
            x = replace(x, text=code.let(x.text, "x") if not x.text.isidentifier() else x.text, binding=ATOM)
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


@dataclass(frozen=True)
class Roll(Layout):
    """Every value moves by s places along an axis, round the end: y[i] = x[(i - s) mod n]."""

    name: ClassVar[str] = "roll"
    examples: ClassVar[tuple[str, ...]] = ("x: [B, C=4, H, W] -> roll(x, H=1, W=-2)", "x: [B, N] -> roll(x, N=9)")
    shifts: Any = arg("sizes")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        if not self.shifts:
            raise OpError("`roll` needs an axis with its shift", "E0204", help="write `roll(x, H=1)`")
        for name, shift in self.shifts.items():
            need(x, name, "`roll`")
            integer(shift, name)
        return (x,)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis in self.shifts else Reach(axis)

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        shifts = [code.number(shift) for shift in self.shifts.values()]
        dims = [str(x.at(name)) for name in self.shifts]
        if len(dims) == 1:
            text = f"{x.atom}.roll({shifts[0]}, {dims[0]})"
        else:
            text = f"{x.atom}.roll(({', '.join(shifts)}), ({', '.join(dims)}))"
        return replace(x, text=text, binding=ATOM)

    def reference(self, run: Run, x: Named) -> Named:
        data = x.data
        for name, shift in self.shifts.items():
            n, s = x.size(name), run.number(shift)
            data = data.index_select(x.at(name), run.torch.tensor([(i - s) % n for i in range(n)], dtype=run.torch.long))
        return run.named(data, x.names)


@dataclass(frozen=True)
class Flip(Layout):
    """Backwards along axes: y[i] = x[n - 1 - i]."""

    name: ClassVar[str] = "flip"
    examples: ClassVar[tuple[str, ...]] = ("x: [B, C=4, H, W] -> flip(x, H, W)", "x: [B, C=4] -> flip(x, C)")
    axes: Any = arg("axes")

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        if not self.axes:
            raise OpError("`flip` needs the axes to turn round", "E0302", help="write `flip(x, H)`")
        distinct(self.axes, "axes")
        for name in self.axes:
            need(x, name, "`flip`")
        return (x,)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return None if axis in self.axes else Reach(axis)

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        return replace(x, text=f"{x.atom}.flip({', '.join(str(x.at(name)) for name in self.axes)})", binding=ATOM)

    def reference(self, run: Run, x: Named) -> Named:
        data = x.data
        for name in self.axes:
            n = x.size(name)
            data = data.index_select(x.at(name), run.torch.tensor([n - 1 - i for i in range(n)], dtype=run.torch.long))
        return run.named(data, x.names)


@dataclass(frozen=True)
class Pick(Layout):
    """`x[N=1:]` a range, `x[C=0]` one place (the axis goes), `x[box=[1, 0, 2]]` several places in that order.

    Negative numbers count from the end. A range must lie within the axis: nothing is cut off in silence.
    """

    name: ClassVar[str] = "pick"
    operator: ClassVar[str] = "pick"
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, N, C=4] -> x[N=1:]",
        "x: [B, N, C=4] -> x[N=:2]",
        "x: [B, N, C=4] -> x[N=:-1]",
        "x: [B, N, C=4] -> x[C=0]",
        "x: [B, N, C=4] -> x[N=-1]",
        "x: [B, N, C=4] -> x[C=[1, 0, 3, 3]]",
    )
    axis: Any = arg("axis")
    start: Any = arg("any", None)
    stop: Any = arg("any", None)
    index: Any = arg("any", None)
    list: Any = arg("any", None)

    def _from_end(self, value: Scalar, size: Size) -> Size:
        """A place counted from the front."""
        number = size_of(value)
        return size + number if number.constant is not None and number.constant < 0 else number

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        axis = need(x, self.axis, "an index")
        size, name = axis.size, self.axis
        if self.index is not None:
            place = integer(self.index, "index")
            at = self._from_end(place, size)
            self._inside(check, size, at, f"there is no place {shown(place)} along {name}")
            return (x.without(name),)
        if self.list is not None:
            places = items(self.list) or ()
            if not 1 <= len(places) <= 100_000:
                raise OpError("an index lists at least one place", "E0213", argument="list")
            for place in places:
                place = integer(place, "list")
                self._inside(check, size, self._from_end(place, size), f"there is no place {shown(place)} along {name}")
            return (x.resized(**{name: len(places)}),)
        first, last = self._bounds(axis.dim)
        where = f"the range lies within {name}"
        for low, high in ((Size.of(0), first), (first, last), (last, size)):
            if low.constant is not None and high.constant is not None and low.constant > high.constant:
                raise OpError(f"the range {first} to {last} does not lie within {name} = {size}", "E0213", argument="stop")
            if low.constant != 0:
                check.at_least(high, low, where)
        return (x.resized(**{name: self._length(axis.dim)}),)

    def _inside(self, check: Check, size: Size, at: Size, why: str) -> None:
        known, place = size.constant, at.constant
        if known is not None and place is not None and not 0 <= place < known:
            raise OpError(f"{why}: it has {known}", "E0213", argument="index", label=f"0 to {known - 1} are legal")
        if place is None or place < 0:
            check.at_least(at, 0, why)
        check.at_least(size, at + 1, why)

    def _bounds(self, dim: Dim) -> tuple[Size, Size]:
        first = Size.of(0) if self.start is None else self._from_end(integer(self.start, "start"), dim.size)
        last = dim.size if self.stop is None else self._from_end(integer(self.stop, "stop"), dim.size)
        return first, last

    def _length(self, dim: Dim) -> Dim:
        """The size of a range, with the expression that makes it where it is fixed."""
        first, last = self._bounds(dim)
        length = last - first
        if length.constant is None:
            return Dim.of(length)

        def end(value: Scalar | None, default: Dim) -> Dim:
            if value is None:
                return default
            negative = isinstance(value.value, int) and value.value < 0
            return dim + value if negative else Dim.of(value)

        exact = end(self.stop, dim) - end(self.start, Dim.of(0))
        return exact if exact.size == length else Dim.of(length)

    def is_view(self, *xs: Any) -> bool:
        return self.list is None

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        if axis != self.axis:
            return Reach(axis)
        if self.index is not None or self.list is not None:
            return None
        first, _ = self._bounds(xs[0][axis].dim)
        return None if first.constant is None else Reach(axis, 1, first.constant, first.constant)

    # ---- PyTorch

    def torch(self, code: Code, x: Operand) -> Operand:
        type = result_type(self, x)
        x = x.merged(code)
        at = x.at(self.axis)
        if self.index is not None:
            order = tuple(name for name in x.order if name != self.axis)
            return Operand(f"{x.atom}{_subscript(at, len(x.order), code.number(self.index))}", type, order)
        if self.list is not None:
            places = ", ".join(code.number(place) for place in items(self.list) or ())
            return Operand(f"{x.atom}{_subscript(at, len(x.order), f'[{places}]')}", type, x.order)
        start = "" if self.start is None else code.number(self.start)
        stop = "" if self.stop is None else code.number(self.stop)
        if not start and not stop:
            return x
        return Operand(f"{x.atom}{_subscript(at, len(x.order), f'{start}:{stop}')}", type, x.order)

    # ---- meaning

    def reference(self, run: Run, x: Named) -> Named:
        data, n = x.last(self.axis), x.size(self.axis)
        rest = tuple(name for name in x.names if name != self.axis)
        if self.index is not None:
            return run.named(data[..., run.number(self.index) % n], rest)
        if self.list is not None:
            places = [run.number(place) % n for place in items(self.list) or ()]
        else:
            start = 0 if self.start is None else run.number(self.start)
            stop = n if self.stop is None else run.number(self.stop)
            places = list(range(start + n if start < 0 else start, stop + n if stop < 0 else stop))
        return run.named(data[..., run.torch.tensor(places, dtype=run.torch.long)], (*rest, self.axis))


def _subscript(at: int, rank: int, text: str) -> str:
    """`[:, 1:]`, or `[..., 1:]` for the last axis."""
    if at == rank - 1 and rank > 1:
        return f"[..., {text}]"
    return f"[{', '.join([*[':'] * at, text])}]"


