"""The files of `codegen/kernels`, taken apart: of each a generated file has what its operators read, and no more."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from archc.resources import folder


class Piece(NamedTuple):
    """A function, class or constant: the names that it defines and those that it reads, and its text with the comment
    before it."""

    names: frozenset[str]
    reads: frozenset[str]
    text: str


class Needed(NamedTuple):
    """What some text needs: the pieces of each file, files behind those that they use, and what those import."""

    texts: tuple[str, ...]
    imports: tuple[ast.Import | ast.ImportFrom, ...]


def read_names(node: ast.AST) -> frozenset[str]:
    return frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))


@cache
def _texts() -> dict[str, str]:
    """The files, by name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder("codegen") / "kernels").glob("*.py"))}


@cache
def _places() -> dict[str, str]:
    """The file that defines each name. Most files are never parsed: this reads the heads of their lines."""
    heads = re.compile(r"^(?:(?:def|class) )?(\w+)(?=\(|:| = )|^    (\w+): Any = ", re.MULTILINE)
    return {name: file for file, text in _texts().items() for found in heads.findall(text) for name in found if name}


@cache
def kernel_globals() -> frozenset[str]:
    """All that the files define or import."""
    imported = re.findall(r"^(?:import|from \S+ import) (.+)$", "\n".join(_texts().values()), re.MULTILINE)
    return frozenset([*_places(), *re.findall(r"\w+", " ".join(imported))])


@cache
def _parsed(file: str) -> ast.Module:
    return ast.parse(_texts()[file])


@cache
def _pieces(file: str) -> tuple[Piece, ...]:
    """All of a file but its imports."""
    lines, end = _texts()[file].splitlines(), 0
    # A variable of a function may have the name of what another file defines.
    seen = {name for name, other in _places().items() if other == file} | {a.name for n in _imports(file) for a in n.names}
    pieces = []
    for node in _parsed(file).body:
        start, end = end, node.end_lineno or 0
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = {node.name}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        else:
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        pieces.append(Piece(frozenset(names), read_names(node) & seen, "\n".join(lines[start:end])))
    return tuple(pieces)


def _imports(file: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in _parsed(file).body if isinstance(node, (ast.Import, ast.ImportFrom))]


def _ordered(files: Iterable[str]) -> list[str]:
    """Files, each behind those that it uses."""
    wanted, found = set(files), dict[str, None]()

    def need(file: str) -> None:
        for node in _imports(file):
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
                need(node.module)
        found.setdefault(file)

    for file in sorted(wanted):
        need(file)
    return [file for file in found if file in wanted]


def needed(text: str) -> Needed:
    """What a text of Python needs of the files."""
    known, left, pieces = set[str](), set(read_names(ast.parse(text))), set[Piece]()
    while left:
        name = left.pop()
        known.add(name)
        if file := _places().get(name):
            for piece in _pieces(file):
                if name in piece.names and piece not in pieces:
                    pieces.add(piece)
                    left |= piece.reads - known
    texts, imports = [], []
    for file in _ordered({_places()[name] for piece in pieces for name in piece.names}):
        texts.append("\n".join(piece.text for piece in _pieces(file) if piece in pieces).strip("\n"))
        for node in _imports(file):
            names = [alias for alias in node.names if alias.name in known]
            if names and isinstance(node, ast.Import):
                imports.append(ast.Import(names))
            elif names and isinstance(node, ast.ImportFrom) and node.level == 0 and node.module != "__future__":
                imports.append(ast.ImportFrom(node.module, names, 0))
    return Needed(tuple(texts), tuple(imports))
