"""Reading a generated file again: torch's shapes without torch, and nothing claimed that was not understood."""

from __future__ import annotations

import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from written import ROOT, SPECS, compiled, every, shapes, shipped

from archc.backend.evaluator import RereadError
from archc.backend.registered import Modules
from archc.backend.reread import compare, reread
from archc.backend.torch_shapes import MODULES, PLAIN, RESERVED

HEAD = "from __future__ import annotations\nimport math\nimport torch\nfrom torch import Tensor, nn\n"


def one(body: str, before: str = "", parameters: str = "") -> str:
    """A file whose class M has a constructor with this body, and the factory `make`."""
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    return (
        f"{HEAD}{before}\nclass M(nn.Module):\n    def __init__(self{parameters}) -> None:\n"
        f"        super().__init__()\n{lines}\n\ndef make(**overrides):\n    return M(**overrides)\n"
    )


def built(text: str) -> torch.nn.Module:
    names: dict = {}
    exec(compile(text, "test", "exec"), names)
    return names["make"]()


# ---- torch's modules


def _maybe(draw: st.DrawFn, name: str, values: st.SearchStrategy) -> list[str]:
    return [f"{name}={draw(values)!r}"] if draw(st.booleans()) else []


@st.composite
def constructors(draw: st.DrawFn) -> str:
    """A call of a torch module that torch takes."""
    name = draw(st.sampled_from(sorted(MODULES)))
    size, bools = st.integers(1, 6), st.booleans()
    groups = draw(st.integers(1, 3))
    args: list[str] = []
    if name.startswith("Conv"):
        axes = int(name[-2])
        kernel = draw(st.one_of(size, st.tuples(*[size] * axes)))
        args = [str(groups * draw(size)), str(groups * draw(size)), repr(kernel)]
        args += _maybe(draw, "groups", st.just(groups)) + _maybe(draw, "bias", bools)
        args += _maybe(draw, "stride", size) + _maybe(draw, "padding", st.integers(0, 2))
    elif name == "Linear":
        args = [str(draw(size)), str(draw(size)), *_maybe(draw, "bias", bools)]
    elif name.startswith(("BatchNorm", "InstanceNorm")):
        args = [str(draw(size)), *_maybe(draw, "affine", bools), *_maybe(draw, "eps", st.just(1e-3))]
        args += _maybe(draw, "track_running_stats", bools)
    elif name in ("LayerNorm", "RMSNorm"):
        args = [repr(draw(st.one_of(size, st.tuples(size, size)))), *_maybe(draw, "elementwise_affine", bools)]
        args += _maybe(draw, "bias", bools) if name == "LayerNorm" else []
    elif name == "GroupNorm":
        args = [str(groups), str(groups * draw(size)), *_maybe(draw, "affine", bools)]
    elif name == "Embedding":
        args = [str(draw(size)), str(draw(size))]
    else:
        args = [str(draw(size)), str(draw(size)), *_maybe(draw, "num_layers", st.integers(1, 3))]
        args += _maybe(draw, "bias", bools) + _maybe(draw, "bidirectional", bools)
    return f"nn.{name}({', '.join(args)})"


@settings(max_examples=200, deadline=None)
@given(constructors())
def test_shapes_are_those_of_torch(constructor: str) -> None:
    text = one(f"self.a = {constructor}")
    found = reread(text, "make")
    net = built(text)
    assert found.parameters == {n: tuple(p.shape) for n, p in net.named_parameters()}
    assert found.parameters | found.buffers == shapes(net)
    assert list(found.names) == list(net.state_dict())


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_modules_without_weights_have_none(name: str) -> None:
    wanted = {"Unflatten": "(1, (1,))", "PixelShuffle": "(2)", "PixelUnshuffle": "(2)", "ZeroPad2d": "(1)"}
    given = wanted.get(name, "(2)" if "Pool" in name else "()")
    text = one(f"self.a = nn.{name}{given}")
    assert shapes(built(text)) == {} == reread(text, "make").parameters


def test_names_of_nn_module_are_known() -> None:
    own = {name for name in dir(torch.nn.Module()) if not name.startswith("_")}
    assert own <= RESERVED, own - RESERVED


