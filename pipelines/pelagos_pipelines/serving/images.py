"""Decodes images, in a child of the sandbox that decoder.py or the preparation keeps.

Nobody here reads a header: OpenCV's decoders do, and refuse by the ceiling in the environment before they take memory. It may
know numpy, OpenCV and the sandbox only, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

import re
from typing import Any, BinaryIO

import cv2
import numpy as np

from pelagos_pipelines.sandbox import Answer, TaskRefusedError, child
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.serving.decoding import ImageRefusedError, TooManyPixelsError
from pelagos_pipelines.serving.geometry import Pixels, fitted

_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_OUT_OF_MEMORY = re.compile(r"insufficient memory|out of memory|bad_alloc", re.I)
_DAMAGE = re.compile(
    r"premature end|bad Huffman|instead of RST|Inconsistent progression|Corrupt JPEG data: (?!\d+ extraneous)", re.I
)
"""What libjpeg says when pixels are missing; it gives grey or repeated ones instead, and OpenCV is content."""
_NO_MEMORY = -4
"""OpenCV's code of an error."""


def nothing(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The task that shows that there is a child."""
    return Answer()


def canvas(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The image on the canvas of a model, which ``task``, ``size`` and ``stride`` describe."""
    try:
        image = decode(file.read())
    except ImageRefusedError as error:
        raise TaskRefusedError(str(error)) from None
    placed = fitted(image, arguments["task"], arguments["size"], arguments["stride"])
    return Answer({"width": placed.width, "height": placed.height}, np.ascontiguousarray(placed.canvas).data)


def decode_known(content: bytes) -> Pixels:
    """In any process: the pixels of an image that was decoded in a child before, and is known by its digest since.

    Raises:
        ImageRefusedError: it cannot be decoded.
    """
    try:
        image: Pixels | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageRefusedError(f"the image cannot be decoded: OpenCV ends with code {error.code}") from None
    if image is None:
        raise ImageRefusedError("the image cannot be decoded: its content is damaged")
    return image


def decode(content: bytes) -> Pixels:
    """In a child: the pixels of an encoded JPEG or PNG.

    Raises:
        ImageRefusedError: not a whole JPEG or PNG, or of more pixels than the ceiling.
        MemoryError: it does not fit in the child.
    """
    if not content.startswith(_SIGNATURES):
        raise ImageRefusedError("the image is neither JPEG nor PNG; encode it as one of these")
    try:
        image: Pixels | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise _meaning(error) from None
    said = child.complaints()
    if _OUT_OF_MEMORY.search(said):
        raise MemoryError
    if image is None and not said and child.took_share() > 0.25:  # libjpeg does not say what it was short of
        raise ImageRefusedError(
            "the image cannot be decoded: its content is damaged, or it needs more than"
            f" {Ceilings.read().image_memory} MiB of memory ({raise_it('image_memory')})"
        )
    if image is None or _DAMAGE.search(said):
        raise ImageRefusedError(
            "the image cannot be decoded: its content is damaged, or ends too early; send a complete JPEG or PNG"
        )
    return image


def _meaning(error: cv2.error) -> Exception:
    """What an error of OpenCV means; its text names lines of OpenCV."""
    text = str(error)
    if error.code == _NO_MEMORY or _OUT_OF_MEMORY.search(text):
        return MemoryError()
    if "CV_IO_MAX_IMAGE" in text:
        ceilings = Ceilings.read()
        return TooManyPixelsError(
            f"the image has more than {ceilings.image_megapixels} megapixels ({raise_it('image_megapixels')})"
        )
    return ImageRefusedError("the image cannot be decoded: its content is damaged; send a complete JPEG or PNG")
