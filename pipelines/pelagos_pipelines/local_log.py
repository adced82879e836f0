"""The log of a local pipeline run: plain text of bounded size, whose end is always complete. Only used by local_runner."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from pelagos_contract import disk
from pelagos_contract.text import shown_output

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 4 * 1024 * 1024
"""Most bytes. A larger log is cut to its newer half, since the end of a run is more important than its start."""
_REMARK = "--- earlier lines were removed\n"


class Log(io.TextIOBase):
    """A text stream into a displayable file: without colours, and with each state of a progress bar on its own line."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self._file = path.open("ab", buffering=0)
        self._path = path
        self._limit = limit
        self._size = path.stat().st_size
        self._last_line = ""
        self._exception = ""
        self._in_traceback = False

    @property
    def last_words(self) -> str:
        """The exception of the last traceback, else the last non-empty line; at most 500 characters."""
        return self._exception or self._last_line

    def forget_words(self) -> None:
        """Reset ``last_words``, so that only later output counts."""
        self._last_line = self._exception = ""

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, text: str) -> int:
        """Append; returns the number of characters of ``text``."""
        plain = shown_output(text)
        for line in plain.splitlines():
            self._listen(line)
        data = plain.encode("utf-8", errors="backslashreplace")[-self._limit // 2 :]
        try:
            if self._size + len(data) > self._limit:
                self._drop_older_half()
            self._size += self._file.write(data) or 0
        except OSError as error:
            if error.errno not in disk.FULL:  # on a full disk the run continues; its steps report it
                raise
        return len(text)

    @override
    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _listen(self, line: str) -> None:
        if not line.strip():
            return
        self._last_line = line.strip()[:500]
        if line.startswith("Traceback (most recent call last)"):
            self._in_traceback = True
        elif self._in_traceback and not line.startswith(" "):
            # Only its first line: the text of an exception can have any number of lines.
            self._exception, self._in_traceback = self._last_line, False

    def _drop_older_half(self) -> None:
        newer = self._path.read_bytes()[-self._limit // 2 :]
        kept = _REMARK.encode() + newer[newer.find(b"\n") + 1 :]
        # In place, so that other descriptors of this file, all in append mode, stay valid.
        self._file.truncate(0)
        self._file.write(kept)
        self._size = len(kept)


@contextlib.contextmanager
def capture(path: Path) -> Iterator[Log]:
    """Redirect Python's standard output and error to the log."""
    with Log(path) as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield log
