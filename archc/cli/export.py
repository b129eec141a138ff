"""`archc export`: a variant for other runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from archc import driver
from archc.cli.terminal import complain, needs, say
from archc.diagnostics import fail
from archc.driver import Module
from archc.sizing import choose, parse_sizes


@click.command("export")
@click.argument("spec")
@click.option("--onnx", is_flag=True, help="As ONNX, for ONNX Runtime, OpenVINO and others.")
@click.option("-o", "--output", default="", metavar="FILE.onnx", help="Where to write (NAME.onnx, here).")
@click.option("--weights", default="", metavar="FILE", help="The trained weights, under the names of the module.")
@click.option("--deploy", is_flag=True, help="The deploy build: --weights, as trained, are folded on the way.")
@click.option("--size", "sizes", multiple=True, metavar="NAME=N", help="Input sizes, as image=256 or image=192x256.")
@click.option("--batch", type=click.IntRange(1, 1 << 20), metavar="N", help="Inputs at once (1).")
@click.option(
    "--dynamic",
    "open_",
    multiple=True,
    type=click.Choice(["batch", "sizes"]),
    help="What stays open until the file is run.",
)
def export_command(
    spec: str,
    onnx: bool,
    output: str,
    weights: str,
    deploy: bool,
    sizes: Sequence[str],
    batch: int | None,
    open_: Sequence[str],
) -> int:
    """Write a variant of SPEC, with its weights, as a file for other runtimes."""
    if not onnx:
        raise fail("E0901", "no format was named", helps=("write --onnx, which is the one there is",))
    found = driver.load_spec(spec)
    module = driver.compile_variant(found, driver.only(found), deploy=deploy)
    complain(module.checked.warnings)
    program, contract = module.checked.program, module.checked.contract
    chosen = choose(program, contract, parse_sizes(program, sizes, batch))
    kept = [name for name in program.symbols if ("batch" if name == "B" else "sizes") in open_]
    path = Path(output or f"{program.name}.onnx")
    _check_output(path)
    try:
        held = _weights(weights)
        from archc.export import export_onnx, network

        with network(module, held) as net:
            made = export_onnx(net, program, chosen, kept)
            _write(path, made.content)
            shown = ", ".join(f"{n} = {'any' if n in kept else chosen[n]}" for n in program.symbols)
            say(f"wrote    {path}   {len(made.content) / 1e6:.1f} MB, {made.nodes} operators, opset {made.opset}")
            say(f"sizes    {shown}" if shown else "sizes    all fixed")
            say(f"weights  {weights or 'as a new module starts: name a file with --weights'}")
            _compared(module, made.content, net, chosen)
    except ModuleNotFoundError as error:
        raise needs(error) from None
    return 0


def _weights(path: str) -> dict[str, Any] | None:
    if not path:
        return None
    import torch  # noqa: F401

    from archc.weights.checkpoint import read

    return read(Path(path))


def _check_output(path: Path) -> None:
    """Raises ArchError E0911 for a place that could not be written, before anything is computed."""
    if str(path) == "-" or path.is_dir() or path.suffix != ".onnx":
        raise fail("E0911", f"`{path}` is no name of an ONNX file", helps=("name one that ends in .onnx: -o NAME.onnx",))
    if not path.parent.is_dir():
        raise fail("E0911", f"there is no folder `{path.parent}`", helps=(f"mkdir -p {path.parent}",))


def _write(path: Path, content: bytes) -> None:
    from archc.output import replacement

    try:
        with replacement(path) as part:
            Path(part).write_bytes(content)
    except OSError as error:
        raise fail("E0911", f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None


def _compared(module: Module, content: bytes, net: Any, sizes: dict[str, int]) -> None:
    """Say how far ONNX Runtime is off, where it is installed. Raises ArchError E0631 if that is too far."""
    from archc.export import TOLERANCE, compare

    program = module.checked.program
    try:
        found = compare(content, net, program, sizes)
    except ModuleNotFoundError:
        say("next     pip install onnxruntime   (values are not compared yet)")
        return
    if not found.worst <= TOLERANCE:
        raise fail("E0631", f"what {found.runtime} computes from the file differs from the module by {found.worst:.1e}",
                   program.span, helps=("this is a bug in archc, in torch.onnx or in ONNX Runtime",))  # fmt: skip
    say(f"agrees   {found.runtime} and the module, within {found.worst:.1e}")
