"""Strangers' text made fit to be shown: one place for all that the data plane prints, draws and sends to MLflow.

Names of files and classes come from whoever supplied data. Used where output leaves us (a step's standard output and error, logs,
figures, the tracker), so that no place that makes a message has to think of it. The control plane has the same rules.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO

_HIDDEN = (
    "\x00-\x1f\x7f-\x9f"  # C0 and C1: a terminal obeys them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they turn the direction of what stands beside them
    "\u2028\u2029"  # line separators
    "\u180e\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # not to be seen
    "\ud800-\udfff"  # half of a character, which no encoding knows: file names that are not UTF-8
)
_ONE_LINE = re.compile(f"[{_HIDDEN}]")
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LINES = re.compile(f"(?![\n\t])[{_HIDDEN}]")


def shown(text: str, *, lines: bool = False) -> str:
    r"""The text with every character that shows as something else written as \uXXXX, as JSON has it.

    ``lines``: line feeds and tabs stay.
    """
    return (_LINES if lines else _ONE_LINE).sub(_escaped, text)


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


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))
