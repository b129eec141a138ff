"""Figures of graphs written by hand, where every number can be worked out on paper."""

from __future__ import annotations

import pytest
from by_hand import Builder, tensor

from archc.analysis.conventions import CONVENTIONS
from archc.analysis.cost import count
from archc.analysis.figures import Cost, Row
from archc.ir.graph import Apply, Branch, Merge
from archc.ir.program import Program
from archc.ir.sym import Apply as SymApply
from archc.ir.sym import Const, Extent, Scalar, const
from archc.ops.arithmetic import OPERATORS
from archc.ops.conv import Conv
from archc.ops.linear import Linear
from archc.ops.norms import BatchNorm
from archc.ops.pointwise import Gelu
from archc.ops.reduce import Mean

HW = ("H", "W")
ADD = OPERATORS["+"]
AT = {"B": 1, "H": 32, "W": 32}


def conv(out: int, kernel: int, stride: int = 1, **more: int) -> Conv:
    pad = const(kernel // 2)
    return Conv(out=const(out), kernel=const(kernel), stride=const(stride), pad=pad, on=HW, **{
        name: const(value) for name, value in more.items()
    })  # fmt: skip


def layer(type) -> Builder:
    b = Builder("layer", type)
    y = b.apply(BatchNorm(), b.inputs[0], entry="norm")
    y = b.apply(conv(16, 3), y, entry="fc1")
    y = b.apply(Gelu(), y)
    y = b.apply(conv(8, 1), y, entry="fc2")
    b.result = b.apply(ADD(), b.inputs[0], y)
    return b


def net(times: int = 3, keyword: str = "repeat") -> Program:
    m = Builder("net", tensor(B="B", C=3, H="H", W="W"), role="model")
    x = m.apply(conv(8, 7, 4), m.inputs[0], entry="stem")
    inner = layer(x.type)
    x = m.repeat(inner.template(inner.result), x, times, "blocks", keyword)
    x = m.apply(Mean(axes=HW), x)
    return m.program(m.apply(Linear(out=const(10), axis="C"), x, entry="head"))


STEM, LAYER, HEAD = 8 * 8 * 8 * 3 * 49, 64 * (16 * 8 * 9 + 16 * 8), 80
LAYER_PARAMS = 16 + (16 * 8 * 9 + 16) + (8 * 16 + 8)


def test_totals():
    cost = count(net(), AT)
    f = cost.figures
    assert f.params == (8 * 3 * 49 + 8) + 3 * LAYER_PARAMS + 90
    assert f.buffers == 3 * 17
    assert f.macs == STEM + 3 * LAYER + HEAD
    # Biases, batch norm 2, gelu, residual; then the mean over its operand and the bias of the head.
    assert f.others == 512 + 3 * (2 * 512 + 1024 + 1024 + 512 + 512) + 512 + 10
    assert f.flops == 2 * f.macs + f.others
    assert cost.weight_bytes == 4 * f.params + 3 * (4 * 16 + 8)


def test_figures_are_linear_in_the_batch():
    one, four = (count(net(), {**AT, "B": b}).figures for b in (1, 4))
    # Each batch norm keeps the mean and the deviation of its 8 channels, whatever the batch.
    statistics = 3 * 2 * 8 * 4
    assert (four.macs, four.others, four.kept_bytes - statistics, four.peak_bytes) == (
        4 * one.macs, 4 * one.others, 4 * (one.kept_bytes - statistics), 4 * one.peak_bytes
    )  # fmt: skip
    assert four.params == one.params


def test_turns_that_cost_the_same_are_one_row():
    rows = count(net(), AT).rows
    assert [(r.name, r.kind, r.count) for r in rows] == [
        ("stem", "op", 1), ("blocks.{0..2}", "block", 3), ("mean", "op", 1), ("head", "op", 1)
    ]  # fmt: skip
    assert rows[1].figures.macs == LAYER and rows[1].macs == 3 * LAYER
    assert [r.name for r in rows[1].children] == ["norm", "fc1", "gelu", "fc2", "add"]


def whole(cost: Cost) -> tuple[int, int, int]:
    """Parameters, MACs and others summed over the leaves of the breakdown."""

    def walk(row: Row, times: int, sets: int) -> tuple[int, int, int]:
        times, sets = times * row.count, sets * row.sets
        f = row.figures
        if not row.children:
            return sets * f.params, times * f.macs, times * f.others
        return tuple(map(sum, zip(*(walk(child, times, sets) for child in row.children), strict=True)))

    return tuple(map(sum, zip(*(walk(row, 1, 1) for row in cost.rows), strict=True)))


@pytest.mark.parametrize("keyword", ["repeat", "loop"])
def test_rows_add_up_to_the_totals(keyword):
    cost = count(net(5, keyword), AT)
    assert whole(cost) == (cost.figures.params, cost.figures.macs, cost.figures.others)
    assert cost.total(lambda p: p.figures.macs) == cost.figures.macs


def test_a_loop_has_one_set_of_weights():
    looped, repeated = count(net(3, "loop"), AT), count(net(3), AT)
    assert looped.figures.macs == repeated.figures.macs
    assert looped.figures.params == repeated.figures.params - 2 * LAYER_PARAMS


def test_a_module_that_is_used_twice_is_owned_once():
    m = Builder("siamese", tensor(B="B", C=8, H="H", W="W"), tensor(B="B", C=8, H="H", W="W"))
    inner = layer(m.inputs[0].type)
    template = inner.template(inner.result)
    a, b = (m.call(template, x, entry="backbone") for x in m.inputs)
    cost = count(m.program(a, b), AT)
    assert cost.figures.params == LAYER_PARAMS
    assert cost.figures.macs == 2 * LAYER * 16
    assert [row.sets for row in cost.rows] == [1, 0]


def test_what_only_training_has_counts_when_asked_for():
    m = Builder("net", tensor(B="B", C=3, H="H", W="W"), role="model")
    x = m.apply(conv(8, 3), m.inputs[0], entry="stem")
    aux = m.apply(conv(4, 1), x, entry="aux")
    y = m.apply(conv(2, 1), x, entry="head")
    program = m.program(y, aux, when="training")
    inference, training = count(program, AT), count(program, AT, training=True)
    assert training.figures.macs - inference.figures.macs == 1024 * 8 * 4
    assert inference.figures.params == training.figures.params
    assert inference.figures.kept_bytes == training.figures.kept_bytes


@pytest.mark.parametrize(("height", "kernel"), [(32, 1), (64, 3)])
def test_sizes_decide_a_branch(height, kernel):
    m = Builder("net", tensor(B="B", C=3, H="H", W="W"), role="model")
    x = m.inputs[0]
    arms = []
    for k, entry in ((3, "wide"), (1, "narrow")):
        m.apply(conv(3, k), x, entry=entry)
        arms.append(m.body.pop())
    result = m.value(x.type)
    condition = Scalar(None, SymApply(">", (Extent(x.uid, 2), Const(40))))
    values = [arm.outputs[0] for arm in arms if isinstance(arm, Apply)]
    m.body.append(Branch(condition, None, (arms[0],), (arms[1],), (Merge("x", *values, result),), x.span))
    cost = count(m.program(result), {"B": 1, "H": height, "W": 8})
    assert cost.figures.macs == height * 8 * 9 * kernel**2


def test_conventions_are_filters_over_the_same_operations():
    cost = count(net(), AT)
    assert cost.under(CONVENTIONS["exact"]) == cost.figures.macs
    assert cost.under(CONVENTIONS["torch"]) == 2 * cost.figures.macs
    assert cost.under(CONVENTIONS["conv+linear"]) == cost.figures.macs
    assert cost.under(CONVENTIONS["fvcore"]) == cost.figures.macs + 3 * 2 * 512
    for name, convention in CONVENTIONS.items():
        assert count(net(), AT, convention=name).reported == cost.under(convention)


def test_element_types():
    half, double = (count(net(), AT, dtype).figures for dtype in ("bfloat16", "float64"))
    assert half.macs == double.macs
    assert half.moved_bytes * 4 == pytest.approx(double.moved_bytes, rel=1e-3)
    with pytest.raises(ValueError, match="float8"):
        count(net(), AT, "float8")


def test_every_symbol_needs_a_value():
    with pytest.raises(KeyError, match="H"):
        count(net(), {"B": 1})


def test_templates_are_counted_once(monkeypatch):
    calls = []
    real = Conv.macs
    monkeypatch.setattr(Conv, "macs", lambda self, xs, ys: (calls.append(self), real(self, xs, ys))[1])
    count(net(40), AT)
    assert len(calls) == 3
