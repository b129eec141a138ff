"""An axis that merges places remembers their order and sizes."""

import pytest

from archc.diagnostics import ArchError
from archc.elaborate.loader import load
from archc.elaborate.model import elaborate, variant
from archc.source import Source

SPEC = """
block mixed(t: [B, N, C]) {{
    return t + (t |> norm: layer_norm |> fc: linear(C) |> gelu)
}}
block apart(t: [B, L, C], H: int) {{
    return t |> rearrange("L=(W H) C -> C H W", H=H)
}}
model m() {{
    input x: [B, C=8, H=6, W=4]
    tokens = x |> rearrange("C H W -> N=(H W) C")
    turned = x |> rearrange("C H W -> N=(W H) C")
    {line}
    output z = y
    output t = tokens
    output u = turned
}}
net = m()
"""
REFUSED = {
    "taken apart in another order": 'y = tokens |> rearrange("N=(W H) -> H W", H=6)',
    "behind components": 'y = tokens |> a: mixed |> b: mixed |> rearrange("N=(W H) -> H W", W=4)',
    "in a component": "y = apart(tokens, 6)",
    "under another name": 'y = tokens |> rename(N="L") |> rearrange("L=(W H) -> W H", H=6)',
    "behind a move of axes": 'y = tokens |> rearrange("N C -> C N") |> rearrange("N=(W H) -> H W", H=6)',
    "added": "y = tokens + turned",
    "multiplied and summed": "y = dot(tokens, turned, C)",
    "joined": "y = cat([tokens, turned], C)",
}
OTHER_SIZES = {"another height": 'y = tokens |> rearrange("N=(H W) -> H W", H=4)'}
TAKEN = {
    "as it was merged": 'y = tokens |> a: mixed |> rearrange("N=(H W) -> W H", H=6)',
    "in blocks of its own": 'y = tokens |> rearrange("N=(K M) -> K M", K=3)',
    "another length": 'y = tokens[N=1:21] |> rearrange("N=(W H) -> H W", H=5)',
    "brought into one order": 'y = tokens + (turned |> rearrange("N=(W H) C -> N=(H W) C", H=6))',
    "channels shuffled twice": 'y = x |> rearrange("C=(g C) -> C=(C g)", g=2) |> relu |> rearrange("C=(g C) -> C=(C g)", g=4)',
}


def codes(line: str) -> set[str]:
    library = load(Source("merged.arch", SPEC.format(line=line)))
    try:
        elaborate(library, variant(library, "net"))
    except ArchError as error:
        return {d.code for d in error.diagnostics}
    return set()


@pytest.mark.parametrize("what", REFUSED)
def test_places_keep_their_order(what: str) -> None:
    assert codes(REFUSED[what]) == {"E0309"}


@pytest.mark.parametrize("what", OTHER_SIZES)
def test_places_keep_their_sizes(what: str) -> None:
    assert codes(OTHER_SIZES[what]) == {"E0321"}


@pytest.mark.parametrize("what", TAKEN)
def test_what_is_meant_is_allowed(what: str) -> None:
    assert codes(TAKEN[what]) == set()
