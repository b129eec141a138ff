"""Bytes that are held: in inference at once, in training until the backward pass."""

from __future__ import annotations

from by_hand import SPAN, Builder, tensor
from test_cost import ADD, AT, conv, count, net

from archc.analysis.memory import Memory
from archc.analysis.setting import Setting
from archc.ir.graph import Assign, Relabel
from archc.ir.sym import const
from archc.ops.arithmetic import OPERATORS
from archc.ops.dropout import Dropout, StopGradient
from archc.ops.pointwise import Gelu, Identity, Relu
from archc.ops.pool import MaxPool

MAP = tensor(B="B", C=8, H="H", W="W")
BYTES = 4 * 8 * 32 * 32


def figures(builder: Builder, *outputs):
    return count(builder.program(*outputs), AT).figures


def test_a_chain_holds_two_tensors_and_its_input():
    b = Builder("chain", MAP)
    x = b.inputs[0]
    for _ in range(4):
        x = b.apply(Gelu(), x)
    assert figures(b, x).peak_bytes == 3 * BYTES


def test_a_shortcut_is_held_until_it_is_added():
    b = Builder("residual", MAP)
    x = b.apply(Gelu(), b.inputs[0])
    y = b.apply(Gelu(), b.apply(Gelu(), x))
    assert figures(b, b.apply(ADD(), x, y)).peak_bytes == 4 * BYTES


def test_views_and_other_names_cost_nothing():
    b = Builder("views", MAP)
    x = b.apply(Identity(), b.inputs[0])
    other = b.value(MAP)
    b.body.append(Relabel(x, other))
    y = b.apply(Identity(), other)
    f = figures(b, y)
    assert f.peak_bytes == BYTES and f.moved_bytes == 0 and f.kept_bytes == 0
    assert figures(b, b.apply(Gelu(), y)).peak_bytes == 2 * BYTES


def test_a_call_holds_what_it_is_given():
    inner = Builder("inner", MAP)
    y = inner.apply(Gelu(), inner.apply(Gelu(), inner.apply(Gelu(), inner.inputs[0])))
    template = inner.template(y)
    outer = Builder("outer", MAP)
    x = outer.apply(Gelu(), outer.inputs[0])
    y = outer.call(template, x)
    # The model's input, `x` until the call returns, and two tensors at a time.
    assert figures(outer, y).peak_bytes == 4 * BYTES
    # The call is over: `x` is free again.
    z = outer.apply(Gelu(), outer.apply(Gelu(), y))
    assert figures(outer, z).peak_bytes == 4 * BYTES


def named(builder: Builder, name: str, value):
    builder.body.append(Assign(name, value, SPAN))
    return value


def test_a_variable_holds_its_tensor_until_its_name_is_given_away():
    b = Builder("given_away", MAP)
    x = named(b, "x", b.apply(Gelu(), b.inputs[0]))
    x = named(b, "x", b.apply(Gelu(), b.apply(Gelu(), x)))
    # The input, what x held, an expression that is not needed after the next one, what x holds now.
    assert figures(b, x).peak_bytes == 4 * BYTES
    # The input, x and two expressions at a time.
    assert figures(b, b.apply(Gelu(), b.apply(Gelu(), x))).peak_bytes == 4 * BYTES


def test_a_variable_holds_its_tensor_until_the_method_returns():
    b = Builder("held", MAP)
    x = named(b, "x", b.apply(Gelu(), b.inputs[0]))
    y = named(b, "y", b.apply(Gelu(), x))
    # The input, x, y and two expressions at a time.
    assert figures(b, b.apply(Gelu(), b.apply(Gelu(), y))).peak_bytes == 5 * BYTES


def test_variables_end_with_their_call():
    inner = Builder("inner", MAP)
    x = named(inner, "x", inner.apply(Gelu(), inner.inputs[0]))
    y = named(inner, "y", inner.apply(Gelu(), x))
    outer = Builder("outer", MAP)
    y = outer.call(inner.template(y), outer.inputs[0])
    # The input, x and y; then the input, y and one more.
    assert figures(outer, outer.apply(Gelu(), y)).peak_bytes == 3 * BYTES


def test_what_is_read_twice_is_a_variable():
    b = Builder("twice", MAP)
    x = b.apply(Gelu(), b.inputs[0])
    y = b.apply(ADD(), x, x)
    assert figures(b, b.apply(Gelu(), y)).peak_bytes == 4 * BYTES


