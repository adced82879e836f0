"""Figures of a folder as parts of a page: reduced to a readable size, and together within a budget of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

LONGEST = 1500
"""Longer side in pixels of a figure in a page."""
BUDGET = 3_000_000
"""Most bytes of all pictures of a page; base64 adds a third."""
LARGEST_FILE = 64 << 20
MOST_PIXELS = 50_000_000
"""Most pixels of a figure, several times as many as ours have, since a small file may claim billions."""
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
QUALITIES = (88, 75, 60, 40)
"""WebP qualities, tried in turn until all pictures fit."""
SMALLER = 0.6


@dataclass(frozen=True)
class Picture:
    """A WebP file with its size in pixels."""

    webp: bytes
    width: int
    height: int


def read(files: Mapping[str, Path], budget: int = BUDGET) -> dict[str, Picture]:
    """The pictures of the valid files, by name. If they do not fit at the lowest quality, the last ones are left out.

    Equal files give equal bytes.
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
    # Others who can write to the workspace could create a pipe, from which reading would block forever.
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
