"""Paths and recurrences: orders against formulas, the emitted text against the meaning, and the custom operator."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from named_bench import agree
from op_bench import FakeCheck, namespace, refused, typed
from torch import nn

from archc.ir.sym import const
from archc.ops.path import Recur
from archc.where.paths import PATHS, Reverse, reverse_path, unfold

RASTER, SNAKE, DIAGONAL, CROSS = (PATHS[name] for name in ("raster", "snake", "diagonal", "cross"))
ROWS = RASTER(("H", "W"))


def windowed(size, path):
    return PATHS["windowed"](const(size), path)


def every(step, path):
    return PATHS["every"](const(step), path)


ALL = {
    "raster": ROWS,
    "columns": RASTER(("W", "H")),
    "each row": RASTER(("W",)),
    "reverse": Reverse(ROWS),
    "reversed rows": Reverse(RASTER(("W",))),
    "snake": SNAKE(("H", "W")),
    "snake of columns": SNAKE(("W", "H")),
    "diagonal": DIAGONAL(("H", "W")),
    "reversed diagonal": Reverse(DIAGONAL(("W", "H"))),
    "windowed": windowed(3, ROWS),
    "windowed snake": windowed([2, 3], SNAKE(("H", "W"))),
    "reversed windowed": Reverse(windowed(3, DIAGONAL(("H", "W")))),
    "every": every(3, ROWS),
    "every snake": every([3, 2], SNAKE(("W", "H"))),
    "reversed every": Reverse(every([2, 3], ROWS)),
    "cross": CROSS(("H", "W")),
    "list": (RASTER(("W",)), RASTER(("H",))),
}


# ---- orders


def test_orders():
    assert ROWS.sequences([2, 3]) == [[(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]]
    assert SNAKE(("H", "W")).sequences([2, 3]) == [[(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]]
    assert DIAGONAL(("H", "W")).sequences([2, 3]) == [[(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (1, 2)]]
    assert Reverse(ROWS).sequences([1, 3]) == [[(0, 2), (0, 1), (0, 0)]]
    assert windowed([1, 2], ROWS).sequences([2, 4]) == [
        [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)]
    ]
    assert windowed([2, 1], ROWS).sequences([2, 2]) == [[(0, 0), (1, 0), (0, 1), (1, 1)]]
    assert every([1, 2], ROWS).sequences([1, 4]) == [[(0, 0), (0, 2)], [(0, 1), (0, 3)]]


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("cross", "list", "each row", "reversed rows")])
def test_every_path_visits_each_position_once(name):
    path = ALL[name]
    visited = [p for sequence in path.sequences([6, 6]) for p in sequence]
    assert sorted(visited) == list(itertools.product(range(6), range(6)))
    assert len(path.sequences([6, 6])) == path.lattices()


def test_unfold():
    assert unfold(CROSS(("H", "W"))) == (ROWS, Reverse(ROWS), RASTER(("W", "H")), Reverse(RASTER(("W", "H"))))
    assert reverse_path(reverse_path(ROWS)) == ROWS


# ---- recur


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("decay", ["[B, C=3, H, W]", "[C=3]", "[B, H]", "[e=2, H, W, C=3, B]"])
def test_recur(name, decay):
    agree(Recur(along=ALL[name]), decay, "[B, C=3, H, W, e=2]")


def test_recur_is_its_formula():
    decay = torch.rand(1, 4, dtype=torch.float64)
    update = torch.rand(1, 4, dtype=torch.float64)
    h = agree(Recur(along=RASTER(("N",))), "[B=1, N=4]", "[B=1, N=4]", data=[decay, update]).values[0][0]
    d, u = decay[0], update[0]
    assert h[2].item() == pytest.approx((d[2] * (d[1] * u[0] + u[1]) + u[2]).item())
    back = agree(Recur(along=Reverse(RASTER(("N",)))), "[B=1, N=4]", "[B=1, N=4]", data=[decay, update]).values[0][0]
    assert back[1].item() == pytest.approx((d[1] * (d[2] * u[3] + u[2]) + u[1]).item())


def test_ways():
    cross = Recur(along=CROSS(("H", "W")))
    got = agree(cross, "[B, way=4, C=3, H, W]", "[B, C=3, H, W]")
    assert got.types[0].names == ("B", "way", "C", "H", "W")
    got = agree(cross, "[way=4, C=3]", "[B, C=3, way=4, H, W]")
    assert got.types[0].names == ("B", "C", "way", "H", "W")
    refused("E0301", cross, "[way=3]", "[B, C=3, H, W]")


def test_figures_and_refusals():
    xs = [typed("[B=2, H=4, W=5]"), typed("[B=2, C=3, H=4, W=5]")]
    one, four = Recur(along=ROWS), Recur(along=CROSS(("H", "W")))
    assert one.macs(xs, one.infer(FakeCheck(), *xs)) == 2 * 3 * 4 * 5
    assert four.macs(xs, four.infer(FakeCheck(), *xs)) == 4 * 2 * 3 * 4 * 5
    assert one.reach("H", 1, xs, xs) is None
    refused("E0301", one, "[B, T, H, W]", "[B, C=3, H, W]")
    refused("E0302", one, "[B]", "[B, C=3, N]")
    refused("E0302", Recur(along=RASTER(())), "[B]", "[B, C=3, N]")
    refused("E0303", Recur(along=SNAKE(("H",))), "[B]", "[B, C=3, H, W]")
    refused("E0213", Recur(along=RASTER(("H", "H"))), "[B]", "[B, C=3, H, W]")
    refused("E0213", Recur(along=every(0, ROWS)), "[B]", "[B, C=3, H, W]")
    refused("E0305", one, "[B]", "int[B, C=3, H, W]")
    refused("E0213", Recur(along=()), "[B]", "[B, C=3, H, W]")
    check = FakeCheck()
    Recur(along=windowed(7, ROWS)).infer(check, typed("[B]"), typed("[B, H, W]"))
    assert ("divides", "H", "7") in {(kind, str(size), str(by)) for kind, size, by, _ in check.stated}


# ---- the operator


RECUR = namespace(["recur"])["recur"]


class Scan(nn.Module):
    def forward(self, decay, update):
        return RECUR(decay, update, 1)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 3, 1), (2, 1, 5)])
def test_gradients(shape, reverse):
    decay = torch.rand(*shape, dtype=torch.float64, requires_grad=True)
    update = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d, u: RECUR(d, u, 2, reverse), (decay, update))
    assert RECUR(torch.rand(2, 3, 1), torch.rand(2, 3, 1), 2, reverse).shape == (2, 3, 1)
    assert RECUR(torch.rand(2, 3, 0), torch.rand(2, 3, 0), 2, reverse).shape == (2, 3, 0)


def test_the_operator_is_sound():
    inputs = (torch.rand(2, 3, requires_grad=True), torch.rand(2, 3, requires_grad=True), 1, False)
    torch.library.opcheck(torch.ops.archc.recur, inputs)


def test_two_files_may_define_it():
    again = namespace(["recur"])["recur"]
    decay, update = torch.rand(2, 4), torch.rand(2, 4)
    assert torch.equal(again(decay, update, 1), RECUR(decay, update, 1))


def test_compile_export_copy():
    scan, decay, update = Scan(), torch.rand(2, 6, 3, requires_grad=True), torch.rand(2, 6, 3)
    compiled = torch.compile(scan, fullgraph=True, backend="aot_eager")
    compiled(decay, update).sum().backward()
    assert decay.grad is not None
    length = torch.export.Dim("length", min=2)
    exported = torch.export.export(scan, (decay.detach(), update), dynamic_shapes=({1: length}, {1: length})).module()
    longer = torch.rand(2, 9, 3)
    torch.testing.assert_close(exported(longer, longer), scan(longer, longer))
    for twin in (copy.deepcopy(scan), pickle.loads(pickle.dumps(scan))):
        torch.testing.assert_close(twin(longer, longer), scan(longer, longer))


def test_half_types_accumulate_in_float32():
    decay, update = torch.full((1, 512), 0.999), torch.rand(1, 512)
    exact = RECUR(decay.double(), update.double(), 1)
    half = RECUR(decay.bfloat16(), update.bfloat16(), 1)
    assert half.dtype == torch.bfloat16
    rounded = RECUR(decay.bfloat16().double(), update.bfloat16().double(), 1)
    torch.testing.assert_close(half.double(), rounded, rtol=1e-2, atol=1e-2)
    assert exact.dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert RECUR(decay, update.bfloat16(), 1).dtype == torch.float32
