"""Claims are held to the precision in which they are written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_cost import net

from archc.analysis.claims import check_claims, slack
from archc.obligations import Obligation
from archc.sizes import Size
from archc.source import Source
from archc.syntax import tree
from archc.syntax.parse import parse

PARAMS = 5234
# At 32x32; parameters and sizes as in test_cost.
MACS = 321_104


def found(text: str, **changes):
    """What is said about a program with one claim."""
    file = parse(Source("claims.arch", f"m = net() {{\n    claim {text}\n}}\n"))
    binding = next(item for item in file.items if isinstance(item, tree.Binding))
    claims = tuple(fact for fact in binding.facts if isinstance(fact, tree.Claim))
    return check_claims(replace(net(), claims=claims, **changes))


@pytest.mark.parametrize(
    ("text", "half"),
    [("26.6M", 50_000), ("5G", 5e8), ("5.0G", 5e7), ("5234", 0), ("1e6", 5e5), ("88.50", 0.005), ("0", 0)],
)
def test_precision(text, half):
    assert slack(text) == pytest.approx(half)


@pytest.mark.parametrize(
    "text",
    [
        f"params == {PARAMS}",
        "params == 5.2k",
        "params < 6k and params > 5k",
        "5k <= params < 6k",
        "params == 5k or params == 7k",
        "not params == 7k",
        "macs(x=32) == 321104",
        "macs(H=32, W=32) == 0.32M",
        "macs(x=32, B=2) == 2 * macs(x=32)",
        "flops(x=32) == 656k",
        "flops(x=32) - 2 * macs(x=32) == 13322",
        "macs(x=32) == 0.3M within 0.1",
        "buffers == 51",
        "admits(x=32)",
        'macs(x=32, convention="torch") == 642208',
    ],
)
def test_claims_that_hold(text):
    assert found(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "params == 5233",
        "params == 5.1k",
        "params != 5k",
        "params >= 6k",
        "not params == 5.2k",
        "macs(x=32) == 0.3M within 0.01",
        "params == 5k and params == 7k",
        "params == 7k or params == 8k",
        "receptive_field(x=32) < 10",
    ],
)
def test_claims_that_fail(text):
    (diagnostic,) = found(text)
    assert diagnostic.code == "E0501"
    assert diagnostic.span is not None


def test_a_failure_says_what_was_computed_and_how_far_off_it_is():
    (diagnostic,) = found("params == 5.1k")
    assert "params is 5,234" in diagnostic.label
    assert diagnostic.notes == ("the difference is 134 (+2.6 %)", "5.1k allows 5,050 to 5,150")


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("macs == 5k", "depends on the sizes", "macs(x=224)"),
        ("parms == 5k", "`parms` is no figure", "params"),
        ("macs(image=32) == 5k", "no input or size of `net` is called `image`", "known are x"),
        ("params", "compares figures", "claim params"),
        ("macs(x=0) == 5k", "a size is at least 1", ""),
        ("macs(32) == 5k", "sizes are given as", ""),
        ("params / 0 == 1", "divides by zero", ""),
        ('macs(x=32, convention="thop") == 1', "no convention called", ""),
        ('macs(x=32, dtype="float8") == 1', "element types are", ""),
    ],
)
def test_claims_that_cannot_be_evaluated(text, message, help):
    (diagnostic,) = found(text)
    assert diagnostic.code == "E0502"
    assert message in diagnostic.message
    assert help in "".join(diagnostic.helps)


def test_sizes_that_are_refused():
    need = Obligation(
        "divides", Size.symbol("H"), Size.of(32), None, "a window of 32 needs H to be a multiple of 32"
    )
    assert found("admits(x=64)", obligations=(need,)) == []
    assert found("not admits(x=33)", obligations=(need,)) == []
    (diagnostic,) = found("admits(x=33)", obligations=(need,))
    assert diagnostic.code == "E0501"
    assert "a window of 32" in diagnostic.notes[0]
    (diagnostic,) = found("macs(x=33) == 1", obligations=(need,))
    assert diagnostic.code == "E0502"
    assert "a window of 32" in diagnostic.notes[0]


def test_the_receptive_field_is_that_of_the_last_map():
    assert found("receptive_field(x=32) == 31") == []
    assert found("receptive_field >= 30") == []
