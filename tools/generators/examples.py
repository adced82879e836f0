"""The modules of tests/extension_example in the guides for contributors: copied, so that the guides show code that tests run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDES = ("source", "format", "family", "engine")
_BLOCK = re.compile(r"(<!-- begin (\S+): copied by `make generate` -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> dict[str, str]:
    """The guides by their paths, each with the files that it names as they are now."""
    names = [f"docs/adding-a{'n' if what == 'engine' else ''}-{what}.md" for what in GUIDES]
    return {name: _BLOCK.sub(_shown, (ROOT / name).read_text(encoding="utf-8")) for name in names}


def _shown(found: re.Match[str]) -> str:
    text = (ROOT / found[2]).read_text(encoding="utf-8")
    return f"{found[1]}```python\n{text}```\n{found[3]}"
