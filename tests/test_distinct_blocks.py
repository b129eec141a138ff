"""Cost follows distinct blocks: what grows with the number of copies is counted here, not timed."""

from __future__ import annotations

import pytest

from archc import driver
from archc.analysis.cost import Counter, units
from archc.analysis.figures import Figures
from archc.analysis.memory import Memory
from archc.backend.classes import Classes
from archc.backend.registered import Modules
from archc.backend.reread import _Forms, compare, reread
from archc.diagnostics import ArchError
from archc.elaborate import loops, templates, twins
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.ir.program import Program
from archc.source import Source
from archc.weights.keys import state_dict

TOWER = """
from std.regularise import drop_path

block branch(x: [B, C, H, W], rate: float) {
    return x |> conv: conv(C, 3) |> gelu |> drop_path(rate)
}

block layer(x: [B, C, H, W], rate: float) {
    x += x |> branch: branch(%s)
    return x
}

model tower(depth: int, rate: float) {
    input x: [B, C=8, H, W]
    rates = linspace(0, rate, depth)
    y = x
    blocks: repeat depth as i { y = y |> _: layer(rates[i]) }
    output out = y
}

net = tower(depth=%d, rate=%s)
"""


def program_of(text: str) -> Program:
    library = load(Source("net.arch", text))
    return elaborate(library, variant(library, "net"))


@pytest.fixture
def built(monkeypatch):
    """Elaborates a text and says which components were elaborated, in order."""
    names: list[str] = []
    original = templates._build

    def noting(ref, *rest):
        names.append(ref.tree.name)
        return original(ref, *rest)

    monkeypatch.setattr(templates, "_build", noting)

    def run(text: str) -> list[str]:
        names.clear()
        program_of(text)
        return list(names)

    return run


@pytest.mark.parametrize("depth", [1, 4, 100])
def test_blocks_that_differ_in_a_rate_are_elaborated_once(built, depth):
    # The rate of a single block is a whole number, 0; those of several are not.
    assert built(TOWER % ("rate", depth, 0.1)) == ["layer", "branch", "drop_path"]


@pytest.mark.parametrize("handed", ["rate * 1.0", "rate if rate > 0.05 else 0.05", "(rate + 0)"])
def test_blocks_that_compute_with_the_rate_are_elaborated_for_each(built, handed):
    assert built(TOWER % (handed, 4, 0.1)).count("layer") == 4


def test_blocks_that_decide_by_the_rate_keep_their_decisions():
    text = TOWER.replace("x += x |> branch", "if rate > 0.05 { x = x |> extra: conv(C, 1) }\n    x += x |> branch")
    (blocks,) = program_of(text % ("rate", 4, 0.1)).root.entries
    assert [len(list(units(item.template))) for item in blocks.items] == [1, 1, 2, 2]


def test_a_rate_out_of_range_is_told_though_others_are_not():
    with pytest.raises(ArchError) as error:
        program_of(TOWER % ("rate", 4, 1.0))
    assert [d.code for d in error.value.diagnostics] == ["E0213"]


def test_every_copy_is_called_with_its_own_rate():
    (blocks,) = program_of(TOWER % ("rate", 5, 0.4)).root.entries
    rates = [dict(item.args)["rate"].value for item in blocks.items]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert len({id(item.template) for item in blocks.items}) == 1


# ---- turns that are copies of an earlier one

