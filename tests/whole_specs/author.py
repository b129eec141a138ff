"""Writes a spec while computing what it means for shapes: types, weights, multiply-accumulates, needs of sizes.

Nothing of archc is used. What is written comes from draws, so that a failing spec shrinks. A body that is run
several times (a component with other tensors, a loop with other numbers, another variant) is drawn once: its
draws are kept on a tape, and read from it again each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from whole_specs.sizes import POINTS, Size, product


class Unfit(Exception):
    """What was drawn cannot be written here."""


class Diverged(Exception):
    """A body that is run again would be written otherwise."""


# ---- draws


class Tape:
    """The draws of one body, in order; made by the first reading, repeated by later ones."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.finished = False


@dataclass
class Source:
    """Where draws come from: hypothesis (`choose` gives an index below n), kept on a tape, or the tape."""

    choose: Callable[[int], int]
    tape: Tape
    place: int = 0

    def take(self, make: Callable[[], Any]) -> Any:
        if not self.tape.finished:
            value = make()
            self.tape.items.append(value)
            return value
        if self.place == len(self.tape.items):
            raise Diverged
        self.place += 1
        return self.tape.items[self.place - 1]

    def mark(self) -> int:
        return len(self.tape.items) if not self.tape.finished else self.place

    def rewind(self, mark: int) -> None:
        """Forget what was drawn since; only while the tape is made."""
        assert not self.tape.finished
        del self.tape.items[mark:]


# ---- types


@dataclass(frozen=True)
class Type:
    """`raw` says that values are generic: they have no exact ties or whole numbers that rounding would move."""

    dtype: str
    axes: tuple[tuple[str, Size], ...]
    raw: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.axes)

    @property
    def positions(self) -> tuple[str, ...]:
        return tuple(n for n in self.names if is_position(n))

    @property
    def elements(self) -> Size:
        return product(size for _, size in self.axes)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Size:
        return dict(self.axes)[name]

    def fixed(self, name: str) -> int | None:
        return self[name].constant if name in self else None

    def resized(self, **sizes: int | Size) -> Type:
        return replace(self, axes=tuple((n, Size.of(sizes.get(n, s))) for n, s in self.axes))

    def without(self, *names: str) -> Type:
        return replace(self, axes=tuple((n, s) for n, s in self.axes if n not in names))

    def renamed(self, names: dict[str, str]) -> Type:
        return replace(self, axes=tuple((names.get(n, n), s) for n, s in self.axes))

    def with_axes(self, axes: Sequence[tuple[str, int | Size]]) -> Type:
        return replace(self, axes=tuple((n, Size.of(s)) for n, s in axes))

    def of(self, dtype: str) -> Type:
        return replace(self, dtype=dtype)

    def exact(self) -> Type:
        """The same without the promise of generic values."""
        return replace(self, raw=False)


def is_position(name: str) -> bool:
    return name not in ("B", "C") and name[0].isupper()


@dataclass(frozen=True)
class Operand:
    """A tensor as text. `atom` text needs no parentheses anywhere, `pipe` none on the left of `|>`."""

    text: str
    type: Type
    atom: bool = True
    pipe: bool = False

    @property
    def inner(self) -> str:
        """Within arithmetic."""
        return self.text if self.atom else f"({self.text})"

    @property
    def left(self) -> str:
        """On the left of a pipe."""
        return self.text if self.atom or self.pipe else f"({self.text})"


# ---- bodies


@dataclass
class Frame:
    """One body that is being written: of a model, a component, or a turn of a loop."""

    prefix: str
    tensors: dict[str, Type] = field(default_factory=dict)
    scalars: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
    unread: dict[str, None] = field(default_factory=dict)
    modules: dict[str, Any] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    indent: int = 1
    owning: bool = True
    root: bool = False  # of a model: inputs may be added
    arm: bool = False  # of a branch: names of the outside keep their types
    fresh: int = 0


@dataclass
class Counted:
    """What a spec is said to be, apart from its text."""

    alive: np.ndarray = field(default_factory=lambda: np.ones(POINTS, dtype=bool))
    needs: list[str] = field(default_factory=list)
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    macs: np.ndarray = field(default_factory=lambda: np.zeros(POINTS, dtype=np.int64))
    used: set[str] = field(default_factory=set)


