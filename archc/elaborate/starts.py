"""Whether every weight can start as the spec says. The rules are known to hold only once all of the network is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from archc.diagnostics import ArchError, Diagnostic, did_you_mean, fail
from archc.ir.graph import ChildEntry, Entry, InitRule, ListEntry, OpEntry, Template, WeightEntry
from archc.ir.sym import Scalar, evaluate, plain
from archc.ops.base import Weight
from archc.source import Span

# The largest number that a weight in float32 holds.
LARGEST = 3.4e38
# Initialisers that count what goes into a weight and what comes out.
FANS = ("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "eye")

Bindings = dict[str, Any]


def check_starts(root: Template) -> list[Diagnostic]:
    """E0226 for every weight that cannot start as it is told to, and for every rule about a weight that there is not."""
    found: dict[Diagnostic, None] = {}
    known: dict[int, set[str]] = {}  # the weights that a rule may speak of
    rules: dict[int, InitRule] = {}
    for rule, bindings, entry in _uses(root, (), set()):
        rules[id(rule)] = rule
        known.setdefault(id(rule), set()).update(w.name for w in entry.weights)
        weight = next((w for w in entry.weights if w.name == rule.weight), None)
        if weight is None:
            continue
        try:
            _check(rule.kind, _numbers(rule, bindings, entry), weight, rule.span)
        except ArchError as error:
            found |= dict.fromkeys(error.diagnostics)
    for key, names in known.items():
        rule = rules[key]
        if rule.weight not in names and not (rule.weight == "bias" and "weight" in names):
            helps = did_you_mean(rule.weight, names) or ("its weights are " + ", ".join(sorted(names)),)
            said = f"`{rule.owner}` has no weight `{rule.weight}`"
            found[Diagnostic("E0226", said, _part(rule.span, f"{rule.owner}.{rule.weight}"), helps=helps)] = None
    return list(found)


def _part(span: Span, text: str) -> Span:
    """The place of `text` within a statement, or all of it."""
    start = span.text.find(text)
    return span if start < 0 else Span(span.source, span.start + start, span.start + start + len(text))


def check_start(weight: Weight, span: Span) -> None:
    """The same for a weight that a component declares. Raises ArchError E0226."""
    _check(weight.init.kind, [plain(a) for a in weight.init.args], weight, span)


def _uses(
    template: Template, above: tuple[tuple[InitRule, Bindings], ...], seen: set[Any]
) -> Iterator[tuple[InitRule, Bindings, OpEntry]]:
    """Each rule with every operation that it is about, and the numbers that it may read."""
    key = (id(template), *(id(rule) for rule, _ in above))
    if key in seen:
        return
    seen.add(key)
    bindings = {name: plain(value) for name, value in template.parameters}
    rules = (*above, *((rule, bindings) for rule in template.inits))
    for entry in _flat(template.entries):
        if isinstance(entry, ChildEntry):
            yield from _uses(entry.template, rules, seen)
        elif isinstance(entry, OpEntry) and not entry.functional:
            yield from ((rule, given, entry) for rule, given in rules if rule.owner == entry.op.name)


def _flat(entries: Sequence[Entry]) -> Iterator[Entry]:
    for entry in entries:
        if isinstance(entry, ListEntry):
            yield from _flat(entry.items)
        elif not isinstance(entry, WeightEntry):
            yield entry


def _numbers(rule: InitRule, bindings: Bindings, entry: OpEntry) -> list[Any]:
    """What the rule's arguments are for one operation, as the module computes them. Raises ArchError E0226."""
    own: Bindings = {}
    for name in entry.op.attributes:
        value = getattr(entry.op, name)
        number = plain(value) if isinstance(value, Scalar) else value
        own[f"{rule.owner}.{name}"] = number[0] if isinstance(number, list) else number
    try:
        return [evaluate(arg, bindings | own) for arg in rule.args]
    except KeyError:
        return []  # it reads what only the module knows
    except (ArithmeticError, ValueError, TypeError) as error:
        raise fail("E0226", f"`{rule.owner}.{rule.weight}` cannot start like this: {error}", rule.span) from None


def _check(kind: str, args: list[Any], weight: Weight, span: Span) -> None:
    """Raises ArchError E0226 for numbers that torch's initialisers refuse."""

    def refused(why: str) -> ArchError:
        return fail("E0226", f"`{weight.name}` cannot start like this: {why}", span)

    for number in args:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise refused("its start is not a number")
        if not math.isfinite(number) or abs(number) > LARGEST:
            raise refused(f"{number} is too large a number")
    match kind, args:
        case "normal" | "trunc_normal", [*_, spread] if spread < 0:
            raise refused(f"the spread is {spread:g}")
        case "trunc_normal", [*_, 0]:
            raise refused("the spread is 0")
        case "uniform", [bound] if bound < 0:
            raise refused(f"the bound is {bound:g}")
        case "uniform", [low, high] if low > high:
            raise refused(f"{low:g} is more than {high:g}")
        case "xavier_uniform" | "xavier_normal", [gain] if gain < 0:
            raise refused(f"the gain is {gain:g}")
        case _ if kind in FANS and len(weight.axes) < 2:
            raise refused(f"`{kind}` is for weights of two axes or more")
        case "eye", _ if len(weight.axes) != 2:
            raise refused("`eye` is for weights of two axes")
        case _:
            pass
