"""The inputs of a run: their dtypes, the sizes that they give, and whether the program admits these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archc.diagnostics import ArchError, Diagnostic, did_you_mean, fail
from archc.ir.program import Input, Program
from archc.ir.types import Axis
from archc.sizes import Size


def bind_sizes(inputs: Sequence[Input], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The sizes of the input symbols for inputs of these shapes. Raises ArchError E0621 where none fit."""
    sizes: dict[str, int] = {}
    origin: dict[str, str] = {}
    held = [
        (item, axis, number)
        for item in inputs
        for axis, number in zip(_axes(item, shapes[item.name]), shapes[item.name], strict=True)
    ]
    for item, axis, number in held:
        symbol = str(axis.size)
        if axis.size != Size.symbol(symbol):
            continue
        if sizes.setdefault(symbol, number) != number:
            raise fail(
                "E0621",
                f"{symbol} is {sizes[symbol]} in `{origin[symbol]}` and {number} in `{item.name}`",
                item.value.span,
            )
        origin.setdefault(symbol, item.name)
    for item, axis, number in held:
        if axis.size.symbols <= sizes.keys() and axis.size.evaluate(sizes) != number:
            wanted = axis.size.evaluate(sizes)
            raise fail(
                "E0621",
                f"the axis {axis.name} of `{item.name}` must be {wanted}, and is {number}",
                item.value.span,
            )
    return sizes


def _axes(item: Input, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    axes = item.value.type.axes
    if len(axes) != len(shape):
        raise fail(
            "E0621",
            f"`{item.name}` is {item.value.type}, and a tensor of {len(shape)} axes was given",
            item.value.span,
        )
    return axes


def convert_inputs(
    program: Program, wanted: Sequence[Input], inputs: Mapping[str, Any], torch: Any
) -> dict[str, Any]:
    """The inputs in the dtypes of their types. Raises ArchError E0621 for missing and unknown ones."""
    names = [item.name for item in wanted]
    for name in inputs:
        if name not in names:
            raise fail("E0621", f"`{program.name}` has no input `{name}`", helps=did_you_mean(name, names))
    dtypes = {"float": torch.float64, "int": torch.int64, "bool": torch.bool}
    found = {}
    for item in wanted:
        if inputs.get(item.name) is None:
            # A build without an optional input is a program of its own.
            raise fail("E0621", f"the input `{item.name}` is missing", item.value.span)
        found[item.name] = inputs[item.name].to(dtypes[item.value.type.dtype])
    return found


def admit(program: Program, sizes: Mapping[str, int]) -> None:
    """Raises ArchError E0621 where the program needs other sizes than these."""
    diagnostics = []
    for need in program.obligations:
        try:
            holds = need.holds(sizes)
        except KeyError:
            continue  # about the inputs of another entry
        if not holds:
            shown = ", ".join(f"{name} = {number}" for name, number in sizes.items())
            diagnostics.append(Diagnostic("E0621", f"{need.why}, which does not hold for {shown}", need.span))
    if diagnostics:
        raise ArchError(diagnostics)
