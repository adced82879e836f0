"""Reads TIFF files as cameras and microscopes write them: one picture, of 1, 8 or 16 bits per sample.

Called in a child: by images.py, and by streaming.py for images that are read a band of rows at a time. The directory is parsed
here, so that unsupported varieties are refused by name. So are pixels without compression or with deflate, because libtiff does
not verify deflate's checksums. LZW and PackBits are left to libtiff by way of OpenCV, which gets only the compressed bytes.
It may import only numpy and OpenCV, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from pelagos_pipelines.serving.decoding import ImageRefusedError, require_pixels

DAMAGED = "the image cannot be decoded: its content is damaged, or ends too early; send a complete TIFF"
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""The letters for struct by TIFF's numbers of types. No other type occurs in the tags that are read here."""
_WIDTH, _HEIGHT, _BITS, _PACKING, _PHOTOMETRIC, _FILL_ORDER, _ORIENTATION = 256, 257, 258, 259, 262, 266, 274
_SAMPLES, _ROWS, _PLANES, _PREDICTOR, _PALETTE, _FORMAT, _SUBFILE = 277, 278, 284, 317, 320, 339, 254
_STRIPS, _STRIP_SIZES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES = 273, 279, 322, 323, 324, 325
_PLAIN, _LZW, _DEFLATE, _OLD_DEFLATE, _PACK_BITS = 1, 5, 8, 32946, 32773
_PACKINGS = {
    2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "JPEG", 7: "JPEG", 34892: "JPEG", 34712: "JPEG 2000", 34925: "LZMA",
    50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL", 34887: "LERC",
}  # fmt: skip
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _INDEXED = 0, 1, 2, 3
_COLOURS = {
    4: "a mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIE L*a*b*",
    9: "CIE L*a*b*",
    10: "CIE L*a*b*",
    32803: "raw data of a camera",
}
_DESCRIPTION, _TEXT, _MOST_LETTERS = 270, 2, 4_096
_STACK = re.compile(rb"ImageJ=[^\n]*\n(?:[^\n]*\n)*?images=(\d{1,9})\b")
"""ImageJ's description of a stack, of which only the first page may have a directory."""
_BIG_END_FIRST = 0
"""A key of ours in directories, which is not a tag: whether the file's numbers are big-endian."""
_REDUCED, _MASK = 1, 4
COLOURED = frozenset({_RGB, _INDEXED})
"""The supported photometric interpretations with colours."""
_MOST_PAGES, _MOST_ENTRIES, _MOST_VALUES = 10_000, 4_096, 4_000_000
_ONE_BIT, _BYTE, _DEEP = 1, 8, 16
_AT_ONCE = 1 << 20
"""About how many bytes of rows are read at a time, if the file allows it."""

Directory = Mapping[int, tuple[int, ...]]


class Content(Protocol):
    """The content of a file: its bytes, or an object that reads the bytes that are sliced."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True)
class _Layout:
    """How the samples of a page are stored: in ``chunks`` (offset, size) of ``rows`` x ``width``.

    For each plane, ``across`` of them are side by side, and ``down`` one below the other.
    """

    chunks: Sequence[tuple[int, int]]
    rows: int
    width: int
    across: int
    down: int
    tiled: bool


def is_one(content: Content) -> bool:
    """Whether the content begins like a TIFF."""
    return content[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


@dataclass(frozen=True)
class Picture:
    """A picture as stored: ``colours`` [height, width, 1 or 3], blue first, of 8 or 16 bits; ``orientation`` is EXIF's.

    ``opacity`` [height, width] has the same depth; None if the file has none.
    """

    colours: npt.NDArray[Any]
    orientation: int = 1
    opacity: npt.NDArray[Any] | None = None


def decode(content: bytes) -> Picture:
    """Decode the only page.

    Raises:
        ImageRefusedError: it is damaged, too large, not the only page, or of an unsupported kind.
    """
    try:
        pages = list(_pages(content))
        if not pages:
            raise ImageRefusedError(DAMAGED)
        _require_single(pages)
        return _picture(content, pages[0])
    except (struct.error, zlib.error, cv2.error, IndexError, OverflowError):
        raise ImageRefusedError(DAMAGED) from None


def orientation(directory: Directory) -> int:
    """The orientation of a picture, 1 to 8 as in EXIF; 1, upright, if it is missing or invalid."""
    found = directory.get(_ORIENTATION, (1,))
    return found[0] if len(found) == 1 and 1 <= found[0] <= 8 else 1


def first_directory(content: Content) -> Directory:
    """The first directory of data in TIFF's form, such as EXIF; empty for damaged data."""
    try:
        return next(_pages(content), {})
    except (struct.error, ImageRefusedError, OverflowError):
        return {}


