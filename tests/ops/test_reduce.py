"""Reductions, and what runs along one axis."""

from __future__ import annotations

import pytest
import torch
from op_bench import agree, made, refused, typed

from archc.ops.along import ArgMax, CumulativeSum, Softmax
from archc.ops.reduce import AnyOf, Maximum, Mean, Minimum, Sum, Variance

HW = ("H", "W")
MAP, TOKENS = "[B, C=4, H, W]", "[B, N, C=4]"


@pytest.mark.parametrize("op", [Sum, Mean, Maximum, Minimum, Variance])
@pytest.mark.parametrize("keep", [False, True])
def test_reductions(op, keep):
    for axes in (("C",), HW, ("W",), ("B", "C", "H", "W"), ("W", "C")):
        trial = agree(made(op, axes=axes, keep=keep), MAP)
        assert made(op, axes=axes, keep=keep).flops([typed(MAP)], trial.types) == typed(MAP).elements


def test_reductions_are_written_as_one_would():
    assert agree(made(Mean, axes=HW), MAP).text == "a.mean(dim=(2, 3))"
    assert agree(made(Sum, axes=("C",), keep=True), TOKENS).text == "a.sum(dim=-1, keepdim=True)"
    assert agree(made(Maximum, axes=("C",)), MAP).text == "a.amax(dim=1)"
    assert agree(made(Variance, axes=("C",)), TOKENS).text == "a.var(dim=-1, unbiased=False)"
    assert agree(made(Variance, axes=("C",), unbiased=True), TOKENS).text == "a.var(dim=-1)"
    assert agree(made(Softmax, axis="C"), TOKENS).text == "a.softmax(dim=-1)"


def test_reductions_of_whole_numbers_and_truth_values():
    for op in (Sum, Maximum, Minimum):
        agree(made(op, axes=("N",)), "int[B, N]")
        refused("E0305", made(op, axes=("N",)), "bool[B, N]")
    agree(made(AnyOf, axes=("N",)), "bool[B, N]")
    agree(made(AnyOf, axes=("N", "B"), keep=True), "bool[B, N]")
    refused("E0305", made(AnyOf, axes=("N",)), "[B, N]")
    refused("E0305", made(Mean, axes=("N",)), "int[B, N]")
    refused("E0302", made(Sum), MAP)
    refused("E0302", made(Sum, axes=("Q",)), MAP)
    refused("E0213", made(Sum, axes=("H", "H")), MAP)
    refused("E0333", made(Mean, axes=("H",)), "[B, H=0]")
    refused("E0333", made(Variance, axes=("H",), unbiased=True), "[B, H=1]")


@pytest.mark.parametrize("axis", ["C", "H", "W", "B"])
def test_along(axis):
    agree(made(Softmax, axis=axis), MAP)
    agree(made(CumulativeSum, axis=axis), MAP)
    agree(made(ArgMax, axis=axis), MAP)


def test_along_whole_numbers():
    agree(made(CumulativeSum, axis="N"), "int[B, N]")
    agree(made(ArgMax, axis="N"), "int[B, N]", data=[torch.tensor([[1, 3, 3, 0, 3, 1, 1]] * 2)])
    refused("E0305", made(Softmax, axis="N"), "int[B, N]")
    refused("E0302", made(Softmax, axis="Q"), MAP)
    refused("E0333", made(Softmax, axis="H"), "[B, H=0]")
    assert made(Softmax, axis="C").flops([typed(MAP)], [typed(MAP)]) == typed(MAP).elements * 5
