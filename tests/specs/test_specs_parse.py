"""Every spec that comes with archc can be read, and the hybrids are as short as they claim."""

from pathlib import Path

import pytest

from archc.resources import folder
from archc.source import Source
from archc.syntax import tree
from archc.syntax.parse import parse

SPECS = Path(str(folder("specs")))
FILES = sorted(SPECS.rglob("*.arch"))
NAMES = [
    *(f"van_b{i}" for i in range(7)),
    *(f"maxvit_{size}" for size in ("tiny", "small", "base", "large", "xlarge")),
    "maxvit_tiny_features",
    *(f"vig_{size}" for size in "tsb"),
    *(f"deit_{size}" for size in ("ti", "s", "b")),
    *(f"swin_{size}" for size in "tsb"),
    *(f"convnext_{size}" for size in "tsb"),
    *(f"poolformer_{size}" for size in ("s12", "s24", "s36", "m36", "m48")),
    "ccnet_r101", "ccnet_rcca_head", "ccnet_cca_r2",
    "dasiamrpn_vot", "dasiamrpn_big",
]  # fmt: skip
HYBRIDS = ("mamba_attention", "conv_attention")


def read(path: Path) -> tree.File:
    return parse(Source(path.name, path.read_text(encoding="utf-8"), path))


def bound(path: Path) -> list[str]:
    return [item.name for item in read(path).items if isinstance(item, tree.Binding)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SPECS)))
def test_a_spec_parses_and_begins_with_what_it_is(path: Path) -> None:
    first = read(path).items[0]
    assert isinstance(first, tree.Doc)
    assert path.read_text(encoding="utf-8").isascii()


@pytest.mark.parametrize("name", NAMES)
def test_a_named_file_binds_its_name_and_nothing_else(name: str) -> None:
    assert bound(SPECS / f"{name}.arch") == [name]


@pytest.mark.parametrize("name", ["van", "maxvit", "vig", "deit", "swin", "convnext", "poolformer", "ccnet", "dasiamrpn"])
def test_a_family_binds_no_variant(name: str) -> None:
    assert bound(SPECS / f"{name}.arch") == []


@pytest.mark.parametrize("path", sorted(SPECS.glob("std/*.arch")), ids=lambda p: p.stem)
def test_the_standard_library_says_what_each_part_does(path: Path) -> None:
    for item in read(path).items:
        if isinstance(item, tree.Component):
            assert any(isinstance(statement, tree.Doc) for statement in item.body), item.name


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_hybrid_has_at_most_40_lines(name: str) -> None:
    assert len((SPECS / f"{name}.arch").read_text(encoding="utf-8").splitlines()) <= 40
