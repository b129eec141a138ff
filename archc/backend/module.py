"""The file of one variant: header, imports, helpers, classes, the model and its factory."""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from archc.backend.classes import Classes, ClassWriter, docstring
from archc.backend.classifier import Classifier, classifier_of
from archc.backend.constructor import Constructor, init_call, python_type
from archc.backend.document import WIDTH
from archc.backend.fold import fold_constants
from archc.backend.kernel_files import kernel_globals
from archc.backend.layout import lay_out
from archc.backend.needs import Needs
from archc.backend.outputs import forward_lines
from archc.backend.python import (
    attribute_name,
    class_name,
    global_name,
    identifier,
    literal,
    plain_text,
    quoted,
)
from archc.backend.writer import Line, negated
from archc.contract import Contract, solve
from archc.ir.graph import Branch, Call, Fused, InitRule, Repeat, Statement, Template, Value
from archc.ir.program import Program
from archc.ir.sym import Const, Sym, Var, plain
from archc.records import dataclass
from archc.resources import folder
from archc.source import Span
from archc.version import __version__

if TYPE_CHECKING:
    from archc.deploy.fold import Deployed


@dataclass(frozen=True)
class Figures:
    """What the header says of the variant: parameters, and MACs and FLOPs at some size."""

    params: int
    at: str = ""
    macs: int = 0
    flops: int = 0


