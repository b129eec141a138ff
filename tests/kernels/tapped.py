"""The operators of taps in Triton's interpreter, beside a sum over an index of taps: `python tests/kernels/tapped.py`.

What networks of the size of a test do not reach: both ways of summing, tiles that see others across an edge, several
tiles along every axis, queries with a stride, classes without a position, and weights that are not finite where there is
no tap. Prints a line of JSON for each comparison.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import hardened
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "codegen"))

from kernels.dynamic import Aggregate, slides  # pyright: ignore[reportMissingImports]
from kernels.taps import Taps, around, blocks, shifted  # pyright: ignore[reportMissingImports]

LIMITS = {torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 3e-3}
# Name, taps, positions of the keys, channels, element type.
CASES: list[tuple[str, tuple[Any, ...], tuple[int, ...], int, torch.dtype]] = [
    ("products of tiles", (Taps(around, 3), Taps(around, 3)), (5, 9), 72, torch.bfloat16),
    ("strips", (Taps(around, 3), Taps(around, 5, 2)), (3, 11), 5, torch.float32),
    ("more steps than positions", (Taps(around, 3, 4), Taps(around, 3, 2)), (3, 5), 20, torch.bfloat16),
    ("many columns", (Taps(around, 11),), (19,), 20, torch.float32),
    ("moved at edges", (Taps(shifted, 3, 2), Taps(shifted, 5)), (6, 7), 8, torch.float32),
    ("blocks with a halo and a stride", (Taps(blocks, 4, block=2, stride=2), Taps(blocks, 8, block=4, stride=2)), (4, 8), 8,
     torch.float32),
    ("ragged blocks", (Taps(blocks, 3, block=3), Taps(blocks, 4, block=4)), (4, 6), 20, torch.float16),
    ("spread evenly", (Taps(blocks, 3, 0),), (9,), 20, torch.float32),
    ("whole axes", (Taps(blocks, 0),), (21,), 24, torch.bfloat16),
]  # fmt: skip


def keys(taps: Any, queries: int, keys: int) -> list[list[int]]:
    """The key of every tap of every query of an axis; -1 outside of the map."""
    _, _, step, count, block, stride = taps.numbers(queries, keys)
    rows = []
    for i in range(queries):
        c, at = i % step, i // step
        size = (keys - c + step - 1) // step
        if taps.where is around:
            first = at - count // 2
        elif taps.where is shifted:
            first = max(min(at - count // 2, size - count), 0)
        else:
            first = at * stride // block * block - (count - block) // 2
        rows.append([(first + u) * step + c if 0 <= first + u < size else -1 for u in range(count)])
    return rows


def index(taps: tuple[Any, ...], queries: list[int], sizes: tuple[int, ...]) -> Tensor:
    """The flat key of every tap, [queries, taps]; -1 outside of the map."""
    per = [keys(t, q, k) for t, q, k in zip(taps, queries, sizes, strict=True)]
    if len(per) == 1:
        return torch.tensor(per[0])
    rows, columns = per
    return torch.tensor(
        [[h * sizes[1] + w if h >= 0 and w >= 0 else -1 for h in hs for w in ws] for hs in rows for ws in columns]
    )


def gathered(x: Tensor, at: Tensor) -> Tensor:
    """[heads, *positions, C] at the taps: [heads, queries, taps, C], nought outside of the map."""
    return x.flatten(1, -2)[:, at.clamp(min=0)] * (at >= 0)[..., None]


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm().detach() / wanted.norm().detach())


def compare(what: str, dtype: torch.dtype, pairs: list[tuple[Tensor, Tensor]]) -> None:
    errors = [error(found, wanted) for found, wanted in pairs]
    print(json.dumps({"what": what, "dtype": str(dtype)[6:], "errors": errors, "limit": LIMITS[dtype]}), flush=True)


def check(name: str, taps: tuple[Any, ...], sizes: tuple[int, ...], channels: int, dtype: torch.dtype) -> None:
    queries = [n // t.stride for n, t in zip(sizes, taps, strict=True)]
    at = index(taps, queries, sizes)
    absent, axes = at < 0, "B heads H W"[: 7 + 2 * len(sizes)]
    given, word = (axes, axes), name.replace(" ", "_")
    hardened.backwards = len(name) % 2 == 0

    def exact(x: Tensor) -> Tensor:
        return x.detach()[0].double().requires_grad_()

    for softmax in (False, True):
        operator = Aggregate(f"tapped::{word}_{softmax}", None, softmax=softmax, axes=axes, given=given, taps=taps)
        # Heads as they ride along in a map with its channels innermost.
        x = torch.randn(1, *sizes, 2, channels).to(dtype).movedim(-2, 1).requires_grad_()
        w = torch.randn(1, 2, *queries, at.shape[1]).to(dtype).requires_grad_()
        if not softmax:
            w.data.flatten(2, -2)[:, :, absent] = float("inf")
        y = operator(x, w)
        grad = torch.randn(y.shape).to(dtype)
        y.backward(grad)
        x2, w2 = exact(x), exact(w)
        flat = w2.flatten(1, -2)
        flat = flat.softmax(-1) if softmax else flat.masked_fill(absent, 0.0)
        wanted = torch.einsum("gpk,gpkc->gpc", flat, gathered(x2, at)).view(y.shape[1:])
        wanted.backward(grad[0].double())
        pairs = [(y[0], wanted), (x.grad[0], x2.grad), (w.grad[0], w2.grad)]
        compare(f"{name}, {'softmax' if softmax else 'weights'}", dtype, pairs)


def main() -> None:
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)  # fills new tensors with NaN
    ways = set()
    for name, taps, sizes, channels, dtype in CASES:
        ways.add(slides(Taps(), taps[-1], channels, dtype))
        check(name, taps, sizes, channels, dtype)
    assert ways == {True, False}


if __name__ == "__main__":
    main()