def test_another_name_for_a_variable_holds_nothing_more():
    b = Builder("alias", MAP)
    x = named(b, "x", b.apply(Gelu(), b.inputs[0]))
    named(b, "y", x)
    x = named(b, "x", b.apply(Gelu(), x))
    assert figures(b, b.apply(Gelu(), b.apply(Gelu(), x))).peak_bytes == 4 * BYTES


def test_statistics_and_places_are_held_beside_the_result():
    b = Builder("pool", MAP)
    y = b.apply(MaxPool(kernel=const(2), on=("H", "W")), b.inputs[0])
    # The input, a quarter of it, and as many places of 8 bytes.
    assert figures(b, y).peak_bytes == BYTES + BYTES // 4 + BYTES // 2
    z = b.apply(conv(8, 1), y, entry="a")
    assert figures(b, z).peak_bytes == BYTES + BYTES // 4 + BYTES // 2


def test_what_needs_no_gradient_is_not_kept():
    b = Builder("train", MAP)
    x = b.apply(Gelu(), b.inputs[0])
    assert figures(b, x).kept_bytes == 0
    y = b.apply(conv(8, 1), x, entry="a")  # saves x
    z = b.apply(OPERATORS["*"](), b.inputs[0], y)  # saves the input alone: nobody asks for its gradient
    assert figures(b, z).kept_bytes == 2 * BYTES
    s = b.apply(StopGradient(), z)
    assert figures(b, b.apply(Relu(), s)).kept_bytes == 2 * BYTES


def test_dropout_holds_noise_in_training_and_nothing_in_inference():
    b = Builder("drop", MAP)
    y = b.apply(conv(8, 1), b.inputs[0], entry="a")
    z = b.apply(Dropout(p=const(0.5)), y)
    w = b.apply(conv(8, 1), z, entry="b")
    # The input, the noise, and the product.
    assert figures(b, w).kept_bytes == 3 * BYTES
    assert figures(b, w).peak_bytes == 3 * BYTES


def test_what_a_call_gives_back_is_not_freed():
    inner = Builder("inner", MAP)
    same = inner.apply(Identity(), inner.inputs[0])
    new = inner.apply(Gelu(), inner.inputs[0])
    outer = Builder("outer", MAP)
    x = outer.apply(Gelu(), outer.inputs[0])
    a, b = outer.call(inner.template(same, new), x)
    y = outer.apply(ADD(), a, b)
    assert figures(outer, y).peak_bytes == 4 * BYTES
    plan = Memory(Setting(AT)).plan(inner.template(same, new))
    assert plan.results == (0, 1)


def test_a_call_and_its_body_written_out_hold_the_same():
    def block(b: Builder, x):
        y = b.apply(Gelu(), b.apply(conv(16, 3), x, entry="a"))
        y = b.apply(conv(8, 1), y, entry="b")
        return b.apply(ADD(), x, y)

    flat = Builder("flat", MAP)
    x = flat.apply(Gelu(), flat.inputs[0])
    flat_end = flat.apply(Relu(), block(flat, x))
    inner = Builder("inner", MAP)
    template = inner.template(block(inner, inner.inputs[0]))
    nested = Builder("nested", MAP)
    nested_end = nested.apply(Relu(), nested.call(template, nested.apply(Gelu(), nested.inputs[0])))
    a, b = figures(flat, flat_end), figures(nested, nested_end)
    assert (a.peak_bytes, a.kept_bytes, a.moved_bytes) == (b.peak_bytes, b.kept_bytes, b.moved_bytes)


def test_training_keeps_every_tensor_once():
    b = Builder("train", MAP)
    x = b.inputs[0]
    y = b.apply(Gelu(), x)  # saves x
    z = b.apply(conv(8, 1), x, entry="a")  # saves x again
    s = b.apply(ADD(), y, z)  # saves nothing
    r = b.apply(Relu(), s)  # saves its result
    p = b.apply(OPERATORS["*"](), r, y)  # saves both
    assert figures(b, p).kept_bytes == 3 * BYTES


def test_copies_keep_their_own_tensors():
    one, three = count(net(1), AT), count(net(3), AT)
    per_layer = next(row for row in three.rows if row.count == 3).figures.kept_bytes
    assert three.figures.kept_bytes - one.figures.kept_bytes == 2 * per_layer
