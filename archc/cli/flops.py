"""`archc flops`: exact figures of a variant."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from archc import driver
from archc.cli.terminal import say, table
from archc.diagnostics import did_you_mean, fail
from archc.ir.program import Program

# Said here as well, so that `--help` need not import what knows them; a test compares.
DTYPES = ("float16", "bfloat16", "float32", "float64")
CONVENTIONS = ("exact", "fvcore", "torch", "conv+linear", "9LDN")
DEVICES = ("a100-80gb-sxm", "h100-sxm", "l4", "rtx-4090", "laptop-cpu")


@click.command("flops")
@click.argument("spec")
@click.option(
    "--size",
    "sizes",
    multiple=True,
    metavar="NAME=N",
    help="Input sizes: image=224, image=192x256, H=192. May be repeated.",
)
@click.option("--batch", type=click.IntRange(1, 2**31 - 1), help="The batch size (1).")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float32",
    show_default=True,
    help="The element type of weights and activations.",
)
@click.option(
    "--per",
    type=click.Choice(["stage", "block", "op"]),
    default="stage",
    show_default=True,
    help="The detail of the table.",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="NAME",
    help=f"Bound the time on a device: {', '.join(DEVICES)}.",
)
@click.option(
    "--convention",
    default="exact",
    metavar="NAME",
    show_default=True,
    help=f"How to count: {', '.join(CONVENTIONS)}.",
)
@click.option("--fused", is_flag=True, help="Count what fused kernels read, write and keep.")
@click.option("--deploy", is_flag=True, help="Count the deploy build, with batch norms and factors folded.")
@click.option("--training", is_flag=True, help="Count what only training has, too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "markdown", "latex"]),
    default="table",
    show_default=True,
    help="How to print.",
)
def flops_command(
    spec: str,
    sizes: Sequence[str],
    batch: int | None,
    dtype: str,
    per: str,
    devices: Sequence[str],
    convention: str,
    fused: bool,
    deploy: bool,
    training: bool,
    form: str,
) -> None:
    """Count parameters, MACs, FLOPs, activations and bytes."""
    from archc.analysis.tables import report

    for kind, names, known in (("convention", (convention,), CONVENTIONS), ("device", devices, DEVICES)):
        for name in names:
            if name not in known:
                helps = did_you_mean(name, known) or (f"known are {', '.join(known)}",)
                raise fail("E0901", f"no {kind} is called `{name}`", helps=helps)
    found = driver.load_spec(spec)
    how = {"dtype": dtype, "convention": convention, "training": training}
    if len(found.variants) > 1 and form == "table" and not devices:
        say("\n".join(_totals(found, sizes, batch, fused, deploy, how)))
        return
    program = _program(found, driver.only(found), deploy)
    contract = driver.contract_of(program)
    if fused:
        program = driver.fused(program, contract)
    cost = driver.figures(program, contract, sizes, batch, **how)
    text = report(cost, per, "text" if form == "table" else form, devices)
    if form == "csv":
        sys.stdout.write(text)
    else:
        say(text.rstrip("\n"))


def _program(spec: driver.Spec, name: str, deploy: bool) -> Program:
    """The variant, or its deploy build."""
    program = driver.build(spec, name)
    return driver.deployed(program).program if deploy else program


def _totals(
    spec: driver.Spec, sizes: Sequence[str], batch: int | None, fused: bool, deploy: bool, how: dict[str, object]
) -> list[str]:
    """A line for each variant of a file."""
    from archc.analysis.tables import scaled
    from archc.sizing import shown_sizes

    rows = [
        [
            "",
            "params",
            how["convention"] if how["convention"] != "exact" else "MACs",
            "FLOPs",
            "weights MB",
            "~peak MB",
            "at",
        ]
    ]
    for name in spec.variants:
        program = _program(spec, name, deploy)
        contract = driver.contract_of(program)
        program = driver.fused(program, contract) if fused else program
        cost = driver.figures(program, contract, sizes, batch, **how)
        macs = cost.figures.macs if cost.convention.name == "exact" else cost.reported
        rows.append([
            name, f"{cost.figures.params:,}", scaled(macs), scaled(cost.figures.flops),
            f"{cost.weight_bytes / 1e6:.2f}", f"{cost.figures.peak_bytes / 1e6:.2f}", shown_sizes(program, cost.sizes),
        ])  # fmt: skip
    return [*table(rows), "", f"for the parts of one: archc flops {spec.named}:{spec.variants[0]}"]
