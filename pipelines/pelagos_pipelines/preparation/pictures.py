"""PNG files made of the samples that a child of the sandbox has decoded: what versions hold of images in other encodings.

Made here, of numbers of a known count, so that nothing a stranger wrote reaches the decoders of those who use versions. Called by
integrity.py.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

VERSION = f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
"""By what: the same samples give the same bytes with it, and may give others with another one."""
ROWS_HEAD = struct.Struct("<IIII")
"""Before rows that come through a pipe: width and height as they come, channels of a pixel, and the orientation, as in EXIF."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TYPES = {1: 0, 3: 2}
"""By samples of a pixel, how PNG calls it: grey, and colours."""
_LEVEL = 6
_UP = 2
"""Each row is written as its difference to the one above."""
_AT_ONCE = 2**22
"""Bytes that are packed in one go."""


def png(samples: Any, width: int, height: int, channels: Any, bits: Any, *, runs: bool = False) -> bytes:
    """The PNG of the bytes ``samples``, row by row, of 8 or 16 bits a sample, the upper byte first.

    With ``runs`` nothing but runs of equal bytes is looked for: of scans, whose background has noise, that makes smaller files
    in an eighth of the time.

    Raises:
        ValueError: there are more or fewer than a picture of that size has.
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
        if packed := packer.compress(written):
            pieces.append(_chunk(b"IDAT", packed))
    return b"".join((*pieces, _chunk(b"IDAT", packer.flush()), _chunk(b"IEND", b"")))


def size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG of ours, in pixels."""
    width, height = struct.unpack_from(">II", content, len(_SIGNATURE) + 8)
    return width, height


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
