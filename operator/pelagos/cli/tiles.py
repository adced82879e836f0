"""Large images for ``predict``: cut into the tiles that a model was taught on.

The image is decoded whole, by Pillow, on the machine of whoever asks: 1 byte a pixel of a grey one, else 3. One tile is sent at a
time.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image
from pydantic import ValidationError

from pelagos.engines.triton.package import Cut
from pelagos_contract.tiles import Place


def declared(content: Mapping[str, Any]) -> Cut | None:
    """The tiles that the model of an answer was taught on; None when it was taught on whole images, or says nothing sensible."""
    try:
        found = Cut.model_validate(content["tile"])
    except (KeyError, ValidationError):
        return None
    return found if 2 * found.overlap <= found.size else None


def encoded(image: Image.Image, place: Place) -> bytes:
    """A part of an image as PNG."""
    file = io.BytesIO()
    box = (place.x, place.y, place.x + place.width, place.y + place.height)
    image.crop(box).save(file, "PNG", compress_level=1)
    return file.getvalue()
