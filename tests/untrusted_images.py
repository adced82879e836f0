"""Images that were crafted to harm their decoder, and damaged ones. Each is built once, on demand; at most some hundred kB."""

from __future__ import annotations

import functools
import io
import re
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LONG = 150 * 2**20


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, rows: bytes, between: bytes = b"", bits: int = 8, kind: int = 2) -> bytes:
    """A PNG with ``rows`` as its uncompressed content, and chunks in front of it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return SIGNATURE + header + between + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


@functools.cache
def blank(width: int, height: int, between: bytes = b"") -> bytes:
    """A complete PNG of one bit per pixel: a few kilobytes for any number of pixels."""
    packed = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    content = b"".join([*(packed.compress(row) for _ in range(height)), packed.flush()])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return SIGNATURE + header + between + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def photo(suffix: str = "JPEG", side: tuple[int, int] = (400, 300), **options: object) -> bytes:
    """A picture with structure, encoded."""
    coarse = np.random.default_rng(5).integers(0, 256, (12, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(side, Image.Resampling.BICUBIC).save(file, suffix, **options)
    return file.getvalue()


def resized(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its frame header: it claims pixels that are not there."""
    place = re.search(rb"\xff[\xc0\xc2]\x00.\x08", jpeg, re.S)
    assert place is not None
    return jpeg[: place.end()] + struct.pack(">HH", height, width) + jpeg[place.end() + 4 :]


@functools.cache
def scans(width: int, height: int, times: int) -> bytes:
    """A progressive JPEG whose last scan is repeated: each repetition costs a pass over all blocks."""
    jpeg = resized(photo(progressive=True, side=(64, 64)), width, height)
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * times + b"\xff\xd9"


def after_another_frame(jpeg: bytes) -> bytes:
    """The JPEG behind a frame header that claims 64 x 64 pixels, which header parsers may take for the real one."""
    fake = b"\xff\xc0\x00\x11\x08\x00\x40\x00\x40\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    return jpeg[:2] + fake + jpeg[2:]


@functools.cache
def _packed(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


def inflating(name: bytes, size: int) -> bytes:
    """A text or profile chunk of a PNG that unpacks to ``size`` zeros."""
    head = {b"zTXt": b"c\0\0", b"iCCP": b"icc\0\0", b"iTXt": b"c\0\1\0\0\0"}[name]
    return chunk(name, head + _packed(size))


def animated(frames: int) -> bytes:
    """An animated PNG that announces ``frames`` frames."""
    control = chunk(b"acTL", struct.pack(">II", frames, 0))
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 1, 0, 0))
    return png(8, 8, bytes(8 * 25), control + frame)


def looped_exif() -> bytes:
    """A JPEG whose EXIF directory refers to itself, with a huge count of values."""
    jpeg = photo()
    entries = struct.pack(">HHII", 0x112, 3, 0x7FFFFFFF, 8) + struct.pack(">HHII", 0x8769, 4, 1, 8)
    body = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + entries + struct.pack(">I", 8)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def _cut(name: str) -> bytes:
    jpeg, progressive, whole = photo(quality=95), photo(progressive=True, quality=95), photo("PNG")
    middle = (jpeg.index(b"\xff\xda") + len(jpeg)) // 2
    scans = [place.start() for place in re.finditer(rb"\xff\xda", progressive)]
    half = len(whole) // 2
    return {
        "half a JPEG": jpeg[:middle],
        "half a JPEG with an end marker": jpeg[:middle] + b"\xff\xd9",
        "a JPEG with a hole": jpeg[: middle - 800] + bytes(800) + jpeg[middle:],
        "the first scans of a progressive JPEG": progressive[: scans[2] + 400] + b"\xff\xd9",
        "half a JPEG and zeros": jpeg[:middle] + bytes(len(jpeg) - middle),
        "a progressive JPEG without its last scan": progressive[: scans[-1]] + b"\xff\xd9",
        "a progressive JPEG without its last scan, and its end": progressive[: scans[-1]],
        "a progressive JPEG with a hole between its scans": (
            progressive[: scans[4] - 30] + b"\x01" * 20 + progressive[scans[4] - 10 :]
        ),
        "half a PNG": whole[:half],
        "a PNG without its end": whole[:-12],
        "a PNG with a flipped byte": whole[:half] + bytes([whole[half] ^ 255]) + whole[half + 1 :],
        "a PNG with less content than it says": png(100, 100, bytes(1000)),
    }[name]


