"""`archc verify`: the module that archc writes, run against the meaning of its graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from archc import driver
from archc.cli import exit_code
from archc.cli.terminal import complain, needs, say, table
from archc.diagnostics import Diagnostic, fail
from archc.driver import Module
from archc.sizing import choose, parse_sizes

if TYPE_CHECKING:
    from archc.verify import Report


@click.command("verify")
@click.argument("spec")
@click.option(
    "--size",
    "sizes",
    multiple=True,
    metavar="NAME=N",
    help="Input sizes, instead of some that the spec admits.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32", "bfloat16"]),
    default="float64",
    show_default=True,
    help="What to compute in; bfloat16 with --deploy only.",
)
@click.option(
    "--deploy", is_flag=True, help="The deploy build with folded weights, against the network as it was trained."
)
def verify_command(spec: str, sizes: Sequence[str], dtype: str, deploy: bool) -> int:
    """Run the module against the reference interpreter of its graph, and against recorded answers."""
    if dtype == "bfloat16" and not deploy:
        raise fail("E0901", "a module in bfloat16 is held to nothing", helps=("compare a deploy build: --deploy",))
    found = driver.load_spec(spec)
    if not found.variants:
        driver.only(found)
    findings: list[Diagnostic] = []
    for name in found.variants:
        module = driver.compile_variant(found, name, deploy=deploy)
        if dtype == "bfloat16":
            findings += rounded(module, driver.compile_variant(found, name), sizes)
            continue
        report = run(module, sizes, dtype)
        say("\n".join(described(report)))
        findings += judged(report, module)
    complain(findings)
    return exit_code(tuple(findings))


def run(module: Module, sizes: Sequence[str], dtype: str) -> Report:
    """Raises ArchError E0921 without torch, and for sizes that the network does not take."""
    program, contract = module.checked.program, module.checked.contract
    chosen = [choose(program, contract, parse_sizes(program, sizes))] if sizes else None
    try:
        import numpy  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise needs(error) from None
    from archc.verify import verify

    if module.deployed is not None:
        from archc.deploy.verify import verify_deployed

        return verify_deployed(module.deployed, module.text, sizes=chosen, dtype=dtype)
    return verify(program, module.text, sizes=chosen, dtype=dtype)


def rounded(module: Module, trained: Module, sizes: Sequence[str]) -> list[Diagnostic]:
    """Says what bfloat16 costs a deploy build, beside the module as it was trained; E0633 where that is too much."""
    program, contract = module.checked.program, module.checked.contract
    assert module.deployed is not None
    chosen = choose(program, contract, parse_sizes(program, sizes))
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise needs(error) from None
    from archc.deploy.verify import MOST_TIMES, rounding

    found = rounding(module.deployed, trained.text, module.text, chosen)
    shown = " ".join(f"{name}={value}" for name, value in found.sizes.items())
    say(f"{found.name}   bfloat16 at {shown}, norms of errors against float64")
    say(f"  as it was trained {found.trained:.2e}, folded {found.deployed:.2e}: {found.times:.2f} times")
    if found.ok:
        return []
    message = f"folding makes the error of `{trained.checked.program.name}` in bfloat16 {found.times:.2f} times as large"
    return [
        Diagnostic(
            "E0633", message, program.span, notes=(f"at most {MOST_TIMES} times is meant to be lost",),
            helps=("deploy the module as it was trained, or compute in float32",),
        )
    ]  # fmt: skip


def described(report: Report) -> list[str]:
    """What was compared, and how far off it is, as shares of the largest value."""
    what = (
        "the whole network"
        if report.scope == "network"
        else "every distinct block, for the network is too large to run here"
    )
    lines = [f"{report.name}   {report.parameters:,} params, {report.dtype}, {what}"]
    rows = [["", "at", "outputs", "gradients"]]
    for trial in report.trials:
        sizes = " ".join(f"{name}={value}" for name, value in trial.sizes.items())
        gradients = f"{trial.backward:.1e}" if trial.gradients else "none"
        rows.append(
            [
                trial.what,
                sizes,
                *((f"{trial.forward:.1e}", gradients) if not trial.failure else ("failed", "")),
            ]
        )
    lines += table(rows, 2, "  ")
    lines += [f"  recorded answer {a.case}, {a.output}: {a.worst:.1e}" for a in report.answers]
    lines += [f"  not run: {name}" for name in report.left_out]
    if report.ok:
        lines.append(f"agrees with the meaning of the graph within {report.tolerance:.0e}")
    return lines


def judged(report: Report, module: Module) -> list[Diagnostic]:
    """What does not agree: E0631 the module with its graph, E0632 the network with recorded answers."""
    program = module.checked.program
    found: list[Diagnostic] = []
    if not report.trials:
        found.append(
            Diagnostic(
                "E0631",
                f"nothing of `{program.name}` could be run",
                program.span,
                helps=("name sizes with --size",),
            )
        )
    for trial in report.trials:
        sizes = ", ".join(f"{name} = {value}" for name, value in trial.sizes.items())
        off = [d for d in (*trial.outputs, *trial.gradients) if not d.worst <= report.tolerance]
        if trial.failure or off:
            why = trial.failure or ", ".join(f"{d.name} is off by {d.worst:.1e}" for d in off[:4])
            message = f"`{trial.what}` of the module differs from its graph at {sizes}"
            found.append(Diagnostic("E0631", message, program.span, notes=(why,), helps=("this is a bug in archc",)))
    for answer in report.answers:
        if not answer.holds:
            message = f"`{answer.output}` of the recorded case {answer.case} is off by {answer.worst:.1e}"
            found.append(
                Diagnostic(
                    "E0632",
                    message,
                    program.matches[0].span,
                    helps=("the spec is not the network that was recorded",),
                )
            )
    return found
