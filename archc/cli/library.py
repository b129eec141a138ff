"""`archc list`, `archc show` and `archc diff`: looking at specs."""

from __future__ import annotations

from pathlib import Path

import click

from archc import driver
from archc.cli import exit_code
from archc.cli.terminal import complain, say, table, unique
from archc.diagnostics import ArchError, Diagnostic, fail
from archc.locate import shipped
from archc.weights.keys import state_dict

STAGES = ("tree", "graph", "contract", "weights", "module")


@click.command("list")
@click.argument("folder", required=False)
def list_command(folder: str | None) -> int:
    """List the variants of a folder (the specs that archc ships)."""
    if folder is not None and not Path(folder).is_dir():
        raise fail("E0109", f"there is no folder {folder}")
    files = sorted(Path(folder).glob("*.arch")) if folder is not None else shipped()
    rows = [["name", "params", "MACs", "at", "claims", "rules", "answers"]]
    findings: list[Diagnostic] = []
    for file in files:
        try:
            spec = driver.load_spec(str(file))
        except ArchError as error:
            findings += error.diagnostics
            continue
        for name in spec.variants:
            try:
                rows.append(_row(driver.check(driver.build(spec, name))))
            except ArchError as error:
                findings += error.diagnostics
    if len(rows) > 1:
        say("\n".join(table(rows)))
    complain(unique(findings))
    return exit_code(tuple(findings))


def _row(one: driver.Checked) -> list[str]:
    from archc.analysis.cost import holdings, totals
    from archc.analysis.tables import scaled
    from archc.sizing import shown_sizes

    program, cost = one.program, one.cost
    figures = [scaled(cost.figures.macs), shown_sizes(program, cost.sizes)] if cost is not None else ["", ""]
    params = totals(holdings(program.root)).params
    marks = [
        str(len(program.claims) or ""),
        str(len(program.rules) or ""),
        "recorded" if program.matches else "",
    ]
    return [program.name, f"{params:,}", *figures, *marks]


@click.command("show")
@click.argument("spec")
@click.option("--stage", type=click.Choice(STAGES), default="graph", show_default=True, help="What to print.")
def show_command(spec: str, stage: str) -> None:
    """Print a stage of the compiler for one variant."""
    found = driver.load_spec(spec)
    if stage == "tree":
        say("\n".join(_tree(found.library.main.file.items)))
        return
    name = driver.only(found)
    if stage == "module":
        say(driver.compile_variant(found, name).text.rstrip("\n"))
        return
    program = driver.build(found, name)
    if stage == "graph":
        from archc.ir.text import print_program

        say(print_program(program).rstrip("\n"))
    elif stage == "contract":
        contract = driver.contract_of(program)
        lines = contract.describe() or ["any sizes"]
        examples = ["; ".join(f"{k} = {v}" for k, v in one.items()) for one in contract.examples()]
        say("\n".join([*lines, *(f"such as {one}" for one in examples)]))
    else:
        rows = [
            [key, weight.kind, "x".join(map(str, weight.shape)) or "1"] for key, weight in state_dict(program).items()
        ]
        if rows:
            say("\n".join(table(rows, 3)))


def _tree(value: object, name: str = "", depth: int = 0) -> list[str]:
    """A syntax tree with a line for each node and each word."""
    from dataclasses import fields, is_dataclass

    from archc.source import Span

    pad = "  " * depth + (f"{name}: " if name else "")
    if isinstance(value, tuple):
        return [line for item in value for line in _tree(item, name, depth)]
    if not is_dataclass(value):
        return [f"{pad}{value!r}"]
    span = getattr(value, "span", None)
    place = f"  # {span.source.name}:{span.line}" if isinstance(span, Span) else ""
    lines = [f"{pad}{type(value).__name__}{place}"]
    for field in fields(value):
        inner = getattr(value, field.name)
        if field.name != "span" and inner is not None and inner != ():
            lines += _tree(inner, field.name, depth + 1)
    return lines


@click.command("diff")
@click.argument("a")
@click.argument("b")
def diff_command(a: str, b: str) -> None:
    """Compare two variants: figures, inputs and state-dict keys."""
    from archc.analysis.tables import scaled
    from archc.sizing import shown_sizes

    both = []
    for named in (a, b):
        found = driver.load_spec(named)
        program = driver.build(found, driver.only(found))
        contract = driver.contract_of(program)
        both.append((program, contract, driver.figures(program, contract), state_dict(program)))
    (old, old_contract, old_cost, old_keys), (new, new_contract, new_cost, new_keys) = both
    rows = [["", old.name, new.name, "change"]]
    for what, first, second in (
        ("params", old_cost.figures.params, new_cost.figures.params),
        ("MACs", old_cost.figures.macs, new_cost.figures.macs),
        ("FLOPs", old_cost.figures.flops, new_cost.figures.flops),
    ):
        form = (lambda n: f"{n:,}") if what == "params" else scaled
        rows.append([what, form(first), form(second), f"{100 * (second - first) / first:+.1f} %" if first else ""])
    rows.append(["at", shown_sizes(old, old_cost.sizes), shown_sizes(new, new_cost.sizes), ""])
    same = old_contract.describe() == new_contract.describe()
    lines = [
        *table(rows),
        f"needs: {'the same sizes' if same else '; '.join(new_contract.describe()) or 'any sizes'}",
    ]
    added = [key for key in new_keys if key not in old_keys]
    gone = [key for key in old_keys if key not in new_keys]
    common = [key for key in old_keys if key in new_keys]
    reshaped = [key for key in common if old_keys[key].shape != new_keys[key].shape]
    lines.append(f"state dict: {len(common)} keys in both, {len(reshaped)} of them with another shape,")
    lines[-1] += f" {len(added)} new, {len(gone)} gone"
    for sign, keys in (("+", added), ("-", gone), ("~", reshaped)):
        lines += [f"  {sign} {key}" for key in keys[:8]]
        lines += [f"  {sign} ... {len(keys) - 8} more"] if len(keys) > 8 else []
    say("\n".join(lines))
