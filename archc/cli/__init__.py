"""The command line. Data goes to stdout, messages to stderr.

Exit codes: 0 all is well, 1 something was found in a spec, 2 the command could not be carried out,
130 interrupted, 143 terminated, 141 nobody reads on (`archc list | head`).
Every command is a module that is imported when it is asked for.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import signal
import sys
from importlib import import_module
from typing import Any

import click

from archc.diagnostics import ArchError, Diagnostic
from archc.version import __version__

# Command: the module that has it, under the same name with `_` for `-`.
COMMANDS: dict[str, str] = {
    "check": "check",
    "flops": "flops",
    "compile": "generate",
    "verify": "verify",
    "export": "export",
    "list": "library",
    "show": "library",
    "diff": "library",
    "fmt": "text",
    "explain": "text",
    "convert-weights": "weights",
}
# What writing to a full or broken disk says.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# Not about a spec's content: the command itself could not be carried out.
UNDOABLE = ("E0109", "E0804", "E09")


class Commands(click.Group):
    """The commands, none imported before it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"archc.cli.{COMMANDS[cmd_name]}")
        return getattr(module, f"{cmd_name.replace('-', '_')}_command")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from archc.diagnostics import did_you_mean

            close = "; ".join(did_you_mean(args[0], COMMANDS)) or f"commands are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command is called `{args[0]}`: {close}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="archc %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def archc(debug: bool) -> None:
    """Check, count and compile neural architectures.

    SPEC is a file, FILE:VARIANT, the name of a spec that archc ships, or - for standard input.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: what was begun is cleared away, as after an interrupt."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code."""

    def terminate(number: int, _: object) -> None:
        raise Terminated(number)

    for name in ("SIGTERM", "SIGHUP"):
        # Whoever started archc with the signal ignored (nohup) wants it to stay so.
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_DFL:
            signal.signal(getattr(signal, name), terminate)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run a command; its exit code. No failure gets past this, and each says what it is."""
    gc.set_threshold(400_000, 50, 50)  # graphs are built, not thrown away: looking for garbage finds little
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        result: Any = archc.main(arguments, prog_name="archc", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        if isinstance(error, click.NoSuchOption) and error.option_name == "--variant":
            print("A variant is named with its file: FILE:VARIANT.", file=sys.stderr)
        return 2
    except ArchError as error:
        from archc.cli.terminal import complain

        complain(error.diagnostics)
        return exit_code(error.diagnostics)
    except Terminated as error:
        return 128 + error.args[0]
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        return 130
    except (BrokenPipeError, SystemExit):  # click turns the one into the other
        # Nobody reads on: what is still in the buffer must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        print("archc needs more memory than it may have", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is not None or error.errno not in FULL:
            return _internal(error, "--debug" in arguments)
        # A file that is opened has a name; what has none is standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"standard output cannot be written: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 2
    except Exception as error:
        return _internal(error, "--debug" in arguments)


def exit_code(diagnostics: tuple[Diagnostic, ...]) -> int:
    """1 for findings in a spec, 2 where the command could not be carried out, 0 for warnings alone."""
    errors = [d for d in diagnostics if d.severity == "error"]
    return 2 if any(d.code.startswith(UNDOABLE) for d in errors) else 1 if errors else 0


def _internal(error: Exception, debug: bool) -> int:
    """A failure that is archc's own."""
    if debug:
        import traceback

        traceback.print_exception(error)
    text = " ".join(str(error).split())[:300]
    print(f"internal error: {type(error).__name__}: {text}; this is a bug in archc, not in the spec", file=sys.stderr)
    if not debug:
        print(
            "please report it with the spec and what `archc --debug ...` prints for the same command", file=sys.stderr
        )
    return 2
