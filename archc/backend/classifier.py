"""timm's contract for a model whose only output is a linear layer after a reduction over all positions."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from archc.backend.classes import ClassWriter
from archc.backend.constructor import Constructor, tapped
from archc.backend.operand import Operand
from archc.backend.python import attribute_name, identifier, quoted
from archc.backend.writer import Line, without_unused
from archc.ir.graph import (
    Apply,
    Assign,
    Call,
    ChildEntry,
    Fused,
    ListEntry,
    OpEntry,
    Relabel,
    Repeat,
    Statement,
    Template,
    Value,
    WeightEntry,
)
from archc.ir.program import Program
from archc.records import dataclass


@dataclass(frozen=True)
class Classifier:
    """`split` is the number of the statement that reduces the positions of `features`; `last` is the final linear layer."""

    program: Program
    split: int
    features: Value
    last: Apply

    def methods(self, owner: ClassWriter, checks: list[Line]) -> list[Line]:
        """forward_features, forward_head, forward, and what timm asks of a classifier."""
        program, root = self.program, self.program.root
        head = self.last.entry or "head"
        name = identifier(program.inputs[0].name)
        before, after = root.body[: self.split], root.body[self.split :]

        writer = owner.writer(root)
        writer.taken.add(name)
        writer.anchor = name
        writer.values[program.inputs[0].value.uid] = Operand(
            name, program.inputs[0].value.type, program.inputs[0].value.type.names
        )
        writer.lines += checks
        owner.checkpointed = bool(_units(root))
        writer.write(before)
        owner.checkpointed = False
        result = writer.logical(writer.operand(self.features))
        writer.emit(f"return {result.text}")
        from archc.backend.classes import merge_return

        features = merge_return(without_unused(writer.lines))

        writer = owner.writer(root)
        writer.taken.add("x")
        writer.values[self.features.uid] = Operand("x", self.features.type, self.features.type.names)
        tail = _before(after, self.last)
        writer.write(tail)
        pooled = writer.logical(writer.operand(self.last.inputs[0]))  # type: ignore[arg-type]
        if pooled.text != "x":
            writer.emit(f"x = {pooled.text}", owner.comment(pooled.type, self.last.span))
        writer.emit(f"return x if pre_logits else self.{attribute_name(head)}(x)")
        head_lines = without_unused(writer.lines)
        lines = [
            Line(4, f"def forward_features(self, {name}: Tensor) -> Tensor:"), *features, Line(0, ""),
            Line(4, "def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:"), *head_lines, Line(0, ""),
            Line(4, f"def forward(self, {name}: Tensor) -> Tensor:"),
            Line(8, f"return self.forward_head(self.forward_features({name}))"), Line(0, ""),
            Line(4, "def get_classifier(self) -> nn.Module:"), Line(8, f"return self.{attribute_name(head)}"), Line(0, ""),
            Line(4, "def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:"),
            Line(8, 'if global_pool not in (None, "", "avg"):'),
            Line(12, 'raise ValueError(f"global_pool is part of the spec; got {global_pool!r}")'),
            Line(8, "self.num_classes = num_classes"),
            Line(8, "head: nn.Module = nn.Identity()"), Line(8, "if num_classes:"),
            Line(12, "head = nn.Linear(self.head_hidden_size, num_classes)"),
            Line(8, f"self.{attribute_name(head)} = head.to(next(self.parameters()))"), Line(0, ""),
            Line(4, "def set_grad_checkpointing(self, enable: bool = True) -> None:"),
            Line(8, "self.grad_checkpointing = enable"), Line(0, ""),
            Line(4, "def no_weight_decay(self) -> set[str]:"), Line(8, f"return {self._no_decay()}"),
        ]  # fmt: skip
        return lines

    def _no_decay(self) -> str:
        names = no_decay_suffixes(self.program.root)
        if not names:
            return "set()"
        shown = ", ".join(quoted(n) for n in names)
        one = f"({shown},)" if len(names) == 1 else f"({shown})"
        return f"{{name for name, _ in self.named_parameters() if name.endswith({one})}}"

    def attributes(self, construct: Constructor) -> list[Line]:
        """num_classes, num_features, head_hidden_size, grad_checkpointing, after the modules are made."""
        out = self.program.outputs[0].value
        assert isinstance(out, Value) and isinstance(self.last.inputs[0], Value)
        rows = [
            ("num_classes", out.type["C"].dim), ("num_features", self.features.type["C"].dim),
            ("head_hidden_size", self.last.inputs[0].type["C"].dim),
        ]  # fmt: skip
        lines = [Line(8, f"self.{name} = {construct.number(dim)}") for name, dim in rows]
        lines.append(Line(8, "self.grad_checkpointing = False"))
        return lines

    def taps(self, construct: Constructor) -> list[Line]:
        """Have every stage noted in `feature_info` as it is made. Gives the line that starts the list."""
        taps = stage_taps(self.program)
        sources = self.program.inputs[0].value.type.positions
        if not taps and [a.name for a in sources] != [a.name for a in self.features.type.positions]:
            return [Line(8, "self.feature_info: list[dict[str, Any]] = []")]  # tokens are no map
        if not taps:
            reduction = _reduction(self.features, self.program)
            channels = self.features.type["C"].dim
            shown = f'{{"num_chs": {construct.number(channels)}, "reduction": {reduction}, "module": ""}}'
            return [Line(8, f"self.feature_info: list[dict[str, Any]] = [{shown}]")]
        number = 0
        for module in dict.fromkeys(m.rsplit(".", 1)[0] for m, _ in taps):
            reductions = [_reduction(v, self.program) for m, v in taps if m.rsplit(".", 1)[0] == module]
            construct.taps[module] = partial(_note_stage, module, reductions, number)
            number += len(reductions)
        return [Line(8, "self.feature_info: list[dict[str, Any]] = []")]


def _note_stage(module: str, reductions: list[int], before: int, channels: str) -> list[Line]:
    count = "len(self.feature_info)" if not before else f"(len(self.feature_info) - {before})"
    doubling = all(b == 2 * a for a, b in pairwise(reductions)) and len(reductions) > 1
    reduction = f"{reductions[0]} * 2**{count}" if doubling else f"{tuple(reductions)}[{count}]"
    if len(reductions) == 1:
        reduction = str(reductions[0])
    shown = f'{{"num_chs": {channels}, "reduction": {reduction}, "module": f"{module}.{{{count}}}"}}'
    return [Line(12, f"self.feature_info.append({shown})")]


def classifier_of(program: Program) -> Classifier | None:
    """How a model is a classifier, or None where it is none."""
    if len(program.outputs) != 1 or len(program.inputs) != 1 or program.entry_points:
        return None
    output = program.outputs[0]
    if output.kind != "output" or output.when or not isinstance(output.value, Value) or "C" not in output.value.type:
        return None
    body = program.root.body
    makers: dict[int, tuple[int, Statement]] = {}
    for number, statement in enumerate(body):
        for value in _results(statement):
            makers[value.uid] = (number, statement)
    last = makers.get(output.value.uid, (0, None))[1]
    if not isinstance(last, Apply) or not last.op.projects or last.entry is None or output.value.type.positions:
        return None
    current = last.inputs[0]
    while isinstance(current, Value) and current.uid in makers:
        number, statement = makers[current.uid]
        if isinstance(statement, Relabel):
            current = statement.input
            continue
        if not isinstance(statement, (Apply, Call, Fused)):
            return None
        sources = [v for v in statement.inputs if isinstance(v, Value)]
        if len(sources) != 1:
            return None
        if sources[0].type.positions and not current.type.positions:
            if "C" in sources[0].type and _only_from(body[number:], sources[0]):
                return Classifier(program, number, sources[0], last)
            return None
        current = sources[0]
    return None


def _results(statement: Statement) -> list[Value]:
    match statement:
        case Apply(outputs=outputs) | Call(outputs=outputs) | Fused(outputs=outputs):
            return list(outputs)
        case Relabel(output=output):
            return [output]
        case Repeat(turns=turns):
            return [v for turn in turns for v in turn.outputs]
        case _:
            return [m.result for m in getattr(statement, "merges", ())]


def _only_from(tail: tuple[Statement, ...], features: Value) -> bool:
    """Whether the tail of the body reads nothing of the head but `features`."""
    known = {features.uid}
    for statement in tail:
        if isinstance(statement, Assign):
            continue
        if not isinstance(statement, (Apply, Call, Fused, Relabel)):
            return False
        inputs = [statement.input] if isinstance(statement, Relabel) else [v for v in statement.inputs if v is not None]
        if any(not isinstance(v, Value) or v.uid not in known for v in inputs):
            return False
        known |= {v.uid for v in _results(statement)}
    return True


def _before(tail: tuple[Statement, ...], last: Apply) -> tuple[Statement, ...]:
    return tail[: next(i for i, s in enumerate(tail) if s is last)]


def _units(root: Template) -> list[str]:
    return [e.name for e in root.entries if isinstance(e, ListEntry)]


def stage_taps(program: Program) -> list[tuple[str, Value]]:
    """(module, value) for every stage of the model: what dense heads tap. Stages of which one makes no map have none."""
    taps = []
    for statement in program.root.body:
        if isinstance(statement, Repeat) and statement.keyword == "stage":
            maps = [(turn.entry, tapped(turn)) for turn in statement.turns]
            found = [(entry, value) for entry, value in maps if entry is not None and value is not None]
            taps += found if len(found) == len(maps) else []
    return taps


def _reduction(value: Value, program: Program) -> int:
    """By how much the first position axis is smaller than the input's, at a large size."""
    source = program.inputs[0].value.type.positions
    if not source or not value.type.positions:
        return 1
    sizes = dict.fromkeys(program.symbols, 1 << 20)
    own = value.type.positions[0].size.evaluate(sizes)
    return max(1, round(source[0].size.evaluate(sizes) / max(own, 1)))


def no_decay_suffixes(template: Template) -> list[str]:
    """Names of parameters that are declared without weight decay, in any component."""
    found: dict[str, None] = {}

    def go(entries: object) -> None:
        assert isinstance(entries, tuple)
        for entry in entries:
            match entry:
                case WeightEntry(weight=weight) if weight.kind == "param" and not weight.decay:
                    found.setdefault(weight.name)
                case ChildEntry(template=child):
                    go(child.entries)
                case ListEntry(items=items):
                    go(items)
                case OpEntry(weights=weights):
                    for w in weights:
                        if not w.decay:
                            found.setdefault(w.name)
                case _:
                    pass

    go(template.entries)
    return list(found)
