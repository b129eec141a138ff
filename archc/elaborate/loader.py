"""Files: reading them within limits, and finding what they import."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from archc.diagnostics import MOST_FINDINGS, ArchError, Diagnostic, Label, did_you_mean, fail
from archc.elaborate.habits import components
from archc.elaborate.names import check_kinds, check_types, check_variant
from archc.elaborate.scalars import translate
from archc.elaborate.values import ComponentRef, FileNames, FnRef
from archc.ir.sym import Const, FnDef, Sym, Var
from archc.records import dataclass
from archc.resources import folder
from archc.source import Source
from archc.syntax import tree
from archc.syntax.parse import parse

LARGEST_FILE = 1024 * 1024  # bytes of a file
LARGEST_LIBRARY = 2 * LARGEST_FILE  # characters of a file and of all that it imports
MOST_FILES = 200
MOST_VARIANTS = 200  # that one file binds


@dataclass(frozen=True, eq=False)
class Library:
    """A file and everything it imports, directly or not. `main` is the file itself; `files` are all that were read, and
    `sources` their texts."""

    main: FileNames
    sources: tuple[Source, ...]
    files: tuple[FileNames, ...]


@dataclass
class _Loading:
    parsed: Mapping[Path, tree.File]
    files: dict[Path, FileNames] = field(default_factory=dict)
    open: list[Path] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)


def read(path: Path, shown: str | None = None) -> Source:
    """A spec file as a Source. Raises ArchError E0109 where it cannot be read, is not UTF-8 or too large.

    Only regular files are read: a pipe may never end, and a device may never stop.
    """
    shown = shown or str(path)
    try:
        if path.is_dir():
            raise fail("E0109", f"{shown} is a folder, not a spec", helps=("name a file that ends in .arch",))
        # Without O_NONBLOCK, opening a pipe waits for somebody to write.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise fail("E0109", f"{shown} is not a regular file",
                           helps=("a pipe is read as standard input: `... | archc check -`",))  # fmt: skip
            data = file.read(LARGEST_FILE + 1)
        return decode(data, shown, path.resolve())
    except OSError as error:
        raise fail("E0109", f"{shown} cannot be read: {(error.strerror or 'error').lower()}") from None
    except ValueError:
        raise fail("E0109", f"{shown!r} is not the name of a file") from None


def decode(data: bytes, shown: str, path: Path | None = None) -> Source:
    """The bytes of a spec as a Source. Raises ArchError E0109 where they are too many or not UTF-8."""
    if len(data) > LARGEST_FILE:
        raise fail("E0109", f"{shown} is larger than {LARGEST_FILE // 1024 // 1024} MiB, which no spec is")
    try:
        return Source(shown, data.decode("utf-8-sig").replace("\r\n", "\n"), path)
    except UnicodeDecodeError as error:
        raise fail("E0109", f"{shown} is not UTF-8 text (byte {error.start})") from None


def load(source: Source, parsed: Mapping[Path, tree.File] | None = None) -> Library:
    """Parse a source and everything it imports; `parsed` files stand for those that lie at their paths.

    Raises ArchError (E01xx, E07xx).
    """
    loading = _Loading(parsed or {})
    main = _load(source, loading)
    imported = (file for file in loading.files.values() if file is not main)
    return Library(main, tuple(loading.sources), (main, *imported))


def _load(source: Source, loading: _Loading) -> FileNames:
    if source.path is not None:
        loading.open.append(source.path)
    loading.sources.append(source)
    if len(loading.sources) > MOST_FILES:
        raise fail("E0404", f"more than {MOST_FILES} files are imported")
    if sum(len(one.text) for one in loading.sources) > LARGEST_LIBRARY:
        raise fail("E0404", f"the files that are imported have more than {LARGEST_LIBRARY:,} characters")
    ready = loading.parsed.get(source.path) if source.path is not None else None
    names = FileNames(ready or parse(source))
    if source.path is not None:
        loading.files[source.path] = names
    found: list[Diagnostic] = []
    for item in names.file.items:
        try:
            _define(item, names, loading)
        except ArchError as error:
            found += error.diagnostics
        if len(found) >= MOST_FINDINGS:
            break
    if source.path is not None:
        loading.open.pop()
    if found:
        raise ArchError(found)
    return names


def _define(item: tree.Top, names: FileNames, loading: _Loading) -> None:
    match item:
        case tree.Doc():
            return
        case tree.Import():
            _import(item, names, loading)
            return
        case tree.Function():
            _new(item.name, item, names)
            for p in item.parameters:
                check_kinds(p.type)
            names.names[item.name] = FnRef(item, names, _definition(item, names))
        case tree.Component():
            _new(item.name, item, names)
            check_types(item)
            names.names[item.name] = ComponentRef(item, names)
        case tree.Binding():
            _new(item.name, item, names)
            check_variant(item.name, item.span)
            if len(names.bindings) == MOST_VARIANTS:
                raise fail("E0404", f"a file binds more than {MOST_VARIANTS} variants", item.span)
            names.bindings[item.name] = item
            names.names[item.name] = BindingRef(item, names)


@dataclass(frozen=True, eq=False)
class BindingRef:
    """A variant bound at the top level of a file."""

    tree: tree.Binding
    file: FileNames


def _new(name: str, item: tree.Node, names: FileNames) -> None:
    if name in names.names:
        first = next(d for d in names.file.items if name in _defined(d))
        raise fail("E0405", f"`{name}` is defined twice in this file", item.span, "again",
                   related=(Label(first.span, "first"),))  # fmt: skip


def _defined(item: tree.Top) -> tuple[str, ...]:
    """The names that a top-level item gives a meaning."""
    match item:
        case tree.Import(names=imported):
            return tuple(one.alias for one in imported)
        case tree.Doc():
            return ()
        case _:
            return (item.name,)


def _definition(item: tree.Function, names: FileNames) -> FnDef:
    """A function's body as an expression; empty where it works on tensors."""
    parameters = tuple(p.name for p in item.parameters)

    def variable(name: str) -> Sym:
        if name not in parameters:
            raise KeyError(name)
        return Var(name)

    def function(name: str) -> FnDef | None:
        found = names.names.get(name)
        return found.definition if isinstance(found, FnRef) else None

    try:
        return FnDef(item.name, parameters, translate(item.body, variable, function))
    except KeyError:
        return FnDef(item.name, (), Const(None))


