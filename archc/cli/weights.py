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
@click.option("--deploy", is_flag=True, help="For the deploy build: fold batch norms and factors of channels.")
def convert_weights_command(spec: str, checkpoint: str, output: str, deploy: bool) -> None:
    """Rename the tensors of CHECKPOINT by the rules of SPEC, strictly."""
    found = driver.load_spec(spec)
    program = driver.build(found, driver.only(found))
    _check_output(Path(output), program.name)
    try:
        from archc.weights.convert import convert

        deployed = driver.deployed(program) if deploy else None
        plan = convert(program, Path(checkpoint), Path(output), deployed)
    except ModuleNotFoundError as error:
        raise needs(error) from None
    complain(plan.warnings)
    if deployed is None:
        say(f"wrote    {output}   {len(plan.placements)} tensors")
    else:
        say(f"wrote    {output}   for {deployed.program.name}, {len(deployed.recipes)} tensors folded")
    if plan.dropped:
        more = ", ..." if len(plan.dropped) > 4 else ""
        say(f"dropped  {len(plan.dropped)}: {', '.join(plan.dropped[:4])}{more}")
    if plan.missing:
        say(f"zero     {len(plan.missing)} counters that the checkpoint lacks")
    say(f"every tensor of {Path(checkpoint).name} has a place, and every weight of {program.name} a tensor")


def _check_output(output: Path, name: str) -> None:
    """Raises ArchError E0613 for a place that could not be written, before the checkpoint is read."""
    if output.is_dir():
        raise fail("E0613", f"`{output}` is a folder", helps=(f"name a file: -o {output / name}.safetensors",))
    if str(output) == "-":
        raise fail(
            "E0613", "tensors are not written to standard output", helps=(f"name a file: -o {name}.safetensors",)
        )
    if output.suffix in (".pth", ".pt", ".bin", ".ckpt", ".tar"):
        raise fail("E0613", f"what is written is a safetensors file, and `{output}` says otherwise",
                   helps=(f"write -o {output.with_suffix('.safetensors')}",))  # fmt: skip
    if not output.parent.is_dir():
        raise fail("E0613", f"there is no folder `{output.parent}`", helps=(f"mkdir -p {output.parent}",))
