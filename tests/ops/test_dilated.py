"""Dilated depthwise convolutions: the ways that CPUs compute fast give what F.conv2d gives, and are taken there alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch.nn import functional as F
from written import from_text, imported

SPEC = """
model net(c: int) {
    input image: [B, C=c, H, W]
    output map = image |> far: conv(c, 7, dilation=3, groups=c) |> mix: conv(c, 1)
}
dilated = net(4)
"""
# kernel, padding, dilation, height and width: sizes that the dilation divides and that it does not, maps smaller than
# the kernel reaches, paddings that are no whole number of steps, and more and less than 6 columns of them.
CASES = [
    (7, 9, 3, (18, 24)),
    (7, 9, 3, (7, 5)),
    (7, 9, 3, (1, 2)),
    (7, 0, 2, (13, 16)),
    (3, 2, 2, (11, 8)),
    (3, 8, 4, (9, 14)),
    (4, 5, 3, (10, 11)),
    ((3, 5), (1, 7), (2, 3), (8, 13)),
    ((1, 7), (0, 12), (1, 4), (3, 9)),
]


@pytest.fixture(scope="module")
def module() -> Any:
    return imported(from_text(SPEC).text)


def _given(case: tuple, layout: torch.memory_format) -> tuple[list[torch.Tensor], tuple]:
    kernel, padding, dilation, size = case
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    torch.manual_seed(1)
    x = torch.randn(2, 6, *size, dtype=torch.float64).contiguous(memory_format=layout)
    weight, bias = torch.randn(6, 1, *kernel, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    return [t.requires_grad_() for t in (x, weight, bias)], (padding, dilation)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_as_the_plain_convolution(module: Any, case: tuple, layout: torch.memory_format) -> None:
    tensors, (padding, dilation) = _given(case, layout)
    plain = F.conv2d(*tensors, 1, padding, dilation, 6)
    fast = module.dilated_depthwise(*tensors, padding, dilation)
    torch.testing.assert_close(fast, plain)
    given = torch.randn_like(plain)
    for mine, theirs in zip(*(torch.autograd.grad(y, tensors, given) for y in (fast, plain)), strict=True):
        torch.testing.assert_close(mine, theirs)
    with torch.no_grad():
        torch.testing.assert_close(module.dilated_depthwise(*tensors, padding, dilation), plain)


def test_gradients_in_bfloat16_are_no_garbage(module: Any) -> None:
    """Those of the plain convolution are at these sizes: torch 2.13 gives 1e17 and NaN for the weight."""
    torch.manual_seed(1)
    x = torch.randn(2, 32, 56, 56).contiguous(memory_format=torch.channels_last)
    tensors = [t.bfloat16().requires_grad_() for t in (x, torch.randn(32, 1, 7, 7), torch.randn(32))]
    exact = [t.detach().double().requires_grad_() for t in tensors]
    given = torch.randn_like(tensors[0])
    found = torch.autograd.grad(module.dilated_depthwise(*tensors, 9, 3), tensors, given)
    wanted = torch.autograd.grad(module.dilated_depthwise(*exact, 9, 3), exact, given.double())
    for mine, right in zip(found, wanted, strict=True):
        assert (mine.double() - right).norm() < 1e-2 * right.norm()


def _convolutions(function: Any, *tensors: torch.Tensor) -> list[tuple]:
    """Padding and dilation of every convolution that runs."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[tuple] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.convolution.default:
                found.append((tuple(args[4]), tuple(args[5])))
            return func(*args, **(kwargs or {}))

    with Watch():
        function(*tensors)
    return found


def test_each_way_where_it_is_fast(module: Any) -> None:
    net = module.dilated().far
    x = torch.randn(1, 4, 8, 8)
    assert _convolutions(net, x) == [((3, 3), (1, 1))]
    with torch.no_grad():
        assert _convolutions(net, x) == [((9, 0), (3, 3))]
        assert _convolutions(module.DilatedConv2d(4, 4, 3, padding=2, dilation=2, groups=4), x) == [((2, 2), (2, 2))]
    assert _convolutions(net.to("meta"), x.to("meta")) == [((9, 9), (3, 3))]


def test_one_graph_for_all_sizes(module: Any) -> None:
    net = module.dilated()
    sizes = {0: torch.export.Dim("b", max=8), 2: torch.export.Dim("h", max=512), 3: torch.export.Dim("w", max=512)}
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    graph = torch.compile(net, backend=counter, fullgraph=True, dynamic=True)
    inputs = [torch.randn(b, 4, h, w) for b, h, w in ((2, 18, 24), (3, 7, 13), (5, 40, 20))]
    for x in inputs:
        torch.testing.assert_close(graph(x), net(x))
    assert counter.frame_count <= 2
    for context in (torch.enable_grad, torch.no_grad):
        with context():
            exported = torch.export.export(net.eval(), (inputs[0],), dynamic_shapes=(sizes,)).module()
            for x in inputs:
                torch.testing.assert_close(exported(x), net(x))


def test_what_is_written() -> None:
    def text(arguments: str, channels: str = "c") -> str:
        return from_text(SPEC.replace("7, dilation=3, groups=c", arguments).replace("conv(c, 7", f"conv({channels}, 7")).text

    assert "self.far = DilatedConv2d(c, c, 7, padding=9, dilation=3, groups=c)" in text("7, dilation=3, groups=c")
    for plain in ("7, groups=c", "7, dilation=3", "7, dilation=3, groups=2", "7, dilation=3, stride=2, groups=c"):
        assert "Dilated" not in text(plain)
