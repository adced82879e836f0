"""Files as request bodies: read in pieces, so that only one is in memory, and from the beginning for every try."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PIECE = 2**20
"""Bytes per read."""


@dataclass(frozen=True)
class FileBody:
    """The file at ``path``, of ``size`` bytes. ``progress`` is called with the number of bytes that have been sent."""

    path: Path
    size: int
    progress: Callable[[int], None] = lambda done: None

    def pieces(self) -> Iterator[bytes]:
        """The content, piece by piece. Raises OSError."""
        done = 0
        with self.path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
                done += len(piece)
                self.progress(done)
