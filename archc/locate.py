"""What a command line calls a spec: FILE, FILE:VARIANT, `-` for standard input, or the name of a shipped spec."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from archc.diagnostics import did_you_mean, fail
from archc.elaborate.loader import LARGEST_FILE, read
from archc.resources import folder
from archc.source import Source

STDIN = "-"


@dataclass(frozen=True)
class Located:
    """A spec's text, and the variant that was named with it."""

    source: Source
    variant: str | None


def locate(named: str) -> Located:
    """The text that `named` stands for. Raises ArchError E0109 where it cannot be read."""
    if Path(named).exists() if _is_path(named) else False:
        return Located(read(Path(named)), None)
    file, colon, variant = named.rpartition(":")
    if not colon or not variant.isidentifier():
        file, variant = named, ""
    return Located(_source(file), variant or None)


def shipped() -> list[Path]:
    """The specs that come with archc and bind a variant of their own name, in the order of their names."""
    return sorted(folder("specs").glob("*.arch"))


def _is_path(named: str) -> bool:
    return bool(named) and named != STDIN and "\0" not in named and len(named) < 4096


def _source(file: str) -> Source:
    if file == STDIN:
        return _stdin()
    if not _is_path(file):
        raise fail("E0109", f"{file[:60]!r} is not the name of a file")
    path = Path(file)
    library = {found.stem: found for found in shipped()}
    if not _there(path) and file in library:
        return read(library[file], f"{file}.arch")
    if not _there(path):
        helps = did_you_mean(path.stem, library) or ("`archc list` shows the specs that archc ships",)
        raise fail("E0109", f"there is no file {file}, and archc ships no spec of that name", helps=helps)
    return read(path)


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # read it, and say why it cannot be read


def _stdin() -> Source:
    data = sys.stdin.buffer.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise fail("E0109", f"standard input is larger than {LARGEST_FILE // 1024 // 1024} MiB, which no spec is")
    try:
        return Source("<stdin>", data.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        raise fail("E0109", f"standard input is not UTF-8 text (byte {error.start})") from None