class Author:
    def __init__(self, choose: Callable[[int], int]) -> None:
        self.source = Source(choose, Tape())
        self.count = Counted()
        self.frame = Frame("")
        self.guard: np.ndarray | None = None  # where the arm of a branch on sizes runs
        self.sharing = False  # the same weights again are meant
        self.imports: dict[str, set[str]] = {}
        self.symbols: dict[str, Size] = {}
        self.inputs: list[tuple[str, str, Type]] = []
        self.components: list[Any] = []
        self.functions: list[str] = []
        self.outputs: dict[str, Type] = {}
        self.optional: list[str] = []  # inputs that may be left out
        self.states: list[str] = []
        self.depth = 0

    # ---- draws

    def pick(self, options: Sequence[Any]) -> Any:
        """One of some values, the first being the simplest."""
        if not options:
            raise Unfit
        value = self.source.take(lambda: options[self.source.choose(len(options))] if len(options) > 1 else options[0])
        if value not in options:
            raise Diverged
        return value

    def coin(self) -> bool:
        return self.pick((False, True))

    def seldom(self, n: int = 4) -> bool:
        return self.pick((False,) * (n - 1) + (True,))

    def some(self, options: Sequence[Any], least: int = 0) -> list[Any]:
        """A part of some values, in their order; without draws the first `least`."""
        chosen = [o for o in options if self.coin()]
        return chosen if len(chosen) >= least else list(options[:least])

    # ---- notes

    def uses(self, *words: str) -> None:
        self.count.used.update(words)

    def need(self, holds: np.ndarray | bool, why: str) -> None:
        """A condition on sizes, which binds where the arm that states it runs."""
        holds = np.broadcast_to(holds, (POINTS,))
        if self.guard is not None:
            holds = holds | ~self.guard
        if not holds[self.count.alive].all():
            self.count.needs.append(why)
            self.count.alive &= holds
            if not self.count.alive.any():
                raise Unfit

    def equal(self, a: Size, b: Size | int, why: str) -> None:
        b = Size.of(b)
        if a.constant is not None and b.constant is not None and a.constant != b.constant:
            raise Unfit
        self.need(a.at == b.at, why)

    def least(self, a: Size, b: Size | int, why: str) -> None:
        self.need(a.at >= Size.of(b).at, why)

    def divides(self, by: int, size: Size, why: str) -> None:
        self.need(size.at % by == 0, why)

    def costs(self, macs: Size) -> None:
        at = macs.at if self.guard is None else np.where(self.guard, macs.at, 0)
        self.count.macs = self.count.macs + at

    def owns(self, label: str, weights: dict[str, Sequence[int]]) -> None:
        """The weights of one operation under its label (`_` is no level)."""
        for name, shape in weights.items():
            key = f"{self.frame.prefix}{label}.{name}" if label != "_" else f"{self.frame.prefix}{name}"
            if key in self.count.weights and not self.sharing:
                raise Unfit
            if self.count.weights.setdefault(key, tuple(shape)) != tuple(shape):
                raise Unfit

    # ---- names

    def label(self, default: str) -> tuple[str, str]:
        """A label with the text before the call: mostly one of its own, sometimes none."""
        frame = self.frame
        if not frame.owning:
            raise Unfit
        if default not in frame.labels and self.seldom():
            frame.labels.add(default)
            return default, ""
        frame.fresh += 1
        name = f"l{frame.fresh}"
        frame.labels.add(name)
        return name, f"{name}: "

    def name(self) -> str:
        """A name to bind: new, or one whose tensor has been read."""
        old = [n for n in self.frame.tensors if n not in self.frame.unread]
        if old and not self.frame.arm and self.seldom(5):
            return self.pick(old)
        self.frame.fresh += 1
        return f"t{self.frame.fresh}"

    def bind(self, name: str, type: Type) -> None:
        self.frame.tensors.pop(name, None)
        self.frame.tensors[name] = type
        self.frame.unread[name] = None

    def read(self, name: str) -> Operand:
        self.frame.unread.pop(name, None)
        return Operand(name, self.frame.tensors[name])

    def line(self, text: str) -> None:
        self.frame.lines.append("    " * self.frame.indent + text)

    # ---- operands

    def tensor(self, fits: Callable[[Type], bool], *made: str) -> Operand:
        """A tensor of the scope that fits, unread and late ones first; else, in a model, a new input of a type `made`."""
        frame = self.frame
        names = [n for n, t in frame.tensors.items() if fits(t)]
        names.sort(key=lambda n: n not in frame.unread)
        if not names:
            if not frame.root or not made:
                raise Unfit
            name = self.add_input(self.pick(made))
            if not fits(frame.tensors[name]):
                raise Unfit
            return self.read(name)
        return self.read(self.pick(names))

    def add_input(self, text: str, keyword: str = "input", default: str = "") -> str:
        """An input of a type that is written out, as in `[B, C=4, H, W=Wz]`."""
        name = f"x{len(self.inputs) + 1}"
        type = self.typed(text)
        self.inputs.append((name, f"{keyword} {name}: {text}{default}", type))
        self.frame.tensors[name] = type
        return name

    def typed(self, text: str) -> Type:
        dtype, _, inner = text.partition("[")
        axes = []
        for part in inner.rstrip("]").split(", "):
            axis, _, size = part.partition("=")
            size = size or axis
            if size.isdigit():
                axes.append((axis, Size.of(int(size))))
            elif size in self.frame.scalars:
                axes.append((axis, Size.of(self.frame.scalars[size])))
            else:
                axes.append((axis, self.symbols.setdefault(size, Size.symbol(size))))
                if size != "B":
                    self.frame.sizes[size] = self.symbols[size]
        return Type(dtype or "float", tuple(axes), dtype in ("", "float"))

    def number(self, options: Sequence[int]) -> tuple[str, int]:
        """A fixed number: written out, or as a name of the scope that has one of these values."""
        named = [n for n, v in self.frame.scalars.items() if v in options and not isinstance(v, bool)]
        text = self.pick([*(str(v) for v in options), *named])
        value = int(text) if text.lstrip("-").isdigit() else self.frame.scalars[text]
        if value not in options:
            raise Diverged
        return text, value

    def extent(self, x: Operand, axis: str) -> str:
        """The size of an axis as text; only of what has a name."""
        size = x.type[axis]
        texts = [n for n, s in self.frame.sizes.items() if s.same(size)]
        if size.constant is not None:
            texts.append(str(size.constant))
        if x.text in self.frame.tensors:
            texts.append(f"{x.text}.{axis}")
        return self.pick(texts)

    # ---- text

    def call(self, op: str, x: Operand, *arguments: str, label: str = "") -> tuple[str, bool]:
        """`x |> label: op(...)` or `label: op(x, ...)`, and whether it is a pipe."""
        if self.coin():
            return f"{label}{op}({', '.join((x.text if x.atom else f'({x.text})', *arguments))})", False
        given = f"({', '.join(arguments)})" if arguments else ""
        return f"{x.left} |> {label}{op}{given}", True

    def made(self, op: str, type: Type, x: Operand, *arguments: str, label: str = "") -> Operand:
        text, pipe = self.call(op, x, *arguments, label=label)
        return Operand(text, type, not pipe and not label, pipe)

    # ---- bodies again

    @contextmanager
    def playing(self, tape: Tape) -> Iterator[None]:
        """Draws come from a tape, or go to it the first time."""
        outer, self.source = self.source, Source(self.source.choose, tape)
        try:
            yield
            tape.finished = True
        finally:
            self.source = outer

    @contextmanager
    def within(self, frame: Frame) -> Iterator[Frame]:
        outer, self.frame = self.frame, frame
        try:
            yield frame
        finally:
            self.frame = outer

    @contextmanager
    def guarded(self, where: np.ndarray) -> Iterator[None]:
        outer = self.guard
        self.guard = where if outer is None else outer & where
        try:
            yield
        finally:
            self.guard = outer

    def attempt(self, write: Callable[[], Any], times: int = 6) -> Any:
        """What could be written, after some tries; what the others left behind is undone."""
        if self.source.tape.finished:
            return write()
        for _ in range(times):
            saved = self.snapshot()
            try:
                return write()
            except Unfit:
                self.restore(saved)
        raise Unfit

    def snapshot(self) -> tuple[Any, ...]:
        frame, count = self.frame, self.count
        return (
            self.source.mark(),
            replace(
                frame,
                tensors=dict(frame.tensors),
                sizes=dict(frame.sizes),
                scalars=dict(frame.scalars),
                unread=dict(frame.unread),
                modules=dict(frame.modules),
                labels=set(frame.labels),
                lines=list(frame.lines),
            ),
            replace(
                count,
                alive=count.alive.copy(),
                needs=list(count.needs),
                weights=dict(count.weights),
                used=set(count.used),
            ),
            dict(self.symbols),
            list(self.inputs),
            list(self.components),
            {file: set(names) for file, names in self.imports.items()},
            list(self.functions),
            dict(self.outputs),
            list(self.optional),
            list(self.states),
        )

    def restore(self, saved: tuple[Any, ...]) -> None:
        mark, frame, self.count, self.symbols, self.inputs, self.components, *rest = saved
        self.imports, self.functions, self.outputs, self.optional, self.states = rest
        self.source.rewind(mark)
        vars(self.frame).update(vars(frame))
