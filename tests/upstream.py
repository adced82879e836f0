"""Programs of other projects, which `make test` builds from their released modules (tools/upstream.sh)."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[1] / "tools" / "upstream.sh"


@functools.cache
def program(name: str) -> Path:
    """Where the program is. Skips the test where it has not been built."""
    told = subprocess.run([_SCRIPT, "--path", name], capture_output=True, text=True, check=True).stdout
    found = Path(told.strip())
    if not found.exists():
        pytest.skip(f"{name} is not built: tools/upstream.sh {name}")
    return found
