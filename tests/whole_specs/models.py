"""What stands in models alone, and whole specs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from whole_specs import components, flow
from whole_specs.author import Author, Counted, Diverged, Frame, Operand, Tape, Type, Unfit
from whole_specs.operations import MAP, TOKENS, floating, with_channels
from whole_specs.statements import statement, write

# They register their statements.
assert components and flow


@statement("require", deepest=0)
def requirement(a: Author, depth: int) -> None:
    """`require H % 2 == 0`"""
    if not a.frame.root or a.frame.prefix or a.frame.indent != 1 or not a.frame.sizes:
        raise Unfit
    name = a.pick(sorted(a.frame.sizes))
    by = a.pick([2, 3])
    a.divides(by, a.frame.sizes[name], "a condition of the spec")
    a.line(f'require {name} % {by} == 0, "it is halved later"')


@statement("init", deepest=0)
def initial(a: Author, depth: int) -> None:
    """`init conv.weight = ...`"""
    a.line(a.pick(["init conv.bias = 0", "init linear.weight = trunc_normal(0.02)", "init conv.weight = normal(0.1)"]))


def _at_the_top(a: Author) -> None:
    if not a.frame.root or a.frame.prefix or a.frame.indent != 1:
        raise Unfit


def _looked_at(a: Author, fits: Callable[[Type], bool]) -> Operand:
    """A tensor that something else has to read too, as this happens in training alone."""
    unread = dict(a.frame.unread)
    x = a.tensor(fits, MAP)
    a.frame.unread = unread
    return x


@statement("exit", deepest=0)
def early_exit(a: Author, depth: int) -> None:
    """`exit early = ...`: an output before the others."""
    _at_the_top(a)
    x = a.tensor(floating, MAP)
    a.frame.fresh += 1
    name = f"early{a.frame.fresh}"
    a.line(f"exit {name} = {x.text} |> tanh")
    a.outputs[name] = x.type
    a.uses("tanh")


@statement("loss", deepest=0)
def loss(a: Author, depth: int) -> None:
    """`loss l = ...`: given in training alone."""
    _at_the_top(a)
    x = _looked_at(a, lambda t: floating(t) and bool(t.axes))
    a.frame.fresh += 1
    a.line(f"loss size{a.frame.fresh} = sum({x.text} * {x.text}, {', '.join(x.type.names)})")


@statement("when training", deepest=0)
def training_output(a: Author, depth: int) -> None:
    """An output in training alone, which does not count."""
    _at_the_top(a)
    x = _looked_at(a, with_channels)
    label, said = a.label("linear")
    width = x.type.fixed("C") or 0
    a.owns(label, {"weight": (2, width), "bias": (2,)})
    a.frame.fresh += 1
    a.line(f"output aux{a.frame.fresh} when training = {x.left} |> {said}linear(2)")


@statement("state", deepest=0)
def state(a: Author, depth: int) -> None:
    """A tensor that goes in and comes out."""
    _at_the_top(a)
    x = a.tensor(lambda t: t.names == ("B", "C") and floating(t) and with_channels(t), "[B, C=4]")
    name = a.add_input(f"[B, C={x.type.fixed('C')}]", "state", " = 0")
    a.states.append(name)
    a.frame.fresh += 1
    target = f"t{a.frame.fresh}"
    a.line(f"{target} = {name} * 0.5 + {x.text}")
    a.bind(target, x.type.exact())
    a.line(f"next {name} = {target}")
    a.read(target)
    a.outputs[f"next {name}"] = x.type


@statement("optional", deepest=0)
def optional(a: Author, depth: int) -> None:
    """An input that may be left out."""
    _at_the_top(a)
    x = a.tensor(lambda t: with_channels(t) and "B" in t and not a.frame.arm, MAP)
    name = a.add_input(f"[B, C={x.type.fixed('C')}]", default=" = none")
    a.read(name)
    del a.frame.tensors[name]  # it is read under the condition alone
    a.optional.append(name)
    a.line(f"if {name} != none {{ {x.text} = {x.text} * tanh({name}) }}")
    a.frame.tensors[x.text] = x.type.exact()
    a.frame.unread[x.text] = None
    a.uses("multiply", "tanh")


@statement("entry", deepest=0)
def entry(a: Author, depth: int) -> None:
    """A further method, which shares a module with the model."""
    _at_the_top(a)
    x = a.tensor(lambda t: t.names == ("B", "C", "H", "W") and floating(t) and with_channels(t), MAP)
    width = x.type.fixed("C") or 0
    a.frame.fresh += 1
    module, method, target = (f"{word}{a.frame.fresh}" for word in ("g", "embed", "t"))
    a.line(f"module {module} = linear({width})")
    a.owns(module, {"weight": (width, width), "bias": (width,)})
    pooled = a.coin()
    for n in x.type.positions if pooled else ():
        a.least(x.type[n], 1, f"a mean over {n}")
    how = " |> mean(positions)" if pooled else ""
    a.line(f"entry {method}(z: [B, C={width}, H=Hq, W=Wq]) {{ return z |> {module}{how} }}")
    a.line(f"{target} = {method}({x.text})")
    a.costs(x.type.elements * width)
    a.bind(target, x.type.without(*x.type.positions).exact() if pooled else x.type.exact())


# ---- whole specs


@dataclass(repr=False)
class Variant:
    """What one variant of a spec is said to be."""

    name: str
    count: Counted
    symbols: tuple[str, ...]
    inputs: dict[str, Type]
    outputs: dict[str, Type]
    optional: list[str]
    given: dict[str, Any]


@dataclass
class Spec:
    """A spec with what its author says of its variants; `used` are the constructs that it holds."""

    text: str
    variants: list[Variant]
    used: set[str]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis shows it."""
        needs = [one.count.needs for one in self.variants]
        printer.text(f"\n{self.text}\nneeds: {needs}")