# ---- Python


PYTHON = {
    "loops": "self.a = nn.ModuleList()\nc = 3\nfor i, d in enumerate([4, 5]):\n"
    "    if i == 9:\n        continue\n    self.a.append(nn.Linear(c, d))\n    c = d\nself.b = nn.Linear(c, 1)",
    "generators": "self.a = nn.ModuleList(nn.Linear(i + 1, 2 * i or 1) for i in range(3))",
    "arithmetic": "self.a = nn.Linear(7 // 2 * 2**3 % 5 + -(-3), int(math.sqrt(16.5)) + round(2.5) + abs(-1))",
    "ternaries": "self.a = nn.Linear(3 if 1 < 2 <= 2 and not 0 else 4, [1, 2][-1:][0])",
    "lists": "xs = [*[1, 2], 3]\nself.a = nn.Linear(sum(xs), max(xs[:2]) + min(4, 5) + len(xs))",
    "zips": "for i, (a, b) in enumerate(zip([1, 2], (3, 4))):\n    last = a * b + i\nself.a = nn.Linear(last, 1)",
    "buffers": "self.register_buffer('a', torch.zeros((2, 3)))\nself.register_buffer('b', torch.ones(4), persistent=False)",
    "parameters": "self.a = nn.Parameter(torch.full((2, 3), 0.5))\nself.b = nn.init.normal_(nn.Parameter(torch.empty(4)), std=2)",
    "attributes": "self.n = 4\nself.c = nn.Conv2d(self.n, 2 * self.n, 1)\nself.d = nn.Linear(self.c.out_channels, 1)",
    "calls": "self.a = nn.Linear(twice(3), pair(4)[1])",
    "nothing": "pass",
    "early break": "for i in range(9):\n    if i > 4:\n        break\nself.a = nn.Linear(i, 1)",
}
FUNCTIONS = (
    "def twice(n, by=2):\n    return by * n\n\ndef pair(value):\n"
    "    return [value, value] if isinstance(value, int) else list(value)\n"
)


@pytest.mark.parametrize("body", PYTHON.values(), ids=PYTHON)
def test_constructors_are_evaluated_as_python_does(body: str) -> None:
    text = one(body, FUNCTIONS)
    found, net = reread(text, "make"), built(text)
    assert found.parameters == {n: tuple(p.shape) for n, p in net.named_parameters()}
    assert found.parameters | found.buffers == shapes(net)


def test_arguments_reach_the_constructor() -> None:
    text = one("self.a = nn.Linear(n, n)", parameters=", n: int = 3")
    assert reread(text, "make").parameters["a.weight"] == (3, 3)
    assert reread(text, "make", {"n": 5}).parameters["a.weight"] == (5, 5)
    with pytest.raises(RereadError, match="no argument `m`"):
        reread(text, "make", {"m": 5})


