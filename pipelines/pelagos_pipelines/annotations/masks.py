"""Converts masks between runs of pixels, pictures and other encodings.

Called in children of the sandbox, where files are read, and by writers. Only the part of the image that the mask covers is kept,
so that a small animal in a large image takes little memory.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pelagos_pipelines.annotations.shapes import Kind, Shape

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pelagos_contract.run_lengths import Part

MAX_PIXELS = 2**28
"""Most pixels of a mask: more than any camera has, at one byte of memory each."""
ANY = -1
"""Stands for any pixel number but 0."""
MAX_ENCODED = 64 * 2**20
"""Most characters of a picture encoded as text."""
_AT_ONCE = 2**20
"""Most crossings of rows and sides of a ring that are held at once, which bounds memory."""
_FIRST_SHIFTED = 3
"""Index of the first count that COCO's compressed masks store as a difference."""


def of_array(label: str, inside: Any, corner: tuple[int, int] = (0, 0), **rest: Any) -> Shape:
    """The mask of the non-zero pixels of a two-dimensional array, whose first pixel is at ``corner`` (x, y) of the image.

    Raises ValueError when there is none.
    """
    import numpy as np

    pixels: Any = np.asarray(inside) != 0
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        raise ValueError("a mask has no pixel")
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    part = np.ravel(pixels[top:bottom, left:right])
    ends: Any = np.flatnonzero(np.diff(part)) + 1
    runs = np.diff(np.concatenate(([0], ends, [len(part)]))).tolist()
    if part[0]:
        runs = [0, *runs]
    place = (corner[0] + left, corner[1] + top, right - left, bottom - top)
    return Shape(label, Kind.MASK, tuple(map(float, (*place, *runs))), **rest)


def array_of(shape: Shape) -> npt.NDArray[np.bool_]:
    """The pixels of the part of the image that the mask covers: bool, [height, width]."""
    import numpy as np

    _, _, width, height, *runs = map(int, shape.coordinates)
    values: Any = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(height, width)


def on_image(shape: Shape, width: int, height: int) -> npt.NDArray[np.bool_]:
    """The pixels of a mask on the whole image: bool, [height, width]; parts outside of the image are cut off."""
    import numpy as np

    left, top, wide, high = map(int, shape.coordinates[:4])
    whole: npt.NDArray[np.bool_] = np.zeros((height, width), bool)
    x, y, right, bottom = max(left, 0), max(top, 0), min(left + wide, width), min(top + high, height)
    if right > x and bottom > y:
        whole[y:bottom, x:right] = array_of(shape)[y - top : bottom - top, x - left : right - left]
    return whole


def drawn(shape: Shape, width: int, height: int) -> npt.NDArray[np.bool_]:
    """The pixels whose centre is in a polygon or mask, on an image of that size: bool, [height, width].

    Holes are subtracted by the even-odd rule, whatever their orientation; overlapping rings that are not holes form a union.
    """
    import numpy as np

    whole: npt.NDArray[np.bool_] = np.zeros((height, width), bool)
    left, top, inside = _part(shape, width, height)
    whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return whole


def part_of(shape: Shape, width: int, height: int) -> Part:
    """The same in the part of the image that the shape covers. A shape without any pixel centre gets the pixel at its middle.

    Training and evaluation both use this as ground truth, so every object has at least one pixel.
    """
    import numpy as np

    from pelagos_contract.run_lengths import Part

    found = _part(shape, width, height)
    if found.inside.any():
        return found
    assert shape.sides is not None
    left, top, wide, high = shape.sides
    x, y = min(max(int(left + wide / 2), 0), width - 1), min(max(int(top + high / 2), 0), height - 1)
    return Part(x, y, np.ones((1, 1), bool))


def _part(shape: Shape, width: int, height: int) -> Part:
    import numpy as np

    from pelagos_contract.run_lengths import Part

    assert shape.sides is not None
    x, y, wide, high = shape.sides if shape.box is None else replace(shape, box=None).sides or shape.box
    left, top = min(max(math.floor(x), 0), width), min(max(math.floor(y), 0), height)
    right, bottom = max(min(math.ceil(x + wide), width), left), max(min(math.ceil(y + high), height), top)
    if shape.kind is Kind.MASK:
        own_left, own_top = int(shape.coordinates[0]), int(shape.coordinates[1])
        return Part(left, top, array_of(shape)[top - own_top : bottom - own_top, left - own_left : right - own_left])
    covered: Any = np.zeros((bottom - top, right - left), bool)
    holes: Any = np.zeros_like(covered)
    for ring, is_hole in shape.outlines:
        target = holes if is_hole else covered
        target |= _inside(ring, left, top, target.shape)
    return Part(left, top, covered & ~holes)


