"""Programs of other projects, which `make test` builds from their released modules (tools/upstream)."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_BUILD = _ROOT / "operator" / "pelagos" / "embedded" / "upstream" / "build.sh"


@functools.cache
def program(name: str) -> Path:
    """The path of the program whose component has this name. Skips the test if it is not built."""
    modules = _ROOT / "tools" / "upstream" / name
    told = subprocess.run([_BUILD, "--where", modules], capture_output=True, text=True, check=True).stdout
    found = Path(told.strip(), name)
    if not found.exists():
        pytest.skip(f"{name} is not built: {_BUILD.relative_to(_ROOT)} {modules.relative_to(_ROOT)} {name}")
    return found
