"""`archc convert-weights`: a published checkpoint under the names of the generated module."""

from __future__ import annotations

from pathlib import Path

import click

from archc import driver
from archc.cli.terminal import complain, needs, say
from archc.diagnostics import fail


@click.command("convert-weights")
@click.argument("spec")
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, metavar="OUT.safetensors", help="Where to write.")
def convert_weights_command(spec: str, checkpoint: str, output: str) -> None:
    """Rename the tensors of CHECKPOINT by the rules of SPEC, strictly."""
    found = driver.load_spec(spec)
    program = driver.build(found, driver.only(found))
    if Path(output).is_dir():
        raise fail(
            "E0613",
            f"`{output}` is a folder",
            helps=(f"name a file: -o {output}/{program.name}.safetensors",),
        )
    try:
        from archc.weights.convert import convert

        plan = convert(program, Path(checkpoint), Path(output))
    except ModuleNotFoundError as error:
        raise needs(error) from None
    complain(plan.warnings)
    say(f"wrote    {output}   {len(plan.placements)} tensors")
    if plan.dropped:
        more = ", ..." if len(plan.dropped) > 4 else ""
        say(f"dropped  {len(plan.dropped)}: {', '.join(plan.dropped[:4])}{more}")
    if plan.missing:
        say(f"zero     {len(plan.missing)} counters that the checkpoint lacks")
    say(f"every tensor of {Path(checkpoint).name} has a place, and every weight of {program.name} a tensor")