def filled(ring: Any, width: int, height: int) -> Part:
    """The pixels whose centre is in a ring (alternating x and y), in the part of the image that it covers."""
    import numpy as np

    from pelagos_contract.run_lengths import Part

    points: Any = np.reshape(np.asarray(ring, float), (-1, 2))
    left, top = np.clip(np.floor(points.min(axis=0)), 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(points.max(axis=0)), (left, top), (width, height)).astype(int).tolist()
    return Part(left, top, _inside(ring, left, top, (bottom - top, right - left)))


def even_and_odd(shape: Shape, width: int, height: int) -> Shape:
    """An equivalent polygon or mask whose pixels follow from its rings by the even-odd rule only.

    For a polygon with overlapping rings that are not holes, this is its mask.
    """
    import numpy as np

    if shape.kind is Kind.MASK or len(shape.rings) == 1:
        return shape
    left, top, inside = _part(shape, width, height)
    odd: Any = np.zeros_like(inside)
    for ring, _ in shape.outlines:
        odd ^= _inside(ring, left, top, inside.shape)
    if (odd == inside).all() or not inside.any():
        return shape
    return of_array(shape.label, inside, (left, top))


def of_outline(shape: Shape, size: tuple[int, int]) -> Shape | None:
    """The shape as a mask on an image of ``size`` (width, height); None when it contains no pixel centre."""
    pixels = drawn(shape, *size)
    extras: dict[str, Any] = {
        "attributes": shape.attributes,
        "annotator": shape.annotator,
        "confidence": shape.confidence,
    }
    return of_array(shape.label, pixels, origin=shape.origin, **extras) if pixels.any() else None


def _inside(ring: Sequence[float], left: int, top: int, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The pixels of a part of an image whose centre is in a ring: between the first and second crossing of their row, and so on.

    ``shape`` is the height and width of the part, whose first pixel is at ``left``, ``top``.
    """
    import numpy as np

    height, width = shape
    xs, ys = np.asarray(ring[::2], float), np.asarray(ring[1::2], float)
    ends_x, ends_y = np.roll(xs, -1), np.roll(ys, -1)
    # The range of rows whose middle each side crosses.
    rows = np.ceil(np.stack((np.minimum(ys, ends_y), np.maximum(ys, ends_y))) - 0.5)
    first, last = np.clip(rows, top, top + height).astype(int)
    crossings: Any = np.zeros((height, width + 1), np.uint8)
    counts = last - first
    for some in np.split(np.arange(len(xs)), np.flatnonzero(np.diff(counts.cumsum() // _AT_ONCE)) + 1):
        side: Any = np.repeat(some, counts[some])
        starts: Any = np.repeat(counts[some].cumsum() - counts[some], counts[some])
        row = first[side] + np.arange(len(side)) - starts
        share = (row + 0.5 - ys[side]) / (ends_y[side] - ys[side])
        columns = np.ceil(xs[side] + share * (ends_x[side] - xs[side]) - 0.5)
        np.add.at(crossings, (row - top, np.clip(columns, left, left + width).astype(int) - left), 1)
    # The sums may overflow uint8, but their parity stays right.
    odd = crossings.cumsum(axis=1, dtype=np.uint8) & 1
    found: npt.NDArray[np.bool_] = odd[:, :-1].astype(bool)
    return found


def rings_of(shape: Shape) -> list[tuple[float, ...]]:
    """The outlines of a mask along its pixel edges, outer rings and holes; pixels that only touch at a corner are separate."""
    import numpy as np

    left, top = shape.coordinates[:2]
    pixels = np.pad(array_of(shape), 1).astype(np.int8)
    # Each edge between a pixel inside and one outside, with the inside to its right.
    down, across = np.diff(pixels, axis=0), np.diff(pixels, axis=1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    edges: tuple[tuple[Any, tuple[int, int], tuple[int, int]], ...] = (
        (down == 1, (0, 0), (1, 0)),
        (down == -1, (1, 0), (0, 0)),
        (across == -1, (0, 0), (0, 1)),
        (across == 1, (0, 1), (0, 0)),
    )
    for where, step, end in edges:
        # In the padded array, the pixel below or to the right of the edge is one further than on the image.
        moved = (-1, 0) if step[0] or end[0] else (0, -1)
        for row, column in np.argwhere(where).tolist():
            x, y = column + moved[0], row + moved[1]
            following.setdefault((x + step[0], y + step[1]), []).append((x + end[0], y + end[1]))
    rings = []
    while following:
        rings.append(_around(following, left, top))
    return rings


def _around(following: dict[tuple[int, int], list[tuple[int, int]]], left: float, top: float) -> tuple[float, ...]:
    """The corners of one ring in image coordinates; its edges are removed from ``following``."""
    first = place = next(iter(following))
    direction = (0, 0)
    corners: list[float] = []
    while True:
        ends = following[place]
        # Where four edges meet, turn right, which separates the pixels on both sides of the corner.
        right = (place[0] - direction[1], place[1] + direction[0])
        onward = right if right in ends else ends[0]
        ends.remove(onward)
        if not ends:
            del following[place]
        turned = (onward[0] - place[0], onward[1] - place[1])
        if turned != direction:
            corners += (left + place[0], top + place[1])
        place, direction = onward, turned
        if place == first:
            return tuple(corners)


def of_picture(label: str, picture: bytes, corner: tuple[int, int] = (0, 0), **rest: Any) -> Shape:
    """The mask of the non-zero pixels of a PNG (non-black ones in colour pictures; alpha is ignored).

    Raises ValueError when it is not a PNG, is too large, or has no such pixel.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(picture), formats=["PNG"]) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError("a mask has more pixels than any camera has")
            pixels = np.asarray(opened.convert("L") if opened.mode not in {"1", "L", "P", "I", "I;16"} else opened)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("a mask is not a PNG") from error
    return of_array(label, pixels, corner, **rest)


