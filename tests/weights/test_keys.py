"""State-dict keys: those of the module, in torch's order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.ir.graph import ChildEntry, Entry, Guard, ListEntry, OpEntry, Template, WeightEntry
from archc.ir.program import Program
from archc.ir.sym import Const, Var, apply, const
from archc.ir.types import Axis, Dim
from archc.ops.base import Init, Op, Weight
from archc.source import Source, Span
from archc.weights.keys import state_dict

SPAN = Span(Source("t.arch", "text"), 0, 4)


def program(text: str, name: str = "v") -> Program:
    library = load(Source("t.arch", text))
    return elaborate(library, variant(library, name))


def keys(text: str, name: str = "v") -> list[str]:
    return list(state_dict(program(text, name)))


def test_levels_of_loops_components_and_operations() -> None:
    text = """
block pair(x: [B, C, N]) {
    x = x |> one: linear(C)
    return x |> two: linear(C, bias=false)
}
model m(n: int = 2) {
    input x: [B, C=4, N]
    blocks: repeat n { x = x |> _: pair |> norm: layer_norm }
    units: repeat n { x = x |> _: linear(4, bias=false) }
    again: loop n { x = x |> pair }
    output y = x
}
v = m()
"""
    pair = ["one.weight", "one.bias", "two.weight"]
    assert keys(text) == [
        *(f"blocks.{i}.{key}" for i in range(2) for key in [*pair, "norm.weight", "norm.bias"]),
        "units.0.weight", "units.1.weight", *(f"again.pair.{key}" for key in pair),
    ]  # fmt: skip


def test_a_module_lists_its_own_weights_before_those_of_its_children() -> None:
    text = """
block scaled(x: [B, C, H, W]) {
    x = x |> conv: conv(C, 1)
    buffer mean: [C] = 0
    x = x |> norm: batch_norm
    buffer grid: [C] = 0 with (saved=false)
    param scale: [C] = 1
    return x * scale + mean + grid
}
model m() {
    input x: [B, C=4, H, W]
    output y = x |> body: scaled
}
v = m()
"""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = ["scale", "mean", "conv.weight", "conv.bias", *(f"norm.{name}" for name in norm)]
    assert keys(text) == [f"body.{key}" for key in expected]


def test_only_what_this_build_has() -> None:
    text = """
model m(n: int = 2, norm: bool = true) {
    input x: [B, C=4, N]
    blocks: for i in range(n) {
        x = x |> fc: linear(4, bias=false)
        if norm { x = x |> norm: rms_norm }
        if i > 0 { x = x |> more: linear(4, bias=false) }
    }
    output y = x
}
v = m()
bare = m(norm=false)
"""
    assert keys(text) == [
        "blocks.0.fc.weight", "blocks.0.norm.weight",
        "blocks.1.fc.weight", "blocks.1.norm.weight", "blocks.1.more.weight",
    ]  # fmt: skip
    assert keys(text, "bare") == ["blocks.0.fc.weight", "blocks.1.fc.weight", "blocks.1.more.weight"]


def test_a_shared_module_is_listed_once() -> None:
    text = """
model m() {
    input x: [B, C=4, N]
    module shared = linear(4)
    output y = shared(shared(x)) |> head: linear(2)
}
v = m()
"""
    assert keys(text) == ["shared.weight", "shared.bias", "head.weight", "head.bias"]


def test_a_list_of_modules_is_in_its_own_order() -> None:
    text = """
model m() {
    input x: [B, C=4, N]
    module fs = [linear(4, bias=false), linear(4, bias=false)]
    output y = fs[0](x |> between: linear(4, bias=false) |> fs[1])
}
v = m()
"""
    assert keys(text) == ["between.weight", "fs.0.weight", "fs.1.weight"]


# ---- against torch, on trees of entries of every kind


def weight(name: str, kind: str) -> Weight:
    return Weight(name, (Axis("C", Dim.of(2)),), Init("fill"), kind)


def template(entries: tuple[Entry, ...]) -> Template:
    return Template("t", "block", "", (("n", const(3)),), (), (), (), entries, SPAN)


kinds = st.sampled_from(["param", "buffer", "table", "counter"])
own = st.lists(st.tuples(st.sampled_from("pqrs"), kinds), max_size=3, unique_by=lambda item: item[0])
alive = apply(">", Var("n"), Const(2))
guards = st.sampled_from([(), (Guard(alive, True),), (Guard(alive, False),)])


def op_entry(name: str, weights: list[tuple[str, str]], guards: tuple[Guard, ...] = ()) -> OpEntry:
    return OpEntry(name, Op(), (), tuple(weight(*one) for one in weights), SPAN, guards)


def with_names(inner: st.SearchStrategy[Template]) -> st.SearchStrategy[Template]:
    unit = st.one_of(
        st.builds(op_entry, st.just(""), own), st.builds(lambda t: ChildEntry("", t, (), SPAN), inner)
    )

    def entry(name: str) -> st.SearchStrategy[Entry]:
        return st.one_of(
            st.builds(op_entry, st.just(name), own, guards),
            st.builds(lambda t, g: ChildEntry(name, t, (), SPAN, g), inner, guards),
            st.builds(lambda kind, g: WeightEntry(name, weight(name, kind), SPAN, g), kinds, guards),
            st.builds(lambda items: ListEntry(name, tuple(items), SPAN), st.lists(unit, max_size=11)),
        )

    names = st.lists(st.sampled_from("abcde"), unique=True, max_size=4)
    return names.flatmap(lambda chosen: st.tuples(*map(entry, chosen))).map(template)


BARE = program("model m() {\n    input x: [B]\n    output y = x + 1\n}\nv = m()\n")
templates = st.recursive(st.just(template(())), with_names, max_leaves=6)


class Built(torch.nn.Module):
    """The entries of a template, registered as a class with such a constructor registers them."""

    def __init__(self, entries: tuple[Any, ...]) -> None:
        super().__init__()
        for entry in entries:
            if any((3 > 2) != guard.truth for guard in entry.guards):
                continue
            match entry:
                case WeightEntry():
                    self._own(entry.weight, entry.name)
                case ListEntry():
                    setattr(self, entry.name, torch.nn.ModuleList(made(item) for item in entry.items))
                case _:
                    setattr(self, entry.name, made(entry))

    def _own(self, weight: Weight, name: str) -> None:
        tensor = torch.zeros(weight.shape)
        if weight.kind == "param":
            self.register_parameter(name, torch.nn.Parameter(tensor))
        else:
            self.register_buffer(name, tensor, persistent=weight.kind != "table")


def made(entry: OpEntry | ChildEntry) -> Built:
    if isinstance(entry, ChildEntry):
        return Built(entry.template.entries)
    module = Built(())
    for one in entry.weights:
        module._own(one, one.name)
    return module


@given(templates)
def test_the_order_is_torchs(root: Template) -> None:
    assert list(state_dict(replace(BARE, root=root))) == list(Built(root.entries).state_dict())