REFUSED = {
    "an unknown module": ("self.a = nn.Bilinear(1, 2, 3)", "", "line 9: .*Bilinear"),
    "an unknown function": ("self.a = nn.Linear(eval('3'), 1)", "", "line 9: `eval`"),
    "an unknown attribute": ("self.a = nn.Linear(math.tau.real, 1)", "", "line 9"),
    "a name without a definition": ("self.a = nn.Linear(n, 1)", "", "line 9: `n`"),
    "groups that do not divide": ("self.a = nn.Conv2d(3, 4, 1, groups=2)", "", "line 9: groups=2"),
    "no channels": ("self.a = nn.Linear(0, 4)", "", "line 9: in_features is 0"),
    "half a channel": ("self.a = nn.Linear(3 / 2, 4)", "", "line 9: in_features is 1.5"),
    "a missing argument": ("self.a = nn.Linear(3)", "", "line 9: .*out_features"),
    "a name twice": ("self.a = nn.Linear(3, 3)\nself.a = nn.Linear(3, 3)", "", "line 10: `a` is taken"),
    "one module under two names": (
        "self.a = nn.Linear(3, 3)\nself.b = self.a",
        "",
        "line 10: `b` is registered as `a`",
    ),
    "a name of nn.Module": ("self.half = nn.Linear(3, 3)", "", "line 9: `half` is a method"),
    "a tensor as an attribute": ("self.a = torch.zeros(3)", "", "line 9"),
    "a weight that is taken away": ("self.a = nn.Linear(3, 3)\nself.a = None", "", "line 10: `a` is taken away"),
    "a constructor that raises": ("if True:\n    raise ValueError('no')", "", "line 10: .*ValueError"),
    "a division by zero": ("n = 1 // 0", "", "line 9: .*ZeroDivisionError"),
    "endless work": ("for i in range(100000):\n    for j in range(100000):\n        pass", "", "too long"),
    "a long list": ("xs = [0] * 10**9", "", "line 9: a list has more than"),
    "a large number": ("n = 9**9**9**9", "", "line 9: a number is too large"),
    "a try": ("try:\n    pass\nexcept ValueError:\n    pass", "", "line 9: .*Try"),
    "a while": ("while True:\n    pass", "", "line 9: .*While"),
    "a decorated function": (
        "self.a = nn.Linear(f(), 1)",
        "@staticmethod\ndef f():\n    return 3\n",
        "definition of `f` in line",
    ),
    "a shadowed name": ("self.a = nn.Linear(len([1]), 1)", "def len(x):\n    return 3\n", "definition of `len`"),
    "another class": ("self.a = B()", "class B(torch.Tensor):\n    pass\n", "definition of `B` in line 5"),
    "a torch module that is made otherwise": (
        "self.a = B(1, 1)",
        "class B(nn.Linear):\n    def reset_parameters(self):\n        self.more = nn.Linear(1, 1)\n",
        "definition of `B` in line 5",
    ),
    "a torch module that makes another": ("self.a = B(1)", "class B(nn.Sequential):\n    pass\n", "definition of `B`"),
    "a class that registers in its own way": (
        "self.a = B()",
        "class B(nn.Module):\n    def __setattr__(self, name, value):\n        pass\n",
        "definition of `B` in line 5",
    ),
    "a method that changes names": (
        "self.fill()",
        "class B:\n    pass\n",
        "what `fill` of a module does",
    ),
    "a call into itself": ("self.a = f(1)", "def f(n):\n    return f(n)\n", "nested more than"),
    "a condition on a tensor": ("if torch.zeros(3):\n    pass", "", "line 9"),
}


