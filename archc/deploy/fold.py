"""The deploy build of a program: BatchNorm and factors of channels folded into the weights beside them.

A deploy build is for inference: what only training does (dropout, stochastic depth) is gone, norms over the batch use
their running statistics. What cannot be folded stays as it was, and is told.
"""

from __future__ import annotations

from archc.deploy.decide import decide
from archc.deploy.flat import flatten
from archc.deploy.report import Row, rows
from archc.deploy.rewrite import Recipe, rewrite
from archc.ir.program import Program
from archc.records import dataclass


@dataclass(frozen=True)
class Deployed:
    """`program` is `trained` for inference. `recipes` say what tensors of its state dict are made of that are not those
    of the same key before; `report` what was folded and what was not."""

    trained: Program
    program: Program
    recipes: dict[str, Recipe]
    report: tuple[Row, ...]


def deploy(program: Program) -> Deployed:
    """The program for inference, its neighbouring affine maps folded."""
    flat = flatten(program)
    found = decide(flat)
    made, recipes = rewrite(program, flat, found)
    return Deployed(program, made, recipes, rows(flat, found))
