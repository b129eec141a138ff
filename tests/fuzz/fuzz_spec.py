"""Coverage-guided fuzzing of the compiler with the bytes of a spec. See README.md beside this file."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

with atheris.instrument_imports(include=["archc"]):
    import archc.analysis.claims
    import archc.backend.module
    import archc.cli.generate  # noqa: F401

import mutate
import oracles
import seeds
from findings import collecting


def child(data: bytes, most: int, seed: int) -> bytes:
    """Mostly a mutation of the syntax tree; now and then one of libFuzzer's own."""
    if seed % 8 == 0:
        return atheris.Mutate(data, most)
    text = mutate.mutate(data.decode("utf-8", "replace"), seed, seeds.texts())
    return text.encode("utf-8", "replace")[:most]


def main(way: str, corpus: str, found: str, *options: str) -> None:
    """Fuzz by `bytes` or by `trees`, beginning from all specs at hand, until an option of libFuzzer ends it."""
    seeds.write(Path(corpus))
    mutator = {} if way == "bytes" else {"custom_mutator": child}
    arguments = [sys.argv[0], *options, f"-artifact_prefix={found}/", corpus]
    atheris.Setup(arguments, collecting(oracles.spec, Path(found)), **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
