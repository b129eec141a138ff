"""What a command line calls a spec: FILE, FILE:VARIANT, `-` for standard input, or a shipped spec's name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from archc.diagnostics import did_you_mean, fail
from archc.elaborate.loader import LARGEST_FILE, Library, decode, load, read
from archc.elaborate.model import variant, variant_names
from archc.elaborate.values import ComponentRef
from archc.records import dataclass
from archc.resources import folder
from archc.source import Source
from archc.syntax.tree import Matches

STDIN = "-"


@dataclass(frozen=True)
class Located:
    """A spec's text, and the variant that was named with it."""

    source: Source
    variant: str | None


@dataclass(frozen=True)
class Spec:
    """A file, all that it imports, and the variants that are meant. `named` is how a command line says it."""

    library: Library
    variants: tuple[str, ...]
    named: str = ""

    @property
    def name(self) -> str:
        return self.library.main.file.source.name

    def address(self, variant: str) -> str:
        """What a command line calls one of the variants."""
        return self.named if len(self.variants) == 1 else f"{self.named}:{variant}"


def load_spec(named: str) -> Spec:
    """The spec that `named` stands for, parsed. Without a variant, all that the file binds are meant."""
    found = locate(named)
    library = load(found.source)
    if found.variant is not None:
        variant(library, found.variant)
        return Spec(library, (found.variant,), named)
    return Spec(library, tuple(variant_names(library)), named)


def only(spec: Spec) -> str:
    """The one variant that is meant. Raises ArchError E0804 where there are several or none."""
    if len(spec.variants) == 1:
        return spec.variants[0]
    if spec.variants:
        names = ", ".join(spec.variants)
        raise fail(
            "E0804",
            f"{spec.name} binds several variants: {names}",
            helps=(f"name one: {spec.address(spec.variants[0])}",),
        )
    raise fail("E0804", f"{spec.name} binds no variant", helps=examples(spec))


def examples(spec: Spec) -> tuple[str, ...]:
    """How the models of a file become variants."""
    models = [
        ref.tree
        for ref in spec.library.main.names.values()
        if isinstance(ref, ComponentRef) and ref.tree.role == "model"
    ]
    calls = [f"{m.name}({', '.join(f'{p.name}=...' for p in m.parameters if p.default is None)})" for m in models]
    return tuple(f"bind one: `mine = {call}`" for call in calls[:3])


def locate(named: str) -> Located:
    """The text that `named` stands for. Raises ArchError E0109 where it cannot be read."""
    if _is_path(named) and _there(Path(named)):
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
        helps = _nearest(path, library) or ("`archc list` shows the specs that archc ships",)
        raise fail("E0109", f"there is no file {file}, and archc ships no spec of that name", helps=helps)
    return read(path)


def _nearest(path: Path, library: dict[str, Path]) -> tuple[str, ...]:
    """Help for a file that is not there: a shipped spec of its name, or what lies beside it under a close one."""
    if path.stem in library:
        return (f"`{path.stem}` alone names the spec that archc ships",)
    beside = [found.stem for found in path.parent.glob("*.arch")]
    if path.stem in beside:
        return (f"did you mean `{path.with_suffix('.arch')}`?",)
    close = tuple(help.replace("`?", ".arch`?") for help in did_you_mean(path.stem, beside))
    shipped = did_you_mean(path.stem, library)
    return shipped or close if str(path) == path.stem else close or shipped


def _there(path: Path) -> bool:
    return os.path.lexists(path)  # a broken link is there: reading it says what is wrong


def _stdin() -> Source:
    return decode(sys.stdin.buffer.read(LARGEST_FILE + 1), "<stdin>")


def answers_file(matches: Matches) -> Path:
    """The file that `matches` names, below the folder of the spec. Raises ArchError E0623 for other paths."""
    home = matches.span.source.path
    relative = Path(matches.path)
    if home is None or relative.is_absolute() or ".." in relative.parts:
        raise fail(
            "E0623",
            f"`{matches.path}` does not lie beside the spec",
            matches.span,
            helps=('write a path below the folder of the spec: `matches "answers/x.json"`',),
        )
    folder = home.parent.resolve()
    found = (folder / relative).resolve()
    if not found.is_relative_to(folder):
        raise fail("E0623", f"`{matches.path}` leads out of the folder of the spec", matches.span)
    return found
