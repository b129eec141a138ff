"""Coverage-guided fuzzing of the readers of checkpoints. See README.md beside this file.

The first byte chooses the form: a safetensors file as it is, one whose header is given and whose length is made to
fit, an archive of torch as it is, or one that holds the rest as its pickle.
"""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import torch  # not instrumented: it is not what is tested

with atheris.instrument_imports(include=["archc", "safetensors.torch", "torch._weights_only_unpickler"]):
    import archc.weights.checkpoint  # noqa: F401

import oracles
from findings import collecting

PLACE = Path(tempfile.mkdtemp(prefix="archc-fuzz-")) / "checkpoint"


def packed(data: bytes) -> bytes:
    kind, rest = data[:1], data[1:]
    if kind == b"h":
        return len(rest).to_bytes(8, "little") + rest + bytes(256)
    if kind == b"p":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", rest)
            archive.writestr("archive/byteorder", "little")
            archive.writestr("archive/version", "3\n")
            for number in range(3):
                archive.writestr(f"archive/data/{number}", bytes(64))
        return file.getvalue()
    return rest


def one(data: bytes) -> None:
    PLACE.write_bytes(packed(data))
    oracles.checkpoint(PLACE)


def seed(folder: Path) -> None:
    """A file of each form in `folder`."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"a.weight": torch.ones(2, 3), "module.b": torch.zeros(4, dtype=torch.int64)}
    stored = save(tensors)
    header = stored[8 : 8 + int.from_bytes(stored[:8], "little")]
    (folder / "safetensors").write_bytes(b"s" + stored)
    (folder / "header").write_bytes(b"h" + header)
    for name, content in (("plain", tensors), ("wrapped", {"state_dict": tensors, "epoch": 3}), ("none", [1, "a"])):
        for new in (True, False):
            file = io.BytesIO()
            torch.save(content, file, _use_new_zipfile_serialization=new)
            (folder / f"torch-{name}-{new}").write_bytes(b"t" + file.getvalue())
            if new:
                with zipfile.ZipFile(file) as archive:
                    pickle = archive.read(next(n for n in archive.namelist() if n.endswith(".pkl")))
                (folder / f"pickle-{name}").write_bytes(b"p" + pickle)


def main(corpus: str, found: str, *options: str) -> None:
    """Fuzz until an option of libFuzzer ends it."""
    seed(Path(corpus))
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={found}/", corpus], collecting(one, Path(found)))
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
