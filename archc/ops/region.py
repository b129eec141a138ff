"""Where times how: scores and sums over the taps of a region, the taps themselves, and which are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import Operand
from archc.deploy.roles import Through
from archc.fusion.cores import Mixture, Scores
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import ZERO, Check, Code, Note, Op, OpError, Reach, arg, need
from archc.ops.checks import floating, numbered_alike, numeric, result_type
from archc.records import dataclass
from archc.sizes import Size
from archc.where.base import Places
from archc.where.text import TAP, extents, once

if TYPE_CHECKING:
    from archc.reference.named import Named, Run
    from archc.where.base import Region


def tap_axis(region: Region, at: Places) -> Axis:
    order = region.numbered(at)
    return Axis(TAP, Dim.of(region.taps(at)), order if len(order) > 1 else ())


def no_taps(x: TensorType, what: str) -> None:
    """Raises OpError where `x` has the axis that the operation is about to make."""
    if TAP in x:
        raise OpError(
            f"{what} already has an axis `{TAP}`: {x}",
            "E0301",
            help=f'`rename(x, {TAP}="...")` gives it another name',
        )


def share(check: Check, a: TensorType, b: TensorType, names: Sequence[str], what: str) -> None:
    """Axes that two operands have in common have equal sizes."""
    for name in names:
        if name in a and name in b:
            check.equal(a[name].size, b[name].size, f"both operands of `{what}` have the axis {name}", "E0301")
            numbered_alike(a[name], b[name], f"`{what}`")


def riding(x: TensorType, *besides: str) -> tuple[str, ...]:
    """The axes of `x` that are neither positions nor among `besides`."""
    return tuple(axis.name for axis in x.axes if not axis.is_position and axis.name not in besides)


def reach_of(region: Region, at: Places, axis: str) -> Reach | None:
    """What a query sees of the keys along a position axis, where sizes are numbers."""
    return region.reach(at, axis) if axis in at.names else None


def placed(x: TensorType, at: Places) -> tuple[Axis, ...]:
    """The axes of the keys' tensor with the positions of the queries in place of the keys'."""
    axes: list[Axis] = []
    for axis in x.axes:
        if not axis.is_position:
            axes.append(axis)
        elif axis == x.positions[0]:
            axes += at.q
    return tuple(axes)


def carried(check: Check, extra: Sequence[TensorType], result: TensorType) -> TensorType:
    """The result type, checked: what rides along in a tensor of the region rides along in the result too."""
    for tensor in extra:
        for name in riding(tensor, TAP):
            if name not in result:
                raise OpError(
                    f"the region carries {tensor}, and the result has no axis {name}: {result}",
                    "E0301",
                    argument="over",
                )
            check.equal(
                tensor[name].size,
                result[name].size,
                f"the tensor of the region must have the same {name}",
                "E0301",
            )
    return result


class Over:
    """What the operations with a region `over` share."""

    over: Any

    @property
    def tensors(self) -> tuple[Any, ...]:
        """The tensors that the region itself carries; they arrive behind the operands."""
        return self.over.tensors

    def copied(self, repeats: Size) -> bool:
        """Whether a tensor is copied for the product: gathered, or repeated along axes that the other one has."""
        return self.over.copies or repeats.constant != 1

    def gathered(self, keys: TensorType, at: Places) -> Size:
        """How many elements the keys or values have as the region gathers them."""
        rest = (axis.size for axis in keys.axes if not axis.is_position)
        return prod(rest, start=self.over.gathered(at))

    def work(self) -> str:
        """Queries that share their keys make a matrix product, which counting tools see; others do not."""
        return "contraction" if self.over.shares else "region"

    def scratch(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        """What is gathered and repeated, which the backward pass reads too."""
        return sum((note.elements for note in self.notes(xs, ys)), start=ZERO)

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        return ()

    def places(self, q: Sequence[Axis], k: Sequence[Axis], extra: Sequence[Any]) -> Places:
        return Places(tuple(q), tuple(k), tuple(extra))


def alone(a: TensorType, b: TensorType) -> Size:
    """How often `b` is repeated along axes that only `a` has."""
    return prod((a[name].size for name in riding(a, TAP, "C") if name not in b), start=Size.of(1))


@dataclass(frozen=True)
class Correlate(Over, Op):
    """sum_C q[i] k[k(i, u)] for every query i and tap u of the region; taps that are none have score -inf.

    The result has the axes of q without C, further axes of k, and `tap` last. MACs: P x K x C x what rides
    along.
    """

    name: ClassVar[str] = "correlate"
    operands: ClassVar[str] = "q k"
    examples: ClassVar[tuple[str, ...]] = (
        "q: [B, heads=2, C=4, H, W], k: [B, heads=2, C=4, H, W] -> correlate(q, k, window(3))",
        "q: [B, heads=2, C=4, H, W], k: [B, C=4, H, W] -> correlate(q, k, grid([3, 2]))",
        'q: [B, C=4, H, W], k: [B, C=4, H, W] -> correlate(q, k, neighborhood(3, dilation=2, edge="shift"))',
        "q: [B, C=4, H, W], k: [B, C=4, M] -> correlate(q, k, everywhere)",
        "q: [B, C=4, H, W], k: [B, C=4, H, W] -> correlate(q, k, (column - self) + row)",
        'q: [B, C=4, H, W], k: [B, C=4, H, W] -> correlate(q, k, halo(2, 1, edge="zero"))',
    )
    over: Any = arg("region")

    def _at(self, q: TensorType, k: TensorType, *extra: Any) -> Places:
        return self.places(q.positions, k.positions, extra)

    def infer(self, check: Check, q: TensorType, k: TensorType, *extra: TensorType) -> tuple[TensorType, ...]:
        for x, what in ((q, "the query of `correlate`"), (k, "the key of `correlate`")):
            floating(x, "`correlate`")
            need(x, "C", what)
            no_taps(x, what)
        at = self._at(q, k, *extra)
        share(check, q, k, ("C", *riding(q, "C")), "correlate")
        self.over.check(check, at)
        new = (k[name] for name in riding(k, "C") if name not in q)
        kept = q.without("C").axes
        return (carried(check, extra, q.with_axes((*kept, *new, tap_axis(self.over, at)))),)

    def macs(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ys[0].elements * xs[0]["C"].size

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def saved(self, q: TensorType, k: TensorType, *extra: TensorType) -> str:
        return " ".join(word for word, lone in (("q:k", alone(k, q)), ("k:q", alone(q, k))) if not self.copied(lone))

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        """The queries and keys as the region gathers them."""
        q, k = xs[:2]
        many, more = alone(k, q), alone(q, k)
        queries = q.elements * many * len(self.over.parts) if self.copied(many) else ZERO
        keys = self.gathered(k, self._at(*xs)) * more if self.copied(more) else ZERO
        return Note("float", queries, "k"), Note("float", keys, "q")

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return (
            Reach(axis)
            if operand == 0
            else reach_of(self.over, self.places(xs[0].positions, xs[1].positions, xs[2:]), axis)
        )

    def core(self, q: TensorType, k: TensorType, *extra: TensorType) -> Scores:
        return Scores(self.over)

    def torch(self, code: Code, q: Operand, k: Operand, *extra: Operand) -> Operand:
        type, code = result_type(self, q, k, *extra), once(code)
        q, k = q.merged(code), k.merged(code)
        s = self.over.scores(code, q, k, self.places(q.type.positions, k.type.positions, extra))
        return replace(s, type=type)

    def reference(self, run: Run, q: Named, k: Named, *extra: Named) -> Named:
        assert q.type is not None and k.type is not None
        at = self.places(q.type.positions, k.type.positions, extra)
        scores, order = [], q.names
        for key, there in self.over.taken(run, k, at):
            (a, b, valid), order = run.align(q, key, there)
            channels = order.index("C")
            scores.append((a * b).sum(channels).masked_fill(~valid.squeeze(channels), float("-inf")))
        rest = tuple(n for n in order if n != "C")
        return run.named(run.torch.stack(scores, -1), (*rest, TAP))


@dataclass(frozen=True)
class Aggregate(Over, Op):
    """sum_u w[i, u] v[k(i, u)]: weighted sums over the taps of a region; taps that are none have weight 0.

    The result has the axes of v, the positions of the queries in place of the keys', and further axes of w
    behind B. Weights without positions are the same everywhere. MACs: P x K x C x what rides along.
    """

    name: ClassVar[str] = "aggregate"
    operands: ClassVar[str] = "w v"
    examples: ClassVar[tuple[str, ...]] = (
        "w: [B, heads=2, H, W, tap=9], v: [B, heads=2, C=4, H, W] -> aggregate(w, v, window(3))",
        "w: [B, H, W, tap=9], v: [B, C=4, H, W] -> aggregate(w, v, neighborhood(3))",
        'w: [C=4, tap=9], v: [B, C=4, H, W] -> aggregate(w, v, neighborhood(3, edge="zero"))',
        "w: [B, heads=2, H, W, tap=5], v: [B, C=4, M=5] -> aggregate(w, v, everywhere)",
    )
    over: Any = arg("region")

    def _at(self, w: TensorType, v: TensorType, extra: Sequence[Any]) -> Places:
        queries = self.over.queried(v.positions, extra) if self.over.local else w.positions
        return self.places(queries, v.positions, extra)

    def infer(self, check: Check, w: TensorType, v: TensorType, *extra: TensorType) -> tuple[TensorType, ...]:
        floating(w, "`aggregate`")
        floating(v, "`aggregate`")
        need(w, TAP, "the weights of `aggregate`")
        no_taps(v, "the value of `aggregate`")
        at = self._at(w, v, extra)
        self.over.check(check, at)
        for axis in w.positions:
            query = next((a for a in at.q if a.name == axis.name), None)
            if query is None:
                raise OpError(
                    f"the weights lie on [{', '.join(a.name for a in w.positions)}], the queries on "
                    f"[{', '.join(at.names)}]",
                    "E0301",
                )
            check.equal(axis.size, query.size, f"weights and values of `aggregate` must have the same {axis.name}")
        check.equal(w[TAP].size, self.over.taps(at), "the weights need one number for each tap of the region")
        numbered_alike(w[TAP], tap_axis(self.over, at), "weights and values of `aggregate`")
        share(check, w, v, riding(w, TAP), "aggregate")
        new = tuple(w[name] for name in riding(w, TAP) if name not in v)
        axes = placed(v, at)
        begin = 1 if axes and axes[0].name == "B" else 0
        return (carried(check, extra, v.with_axes((*axes[:begin], *new, *axes[begin:]))),)

    def macs(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ys[0].elements * xs[0][TAP].size

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def channels(self, xs: Sequence[Any], constant: Sequence[bool]) -> Through:
        w, v = xs[:2]
        return Through(1, tuple(a.name for a in v.axes if not a.is_position and a.name not in w), means=False)

    def _repeats(self, w: TensorType, v: TensorType, extra: Sequence[Any]) -> Size:
        """How often the weights are repeated along axes of the queries and values that they lack."""
        axes = placed(v, self._at(w, v, extra))
        return prod((axis.size for axis in axes if axis.name not in w and axis.name != "C"), start=Size.of(1))

    def saved(self, w: TensorType, v: TensorType, *extra: TensorType) -> str:
        blank = all(part.gaps for part in self.over.parts)
        weights = "" if blank or self._repeats(w, v, extra).constant != 1 else "w:v "
        return weights + ("" if self.copied(alone(w, v)) else "v:w")

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        """The values as the region gathers them, and the weights with zeros where there is no tap."""
        w, v = xs[:2]
        at, many, more = self._at(w, v, xs[2:]), self._repeats(w, v, xs[2:]), alone(w, v)
        blanked = prod((axis.size for axis in w.axes if axis.name != TAP), start=self.over.blanked(at))
        values = self.gathered(v, at) * more if self.copied(more) else ZERO
        weights = blanked if many.constant == 1 else w.elements * many
        return Note("float", values, "w"), Note("float", weights, "v")

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return Reach(axis) if operand == 0 else reach_of(self.over, self._at(xs[0], xs[1], xs[2:]), axis)

    def core(self, w: TensorType, v: TensorType, *extra: TensorType) -> Mixture:
        return Mixture(self.over)

    def torch(self, code: Code, w: Operand, v: Operand, *extra: Operand) -> Operand:
        type, code = result_type(self, w, v, *extra), once(code)
        y = self.over.mix(code, w, v.merged(code), self._at(w.type, v.type, extra))
        return replace(y, type=type)

    def reference(self, run: Run, w: Named, v: Named, *extra: Named) -> Named:
        assert w.type is not None and v.type is not None
        at = self._at(w.type, v.type, extra)
        weights, order = w.last(TAP), tuple(n for n in w.names if n != TAP)
        total, joint = 0, order
        for u, (value, there) in enumerate(self.over.taken(run, v, at)):
            (a, b, valid), joint = run.align(run.named(weights[..., u], order), value, there)
            total = total + run.torch.where(valid, a, run.torch.zeros_like(a)) * b
        return run.named(total, joint)


@dataclass(frozen=True)
class Look(Over, Op):
    """The taps themselves, x[k(i, u)], along a last axis `tap`; zero where there is none."""

    name: ClassVar[str] = "look"
    saves: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> look(x, neighborhood(3))",
        "x: [B, C=4, H, W] -> look(x, window(3))",
        "x: [B, H, W] -> look(x, row + column)",
    )
    over: Any = arg("region")

    def _at(self, x: TensorType, extra: Sequence[Any]) -> Places:
        return self.places(self.over.queried(x.positions, extra), x.positions, extra)

    def infer(self, check: Check, x: TensorType, *extra: TensorType) -> tuple[TensorType, ...]:
        numeric(x, "`look`")
        no_taps(x, "the operand of `look`")
        at = self._at(x, extra)
        self.over.check(check, at)
        return (carried(check, extra, x.with_axes((*placed(x, at), tap_axis(self.over, at)))),)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return reach_of(self.over, self._at(xs[0], xs[1:]), axis)

    def torch(self, code: Code, x: Operand, *extra: Operand) -> Operand:
        y = self.over.look(once(code), x.merged(code), self._at(x.type, extra))
        return replace(y, type=result_type(self, x, *extra))

    def reference(self, run: Run, x: Named, *extra: Named) -> Named:
        assert x.type is not None
        at = self._at(x.type, extra)
        values, joint = [], x.names
        for value, there in self.over.taken(run, x, at):
            (a, valid), joint = run.align(value, there)
            values.append(a.masked_fill(~valid, 0))
        return run.named(run.torch.stack(values, -1), (*joint, TAP))


@dataclass(frozen=True)
class Valid(Over, Op):
    """Which taps of each query are there: bool, along the positions of `like` and `tap`."""

    name: ClassVar[str] = "valid"
    operands: ClassVar[str] = "like?"
    saves: ClassVar[str] = ""
    deferred: ClassVar[bool] = True
    examples: ClassVar[tuple[str, ...]] = (
        "x: [B, C=4, H, W] -> look(x, neighborhood(3)) * cast(valid(neighborhood(3), like=x), float)",
    )
    over: Any = arg("region")

    def _at(self, like: TensorType, extra: Sequence[Any]) -> Places:
        return self.places(like.positions, self.over.keyed(like.positions), extra)

    def infer(self, check: Check, like: TensorType, *extra: TensorType) -> tuple[TensorType, ...]:
        if self.over.tensors:
            raise OpError("`valid` does not know the taps of a region that carries a tensor", "E0213", argument="over")
        at = self._at(like, extra)
        self.over.check(check, at)
        return (TensorType("bool", (*like.positions, tap_axis(self.over, at))),)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        return Reach(axis)

    def torch(self, code: Code, like: Operand, *extra: Operand) -> Operand:
        from archc.where.emit import validity

        at = self._at(like.type, extra)
        code = once(code)
        y = validity(self.over, code, like, at, like_extents(code, like, at.names))
        return replace(y, type=result_type(self, like, *extra))

    def reference(self, run: Run, like: Named, *extra: Named) -> Named:
        assert like.type is not None
        at = self._at(like.type, extra)
        _, valid = self.over.index(run, at)
        sizes = [run.size(axis.size) for axis in at.q]
        return run.named(valid.reshape(*sizes, valid.shape[1]), (*at.names, TAP))


def like_extents(code: Code, like: Operand, names: Sequence[str]) -> dict[str, str]:
    """The sizes of the positions of a tensor, also of one that lies in a region's form."""
    form = like.where
    if form is not None:
        return dict(zip(form.axes, form.extents, strict=True))  # pyright: ignore[reportAttributeAccessIssue]
    return dict(zip(names, extents(code, like, names), strict=True))
