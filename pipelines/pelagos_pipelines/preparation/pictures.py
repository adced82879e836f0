"""Writes PNG files from samples that a sandboxed child has decoded. Versions hold these for images in other encodings.

They are encoded here, from a known count of numbers, so that no untrusted bytes reach the decoders of those who use versions.
Called by integrity.py.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

VERSION = f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
"""The encoder's version: another one may give other bytes for the same samples."""
ROWS_HEAD = struct.Struct("<IIII")
"""The head before rows in a pipe: stored width and height, channels per pixel, and the EXIF orientation."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TYPES = {1: 0, 3: 2}
"""PNG's colour types by samples per pixel: grey, and colours."""
_LEVEL = 6
_UP = 2
"""PNG's filter "up": each row is written as its difference from the one above."""
_AT_ONCE = 2**22
"""About how many bytes are compressed at a time."""


def png(samples: Any, width: int, height: int, channels: Any, bits: Any, *, runs: bool = False) -> bytes:
    """The PNG of ``samples``, row by row, with 8 or 16 bits per sample, upper byte first.

    With ``runs``, the compression only searches for runs of equal bytes. For scans, whose background is noisy, that gives smaller
    files in an eighth of the time.

    Raises:
        ValueError: the number of samples does not fit the size.
    """
    known = isinstance(bits, int) and isinstance(channels, int) and bits in {8, 16} and channels in _TYPES
    if not known or len(samples) != width * height * channels * bits // 8:
        raise ValueError("these are not the samples of a picture of that size")
    rows = np.frombuffer(samples, np.uint8).reshape(height, -1)
    packer = zlib.compressobj(_LEVEL, strategy=zlib.Z_RLE if runs else zlib.Z_DEFAULT_STRATEGY)
    pieces = [_SIGNATURE, _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, _TYPES[channels], 0, 0, 0))]
    above = np.zeros((1, rows.shape[1]), np.uint8)
    many = max(1, _AT_ONCE // rows.shape[1])
    for start in range(0, height, many):
        some = rows[start : start + many]
        written = np.full((len(some), 1 + rows.shape[1]), _UP, np.uint8)
        np.subtract(some, np.concatenate((above, some[:-1])), out=written[:, 1:])
        above = some[-1:]
        if packed := packer.compress(written.data):
            pieces.append(_chunk(b"IDAT", packed))
    return b"".join((*pieces, _chunk(b"IDAT", packer.flush()), _chunk(b"IEND", b"")))


def size(content: bytes) -> tuple[int, int]:
    """Width and height, in pixels, of a PNG that was written here."""
    width, height = struct.unpack_from(">II", content, len(_SIGNATURE) + 8)
    return width, height


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
