"""Rename rules: where tensors go, and what is said when they go nowhere."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archc.diagnostics import ArchError, Diagnostic
from archc.ir.types import Axis, Dim
from archc.ops.base import Init, Weight
from archc.source import Source
from archc.syntax import tree
from archc.syntax.parse import parse
from archc.weights.plan import Plan, fill_weights, plan
from archc.weights.rules import compile_rules

Shapes = dict[str, tuple[int, ...]]


def rules(*lines: str) -> tuple[tree.Rule, ...]:
    body = "".join(f"        {line}\n" for line in lines)
    (binding,) = parse(Source("t.arch", f"v = m() {{\n    weights {{\n{body}    }}\n}}\n")).items
    assert isinstance(binding, tree.Binding)
    (weights,) = binding.facts
    assert isinstance(weights, tree.Weights)
    return weights.rules


def weights(shapes: Shapes) -> dict[str, Weight]:
    """Weights of these shapes; what is called like a counter is one."""
    return {
        key: Weight(
            key.rpartition(".")[2],
            tuple(Axis(f"a{i}", Dim.of(size)) for i, size in enumerate(shape)),
            Init("fill"),
            "counter" if key.endswith("num_batches_tracked") else "param",
        )
        for key, shape in shapes.items()
    }


def placed(lines: list[str], official: Shapes, module: Shapes) -> dict[str, tuple[str, ...]]:
    return {p.target: p.keys for p in plan(rules(*lines), official, weights(module)).placements}


def refused(lines: list[str], official: Shapes, module: Shapes) -> tuple[Diagnostic, ...]:
    with pytest.raises(ArchError) as caught:
        plan(rules(*lines), official, weights(module))
    return caught.value.diagnostics


def filled(lines: list[str], official: dict[str, torch.Tensor], module: Shapes) -> dict[str, torch.Tensor]:
    shapes = {key: tuple(tensor.shape) for key, tensor in official.items()}
    return fill_weights(plan(rules(*lines), shapes, weights(module)), official)


# ---- placing


def test_the_first_rule_that_matches_takes_a_key_and_others_keep_their_names() -> None:
    lines = [
        '"block{i}.{j}.mlp.dw.dw.*" -> "stages.{i-1}.blocks.{j}.mlp.dw.*"',
        '"block{i}.{j}.**" -> "stages.{i-1}.blocks.{j}.**"',
    ]
    official = {"block1.0.mlp.dw.dw.weight": (3,), "block1.0.norm.weight": (3,), "head.weight": (2, 3)}
    module = {
        "stages.0.blocks.0.mlp.dw.weight": (3,),
        "stages.0.blocks.0.norm.weight": (3,),
        "head.weight": (2, 3),
    }
    assert placed(lines, official, module) == {
        "stages.0.blocks.0.mlp.dw.weight": ("block1.0.mlp.dw.dw.weight",),
        "stages.0.blocks.0.norm.weight": ("block1.0.norm.weight",),
        "head.weight": ("head.weight",),
    }


def test_dropped_keys_are_listed() -> None:
    found = plan(rules('"**.index" -> drop'), {"a.index": (4,), "w": (2,)}, weights({"w": (2,)}))
    assert found.dropped == ("a.index",)
    assert not found.warnings


def test_a_plan_needs_no_tensors_and_no_torch() -> None:
    found = plan(rules('"a" -> "b"'), {"a": [2, 3]}, weights({"b": (2, 3)}))
    assert isinstance(found, Plan)
    assert found.placements[0].shape == (2, 3)


def test_counters_may_be_missing_and_left_over() -> None:
    module = {"norm.weight": (3,), "norm.num_batches_tracked": ()}
    found = plan((), {"norm.weight": (3,)}, weights(module))
    assert found.missing == ("norm.num_batches_tracked",)
    found = plan(
        rules('"bn.*" -> "norm.*"'),
        {"bn.weight": (3,), "bn.num_batches_tracked": (), "extra.num_batches_tracked": ()},
        weights({"norm.weight": (3,)}),
    )
    assert [p.target for p in found.placements] == ["norm.weight"]


# ---- joining, cutting, tying


def test_sources_are_joined_in_the_order_of_the_rule() -> None:
    q, k, v = (torch.randn(2, 3) for _ in range(3))
    official = {"a.v.weight": v, "a.q.weight": q, "a.k.weight": k}
    got = filled(
        ['"*.q.*", "*.k.*", "*.v.*" -> "*.qkv.*" |> cat(0)'],
        official,
        {"a.qkv.weight": (6, 3)},
    )
    assert torch.equal(got["a.qkv.weight"], torch.cat([q, k, v]))


def test_steps_before_and_after_a_join() -> None:
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    got = filled(
        ['"a", "b" -> "c" |> transpose(0, 1) |> stack(0) |> scale(2) |> reshape(6, 2)'],
        {"a": a, "b": b},
        {"c": (6, 2)},
    )
    assert torch.equal(got["c"], torch.stack([a.T, b.T]).mul(2).reshape(6, 2))


def test_one_tensor_is_cut_into_several() -> None:
    qkv = torch.randn(6, 3)
    got = filled(
        [
            '"*.qkv" -> "*.q" |> slice(0, 0, 2)',
            '"*.qkv" -> "*.k" |> slice(0, 2, 4)',
            '"*.qkv" -> "*.v" |> slice(0, 4, 6)',
        ],
        {"a.qkv": qkv},
        {"a.q": (2, 3), "a.k": (2, 3), "a.v": (2, 3)},
    )
    assert torch.equal(torch.cat([got["a.q"], got["a.k"], got["a.v"]]), qkv)


def test_tied_tensors_must_be_equal_and_need_not_all_be_there() -> None:
    lines, module = ['"rpb.0", "rpb.1" -> "rpb"'], {"rpb": (3,)}
    x = torch.randn(3)
    assert torch.equal(filled(lines, {"rpb.0": x, "rpb.1": x.clone()}, module)["rpb"], x)
    assert torch.equal(filled(lines, {"rpb.1": x}, module)["rpb"], x)
    with pytest.raises(ArchError) as caught:
        filled(lines, {"rpb.0": x, "rpb.1": x + 1}, module)
    assert caught.value.diagnostics[0].code == "E0602"
    assert "differ" in caught.value.diagnostics[0].message


def test_one_number_fits_one_number() -> None:
    x = torch.tensor([3.0])
    assert filled([], {"gamma": x}, {"gamma": ()})["gamma"].shape == ()
    assert filled([], {"gamma": x[0]}, {"gamma": (1, 1)})["gamma"].shape == (1, 1)
    (found,) = refused([], {"gamma": (2,)}, {"gamma": (2, 1)})
    assert found.code == "E0603"
    assert "reshape(2, 1)" in found.helps[0]


# ---- what is refused


def test_leftovers_are_listed_with_shapes_and_suggestions() -> None:
    official = {"patch_embed1.norm.weight": (32,), "fc.weight": (10, 4), "aux": (1,)}
    module = {
        "stages.0.patch_embed.norm.weight": (32,),
        "stages.0.other.weight": (32,),
        "head.weight": (10, 4),
    }
    (found,) = refused([], official, module)
    assert found.code == "E0601"
    assert found.message == "3 tensors have no place, 3 weights got nothing"
    assert "`fc.weight` [10, 4]" in found.notes[0]
    assert "`head.weight` [10, 4]" in found.notes[1]
    assert 'perhaps `"patch_embed1.norm.weight" -> "stages.0.patch_embed.norm.weight"`' in found.helps
    assert 'perhaps `"fc.weight" -> "head.weight"`' in found.helps


def test_long_lists_are_shortened() -> None:
    (found,) = refused([], {f"x{i}": (i + 1,) for i in range(12)}, {})
    assert found.message == "12 tensors have no place"
    assert found.notes[0].endswith("and 7 more")
    assert "drop" in found.helps[0]
    (found,) = refused([], {}, {"w": (2, 2)})
    assert found.message == "1 weight got nothing"


def test_two_keys_on_one_place() -> None:
    (found,) = refused(['"a.{i}" -> "b"'], {"a.0": (2,), "a.1": (2,)}, {"b": (2,)})
    assert found.code == "E0602"
    assert "`a.0` and `a.1`" in found.message
    assert found.span is not None and found.span.text.startswith('"a.{i}"')
    for official in ({"a": (2,), "b": (2,)}, {"b": (2,), "a": (2,)}):
        (found,) = refused(['"a" -> "b"'], official, {"b": (2,)})
        assert found.code == "E0602" and found.span is not None
    (found,) = refused(['"a" -> "c"', '"b" -> "c"'], {"a": (2,), "b": (2,)}, {"c": (2,)})
    assert found.code == "E0602"


def test_shapes_must_agree_after_the_transforms() -> None:
    (found,) = refused(['"a" -> "b" |> transpose(0, 1)'], {"a": (2, 3)}, {"b": (2, 3)})
    assert found.code == "E0603"
    assert "[2, 3], [3, 2] after the transforms" in found.message
    (found,) = refused(['"a" -> "b" |> reshape(4)'], {"a": (2, 3)}, {"b": (6,)})
    assert found.code == "E0603"
    (found,) = refused(['"a", "b" -> "c" |> cat(0)'], {"a": (2, 3), "b": (2, 4)}, {"c": (4, 3)})
    assert found.code == "E0603"
    (found,) = refused(['"a", "b" -> "c"'], {"a": (2,), "b": (3,)}, {"c": (2,)})
    assert found.code == "E0603" and "`b`" in found.message


def test_a_part_of_a_join_must_not_be_missing() -> None:
    (found,) = refused(['"q", "k" -> "qk" |> cat(0)'], {"q": (2, 3)}, {"qk": (4, 3)})
    assert found.code == "E0601"
    assert "`k`" in found.message


def test_a_rule_that_never_matches_is_a_warning() -> None:
    found = plan(rules('"w*" -> "w*"', '"x.*" -> "y.*"', '"w" -> drop'), {"w": (2,)}, weights({"w": (2,)}))
    assert [d.code for d in found.warnings] == ["E0604", "E0604"]
    assert all(d.severity == "warning" for d in found.warnings)
    assert found.warnings[0].span is not None and '"x.*"' in found.warnings[0].span.text


@pytest.mark.parametrize(
    "line",
    [
        '"a{i" -> "b"',
        '"a.*" -> "b"',
        '"a" -> "b.*"',
        '"a" -> "b.{i}"',
        '"a.{i}", "b" -> "c.{i}"',
        '"a" -> "b" |> twist(1)',
        '"a" -> "b" |> cat(0)',
        '"a", "b" -> "c" |> cat(0) |> stack(0)',
        '"a", "b" -> "c" |> cat(0) |> slice(0, 0, 1)',
        '"a" -> drop |> flatten',
    ],
)
def test_malformed_rules_are_refused_at_their_line(line: str) -> None:
    with pytest.raises(ArchError) as caught:
        compile_rules(rules('"fine" -> "ok"', line))
    (found,) = caught.value.diagnostics
    assert found.code == "E0605"
    assert found.span is not None and found.span.text == line


def test_every_malformed_rule_is_reported() -> None:
    with pytest.raises(ArchError) as caught:
        compile_rules(rules('"a{" -> "b"', '"a" -> "b"', '"a.*" -> "b"'))
    assert len(caught.value.diagnostics) == 2


def test_an_index_that_does_not_exist_is_reported_at_the_rule() -> None:
    (found,) = refused(['"a{i}" -> "b.{i-1}"'], {"a0": (2,)}, {"b.0": (2,)})
    assert found.code == "E0605"
    assert "`a0`" in found.message


names = st.lists(st.text("abc.0", min_size=1, max_size=5), unique=True, max_size=8)


@given(names, st.sampled_from(['"a*" -> "b*"', '"**a" -> "**b"', '"*{i}" -> "*{i+1}"', '"c" -> drop']))
def test_nothing_is_lost_and_nothing_is_filled_twice(keys: list[str], line: str) -> None:
    """The plan is refused, or every tensor has exactly one place and every weight exactly one source."""
    official: Shapes = {key: (2,) for key in keys}
    try:
        module: Shapes = {
            p.target: (2,)
            for p in plan(rules(line), official, _Anything()).placements  # type: ignore[arg-type]
        }
    except ArchError as error:
        assert {d.code for d in error.diagnostics} <= {"E0602", "E0605"}
        return
    found = plan(rules(line), official, weights(module))
    sources = [key for p in found.placements for key in p.keys]
    assert sorted([*sources, *found.dropped]) == sorted(keys)
    assert len({p.target for p in found.placements}) == len(found.placements)


class _Anything(dict[str, Weight]):
    """A module that has every weight."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> Weight:
        return weights({key: (2,)})[key]
