"""Reads Zstandard files frame by frame within memory bounds. Called by archive_members.py, in a child of the sandbox."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import zstandard
from typing_extensions import override

WINDOW_MEBIBYTES = 128
"""Largest window of a frame in MiB, the default limit of the zstd program."""
BEGINNINGS = (b"\x28\xb5\x2f\xfd", *(bytes([number]) + b"\x2a\x4d\x18" for number in range(0x50, 0x60)))
"""Magic bytes of a frame, and of skippable frames, which parallel compressors put in front."""
_CHUNK = 1024
"""Bytes that are decompressed at once, small because a block of four bytes may expand to 128 KiB."""


class WindowError(ValueError):
    """A frame needs a larger window than is allowed."""


class Frames(io.RawIOBase):
    """The decompressed content of all frames of a file.

    Reading raises WindowError, EOFError for a truncated frame, and ValueError for a damaged one.
    """

    def __init__(self, file: BinaryIO) -> None:
        """``file`` must be positioned at the first frame."""
        self._file = file
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW_MEBIBYTES * 2**20)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._ready = memoryview(b"")

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, target: Any, /) -> int:
        while not self._ready:
            if not self._fill():
                return 0
        size = min(len(target), len(self._ready))
        target[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _fill(self) -> bool:
        """Decompress more; returns whether there was anything left."""
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
        """The bytes that were read beyond the end of the frame."""
        return self._frame.unused_data if self._frame is not None and self._frame.eof else b""
