"""Files packed with Zstandard, read frame after frame, within bounds. Called by archive_members.py, in a child of the sandbox."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import zstandard

WINDOW_MEBIBYTES = 128
"""MiB that a frame may refer back to, as many as its own program allows."""
BEGINNINGS = (b"\x28\xb5\x2f\xfd", *(bytes([number]) + b"\x2a\x4d\x18" for number in range(0x50, 0x60)))
"""Of a frame, and of those to pass over, which programs that pack in parallel put in front."""
_CHUNK = 1024
"""Bytes that are unpacked in one go; a block of four bytes may hold 128 KiB."""


class WindowError(ValueError):
    """A frame refers back further than is allowed."""


class Frames(io.RawIOBase):
    """What all frames of a file hold.

    Reading raises WindowError, EOFError for a frame that does not end, and ValueError for one that is damaged.
    """

    def __init__(self, file: BinaryIO) -> None:
        """``file`` stands at the first frame."""
        self._file = file
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW_MEBIBYTES * 2**20)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """As files say it."""
        return True

    def readinto(self, target: Any, /) -> int:
        """As files do it."""
        while not self._ready:
            if not self._fill():
                return 0
        size = min(len(target), len(self._ready))
        target[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _fill(self) -> bool:
        """Unpack some more; whether there was anything left to unpack."""
        packed = self._left() or self._file.read(_CHUNK)
        if not packed:
            if self._frame is not None and not self._frame.eof:
                raise EOFError("a frame does not end")
            return False
        if self._frame is None or self._frame.eof:
            self._frame = self._unpacker.decompressobj()
        try:
            self._ready = memoryview(self._frame.decompress(packed))
        except zstandard.ZstdError as error:
            if "too much memory" in str(error):
                raise WindowError(str(error)) from error
            raise ValueError(str(error)) from error
        return True

    def _left(self) -> bytes:
        """What was read beyond the end of the frame."""
        return self._frame.unused_data if self._frame is not None and self._frame.eof else b""
