"""Templates become classes: one for each distinct text, with the author's parameters where the numbers differ."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import field
from typing import Any

from archc.backend.constructor import Constructor, mentions_word, python_type
from archc.backend.document import WIDTH
from archc.backend.fold import component_key
from archc.backend.layout import lay_out
from archc.backend.loopwriter import LoopWriter
from archc.backend.needs import Needs
from archc.backend.operand import Operand
from archc.backend.python import attribute_name, class_name, identifier, plain_text
from archc.backend.signature import Signature, axes_text, channels_last, logical_signature
from archc.backend.writer import ClassNames, Line, Writer, count_uses, note_names, without_unused
from archc.ir.graph import (
    OUTER,
    Call,
    Entry,
    InitRule,
    Repeat,
    Template,
    WeightEntry,
    outer_entries,
)
from archc.ir.sym import Sym
from archc.ir.types import TensorType
from archc.records import dataclass
from archc.source import Span

LAST = "last"  # channels innermost


@dataclass
class Emitted:
    """A written class. `parameters` are the constructor's, in order; `permutes` counts the moves of axes in it;
    `counters` are numbers of the turn that `forward` takes behind its tensors, where one module serves all turns; behind
    them it takes the modules `outers` of what stands around the loop."""

    name: str
    parameters: tuple[str, ...]
    signature: Signature
    text: list[str]
    permutes: int
    rules: tuple[InitRule, ...]
    template: Template
    counters: tuple[str, ...] = ()
    outers: tuple[str, ...] = ()


@dataclass
class Classes:
    """All classes of a file, in an order in which each stands before its use."""

    needs: Needs
    show: Any  # a span as "net.arch:12"
    inputs: frozenset[str] = frozenset()
    emitted: list[Emitted] = field(default_factory=list)
    by_template: dict[int, Emitted] = field(default_factory=dict)
    by_text: dict[tuple[Any, ...], Emitted] = field(default_factory=dict)
    folded: dict[Any, dict[str, Sym]] = field(default_factory=dict)
    counters: dict[int, tuple[str, ...]] = field(default_factory=dict)  # by template
    names: set[str] = field(default_factory=set)

    def of(self, template: Template) -> Emitted:
        """The class of a template, written at its first use."""
        if id(template) not in self.by_template:
            self.by_template[id(template)] = self._make(template)
        return self.by_template[id(template)]

    def _make(self, template: Template) -> Emitted:
        bindings = self.folded.get(component_key(template), {})
        drafts = []
        for layout in ("", LAST):
            if layout and not _may_move(template):
                continue
            draft = ClassWriter(self, template, bindings, self.needs, layout)
            drafts.append(draft)
            draft.write("{name}")
        best = min(drafts, key=lambda d: d.permutes())
        text = tuple(best.text)
        key = (template.name, text, best.signature())
        if key not in self.by_text:
            name = self._name(template)
            lines = [line for raw in best.raw for line in _render(raw, name)]
            made = Emitted(
                name, tuple(best.parameters), best.signature(), lines, best.permutes(), template.inits, template,
                best.counters, tuple(best.outers),
            )  # fmt: skip
            self.by_text[key] = made
            self.emitted.append(made)
        return self.by_text[key]

    def _name(self, template: Template) -> str:
        base = class_name(
            template.name.rstrip("s") if template.role == "turn" and len(template.name) > 3 else template.name
        )
        prefix = next((class_name(str(word)) for word in _structural(template)), "")
        for candidate in (base, prefix + base, *(f"{base}{n}" for n in range(2, 1000))):
            if candidate not in self.names and candidate not in ("Tensor", "Any", "F", "Sequence", "Callable"):
                self.names.add(candidate)
                return candidate
        raise AssertionError(template.name)


def _render(raw: Line, name: str) -> list[str]:
    return lay_out(raw.indent, raw.text.replace("{name}", name), raw.comment) if raw.text else [""]


def _structural(template: Template) -> Iterable[str]:
    """The regions and paths that a template's operations use: what tells two classes of one component apart."""
    for statement in template.body:
        op = getattr(statement, "op", None)
        for name in ("over", "along"):
            value = getattr(op, name, None)
            word = getattr(value, "name", None)
            if isinstance(word, str) and word.isidentifier():
                yield word
        if isinstance(statement, Call):
            yield from _structural(statement.template)


