"""Figures of a folder as parts of a page: as large as they are read, and together within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

LONGEST = 1500
"""Pixels of the longer side in a page."""
BUDGET = 3_000_000
"""Bytes of all pictures of a page; base64 makes a third more of them."""
LARGEST_FILE = 64 << 20
MOST_PIXELS = 50_000_000
"""Of a figure, several times as many as ours have: a small file may say that it is of billions."""
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
QUALITIES = (88, 75, 60, 40)
"""Of WebP, tried in turn until all fit."""
SMALLER = 0.6


@dataclass(frozen=True)
class Picture:
    """A WebP file of so many pixels."""

    webp: bytes
    width: int
    height: int


def read(files: Mapping[str, Path], budget: int = BUDGET) -> dict[str, Picture]:
    """The pictures of those files that are there and are pictures, by name; what does not fit at all is left out, the last first.

    The same files give the same bytes.
    """
    found = {name: image for name, path in files.items() if (image := _image(path)) is not None}
    made: dict[str, Picture] = {}
    for quality in QUALITIES:
        made = {name: _encoded(image, quality) for name, image in found.items()}
        if sum(len(one.webp) for one in made.values()) <= budget:
            return made
    names: Sequence[str] = list(made)
    while names and sum(len(made[name].webp) for name in names) > budget:
        names = names[:-1]
    return {name: made[name] for name in names}


def _image(path: Path) -> cv2.typing.MatLike | None:
    # Who can write to the workspace may put a pipe there, at which reading waits for ever.
    if not path.is_file() or path.stat().st_size > LARGEST_FILE:
        return None
    content = path.read_bytes()
    sides = [int.from_bytes(content[at : at + 4]) for at in (16, 20)]
    if not content.startswith(_PNG) or not 0 < sides[0] * sides[1] <= MOST_PIXELS:
        return None
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return None
    scale = LONGEST / max(image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _encoded(image: cv2.typing.MatLike, quality: int) -> Picture:
    if quality == QUALITIES[-1]:
        image = cv2.resize(image, None, fx=SMALLER, fy=SMALLER, interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    return Picture(cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes(), width, height)
