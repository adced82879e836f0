"""Files that are there completely or not at all. Used for everything that the embedded mode writes and reads again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pelagos.engines.files import disk


def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace the file in one step, durably. Raises OSError, and then leaves what was there before."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with disk.written(Path(name)) as partial:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        partial.replace(path)
