"""A module refuses a list of another length exactly where its text was written for one."""

from typing import Any

import pytest
import torch

from archc.backend.module import Figures, emit
from archc.contract import solve
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, overridden, variant
from archc.source import Source

SPEC = """
block fuse(maps: list[tensor]) {{
    fused = []
    for m in maps {{ fused += [m |> mean(H, W, C)] }}
    return total(fused)
}}
model net(dims: list[int] = [4, 8, 12]) {{
    input image: [B, C=3, H, W]
    x = image
    maps = []
    stages: stage d in dims {{
        x = x |> conv: conv(d, 3, stride=2)
        maps += [x]
    }}
    {use}
}}
one = net()
"""
ANY_LENGTH = {
    "the list itself": "output maps = maps",
    "its ends": "output ends = (maps[0] |> mean(H, W, C)) + (maps[-1] |> mean(H, W, C))",
}
ONE_LENGTH = {
    "weights for each": "ys = []\n    heads: for m in maps { ys += [m |> head: conv(2, 1)] }\n    output ys = ys",
    "a comprehension": "output ys = [m |> mean(H, W) for m in maps]",
    "an operation on all": "ys = [m |> mean(H, W) for m in maps]\n    output y = cat(ys, C)",
    "a slice": "output ys = [m |> mean(H, W) for m in maps[1:]]",
    "with their numbers": "output ys = [m * i for i, m in enumerate(maps)]",
    "backwards": "output ys = [m * 2 for m in reversed(maps)]",
    "two lists in a row": "output ys = [m * 2 for m in maps + maps]",
}


def built(use: str, **dims: Any) -> Any:
    library = load(Source("lists.arch", SPEC.format(use=use)))
    program = elaborate(library, overridden(variant(library, "one"), **dims))
    space: dict[str, Any] = {"__name__": "lists"}
    exec(emit(program, solve(program.symbols, program.obligations), Figures(0)), space)
    return space["one"]


@pytest.mark.parametrize("dims", [[4, 8], [4, 8, 12, 16]], ids=str)
@pytest.mark.parametrize("use", ANY_LENGTH)
def test_what_follows_the_list_takes_any_length(use: str, dims: list[int]) -> None:
    mine, theirs = built(ANY_LENGTH[use])(dims=dims), built(ANY_LENGTH[use], dims=dims)()
    mine.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, 33, 40)
    torch.testing.assert_close(mine(image), theirs(image))


@pytest.mark.parametrize("use", ONE_LENGTH)
def test_what_is_written_for_each_item_takes_one_length(use: str) -> None:
    build = built(ONE_LENGTH[use])
    build(dims=[4, 4, 4])(torch.randn(1, 3, 16, 16))
    for dims in ([4, 8], [4, 8, 12, 16]):
        with pytest.raises(ValueError, match=r"compiled for len\(dims\)"):
            build(dims=dims)
