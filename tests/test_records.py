"""Data classes that are put off are the same classes, later."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archc.records import dataclass


def point() -> type:
    @dataclass(frozen=True)
    class Point:
        x: int
        y: int = dataclasses.field(default=2, metadata={"unit": "px"})

    return Point


def written(cls: type) -> bool:
    """Whether the methods of a class are there; looking must not write them."""
    return "__repr__" in vars(cls)


def test_methods_are_written_with_the_first_instance():
    cls = point()
    assert not written(cls)
    first = cls(1)
    assert written(cls)
    assert repr(first).endswith("Point(x=1, y=2)")
    assert first == cls(1, 2) != cls(1, 3)
    assert len({first, cls(1), cls(2)}) == 2
    assert dataclasses.replace(first, x=5) == cls(5)
    assert cls.y == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.x = 3
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        cls()


def test_methods_are_written_where_the_fields_are_asked_for():
    cls = point()
    assert dataclasses.is_dataclass(cls)
    assert [(f.name, dict(f.metadata)) for f in dataclasses.fields(cls)] == [("x", {}), ("y", {"unit": "px"})]
    assert written(cls)


@pytest.mark.parametrize("decorator", [dataclass, dataclasses.dataclass], ids=["put off", "at once"])
def test_subclasses_have_the_fields_of_their_bases(decorator):
    base = point()

    @decorator(frozen=True)
    class Solid(base):
        z: int = 3

    assert repr(Solid(1)).endswith("Solid(x=1, y=2, z=3)")
    assert Solid(1) != base(1)


def test_a_subclass_that_is_no_data_class_is_made_as_its_base():
    class Named(point()):
        name = "named"

    assert Named(4).x == 4


def test_classes_without_options_and_with_post_init():
    @dataclass
    class Counter:
        seen: list[int] = dataclasses.field(default_factory=list)

        def __post_init__(self) -> None:
            self.seen.append(0)

    one, other = Counter(), Counter()
    one.seen.append(1)
    assert (one.seen, other.seen) == ([0, 1], [0])


def test_patterns_match_by_position():
    match point()(7):
        case object(x=7, y=y):
            assert y == 2
    cls = point()
    match cls(7):
        case cls(x, y):
            assert (x, y) == (7, 2)


def test_threads_that_begin_at_once_take_turns():
    """In a new process, where nothing has been written yet, switching as often as Python can."""
    script = """
import sys
from concurrent.futures import ThreadPoolExecutor
import archc
sys.setswitchinterval(1e-6)
with ThreadPoolExecutor(4) as pool:
    print(set(pool.map(lambda _: archc.check("van_b0").cost.figures.params, range(4))))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.stdout == "{4105800}\n", done.stderr
