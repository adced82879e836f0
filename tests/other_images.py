"""Images in other encodings than JPEG and PNG, as programs of the field write them, and ones that were crafted to do harm."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

_LETTERS = {3: "H", 4: "I"}
DRAWN: Any = np.asarray(
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)).resize(
        (60, 44), Image.Resampling.BICUBIC
    )
)
"""An array [44, 60, 3], red first."""
GREY = np.ascontiguousarray(DRAWN[..., 1])
DEEP = GREY.astype(np.uint16) * 16 + 5
"""The grey image as a camera of 12 bits gives it."""


def saved(image: Any, kind: str, **options: Any) -> bytes:
    """Encode with Pillow. ``image`` is an array or an image; ``mode`` converts it first."""
    mode = options.pop("mode", None)
    found = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    (found.convert(mode) if mode else found).save(file, kind, **options)
    return file.getvalue()


def with_alpha(colours: Any = DRAWN, seed: int = 4) -> Any:
    """The colours with a random alpha channel."""
    opacity = np.random.default_rng(seed).integers(0, 256, colours.shape[:2], np.uint8)
    return np.dstack((colours, opacity))


def tiff(
    samples: Any,
    photometric: int = 1,
    *,
    order: str = "<",
    planes: int = 1,
    tile: int = 0,
    deflate: bool = False,
    large: bool = False,
    more: dict[int, list[int]] | None = None,
    pages: int = 1,
) -> bytes:
    """A TIFF written by hand, for what Pillow does not write: big-endian, separate planes, tiles, BigTIFF, other tags."""
    height, width = samples.shape[:2]
    each = samples.reshape(height, width, -1)
    parts = [each[..., number : number + 1] for number in range(each.shape[2])] if planes == 2 else [each]
    chunks = [chunk for part in parts for chunk in _chunks(part, tile)]
    written = [np.ascontiguousarray(chunk, chunk.dtype.newbyteorder(order)).tobytes() for chunk in chunks]
    packed = [zlib.compress(one) for one in written] if deflate else written
    tags = {256: [width], 257: [height], 258: [8 * samples.itemsize] * each.shape[2], 259: [8 if deflate else 1]}
    tags |= {262: [photometric], 277: [each.shape[2]], 284: [planes]}
    start = 16 if large else 8
    places = [start + sum(map(len, packed[:number])) for number in range(len(packed))]
    sizes = [len(one) for one in packed]
    tags |= {322: [tile], 323: [tile], 324: places, 325: sizes} if tile else {273: places, 278: [10], 279: sizes}
    tags |= more or {}
    body = b"".join(packed)
    body += bytes(-len(body) % 8)
    file = body
    for number in range(pages):
        at = start + len(file)
        file += _directory(tags, at, order, large=large, last=number == pages - 1)
    mark = b"II" if order == "<" else b"MM"
    first = start + len(body)
    return (
        mark + (struct.pack(order + "HHHQ", 43, 8, 0, first) if large else struct.pack(order + "HI", 42, first)) + file
    )


def _chunks(part: Any, tile: int) -> list[Any]:
    if not tile:
        return [part[top : top + 10] for top in range(0, part.shape[0], 10)]
    height, width = (-(-side // tile) * tile for side in part.shape[:2])
    whole = np.zeros((height, width, part.shape[2]), part.dtype)
    whole[: part.shape[0], : part.shape[1]] = part
    corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
    return [whole[top : top + tile, left : left + tile] for top, left in corners]


def _directory(tags: dict[int, list[int]], at: int, order: str, *, large: bool, last: bool) -> bytes:
    offset, head = ("Q", "Q") if large else ("I", "H")
    room = struct.calcsize(offset)
    entry = 4 + 2 * room
    end = at + struct.calcsize(head) + entry * len(tags) + room
    entries, beside = b"", b""
    for tag, values in sorted(tags.items()):
        kind = 4 if max(values) > 65535 or tag in {273, 279, 324, 325} else 3
        written = struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)
        if len(written) > room:
            place = struct.pack(order + offset, end + len(beside))
            beside += written + bytes(-len(written) % 8)
        else:
            place = written.ljust(room, b"\0")
        entries += struct.pack(f"{order}HH{offset}", tag, kind, len(values)) + place
    following = 0 if last else end + len(beside)
    return struct.pack(order + head, len(tags)) + entries + struct.pack(order + offset, following) + beside


def turned(kind: str, orientation: int) -> bytes:
    """An image with an EXIF orientation."""
    if kind == "TIFF":
        return saved(DRAWN, kind, tiffinfo={274: orientation})
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(DRAWN, kind, exif=exif, lossless=True)


def _animated(kind: str) -> bytes:
    other = Image.fromarray(np.ascontiguousarray(DRAWN[::-1]))
    return saved(DRAWN, kind, save_all=True, append_images=[other])


def _zeros(width: int, height: int) -> bytes:
    """A TIFF with one strip of zeros, a few kilobytes large."""
    return tiff_of(width, height, zlib.compress(bytes(1000)))


def tiff_of(width: int, height: int, packed: bytes, packing: int = 8) -> bytes:
    """A TIFF that claims this size, with any content in its only strip."""
    tags = {256: [width], 257: [height], 258: [8], 259: [packing], 262: [1], 273: [8], 277: [1], 278: [height]}
    body = packed + bytes(-len(packed) % 8)
    listed = _directory(tags | {279: [len(packed)]}, 8 + len(body), "<", large=False, last=True)
    return b"II" + struct.pack("<HI", 42, 8 + len(body)) + body + listed


@functools.cache
def _webp_of(width: int, height: int) -> bytes:
    whole = bytearray(saved(DRAWN, "WEBP"))
    place = whole.index(b"\x9d\x01\x2a") + 3
    whole[place : place + 4] = struct.pack("<HH", width, height)
    return bytes(whole)


def _jp2_of(width: int, height: int) -> bytes:
    whole = bytearray(saved(DRAWN, "JPEG2000"))
    place = whole.index(b"\xff\x4f\xff\x51") + 8
    whole[place : place + 8] = struct.pack(">II", width, height)
    return bytes(whole)


def _bmp_of(width: int, height: int) -> bytes:
    whole = bytearray(saved(DRAWN, "BMP"))
    whole[18:26] = struct.pack("<ii", width, height)
    return bytes(whole)


BOMBS: dict[str, Callable[[], bytes]] = {
    "a TIFF of 60000 x 60000": lambda: _zeros(60_000, 60_000),
    "a TIFF with tiles of 60000 x 60000": lambda: tiff(
        GREY, tile=16, more={322: [60_000], 323: [60_000], 324: [16], 325: [100]}
    ),
    "a TIFF of LZW that says 30000 x 30000": lambda: tiff_of(30_000, 30_000, bytes(50), 5),
    "a BMP of 60000 x 60000": lambda: _bmp_of(60_000, 60_000),
    "a WebP of 16000 x 16000": lambda: _webp_of(16_000, 16_000),
    "a JPEG 2000 of 60000 x 60000": lambda: _jp2_of(60_000, 60_000),
}
"""Small files whose headers ask for too much; each names the ceiling that it exceeds."""

HOSTILE: dict[str, Callable[[], bytes]] = {
    "a TIFF whose deflate has no end": lambda: tiff_of(5_000, 5_000, zlib.compress(bytes(60_000_000))),
    "a TIFF whose deflate is too short": lambda: _zeros(5_000, 5_000),
    "a TIFF whose LZW is noise": lambda: tiff_of(500, 500, np.random.default_rng(1).bytes(10_000), 5),
    "a TIFF whose directories are a circle": lambda: tiff(GREY)[:4] + struct.pack("<I", 8) + struct.pack("<HI", 0, 8),
    "a TIFF of strips beyond its end": lambda: tiff(GREY, more={273: [2**31] * 5}),
    "a TIFF of too few strips": lambda: tiff(GREY, more={273: [8], 279: [100]}),
    "a TIFF of four million tags": lambda: tiff(GREY)[:8] + b"\xff\xff" * 500,
    "a TIFF without pixels": lambda: tiff(GREY, more={256: [0]}),
    "a BMP that ends after its header": lambda: saved(DRAWN, "BMP")[:60],
    "a WebP of another size inside": lambda: _webp_of(1_000, 1_000),
    "a JPEG 2000 of another size inside": lambda: _jp2_of(5_000, 5_000),
    "a JPEG 2000 whose boxes are a circle": lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\1free" + bytes(8),
}
"""Files that must be refused, and must do no harm."""

REFUSED: dict[str, Callable[[], bytes]] = {
    "pages": lambda: saved(GREY, "TIFF", save_all=True, append_images=[Image.fromarray(GREY)] * 2),
    "animated WebP": lambda: _animated("WEBP"),
    "packed with JPEG": lambda: saved(DRAWN, "TIFF", compression="jpeg"),
    "packed with CCITT": lambda: saved(DRAWN, "TIFF", mode="1", compression="group4"),
    "packed with Zstandard": lambda: saved(DRAWN, "TIFF", compression="zstd"),
    "in CMYK": lambda: saved(DRAWN, "TIFF", mode="CMYK"),
    "in CIE": lambda: saved(DRAWN, "TIFF", mode="LAB"),
    "a sign or a fraction": lambda: saved(DRAWN[..., 0].astype(np.float32), "TIFF"),
    "bits a sample": lambda: tiff(GREY, more={258: [12]}),
    "zero is white": lambda: tiff(DEEP, 0),
    "samples a pixel": lambda: tiff(np.dstack((DRAWN, DRAWN)), 2),
    "JPEG 2000 in CMYK": lambda: saved(DRAWN, "JPEG2000", mode="CMYK"),
    "JPEG 2000 of 2 components": lambda: saved(GREY, "JPEG2000", mode="LA"),
    "BMP of 16 bits": lambda: saved(DRAWN, "BMP")[:28] + b"\x10\0" + saved(DRAWN, "BMP")[30:],
}
"""Whole files of kinds that are not read; the key is part of the error message."""
