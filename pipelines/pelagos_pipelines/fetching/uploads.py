"""A file that is sent: in pieces, so that memory holds one of them, and from its beginning with every try."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PIECE = 2**20
"""Bytes that are read at once."""


@dataclass(frozen=True)
class FileBody:
    """The file at ``path``, of ``size`` bytes. ``progress`` is called with how many of them have been sent."""

    path: Path
    size: int
    progress: Callable[[int], None] = lambda done: None

    def pieces(self) -> Iterator[bytes]:
        """All of it. Raises OSError."""
        done = 0
        with self.path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
                done += len(piece)
                self.progress(done)
