"""What happens to a spec, in order. Read this first.

    text --load--> library --variant, elaborate--> program --solve--> contract --count--> figures --emit--> module text
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archc.analysis.claims import check_claims
from archc.analysis.cost import count, owned, template_weights
from archc.analysis.figures import Cost
from archc.contract import Contract, solve
from archc.diagnostics import ArchError, Diagnostic, fail
from archc.elaborate.loader import Library, load
from archc.elaborate.model import elaborate, variant, variant_names
from archc.ir.program import Program
from archc.locate import locate
from archc.polynomials import SizeError
from archc.sizing import choose, parse_sizes, shown_sizes
from archc.weights.rules import compile_rules


@dataclass(frozen=True)
class Spec:
    """A file, all that it imports, and the variants of it that are meant."""

    library: Library
    variants: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.library.main.file.source.name


@dataclass(frozen=True)
class Checked:
    """A variant that is sound. `cost` is None where no sizes are known that it takes."""

    program: Program
    contract: Contract
    cost: Cost | None
    warnings: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Module:
    """The Python text of a variant, and what it was written from."""

    checked: Checked
    text: str


def load_spec(named: str) -> Spec:
    """FILE, FILE:VARIANT, `-` or a shipped name, parsed. Without a variant, all that the file binds are meant."""
    found = locate(named)
    library = load(found.source)
    if found.variant is not None:
        variant(library, found.variant)
        return Spec(library, (found.variant,))
    return Spec(library, tuple(variant_names(library)))


def only(spec: Spec) -> str:
    """The one variant that is meant. Raises ArchError E0804 where there are several or none."""
    match spec.variants:
        case [one]:
            return one
        case []:
            raise fail("E0804", f"{spec.name} binds no variant", helps=("write one: `mine = model_name(...)`",))
    names = ", ".join(spec.variants)
    raise fail("E0804", f"{spec.name} binds several variants: {names}", helps=(f"name one: {spec.name}:{spec.variants[0]}",))


def build(spec: Spec, name: str) -> Program:
    """Shapes, names and wiring of a variant. Raises ArchError with every independent mistake."""
    return elaborate(spec.library, variant(spec.library, name))


def contract_of(program: Program) -> Contract:
    """What the variant needs of its input sizes. Raises ArchError where no size can meet it."""
    try:
        contract = solve(program.symbols, program.obligations)
        methods = [solve(entry.symbols, entry.obligations) for entry in program.entry_points]
    except SizeError as error:
        raise fail("E0404", f"the sizes of `{program.name}` are beyond what archc computes: {error}", program.span) from None
    refused = [o for one in (contract, *methods) for o in one.refused]
    if refused:
        raise ArchError([Diagnostic(o.code, "no input size meets this", o.span, o.why) for o in refused])
    return contract


def figures(program: Program, contract: Contract, sizes: Sequence[str] = (), batch: int | None = None, **how: object) -> Cost:
    """Exact figures at the sizes that are asked for, or usual. Raises ArchError E0901, E0902 for other sizes."""
    chosen = choose(program, contract, parse_sizes(program, sizes, batch))
    return count(program, chosen, **how)  # type: ignore[arg-type]


def check(program: Program) -> Checked:
    """All that can be known without running anything. Raises ArchError, with every claim that does not hold."""
    contract = contract_of(program)
    try:
        cost = figures(program, contract)
    except ArchError:
        cost = None
    findings = check_claims(program)
    try:
        compile_rules(program.rules)
    except ArchError as error:
        findings += error.diagnostics
    errors = [d for d in findings if d.severity == "error"]
    if errors:
        raise ArchError(findings)
    return Checked(program, contract, cost, tuple(findings))


def compile_variant(spec: Spec, name: str) -> Module:
    """The module of a variant, as text. Raises ArchError; nothing is written."""
    from archc.backend.module import Figures, emit
    from archc.elaborate.overrides import contract_parameters

    chosen = variant(spec.library, name)
    checked = check(elaborate(spec.library, chosen))
    program, contract, cost = checked.program, checked.contract, checked.cost
    head = Figures(owned(template_weights(program.root)).params)
    if cost is not None:
        head = Figures(head.params, f"at {shown_sizes(program, cost.sizes)}", cost.figures.macs, cost.figures.flops)
    depends = contract_parameters(spec.library, chosen, program, contract)
    return Module(checked, emit(program, contract, head, depends))
