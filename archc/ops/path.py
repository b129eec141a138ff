"""Linear recurrences along paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.fusion.cores import Recurrence
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Check, Code, Note, Op, OpError, Reach, arg
from archc.ops.checks import floating, result_type
from archc.records import dataclass
from archc.sizes import Size
from archc.where.paths import Cross, Path, Reverse, unfold
from archc.where.text import bound, extents, once, opened, tuple_text

if TYPE_CHECKING:
    from archc.reference.named import Named, Run

WAY = "way"


@dataclass(frozen=True)
class Recur(Op):
    """All states h[t] = decay[t] h[t-1] + update[t] along a path, from h = 0.

    The axes of `decay` are among those of `update`; where it lacks one it is the same along it. For several
    paths (a list, or `cross(H, W)`) there is an axis `way`: that of the operands, or a new one behind B.
    MACs: 1 for each state element, step and path.
    """

    name: ClassVar[str] = "recur"
    operands: ClassVar[str] = "decay update"
    examples: ClassVar[tuple[str, ...]] = (
        "d: [B, C=3, H, W], u: [B, C=3, H, W, e=2] -> recur(exp(-abs(d)), u, raster(H, W))",
        "d: [B, C=3, H, W], u: [B, C=3, H, W] -> recur(exp(-abs(d)), u, -raster(W, H))",
        "d: [C=3], u: [B, C=3, H, W] -> recur(exp(-abs(d)), u, snake(H, W))",
        "d: [B, H, W], u: [B, C=3, H, W] -> recur(exp(-abs(d)), u, cross(H, W))",
        "d: [B, N], u: [B, C=3, N] -> recur(exp(-abs(d)), u, raster(N))",
    )
    along: Any = arg("path")

    @property
    def several(self) -> bool:
        return isinstance(self.along, (tuple, Cross))

    def infer(self, check: Check, decay: TensorType, update: TensorType) -> tuple[TensorType, ...]:
        floating(decay, "`recur`")
        floating(update, "`recur`")
        paths = unfold(self.along)
        if not paths:
            raise OpError("`recur` needs a path", "E0213", argument="along")
        for axis in decay.axes:
            if axis.name not in update and not (self.several and axis.name == WAY):
                raise OpError(
                    f"the decay has the axes of the update, or fewer: {axis.name} of {decay} is not in {update}",
                    "E0301",
                )
            if axis.name in update:
                why = f"decay and update of `recur` must have the same {axis.name}"
                check.equal(axis.size, update[axis.name].size, why, "E0331" if axis.is_position else "E0301")
        for path in paths:
            path.check(check, update)
        if not self.several:
            return (update,)
        for x in (decay, update):
            if WAY in x:
                check.equal(x[WAY].size, Size.of(len(paths)), f"{len(paths)} paths need as many `{WAY}`s", "E0301")
        if WAY in update:
            return (update,)
        begin = 1 if update.names[:1] == ("B",) else 0
        way = Axis(WAY, Dim.of(len(paths)))
        return (update.with_axes((*update.axes[:begin], way, *update.axes[begin:])),)

    def macs(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return ys[0].elements

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def reach(self, axis: str, operand: int, xs: Sequence[Any], ys: Sequence[TensorType]) -> Reach | None:
        moved = {name for path in unfold(self.along) for name in path.over}
        return None if axis in moved else Reach(axis)

    def _copied(self, path: Path, decay: TensorType, update: TensorType) -> Size | None:
        """How many elements of the decay are copied into the order of a path, None where it is read as it lies."""
        some = [name for name in path.over if name in decay]
        lies = direct(path) and tuple(name for name in update.names if name in path.over) == path.over
        if not some or (lies and len(some) == len(path.over)):
            return None
        missing = (update[name].size for name in path.over if name not in decay)
        return prod(missing, start=decay.without(WAY).elements)

    def saved(self, decay: TensorType, update: TensorType) -> str:
        paths = unfold(self.along)
        words = ["decay"] if any(self._copied(path, decay, update) is None for path in paths) else []
        return " ".join([*words, "result"] if not self.several and direct(paths[0]) else words)

    def notes(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> tuple[Note, ...]:
        """Decay and states in the order of each path, where they are copies."""
        paths = unfold(self.along)
        copies = [self._copied(path, *xs) for path in paths]
        found = [Note("float", copy) for copy in copies if copy is not None]
        if self.several or not direct(paths[0]):
            found.append(Note("float", ys[0].elements))
        return tuple(found)

    def core(self, *xs: TensorType) -> Recurrence:
        paths = unfold(self.along)
        return Recurrence(paths, tuple(dict.fromkeys(name for path in paths for name in path.over)))

    # ---- PyTorch

    def torch(self, code: Code, decay: Operand, update: Operand) -> Operand:
        code = once(code)
        decay, update = decay.merged(code), update.merged(code)
        type = result_type(self, decay, update)
        if not self.several:
            (path,) = unfold(self.along)
            return replace(_scan(code, path, decay, update), type=type)
        decay, update = bound(code, decay, "decay"), bound(code, update, "update")
        turns = []
        for number, path in enumerate(unfold(self.along)):
            d, u = (_way(x, number) for x in (decay, update))
            turns.append(_scan(code, path, d, u))
        order = turns[0].order
        begin = 1 if order[:1] == ("B",) else 0
        text = f"torch.stack([{', '.join(str(turn.to(order)) for turn in turns)}], dim={begin})"
        return Operand(text, type, (*order[:begin], WAY, *order[begin:]))

    # ---- meaning

    def reference(self, run: Run, decay: Named, update: Named) -> Named:
        if not self.several:
            (path,) = unfold(self.along)
            return self._walk(run, path, decay, update)
        turns = []
        for number, path in enumerate(unfold(self.along)):
            d, u = (
                run.named(x.last(WAY)[..., number], (n for n in x.names if n != WAY)) if WAY in x.names else x
                for x in (decay, update)
            )
            turns.append(self._walk(run, path, d, u))
        return run.named(run.torch.stack([turn.to(turns[0].names) for turn in turns]), (WAY, *turns[0].names))

    @staticmethod
    def _walk(run: Run, path: Path, decay: Named, update: Named) -> Named:
        (d, u), names = run.align(decay, update)
        d = d.expand(u.shape)
        rest = tuple(name for name in names if name not in path.over)
        to = [names.index(name) for name in (*rest, *path.over)]
        d, u = d.permute(to), u.permute(to)
        sizes = u.shape[len(rest) :]
        positions = list(run.indices(sizes))
        forget, add = (
            dict(zip(positions, x.reshape(*x.shape[: len(rest)], -1).unbind(-1), strict=True)) for x in (d, u)
        )
        states: dict[tuple[int, ...], Any] = {}
        for sequence in path.sequences(sizes):
            state = None
            for here in sequence:
                state = add[here] if state is None else forget[here] * state + add[here]
                states[here] = state
        data = run.torch.stack([states[position] for position in positions], -1)
        return run.named(data.reshape(u.shape), (*rest, *path.over))


def direct(path: Path) -> bool:
    """Whether a path runs along its axes as they are, forwards or backwards."""
    return path.plain or (isinstance(path, Reverse) and path.path.plain)


def _way(x: Operand, number: int) -> Operand:
    """One of the ways of `x`, which is a name."""
    if WAY not in x.order:
        return x
    at = x.at(WAY)
    order = tuple(name for name in x.order if name != WAY)
    return Operand(f"{x}.select({at}, {number})", x.type.without(WAY), order)


def _scan(code: Code, path: Path, decay: Operand, update: Operand) -> Operand:
    """The call of the helper for one path, on the path's axes folded into one."""
    reverse = False
    if isinstance(path, Reverse) and path.path.plain:
        path, reverse = path.path, True
    over = path.over
    update = _together(update, over)
    sizes: Sequence[str] = ()
    if len(over) > 1 or not path.plain:
        update = bound(code, update, "update")
        sizes = extents(code, update, over)
    where = min(update.order.index(name) for name in over)
    order = None
    if not path.plain:
        order = code.let(path.order(code, sizes, f"{update}.device"), "order")
    many = path.count(code)
    several = many != "1"
    still = not any(name in decay.order for name in over)
    d = _on_path(_aligned(decay, update, over, sizes), where, len(over), None if still else order, "1" if still else many)
    d += f".unsqueeze({where})" if still and several else ""
    u = _on_path(update, where, len(over), order, many)
    dim = where + several
    call = f"{code.helper('recur')}({d}, {u}, {dim}{', reverse=True' if reverse else ''})"
    if several:
        call += f".flatten({where}, {where + 1})"
    if order is not None:
        call += f".index_select({where}, {order}.argsort())"
    if len(over) > 1:
        call += f".unflatten({where}, {tuple_text(sizes)})"
    return Operand(call, update.type, update.order)


