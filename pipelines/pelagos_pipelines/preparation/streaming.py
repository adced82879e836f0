"""Reads images of any size a band of rows at a time: TIFF and PNG in little memory, others decoded whole.

Called by scanning.py, in a child. PNG is parsed here: zlib decompresses its rows, and OpenCV, with libpng, undoes the filters
between rows on bands that are passed to it as separate pictures. It loads OpenCV.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from pelagos_pipelines.serving import images, tiff
from pelagos_pipelines.serving.decoding import ImageRefusedError
from pelagos_pipelines.serving.tiff import Band

DAMAGED = "the image cannot be decoded: its content is damaged, or ends too early; send a complete PNG"
_PNG = b"\x89PNG\r\n\x1a\n"
_AT_ONCE = 1 << 20
"""About how many bytes of a file, and of rows, are in memory at a time."""
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {_GREY: {1, 2, 4, 8, 16}, _RGB: {8, 16}, _PALETTE: {1, 2, 4, 8}, _GREY_ALPHA: {8, 16}, _RGBA: {8, 16}}
_PIXELS = {1: (8, _GREY), 2: (16, _GREY), 3: (8, _RGB), 4: (8, _RGBA), 6: (16, _RGB), 8: (16, _RGBA)}
"""By bytes per pixel: bits and colour type of a PNG whose filters work in the same way."""
_LARGEST = 1 << 26
"""The most bytes of a chunk other than pixels."""


@dataclass(frozen=True)
class Scan:
    """An image whose ``bands`` are read as the file stores them; each call starts from the first row.

    ``width``, ``height`` and ``channels`` (1 or 3) are those of the bands. ``bits`` per sample are 8 or 16. ``orientation`` is
    EXIF's, and still has to be applied.
    """

    width: int
    height: int
    channels: int
    bits: int
    orientation: int
    bands: Callable[[], Iterator[Band]]
    remarks: tuple[str, ...] = ()


class _File:
    """The bytes of an open file, read when they are sliced."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._size = os.fstat(self._descriptor).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        found = b""
        while len(found) < stop - start:
            more = os.pread(self._descriptor, stop - start - len(found), start + len(found))
            if not more:
                break
            found = found + more if found else more
        return found


def opened(file: BinaryIO) -> Scan:
    """Open the image in a file.

    Raises:
        ImageRefusedError: it is damaged, or of an unsupported kind; also raised while bands are read.
        MemoryError: it does not fit in the child.
    """
    content = _File(file)
    if tiff.is_one(content[:4]):
        found, bands = tiff.streamed(content)
        channels = 3 if found.photometric in tiff.COLOURED else 1
        bits = 16 if found.bits == 16 else 8
        return Scan(found.width, found.height, channels, bits, found.orientation, bands)
    if content[: len(_PNG)] == _PNG and (png := _png(content)) is not None:
        return png
    file.seek(0)
    return _whole(images.decode(file.read(), narrow=True))


