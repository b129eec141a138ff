"""`archc fmt` and `archc explain`: the text of specs, and what its messages mean."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from archc.cli import exit_code
from archc.cli.terminal import complain, note, say
from archc.diagnostics import ArchError, Diagnostic
from archc.report import wants_color


@click.command("fmt")
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@click.option("--check", "only_check", is_flag=True, help="Change nothing; fail where a file is not formatted.")
def fmt_command(specs: Sequence[str], only_check: bool) -> int:
    """Format files in place; - reads standard input and writes to standard output."""
    from pathlib import Path

    from archc.elaborate.loader import read
    from archc.locate import STDIN, locate
    from archc.output import write
    from archc.syntax.format import format_source

    findings: list[Diagnostic] = []
    unformatted = False
    for named in specs:
        try:
            source = locate(STDIN).source if named == STDIN else read(Path(named))
            text = format_source(source)
            same = text == source.text and (source.path is None or source.path.read_bytes() == text.encode())
            unformatted |= not same
            if only_check:
                if not same:
                    note(f"{source.name} is not formatted")
            elif named == STDIN:
                sys.stdout.write(text)
            elif not same:
                write(Path(named), text)
                note(f"formatted {named}")
        except ArchError as error:
            findings += error.diagnostics
    complain(findings)
    return max(exit_code(tuple(findings)), 1 if only_check and unformatted else 0)


@click.command("explain")
@click.argument("code", required=False)
def explain_command(code: str | None) -> None:
    """Explain the code of a message; without one, list all codes."""
    from archc.explain import codes, explain

    if code is None:
        say("\n".join(explain(one).split("\n", 1)[0].removeprefix("# ") for one in codes()))
        return
    page = explain(code).rstrip("\n")
    if not wants_color(sys.stdout):
        say(page)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(page))
