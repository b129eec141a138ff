"""Crashers of a run, one for each place that raised, so that a run need not end at the first."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable
from pathlib import Path


def collecting(judge: Callable[[bytes], object], folder: Path) -> Callable[[bytes], None]:
    """`judge`, whose exceptions become files of `folder`: the input, and the traceback beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()

    def one(data: bytes) -> None:
        try:
            judge(data)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            name = f"{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}"
            if name not in seen:
                seen.add(name)
                digest = hashlib.sha256(data).hexdigest()[:8]
                (folder / f"{name}-{digest}").write_bytes(data)
                (folder / f"{name}-{digest}.txt").write_text("".join(traceback.format_exception(error)))
                print(f"\nfound {name}: {error!r:.200}", flush=True)

    return one