def _together(x: Operand, over: tuple[str, ...]) -> Operand:
    """`x` with the axes of the path side by side in its order, where the first of them lay."""
    first = min(x.order.index(name) for name in over)
    rest = [name for name in x.order if name not in over]
    front = [name for name in x.order[:first] if name not in over]
    return x.to((*front, *over, *rest[len(front) :]))


def _aligned(decay: Operand, update: Operand, over: tuple[str, ...], sizes: Sequence[str]) -> Operand:
    """`decay` in the order of `update`, with size 1 where it lacks an axis; along the path, all or none."""
    x = opened(decay.to(tuple(name for name in update.order if name in decay.order)), update.order)
    some = [name for name in over if name in decay.order]
    if some and len(some) < len(over):
        # Folding needs the axes of the path whole.
        whole = dict(zip(over, sizes, strict=True))
        shape = [whole[name] if name in whole and name not in some else "-1" for name in x.order]
        x = replace(x, text=f"{x.atom}.expand({', '.join(shape)})", binding=ATOM)
    return x


def _on_path(x: Operand, where: int, count: int, order: str | None, many: str) -> str:
    """`x` with the axes of the path as one, in the order of the path."""
    text = x.atom
    if count > 1:
        text += f".flatten({where}, {where + count - 1})"
    if order is not None:
        text += f".index_select({where}, {order})"
    if many != "1":
        text += f".unflatten({where}, ({many}, -1))"
    return text