def _pages(content: Content) -> Iterator[Directory]:
    order = "<" if content[:2] == b"II" else ">"
    large = content[2:4] in {b"+\0", b"\0+"}
    offset = "Q" if large else "I"
    (at,) = _numbers(order + offset, content, 8 if large else 4)
    seen = set[int]()
    while at:
        if at in seen or len(seen) >= _MOST_PAGES:
            raise ImageRefusedError(DAMAGED)
        seen.add(at)
        form = order + ("Q" if large else "H")
        (entries,) = _numbers(form, content, at)
        if entries > _MOST_ENTRIES:
            raise ImageRefusedError(DAMAGED)
        at += struct.calcsize(form)
        yield _directory(content, at, entries, order, large=large)
        (at,) = _numbers(order + offset, content, at + entries * (20 if large else 12))


def _numbers(form: str, content: Content, at: int) -> tuple[Any, ...]:
    return struct.unpack(form, content[at : at + struct.calcsize(form)])


def _directory(content: Content, at: int, entries: int, order: str, *, large: bool) -> Directory:
    offset = "Q" if large else "I"
    room = struct.calcsize(offset)
    found: dict[int, tuple[int, ...]] = {}
    for start in range(at, at + entries * (4 + 2 * room), 4 + 2 * room):
        tag, kind, count = _numbers(f"{order}HH{offset}", content, start)
        if tag == _DESCRIPTION and kind == _TEXT and room < count:
            (place,) = _numbers(order + offset, content, start + 4 + room)
            found[tag] = tuple(content[place : place + min(count, _MOST_LETTERS)])
            continue
        letter = _TYPES.get(kind)
        if letter is None or tag in found or not 0 < count <= _MOST_VALUES:
            continue
        place = start + 4 + room
        if count * struct.calcsize(order + letter) > room:
            (place,) = _numbers(order + offset, content, place)
        if tag in _READ:
            found[tag] = _numbers(f"{order}{count}{letter}", content, place)
    found[_BIG_END_FIRST] = (int(order == ">"),)
    return found


_READ = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _PACKING, _PHOTOMETRIC, _FILL_ORDER, _ORIENTATION, _SAMPLES, _ROWS, _PLANES, _PREDICTOR}
    | {_PALETTE, _FORMAT, _SUBFILE, _STRIPS, _STRIP_SIZES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES}
)


def _require_single(pages: Sequence[Directory]) -> None:
    """Raise ImageRefusedError for several pages. Smaller copies of a picture, and masks, do not count as pages."""
    stack = _STACK.match(bytes(pages[0].get(_DESCRIPTION, ())))
    if stack is not None and int(stack[1]) > 1:
        raise _of_pages(int(stack[1]))
    whole = [page for page in pages if not page.get(_SUBFILE, (0,))[0] & (_REDUCED | _MASK)]
    if len(whole) > 1 or pages[0] not in whole:
        raise _of_pages(len(pages))


def _of_pages(number: int) -> ImageRefusedError:
    return ImageRefusedError(
        f"the image is a TIFF of {number} pages, and one is read: save the page that is meant, or each, as a file of its own"
    )


def _picture(content: bytes, page: Directory) -> Picture:
    require_pixels(_one(page, _WIDTH), _one(page, _HEIGHT))
    scan = _scan(content, page)
    planes = 1 if _one(page, _PLANES, 1) == 1 else scan.samples
    layout = _layout(content, page, scan.width, scan.height, planes)
    parts = [_plane(content, page, layout, plane, scan) for plane in range(planes)]
    stored = parts[0] if planes == 1 else np.concatenate(parts, axis=2)
    colours, opacity = _shown(stored, page, scan)
    return Picture(colours, scan.orientation, opacity)


@dataclass(frozen=True)
class Scan:
    """A picture that is read a band of rows at a time, as stored and without applying its orientation.

    ``samples`` per pixel and ``bits`` per sample are those of the file; ``orientation`` is EXIF's.
    """

    width: int
    height: int
    samples: int
    bits: int
    photometric: int
    orientation: int


Band: TypeAlias = tuple[Any, Any]
"""Some rows: colours [rows, width, 1 or 3], blue first, and opacity [rows, width] of the same depth, or None."""


