"""`archc compile`: the PyTorch modules of variants, read again before they are put in place."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from archc import driver
from archc.cli.terminal import complain, note, say, table, unique
from archc.diagnostics import ArchError, Diagnostic, fail
from archc.driver import Module
from archc.output import guard, write_all


@click.command("compile")
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    default=".",
    metavar="FILE_OR_FOLDER",
    help="Where to write (here); - for standard output.",
)
@click.option("--force", is_flag=True, help="Write over files that archc did not generate.")
@click.option(
    "--check",
    "only_check",
    is_flag=True,
    help="Write nothing; fail where a file is not what would be written.",
)
@click.option("--kernels/--no-kernels", default=True, show_default=True, help="With fused Triton kernels.")
@click.option(
    "--deploy", is_flag=True, help="For inference: batch norms and factors of channels folded into weights."
)
def compile_command(
    specs: Sequence[str], output: str, force: bool, only_check: bool, kernels: bool, deploy: bool
) -> int:
    """Write a PyTorch module for every variant of SPEC."""
    modules = _modules(specs, kernels, deploy)
    complain(unique(warning for module in modules for warning in module.checked.warnings))
    if output == "-":
        return _to_stdout(modules)
    places = _places(modules, output)
    if only_check:
        return _stale(places)
    for path, module in places.items():
        if Path(os.path.realpath(path)) in {source.path for source in module.checked.program.sources}:
            raise fail("E0912", f"{path} is the spec itself, and is left as it is")
        guard(path, force)
    proved: dict[Path, str] = {}
    texts = {path: module.text for path, module in places.items()}

    def accept(path: Path, text: str) -> None:
        proved[path] = prove(places[path], text)

    write_all(texts, accept)
    for path, module in places.items():
        say("\n".join(_described(path, module, proved[path])))
    return 0


def _modules(specs: Sequence[str], kernels: bool, deploy: bool) -> list[Module]:
    """Every variant, compiled. Raises ArchError with the mistakes of all."""
    modules: list[Module] = []
    findings: list[Diagnostic] = []
    for named in specs:
        try:
            spec = driver.load_spec(named)
            if not spec.variants:
                driver.only(spec)
        except ArchError as error:
            findings += error.diagnostics
            continue
        for name in spec.variants:
            try:
                modules.append(driver.compile_variant(spec, name, kernels, deploy))
            except ArchError as error:
                findings += error.diagnostics
    if findings:
        raise ArchError(unique(findings))
    return modules


def _places(modules: list[Module], output: str) -> dict[Path, Module]:
    """The file of each module."""
    chosen = Path(output)
    if chosen.suffix == ".py" and not os.path.isdir(chosen):
        if len(modules) != 1:
            raise fail(
                "E0901",
                f"{len(modules)} modules do not fit into one file, {output}",
                helps=("name a folder",),
            )
        return {chosen: modules[0]}
    if os.path.exists(chosen) and not os.path.isdir(chosen):
        raise fail(
            "E0911",
            f"{output} is a file whose name does not end in .py",
            helps=("name a folder or a .py file",),
        )
    places: dict[Path, Module] = {}
    for module in modules:
        path = chosen / f"{module.checked.program.name}.py"
        if path in places:
            raise fail("E0901", f"two variants are called `{module.checked.program.name}`, and both would be {path}")
        places[path] = module
    return places


def prove(module: Module, text: str) -> str:
    """Read the written text again and hold it against the graph; what is equal, in words.

    Raises RuntimeError where it differs: that is archc's own mistake.
    """
    from archc.backend.evaluator import RereadError
    from archc.backend.python import global_name
    from archc.backend.reread import compare, reread

    program = module.checked.program
    try:
        found = reread(text, global_name(program.name))
    except RereadError as error:
        raise RuntimeError(f"the text written for {program.name} cannot be read again: {error}") from None
    differences = compare(program, found)
    if differences:
        raise RuntimeError(f"the text written for {program.name} differs from its graph: {'; '.join(differences)}")
    parameters, buffers = found.tensors["param"], found.tensors["buffer"]
    kinds = f"{parameters:,} parameters" + (f" and {buffers:,} buffers" if buffers else "")
    return f"the file holds the graph's {kinds} ({found.count:,} numbers): same names, shapes and order"


def _described(path: Path, module: Module, proved: str) -> list[str]:
    contract = module.checked.contract
    classes = sum(line.startswith("class ") for line in module.text.split("\n"))
    lines = [f"wrote    {path}   {module.text.count(chr(10))} lines, {classes} class{'es' * (classes != 1)}"]
    lines.append(f"proved   {proved}")
    lines += _labelled("needs", contract.describe())
    lines += _folding(module)
    lines += _fusion(module)
    deploy = " --deploy" if module.deployed is not None else ""
    lines.append(f"next     archc verify {module.address}{deploy}   (values are not compared yet)")
    return lines


def _folding(module: Module) -> list[str]:
    """What a deploy build folded, and what it left and why."""
    if module.deployed is None:
        return []
    told: dict[str, list[str]] = {}
    for row in module.deployed.report:
        times = f" x{row.times}" if row.times > 1 else ""
        told.setdefault(row.why, []).append(f"{row.name} of {row.component}{times}")
    folded = told.pop("", [])
    left = [f"{', '.join(names)}: {why}" for why, names in told.items()]
    return [*_labelled("folded", [", ".join(folded)] if folded else ["nothing"]), *_labelled("left", left)]


def _fusion(module: Module) -> list[str]:
    """The fusion report: what fused operators compute, with bytes and FLOPs before and after; what not, and why."""
    from archc.analysis.setting import Setting
    from archc.analysis.tables import scaled
    from archc.fusion.report import entries

    cost = module.checked.cost
    if not module.regions or cost is None:
        return []
    found = entries(module.checked.program, module.regions, Setting(cost.sizes, cost.dtype))
    rows = [["in", "operations", "kernel", "runs", "MB", "fused", "FLOPs", "fused"]]
    for e in found:
        if not e.why:
            rows.append([
                e.component, e.operations, e.kernel, f"{e.runs}", f"{e.bytes_before / 1e6:.2f}", f"{e.bytes_after / 1e6:.2f}",
                scaled(e.flops_before), scaled(e.flops_after),
            ])  # fmt: skip
    lines = _labelled("fused", table(rows, left=3))
    reasons: dict[tuple[str, str], list[str]] = {}
    for e in found:
        if e.why:
            reasons.setdefault((e.operations, e.why), []).append(e.component)
    plain = [f"{what} in {', '.join(dict.fromkeys(where))}: {why}" for (what, why), where in reasons.items()]
    return [*(lines if len(rows) > 1 else []), *_labelled("library", plain)]


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    return [f"{label if number == 0 else '':<8} {line}" for number, line in enumerate(lines)]


def _to_stdout(modules: list[Module]) -> int:
    if len(modules) != 1:
        raise fail(
            "E0901",
            f"{len(modules)} modules do not fit into one output",
            helps=("name one variant: FILE:VARIANT",),
        )
    prove(modules[0], modules[0].text)
    sys.stdout.write(modules[0].text)
    return 0


def _stale(places: dict[Path, Module]) -> int:
    """1 where a file is not what would be written now."""
    stale = 0
    for path, module in places.items():
        try:
            same = os.path.isfile(path) and path.read_bytes() == module.text.encode()
        except OSError:
            same = False
        if not same:
            stale = 1
            note(f"{path} is not what archc would write" if os.path.lexists(path) else f"{path} is missing")
    return stale