DAMAGED: dict[str, Callable[[], bytes]] = {
    name: functools.partial(_cut, name)
    for name in (
        *("half a JPEG", "half a JPEG with an end marker", "half a JPEG and zeros", "a JPEG with a hole"),
        *("the first scans of a progressive JPEG", "a progressive JPEG without its last scan, and its end"),
        *("a progressive JPEG without its last scan", "a progressive JPEG with a hole between its scans"),
        *("half a PNG", "a PNG without its end", "a PNG with a flipped byte"),
        "a PNG with less content than it says",
    )
}
"""Images that lack a part."""

TAILS: dict[str, Callable[[], bytes]] = {
    "padding": lambda: bytes(4096),
    "one byte": lambda: b"\0",
    "notes of a camera": lambda: b"Maker: x\r\nModel: y\r\nDepth: 20 m\r\nStation: 4\r\n" * 9,
    "a preview": lambda: photo(side=(64, 48)),
    "half a preview and padding": lambda: photo(side=(64, 48))[:-300] + bytes(512),
    "another PNG": lambda: photo("PNG", side=(32, 32)),
    "more content of a PNG": lambda: chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b""),
    "a chunk that claims to be long": lambda: b"\x7f\xff\xff\xffIDAT",
    "an announcement of frames": lambda: chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)),
    "a film": lambda: b"\0\0\0\x18ftypmp42" + np.random.default_rng(7).bytes(9000) + b"\xff\xda" + bytes(64),
}
"""Data that cameras and programs append to an image, by its kind."""

BOMBS: dict[str, Callable[[], bytes]] = {
    "a PNG header of 60000 x 60000": lambda: png(60_000, 60_000, b""),
    "a PNG of 100000 x 1000": lambda: blank(100_000, 1_000),
    "a PNG of 8000 x 8000": lambda: blank(8_000, 8_000),
    "a PNG wider than libpng reads": lambda: png(2_000_000, 3, b""),
    "a JPEG that claims 65500 x 65500": lambda: resized(photo(), 65_500, 65_500),
    "a progressive JPEG that claims 65500 x 65500": lambda: resized(photo(progressive=True), 65_500, 65_500),
    "a JPEG of two frames, 64 x 64 and 65500 x 65500": lambda: after_another_frame(resized(photo(), 65_500, 65_500)),
    "a progressive JPEG of 7000 x 7000 with 3000 scans": lambda: scans(7_000, 7_000, 3_000),
}
"""Small files that ask for too much; decoding them with the usual ceilings must be refused."""

ODD: dict[str, Callable[[], bytes]] = {
    "a long comment": lambda: png(8, 8, bytes(8 * 25), inflating(b"zTXt", _LONG)),
    "a long profile": lambda: png(8, 8, bytes(8 * 25), inflating(b"iCCP", _LONG)),
    "a long international comment": lambda: png(8, 8, bytes(8 * 25), inflating(b"iTXt", _LONG)),
    "forty comments of 30 MB": lambda: png(8, 8, bytes(8 * 25), inflating(b"zTXt", 30 * 2**20) * 40),
    "two billion frames": lambda: animated(2**31 - 1),
    "an EXIF directory in a circle": looped_exif,
    "49 megapixels of nothing": lambda: blank(7_000, 7_000),
}
"""Files that may be read or refused, and must do no harm."""
