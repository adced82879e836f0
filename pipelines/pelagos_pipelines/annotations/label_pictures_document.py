"""Pictures whose pixels say what an image shows: which pixels have which number. Called in a child of the sandbox.

The number of a pixel is its place in the palette, its grey, or of red, green and blue: red + 256 green + 65536 blue.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, BinaryIO

import orjson

from pelagos_pipelines.annotations import drawings, masks
from pelagos_pipelines.annotations.untrusted_input import invalid
from pelagos_pipelines.sandbox import Answer

ANY = -1
"""Stands for every number but 0."""
MOST_OBJECTS = 2000
"""Of one picture: each of them takes a look at all pixels."""


def pixels(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The masks of the ``numbers`` that are asked for, as JSON in raw: None for one without a pixel.

    The document has the size, and how many pixels have a number that is not 0 and that nobody asked for.
    """
    import numpy as np

    with drawings.refusals():
        found = _numbers(arguments["where"], io.BytesIO(file.read()))
        asked = arguments["numbers"]
        shapes: list[Any] = []
        for number in asked:
            inside = found != 0 if number == ANY else found == number
            shapes.append(masks.of_array("", inside).coordinates if inside.any() else None)
        others = 0 if ANY in asked else int((~np.isin(found, np.asarray(asked, np.int64)) & (found != 0)).sum())
        return Answer({"width": found.shape[1], "height": found.shape[0], "others": others}, orjson.dumps(shapes))


def objects(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """What a picture of classes shows, as JSON in raw: the number of a class and the coordinates of a mask, for each mask.

    ``lengths``: of that picture, and of one of objects that follows it, or 0; with it each object has a mask, of its class. Its
    pixels have the colours of a palette where ``colours`` is set. The document has the size, how many pixels of the first one
    have a number that is not among ``numbers``, and how many objects have pixels of several classes, or of none. Objects are told
    apart by their numbers; ``ignored`` are numbers of pixels that belong to none.
    """
    import numpy as np

    with drawings.refusals():
        where, lengths = arguments["where"], arguments["lengths"]
        ignored = np.asarray(arguments["ignored"], np.uint32)
        parts = [io.BytesIO(file.read(length)) for length in lengths if length]
        classes, *others = (_numbers(where, part, colours=arguments["colours"]) for part in parts)
        known = np.asarray(arguments["numbers"], np.uint32)
        unknown = int((~np.isin(classes, known) & ~np.isin(classes, ignored) & (classes != 0)).sum())
        told = {"width": classes.shape[1], "height": classes.shape[0], "others": unknown, "mixed": 0}
        found: list[Any] = []
        if not others:
            found = [(number, classes == number) for number in arguments["numbers"]]
        elif others[0].shape != classes.shape:
            raise invalid(f"{where} has another size than the picture of its objects: export them again")
        else:
            for number in _objects(where, others[0], ignored):
                inside = others[0] == number
                shown, counts = np.unique(classes[inside], return_counts=True)
                if len(shown) > 1 or shown[0] not in known:
                    told["mixed"] += 1
                if (best := shown[counts.argmax()]) in known:
                    found.append((int(best), inside))
        drawn = [(number, masks.of_array("", inside).coordinates) for number, inside in found if inside.any()]
        return Answer(told, orjson.dumps(drawn))


def _objects(where: str, numbers: Any, ignored: Any) -> list[int]:
    import numpy as np

    found: list[int] = np.setdiff1d(np.unique(numbers), np.append(ignored, 0)).tolist()
    if len(found) > MOST_OBJECTS:
        raise invalid(f"{where} has {len(found)} objects; at most {MOST_OBJECTS} are read of one picture: divide it")
    return found


def _numbers(where: str, file: BinaryIO, *, colours: bool = False) -> Any:
    """The number of each pixel: uint32, [height, width]; of a palette its place there, or with ``colours`` its colour."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(file, formats=["PNG"]) as opened:
            if opened.width * opened.height > masks.MAX_PIXELS // 4:
                raise invalid(f"{where} has more than {masks.MAX_PIXELS // 4} pixels: make it smaller")
            if opened.mode in {"1", "L", "I", "I;16"} or (opened.mode == "P" and not colours):
                return np.asarray(opened).astype(np.uint32)
            if opened.mode == "LA":
                return np.asarray(opened.convert("L")).astype(np.uint32)
            # Four bytes of each pixel are a number already, of which the last one says nothing.
            four: Any = np.asarray(opened.convert("RGB").convert("RGBX"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise invalid(f"{where} is no PNG that can be decoded: export it again") from error
    return four.view("<u4")[..., 0] & 0xFFFFFF