def spec_hash(program: Program) -> str:
    """SHA-256 over every spec text that the variant is made of, so that a stale module can be told."""
    digest = hashlib.sha256()
    for source in program.sources:
        digest.update(source.text.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def emit(
    program: Program,
    contract: Contract,
    figures: Figures,
    sensitive: tuple[str, ...] = (),
    deployed: Deployed | None = None,
) -> str:
    """The Python text of a variant. `sensitive` names the parameters on which the contract depends. That of a deploy
    build has a function that makes its weights."""
    hidden: frozenset[str] = frozenset()
    while True:
        file = _File(program, contract, figures, sensitive, deployed, hidden)
        text = file.text()
        if not (found := file.hidden()):
            return text
        hidden |= found


def emitted_classes(program: Program, contract: Contract) -> Classes:
    """The classes of the file that `emit` writes, with what they were written from."""
    file = _File(program, contract, Figures(0), ())
    file.text()
    return file.classes


def _fuses(template: Template, known: dict[int, bool] | None = None) -> bool:
    """Whether a component, or one in it, has fused operators."""
    known = {} if known is None else known
    if id(template) not in known:
        known[id(template)] = False  # until something is found
        for statement in _every(template.body):
            match statement:
                case Fused():
                    known[id(template)] = True
                case Call(template=inner):
                    known[id(template)] |= _fuses(inner, known)
                case Repeat(turns=turns):
                    known[id(template)] |= any(_fuses(turn.template, known) for turn in turns)
                case _:
                    pass
    return known[id(template)]


def _every(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """All statements, both arms of branches."""
    for statement in body:
        yield statement
        if isinstance(statement, Branch):
            yield from _every((*(statement.then or ()), *(statement.otherwise or ())))


class _File:
    def __init__(
        self,
        program: Program,
        contract: Contract,
        figures: Figures,
        sensitive: tuple[str, ...],
        deployed: Deployed | None = None,
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        self.program, self.contract, self.figures, self.sensitive = program, contract, figures, sensitive
        self.deployed = deployed
        self.needs = Needs()
        self.needs.kernels.hidden = hidden
        optional = frozenset(i.name for i in program.inputs if i.default == "none")
        self.classes = Classes(self.needs, _show, optional)
        self.classes.folded = fold_constants(program.root, [e.template for e in program.entry_points])
        self.classes.folded.pop((program.root.span, program.root.role), None)
        self.model_name = class_name(program.model)
        if self.model_name in (global_name(program.name), "F", "Tensor", "Any", "Sequence", "Callable"):
            self.model_name += "Model"
        self.classes.names |= {self.model_name, global_name(program.name)}
        if any(map(_fuses, (program.root, *(e.template for e in program.entry_points)))):
            self.classes.names |= kernel_globals()
        self.classifier: Classifier | None = classifier_of(program)

    def text(self) -> str:
        import jinja2

        model = self._model()
        factory = self._factory()
        classes = ["\n".join(e.text) for e in self.classes.emitted]
        classes += ["\n".join(model), "\n".join(factory)]
        names = {self.model_name, global_name(self.program.name)}
        if self.deployed is not None:
            from archc.deploy.emit import NAME, fold_function

            classes.append("\n".join(fold_function(self.deployed, self.model_name)))
            names.add(NAME)
        self.written = classes
        namespace = f"archc_{identifier(self.program.name)}_{spec_hash(self.program)[:8]}"
        kernels, imports = self.needs.kernels.parts(namespace)
        parts = [*self.needs.helper_texts("\n".join([*classes, *kernels])), *classes, *kernels]
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(str(folder("codegen"))), undefined=jinja2.StrictUndefined, trim_blocks=True,
            lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
        )  # fmt: skip
        body = "\n\n\n".join(parts)
        exports = ", ".join(quoted(n) for n in sorted(names))
        text = environment.get_template("module.py.j2").render(
            version=__version__, spec=plain_text(_base(self.program.source.name)), hash=spec_hash(self.program)[:16],
            doc="\n".join(textwrap.wrap(plain_text(self.program.doc.strip().split("\n")[0]) or self.program.name, WIDTH - 3)),
            facts=self._facts(),
            imports=self._imports(body, imports), exports=exports, parts=parts,
        )  # fmt: skip
        return text.rstrip("\n") + "\n"

    def hidden(self) -> set[str]:
        """The fused operators that another function, or a variable where they are called, has the name of."""
        kernels, needs = self.needs.kernels, self.needs
        ours = {self.model_name, global_name(self.program.name), *needs.helpers, *needs.functions}
        found = {name for name in kernels.texts if kernels.defines(name) & ours}
        text = "\n".join(self.written)
        if any(re.search(rf"(?<![\w.]){name}\b(?!\()", text) for name in kernels.texts):
            nodes = list(ast.walk(ast.parse(text)))
            stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            found |= kernels.texts.keys() & (stored | {n.arg for n in nodes if isinstance(n, ast.arg)})
        return found

    # ---- header

    def _facts(self) -> list[str]:
        f = self.figures
        lines = ["", f"{self.program.name}: {f.params:,} parameters."]
        if f.macs:
            lines[-1] = (
                f"{self.program.name}: {f.params:,} parameters, {f.macs / 1e9:.4g} GMACs ({f.flops / 1e9:.4g} GFLOPs) {f.at}."
            )
        for i in self.program.inputs:
            lines.append(f"Input  {i.name}: {i.value.type}")
        for o in self.program.outputs:
            values = o.value if isinstance(o.value, tuple) else (o.value,)
            lines.append(f"Output {o.name}: {', '.join(str(v.type) for v in values)}")
        lines += [f"Needs  {text}" for text in self.contract.describe()]
        return [
            part for line in lines for part in textwrap.wrap(plain_text(line), WIDTH, subsequent_indent=" " * 8) or [""]
        ]

    def _imports(self, body: str, of_kernels: Sequence[ast.Import | ast.ImportFrom]) -> list[str]:
        """The import statements, in blocks: the standard library, then torch."""
        modules: set[str] = set()
        names: dict[str, set[str]] = {"torch": {"Tensor", "nn"}}
        if "math." in body:
            modules.add("math")
        for name in ("Callable", "Mapping", "Sequence"):
            if f"{name}[" in body:
                names.setdefault("collections.abc", set()).add(name)
        if "Any" in _words(body):
            names.setdefault("typing", set()).add("Any")
        if "checkpoint(" in body:
            names.setdefault("torch.utils.checkpoint", set()).add("checkpoint")
        for node in of_kernels:
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            else:
                names.setdefault(node.module or "", set()).update(alias.name for alias in node.names)
        if "torch." in body.replace("torch.nn", ""):
            modules.add("torch")
        blocks = []
        for ours in (False, True):
            block = [f"import {m}" for m in sorted(modules) if m.startswith("torch") == ours]
            rows = {m: sorted(found, key=lambda n: (not n.isupper(), n.islower(), n)) for m, found in names.items()}
            if ours and "F." in body:
                rows["torch.nn"] = ["functional as F"]
            block += [f"from {m} import {', '.join(rows[m])}" for m in sorted(rows) if m.startswith("torch") == ours]
            blocks += [block] if block else []
        return [line for number, block in enumerate(blocks) for line in ([""] if number else []) + block]

    # ---- the model

    def _model(self) -> list[str]:
        program, root = self.program, self.program.root
        writer = ClassWriter(self.classes, root, {}, self.needs, "")
        writer.checkpointed = False
        methods: list[Line] = []
        for entry in program.entry_points:
            head, *body = writer.method(entry.template, identifier(entry.name))
            own = solve(entry.symbols, entry.obligations)
            inputs = [(v.name, v) for v in entry.template.inputs]
            methods += [Line(0, ""), head, *contract_lines(f"{program.name}.{entry.name}", own, inputs), *body]
        checks = self._checks()
        forward = self.classifier.methods(writer, checks) if self.classifier else forward_lines(program, writer, checks)
        init = self._init(writer)
        rules = self._init_weights()
        doc = docstring(4, plain_text(program.doc.strip().split("\n")[0]) or program.model)
        lines = [
            Line(0, f"class {self.model_name}(nn.Module):"),
            *doc,
            Line(0, ""),
            *init,
            *rules,
            *methods,
            Line(0, ""),
            *forward,
        ]
        return [
            text for line in lines for text in (lay_out(line.indent, line.text, line.comment) if line.text else [""])
        ]

    def _checks(self) -> list[Line]:
        """The contract of the model, as statements at the head of `forward`."""
        built = ""
        if self.sensitive:
            # The sizes were solved for these values; with others, what is used checks itself.
            values = {name: plain(value) for name, value in self.program.parameters}
            built = " and ".join(_holds(f"self.{attribute_name(p)}", values[p]) for p in self.sensitive)
        # A state is made before the checks; an optional input may be missing.
        inputs = [(i.name, i.value) for i in self.program.inputs if i.default is None or i.kind == "state"]
        return contract_lines(self.program.name, self.contract, inputs, built)

    # ---- constructor

    def _init(self, writer: ClassWriter) -> list[Line]:
        program = self.program
        construct = Constructor(writer)
        start = self.classifier.taps(construct) if self.classifier is not None else []
        assumed = construct.assumed_lines(dict([*program.root.assumed, *writer.assumed]).items())
        body = (
            [*assumed, *start, *construct.lines_of(program.root.entries)]
            if construct.taps
            else [*assumed, *construct.lines_of(program.root.entries), *start]
        )
        extra: list[Line] = []
        if self.classifier is not None:
            extra = self.classifier.attributes(construct)
        kept = construct.kept_lines()
        for p in self.sensitive:
            if p not in writer.names.kept:
                kept.append(Line(8, f"self.{attribute_name(p)} = {identifier(p)}"))
        declared = [(name, value) for name, value in program.parameters]
        defaults, kinds = self._defaults(), dict(program.kinds)
        arguments = []
        for name, value in declared:
            kind = python_type(value, kinds.get(name))
            arguments.append(f"{identifier(name)}: {kind} = {literal(_tuple(defaults[name]))}")
        head = f"def __init__(self, {', '.join(arguments)}) -> None:" if arguments else "def __init__(self) -> None:"
        lines = [Line(4, head), Line(8, "super().__init__()"), *kept, *construct.let_lines(), *body, *extra]
        if self._all_rules():
            lines.append(Line(8, "self.init_weights()"))
        return lines

    def _defaults(self) -> dict[str, Any]:
        return {name: plain(value) for name, value in self.program.parameters}

    # ---- initialisation

    def _all_rules(self) -> list[tuple[str, tuple[InitRule, ...]]]:
        """(class, rules), the model's own first: rules of inner components win."""
        found: list[tuple[str, tuple[InitRule, ...]]] = []
        if self.program.root.inits:
            found.append(("", _distinct(self.program.root.inits)))
        for made in reversed(self.classes.emitted):
            if made.rules:
                found.append((made.name, _distinct(made.rules)))
        return found

    def _init_weights(self) -> list[Line]:
        groups = self._all_rules()
        if not groups:
            return []
        lines = [Line(0, ""), Line(4, "@torch.no_grad()"), Line(4, "def init_weights(self) -> None:"),
                 Line(8, '"""Start every weight as the published code does."""')]  # fmt: skip
        for owner, rules in groups:
            if owner:
                lines.append(Line(8, "for owner in self.modules():"))
                lines.append(Line(12, f"if isinstance(owner, {owner}):"))
                lines += self._rules(rules, "owner", 16)
            else:
                lines += self._rules(rules, "self", 8)
        return lines

    def _rules(self, rules: tuple[InitRule, ...], root: str, pad: int) -> list[Line]:
        from archc.ops.table import OPERATIONS

        branches: list[tuple[list[str], str, list[tuple[int, str]]]] = []  # classes, a further condition, what is done
        for owner in dict.fromkeys(r.owner for r in rules):
            op = OPERATIONS.get(owner)
            kinds = op.classes if op is not None else (class_name(owner),)
            own = [r for r in rules if r.owner == owner]
            optional = "" if any(r.weight != "bias" for r in own) else " and module.bias is not None"
            done: list[tuple[int, str]] = []
            for rule in own:
                target = f"module.{attribute_name(rule.weight)}"
                call = init_call(rule.kind, target, [self._rule_text(a, owner, op) for a in rule.args])
                if rule.weight == "bias" and not optional:
                    done += [(8, f"if {target} is not None:"), (12, call)]
                else:
                    done.append((8, call))
            if branches and branches[-1][1:] == (optional, done):
                branches[-1][0].extend(kinds)
            else:
                branches.append((list(kinds), optional, done))
        lines = [Line(pad, f"for module in {root}.modules():")]
        for number, (classes, optional, done) in enumerate(branches):
            test = classes[0] if len(classes) == 1 else f"({', '.join(classes)})"
            lines.append(Line(pad + 4, f"{'elif' if number else 'if'} isinstance(module, {test}){optional}:"))
            lines += [Line(pad + deep, text) for deep, text in done]
        return lines

    def _rule_text(self, sym: Sym, owner: str, op: Any) -> str:
        from archc.backend.python import Expressions

        def name(var: Var) -> str:
            if var.name.startswith(f"{owner}."):
                return f"module.{op.attributes[var.name.split('.', 1)[1]]}"
            return f"self.{attribute_name(var.name)}"

        def no_extent(extent: Any) -> str:
            raise AssertionError(extent)

        return Expressions(name, no_extent, self.needs.helper, self.needs.define).write(sym)

    # ---- the factory

    def _factory(self) -> list[str]:
        name = global_name(self.program.name)
        lines = lay_out(0, f"def {name}(**overrides: Any) -> {self.model_name}:")
        doc = docstring(4, f"{self.program.name}; keywords override the parameters of the class.")
        shown = [text for line in doc for text in lay_out(line.indent, line.text)]
        return [*lines, *shown, f"    return {self.model_name}(**overrides)"]


def contract_lines(owner: str, contract: Contract, inputs: list[tuple[str, Value]], built: str = "") -> list[Line]:
    """What refuses sizes outside a contract; `built` is a condition under which it was solved."""
    sizes: dict[str, str] = {}
    for name, value in inputs:
        for at, axis in enumerate(value.type.axes):
            if str(axis.size) in contract.symbols:
                sizes.setdefault(str(axis.size), f"{identifier(name)}.shape[{at}]")
    lines = []
    for r in contract.requirements:
        if any(symbol not in sizes for symbol in r.symbols):
            continue  # it is about an optional input, and what uses that checks itself
        shown = ", ".join(f"{name} = {{{sizes[name]}}}" for name in r.symbols)
        message = plain_text(f"{owner} needs {r.statement}").replace("{", "{{").replace("}", "}}").replace('"', "'")
        test = negated(r.condition(sizes))
        if built:
            test = f"{built} and {f'({test})' if ' or ' in test else test}"
        lines += [Line(8, f"if {test}:"), Line(12, f'raise ValueError(f"{message}; got {shown}")')]
    return lines


def _holds(attribute: str, value: Any) -> str:
    """A condition that a parameter has the value, or the length, for which a contract was solved."""
    if isinstance(value, list):
        return f"len({attribute}) == {len(value)}"
    if isinstance(value, bool):
        return attribute if value else f"not {attribute}"
    return f"{attribute} == {literal(value)}"


def _distinct(rules: tuple[InitRule, ...]) -> tuple[InitRule, ...]:
    """The rules without repetition: a later one for the same weight wins."""
    return tuple({(r.owner, r.weight): r for r in rules}.values())


def _tuple(value: Any) -> Any:
    return tuple(_tuple(v) for v in value) if isinstance(value, list) else value


def _show(span: Span) -> str:
    return f"{_base(span.source.name)}:{span.line}"


def _base(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _words(text: str) -> set[str]:
    import re

    return set(re.findall(r"\w+", text))


__all__ = ["Const", "Figures", "emit", "spec_hash"]