def _may_move(template: Template) -> bool:
    """Whether a class may take its tensors with the channels innermost: not models and stages, whose results are tapped."""
    if template.role not in ("mixer", "block"):
        return False
    return any(
        "C" in v.type and v.type.names[-1] != "C" and len(v.type.axes) > 2
        for v in (*template.inputs, *template.outputs)
    )


class ClassWriter:
    """Writes one class. It is also the `owner` that its methods ask about entries, signatures and loops."""

    def __init__(
        self, classes: Classes, template: Template, bindings: dict[str, Sym], needs: Needs, layout: str
    ) -> None:
        self.classes, self.template, self.needs, self.layout = classes, template, needs, layout
        self.names = ClassNames(dict(bindings), set(classes.inputs))
        self.raw: list[Line] = []
        self.text: list[str] = []
        self.parameters: list[str] = []
        self.loop_children: list[dict[str, str]] = []
        self.attributes: dict[str, str] = {}
        self.moves = 0
        self.checkpointed = False
        self.counters: tuple[str, ...] = ()
        self.outers: dict[str, str] = {}  # entries of what stands around the loop, and the arguments that hold them
        self.assumed: list[tuple[Sym, int]] = []  # lengths of lists that a method is written for

    # ---- what methods ask

    def attribute(self, name: str) -> str:
        """The attribute of `self` that holds a number or weight: the name, kept apart from modules of the same name."""
        taken = {e.name for e in self.template.entries if not isinstance(e, WeightEntry)}
        return f"{attribute_name(name)}_" if name in taken else attribute_name(name)

    def path(self, entry: str) -> str:
        parts = entry.split(".")
        return parts[0] + "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in parts[1:])

    def entry(self, name: str | None) -> Entry | None:
        if name is None:
            return None
        for frame in reversed(self.loop_children):
            if name == "" and "" in frame:
                return None
        return next((e for e in self.template.entries if e.name == name), None)

    def child_text(self, entry: str) -> str:
        if entry.startswith(OUTER):
            name, inlined = entry.lstrip(OUTER), len(self.loop_children)
            return self.outers[entry[inlined:]] if len(entry) - len(name) > inlined else f"self.{self.path(name)}"
        for frame in reversed(self.loop_children):
            if entry in frame:
                return frame[entry]
        return f"self.{self.path(entry)}" if entry else "self"

    def comment(self, type: TensorType, span: Span) -> str:
        shown = ", ".join(a.name for a in type.axes)
        return f"[{shown}] {self.classes.show(span)}"

    def signature(self, call: Call | None = None) -> Signature:
        if call is not None:
            if call.template.role == "entry":
                return logical_signature(call.template)
            return self.classes.of(call.template).signature
        if not self.layout:
            return logical_signature(self.template)
        return Signature(
            tuple(channels_last(v.type) for v in self.template.inputs),
            tuple(tuple(v.type.names[p] for p in channels_last(v.type)) for v in self.template.outputs),
        )

    def permutes(self) -> int:
        return self.moves

    # ---- the class

    def write(self, name: str) -> None:
        template = self.template
        forward = self._forward(template, "forward")
        init = self._init()
        inputs = ", ".join(axes_text(v.type, o) for v, o in zip(template.inputs, self.signature().inputs, strict=True))
        outputs = ", ".join(f"[{', '.join(o)}]" for o in self.signature().outputs)
        doc = template.doc.strip().split("\n")[0].rstrip(".")
        # A turn of a loop may leave everything as it is.
        types = f"{inputs} -> {outputs}" if inputs or outputs else "Nothing to do."
        summary = f"{doc}. {types}" if doc else types
        where = self.classes.show(template.span)
        self.raw = [
            Line(0, f"class {name}(nn.Module):"),
            *docstring(4, plain_text(summary), where),
            Line(0, ""),
            *init,
            Line(0, ""),
            *forward,
        ]
        self.text = [f"{line.indent}|{line.text}|{line.comment}" for line in self.raw]

    def method(self, template: Template, method: str) -> list[Line]:
        """A further method over the same weights."""
        return self._forward(template, method)

    def _forward(self, template: Template, method: str) -> list[Line]:
        writer = self.writer(template)
        arguments = []
        for value, order in zip(
            template.inputs,
            self.signature().inputs if template is self.template else logical_signature(template).inputs,
            strict=True,
        ):
            name = identifier(value.name or "x")
            while name in writer.taken:
                name += "_"
            writer.taken.add(name)
            arguments.append(name)
            if value.type.dtype == "float" or len(arguments) == 1:
                writer.anchor = name
            writer.values[value.uid] = Operand(name, value.type, tuple(value.type.names[p] for p in order))
        for entry in outer_entries(template.body):
            name = identifier(entry.lstrip(OUTER).replace(".", "_"))
            while name in writer.taken:
                name += "_"
            writer.taken.add(name)
            self.outers[entry] = name
        counters = self.classes.counters.get(id(template), ())
        writer.locals = frozenset(counters)
        writer.taken |= {identifier(c) for c in counters}
        writer.write(template.body)
        signature = self.signature() if template is self.template else logical_signature(template)
        results = []
        for value, order in zip(template.outputs, signature.outputs, strict=True):
            operand = writer.operand(value)
            if operand.where is not None:
                operand = operand.where.merge(writer, operand)
            results.append(operand.to(order).text)
        writer.emit(f"return {', '.join(results) or 'None'}")
        writer.lines = without_unused(writer.lines)
        self.moves += sum(line.text.count(".permute(") + line.text.count(".transpose(") for line in writer.lines)
        body = " ".join(line.text for line in writer.lines)
        used = tuple(c for c in counters if mentions_word(c, body))
        self.counters = used if template is self.template else ()
        beside = (*(f"{identifier(c)}: int" for c in used), *(f"{name}: nn.Module" for name in self.outers.values()))
        kinds = ", ".join(["self", *(f"{a}: Tensor" for a in arguments), *beside])
        returns = (
            "Tensor" if len(results) == 1 else f"tuple[{', '.join(['Tensor'] * len(results))}]" if results else "None"
        )
        return [Line(4, f"def {method}({kinds}) -> {returns}:"), *merge_return(writer.lines)]

    def writer(self, template: Template) -> Writer:
        writer = Writer(self.names, self.needs, self, count_uses(template.body, template.outputs))
        writer.author = note_names(template.body)
        return writer

    # ---- __init__

    def _init(self, extra: tuple[str, ...] = ()) -> list[Line]:
        construct = Constructor(self)
        body = construct.assumed_lines(self.template.assumed) + construct.lines_of(self.template.entries)
        kept = construct.kept_lines()
        lets = construct.let_lines()
        order = [name for name, _ in self.template.parameters]
        used = [n for n in construct.used if n not in construct.locals_made]
        self.parameters = sorted(used, key=lambda n: order.index(n) if n in order else len(order))
        arguments = ", ".join(["self", *(f"{identifier(n)}: {self._kind(n)}" for n in self.parameters)])
        lines = [Line(4, f"def __init__({arguments}) -> None:"), Line(8, "super().__init__()"), *kept, *lets, *body]
        return lines

    def _kind(self, name: str) -> str:
        value = next((v for n, v in self.template.parameters if n == name), None)
        return python_type(value, dict(self.template.kinds).get(name))

    # ---- loops

    def write_loop(self, writer: Writer, loop: Repeat) -> None:
        if not loop.turns:
            return
        LoopWriter(self, writer, loop).write()


def merge_return(lines: list[Line]) -> list[Line]:
    """`y = f(x)` followed by `return y` is `return f(x)`."""
    if len(lines) >= 2 and lines[-1].text.startswith("return "):
        name = lines[-1].text[len("return ") :]
        before = lines[-2]
        if name.isidentifier() and before.indent == lines[-1].indent and before.text.startswith(f"{name} = "):
            return [*lines[:-2], Line(before.indent, f"return {before.text[len(name) + 3 :]}", before.comment)]
    return lines


def docstring(indent: int, text: str, place: str = "") -> list[Line]:
    """A docstring of one line, or with a summary and the rest below it where it is longer."""
    whole = f"{text}  ({place})" if place else text
    if indent + len(whole) + 6 <= WIDTH:
        return [Line(indent, f'"""{whole}"""')]
    lines = textwrap.wrap(text, WIDTH - indent - 3)
    if len(lines) == 1 and not place:  # the quotes behind it would not fit: a formatter would still put them there
        lines = textwrap.wrap(text, WIDTH - indent - 6)
    head, *rest = [*(lines or [""]), *([f"({place})"] if place else [])]
    return [Line(indent, f'"""{head}'), *(Line(indent, line) for line in rest), Line(indent, '"""')]
