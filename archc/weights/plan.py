"""Where every tensor of a published checkpoint goes, by the rules of a `weights` section.

- The first rule whose source matches a key takes it; a key that no rule matches keeps its name. A rule with
  `slice` takes a part and leaves the key to the rules below it as well: one tensor may fill several weights.
- Several sources are copies of one tensor and must be equal, not all need be there; with `cat` or `stack`
  they are parts, and all must be there.
- A tensor of one number fits a weight of one number, whatever their ranks. Shapes agree otherwise.
- Strict: every tensor finds a place or is dropped, every weight is filled. Only the batch counters of
  normalisations (`num_batches_tracked`) may be missing or left over: no published result depends on them.

`plan` needs shapes alone, so that rules are proved without tensors and without torch; `fill_weights` carries
a plan out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from archc.diagnostics import ArchError, Diagnostic, fail
from archc.ops.base import Weight
from archc.records import dataclass
from archc.source import Span
from archc.syntax import tree
from archc.weights.leftovers import leftovers
from archc.weights.patterns import PatternError, fill, match
from archc.weights.rules import CompiledRule, compile_rules
from archc.weights.transforms import (
    Shape,
    Step,
    TransformError,
    joined,
    joined_shape,
    shape_after,
    tensor_after,
)

COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Placement:
    """The weight `target` and the keys that fill it. `rule` is None for a key that keeps its name."""

    target: str
    keys: tuple[str, ...]
    shape: Shape
    rule: CompiledRule | None


@dataclass(frozen=True)
class Plan:
    """Where every tensor goes. `missing` are the counters that nothing fills."""

    placements: tuple[Placement, ...]
    dropped: tuple[str, ...]
    missing: tuple[str, ...]
    warnings: tuple[Diagnostic, ...]


@dataclass
class _Landing:
    """What lands on one target: for each source of `rule`, its key."""

    rule: CompiledRule | None
    keys: dict[int, str] = field(default_factory=dict)

    def ordered(self) -> tuple[str, ...]:
        return tuple(self.keys[number] for number in sorted(self.keys))


def plan(
    rules: Sequence[tree.Rule],
    official: Mapping[str, Sequence[int]],
    module: Mapping[str, Weight],
    span: Span | None = None,
) -> Plan:
    """Where the tensors `official` (key -> shape) go in a module with the weights `module`.

    Findings that no rule is to blame for stand at `span`. Raises ArchError: E0605 for malformed rules, E0602
    where two tensors land on one weight, E0603 where shapes differ, E0601 where a tensor has no place or a
    weight got nothing.
    """
    compiled = compile_rules(rules)
    landings, dropped, used, diagnostics = _land(compiled, official, span)
    placements, shapes = [], {key: tuple(shape) for key, shape in official.items()}
    unplaced: list[str] = []
    filled: set[str] = set()
    for target, landing in landings.items():
        if target not in module:
            unplaced += [key for key in landing.ordered() if key.rpartition(".")[2] != COUNTER]
            continue
        filled.add(target)
        try:
            _check_shape(target, landing, shapes, module[target].shape, span)
        except ArchError as error:
            diagnostics += error.diagnostics
        placements.append(Placement(target, landing.ordered(), module[target].shape, landing.rule))
    empty = [key for key in module if key not in filled]
    nothing = {key: module[key].shape for key in empty if module[key].kind != "counter"}
    if unplaced or nothing:
        diagnostics.append(leftovers({key: shapes[key] for key in unplaced}, nothing, span))
    if diagnostics:
        raise ArchError(diagnostics)
    missing = tuple(key for key in empty if module[key].kind == "counter")
    return Plan(tuple(placements), tuple(dropped), missing, tuple(_unused(compiled, used)))


def _land(
    rules: Sequence[CompiledRule], official: Mapping[str, Sequence[int]], span: Span | None
) -> tuple[dict[str, _Landing], list[str], set[int], list[Diagnostic]]:
    """What lands where, what is dropped, which rules matched, and what collided."""
    landings: dict[str, _Landing] = {}
    dropped: list[str] = []
    used: set[int] = set()
    diagnostics: list[Diagnostic] = []
    for key in official:
        for rule, number, target in _takers(rules, key, used) or [(None, 0, key)]:
            if target is None:
                dropped.append(key)
                continue
            landing = landings.setdefault(target, _Landing(rule))
            if landing.rule is not rule or number in landing.keys:
                blamed = rule or landing.rule
                first = next(iter(landing.keys.values()))
                diagnostics.append(_collision(target, first, key, blamed.span if blamed else span))
            landing.keys.setdefault(number, key)
    return landings, dropped, used, diagnostics


def _takers(
    rules: Sequence[CompiledRule], key: str, used: set[int]
) -> list[tuple[CompiledRule | None, int, str | None]]:
    """The rules that take `key`, which of their sources it is, and where it lands. Raises ArchError E0605."""
    takers: list[tuple[CompiledRule | None, int, str | None]] = []
    for index, rule in enumerate(rules):
        for number, source in enumerate(rule.sources):
            found = match(source, key)
            if found is None:
                continue
            used.add(index)
            try:
                takers.append((rule, number, None if rule.target is None else fill(rule.target, found)))
            except PatternError as error:
                raise fail("E0605", f"this rule does not fit `{key}`: {error}", rule.span) from None
            break
        if takers and takers[-1][0] is rule and not rule.cuts:
            break
    return takers


def _collision(target: str, first: str, second: str, span: Span | None) -> Diagnostic:
    return Diagnostic(
        "E0602",
        f"two tensors land on `{target}`: `{first}` and `{second}`",
        span,
        helps=(
            'a tensor that is stored twice is written `"a", "b" -> "c"`',
            'a tensor without use is written `"a" -> drop`',
        ),
    )


def _check_shape(target: str, landing: _Landing, shapes: Mapping[str, Shape], wanted: Shape, span: Span | None) -> None:
    """Raises ArchError E0601 where a part is missing, E0603 where the result has another shape."""
    rule, keys = landing.rule, landing.ordered()
    place = rule.span if rule else span
    if rule and rule.join and len(keys) < len(rule.sources):
        absent = next(source.text for number, source in enumerate(rule.sources) if number not in landing.keys)
        raise fail(
            "E0601",
            f"`{target}` is joined from {len(rule.sources)} tensors, and none matches `{absent}`",
            place,
        )
    try:
        results = [_after(rule.before if rule else (), shapes[key]) for key in keys]
        if rule and rule.join:
            results = [_after(rule.after, joined_shape(rule.join, results))]
    except TransformError as error:
        raise fail("E0603", f"`{keys[0]}` cannot become `{target}`: {error}", place) from None
    for key, result in zip(keys, results, strict=False):
        if result != wanted and not _both_single(result, wanted):
            became = f", {list(result)} after the transforms" if list(result) != list(shapes[key]) else ""
            found = f"`{key}` of the checkpoint is {list(shapes[key])}{became}"
            raise fail(
                "E0603",
                f"{found}, and the weight `{target}` is {list(wanted)}",
                place,
                helps=_shape_help(result, wanted),
            )


def _after(steps: Sequence[Step], shape: Shape) -> Shape:
    for step in steps:
        shape = shape_after(step, shape)
    return shape


def _both_single(a: Shape, b: Shape) -> bool:
    return math.prod(a) == math.prod(b) == 1


def _shape_help(found: Shape, wanted: Shape) -> tuple[str, ...]:
    if math.prod(found) != math.prod(wanted):
        return ()
    return (f"they hold equally many numbers: `|> reshape({', '.join(map(str, wanted))})` may be what is missing",)


def _unused(rules: Sequence[CompiledRule], used: set[int]) -> list[Diagnostic]:
    return [
        Diagnostic(
            "E0604", f"no tensor matches `{rule.sources[0].text}`", rule.span, severity="warning",
            helps=("the first rule that matches a key takes it: put the narrower rule above",),
        )
        for index, rule in enumerate(rules) if index not in used
    ]  # fmt: skip


# ---- carrying out


def fill_weights(plan: Plan, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The module's weights from torch tensors. Raises ArchError E0602 where tied tensors differ."""
    import torch

    result: dict[str, Any] = {}
    for placement in plan.placements:
        rule = placement.rule
        parts = []
        for key in placement.keys:
            tensor = tensors[key]
            for step in rule.before if rule else ():
                tensor = tensor_after(step, tensor)
            parts.append(tensor)
        if rule and rule.join:
            tensor = joined(rule.join, parts)
            for step in rule.after:
                tensor = tensor_after(step, tensor)
            parts = [tensor]
        for key, other in zip(placement.keys[1:], parts[1:], strict=False):
            if not torch.equal(parts[0], other):
                both = f"`{placement.keys[0]}` and `{key}` both fill `{placement.target}`"
                raise fail("E0602", f"{both}, and their values differ", rule.span if rule else None)
        result[placement.target] = parts[0].reshape(placement.shape)
    return result
