"""Random whole specs: what archc says of a network, and what it writes, is what the spec's author means.

`ARCHC_RANDOM_SPECS=3000` tries so many specs, from a new seed each time; they shrink where they fail.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from archc.ops.table import ALL
from archc.resources import folder
from archc.trials import loaded, make, random_inputs
from archc.where.paths import PATHS
from archc.where.regions import REGIONS
from whole_specs.author import Diverged, Unfit
from whole_specs.checks import build, check
from whole_specs.models import Spec, write_spec
from whole_specs.statements import EVERYTHING, STATEMENTS

MANY = int(os.environ.get("ARCHC_RANDOM_SPECS", "0"))
torch.set_num_threads(1)


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """A spec whose first choices are the simplest ones."""
    try:
        return write_spec(lambda n: draw(st.integers(0, n - 1)))
    except (Unfit, Diverged):
        reject()


@settings(
    max_examples=MANY or 200,
    derandomize=not MANY,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
    report_multiple_bugs=False,
)
@given(specs())
def test_a_spec_means_what_its_author_means(spec: Spec) -> None:
    check(spec)


# ---- one spec for each construct

WORDS = sorted([*EVERYTHING, *STATEMENTS])


def seeded(seed: int | str, must: str | None = None) -> Spec:
    """A spec that does not depend on hypothesis: mostly simple choices."""
    for turn in range(200):
        source = random.Random(f"{seed} {turn}")
        try:
            return write_spec(lambda n, r=source: r.randrange(n) if r.random() < 0.6 else 0, must)
        except (Unfit, Diverged):
            continue
    raise AssertionError(f"no spec with {must} can be written")


@pytest.mark.parametrize("word", WORDS)
def test_a_spec_with(word: str) -> None:
    check(seeded(word, word))


def test_every_construct_is_written() -> None:
    """Whatever is added to the language needs a writer here."""
    components = {
        f"std.{path.stem}.{line.split()[1].split('(')[0]}"
        for path in folder("specs").joinpath("std").glob("*.arch")
        for line in path.read_text().splitlines()
        if line.split()[:1] in (["block"], ["mixer"])
    }
    assert set(EVERYTHING) == {*ALL, *components}
    found: Counter[str] = Counter()
    for seed in range(1200):
        found.update(seeded(seed, WORDS[seed % len(WORDS)]).used)
    operators = {"union", "difference", "product", "restricted", "several", "reverse"}
    wanted = {*ALL, *components, *REGIONS, *PATHS, *operators, *STATEMENTS}
    assert wanted <= set(found), sorted(wanted - set(found))


# ---- torch's compilers, and other runs of Python


@pytest.mark.parametrize("seed", range(6))
def test_compiled_and_exported(seed: int) -> None:
    """One graph, with the same outputs."""
    spec = seeded(f"compiled {seed}")
    built = check(spec, gradients=False, runs=1)[0]
    with loaded(built.text) as module, torch.no_grad():
        net = make(module, built.program)
        inputs = random_inputs({i.name: i.value for i in built.program.inputs}, built.ran[0], built.program.root)
        given = tuple(inputs.values())
        torch._dynamo.reset()
        wanted = _tensors(net(*given))
        graph = torch.compile(net, backend="aot_eager", fullgraph=True)
        exported = torch.export.export(net, given).module()
        for found in (_tensors(graph(*given)), _tensors(exported(*given))):
            for a, b in zip(found, wanted, strict=True):
                torch.testing.assert_close(a, b)


def _tensors(value: object) -> tuple[torch.Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)  # type: ignore[return-value]


def test_another_run_of_python_writes_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the order of sets and dicts."""
    paths = []
    for seed in range(25):
        spec = seeded(f"again {seed}")
        path = tmp_path / f"s{seed}.arch"
        path.write_text(spec.text)
        path.with_suffix(".py").write_text(build(spec.text, "net_1")[2])
        paths.append(path)
    script = (
        "import sys, pathlib\n"
        "from whole_specs.checks import build\n"
        "for path in map(pathlib.Path, sys.argv[1:]):\n"
        "    text = build(path.read_text(), 'net_1')[2]\n"
        "    assert text == path.with_suffix('.py').read_text(), path\n"
    )
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(map(str, (tests.parent, tests)))}
    subprocess.run([sys.executable, "-c", script, *map(str, paths)], check=True, env=environment, timeout=120)
