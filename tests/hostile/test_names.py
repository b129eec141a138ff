"""Names that mean something to Python, torch or the files that archc writes, at every place where a spec has a name.

Each is refused with a code, or the module works as it does with an ordinary name.
"""

from __future__ import annotations

import keyword

import pytest

from archc import driver
from archc.cli.generate import prove
from archc.diagnostics import ArchError
from archc.elaborate.loader import load
from archc.source import Source
from archc.trials import loaded

torch = pytest.importorskip("torch")

SPEC = """fn {fn}(a: int) = a + 1

block {block}(x: [B, C, H, W], {parameter}: int, act: recipe = relu) {{
    {local} = x |> act
    return {local} |> {label}: conv({parameter}, 1)
}}

model {model}({size}: int = 4, depths: list[int] = [1, 2]) {{
    module {module} = conv(3, 1)
    entry {entry}(z: [B, C=3, H=Hz, W=Wz]) {{ return {module}(z) }}
    input {input}: [B, C=3, {axis}, W]
    h = {input}
    widths = [{comprehension} + 1 for {comprehension} in depths]
    {loop}: repeat len(depths) as {turn} {{
        h = h |> {block}: {block}({size} + {fn}({turn}))
    }}
    param {param}: [C=h.C] = sum(widths) / 5
    if {axis} >= 4 {{ y = h * {param} }} else {{ y = h + {param} }}
    output {output} = y
}}

{variant} = {model}()
"""
PLAIN = dict(
    fn="more", block="part", parameter="width", local="t", label="mix", model="whole", size="dim", module="shared",
    entry="template", comprehension="d", input="image", axis="H", loop="blocks", turn="i", param="gain",
    output="logits", variant="net_4",
)  # fmt: skip
PLACES = sorted(PLAIN)
NAMES = """
class None match self super print len int list torch nn F Tensor Any annotations linspace __init__ _ X forward train
parameters weight bias T json init state loss drop Exception
""".split()
REFUSALS = set("E0101 E0107 E0201 E0202 E0206 E0216 E0222 E0228 E0351 E0401 E0402 E0405".split())


def net(name: str | None = None, place: str = "") -> object:
    """The module of the spec, instantiated, with one name exchanged. Raises ArchError where it is refused."""
    names = {**PLAIN, place: name} if place else PLAIN
    spec = driver.Spec(load(Source("names.arch", SPEC.format(**names))), (names["variant"],), "names.arch")
    module = driver.compile_variant(spec, names["variant"])
    prove(module, module.text)
    with loaded(module.text) as written:
        made = [getattr(written, name) for name in written.__all__]
        factories = [one for one in made if not isinstance(one, type)]
        assert len(factories) == 1, written.__all__
        network = factories[0]()
    for parameter in network.parameters():  # by their shapes, for their order may differ
        dice = torch.Generator().manual_seed(parameter.numel())
        parameter.data = torch.randn(parameter.shape, generator=dice)
    return network


@pytest.fixture(scope="module")
def usual():
    torch.manual_seed(1)
    image = torch.randn(2, 3, 5, 6)
    return image, net()(image)


@pytest.mark.parametrize("place", PLACES)
def test_a_name_is_refused_or_harmless(place, usual):
    image, expected = usual
    refused = set()
    for name in NAMES:
        try:
            made = net(name, place)
        except ArchError as error:
            refused.add(name)
            assert {d.code for d in error.diagnostics} <= REFUSALS, (name, error.diagnostics)
            continue
        given = made(image)
        assert torch.equal(given if isinstance(given, torch.Tensor) else next(iter(given)), expected), (name, place)
    assert "X" not in refused, "an ordinary name is not refused"


def test_a_variant_takes_no_name_of_the_standard_library():
    for name in ("json", "queue", "torch", "conftest", "__init__", "__main__", "class", "print"):
        if keyword.iskeyword(name):
            continue
        with pytest.raises(ArchError) as error:
            net(name, "variant")
        assert [d.code for d in error.value.diagnostics] == ["E0228"], name
