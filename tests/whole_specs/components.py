"""Components, their parameters, and shared modules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from whole_specs.author import Author, Diverged, Frame, Tape, Type, Unfit
from whole_specs.operations import MAP, TOKENS, small, with_channels, within
from whole_specs.sizes import Size, product
from whole_specs.statements import bounded, change, fold, statement, write

SIGNATURES: dict[str, tuple[str, ...]] = {
    "[B, C, H, W]": ("B", "C", "H", "W"),
    "[B, N, C]": ("B", "N", "C"),
    "[B, C, N]": ("B", "C", "N"),
    "[B, C, ...]": (),
    "[B, C]": ("B", "C"),
}
RECIPES = ("gelu", "relu", "tanh", "clamp(-1, 1)", "identity")
NORMS = ("layer_norm", "rms_norm", "group_norm(1)", "layer_norm(eps=1e-6)", "batch_norm")
REGIONS = ("everywhere", "window(2)", "neighborhood(3)", "grid(2)", "self")


@dataclass
class Component:
    """What is drawn once, and run again for every call."""

    role: str
    name: str
    signature: str
    second: str
    parameters: list[tuple[str, str, str | None, tuple[Any, ...]]]
    weighted: bool
    statements: int
    tape: Tape = field(default_factory=Tape)
    lines: list[str] | None = None
    results: int = 1
    must: str | None = None

    def text(self) -> str:
        taken = [f"x: {self.signature}", *([f"y: {self.second}"] if self.second else [])]
        for name, kind, default, _ in self.parameters:
            taken.append(f"{name}: {kind}{f' = {default}' if default is not None else ''}")
        return "\n".join([f"{self.role} {self.name}({', '.join(taken)}) {{", *(self.lines or []), "}"])


def new_component(a: Author, must: str | None = None) -> Component:
    name = f"{a.pick(['part', 'mixed', 'layer'])}{len(a.components) + 1}"
    parameters: list[tuple[str, str, str | None, tuple[Any, ...]]] = []
    kinds: list[tuple[str, str, tuple[Any, ...]]] = [
        ("k", "int", (1, 2, 3)),
        ("wide", "bool", (False, True)),
        ("scale", "float", ("0.5", "2.0")),
        ("mode", "str", ('"none"', '"tanh"')),
        ("act", "recipe", RECIPES),
        ("norm", "recipe", NORMS),
        ("dims", "list[int]", ("[4, 2]", "[6]", "[2, 4, 3]")),
        ("over", "region", REGIONS),
    ]
    for key, kind, options in kinds:
        if a.seldom(3):
            shown = str(options[0]).lower() if isinstance(options[0], bool) else str(options[0])
            parameters.append((key, kind, a.pick([None, shown]), options))
    # Those without a default stand first.
    parameters.sort(key=lambda p: p[2] is not None)
    signature = a.pick(tuple(SIGNATURES))
    second = a.pick(["", signature, "[B, C]"])
    made = Component(
        a.pick(["block", "mixer"]), name, signature, second, parameters, a.coin(), a.pick([1, 2, 0, 3]), must=must
    )
    a.components.append(made)
    return made


def _takes(signature: str, t: Type) -> bool:
    names = SIGNATURES[signature]
    if not with_channels(t) or t.names[:1] != ("B",):
        return False
    return t.names == names if names else len(t.axes) >= 2


@statement("component", deepest=1)
def call_component(a: Author, depth: int, made: Component | None = None) -> None:
    """A call of a component: one that exists, or a new one."""
    if a.depth >= 2:
        raise Unfit
    if made is None:
        # Its own body may call only those that were written before.
        older = [c for c in a.components if c.lines is not None]
        choice = a.pick([*range(len(older)), -1])
        made = new_component(a) if choice < 0 else older[choice]
    x = a.tensor(lambda t: _takes(made.signature, t), made.signature.replace("...", "H, W").replace("C", "C=4"))
    y = None
    if made.second:
        y = a.tensor(
            lambda t: _takes(made.second, t) and set(t.names) <= set(x.type.names) and within(t, x.type), "[B, C=4]"
        )
        if not within(y.type, x.type):
            raise Unfit
    given: dict[str, Any] = {}
    args = [y.text] if y is not None else []
    for name, kind, default, options in made.parameters:
        if default is not None and a.coin():
            given[name] = options[0]
            continue
        if kind == "int":
            text, given[name] = a.number(options)
        else:
            given[name] = a.pick(options)
            text = str(given[name]).lower() if kind == "bool" else given[name]
        args.append(f"{name}={text}" if default is not None or a.coin() or (args[-1:] and "=" in args[-1]) else text)
    if made.weighted:
        label, said = a.label(made.name)
    else:
        label, said = "_", ""
    form = a.call(made.name, x, *args, label=said)[0]
    types = play(a, made, x.type, y.type if y is not None else None, given, label)
    for type in types:
        bounded(type)
    names = []
    for _ in types:
        a.frame.fresh += 1
        names.append(f"t{a.frame.fresh}")
    a.line(f"{', '.join(names)} = {form}")
    for name, type in zip(names, types, strict=True):
        a.bind(name, type)
    a.uses(made.role, *(kind for _, kind, _, _ in made.parameters))


def play(a: Author, made: Component, x: Type, y: Type | None, given: dict[str, Any], label: str) -> list[Type]:
    """The types of the results; needs, weights and costs are noted. Raises Unfit."""
    prefix = a.frame.prefix if label == "_" else f"{a.frame.prefix}{label}."
    frame = Frame(prefix, owning=made.weighted and a.frame.owning)
    if made.weighted and not a.frame.owning:
        raise Unfit
    frame.tensors["x"] = Type("float", x.axes)
    if y is not None:
        frame.tensors["y"] = Type("float", y.axes)
    frame.unread = dict.fromkeys(frame.tensors)
    frame.scalars["C"] = x.fixed("C") or 0
    for axis in SIGNATURES[made.signature]:
        if axis not in ("B", "C"):
            frame.sizes[axis] = x[axis]
            if x[axis].constant is not None:
                raise Unfit
    for name, kind, _, _ in made.parameters:
        value = given[name]
        if kind in ("int", "bool"):
            frame.scalars[name] = value
        else:
            frame.recipes[name] = value
    frame.modules = {}
    a.depth += 1
    guard = a.guard
    try:
        with a.within(frame), a.playing(made.tape):
            if made.weighted:
                change(a, "x", True)
            for name, kind, _, _ in made.parameters:
                use_parameter(a, name, kind)
            write(a, made.statements, 1, made.must)
            results = _finish(a)
    except Diverged:
        raise Unfit from None
    finally:
        a.depth -= 1
        a.guard = guard
    if made.lines is None:
        made.lines = frame.lines
    elif made.lines != frame.lines:
        raise Unfit
    return results


def use_parameter(a: Author, name: str, kind: str) -> None:
    """Every parameter is used somehow."""
    frame = a.frame
    if kind == "int":
        _let(a, f"x * {name}", frame.tensors["x"])
    elif kind == "bool":
        _let(a, f"(x if {name} else tanh(x))", frame.tensors["x"])
    elif kind == "float":
        _let(a, f"x * {name} + 1", frame.tensors["x"])
    elif kind == "str":
        _let(a, f"gelu(x, {name})", frame.tensors["x"])
    elif kind == "list[int]":
        _let(a, f"x * {name}[0] / sum({name}) * len({name})", frame.tensors["x"])
    elif kind == "region":
        _over(a, name)
    elif kind == "recipe" and name == "act":
        _let(a, f"x |> {name}", frame.tensors["x"])
    elif kind == "recipe":
        x = frame.tensors["x"]
        width, value = x.fixed("C") or 0, frame.recipes[name]
        label, said = a.label("normed")
        weights: dict[str, tuple[int, ...]] = {"weight": (width,)}
        weights |= {} if value == "rms_norm" else {"bias": (width,)}
        if value == "batch_norm":
            weights |= {"running_mean": (width,), "running_var": (width,), "num_batches_tracked": ()}
        if not said:
            raise Unfit
        if value == "group_norm(1)":
            a.least(product(x[n] for n in x.positions) * width, 2, "two elements in a group")
        a.owns(label, weights)
        _let(a, f"x + (x |> {said}{name})", x)


def _let(a: Author, text: str, type: Type) -> None:
    a.frame.unread.pop("x", None)
    a.line(f"x = {text}")
    a.bind("x", type.exact())


def _over(a: Author, name: str) -> None:
    """Attention over a region that is a parameter."""
    x, value = a.frame.tensors["x"], a.frame.recipes[name]
    if not 1 <= len(x.positions) <= 2 or not small(x, 8000):
        raise Unfit
    moved = [x[n] for n in x.positions]
    taps = {"everywhere": None, "self": 1, "window(2)": 2, "neighborhood(3)": 3, "grid(2)": 2}[value]
    if value in ("window(2)", "grid(2)"):
        for size in moved:
            a.divides(2, size, value)
    count = Size.of(1)
    for size in moved:
        count = count * (size if taps is None else taps)
    a.costs(x.elements * count)
    a.costs(x.elements * count)
    a.uses("correlate", "aggregate", "softmax")
    _let(a, f"aggregate(softmax(correlate(x, x, {name}) * 0.5, tap), x, {name})", x)


def _finish(a: Author) -> list[Type]:
    """`return`, with all that nothing has read."""
    names = [n for n, t in a.frame.tensors.items() if t.dtype == "float"]
    names.sort(key=lambda n: n not in a.frame.unread)
    first = a.pick(names)
    two = [n for n in a.frame.unread if n != first and a.frame.tensors[n].dtype == "float"]
    results = [first]
    if two and a.seldom():
        results.append(a.pick(two))
    keep = set(results)
    fold(a, keep, first)
    a.line(f"return {', '.join(results)}")
    return [a.frame.tensors[n].exact() for n in results]


# ---- modules


@statement("module", deepest=0)
def shared_module(a: Author, depth: int) -> None:
    """`module f = recipe`, used twice."""
    if not a.frame.root or not a.frame.owning or a.frame.prefix:
        raise Unfit
    kind = a.pick(["linear", "conv", "layer_norm"])
    x = a.tensor(lambda t: with_channels(t) and 1 <= len(t.positions) <= 3, MAP, TOKENS)
    width = x.type.fixed("C") or 0
    a.frame.fresh += 1
    name = f"f{a.frame.fresh}"
    if kind == "linear":
        a.line(f"module {name} = linear({width})")
        weights: dict[str, tuple[int, ...]] = {"weight": (width, width), "bias": (width,)}
    elif kind == "conv":
        a.line(f"module {name} = conv({width}, 3)")
        for n in x.type.positions:
            a.least(x.type[n] + 2, 3, f"the kernel fits into {n}")
        weights = {"weight": (width, width, *(3,) * len(x.type.positions)), "bias": (width,)}
    else:
        a.line(f"module {name} = layer_norm")
        weights = {"weight": (width,), "bias": (width,)}
    a.owns(name, weights)
    macs = {"linear": width, "conv": width * 3 ** len(x.type.positions), "layer_norm": 0}[kind]
    y = a.tensor(lambda t: with_channels(t) and t.names == x.type.names and t.fixed("C") == width)
    if kind == "conv":
        for n in y.type.positions:
            a.least(y.type[n] + 2, 3, f"the kernel fits into {n}")
    one, two = a.name(), a.name()
    if one == two or two == x.text or one == y.text:
        raise Unfit
    a.line(f"{one} = {name}({x.text})")
    a.line(f"{two} = {y.text} |> {name} |> {name}")
    a.costs(x.type.elements * macs)
    a.costs(y.type.elements * (2 * macs))
    a.bind(one, x.type.exact())
    a.bind(two, y.type.exact())
    a.uses(kind)