def _import(item: tree.Import, names: FileNames, loading: _Loading) -> None:
    path, shown = _find(item, names.file.source)
    if path in loading.open:
        way = [one.name for one in loading.sources if one.path in loading.open[loading.open.index(path) :]]
        circle = " -> ".join([*way, shown])
        raise fail("E0702", f"files import each other in a circle: {circle}", item.span,
                   helps=("move what both need to a file of its own",))  # fmt: skip
    if path not in loading.files:
        try:
            source = loading.parsed[path].source if path in loading.parsed else read(path, shown)
        except ArchError:
            raise fail("E0701", f"there is no spec `{'.' * item.dots}{'.'.join(item.path)}`", item.span,
                       f"looked for {shown}", helps=_elsewhere(item, path)) from None  # fmt: skip
        _load(source, loading)
    imported = loading.files[path]
    for one in item.names:
        if one.name not in imported.names:
            known = ", ".join(imported.names)
            raise fail("E0703", f"{shown} has no `{one.name}`", one.span, "unknown name",
                       helps=did_you_mean(one.name, imported.names) or (f"it has {known}",))  # fmt: skip
        _new(one.alias, one, names)
        names.names[one.alias] = imported.names[one.name]


def _elsewhere(item: tree.Import, path: Path) -> tuple[str, ...]:
    """Where what is imported may lie instead: in the standard library, in a file of a close name, or beside this one."""
    known = [(one.name, f"std.{file}") for one in item.names if (file := components().get(one.name)) is not None]
    if known:
        return tuple(f"`{name}` is in `{file}`" for name, file in known)
    inside = [file.stem for file in sorted(path.with_suffix("").glob("*.arch"))]
    if inside:
        written = "." * item.dots + ".".join(item.path)
        meant = next((one.name for one in item.names if one.name in inside), inside[0])
        return (f"`{written}` is a folder, and its files are imported one by one: `from {written}.{meant} import ...`",)
    close = did_you_mean(path.stem, [file.stem for file in path.parent.glob("*.arch")])
    if close:
        return close
    if item.dots == 0 and item.path[0] != "std":
        return (f"a file beside this one is imported with a dot: `from .{'.'.join(item.path)} import ...`",)
    return ()


def _find(item: tree.Import, source: Source) -> tuple[Path, str]:
    """Where an import lies: beside the file for a leading dot (one folder up for each further dot), else in the library.

    Raises ArchError E0704 where it would leave the folder that the file or the library lies in.
    """
    library = folder("specs").resolve()
    if item.dots == 0:
        path = library.joinpath(*item.path).with_suffix(".arch")
        root = library
    else:
        if source.path is None:
            raise fail("E0704", "a text without a file cannot import what lies beside it", item.span)
        base = source.path.parent
        root = library if source.path.is_relative_to(library) else base
        for _ in range(item.dots - 1):
            base = base.parent
            if not base.is_relative_to(root):
                root = base
                if item.dots > 3:
                    raise fail("E0704", "an import may go up two folders at most", item.span)
        path = base.joinpath(*item.path).with_suffix(".arch")
    if not path.resolve().is_relative_to(root.resolve()):
        raise fail("E0704", "an import may not leave its folder through a link", item.span)
    shown = path.resolve()
    try:
        return shown, str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # elsewhere, or in a working folder that was removed
        return shown, str(Path(*path.parts[-len(item.path) - 1 :]))
