"""What a step prints is made fit to be shown: its standard output and error, tracebacks and other libraries' words too."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pelagos_contract.text import shown_output

if TYPE_CHECKING:
    from typing import TextIO


def guard_output() -> None:
    """Escape all that this process prints from now on, tracebacks and other libraries' words too. Colours are dropped."""
    if not isinstance(sys.stdout, _Shown):
        sys.stdout, sys.stderr = _Shown(sys.stdout), _Shown(sys.stderr)


class _Shown:
    """A stream that everything else is asked of."""

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
