"""Decodes images in encodings other than JPEG and PNG: TIFF, BMP, WebP and JPEG 2000.

Called by images.py, in a child. Headers are parsed here, so that varieties that OpenCV would read differently from other programs
are refused by name. It may import only numpy and OpenCV, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from pelagos_pipelines.serving import tiff
from pelagos_pipelines.serving.decoding import NAMES, ImageRefusedError, require_pixels
from pelagos_pipelines.serving.tiff import Picture

_JP2, _CODESTREAM = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
_PLAIN, _FIELDS = 0, 3
_ANIMATED = 0x02
_SRGB, _GREY = 16, 17
_COLOURS = {12: "CMYK", 14: "CIE L*a*b*", 18: "YCbCr"}
_MOST_BOXES = 1_000


def decode(content: bytes) -> Picture | None:
    """The picture in the file; None for a file of another kind.

    Raises:
        ImageRefusedError: it is damaged, too large, or of an unsupported variety.
        cv2.error: OpenCV cannot decode it.
    """
    found = next((decoded for is_one, decoded in _KINDS if is_one(content)), None)
    try:
        return None if found is None else found(content)
    except (struct.error, IndexError):
        raise _damaged() from None


def is_animated_png(content: bytes) -> bool:
    """Whether a PNG has several frames, by the chunks before its pixels."""
    at = 8
    for _ in range(_MOST_BOXES):
        head = content[at : at + 8]
        if len(head) < 8 or head[4:] in {b"IDAT", b"IEND"}:
            return False
        if head[4:] == b"acTL":
            return int.from_bytes(content[at + 8 : at + 12], "big") > 1
        at += 12 + int.from_bytes(head[:4], "big")
    return False


def _bmp(content: bytes) -> Picture:
    (size,) = struct.unpack_from("<I", content, 14)
    if size == 12:  # the header of OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        packing = _PLAIN
    else:
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", content, 18)
    if width <= 0 or not height:
        raise _damaged()
    require_pixels(width, abs(height))
    if bits not in {1, 4, 8, 24, 32} or packing != (_FIELDS if bits == 32 and packing else _PLAIN):
        raise ImageRefusedError(
            f"the image is a BMP of {bits} bits a pixel, packed by method {packing}, which is not read; save it with 24 bits and"
            " without compression, or as PNG"
        )
    return _by_opencv(content, width, abs(height))


def _webp(content: bytes) -> Picture:
    (size,) = struct.unpack_from("<I", content, 4)
    if size + 8 > len(content):
        raise _damaged()
    turned, sides = 1, None
    for kind, body in _chunks(content[12 : 8 + size]):
        if kind == b"ANIM" or (kind == b"VP8X" and body[0] & _ANIMATED):
            raise ImageRefusedError(
                "the image is an animated WebP, and one picture is read: save each frame as a file of its own"
            )
        if kind == b"VP8 ":
            wide, high = struct.unpack_from("<HH", body, 6)
            sides = wide & 0x3FFF, high & 0x3FFF
        elif kind == b"VP8L":
            (packed,) = struct.unpack_from("<I", body, 1)
            sides = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        elif kind == b"EXIF":
            turned = tiff.orientation(tiff.first_directory(body.removeprefix(b"Exif\0\0")))
    if sides is None:
        raise _damaged()
    require_pixels(*sides)
    return _by_opencv(content[: 8 + size], *sides, turned)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(content):
        (size,) = struct.unpack_from("<I", content, at + 4)
        if at + 8 + size > len(content):
            raise _damaged()
        yield content[at : at + 4], content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _jp2(content: bytes) -> Picture:
    stream = None
    for kind, body in _boxes(content):
        if kind == b"jp2h":
            for inner, told in _boxes(body):
                if inner == b"pclr":
                    raise _refused("with a palette")
                if (
                    inner == b"colr"
                    and told[0] == 1
                    and (space := int.from_bytes(told[3:7], "big")) not in {_SRGB, _GREY}
                ):
                    raise _refused(f"in {_COLOURS.get(space, f'colours of kind {space}')}")
        elif kind == b"jp2c":
            if stream is not None:
                raise _refused("of several pictures")
            stream = body
    if stream is None:
        raise _damaged()
    return _checked_stream(content, stream)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, count = 0, 0
    while at + 8 <= len(content) and count < _MOST_BOXES:
        (size,), kind, head = struct.unpack_from(">I", content, at), content[at + 4 : at + 8], 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, at + 8)
            head = 16
        end = len(content) if size == 0 else at + size
        if end < at + head or end > len(content):
            raise _damaged()
        yield kind, content[at + head : end]
        at, count = end, count + 1


def _stream(content: bytes) -> Picture:
    if content[40:42] == b"\0\4":
        raise _refused("without a header, of 4 components, of which nothing says what they are")
    return _checked_stream(content, content)


def _checked_stream(content: bytes, stream: bytes) -> Picture:
    if not stream.startswith(_CODESTREAM):
        raise _damaged()
    right, bottom, left, top = struct.unpack_from(">IIII", stream, 8)
    (components,) = struct.unpack_from(">H", stream, 40)
    if right <= left or bottom <= top:
        raise _damaged()
    require_pixels(right - left, bottom - top)
    if components not in {1, 3, 4}:
        raise _refused(f"of {components} components")
    described = {stream[42 + 3 * number : 45 + 3 * number] for number in range(components)}
    depth, across, down = (*described.pop(), 0, 0, 0)[:3]
    if described or (across, down) != (1, 1):
        raise _refused("whose components differ in depth or size")
    if not 7 <= depth <= 15:
        raise _refused(f"of {(depth & 0x7F) + 1} bits a sample{' with a sign' if depth & 0x80 else ''}")
    return _by_opencv(content, right - left, bottom - top)


def _refused(what: str) -> ImageRefusedError:
    return ImageRefusedError(
        f"the image is a JPEG 2000 {what}, which is not read; save it in RGB or grey, with 8 to 16 bits a sample, or as PNG"
    )


def _damaged() -> ImageRefusedError:
    return ImageRefusedError(
        f"the image cannot be decoded: its content is damaged, or ends too early; send a complete {NAMES}"
    )


def _by_opencv(content: bytes, width: int, height: int, orientation: int = 1) -> Picture:
    """Decode as stored, without applying the orientation: versions of OpenCV differ in which kinds they turn."""
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.shape[:2] != (height, width) or found.dtype not in (np.uint8, np.uint16):
        raise _damaged()
    if found.ndim == 2:
        return Picture(found[..., None], orientation)
    return Picture(found[..., :3], orientation, found[..., 3] if found.shape[2] > 3 else None)


_KINDS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Picture]], ...] = (
    (tiff.is_one, tiff.decode),
    (lambda content: content.startswith(b"BM"), _bmp),
    (lambda content: content[:4] == b"RIFF" and content[8:12] == b"WEBP", _webp),
    (lambda content: content.startswith(_JP2), _jp2),
    (lambda content: content.startswith(_CODESTREAM), _stream),
)