def _whole(decoded: images.Decoded) -> Scan:
    stored = decoded.stored
    height, width, channels = stored.shape
    step = max(1, _AT_ONCE // (width * channels))

    def bands() -> Iterator[Band]:
        for top in range(0, height, step):
            opacity = None if decoded.opacity is None else decoded.opacity[top : top + step]
            yield stored[top : top + step], opacity

    return Scan(width, height, channels, 8 * stored.dtype.itemsize, 1, bands, decoded.remarks)


# --- PNG


def _png(content: _File) -> Scan | None:
    """Open a PNG; None for an interlaced one, whose rows are not in order."""
    try:
        width, height, bits, kind, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
        if content[12:16] != b"IHDR" or not (width and height) or bits not in _DEPTHS.get(kind, ()):
            raise ImageRefusedError(DAMAGED)
        if interlaced:
            return None
        before, at = _before_pixels(content)
        palette, table = (np.frombuffer(before.get(name, b""), np.uint8) for name in (b"PLTE", b"tRNS"))
        colours = palette.reshape(-1, 3)
    except (struct.error, ValueError):
        raise ImageRefusedError(DAMAGED) from None
    if kind == _PALETTE and not len(palette):
        raise ImageRefusedError(DAMAGED)
    row = -(-width * _CHANNELS[kind] * bits // 8)
    pixel = max(1, _CHANNELS[kind] * bits // 8)

    def bands() -> Iterator[Band]:
        for rows in _unfiltered(content, at, height, row, pixel):
            yield _meant(rows, width, bits, kind, colours, table if len(table) else None)

    channels = 1 if kind in {_GREY, _GREY_ALPHA} else 3
    orientation = tiff.orientation(tiff.first_directory(before.get(b"eXIf", b"")))
    remarks = (images.ANIMATED,) if b"acTL" in before else ()
    return Scan(width, height, channels, max(bits, 8), orientation, bands, remarks)


def _before_pixels(content: _File) -> tuple[dict[bytes, bytes], int]:
    """The needed chunks before the pixels, and the position of the pixels. Raises struct.error when there are no pixels."""
    found: dict[bytes, bytes] = {}
    at = len(_PNG)
    while True:
        size, name = struct.unpack(">I4s", content[at : at + 8])
        if name == b"IDAT":
            return found, at
        if name in {b"PLTE", b"tRNS", b"eXIf", b"acTL"}:
            found[name] = _chunk(content, at, size)
        at += 12 + size


def _chunk(content: _File, at: int, size: int) -> bytes:
    """The content of a chunk. Raises ImageRefusedError for a damaged one."""
    if size > _LARGEST:
        raise ImageRefusedError(DAMAGED)
    found, stated = content[at + 4 : at + 8 + size], content[at + 8 + size : at + 12 + size]
    if len(stated) < 4 or zlib.crc32(found) != int.from_bytes(stated, "big"):
        raise ImageRefusedError(DAMAGED)
    return found[4:]


def _packed(content: _File, at: int) -> Iterator[bytes]:
    """The compressed pixels, from the first of their chunks on."""
    while True:
        head = content[at : at + 8]
        if head[4:] != b"IDAT":
            return
        size, checked = int.from_bytes(head[:4], "big"), zlib.crc32(b"IDAT")
        for start in range(at + 8, at + 8 + size, _AT_ONCE):
            part = content[start : min(start + _AT_ONCE, at + 8 + size)]
            checked = zlib.crc32(part, checked)
            yield part
        if checked.to_bytes(4, "big") != content[at + 8 + size : at + 12 + size]:
            raise ImageRefusedError(DAMAGED)
        at += 12 + size


def _unfiltered(content: _File, at: int, height: int, row: int, pixel: int) -> Iterator[Any]:
    """Bands of rows with their filters undone, [rows, bytes of a row]."""
    bits, kind = _PIXELS[pixel]
    head = struct.pack(">IIBBBBB", row // pixel, 0, bits, kind, 0, 0, 0)
    inflating = tiff.Inflating(_packed(content, at))
    above: Any = np.zeros(row, np.uint8)
    many = max(1, _AT_ONCE // (row + 1))
    try:
        for top in range(0, height, many):
            rows = min(many, height - top)
            filtered = inflating.read(rows * (row + 1))
            if len(filtered) < rows * (row + 1):
                raise ImageRefusedError(DAMAGED)
            # The band is preceded by the unfiltered row above it, because filters refer back by one row.
            body = zlib.compress(b"\0" + above.tobytes() + filtered, 0)
            parts = ((b"IHDR", head[:4] + struct.pack(">I", rows + 1) + head[8:]), (b"IDAT", body), (b"IEND", b""))
            picture = _PNG + b"".join(map(_written, parts))
            found = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED)
            if found is None or found.shape[:2] != (rows + 1, row // pixel):
                raise ImageRefusedError(DAMAGED)
            if found.ndim == 3:
                found = found[..., [2, 1, 0, 3][: found.shape[2]]]
            plain = np.ascontiguousarray(found, found.dtype.newbyteorder(">")).view(np.uint8).reshape(rows + 1, row)
            above = plain[-1]
            yield plain[1:]
        inflating.read(1)
    except (zlib.error, cv2.error):
        raise ImageRefusedError(DAMAGED) from None
    if not inflating.ended:
        raise ImageRefusedError(DAMAGED)


def _written(part: tuple[bytes, bytes]) -> bytes:
    name, content = part
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _meant(
    rows: npt.NDArray[np.uint8], width: int, bits: int, kind: int, palette: npt.NDArray[np.uint8], table: Any
) -> Band:
    """Colours and opacity of rows of bytes, as OpenCV returns them."""
    if bits < 8:
        each = 8 // bits
        shifts: Any = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
        samples = ((rows[..., None] >> shifts) & ((1 << bits) - 1)).reshape(len(rows), rows.shape[1] * each)[:, :width]
        if kind == _GREY:
            return (samples * np.uint8(255 // ((1 << bits) - 1)))[..., None], None
    else:
        samples = rows if bits == 8 else rows.view(">u2").astype(np.uint16)
    if kind == _PALETTE:
        # As in OpenCV, an index beyond the palette is black, and one beyond the table of transparency opaque.
        colours: Any = np.zeros((256, 3), np.uint8)
        colours[: len(palette)] = palette[:256, ::-1]
        opacity = None
        if table is not None:
            opaque: Any = np.full(256, 255, np.uint8)
            opaque[: len(table)] = table[:256]
            opacity = opaque[samples]
        return colours[samples], opacity
    pixels = samples.reshape(len(rows), width, _CHANNELS[kind])
    colours = pixels[..., :1] if kind in {_GREY, _GREY_ALPHA} else pixels[..., 2::-1]
    return np.ascontiguousarray(colours), pixels[..., -1] if kind in {_GREY_ALPHA, _RGBA} else None
