"""What happens to a spec, in order. Read this first.

text --load--> library --elaborate--> program --solve--> contract --count--> figures --emit--> module text
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from archc.analysis.claims import check_claims
from archc.analysis.cost import count, holdings, totals
from archc.analysis.figures import Cost
from archc.analysis.setting import Setting
from archc.contract import Contract, solve
from archc.diagnostics import ArchError, Diagnostic, fail, in_order
from archc.elaborate.model import Variant, check_without, elaborate, variant
from archc.elaborate.unread import survey
from archc.ir.program import Program
from archc.locate import Spec, load_spec, only
from archc.polynomials import SizeError
from archc.records import dataclass
from archc.sizing import choose, left_to_little, parse_sizes, refusal, shown_sizes
from archc.weights.keys import state_dict
from archc.weights.rules import check_targets, compile_rules

if TYPE_CHECKING:
    from archc.deploy.fold import Deployed
    from archc.fusion.plan import Region

__all__ = [
    "Checked",
    "Module",
    "Spec",
    "build",
    "check",
    "compile_variant",
    "contract_of",
    "deployed",
    "figures",
    "fused",
    "load_spec",
    "only",
    "remarks",
]


@dataclass(frozen=True)
class Checked:
    """A variant that is sound. `cost` is None where no sizes are known that it takes."""

    program: Program
    contract: Contract
    cost: Cost | None
    warnings: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Module:
    """The Python text of a variant, and what it was written from: for a deploy build, the folded program."""

    checked: Checked
    text: str
    address: str
    regions: tuple[Region, ...] = ()
    deployed: Deployed | None = None


def build(spec: Spec, name: str) -> Program:
    """Shapes, names and wiring of a variant. Raises ArchError with every independent mistake, those among them that its
    text shows in parts that the variant does not reach."""
    return _built(spec, variant(spec.library, name))


def _built(spec: Spec, chosen: Variant) -> Program:
    text = survey(spec.library)
    try:
        program = elaborate(spec.library, chosen)
    except ArchError as error:
        raise ArchError(in_order((*error.diagnostics, *text.beside(error.diagnostics)))) from None
    mistakes = text.beside(())
    if mistakes:
        raise ArchError(mistakes)
    optional = [i.name for i in program.inputs if i.default == "none" and i.kind == "input"]
    # The module also runs without its optional inputs: without one of them, and without all.
    for absent in dict.fromkeys([*((name,) for name in optional), tuple(optional)]):
        if absent:
            check_without(spec.library, chosen, absent)
    return program


def remarks(spec: Spec) -> list[Diagnostic]:
    """The warnings that hold for a text whatever its variants are; where it binds none, its mistakes too."""
    found = survey(spec.library)
    return [*found.idle, *(() if spec.variants else found.beside(()))]


def contract_of(program: Program) -> Contract:
    """What the variant needs of its input sizes. Raises ArchError where no size can meet it."""
    try:
        contract = solve(program.symbols, program.obligations, dict(program.least))
        methods = [solve(entry.symbols, entry.obligations) for entry in program.entry_points]
    except SizeError as error:
        raise fail(
            "E0404", f"the sizes of `{program.name}` are beyond what archc computes: {error}", program.span
        ) from None
    refused = [refusal(one.refused) for one in (contract, *methods) if one.refused]
    if refused:
        raise ArchError(refused)
    return contract


def figures(
    program: Program, contract: Contract, sizes: Sequence[str] = (), batch: int | None = None, **how: object
) -> Cost:
    """Exact figures at the sizes that are asked for, or usual. Raises ArchError E0901, E0902."""
    chosen = choose(program, contract, parse_sizes(program, sizes, batch))
    return count(program, chosen, **how)  # type: ignore[arg-type]


def check(program: Program) -> Checked:
    """All that is known without running anything. Raises ArchError, with every claim that does not hold."""
    contract = contract_of(program)
    try:
        cost = figures(program, contract)
    except ArchError:
        cost = None
    findings = [*left_to_little(contract), *check_claims(program, contract, cost)]
    try:
        findings += check_targets(compile_rules(program.rules), state_dict(program))
    except ArchError as error:
        findings += error.diagnostics
    errors = [d for d in findings if d.severity == "error"]
    if errors:
        raise ArchError(findings)
    return Checked(program, contract, cost, tuple(findings))


def trained_at(cost: Cost | None) -> Setting | None:
    """The sizes and the element type for which kernels are chosen: those of the figures, in a batch of training."""
    return None if cost is None else Setting({**cost.sizes, "B": 128}, "bfloat16")


def fused(program: Program, contract: Contract) -> Program:
    """The program as the module runs where fused kernels do."""
    from archc.fusion.plan import fuse

    try:
        cost = figures(program, contract)
    except ArchError:
        cost = None
    return fuse(program, trained_at(cost))[0]


def deployed(program: Program) -> Deployed:
    """The program as a deploy build: for inference, with batch norms and factors of channels folded into weights."""
    from archc.deploy.fold import deploy

    return deploy(program)


def for_inference(checked: Checked) -> tuple[Checked, Deployed]:
    """The same network as a deploy build."""
    made = deployed(checked.program)
    try:
        cost = figures(made.program, checked.contract)
    except ArchError:
        cost = None
    return replace(checked, program=made.program, cost=cost), made


def compile_variant(spec: Spec, name: str, kernels: bool = True, deploy: bool = False) -> Module:
    """The module of a variant, as text, with fused kernels or without, for training or to be deployed. Raises ArchError;
    nothing is written."""
    from archc.backend.module import Figures, emit
    from archc.elaborate.overrides import contract_parameters
    from archc.fusion.plan import fuse

    chosen = variant(spec.library, name)
    checked, made = check(_built(spec, chosen)), None
    depends = contract_parameters(spec.library, chosen, checked.program, checked.contract)
    if deploy:
        checked, made = for_inference(checked)
    program, contract, cost = checked.program, checked.contract, checked.cost
    head = Figures(totals(holdings(program.root)).params)
    if cost is not None:
        head = Figures(head.params, f"at {shown_sizes(program, cost.sizes)}", cost.figures.macs, cost.figures.flops)
    regions: tuple[Region, ...] = ()
    if kernels:
        program, regions = fuse(program, trained_at(cost))
    return Module(checked, emit(program, contract, head, depends, made), spec.address(name), regions, made)
