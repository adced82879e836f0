"""Large images for ``predict``: cut into the tiles that a model was trained on.

Pillow decodes the whole image on the user's machine: 1 byte per pixel of a grey one, else 3. Each request sends one tile.
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
    """The tiles that the model of an answer was trained on; None for whole images, or if the answer states nothing valid."""
    try:
        found = Cut.model_validate(content["tile"])
    except (KeyError, ValidationError):
        return None
    return found if 2 * found.overlap <= found.size else None


def encoded(image: Image.Image, place: Place) -> bytes:
    """A part of an image, encoded as PNG."""
    file = io.BytesIO()
    box = (place.x, place.y, place.x + place.width, place.y + place.height)
    image.crop(box).save(file, "PNG", compress_level=1)
    return file.getvalue()
