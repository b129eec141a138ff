"""Texts to begin from: every spec that the checkout holds, alone and in its pages."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```arch[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def texts() -> tuple[str, ...]:
    """Every example of the language in the documentation, the tests and the standard library, each once."""
    pages = [ROOT / "README.md", ROOT / "grammar" / "README.md"]
    pages += sorted((ROOT / "grammar" / "errors").glob("*.md")) + sorted((ROOT / "tests" / "cases").glob("*.md"))
    found = [text for page in pages for text in FENCE.findall(page.read_text(encoding="utf-8"))]
    found += [path.read_text(encoding="utf-8") for path in sorted((ROOT / "specs").glob("**/*.arch"))]
    return tuple(dict.fromkeys(found))


def write(folder: Path) -> None:
    """Each text as a file of `folder`, where a fuzzer looks for its corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts()):
        (folder / f"seed-{number:03}.arch").write_text(text, encoding="utf-8")