@pytest.mark.parametrize("body, before, message", REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused_with_its_line(body: str, before: str, message: str) -> None:
    with pytest.raises(RereadError, match=message):
        reread(one(body, before), "make")


def test_a_method_may_fill_weights_and_do_nothing_else() -> None:
    fill = "\n    def fill(self) -> None:\n        for m in self.modules():\n            {}\n"
    text = one("self.a = nn.Linear(3, 3)\nself.fill()").replace("\ndef make", fill + "\ndef make")
    assert reread(text.replace("{}", "nn.init.zeros_(m.weight)"), "make").count == 12
    for statement in ("m.weight = None", "m.weight.data = 3", "setattr(m, 'weight', None)", "del m.weight"):
        with pytest.raises(RereadError, match="`fill` does more"):
            reread(text.replace("{}", statement), "make")


def test_a_list_that_a_constructor_changes_is_not_reused() -> None:
    before = (
        "class B(nn.Module):\n    def __init__(self, xs):\n        super().__init__()\n"
        "        xs.append(1)\n        self.a = nn.Linear(len(xs), 1)\n"
    )
    text = one("xs = [1]\nself.a = B(xs)\nself.b = B(xs)", before)
    assert reread(text, "make").parameters == {n: tuple(p.shape) for n, p in built(text).named_parameters()}


# ---- the shipped specs


@pytest.mark.parametrize("path, name", [pytest.param(p, n, id=n) for p, n in every(SPECS)])
def test_every_shipped_file_is_its_graph(path: Path, name: str) -> None:
    module = compiled(path, name)
    found = reread(module.text, name)
    assert compare(module.checked.program, found) == []
    assert found.tensors["param"] == len(found.parameters) and found.tensors["buffer"] == len(found.buffers)
    assert found.count == sum(prod(shape) for shape in found.parameters.values())


MUTATIONS = [
    ("nn.Linear(channels, num_classes)", "nn.Linear(num_classes, channels)", "head.weight is"),
    ("nn.Conv2d(dim, dim, 1)", "nn.Conv2d(dim, dim, 1, bias=False)", "bias is missing"),
    ("self.norm2 = nn.BatchNorm2d(dim)", "self.norm2 = nn.GroupNorm(1, dim)", "running_mean is missing"),
    ("self.conv1 = ", "self.conv_1 = ", "conv1.weight is missing"),
    (
        "self.mlp = MLP(dim, ratio)",
        "self.mlp = MLP(dim, ratio)\n        self.extra = nn.Linear(1, 1)",
        "extra.weight is not in the graph",
    ),
    ("nn.Parameter(torch.full((dim,), 0.01))", "nn.Parameter(torch.full((1, dim), 0.01))", "layer_scale_1 is [1, 32]"),
]


@pytest.mark.parametrize("before, after, message", MUTATIONS, ids=[m[2] for m in MUTATIONS])
def test_a_file_that_differs_from_its_graph_is_told(before: str, after: str, message: str) -> None:
    module = shipped("van_b0")
    assert before in module.text
    differences = compare(module.checked.program, reread(module.text.replace(before, after), "van_b0"))
    assert any(message in line for line in differences), differences


def test_an_order_that_differs_is_told() -> None:
    module = shipped("van_b0")
    lines = module.text.split("\n")
    at = next(i for i, line in enumerate(lines) if "self.norm1 = " in line)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    differences = compare(module.checked.program, reread("\n".join(lines), "van_b0"))
    assert len(differences) == 1 and "order differs" in differences[0]


def test_a_deep_network_takes_few_steps() -> None:
    modules = Modules(shipped("van_b6").text)
    modules.call(modules.names["van_b6"], (), {})
    assert modules.steps < 30_000


def test_reading_again_needs_no_torch() -> None:
    code = "import sys, archc.backend.reread; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# ---- modules that differ in what they only keep


KEEPING = """
class Block(nn.Module):
    def __init__(self, dim: int, rate: float) -> None:
        super().__init__()
        {body}
"""
KEPT = {
    "kept": ("self.rate = rate\n        self.fc = nn.Linear(dim, 2)", 2),
    "under another name": ("self.p = rate\n        self.fc = nn.Linear(dim, 2)", 2),
    "read": ("self.rate = rate\n        self.fc = nn.Linear(dim, 2 + int(8 * rate))", 4),
    "read again": ("self.rate = rate\n        self.fc = nn.Linear(dim, 2 + int(8 * self.rate))", 4),
    "bound again": ("rate = 8 * rate\n        self.rate = rate\n        self.fc = nn.Linear(dim, 2 + int(rate))", 4),
    "an attribute that is read": ("self.p = rate\n        self.fc = nn.Linear(dim, 2 + int(8 * self.p))", 4),
    "decided": ("self.rate = rate\n        if rate:\n            self.fc = nn.Linear(dim, 2)", 4),
}


@pytest.mark.parametrize("how", KEPT)
def test_modules_that_keep_different_numbers_are_evaluated_once(how, monkeypatch):
    """And only those: whatever a constructor reads is read for each."""
    body, runs = KEPT[how]
    text = one(
        "self.blocks = nn.ModuleList(Block(3, r) for r in [0.0, 0.25, 0.5])",
        KEEPING.format(body=body),
    )
    run: list[str] = []
    original = Modules.run
    monkeypatch.setattr(Modules, "run", lambda self, node, *rest: run.append(node.name) or original(self, node, *rest))
    found = reread(text, "make")
    assert run.count("__init__") == runs
    theirs = {name: tuple(t.shape) for name, t in built(text).state_dict().items()}
    assert found.parameters == theirs


def test_each_module_has_the_number_that_it_keeps():
    text = one(
        "self.blocks = nn.ModuleList(Block(3, r) for r in [2, 4])\nself.fc = nn.Linear(1, self.blocks[1].rate)",
        KEEPING.format(body="self.rate = rate"),
    )
    assert reread(text, "make").parameters == {"fc.weight": (4, 1), "fc.bias": (4,)}
