"""Copies the modules of tests/extension_example into the contributors' guides, so that these show tested code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDES = ("source", "format", "family", "engine")
_BLOCK = re.compile(r"(<!-- begin (\S+): copied by `make generate` -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> dict[str, str]:
    """The guides by path, each with the current text of the files that it names."""
    names = [f"docs/adding-a{'n' if what == 'engine' else ''}-{what}.md" for what in GUIDES]
    return {name: _BLOCK.sub(_shown, (ROOT / name).read_text(encoding="utf-8")) for name in names}


def _shown(found: re.Match[str]) -> str:
    text = (ROOT / found[2]).read_text(encoding="utf-8")
    return f"{found[1]}```python\n{text}```\n{found[3]}"
