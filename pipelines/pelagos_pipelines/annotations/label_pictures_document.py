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


def pixels(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The masks of the ``numbers`` that are asked for, as JSON in raw: None for one without a pixel.

    The document has the size, and how many pixels have a number that is not 0 and that nobody asked for.
    """
    import numpy as np

    with drawings.refusals():
        found = _numbers(arguments["where"], file)
        asked = arguments["numbers"]
        shapes: list[Any] = []
        for number in asked:
            inside = found != 0 if number == ANY else found == number
            shapes.append(masks.of_array("", inside).coordinates if inside.any() else None)
        others = 0 if ANY in asked else int((~np.isin(found, np.asarray(asked, np.int64)) & (found != 0)).sum())
        return Answer({"width": found.shape[1], "height": found.shape[0], "others": others}, orjson.dumps(shapes))


def _numbers(where: str, file: BinaryIO) -> Any:
    """The number of each pixel: uint32, [height, width]."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(file.read()), formats=["PNG"]) as opened:
            if opened.width * opened.height > masks.MAX_PIXELS // 8:
                raise invalid(f"{where} has more than {masks.MAX_PIXELS // 8} pixels: make it smaller")
            if opened.mode in {"1", "L", "P", "I", "I;16"}:
                return np.asarray(opened).astype(np.uint32)
            if opened.mode == "LA":
                return np.asarray(opened.convert("L")).astype(np.uint32)
            colours: Any = np.asarray(opened.convert("RGB")).astype(np.uint32)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise invalid(f"{where} is no PNG that can be decoded: export it again") from error
    return colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
