"""Taps are numbered in the order of a map's axes: those of [H, W] never meet those of [W, H]."""

import pytest

from archc.diagnostics import ArchError
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.source import Source

SPEC = """
block weights(x: [B, C, Y, X], size: int) -> [B, Y, X, tap] {{
    return x |> mean(C) |> look(window(size))
}}
model m() {{
    input x: [B, C=4, H, W]
    turned = x |> rearrange("B C H W -> B C W H")
    upright = turned |> rearrange("B C W H -> B C H W")
    {line}
    output z = y
    output u = upright
    output t = turned
}}
net = m()
"""
TAPS = "look(x, window(2))"
OTHER = "look(turned, window(2))"
BOOL = "(look(turned, window(2)) |> mean(C)) > 0"
MEET = {
    "+": f"y = {TAPS} + {OTHER}",
    "where": f"y = where({TAPS} > 0, {TAPS}, {OTHER})",
    "cat": f"y = cat([{TAPS}, {OTHER}], C)",
    "dot": f"y = dot({TAPS}, {OTHER}, C)",
    "aggregate": "y = aggregate(look(x, window(2)) |> mean(C), turned, window(2))",
    "a mask": f"y = look(x, window(2) & ({BOOL}))",
    "a component of other names": "y = aggregate(weights(x, 2), turned, window(2))",
    "everywhere": "y = aggregate(correlate(x, turned, everywhere), x, everywhere)",
    "a union": "y = look(x, window(2) + window(2)) + look(turned, window(2) + window(2))",
    "a shifted window": "y = look(x, shifted(window(2), 1)) + look(turned, shifted(window(2), 1))",
}
TOGETHER = {
    "one order": f"y = {TAPS} + look(upright, window(2))",
    "the same turned map": "y = aggregate(look(turned, window(2)) |> mean(C), turned, window(2))",
    "axes moved after the taps": f'y = {TAPS} + (look(upright, window(2)) |> rearrange("B C H W tap -> B tap C W H"))',
    "a component of other names": "y = aggregate(weights(turned, 2), turned, window(2))",
    "one axis": "y = look(x, window(2, on=H)) + look(turned, window(2, on=H))",
    "rows and columns": "y = look(x, window(2, on=H) + window(2, on=W)) + look(turned, window(2, on=H) + window(2, on=W))",
}


def build(line: str) -> None:
    library = load(Source("taps.arch", SPEC.format(line=line)))
    elaborate(library, variant(library, "net"))


@pytest.mark.parametrize("what", MEET)
def test_taps_of_two_orders_do_not_meet(what: str) -> None:
    with pytest.raises(ArchError) as found:
        build(MEET[what])
    assert {d.code for d in found.value.diagnostics} == {"E0309"}, found.value


@pytest.mark.parametrize("what", TOGETHER)
def test_taps_of_one_order_meet(what: str) -> None:
    build(TOGETHER[what])


def test_what_is_left_of_a_difference_is_taken_away_too() -> None:
    """`(R - Q) - P` has no module form of its own: it is R without both."""
    from archc.where.compose import Difference, Union, difference
    from archc.where.regions import REGIONS

    row, column, self_ = (REGIONS[name]() for name in ("row", "column", "self"))
    assert difference(difference(row, self_), column) == Difference(row, (self_, column))
    nested = difference(Union(row, difference(column, self_)), self_)
    assert nested == Union(Difference(row, (self_,)), Difference(column, (self_, self_)))
