"""Reads pictures whose pixels are labels. Called in a child of the sandbox.

The number of a pixel is its palette index, its grey level, or, in colour pictures, red + 256 green + 65536 blue.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

# Imported here and not where they are used: what is loaded before a child is forked does not count against its memory limit.
import numpy as np
import orjson
from PIL import Image

from pelagos_pipelines.annotations import drawings, masks
from pelagos_pipelines.annotations.untrusted_input import invalid
from pelagos_pipelines.sandbox import Answer

_STRIP = 256
"""Rows that are processed together."""
MOST_OBJECTS = 2000
"""Most objects of one picture, since each takes a pass over pixels."""


def pixels(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The masks of the requested ``numbers``, as JSON in raw: None for one without a pixel.

    The document has the size, and the count of pixels whose number is neither 0 nor requested. ``coloured``: a picture without
    red, green and blue is refused, since its numbers would mean something else.
    """
    with drawings.refusals():
        found = _numbers(arguments["where"], io.BytesIO(file.read()), coloured=arguments["coloured"])
        asked = arguments["numbers"]
        shapes: list[Any] = []
        for number in asked:
            inside = found != 0 if number == masks.ANY else found == number
            shapes.append(masks.of_array("", inside).coordinates if inside.any() else None)
        others = 0 if masks.ANY in asked else int((~np.isin(found, np.asarray(asked, np.int64)) & (found != 0)).sum())
        return Answer({"width": found.shape[1], "height": found.shape[0], "others": others}, orjson.dumps(shapes))


def objects(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The content of a picture of classes, as JSON in raw: the number of a class and the coordinates of a mask, for each mask.

    ``lengths``: the bytes of that picture, and of a following picture of objects, or 0. With the latter, each object has a mask
    of its class. Its pixels are palette colours where ``colours`` is set. The document has the size, the count of pixels of the
    first picture whose number is not in ``numbers``, and the count of objects with pixels of several classes or of none. Objects
    are distinguished by their numbers; pixels with ``ignored`` numbers belong to none.
    """
    with drawings.refusals():
        where, lengths = arguments["where"], arguments["lengths"]
        ignored = np.asarray(arguments["ignored"], np.uint32)
        parts = [io.BytesIO(file.read(length)) for length in lengths if length]
        classes, *others = (_numbers(where, part, colours=arguments["colours"]) for part in parts)
        known = np.asarray(arguments["numbers"], np.uint32)
        told_of = np.concatenate((known, ignored, np.zeros(1, np.uint32)))
        unknown = sum(int((~np.isin(strip, told_of)).sum()) for strip in _strips(classes))
        told = {"width": classes.shape[1], "height": classes.shape[0], "others": unknown, "mixed": 0}
        drawn: list[Any] = []
        if others and others[0].shape != classes.shape:
            raise invalid(f"{where} has another size than the picture of its objects: export them again")
        if others:
            for number, (top, bottom) in _objects(where, others[0], ignored).items():
                inside = others[0][top:bottom] == number
                shown, counts = np.unique(classes[top:bottom][inside], return_counts=True)
                told["mixed"] += len(shown) > 1 or shown[0] not in known
                if (best := shown[counts.argmax()]) in known:
                    drawn.append((int(best), masks.of_array("", inside, (0, top)).coordinates))
        else:
            drawn += (
                (number, masks.of_array("", inside).coordinates)
                for number in arguments["numbers"]
                if (inside := classes == number).any()
            )
        return Answer(told, orjson.dumps(drawn))


def _strips(numbers: Any) -> Iterator[Any]:
    """The picture in strips, because operations such as sorting would copy it as a whole."""
    return (numbers[top : top + _STRIP] for top in range(0, len(numbers), _STRIP))


def _objects(where: str, numbers: Any, ignored: Any) -> dict[int, tuple[int, int]]:
    """The approximate first and last row of each object, by its number."""
    left = {0, *ignored.tolist()}
    found: dict[int, tuple[int, int]] = {}
    for index, strip in enumerate(_strips(numbers)):
        for number in np.unique(strip).tolist():
            if number not in left:
                found[number] = found.get(number, (index * _STRIP, 0))[0], (index + 1) * _STRIP
        if len(found) > MOST_OBJECTS:
            raise invalid(f"{where} has more than {MOST_OBJECTS} objects, which is too many for one picture: divide it")
    return found


def _numbers(where: str, file: BinaryIO, *, colours: bool = False, coloured: bool = False) -> Any:
    """The number of each pixel: uint32, [height, width]; for a palette its index, or with ``colours`` its colour."""
    try:
        with Image.open(file, formats=["PNG"]) as opened:
            if opened.width * opened.height > masks.MAX_PIXELS // 4:
                raise invalid(f"{where} has more than {masks.MAX_PIXELS // 4} pixels: make it smaller")
            if coloured and opened.mode not in {"RGB", "RGBA"}:
                raise invalid(f"{where} is not a picture of red, green and blue, which encode the numbers of segments")
            if opened.mode in {"1", "L", "I", "I;16"} or (opened.mode == "P" and not colours):
                return np.asarray(opened).astype(np.uint32)
            if opened.mode == "LA":
                return np.asarray(opened.convert("L")).astype(np.uint32)
            found: Any = np.empty((opened.height, opened.width), np.uint32)
            for top in range(0, opened.height, _STRIP):
                strip = opened.crop((0, top, opened.width, min(top + _STRIP, opened.height))).convert("RGB")
                red, green, blue = np.moveaxis(np.asarray(strip).astype(np.uint32), 2, 0)
                found[top : top + _STRIP] = red + 256 * green + 65536 * blue
            return found
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise invalid(f"{where} is not a PNG that can be decoded: export it again") from error
