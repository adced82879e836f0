"""Draws a model's findings into images, as its task defines. For ``predict``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from pelagos_contract.answers.drawing import PictureError
from pelagos_contract.answers.pictures import render

_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def check_target(target: Path) -> None:
    """Raise PictureError when no picture can be written to ``target``."""
    if target.suffix.lower() not in _SUFFIXES:
        raise PictureError(f"{target}: the name of the picture must end in {', '.join(_SUFFIXES)}")
    if not target.absolute().parent.is_dir():
        raise PictureError(f"{target}: the folder {target.absolute().parent} does not exist")


def draw(source: Path, prediction: Mapping[str, Any], target: Path) -> None:
    """Write the image with a prediction, which has the JSON shape of the service contract, drawn into it. Raises PictureError."""
    check_target(target)
    try:
        picture = render(opened(source).convert("RGB"), prediction)
        picture.save(target, _SUFFIXES[target.suffix.lower()])
    except OSError as error:
        raise PictureError(f"{target} cannot be written: {error.strerror or error}") from error


def opened(source: Path) -> Image.Image:
    """An image as a model sees it: upright, with 8 bits per channel; a grey one stays grey. Raises OSError."""
    with of_any_size(), Image.open(source) as image:
        # The server rotates images by their EXIF data, so boxes are in pixels of the rotated image.
        return _shown(ImageOps.exif_transpose(image))


@contextmanager
def of_any_size() -> Iterator[None]:
    """Disable Pillow's limit on pixels: callers enforce their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def _shown(image: Image.Image) -> Image.Image:
    """The image with 8 bits of grey, or of red, green and blue.

    For grey images of 16 bits the server shows the model only the bits in use, and so do we.
    """
    if not image.mode.startswith("I;16"):
        return image if image.mode == "L" else image.convert("RGB")
    samples = image.convert("I")
    extrema: Any = samples.getextrema()  # of one band: the smallest and the largest value
    largest = int(extrema[1])
    shift = next(bits for bits in (8, 12, 16) if largest < 1 << bits) - 8
    return samples.point([min(value >> shift, 255) for value in range(1 << 16)], "L")
