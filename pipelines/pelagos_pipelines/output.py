"""Makes a step's output safe to display: standard output and error, including tracebacks and messages of libraries."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pelagos_contract.text import shown_output

if TYPE_CHECKING:
    from typing import TextIO


def guard_output() -> None:
    """Escape everything that this process prints from now on, including tracebacks and messages of libraries. Drops colours."""
    if not isinstance(sys.stdout, _Shown):
        sys.stdout, sys.stderr = _Shown(sys.stdout), _Shown(sys.stderr)


class _Shown:
    """A stream that escapes written text and delegates everything else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(shown_output(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