PARAMETERS: list[tuple[str, str, tuple[Any, ...]]] = [
    ("dim", "int", (4, 2, 6)),
    ("depth", "int", (1, 2, 3)),
    ("flag", "bool", (True, False)),
]
STARTS = (
    MAP,
    TOKENS,
    "[B, C=dim, H, W]",
    "[B, N, C=dim]",
    "[B, C=2, T, H, W]",
    "[B, heads=2, C=4, H, W]",
    "[B, C=4, N]",
)


def write_spec(choose: Callable[[int], int], must: str | None = None) -> Spec:
    """A whole spec, of one or two variants. Raises Unfit where nothing could be written."""
    a = Author(choose)
    tape = Tape()
    arguments: list[dict[str, Any]] = [{"dim": 4, "depth": 2, "flag": True}]
    if a.coin():
        arguments.append({name: a.pick(options) for name, _, options in PARAMETERS})
    statements = a.pick([2, 3, 1, 4, 5, 6])
    variants: list[Variant] = []
    lines: list[str] = []
    declared: list[str] = []
    for number, given in enumerate(arguments):
        a.count = Counted()
        a.frame = Frame("", scalars=dict(given), root=True)
        a.inputs, a.symbols, a.guard, a.sharing = [], {}, None, False
        a.outputs, a.optional, a.states = {}, [], []
        try:
            with a.playing(tape):
                outputs = _model(a, statements, must)
        except (Diverged, Unfit):
            if number == 0:
                raise
            continue
        written = [f"    {text}" for _, text, _ in a.inputs]
        if number and (a.frame.lines != lines or written != declared):
            continue
        lines, declared = a.frame.lines, written
        symbols = tuple(a.symbols)
        inputs = {name: type for name, _, type in a.inputs}
        variants.append(Variant(f"net_{number + 1}", a.count, symbols, inputs, outputs, a.optional, given))
    head = [f"from {file} import {', '.join(sorted(names))}" for file, names in sorted(a.imports.items())]
    head += dict.fromkeys(a.functions)
    parts = [c.text() for c in a.components if c.lines is not None]
    body = "\n".join(["model net(dim: int, depth: int = 2, flag: bool = true) {", *declared, *lines, "}"])
    bound = [f"{v.name} = net({_arguments(v.given)})" for v in variants]
    text = "\n".join([*head, *parts, body, *bound]) + "\n"
    return Spec(text, variants, variants[0].count.used)


def _arguments(given: dict[str, Any]) -> str:
    return ", ".join(f"{n}={str(v).lower() if isinstance(v, bool) else v}" for n, v in given.items())


def _model(a: Author, statements: int, must: str | None) -> dict[str, Type]:
    for _ in range(a.pick([1, 2])):
        a.add_input(a.pick(STARTS))
    write(a, statements, 0, must)
    outputs = {name: type for name, type in a.outputs.items() if not name.startswith("next ")}
    names = list(a.frame.unread) or [a.pick([n for n, t in a.frame.tensors.items() if floating(t)])]
    for name in names:
        output = f"out_{name}"
        a.line(f"output {output} = {name}{' * 1.5' if a.frame.tensors[name].dtype == 'float' else ''}")
        outputs[output] = a.frame.tensors[name]
    return outputs | {name: a.outputs[f"next {name}"] for name in a.states}