LOOPS = {
    "rates of a list": ("for rate in rates { y = y |> _: layer(rate) }", 2),
    "rates and numbers": ("for i, rate in enumerate(rates) { y = y |> _: layer(rate) }", 2),
    "dropped where it stands": ("repeat depth as i { y = y |> conv: conv(C, 3) |> dropout(rates[i]) }", 2),
    "the same weights": ("loop depth { y = y |> _: layer(0.1) }", 2),
    "a tensor of its own": ("repeat depth { t = y |> conv: conv(C, 3)\n y = t + y }", 2),
    "two tensors that change places": ("repeat depth { t = y\n y = z |> conv: conv(C, 3)\n z = t }", 2),
    "a shortcut from the input": ("repeat depth { y = (y |> conv: conv(C, 3)) + x }", 2),
    "a choice by the number": ("repeat depth as i { if i == 4 { y = y |> gelu } else { y = y |> relu } }", 8),
    "a choice in an expression": ("repeat depth as i { y = y * (2 if i < 6 else 3) }", 8),
    "a choice of recipes": ("repeat depth as i { y = y |> [relu, gelu][i % 2] }", 8),
    "a list that grows": ("repeat depth { y = y |> conv: conv(C, 3)\n ys += [y] }", 8),
    "a number that grows": ("repeat depth { y = y |> dropout(r)\n r = r + 0.01 }", 8),
    "loops in loops": ("for i in range(depth) { inner: repeat 3 as j { y = y |> _: layer(rates[i]) } }", 2 + 2 * 2),
    "what is used behind": ("repeat depth { last = y |> gelu\n y = y + last }\n y = last", 8),
}
MODEL = (
    TOWER.partition("model")[0] % "rate"
    + """
model net_of(depth: int) {
    input x: [B, C=8, H, W]
    input other: [B, C=8, H, W]
    C = x.C
    rates = linspace(0, 0.1, depth)
    y, z, r, ys = x, other, 0.0, []
    blocks: %s
    output out = y + z + r + (0 if len(ys) == 0 else 1)
}

net = net_of(8)
"""
)


@pytest.mark.parametrize("what", LOOPS)
def test_turns_that_are_copies_are_not_run_and_change_nothing(what, monkeypatch):
    body, turns = LOOPS[what]
    text = MODEL % body
    run: list[int] = []
    original = loops._Turns._turn
    monkeypatch.setattr(
        loops._Turns, "_turn", lambda self, number, item: run.append(number) or original(self, number, item)
    )
    copied = written(text)
    assert len(run) == turns
    run.clear()
    monkeypatch.setattr(twins, "read_texts", lambda *_: None)
    assert written(text) == copied
    assert len(run) >= 8


def written(text: str) -> tuple[str, list[str], Figures]:
    """The module, the names of its weights and its figures."""
    module = driver.compile_variant(driver.Spec(load(Source("net.arch", text)), ("net",)), "net")
    assert module.checked.cost is not None
    return module.text, list(state_dict(module.checked.program)), module.checked.cost.figures


# ---- what a command does for 4 copies and for 400


def test_counting_and_compiling_do_the_same_for_any_number_of_copies(monkeypatch):
    done: list[str] = []

    def counted(owner: type, method: str) -> None:
        original = getattr(owner, method)
        monkeypatch.setattr(owner, method, lambda *args: done.append(method) or original(*args))

    counted(Counter, "_operation")
    counted(Memory, "_operation")
    counted(Modules, "run")
    counted(Classes, "_make")
    counted(_Forms, "_number")

    def work(depth: int) -> tuple[list[str], int]:
        done.clear()
        # A constructor that hands a rate on to another is read again for each copy: here it only keeps it.
        own = TOWER.replace("branch: branch(%s)", "conv: conv(C, 3) |> drop_path(%s)")
        spec = driver.Spec(load(Source("net.arch", own % ("rate", depth, 0.1))), ("net",))
        module = driver.compile_variant(spec, "net")
        text, found = module.text, reread(module.text, "net")
        assert compare(module.checked.program, found) == []
        assert found.tensors["param"] == len(found.parameters) == 2 * depth
        return sorted(done), text.count("\n")

    assert work(4) == work(400)


def test_one_copy_that_differs_is_told():
    spec = driver.Spec(load(Source("net.arch", TOWER % ("rate", 40, 0.1))), ("net",))
    module = driver.compile_variant(spec, "net")
    made = "Layer(rates[i]) for i in range(depth)"
    assert made in module.text
    other = module.text.replace(made, "Layer(rates[i]) if i != 20 else nn.Conv2d(8, 8, 3) for i in range(depth)")
    differences = compare(module.checked.program, reread(other, "net"))
    assert "blocks.20.weight is not in the graph" in differences
    assert all("blocks.20." in line for line in differences)
