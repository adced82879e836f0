"""What a step prints is made fit to be shown: its standard output and error, tracebacks and other libraries' words too."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from pelagos_contract.text import shown

if TYPE_CHECKING:
    from typing import TextIO

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def guard_output() -> None:
    """Escape all that this process prints from now on, tracebacks and other libraries' words too. Colours are dropped."""
    if not isinstance(sys.stdout, _Shown):
        sys.stdout, sys.stderr = _Shown(sys.stdout), _Shown(sys.stderr)


def shown_output(text: str) -> str:
    """What is to be seen of a program's output: without colours; a progress bar's states are lines of their own."""
    return shown(_COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n"), lines=True)


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
