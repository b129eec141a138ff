"""The rename rules of a `weights` section, read and checked.

A rule is `"source" -> "target"`, `"source" -> drop`, or `"a", "b" -> "target"`, with transforms after `|>`.
Patterns are those of `archc.weights.patterns`, transforms those of `archc.weights.transforms`; what rules
mean together says `archc.weights.plan`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from archc.diagnostics import ArchError, Diagnostic, did_you_mean
from archc.records import dataclass
from archc.source import Span
from archc.syntax import tree
from archc.weights.patterns import Pattern, PatternError, could_be, source_pattern, target_pattern
from archc.weights.transforms import JOINS, Step, TransformError, step_of


@dataclass(frozen=True)
class CompiledRule:
    """A rule, read: `before` is done to each source, `join` puts them together, `after` follows."""

    sources: tuple[Pattern, ...]
    target: Pattern | None
    before: tuple[Step, ...]
    join: Step | None
    after: tuple[Step, ...]
    span: Span

    @property
    def cuts(self) -> bool:
        return any(step.name == "slice" for step in self.before)


def compile_rules(rules: Sequence[tree.Rule]) -> tuple[CompiledRule, ...]:
    """The rules, ready to be applied. Raises ArchError E0605 with everything that is malformed."""
    compiled, diagnostics = [], []
    for rule in rules:
        try:
            compiled.append(_compiled(rule))
        except (PatternError, TransformError) as error:
            diagnostics.append(Diagnostic("E0605", f"this rule cannot be read: {error}", rule.span))
    if diagnostics:
        raise ArchError(diagnostics)
    return tuple(compiled)


def check_targets(rules: Sequence[CompiledRule], keys: Collection[str]) -> list[Diagnostic]:
    """The warning E0606 for each rule whose target is none of the state-dict keys, whatever its source matches.

    A warning, since a model states its rules for all its variants, and some may lack a part.
    """
    found = []
    for rule in rules:
        if rule.target is None or any(could_be(rule.target, key) for key in keys):
            continue
        found.append(Diagnostic(
            "E0606", f"the model has no weight `{rule.target.text}`", rule.span, "no key is like the target",
            helps=did_you_mean(rule.target.text, keys), severity="warning",
        ))  # fmt: skip
    return found


def _compiled(rule: tree.Rule) -> CompiledRule:
    sources = tuple(source_pattern(text) for text in rule.sources)
    steps = tuple(step_of(expr) for expr in rule.transforms)
    joins = [number for number, step in enumerate(steps) if step.name in JOINS]
    at = joins[0] if joins else len(steps)
    if rule.target is None:
        if steps:
            raise TransformError("what is dropped takes no transform")
        return CompiledRule(sources, None, (), None, (), rule.span)
    target = target_pattern(rule.target)
    for source in sources:
        if source.stars != target.stars:
            raise PatternError(f"`{source.text}` has {source.stars} stars and `{target.text}` {target.stars}")
        unknown = sorted(target.names - source.names)
        if unknown:
            raise PatternError(f"`{target.text}` uses `{unknown[0]}`, which `{source.text}` does not name")
    if len(joins) > 1:
        raise TransformError("a rule joins its sources once")
    if joins and len(sources) < 2:
        raise TransformError(f"`{steps[at].name}` joins several sources, and this rule has one")
    if any(step.name == "slice" for step in steps[at:]):
        raise TransformError("`slice` stands before what joins the sources")
    return CompiledRule(sources, target, steps[:at], steps[at] if joins else None, steps[at + 1 :], rule.span)
