"""Draws the differences between two dataset versions as one picture: some images of each kind, with their changes marked.

Called by comparing.py. Colours are those of Okabe and Ito. Former outlines are dashed, so that colours are not needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias, TypeVar

import cv2
import numpy as np
from PIL import Image, ImageDraw

from pelagos_contract import disk
from pelagos_contract.failures import RefusedError
from pelagos_pipelines.annotations import shapes
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.annotations.shapes import Shape, Sides
from pelagos_pipelines.preparation.differences import Difference, Kind, Mark, Pair, Side
from pelagos_pipelines.preparation.lettering import font, written
from pelagos_pipelines.serving import images
from pelagos_pipelines.serving.decoding import ImageRefusedError
from pelagos_pipelines.storage import StorageError, StorageRefusedError

MOST = 12
"""The most images drawn of each kind; the others are only counted."""
MOST_MARKS = 200
"""The most annotations drawn on an image."""
MOST_PIXELS = 100_000_000
"""The most pixels of an image that is drawn: decoded, each takes three bytes."""
_COLUMNS, _WIDTH, _HEIGHT, _GAP = 4, 300, 225, 16
_CAPTION = 38
_MARGIN, _HEADING = 24, 40
_LEAST = 0.25
"""The smallest fraction of an image's side that is shown around a change."""
_LONGEST = 300
"""Characters of a name; the rest is cut off before it is fitted."""
_AROUND = 1.6
"""The size of the shown region relative to that of the change."""
_WAS, _NOW = "was", "now"
COLOURS = {
    Kind.ADDED: "#009E73",
    Kind.REMOVED: "#D55E00",
    Kind.MOVED: "#0072B2",
    Kind.RELABELLED: "#CC79A7",
    Kind.DESCRIBED: "#E69F00",
}
_INK, _PALE, _GROUND, _EMPTY = "#1A1A1A", "#666666", "#FFFFFF", "#E8E8E8"

Each = TypeVar("Each")
Contents: TypeAlias = Callable[[Side, str], bytes]
"""Returns the content of a version's image by its sha256."""


@dataclass(frozen=True)
class _Tile:
    side: Side
    image: ImageRecord
    captions: tuple[str, str]
    marks: Sequence[Mark] = ()


@dataclass(frozen=True)
class _Section:
    title: str
    count: int
    tiles: Sequence[_Tile] = field(default=())


