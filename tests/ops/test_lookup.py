"""Embedding, LSTM, dropout."""

from __future__ import annotations

import math

import pytest
import torch
from op_bench import FakeCheck, agree, made, refused, typed

from archc.ops.dropout import Dropout, StopGradient
from archc.ops.embed import Embed
from archc.ops.lstm import Lstm

MAP, TOKENS, VIDEO = "[B, C=4, H, W]", "[B, N, C=4]", "[B, C=4, T, H, W]"


def test_embed():
    ids = [torch.randint(0, 11, (2, 7))]
    assert agree(made(Embed, vocab=11, dim=3), "int[B, N]", data=ids).constructor == "nn.Embedding(11, 3)"
    refused("E0305", made(Embed, vocab=11, dim=3), "[B, N]")
    refused("E0301", made(Embed, vocab=11, dim=3), "int[B, C=4]")
    for name in ("vocab", "dim"):
        refused("E0213", made(Embed, **{"vocab": 11, "dim": 3, name: 0}), "int[B, N]")


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
def test_lstm(layers, both):
    op = made(Lstm, size=3, layers=layers, both=both)
    for text in (TOKENS, "[B, C=4, T]", "[B, objects=2, N, C=4]", "[N, C=4]"):
        agree(op, text)
    x, ways = typed("[B=2, N=7, C=4]"), 2 if both else 1
    (y,) = op.infer(FakeCheck(), x)
    widths = [4] + [3 * ways] * (layers - 1)
    assert op.macs([x], [y]) == sum(2 * 7 * 4 * (width + 3) * 3 * ways for width in widths)
    assert op.flops([x], [y]) == 2 * 7 * 21 * 3 * ways * layers


def test_lstm_refuses():
    refused("E0303", made(Lstm, size=3), MAP)
    refused("E0303", made(Lstm, size=3), "[B, C=4]")
    refused("E0304", made(Lstm, size=3), "[B, N, C]")
    for name, bad in (("size", 0), ("layers", 0), ("layers", 10**9)):
        refused("E0213", made(Lstm, **{"size": 3, name: bad}), TOKENS)


def test_dropout():
    for whole in (None, "B", "C"):
        for text in ("[B, C=4]", TOKENS, MAP, VIDEO, "[B, heads=2, C=4, T, H, W]"):
            agree(made(Dropout, p=0.1, whole=whole), text)
    assert agree(made(Dropout, p=0.1), MAP).text == "F.dropout(a, 0.1, self.training)"
    assert agree(made(Dropout, p=0.1, whole="C"), MAP).text == "F.dropout2d(a, 0.1, self.training)"
    assert agree(made(Dropout, p=0.1, whole="B"), MAP).text == "drop_path(a, 0.1, self.training)"
    assert agree(made(Dropout, p=0.0, whole="B"), MAP).text == "a"
    for bad in (-0.1, 1, 1.5, math.nan):
        refused("E0213", made(Dropout, p=bad), MAP)
    refused("E0302", made(Dropout, p=0.1, whole="B"), "[C=4]")
    refused("E0302", made(Dropout, p=0.1, whole="Q"), MAP)
    agree(made(StopGradient), MAP)


def test_drop_path_drops_whole_samples():
    from op_bench import namespace

    drop_path = namespace(["drop_path"])["drop_path"]
    torch.manual_seed(0)
    x = torch.ones(1000, 3, 2)
    y = drop_path(x, 0.25, True)
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (y.flatten(1).std(1) == 0).all()
    assert abs(y.mean().item() - 1) < 0.05
    assert drop_path(x, 0.25, False) is x
