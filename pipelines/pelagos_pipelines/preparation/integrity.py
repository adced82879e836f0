"""Whether every image can be decoded, and what it is: digest, size, perceptual hash. The one place that decodes a source.

Called by the task prepare before annotations are read. What an image is depends on its bytes alone, so the findings are kept in
the store: looking at a large source again decodes new images only.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pelagos_pipelines.annotations.model import Tree
from pelagos_pipelines.beneath import TooLargeError
from pelagos_pipelines.contract import write_atomically

if TYPE_CHECKING:
    from pelagos_pipelines.serving.predictor import Pixels

SIDE = 32
"""Side of the thumbnail that the perceptual hash sees."""
KEPT = 8
"""The hash holds the signs of the 8 x 8 lowest frequencies."""
LEAST_CONTRAST = 64
"""In 16ths of a grey level, of the thumbnail: below it an image is plain."""
_SCALE = 4096
_GREY = [29, 150, 77]
"""Shares of blue, green and red in grey (ITU-R BT.601), in 256ths."""
MEMORY_VERSION = 1
"""Raised when an inspection of the same bytes would find something else."""
MAX_THREADS = 4
_BEGINNING = 1024**2
"""Bytes of an image that is too large to be read."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an image file is. ``size`` in bytes; ``width`` and ``height`` in pixels, upright as training sees it.

    ``pixels`` is the sha256 of the decoded pixels and ``phash`` the perceptual hash, None where there is no structure to compare.
    ``problem`` says in words why the file cannot be used; width and height are then 0.
    """

    sha256: str
    size: int
    width: int = 0
    height: int = 0
    pixels: str = ""
    phash: int | None = None
    problem: str | None = None


def inspect_tree(tree: Tree, memory: Path) -> dict[str, Inspection]:
    """Inspect every image of the source; ``memory`` is the file with earlier findings, which is brought up to date."""
    known = _recall(memory)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:
        found = list(pool.map(lambda path: _inspect_file(tree, path, known), tree.images))
    if any(inspection.sha256 not in known for inspection in found):
        _remember(memory, known, found)
    return dict(zip(tree.images, found, strict=True))


def inspect(content: bytes, digest: str) -> Inspection:
    """Decode fully: headers and end markers alone miss damage in between.

    Training, evaluation and serving decode with OpenCV, which applies the EXIF orientation; so do we, by the same function, and
    width and height cannot disagree with what a model sees. Pillow has its say because ultralytics asks it and would leave
    out, without a word, an image that it refuses. Images with more pixels than the service accepts are refused before decoding.
    """
    from pelagos_pipelines.serving import predictor

    try:
        pixels = predictor.decode(content)
        _ask_pillow(content)
    except predictor.ImageRefusedError as error:
        return Inspection(digest, len(content), problem=str(error))
    height, width = pixels.shape[:2]
    identity = hashlib.sha256(f"{width}x{height}:".encode())
    identity.update(pixels.data)
    return Inspection(digest, len(content), width, height, identity.hexdigest(), perceptual_hash(pixels))


def perceptual_hash(pixels: Pixels) -> int | None:
    """64-bit pHash: signs, against their median, of the lowest frequencies of a 32 x 32 grey thumbnail.

    After Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010). In integers throughout, so that
    every machine finds the same hash and with it the same version. None for a plain image: noise alone would decide its bits.
    """
    import numpy as np

    thumbnail = _thumbnail(pixels)
    if int(thumbnail.max()) - int(thumbnail.min()) < LEAST_CONTRAST:
        return None
    waves = _waves()
    spectrum = (waves @ thumbnail @ waves.T).ravel()
    above = spectrum > np.median(spectrum[1:])
    above[0] = False  # the mean brightness is no structure
    return int.from_bytes(np.packbits(above).tobytes(), "big")


@cache
def _waves() -> Any:
    """The 8 lowest cosines over 32 steps, as integers."""
    import numpy as np

    angles = np.pi * np.outer(np.arange(KEPT), 2 * np.arange(SIDE) + 1) / (2 * SIDE)
    return np.rint(np.cos(angles) * _SCALE).astype(np.int64)


def _thumbnail(pixels: Pixels) -> Any:
    """Mean grey levels in 16ths, int64 [32, 32]; every bin has at least one pixel, also of a smaller image."""
    import cv2
    import numpy as np

    step = max(1, min(pixels.shape[:2]) // (16 * SIDE))  # means of a large image do not need all of its pixels
    # Sums modulo 2^32: their differences, which are sums within a bin, are exact.
    total = cv2.integral(np.ascontiguousarray(pixels[::step, ::step])).view(np.uint32)
    rows, columns = (np.arange(SIDE) * (side - 1) // SIDE for side in total.shape[:2])
    below, right = (
        np.maximum(np.append(starts[1:], side - 1), starts + 1)
        for starts, side in zip((rows, columns), total.shape[:2], strict=True)
    )
    bottom, top = total[below], total[rows]
    sums = bottom[:, right] - bottom[:, columns] - top[:, right] + top[:, columns]
    area: Any = np.outer(below - rows, right - columns)
    return sums.astype(np.int64) @ _GREY // area // 16


def _ask_pillow(content: bytes) -> None:
    from PIL import Image

    from pelagos_pipelines.serving import predictor

    Image.MAX_IMAGE_PIXELS = predictor.MAX_PIXELS  # the size is checked by now; Pillow's own limit is a little lower
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            image.verify()
    except (OSError, ValueError, SyntaxError) as error:
        raise predictor.ImageRefusedError(f"its structure is damaged: {error}") from error


def _inspect_file(tree: Tree, path: str, known: Mapping[str, Inspection]) -> Inspection:
    from pelagos_pipelines.serving import predictor

    try:
        content = tree.read(path, predictor.MAX_BYTES)
    except TooLargeError as error:
        problem = f"the file has {error.size} bytes; at most {predictor.MAX_BYTES} are accepted"
        return Inspection(_name_unread(tree, path, error.size), error.size, problem=problem)
    digest = hashlib.sha256(content).hexdigest()
    return known.get(digest) or inspect(content, digest)


def _name_unread(tree: Tree, path: str, size: int) -> str:
    """Stands for the digest of a file that is too large to be read: sparse ones can claim to have exabytes."""
    with tree.open(path) as descriptor:
        beginning = os.read(descriptor, _BEGINNING)
    return hashlib.sha256(f"unread, {size} bytes:".encode() + beginning).hexdigest()


def _recall(memory: Path) -> dict[str, Inspection]:
    try:
        content = orjson.loads(memory.read_bytes())
        if content["version"] != _memory_version():
            return {}
        return {entry[0]: Inspection(*entry) for entry in content["inspections"]}
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}  # nothing is lost but time


def _remember(memory: Path, known: Mapping[str, Inspection], found: list[Inspection]) -> None:
    merged = dict(known) | {inspection.sha256: inspection for inspection in found}
    rows = [
        [item.sha256, item.size, item.width, item.height, item.pixels, item.phash, item.problem]
        for item in merged.values()
    ]
    content = {"version": _memory_version(), "inspections": rows}
    write_atomically(memory, orjson.dumps(content).decode())


def _memory_version() -> str:
    import cv2
    import PIL

    return f"{MEMORY_VERSION} opencv {cv2.__version__} pillow {PIL.__version__}"
