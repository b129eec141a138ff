"""What archc says of a mutant, and whether PyTorch bears it out.

A mutant that archc calls valid must run with the shapes that it predicts, at sizes of several kinds, and refuse sizes just
outside of its contract. One that it calls invalid is built all the same, with checks forced off, and must fail in PyTorch;
what cannot be built has no meaning at all, or breaks a rule of the language.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from bases import network, text_of
from mutations import Mutation

from archc.backend.module import Figures, emit
from archc.backend.python import global_name, identifier
from archc.backend.reread import compare, reread
from archc.contract import Contract, solve
from archc.diagnostics import ArchError
from archc.driver import contract_of
from archc.elaborate.frame import Session
from archc.elaborate.loader import Library
from archc.elaborate.model import elaborate, variant
from archc.ir.program import Program
from archc.reference import interpreter
from archc.reference.seeded import seeded_weights
from archc.trials import loaded, named_outputs, random_inputs
from archc.verify import macs, verify
from archc.weights.keys import state_dict

torch.set_num_threads(1)
# What a run on data may cost: multiply-accumulates, positions of an input, parameters of the network.
CHEAP = 50_000_000
POSITIONS = 6_000
FEW = 2_000_000


@dataclass(frozen=True)
class Judgement:
    """`verdict` is valid, unproved or invalid.

    `outcome` is what came of it: of a valid mutant "agrees" or what went wrong; of an invalid one "fails" (in PyTorch, with
    checks forced off), "runs" (it does, so a rule of the language refuses it), "unbuilt" (there is nothing to run).
    """

    mutation: Mutation
    verdict: str
    outcome: str
    codes: tuple[str, ...] = ()
    said: str = ""
    helps: tuple[str, ...] = ()
    outside: dict[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        return self.verdict == "invalid" or self.outcome == "agrees"


def judge(mutation: Mutation, values: bool = False) -> Judgement:
    """The judgement of one mutant; with `values`, outputs are compared with the reference interpreter too."""
    text = mutation.applied(text_of(mutation.file))
    mutated = None
    try:
        mutated = network(mutation.file, text, mutation.owner)
        program = _program(mutated, Session())
        contract = contract_of(program)
    except ArchError as error:
        return _invalid(mutation, mutated, error)
    verdict = "valid" if all(r.known for r in contract.requirements) else "unproved"
    outside: dict[str, int] = {}
    outcome = _tried(program, contract, values, outside)
    said = "; ".join(contract.describe())
    return Judgement(mutation, verdict, outcome, (), said, (), outside)


def _program(mutated: tuple[Library, str], session: Session) -> Program:
    loaded_library, name = mutated
    return elaborate(loaded_library, variant(loaded_library, name), session=session)


def said(mutation: Mutation) -> ArchError | None:
    """What archc finds wrong with a mutant, if anything."""
    try:
        contract_of(
            _program(network(mutation.file, mutation.applied(text_of(mutation.file)), mutation.owner), Session())
        )
    except ArchError as error:
        return error
    return None


def suggested(typo: Mutation, error: ArchError) -> bool:
    """Whether a finding suggests the word that the typo misspells; or, where the misspelled word is a name that the spec
    gives, that name for the word."""
    for d in error.diagnostics:
        told = [d.message, d.label, *(label.text for label in d.related), d.span.text if d.span is not None else ""]
        for help in d.helps:
            names = {name for text in re.findall(r"`([^`]*)`", help) for name in re.findall(r"\w+", text)}
            if typo.word in names or (typo.new in names and any(typo.word in text for text in (*told, help))):
                return True
    return False


# ---- called valid


def _tried(program: Program, contract: Contract, values: bool, outside: dict[str, int]) -> str:
    """ "agrees", or what is wrong with the module that is written for the program."""
    text = emit(program, contract, Figures(0))
    admitted = list(_inside(contract))
    if not admitted:
        return "no admitted size was found"
    few = sum(w.elements for w in state_dict(program).values()) <= FEW
    with loaded(text) as module:
        nets: dict[str, Any] = {}
        for sizes in admitted:
            # On data where that is cheap, since it checks more; it is faster then, too.
            device = "cpu" if few and _cheap(program, sizes) else "meta"
            if device not in nets:
                nets[device] = _made(module, program, device)
            problem = _shapes(program, nets[device], sizes, device)
            if problem:
                return f"at {sizes}: {problem}"
        net = next(iter(nets.values()))
        for sizes in _outside(contract, admitted):
            try:
                net(**_inputs(program, sizes, "meta"))
            except ValueError as error:
                if " needs " in str(error):
                    outside["refused"] = outside.get("refused", 0) + 1
                    continue
            except Exception:
                pass
            return f"{sizes} is outside of the contract, and the module does not refuse it"
    if values and few:
        differences = compare(program, reread(text, program.name))
        if differences:
            return f"the file differs from the graph: {differences[0]}"
        cheap = [s for s in admitted[:2] if _cheap(program, s)]
        # A mutant may divide by what is almost zero; what is wrong is wrong by far more.
        report = verify(program, text, sizes=cheap, answers=False, tolerance=1e-6)
        if cheap and not report.ok and not any(_overflows(program, s) for s in cheap):
            failures = [t.failure for t in report.trials if t.failure]
            return f"values: {failures or (report.worst_output, report.worst_gradient)} at {cheap}"
    return "agrees"


def _overflows(program: Program, sizes: dict[str, int]) -> bool:
    """Whether the meaning of a mutant is infinite somewhere: then there are no gradients to compare."""
    weights = seeded_weights(program)
    inputs = random_inputs({i.name: i.value for i in program.inputs}, sizes, program.root)
    made = interpreter.run(program, weights, inputs)
    values = [v for made_value in made.values() for v in (made_value if isinstance(made_value, list) else [made_value])]
    return not all(bool(v.isfinite().all()) for v in values)


def _cheap(program: Program, sizes: dict[str, int]) -> bool:
    positions = [math.prod(a.size.evaluate(sizes) for a in i.value.type.positions) for i in program.inputs]
    return max(positions) <= POSITIONS and macs(program, sizes) <= CHEAP


def _inside(contract: Contract) -> Iterator[dict[str, int]]:
    """Admitted sizes: the least, an unequal and odd one with two in the batch, a large one."""
    apart = {name: 2 if name == "B" else 19 + 6 * at for at, name in enumerate(contract.symbols)}
    large = {name: 1 if name == "B" else 67 + 10 * at for at, name in enumerate(contract.symbols)}
    found: list[dict[str, int]] = []
    for one in (*contract.examples(1), *contract.examples(1, apart), *contract.examples(1, large)):
        if one not in found:
            found.append(one)
            yield one


def _outside(contract: Contract, admitted: list[dict[str, int]]) -> Iterator[dict[str, int]]:
    """Sizes one step outside of the contract, along each symbol."""
    found: list[dict[str, int]] = []
    for sizes in admitted[:2]:
        for name in contract.symbols:
            for step in (-1, 1):
                one = {**sizes, name: sizes[name] + step}
                if one[name] >= contract.least.get(name, 1) and not contract.admits(one) and one not in found:
                    found.append(one)
                    yield one


def _made(module: Any, program: Program, device: str) -> Any:
    with torch.device(device):
        return getattr(module, global_name(program.name))().eval()


def _inputs(program: Program, sizes: dict[str, int], device: str) -> dict[str, Any]:
    kinds = {"float": torch.float32, "int": torch.int64, "bool": torch.bool}
    return {
        identifier(i.name): torch.zeros(
            [axis.size.evaluate(sizes) for axis in i.value.type.axes], dtype=kinds[i.value.type.dtype], device=device
        )
        for i in program.inputs
    }


def _shapes(program: Program, net: Any, sizes: dict[str, int], device: str) -> str:
    """What is wrong with one run; nothing where the shapes are those that the program predicts."""
    try:
        with torch.no_grad():
            made = named_outputs(program, net(**_inputs(program, sizes, device)))
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    for output in program.outputs:
        if output.name not in made:
            continue
        lists = isinstance(output.value, tuple)
        for value, found in zip(
            output.value if isinstance(output.value, tuple) else (output.value,),
            made[output.name] if lists else (made[output.name],),
            strict=True,
        ):
            wanted = tuple(axis.size.evaluate(sizes) for axis in value.type.axes)
            if tuple(found.shape) != wanted:
                return f"{output.name} is {tuple(found.shape)} and should be {wanted}"
    return ""


# ---- called invalid


def _invalid(mutation: Mutation, mutated: tuple[Library, str] | None, error: ArchError) -> Judgement:
    codes = tuple(sorted({d.code for d in error.diagnostics}))
    helps = tuple(h for d in error.diagnostics for h in d.helps)
    said = error.diagnostics[0].message if error.diagnostics else ""
    if mutated is None:
        return Judgement(mutation, "invalid", "unbuilt", codes, said, helps)
    try:
        program = _program(mutated, Session(forced=True))
        module = emit(program, Contract(program.symbols, (), ()), Figures(0))
    except ArchError:
        return Judgement(mutation, "invalid", "unbuilt", codes, said, helps)
    except Exception as failure:  # it is not meant to be written: whatever the back end trips over is noted
        return Judgement(mutation, "invalid", "unbuilt", codes, f"{said} ({type(failure).__name__}: {failure})", helps)
    outcome = "runs" if any(_runs(program, module, sizes) for sizes in _likely(program)) else "fails"
    return Judgement(mutation, "invalid", outcome, codes, said, helps)


def _likely(program: Program) -> Iterator[dict[str, int]]:
    """Sizes that the rest of the network admits, and usual ones."""
    contract = solve(program.symbols, program.obligations, dict(program.least))
    yield from _inside(contract)
    for size in (64, 112, 127):
        yield {name: 2 if name == "B" else size for name in program.symbols}


def _runs(program: Program, text: str, sizes: dict[str, int]) -> bool:
    """Whether the forced module runs: where it does without data, on data too, since that checks more."""
    try:
        with loaded(text) as module, torch.no_grad():
            for device in ("meta", "cpu"):
                _made(module, program, device)(**_inputs(program, sizes, device))
    except Exception:
        return False
    return True
