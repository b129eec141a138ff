"""`archc check`: shapes, wiring, contracts and claims, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import isfile
from typing import Any

import click

from archc import driver
from archc.analysis.cost import holdings, totals
from archc.analysis.tables import scaled
from archc.cli import exit_code
from archc.cli.terminal import complain, say, unique
from archc.diagnostics import MOST_FINDINGS, ArchError, Diagnostic
from archc.driver import Checked
from archc.ir.program import Program
from archc.locate import answers_file, examples
from archc.report import to_json
from archc.sizing import shown_sizes
from archc.version import __version__


@click.command("check")
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print.")
def check_command(specs: Sequence[str], form: str) -> int:
    """Check shapes, wiring, input sizes and claims."""
    findings: list[Diagnostic] = []
    files: list[dict[str, Any]] = []
    for named in specs:
        spec, sound, found = check_file(named)
        findings += found
        if form == "json":
            name = named if spec is None else spec.name
            files.append({"file": name, "variants": [as_dict(one) for one in sound]})
        elif spec is not None:
            say("\n".join(_lines(spec, sound)))
    if form == "json":
        import json

        document = {
            "archc": __version__,
            "files": files,
            "diagnostics": [to_json(d) for d in unique(findings)],
        }
        say(json.dumps(document, indent=2))
    else:
        complain(unique(findings))
    return exit_code(tuple(findings))


def check_file(named: str) -> tuple[driver.Spec | None, list[Checked], list[Diagnostic]]:
    """A spec, None where it cannot be read; the variants that are meant and sound; what was found."""
    try:
        spec = driver.load_spec(named)
    except ArchError as error:
        return None, [], list(error.diagnostics)
    findings: list[Diagnostic] = []
    sound: list[Checked] = []
    for name in spec.variants:
        if len(findings) >= MOST_FINDINGS:
            break
        try:
            sound.append(driver.check(driver.build(spec, name)))
            findings += [*sound[-1].warnings, *_missing_answers(sound[-1].program)]
        except ArchError as error:
            findings += error.diagnostics
    if len(sound) == len(spec.variants):  # what is idle may be what a mistake left out
        findings += driver.remarks(spec)
    return spec, sound, findings


def _missing_answers(program: Program) -> list[Diagnostic]:
    """E0623 for recorded answers that are not there: then nothing holds the network to them."""
    found: list[Diagnostic] = []
    for matches in program.matches:
        try:
            there = matches.span.source.path is None or isfile(answers_file(matches))
        except ArchError as error:
            found += error.diagnostics
            continue
        if not there:
            found.append(Diagnostic("E0623", f"there is no file `{matches.path}`", matches.span, "recorded answers"))
    return found


def _lines(spec: driver.Spec, sound: list[Checked]) -> list[str]:
    if not spec.variants:
        helps = examples(spec)
        shown = f" ({'; '.join(helps)})" if helps else ""
        return [f"{spec.name}: it binds no variant whose shapes could be checked{shown}"]
    number = len(spec.variants)
    lines = [f"{spec.name}: {number} variant{'s' * (number != 1)}, {len(sound)} sound"]
    for one in sound:
        lines += [f"  {line}" for line in described(one)]
    return lines


def described(one: Checked) -> list[str]:
    """A sound variant in a few lines."""
    program, contract, cost = one.program, one.contract, one.cost
    params = totals(holdings(program.root)).params
    counted = "MACs at no size, for none is known that it takes"
    if cost is not None:
        counted = f"{scaled(cost.figures.macs, 'MACs')} at {shown_sizes(program, cost.sizes)}"
    claims = f"{len(program.claims)}/{len(program.claims)} claims hold" if program.claims else "no claims"
    lines = [f"{program.name}   {params:,} params   {counted}   {claims}"]
    lines += [
        f"  {i.kind:<8} {i.name}: {i.value.type}{' (optional)' if i.default == 'none' else ''}" for i in program.inputs
    ]
    for output in program.outputs:
        values = output.value if isinstance(output.value, tuple) else (output.value,)
        when = " (in training)" if output.when else ""
        lines.append(f"  {output.kind:<8} {output.name}: {', '.join(str(v.type) for v in values)}{when}")
    for entry in program.entry_points:
        lines.append(f"  {'entry':<8} {entry.name}({', '.join(f'{v.name}: {v.type}' for v in entry.template.inputs)})")
    free = ", ".join(s for s in program.symbols if s != "B")
    if contract.requirements:
        lines += [f"  {'needs' if n == 0 else '':<8} {text}" for n, text in enumerate(contract.describe())]
    elif free:
        lines.append(f"  {'needs':<8} nothing: any {free}")
    if program.rules:
        lines.append(f"  {'weights':<8} {len(program.rules)} rules for a published checkpoint")
    for matches in program.matches:
        lines.append(f"  {'answers':<8} {matches.path} (not compared here: archc verify)")
    return lines


def as_dict(one: Checked) -> dict[str, Any]:
    """A sound variant as plain data."""
    program, contract, cost = one.program, one.contract, one.cost
    return {
        "name": program.name,
        "model": program.model,
        "params": totals(holdings(program.root)).params,
        "macs": cost.figures.macs if cost is not None else None,
        "flops": cost.figures.flops if cost is not None else None,
        "at": dict(cost.sizes) if cost is not None else None,
        "inputs": [
            {"name": i.name, "kind": i.kind, "type": str(i.value.type), "default": i.default} for i in program.inputs
        ],
        "outputs": [_output(program, n) for n in range(len(program.outputs))],
        "contract": {
            "symbols": list(contract.symbols),
            "requirements": contract.describe(),
            "proved": not contract.unproved,
            "examples": contract.examples(),
        },
        "claims": [claim.condition.span.text for claim in program.claims],
        "weight_rules": len(program.rules),
        "matches": [matches.path for matches in program.matches],
    }


def _output(program: Program, number: int) -> dict[str, Any]:
    output = program.outputs[number]
    values = output.value if isinstance(output.value, tuple) else (output.value,)
    return {
        "name": output.name,
        "kind": output.kind,
        "when": output.when,
        "types": [str(v.type) for v in values],
    }
