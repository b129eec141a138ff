"""Sizes on the command line, and the sizes that figures are given at when nobody asks."""

from __future__ import annotations

import pytest

import archc
from archc import driver
from archc.diagnostics import ArchError
from archc.sizing import choose, claimed, parse_sizes, shown_sizes


@pytest.fixture(scope="module")
def van():
    return archc.load("van_b0")


@pytest.fixture(scope="module")
def maxvit():
    program = archc.load("maxvit_tiny")
    return program, driver.contract_of(program)


@pytest.fixture(scope="module")
def siamese():
    program = archc.load("dasiamrpn_vot")
    return program, driver.contract_of(program)


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        ([], {}),
        (["image=224"], {"H": 224, "W": 224}),
        (["image=192x256"], {"H": 192, "W": 256}),
        (["H=32"], {"H": 32}),
        (["H=32", "image=64"], {"H": 32, "W": 64}),
        (["image=64", "B=2"], {"H": 64, "W": 64, "B": 2}),
    ],
)
def test_sizes_are_read(van, texts, sizes):
    assert parse_sizes(van, texts) == sizes


def test_the_batch_has_an_option_of_its_own(van):
    assert parse_sizes(van, ["image=32"], 8) == {"H": 32, "W": 32, "B": 8}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "224",
        "image",
        "image=",
        "image=a",
        "image=0",
        "image=3x224x224",
        "pic=2",
        "H=1x2",
        "image=9999999999",
    ],
)
def test_what_is_no_size_is_refused(van, text):
    with pytest.raises(ArchError) as error:
        parse_sizes(van, [text])
    assert error.value.diagnostics[0].code == "E0901"


def test_sizes_are_those_of_the_claim_before_224(siamese):
    program, contract = siamese
    assert claimed(program) == {"Hz": 127, "Wz": 127, "H": 271, "W": 271}
    assert choose(program, contract, {}) == {"B": 1, **claimed(program)}


def test_224_where_nothing_is_claimed(van):
    bare = archc.load("conv_attention")
    assert choose(bare, driver.contract_of(bare), {}) == {"B": 1, "H": 224, "W": 224}


def test_refused_sizes_name_the_rule_and_the_nearest_that_are_taken(maxvit):
    program, contract = maxvit
    with pytest.raises(ArchError) as error:
        choose(program, contract, {"H": 200, "W": 200})
    [found] = error.value.diagnostics
    assert found.code == "E0902"
    assert found.span is not None and found.label
    assert "--size H=221 --size W=221" in found.helps[0]
    for near in contract.nearest({"B": 1, "H": 200, "W": 200}):
        assert contract.admits(near)


def test_a_size_that_is_given_pulls_the_others_with_it():
    program = archc.load("dasiamrpn_vot")
    contract = driver.contract_of(program)
    chosen = choose(program, contract, {"Hz": 400})
    assert chosen["Hz"] == 400
    assert contract.admits(chosen)


def test_sizes_are_shown_as_shapes(van):
    assert shown_sizes(van, {"B": 1, "H": 2, "W": 3}) == "image 3x2x3"
    assert shown_sizes(van, {"B": 4, "H": 2, "W": 3}) == "image 3x2x3, batch 4"
