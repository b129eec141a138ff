"""The input sizes at which figures are given: asked for, claimed by the spec, or usual."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from archc.contract import Contract, Obligation
from archc.diagnostics import ArchError, Diagnostic, Label, did_you_mean, fail
from archc.ir.program import Program
from archc.sizes import DivisorError
from archc.source import Span
from archc.syntax import tree

USUAL = 224
LARGEST = 2**31 - 1
_PAIR = re.compile(r"([A-Za-z_]\w*)=(\d{1,10}(?:x\d{1,10})*)")


def parse_sizes(program: Program, texts: Sequence[str], batch: int | None = None) -> dict[str, int]:
    """Sizes by symbol from `image=224`, `image=192x256` or `H=192`, a symbol winning over an input.

    Raises ArchError E0901 for what is none of these or names nothing.
    """
    inputs: dict[str, int] = {}
    symbols: dict[str, int] = {}
    for text in texts:
        match = _PAIR.fullmatch(text.strip())
        if match is None:
            raise fail("E0901", f"`{text[:60]}` is not a size", helps=(_example(program),))
        name, numbers = match[1], [int(n) for n in match[2].split("x")]
        if not all(1 <= n <= LARGEST for n in numbers):
            raise fail("E0901", f"a size is at least 1 and at most {LARGEST}, and `{text}` is not")
        if name in program.symbols and len(numbers) == 1:
            symbols[name] = numbers[0]
        elif any(i.name == name for i in program.inputs):
            inputs |= _of_input(program, name, numbers)
        else:
            known = [*(i.name for i in program.inputs), *program.symbols]
            raise fail("E0901", f"no input or size of `{program.name}` is called `{name}`",
                       helps=did_you_mean(name, known) or (f"known are {', '.join(known)}",))  # fmt: skip
    if batch is not None:
        if "B" not in program.symbols:
            raise fail("E0901", f"`{program.name}` has no batch size B to choose")
        symbols["B"] = batch
    return inputs | symbols


def _of_input(program: Program, name: str, numbers: list[int]) -> dict[str, int]:
    """Sizes for the positions of an input: one for all of them, or one for each."""
    given = next(i for i in program.inputs if i.name == name)
    places = [str(axis.size) for axis in given.value.type.axes if axis.is_position]
    free = [place for place in places if place in program.symbols]
    if len(numbers) == 1:
        if not free:
            raise fail("E0901", f"the sizes of `{name}` are fixed: {given.value.type}")
        return dict.fromkeys(free, numbers[0])
    if len(numbers) != len(places):
        asked = "x".join(map(str, numbers))
        message = f"`{name}` is {given.value.type}: {len(places)} positions, and `{asked}` gives {len(numbers)}"
        raise fail("E0901", message, helps=(_example(program),))
    sizes: dict[str, int] = {}
    for place, number in zip(places, numbers, strict=True):
        if (place not in free and place != str(number)) or sizes.get(place, number) != number:
            raise fail("E0901", f"`{place}` of `{name}` cannot be {number}: {given.value.type}")
        if place in free:
            sizes[place] = number
    return sizes


def _example(program: Program) -> str:
    first = program.inputs[0].name
    places = [axis for axis in program.inputs[0].value.type.axes if axis.is_position]
    both = f"`{first}={'x'.join(['192', '256', '128'][: len(places)])}` or " if 1 < len(places) < 4 else ""
    symbol = next((s for s in program.symbols if s != "B"), "B")
    return f"write `{first}=224`, {both}`{symbol}=224`"


def choose(program: Program, contract: Contract, given: Mapping[str, int]) -> dict[str, int]:
    """A value for every symbol: `given`, else what the spec claims figures at, else 224 or the next to it.

    Raises ArchError E0902 where `given` cannot be met, or where no size is known that can.
    """
    names = dict.fromkeys((*program.symbols, *contract.symbols))
    usual = {name: 1 if name == "B" else USUAL for name in names}
    for base in ({**usual, **claimed(program)}, usual):
        sizes = {**base, **given}
        if contract.admits(sizes):
            return sizes
    near = contract.nearest(sizes)
    fitting = [one for one in near if all(one[name] == value for name, value in given.items())]
    if fitting:
        return fitting[0]
    if not set(given) - {"B"}:
        examples = contract.examples(1)
        if examples:
            return {**usual, **examples[0], **given}
    raise ArchError([_refusal(program, contract, sizes, near or contract.examples(3))])


def _refusal(program: Program, contract: Contract, sizes: dict[str, int], near: list[dict[str, int]]) -> Diagnostic:
    failing = contract.failing(sizes)
    shown = ", ".join(f"{name} = {value}" for name, value in sizes.items() if name != "B")
    free = [name for name in sizes if name != "B"]
    helps = tuple(" ".join(f"--size {name}={one[name]}" for name in free) for one in near)
    nearest = f"nearest it takes: {', or '.join(helps)}" if helps else "no sizes were found that it takes"
    return Diagnostic(
        "E0902",
        f"`{program.name}` does not take {shown}",
        failing.span if failing is not None else program.span,
        failing.why if failing is not None else "",
        notes=tuple(f"it needs {line}" for line in contract.describe()),
        helps=(nearest,),
    )


def refusal(refused: Sequence[Obligation]) -> Diagnostic:
    """Needs that no input size meets together, told at the one that most likely is the mistake."""
    first, *others = sorted(refused, key=lambda o: ("equal", "divides", "at_least").index(o.kind))
    related = tuple(Label(o.span, f"beside this: {o.why}") for o in others if o.span is not None)
    demand = {"equal": "equal to", "divides": "a multiple of", "at_least": "at least"}[first.kind]
    never = f"{first.left} is never {demand} {first.right}"
    return Diagnostic(first.code, f"{first.why}, and no input fits", first.span, never, related, _tried(first))


def left_to_little(contract: Contract) -> list[Diagnostic]:
    """E0332, a warning, for sizes that must agree and do so for the smallest inputs alone.

    Where one of them is a number above 1, the spec says so itself: a table has as many rows as positions.
    """
    found: dict[Span | None, Diagnostic] = {}
    for requirement in contract.requirements:
        if requirement.kind not in ("maximum", "finite"):
            continue
        for o in requirement.reasons:
            sides = (o.left.constant, o.right.constant)
            if o.kind != "equal" or any(side is not None and side > 1 for side in sides):
                continue
            helps = (
                ("axes of size 1 do not stretch: take the axis out, and it is broadcast by name",) if 1 in sides else ()
            )
            found.setdefault(o.span, Diagnostic(
                "E0332", f"{o.why}, and they agree only where {requirement.statement}", o.span,
                f"{o.left} and {o.right}", notes=_tried(o), helps=helps, severity="warning",
            ))  # fmt: skip
    return list(found.values())


def _tried(o: Obligation) -> tuple[str, ...]:
    """Both sides of an equation at a usual size."""
    usual = dict.fromkeys(o.left.symbols | o.right.symbols, USUAL)
    try:
        left, right = o.left.evaluate(usual), o.right.evaluate(usual)
    except DivisorError:
        return ()
    if o.kind != "equal" or left == right:
        return ()
    sides = [f"{side} is {size}" for side, size in ((o.left, left), (o.right, right)) if side.constant is None]
    return (f"with an input of {USUAL}, {' and '.join(sides)}",)


def claimed(program: Program) -> dict[str, int]:
    """The sizes of the first claim about multiply-adds, as `claim macs(image=224) == 5.0G`."""
    for claim in program.claims:
        for call in _calls(claim.condition):
            sizes: dict[str, int] = {}
            for argument in call.arguments:
                if argument.keyword is not None and isinstance(argument.value, tree.Number):
                    texts = [f"{argument.keyword}={int(argument.value.value)}"]
                    try:
                        sizes |= parse_sizes(program, texts)
                    except ArchError:
                        return {}  # the claim itself is reported where claims are checked
            if sizes:
                return sizes
    return {}


def _calls(expr: tree.Expr) -> list[tree.Call]:
    """Calls of `macs` and `flops` in a condition."""
    match expr:
        case tree.Call(function=tree.Name(name="macs" | "flops")):
            return [expr]
        case tree.Compare(operands=operands):
            return [call for operand in operands for call in _calls(operand)]
        case tree.Binary(left=left, right=right):
            return [*_calls(left), *_calls(right)]
        case tree.Unary(operand=inner) | tree.Paren(expr=inner):
            return _calls(inner)
    return []


def shown_sizes(program: Program, sizes: Mapping[str, int]) -> str:
    """`image 3x224x224, batch 1`."""
    parts = []
    for given in program.inputs:
        numbers = [str(axis.size.evaluate(sizes)) for axis in given.value.type.axes if axis.name != "B"]
        parts.append(f"{given.name} {'x'.join(numbers)}".rstrip())
    batch = f", batch {sizes['B']}" if sizes.get("B", 1) != 1 else ""
    return ", ".join(parts) + batch
