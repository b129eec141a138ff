"""What results see of the inputs."""

from __future__ import annotations

from by_hand import Builder, tensor
from test_cost import ADD, AT, HW, conv, count, net

from archc.ir.sym import const
from archc.ops.conv import Conv
from archc.ops.pointwise import Gelu

MAP = tensor(B="B", C=8, H="H", W="W")


def sees(builder: Builder, value) -> list[str]:
    builder_rows = count(builder.program(value), AT).rows
    return [str(extent) for extent in builder_rows[-1].receptive]


def test_convolutions_add_up():
    b = Builder("chain", MAP)
    x = b.apply(conv(8, 7, 4), b.inputs[0], entry="a")
    assert sees(b, x) == ["7", "7"]
    x = b.apply(conv(8, 3), x, entry="b")
    assert sees(b, x) == ["15", "15"]
    x = b.apply(conv(8, 3, dilation=2), x, entry="c")
    assert sees(b, x) == ["31", "31"]


def test_a_padding_only_moves_the_window():
    b = Builder("chain", MAP)
    x = b.apply(Conv(out=const(8), kernel=const(5), pad=const(0), on=HW), b.inputs[0], entry="a")
    assert sees(b, x) == ["5", "5"]


def test_branches_see_together():
    b = Builder("branches", MAP)
    wide, narrow = (
        b.apply(conv(8, 9), b.inputs[0], entry="wide"),
        b.apply(conv(8, 3), b.inputs[0], entry="narrow"),
    )
    assert sees(b, b.apply(ADD(), wide, narrow)) == ["9", "9"]


def test_windows_that_lie_apart_are_joined_from_end_to_end():
    b = Builder("branches", tensor(B="B", C=8, H="H", W="W"))
    ahead = b.apply(Conv(out=const(8), kernel=const(3), pad=const(0), on=HW), b.inputs[0], entry="ahead")
    ahead = b.apply(Conv(out=const(8), kernel=const(3), pad=const(2), on=HW), ahead, entry="back")
    plain = b.apply(Gelu(), b.inputs[0])
    assert sees(b, b.apply(ADD(), ahead, plain)) == ["5", "5"]


def test_rows_see_absolutely_and_folded_rows_show_the_last_copy():
    rows = count(net(3), AT).rows
    assert str(rows[0].receptive[0]) == "7"
    # Each layer adds two positions at stride 4.
    assert str(rows[1].receptive[0]) == str(7 + 3 * 8)
    assert [str(r.receptive[0]) for r in rows[1].children] == ["23", "31", "31", "31", "31"]
    assert str(rows[3].receptive[0]) == "all"


def test_several_inputs():
    b = Builder("two", MAP, MAP)
    x = b.apply(conv(8, 3), b.inputs[0], entry="a")
    y = b.apply(ADD(), x, b.apply(conv(8, 5), b.inputs[1], entry="b"))
    found = count(b.program(y), AT).rows[-1].receptive
    assert [(e.input, e.axis, e.size) for e in found] == [
        ("x", "H", 3),
        ("x", "W", 3),
        ("x1", "H", 5),
        ("x1", "W", 5),
    ]