def streamed(content: Content) -> tuple[Scan, Callable[[], Iterator[Band]]]:
    """The only page, with any number of pixels, and a function that returns its bands from the first row on.

    Memory holds one chunk at a time, or if the chunk is uncompressed or uses deflate, only a few rows of it.

    Raises:
        ImageRefusedError: it is damaged, or of an unsupported kind; also raised while bands are read.
    """
    try:
        pages = list(_pages(content))
        if not pages:
            raise ImageRefusedError(DAMAGED)
        _require_single(pages)
        found = _scan(content, pages[0])
    except (struct.error, IndexError, OverflowError):
        raise ImageRefusedError(DAMAGED) from None
    return found, lambda: _bands(content, pages[0], found)


def _scan(content: Content, page: Directory) -> Scan:
    width, height = _one(page, _WIDTH), _one(page, _HEIGHT)
    if not (width and height):
        raise ImageRefusedError(DAMAGED)
    samples, bits, photometric = _kind(page)
    return Scan(width, height, samples, bits, photometric, orientation(page))


def _bands(content: Content, page: Directory, scan: Scan) -> Iterator[Band]:
    planes = 1 if _one(page, _PLANES, 1) == 1 else scan.samples
    layout = _layout(content, page, scan.width, scan.height, planes)
    try:
        if planes == 1 and not layout.tiled and _one(page, _PACKING, _PLAIN) in {_PLAIN, _DEFLATE, _OLD_DEFLATE}:
            row = _row(layout, scan.samples, scan.bits)
            for plain in _pieces(content, layout, _one(page, _PACKING, _PLAIN), row, scan.height):
                found = _samples(plain, page, (len(plain) // row, scan.width, scan.samples), scan.bits)
                yield _shown(found, page, scan)
            return
        for top in range(0, scan.height, layout.rows):
            rows = min(layout.rows, scan.height - top)
            stored: Any = np.empty((rows, scan.width, scan.samples), np.uint8 if scan.bits <= _BYTE else np.uint16)
            each = scan.samples // planes
            for plane in range(planes):
                target = stored[..., plane * each : (plane + 1) * each]
                _put(content, page, layout, plane * layout.down + top // layout.rows, target, scan.bits)
            yield _shown(stored, page, scan)
    except (struct.error, zlib.error, cv2.error, IndexError, OverflowError):
        raise ImageRefusedError(DAMAGED) from None


def _pieces(content: Content, layout: _Layout, packing: int, row: int, height: int) -> Iterator[bytes]:
    """Blocks of rows of ``row`` bytes, from strips that are uncompressed or use deflate."""
    many = max(1, _AT_ONCE // row)
    for number, (offset, size) in enumerate(layout.chunks):
        rows = min(layout.rows, height - number * layout.rows)
        parts = (content[at : min(at + _AT_ONCE, offset + size)] for at in range(offset, offset + size, _AT_ONCE))
        inflating = Inflating(parts)
        for start in range(0, rows, many):
            at, wanted = offset + start * row, min(many, rows - start) * row
            plain = content[at : min(at + wanted, offset + size)] if packing == _PLAIN else inflating.read(wanted)
            if len(plain) < wanted:
                raise ImageRefusedError(DAMAGED)
            yield plain
        # After the last row, and possibly some rows beyond the picture, comes the checksum, which reveals damage.
        spare = (layout.rows - rows) * row
        if packing != _PLAIN and (len(inflating.read(spare + 1)) > spare or not inflating.ended):
            raise ImageRefusedError(DAMAGED)


class Inflating:
    """Decompresses deflate data on demand; ``packed`` yields the compressed parts in order."""

    def __init__(self, packed: Iterator[bytes]) -> None:
        """Read nothing yet."""
        self._packed = packed
        self._unpacker = zlib.decompressobj()

    @property
    def ended(self) -> bool:
        """Whether the end was reached, with a correct checksum."""
        return self._unpacker.eof

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, or fewer at the end. Raises zlib.error for damaged data."""
        found = bytearray()
        while len(found) < size and not self._unpacker.eof:
            given = self._unpacker.unconsumed_tail or next(self._packed, b"")
            gained = self._unpacker.decompress(given, size - len(found))
            found += gained
            if not given and not gained:
                break
        return bytes(found)


def _shown(stored: npt.NDArray[Any], page: Directory, scan: Scan) -> Band:
    """The colours and opacity that the file's samples mean."""
    if scan.photometric == _INDEXED:
        return _looked_up(stored[..., 0], page), None
    if scan.bits == _ONE_BIT:
        stored = stored * np.uint8(255)
    is_rgb = scan.photometric == _RGB
    colours = np.ascontiguousarray(stored[..., 2::-1] if is_rgb else stored[..., :1])
    if scan.photometric == _WHITE_IS_ZERO:
        colours = 255 - colours
    return colours, stored[..., -1] if scan.samples in {2, 4} else None


def _one(page: Directory, tag: int, default: int = 0) -> int:
    return page.get(tag, (default,))[0]


def _kind(page: Directory) -> tuple[int, int, int]:
    """Samples per pixel, bits per sample, and photometric interpretation. Raises ImageRefusedError for unsupported kinds."""
    packing = _one(page, _PACKING, _PLAIN)
    if packing not in {_PLAIN, _LZW, _DEFLATE, _OLD_DEFLATE, _PACK_BITS}:
        raise _refused(
            f"packed with {_PACKINGS.get(packing, f'method {packing}')}", "without compression, or with deflate or LZW"
        )
    photometric = _one(page, _PHOTOMETRIC, _BLACK_IS_ZERO)
    if photometric not in {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _INDEXED}:
        raise _refused(f"in {_COLOURS.get(photometric, f'colours of kind {photometric}')}", "in RGB or grey")
    formats = set(page.get(_FORMAT, (1,)))
    if formats != {1}:
        raise _refused("of numbers with a sign or a fraction", "with unsigned samples of 8 or 16 bits")
    samples = _one(page, _SAMPLES, 1)
    depths = set(page.get(_BITS, (1,)))
    wanted = (3, 4) if photometric == _RGB else (1,) if photometric == _INDEXED else (1, 2)
    if samples not in wanted:
        raise _refused(f"of {samples} samples a pixel", "in RGB or grey, with or without transparency")
    allowed = {_BYTE} if photometric == _INDEXED else {_ONE_BIT, _BYTE, _DEEP} if samples == 1 else {_BYTE, _DEEP}
    bits = min(depths)
    if len(depths) != 1 or bits not in allowed:
        raise _refused(f"of {' and '.join(map(str, sorted(depths)))} bits a sample", "with 8 or 16")
    if photometric == _WHITE_IS_ZERO and bits == _DEEP:
        raise _refused("of 16 bits in which zero is white", "with zero as black")
    if _one(page, _FILL_ORDER, 1) != 1 or _one(page, _PLANES, 1) not in {1, 2}:
        raise _refused("with its bits in an unusual order", "anew, with common settings")
    predictor = _one(page, _PREDICTOR, 1)
    if predictor not in {1, 2} or (predictor == 2 and bits == _ONE_BIT):
        raise _refused(f"packed with the predictor {predictor}", "with another one, or without")
    return samples, bits, photometric


def _refused(what: str, how: str) -> ImageRefusedError:
    return ImageRefusedError(f"the image is a TIFF {what}, which is not read; save it {how}, or as PNG")


def _layout(content: Content, page: Directory, width: int, height: int, planes: int) -> _Layout:
    tiled = _TILES in page
    rows = _one(page, _TILE_HEIGHT) if tiled else min(_one(page, _ROWS, height) or height, height)
    wide = _one(page, _TILE_WIDTH) if tiled else width
    if not (rows and wide):
        raise ImageRefusedError(DAMAGED)
    if tiled:
        require_pixels(wide, rows)
    across, down = -(-width // wide), -(-height // rows)
    offsets = page.get(_TILES if tiled else _STRIPS, ())
    sizes = page.get(_TILE_SIZES if tiled else _STRIP_SIZES, ())
    if len(offsets) != across * down * planes or len(sizes) != len(offsets):
        raise ImageRefusedError(DAMAGED)
    chunks = list(zip(offsets, sizes, strict=True))
    if any(offset + size > len(content) for offset, size in chunks):
        raise ImageRefusedError(DAMAGED)
    return _Layout(chunks, rows, wide, across, down, tiled)


def _plane(content: bytes, page: Directory, layout: _Layout, plane: int, scan: Scan) -> npt.NDArray[Any]:
    """The samples of one plane [height, width, samples]."""
    samples = scan.samples if _one(page, _PLANES, 1) == 1 else 1
    stored: npt.NDArray[Any] = np.empty(
        (scan.height, scan.width, samples), np.uint8 if scan.bits <= _BYTE else np.uint16
    )
    for down in range(layout.down):
        top = down * layout.rows
        _put(content, page, layout, plane * layout.down + down, stored[top : top + layout.rows], scan.bits)
    return stored


def _put(content: Content, page: Directory, layout: _Layout, down: int, target: npt.NDArray[Any], bits: int) -> None:
    """Decode the strip, or the row of tiles, with the number ``down`` into ``target`` [rows, width, samples]."""
    rows, width, samples = target.shape
    row = _row(layout, samples, bits)
    # Tiles are always complete, even beyond the edge of the picture; the last strip need not be.
    least = layout.rows if layout.tiled else rows
    for across in range(layout.across):
        left = across * layout.width
        offset, size = layout.chunks[down * layout.across + across]
        plain = _unpacked(content[offset : offset + size], _one(page, _PACKING, _PLAIN), row, least, layout.rows)
        found = _samples(plain, page, (least, layout.width, samples), bits)
        target[:, left : left + layout.width] = found[:rows, : width - left]


def _row(layout: _Layout, samples: int, bits: int) -> int:
    """The bytes of a row of a strip or tile."""
    return -(-layout.width * samples * bits // 8)


def _samples(plain: bytes, page: Directory, shape: tuple[int, int, int], bits: int) -> npt.NDArray[Any]:
    """Uncompressed bytes as samples [rows, width, samples]."""
    lines = np.frombuffer(plain, np.uint8).reshape(shape[0], -1)
    if bits == _ONE_BIT:
        lines = np.unpackbits(lines, axis=1)[:, : shape[1] * shape[2]]
    sample = np.dtype(f"{'>' if _one(page, _BIG_END_FIRST) else '<'}u{1 if bits <= _BYTE else 2}")
    found: npt.NDArray[Any] = np.ascontiguousarray(lines).view(sample).reshape(shape)
    if _one(page, _PREDICTOR, 1) == 2:
        found = np.add.accumulate(found, axis=1, dtype=sample.newbyteorder("="))
    return found


def _unpacked(packed: bytes, packing: int, row: int, least: int, most: int) -> bytes:
    """Decompress ``least`` rows of ``row`` bytes. Raises ImageRefusedError for a chunk that has fewer, or is damaged."""
    wanted = least * row
    if packing in {_DEFLATE, _OLD_DEFLATE}:
        unpacker = zlib.decompressobj()
        packed = unpacker.decompress(packed, most * row + 1)
        if not unpacker.eof:
            raise ImageRefusedError(DAMAGED)
    elif packing != _PLAIN:
        return _by_libtiff(packed, packing, row, least)
    if len(packed) < wanted:
        raise ImageRefusedError(DAMAGED)
    return packed[:wanted]


def _by_libtiff(packed: bytes, packing: int, row: int, rows: int) -> bytes:
    """Decompress with libtiff, by wrapping the bytes into a file with one strip of grey samples.

    OpenCV reads samples of 16 bits unchanged, and fails when libtiff complains. With 8 bits it ignores damage, so these are only
    used for the last row if the number of bytes is odd.
    """
    size = rows * row
    whole = (rows, row // 2) if row % 2 == 0 else (rows // 2, row) if rows > 1 else (1, row // 2)
    found = _strip(packed, packing, whole, 16) if min(whole) else b""
    return found if len(found) == size else found + _strip(packed, packing, (rows, row), 8)[len(found) :]


def _strip(packed: bytes, packing: int, shape: tuple[int, int], bits: int) -> bytes:
    rows, width = shape
    entries = ((_WIDTH, width), (_HEIGHT, rows), (_BITS, bits), (_PACKING, packing), (_PHOTOMETRIC, _BLACK_IS_ZERO))
    places = ((_STRIPS, 8), (_SAMPLES, 1), (_ROWS, rows), (_STRIP_SIZES, len(packed)), (_PLANES, 1))
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in (*entries, *places))
    body = packed + bytes(len(packed) % 2)
    directory = struct.pack("<H", len(entries) + len(places)) + listed + bytes(4)
    file = struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + directory
    found = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.shape != shape or 8 * found.dtype.itemsize != bits:
        raise ImageRefusedError(DAMAGED)
    unpacked: bytes = found.tobytes()
    return unpacked


def _looked_up(indices: npt.NDArray[np.uint8], page: Directory) -> npt.NDArray[np.uint8]:
    """The colours of a palette. Its entries have 16 bits in the file, of which the upper 8 are used."""
    entries = page.get(_PALETTE, ())
    if len(entries) != 3 * 256:
        raise ImageRefusedError(DAMAGED)
    table: npt.NDArray[np.uint32] = np.array(entries, np.uint32).reshape(3, 256)
    # Some old programs write 8-bit entries.
    table = table >> np.uint32(8 if table.max() > 255 else 0)
    return table.T[:, ::-1].astype(np.uint8)[indices]
