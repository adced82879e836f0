"""The log of a local pipeline run: plain text, bounded, complete at its end. Used by local_runner alone."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos_contract import disk
from pelagos_contract.text import shown_output

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 4 * 1024 * 1024
"""Bytes. A log that grows beyond is cut to its newer half: how a run ended is worth more than how it began."""
_REMARK = "--- earlier lines were removed\n"


class Log(io.TextIOBase):
    """A text stream into a file that is fit to be shown: no colours, each line of a progress bar on a line of its own."""

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
        """The exception of the last traceback, or else the last line with anything on it; at most 500 characters."""
        return self._exception or self._last_line

    def forget_words(self) -> None:
        """Let ``last_words`` be of what comes from now on."""
        self._last_line = self._exception = ""

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Append; returns the number of characters taken."""
        plain = shown_output(text)
        for line in plain.splitlines():
            self._listen(line)
        data = plain.encode("utf-8", errors="backslashreplace")[-self._limit // 2 :]
        try:
            if self._size + len(data) > self._limit:
                self._drop_older_half()
            self._size += self._file.write(data) or 0
        except OSError as error:
            if error.errno not in disk.FULL:  # a run goes on, and says itself what it has no room for
                raise
        return len(text)

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
            # The lines that follow can be many: an exception's text is as long as its author likes.
            self._exception, self._in_traceback = self._last_line, False

    def _drop_older_half(self) -> None:
        newer = self._path.read_bytes()[-self._limit // 2 :]
        kept = _REMARK.encode() + newer[newer.find(b"\n") + 1 :]
        # In place, so that descriptors that others have to this file stay good; all of them append.
        self._file.truncate(0)
        self._file.write(kept)
        self._size = len(kept)


@contextlib.contextmanager
def capture(path: Path) -> Iterator[Log]:
    """Send what Python code prints, as output or as error, into the log."""
    with Log(path) as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield log
