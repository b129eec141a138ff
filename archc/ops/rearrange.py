"""Split, merge and reorder axes by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from archc.backend.operand import ATOM, Operand
from archc.ir.sym import Scalar
from archc.ir.types import Axis, Dim, TensorType
from archc.ops.base import Check, Code, Op, OpError, Reach, arg
from archc.ops.checks import LARGEST, listed_divisors, result_type, shown
from archc.records import dataclass
from archc.sizes import Size

if TYPE_CHECKING:
    from archc.reference.named import Named, Run

ITEM = re.compile(r"\s*(?:([A-Za-z][A-Za-z0-9_]*)(?:\s*=\s*\(([^()]*)\))?)")
Item = tuple[str, tuple[str, ...] | None]  # an axis, and the parts that it has or is made of


def refuse(message: str, label: str = "", help: str = "") -> OpError:
    return OpError(message, "E0222", argument="pattern", label=label, help=help)


def parse_side(text: str) -> list[Item]:
    """`X=(a b) c` as [("X", ("a", "b")), ("c", None)]. Raises OpError."""
    items: list[Item] = []
    place = 0
    while text[place:].strip():
        found = ITEM.match(text, place)
        if found is None:
            rest = text[place:].strip()
            group = f"the axis of `{rest[: rest.find(')') + 1]}` has no name" if rest[0] == "(" else ""
            raise refuse(
                group or f"`{rest}` is not understood in a pattern",
                help="a group follows the name of its axis, and only axes that change are listed: "
                '"H W -> N=(H W)" merges two, "C=(heads C) -> heads C" takes one apart',
            )
        parts = None
        if found.group(2) is not None:
            parts = tuple(found.group(2).split())
            for part in parts:
                if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", part):
                    raise refuse(
                        f"`{part}` is not the name of an axis",
                        help="sizes are given beside the pattern, as in `heads=8`",
                    )
            if not parts:
                raise refuse(f"the group of `{found.group(1)}` is empty")
        items.append((found.group(1), parts))
        place = found.end()
    return items


@cache
def parse(pattern: str) -> tuple[list[Item], list[Item]]:
    """The two sides of a pattern, checked against each other. Raises OpError."""
    try:
        return _parse(pattern)
    except OpError as error:
        mended = _with_names(pattern) if pattern.count("->") == 1 else ""
        if mended:
            error.help = f'a group follows the name of its axis: write `"{mended}"`'
        raise


def _with_names(pattern: str) -> str:
    """A pattern of einops as it is written here, "" where it is none or the names of its groups are not plain.

    A group with C is the channels, one of positions becomes N; axes that stay in front of both sides are left out.
    """
    sides = []
    for half in pattern.split("->"):
        tokens = [token.strip() for token in re.findall(r"\w+\s*=\s*\([^()]*\)|\([^()]*\)|\w+", half)]
        if "".join(tokens).replace(" ", "") != half.replace(" ", ""):
            return ""
        side = []
        for token in tokens:
            parts = token.strip("()").split() if token[0] == "(" else []
            name = "C" if "C" in parts else "N" if parts and all(part[0].isupper() for part in parts) else ""
            if token[0] == "(" and not name:
                return ""
            side.append(f"{name}=({' '.join(parts)})" if name else token)
        sides.append(side)
    left, right = sides
    while left and right and left[0] == right[0]:
        left, right = left[1:], right[1:]
    mended = f"{' '.join(left)} -> {' '.join(right)}"
    try:
        _parse(mended)
    except OpError:
        return ""
    return "" if mended == pattern.strip() else mended


def _parse(pattern: str) -> tuple[list[Item], list[Item]]:
    if len(pattern) > 1000:
        raise refuse("the pattern is too long")
    halves = pattern.split("->")
    if len(halves) > 2:
        raise refuse("a pattern has one `->`")
    if len(halves) == 1:
        # `H W -> N=(H W)` may be written short as `N=(H W)` nowhere: which side it is would be a guess.
        raise refuse(
            "a pattern needs `->` between what is and what shall be",
            help='for example "C=(heads C) -> heads C"',
        )
    left, right = (parse_side(half) for half in halves)
    for side, where in ((left, "left"), (right, "right")):
        names = [name for name, _ in side]
        if len(set(names)) != len(names):
            twice = next(n for i, n in enumerate(names) if n in names[:i])
            raise refuse(f"the axis `{twice}` stands twice on the {where}")
    have = [atom for name, parts in left for atom in (parts or (name,))]
    want = [atom for name, parts in right for atom in (parts or (name,))]
    for atoms, where in ((have, "left"), (want, "right")):
        twice = next((a for i, a in enumerate(atoms) if a in atoms[:i]), None)
        if twice is not None:
            raise refuse(f"`{twice}` stands twice on the {where}", help="give the parts of an axis names of their own")
    lost, new = [a for a in have if a not in want], [a for a in want if a not in have]
    if lost:
        raise refuse(
            f"rearrange loses an axis: `{lost[0]}` is on the left and not on the right",
            help="every axis of the left stands once on the right; `mean`, `sum` or `x[N=0]` remove one",
        )
    if new:
        raise refuse(
            f"`{new[0]}` is on the right and not on the left",
            help="`expand` makes a new axis; list an axis on the left to use it",
        )
    return left, right


@dataclass(frozen=True)
class Plan:
    """What a rearrangement does to a tensor: split axes, order the atoms, merge groups."""

    splits: dict[str, tuple[tuple[str, Dim], ...]]  # listed axis -> its atoms
    before: tuple[str, ...]  # axes that stay in front of the listed ones
    groups: tuple[tuple[str, tuple[str, ...]], ...]  # the listed ones as they shall be
    after: tuple[str, ...]


@dataclass(frozen=True)
class Rearrange(Op):
    """`"C=(heads C) -> heads C"`: the left names axes as they are, the right as they shall be.

    `X=(a b)` on the left splits X (the leftmost part is the slowest), on the right it merges. One size of a
    group may be left out. Axes that are not listed stay; the listed land where the first of them stood.
    """

    name: ClassVar[str] = "rearrange"
    saves: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = (
        'x: [B, C=8, H, W] -> rearrange(x, "C=(heads C) -> heads C", heads=2)',
        'x: [B, heads=2, C=3, H, W] -> rearrange(x, "heads C -> C=(heads C)")',
        'x: [B, C=4, H, W] -> rearrange(x, "H W -> N=(H W)")',
        'x: [B, C=12, H, W] -> rearrange(x, "C=(three heads C) -> three heads C", three=3, heads=2)',
        'x: [B, C=4, H, W] -> rearrange(x, "H W C -> H C W")',
        'x: [B, C=4, H=6, W=8] -> rearrange(x, "H=(H a) W=(W b) C -> C=(a b C) H W", a=2, b=2)',
        'x: [B, k=3, C=4, N] -> rearrange(x, "B k -> B=(B k)")',
    )
    pattern: Any = arg("str")
    sizes: Any = arg("sizes")

    # ---- shapes

    def plan(self, check: Check | None, x: TensorType) -> Plan:
        """Raises OpError."""
        left, right = parse(self.pattern.value)
        for name, _ in left:
            if name not in x:
                raise OpError(f"rearrange names an axis `{name}`, and its operand is {x}", "E0302", argument="pattern")
        atoms = {part for _, parts in left for part in parts or ()} | {name for name, parts in left if parts is None}
        for name in self.sizes:
            if name not in atoms:
                raise refuse(f"a size is given for `{name}`, which the left side of the pattern does not name")
        splits = {name: self._solve(check, x[name], parts) for name, parts in left}
        listed = [name for name, _ in left]
        first = min((x.names.index(name) for name in listed), default=0)
        groups = tuple((name, parts or (name,)) for name, parts in right)
        before = tuple(name for name in x.names[:first])
        after = tuple(name for name in x.names[first:] if name not in listed)
        kept = {*before, *after}
        clash = next((name for name, _ in groups if name in kept), None)
        if clash is not None:
            raise refuse(f"the result would have two axes named `{clash}`: {x} has one that the pattern does not list")
        return Plan(splits, before, groups, after)

    def _given(self, name: str) -> Scalar | None:
        value = self.sizes.get(name)
        if value is None:
            return None
        number = value.value if isinstance(value, Scalar) else None
        known = number.constant if isinstance(number, Size) else number
        if isinstance(number, Size) and known is None:
            return value
        if isinstance(known, bool) or not isinstance(known, int) or not 1 <= known <= LARGEST:
            said = shown(value) if isinstance(value, Scalar) else "something else"
            raise OpError(
                f"the size of `{name}` must be a whole number of at least 1, and is {said}",
                "E0213",
                argument=name,
                help="`/` gives a real number: write `//`" if isinstance(known, float) else "",
            )
        return value

    def _solve(self, check: Check | None, axis: Axis, parts: tuple[str, ...] | None) -> tuple[tuple[str, Dim], ...]:
        """The atoms of one listed axis with their sizes."""
        if parts is None:
            given = self._given(axis.name)
            if given is not None and check is not None:
                check.equal(axis.size, Dim.of(given).size, f"`{axis.name}` has the size that is given for it")
            return ((axis.name, axis.dim),)
        given = {part: self._given(part) for part in parts}
        if check is not None and sorted(parts) == sorted(axis.order):
            self._as_merged(check, axis, parts, given)
        unknown = [part for part, value in given.items() if value is None]
        if len(unknown) > 1:
            raise OpError(
                f"the sizes of {', '.join(f'`{u}`' for u in unknown)} cannot be found: one part of "
                f"`{axis.name}` may be left out",
                "E0222",
                argument="pattern",
                help=f"give {' or '.join(f'`{u}=n`' for u in unknown)}",
            )
        known = Dim.of(1)
        for value in given.values():
            known = known * value if value is not None else known
        words = " x ".join(part for part in parts if part not in unknown)
        if not unknown:
            if check is not None:
                self._whole(check, axis, known.size, words)
            return tuple((part, Dim.of(given[part] or 1)) for part in parts)
        if check is not None:
            self._divides(check, axis, known.size, words)
        exact = axis.size.exact_div(known.size)
        rest = axis.dim // known
        if exact is not None and rest.constant is None:
            rest = Dim.of(exact)
        return tuple((part, rest if value is None else Dim.of(value)) for part, value in given.items())

    def _as_merged(
        self, check: Check, axis: Axis, parts: tuple[str, ...], given: dict[str, Scalar | None]
    ) -> None:
        """An axis that was made of parts is taken apart into the same ones."""
        if parts != axis.order:
            was, now = " ".join(axis.order), " ".join(parts)
            error = OpError(
                f"`{axis.name}` numbers ({was}) row by row, and is taken apart as ({now})",
                "E0309",
                argument="pattern",
                help=f"`{axis.name}=({was})` takes it apart; what stands on the right may have any order",
            )
            check.refuse(error)
            return
        for part, size in zip(parts, axis.parts, strict=False):
            value = given[part]
            if value is not None:
                check.equal(Dim.of(value).size, size, f"`{part}` has the size that it had in {axis.name}", "E0321")

    def _whole(self, check: Check, axis: Axis, product: Size, words: str) -> None:
        size, number = axis.size.constant, product.constant
        if size is not None and number is not None and size != number:
            check.refuse(OpError(f"{axis.name} is {size}, and {words} is {number}", "E0321", argument="pattern"))
        check.equal(axis.size, product, f"{axis.name} must be {words}")

    def _divides(self, check: Check, axis: Axis, known: Size, words: str) -> None:
        size, number = axis.size.constant, known.constant
        if size is None or number is None:
            check.divides(known, axis.size, f"{words} must divide {axis.name}")
        elif size % number:
            error = OpError(
                f"{words} = {number} does not divide {axis.name} = {size}",
                "E0321",
                argument=words if words in self.sizes else "pattern",
                label=f"{size} % {number} = {size % number}",
                help=f"what divides {size}: {listed_divisors(size)}",
            )
            check.refuse(error)

    def infer(self, check: Check, x: TensorType) -> tuple[TensorType, ...]:
        if not isinstance(self.pattern.value, str):
            raise refuse("the pattern is a string")
        plan = self.plan(check, x)
        atoms = {atom: dim for split in plan.splits.values() for atom, dim in split}
        listed = []
        for name, parts in plan.groups:
            if len(parts) == 1:
                whole = parts[0] in plan.splits and len(plan.splits[parts[0]]) == 1
                listed.append(replace(x[parts[0]], name=name) if whole else Axis(name, atoms[parts[0]]))
                continue
            total = atoms[parts[0]]
            for part in parts[1:]:
                total = total * atoms[part]
            # Places keep their order for good; channels may be shuffled and shuffled again.
            places = all(Axis(part, total).is_position for part in parts)
            sizes = tuple(atoms[part].size for part in parts)
            listed.append(Axis(name, total, parts, sizes) if places else Axis(name, total))
        axes = (*(x[name] for name in plan.before), *listed, *(x[name] for name in plan.after))
        return (x.with_axes(axes),)

    def flops(self, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Size:
        return Size.of(0)

    def reach(self, axis: str, operand: int, xs: Sequence[TensorType], ys: Sequence[TensorType]) -> Reach | None:
        """Where the slowest atom of an axis, or the first few, become an axis, its positions see blocks of the rest."""
        plan = self.plan(None, xs[0])
        if axis not in plan.splits:
            return Reach(axis)
        atoms = tuple(atom for atom, _ in plan.splits[axis])
        for name, parts in plan.groups:
            size, left = xs[0][axis].size.constant, ys[0][name].size.constant
            if parts == atoms[: len(parts)] and ys[0][name].is_position and size and left:
                return Reach(name, size // left, 0, size // left - 1)
        return None

    def is_view(self, x: TensorType) -> bool:
        return all(len(parts) == 1 for _, parts in self.plan(None, x).groups)

    # ---- PyTorch

    def torch(self, code: Code, x: Operand) -> Operand:
        x = x.merged(code)
        type = result_type(self, x)
        plan = self.plan(None, x.type)
        # Atoms get names that cannot meet those of axes: the C of `C=(heads C)` is another axis than C was.
        text, order = x.atom, list(x.order)
        for name, atoms in plan.splits.items():
            at = order.index(name)
            order[at : at + 1] = [f".{atom}" for atom, _ in atoms]
            if len(atoms) > 1:
                text += f".unflatten({at}, ({', '.join(self._sizes(code, atoms))}))"
        x = replace(
            x,
            text=text if text != x.atom else x.text,
            order=tuple(order),
            binding=ATOM if text != x.atom else x.binding,
        )
        merges = [(name, [f".{part}" for part in parts]) for name, parts in plan.groups if len(parts) > 1]
        x = _adjacent(
            x,
            [run for _, run in merges],
            (*plan.before, *(f".{p}" for _, parts in plan.groups for p in parts), *plan.after),
        )
        text, order = x.atom, list(x.order)
        for name, run in merges:
            at = order.index(run[0])
            order[at : at + len(run)] = [f"={name}"]
            text += f".flatten({at}, {at + len(run) - 1})"
        names = {f".{parts[0]}": name for name, parts in plan.groups if len(parts) == 1}
        final = tuple(names.get(n, n.removeprefix("=")) for n in order)
        if not merges:
            return replace(x, type=type, order=final)
        return Operand(text, type, final)

    def _sizes(self, code: Code, atoms: Sequence[tuple[str, Dim]]) -> list[str]:
        """The sizes of the parts of an axis: as given, and what is left out is left to torch."""
        return [code.number(self.sizes[atom]) if atom in self.sizes else "-1" for atom, _ in atoms]

    # ---- meaning

    def reference(self, run: Run, x: Named) -> Named:
        left, right = parse(self.pattern.value)
        data = x.data
        names: list[Any] = list(x.names)
        first = min((names.index(name) for name, _ in left), default=0)
        front = names[:first]
        for name, parts in left:
            at = names.index(name)
            if parts is not None:
                sizes = [run.number(self.sizes[part]) if part in self.sizes else -1 for part in parts]
                data = data.reshape(*data.shape[:at], *sizes, *data.shape[at + 1 :])
            names[at : at + 1] = [("atom", part) for part in parts or (name,)]
        want = [("atom", part) for name, parts in right for part in parts or (name,)]
        order = [*front, *want, *(name for name in names if name not in want and name not in front)]
        data = data.permute(*(names.index(name) for name in order))
        shape, final, place = [], [], 0
        groups = [(name, len(parts or (name,))) for name, parts in right]
        for name, count in [
            *((n, 1) for n in front),
            *groups,
            *((n, 1) for n in order[len(front) + len(want) :]),
        ]:
            size = 1
            for length in data.shape[place : place + count]:
                size *= length
            shape.append(size)
            final.append(name)
            place += count
        return run.named(data.reshape(shape), final)


def _adjacent(x: Operand, runs: Sequence[list[str]], wanted: tuple[str, ...]) -> Operand:
    """`x` with every run of axes adjacent and in order: as it lies where that is so, else as `wanted`."""
    for run in runs:
        at = x.order.index(run[0])
        if list(x.order[at : at + len(run)]) != run:
            return _gathered(x, runs, wanted)
    return x


def _gathered(x: Operand, runs: Sequence[list[str]], wanted: tuple[str, ...]) -> Operand:
    """`x` with every run brought together; a group that merges channels lies last where channels lay last."""
    last = x.order[-1]
    run = next((run for run in runs if last in run), None)
    if run is None or run[-1] != last:
        return x.to(wanted)
    inner = tuple(run)
    rest = tuple(name for name in wanted if name not in inner)
    return x.to((*rest, *inner))