def from_base64(text: object) -> bytes:
    """The bytes of a picture encoded as text. Raises ValueError when it is invalid."""
    if not isinstance(text, str) or len(text) > MAX_ENCODED:
        raise ValueError("a mask is not text of an accepted size")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a mask is not encoded as base64") from error


def of_columns(label: str, counts: Sequence[int], size: tuple[int, int], **rest: Any) -> Shape:
    """The mask from COCO's runs down the columns of an image of ``size`` (width, height), outside first.

    Raises ValueError when they do not add up to the image, or the image is too large.
    """
    import numpy as np

    width, height = size
    if width * height > MAX_PIXELS:
        raise ValueError("a mask has more pixels than any camera has")
    if sum(counts) != width * height or min(counts, default=0) < 0:
        raise ValueError(f"a mask has runs of {sum(counts)} pixels, but {width} x {height} are {width * height}")
    values: Any = np.arange(len(counts)) % 2 == 1
    return of_array(label, np.repeat(values, counts).reshape(width, height).T, **rest)


def columns_of(inside: npt.NDArray[Any]) -> list[int]:
    """COCO's runs down the columns of a bool array [height, width], outside first."""
    import numpy as np

    pixels: Any = np.ravel(np.asarray(inside) != 0, order="F")
    ends: Any = np.flatnonzero(np.diff(pixels)) + 1
    runs: list[int] = np.diff(np.concatenate(([0], ends, [len(pixels)]))).tolist()
    return [0, *runs] if len(pixels) and pixels[0] else runs


def of_rows(label: str, runs: Sequence[int], sides: tuple[int, int, int, int], **rest: Any) -> Shape:
    """The mask from CVAT's runs along the rows of a part of the image, outside first.

    ``sides`` are left, top, width and height of the part. Raises ValueError when the runs do not add up to it.
    """
    left, top, width, height = sides
    if width * height > MAX_PIXELS:
        raise ValueError("a mask has more pixels than any camera has")
    return Shape(label, Kind.MASK, tuple(map(float, (left, top, width, height, *runs))), **rest)


def compressed(counts: Sequence[int]) -> str:
    """COCO's compressed form of runs down the columns: 5 bits per character, differences from the fourth run on.

    Source: cocoapi, ``common/maskApi.c``, rleToString.
    """
    text = []
    for number, count in enumerate(counts):
        value = count - counts[number - 2] if number >= _FIRST_SHIFTED else count
        while True:
            bits, value = value & 0x1F, value >> 5
            is_last = value == (-1 if bits & 0x10 else 0)
            text.append(chr((bits if is_last else bits | 0x20) + ord("0")))
            if is_last:
                break
    return "".join(text)