def draw(found: Difference, contents: Contents, target: Path) -> None:
    """Write the picture, a PNG. An image that cannot be shown becomes a grey area that says why.

    Raises:
        OSError, FullError: it cannot be written; no part of it remains.
    """
    sections = [section for section in _sections(found) if section.count]
    rows = [-(-len(section.tiles) // _COLUMNS) for section in sections]
    width = 2 * _MARGIN + _COLUMNS * _WIDTH + (_COLUMNS - 1) * _GAP
    head = 118
    height = head + sum(_HEADING + count * (_HEIGHT + _CAPTION + _GAP) for count in rows) + _MARGIN
    sheet = Image.new("RGB", (width, height if sections else head + _HEADING), _GROUND)
    pen = ImageDraw.Draw(sheet)
    _head(pen, found, width)
    top = head
    if not sections:
        pen.text((_MARGIN, top), "No image and no annotation differs.", _INK, font(16))
    for section in sections:
        told = f", {len(section.tiles)} of them here" if len(section.tiles) < section.count else ""
        pen.text((_MARGIN, top + 8), f"{section.title}: {section.count}{told}", _INK, font(17))
        top += _HEADING
        for place, tile in enumerate(section.tiles):
            row, column = divmod(place, _COLUMNS)
            corner = _MARGIN + column * (_WIDTH + _GAP), top + row * (_HEIGHT + _CAPTION + _GAP)
            _place(sheet, pen, tile, contents, corner)
        top += -(-len(section.tiles) // _COLUMNS) * (_HEIGHT + _CAPTION + _GAP)
    with disk.written(target):
        sheet.save(target, "PNG")


def _sections(found: Difference) -> Iterator[_Section]:
    # Images with the most changes come first. Of the other kinds, the drawn ones are spread evenly over the list.
    marked = sorted(found.marked, key=lambda pair: (-len(pair.marks), pair.now.path))
    yield _Section("Other annotations", len(marked), [_marked(found, pair) for pair in marked[:MOST]])
    for title, side, some in (("Added images", found.now, found.added), ("Removed images", found.was, found.removed)):
        yield _Section(title, len(some), [_whole(side, image) for image in _spread(some)])
    replaced = [
        _Tile(side, image, (image.path, words))
        for pair in _spread(found.replaced, MOST // 2)
        for side, image, words in ((found.was, pair.was, _WAS), (found.now, pair.now, _NOW))
    ]
    yield _Section("Other pixels below the same name", len(found.replaced), replaced)
    divided = [
        _Tile(found.now, pair.now, (pair.now.path, f"{pair.was.split} → {pair.now.split}"))
        for pair in _spread(found.divided)
    ]
    yield _Section("In another split", len(found.divided), divided)
    named = [_Tile(found.now, pair.now, (pair.now.path, f"was {pair.was.path}")) for pair in _spread(found.renamed)]
    yield _Section("Below another name", len(found.renamed), named)


def _spread(some: Sequence[Each], most: int = MOST) -> Iterator[Each]:
    places = np.linspace(0, len(some) - 1, min(most, len(some))).round().astype(int)
    return (some[place] for place in places)


def _marked(found: Difference, pair: Pair) -> _Tile:
    counts = ", ".join(f"{count} {kind}" for kind, count in pair.counts.items())
    # Annotations of the whole image have no place on it, so their changes go into the caption.
    tags = [f"{was.label} → {now.label}" for _, was, now in pair.marks if was and now and was.kind is shapes.Kind.TAG]
    return _Tile(found.now, pair.now, (pair.now.path, ", ".join(tags) or counts), pair.marks)


def _whole(side: Side, image: ImageRecord) -> _Tile:
    labels = ", ".join(sorted(image.labels)) or "nothing"
    return _Tile(side, image, (image.path, f"{image.split}: {labels}"))


# --- drawing


def _head(pen: ImageDraw.ImageDraw, found: Difference, width: int) -> None:
    pen.text((_MARGIN, 18), "What differs between two versions", _INK, font(22))
    for row, (word, side) in enumerate((("from", found.was), ("to", found.now))):
        told = f"{word}  {side.version[:19]}  {len(side.collection.images)} images"
        pen.text((_MARGIN, 52 + 18 * row), told, _PALE, font(13))
    place = float(_MARGIN)
    for kind, colour in COLOURS.items():
        _line(pen, [(place, 103.0), (place + 26, 103.0)], colour, is_dashed=kind is Kind.REMOVED)
        pen.text((place + 32, 95), kind.value, _INK, font(13))
        place += 50 + font(13).getlength(kind.value)
    pen.text((place + 8, 95), "dashed: as it was", _PALE, font(13))
    pen.line([(_MARGIN, 116), (width - _MARGIN, 116)], _EMPTY, 1)


def _place(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: _Tile, contents: Contents, corner: tuple[int, int]
) -> None:
    left, top = corner
    pen.rectangle((left, top, left + _WIDTH - 1, top + _HEIGHT - 1), _EMPTY)
    try:
        picture = _pictured(tile, contents)
        sheet.paste(picture, (left + (_WIDTH - picture.width) // 2, top + (_HEIGHT - picture.height) // 2))
    except (ImageRefusedError, RefusedError, StorageError, StorageRefusedError, OSError) as error:
        words = error.failure.message if isinstance(error, RefusedError) else str(error)
        pen.text((left + 10, top + _HEIGHT // 2 - 8), _fitting(f"not shown: {words}", 11, _WIDTH - 20), _PALE, font(11))
    for row, (words, colour) in enumerate(zip(tile.captions, (_INK, _PALE), strict=True)):
        pen.text((left, top + _HEIGHT + 4 + 16 * row), _fitting(words, 12, _WIDTH), colour, font(12))


def _pictured(tile: _Tile, contents: Contents) -> Image.Image:
    """The image, or the region of its changes, as large as fits."""
    width, height = tile.image.width or 0, tile.image.height or 0
    if width * height > MOST_PIXELS:
        raise ImageRefusedError(f"{width} x {height} pixels")
    # Decoded in this process: the preparation has decoded the same bytes in a sandboxed child, and their digest was checked.
    pixels = images.decode_known(contents(tile.side, tile.side.digests[tile.image.path]))
    height, width = pixels.shape[:2]
    left, top, right, bottom = _region(tile.marks, width, height)
    scale = min(_WIDTH / (right - left), _HEIGHT / (bottom - top))
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = cv2.resize(pixels[top:bottom, left:right], size, interpolation=method)
    picture = Image.fromarray(np.ascontiguousarray(part[..., ::-1]))
    pen = ImageDraw.Draw(picture)
    for kind, was, now in tile.marks[:MOST_MARKS]:
        for shape, is_dashed in ((was, True), (now, False)):
            if shape is not None:
                for outline in _outlines(shape):
                    _line(pen, [((x - left) * scale, (y - top) * scale) for x, y in outline], COLOURS[kind], is_dashed)
    words = [told for mark in tile.marks[:MOST_MARKS] if (told := _label(mark, (left, top), scale, picture.size))]
    for text, place, kind in words:
        box = pen.textbbox(place, text, font=font(11))
        pen.rectangle((box[0] - 2, box[1] - 1, box[2] + 2, box[3] + 1), COLOURS[kind])
        pen.text(place, text, "white" if kind is not Kind.DESCRIBED else _INK, font(11))
    return picture


def _region(marks: Sequence[Mark], width: int, height: int) -> tuple[int, int, int, int]:
    """The region to show, with all changes and their surroundings: left, top, right and bottom in whole pixels."""
    around = [sides for _, was, now in marks for shape in (was, now) if shape is not None and (sides := shape.sides)]
    if not around:
        return 0, 0, width, height
    wide, high = (max(sides[axis] + sides[axis + 2] for sides in around) for axis in (0, 1))
    left, top = (min(sides[axis] for sides in around) for axis in (0, 1))
    across = max(_AROUND * (wide - left), _LEAST * width)
    down = max(_AROUND * (high - top), _LEAST * height)
    # Extended to the aspect ratio of the place in the picture.
    across, down = max(across, down * _WIDTH / _HEIGHT), max(down, across * _HEIGHT / _WIDTH)
    begin, end = _within(left, wide, across, width)
    upper, lower = _within(top, high, down, height)
    return begin, upper, end, lower


def _within(low: float, high: float, span: float, whole: int) -> tuple[int, int]:
    """The first pixel, and the one after the last, of a span around ``low`` and ``high`` within the image."""
    span = min(max(span, 1.0), whole)
    begin = int(min(max((low + high - span) / 2, 0), whole - span))
    return begin, min(begin + math.ceil(span), whole)


def _outlines(shape: Shape) -> Iterator[Sequence[tuple[float, float]]]:
    """Closed lines around a shape; none for an annotation of the whole image."""
    if shape.rings:
        for ring, _ in shape.outlines:
            points = list(zip(ring[::2], ring[1::2], strict=True))
            yield [*points, points[0]]
    elif shape.kind is shapes.Kind.RECTANGLE and shape.angle:
        corners = shapes.corners_of(shape)
        points = list(zip(corners[::2], corners[1::2], strict=True))
        yield [*points, points[0]]
    elif (sides := shape.sides) is not None:
        yield _corners(sides)


def _corners(sides: Sides) -> Sequence[tuple[float, float]]:
    left, top, width, height = sides
    right, bottom = left + width, top + height
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def _line(
    pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: str, is_dashed: bool = False
) -> None:
    """Draw a line through the points, with a dark border so that it is visible on bright and on dark ground."""
    pieces = list(_dashes(points)) if is_dashed else [points]
    for ink, thickness in ((_INK, 5), (colour, 3)):
        for piece in pieces:
            pen.line(list(piece), ink, thickness)


def _dashes(
    points: Sequence[tuple[float, float]], on: float = 7, off: float = 5
) -> Iterator[Sequence[tuple[float, float]]]:
    for (x, y), (to_x, to_y) in pairwise(points):
        length = math.hypot(to_x - x, to_y - y)
        for step in range(min(int(length / (on + off)) + 1, 2 * _WIDTH)):
            start, end = step * (on + off) / max(length, 1e-9), min((step * (on + off) + on) / max(length, 1e-9), 1.0)
            yield (x + start * (to_x - x), y + start * (to_y - y)), (x + end * (to_x - x), y + end * (to_y - y))


def _label(
    mark: Mark, corner: tuple[int, int], scale: float, size: tuple[int, int]
) -> tuple[str, tuple[float, float], Kind] | None:
    """The text for an annotation, its position above it and within the picture, and its kind; None without sides."""
    kind, was, now = mark
    shape = now or was
    if shape is None or (sides := shape.sides) is None:
        return None
    text = f"{was.label} → {now.label}" if kind is Kind.RELABELLED and was and now else shape.label
    text = _fitting(text, 11, size[0] - 8)
    x, y = (sides[0] - corner[0]) * scale, (sides[1] - corner[1]) * scale - 17
    return text, (min(max(x, 3), max(size[0] - font(11).getlength(text) - 4, 3)), max(y, 2)), kind


def _fitting(text: str, size: int, width: float) -> str:
    text = written(text)[:_LONGEST]
    face = font(size)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(f"…{text}") > width:
        text = text[1:]
    return f"…{text}"
