"""A task for children with ceilings that only decodes images: their least work. Run by prepare_images.py."""

from __future__ import annotations

from typing import Any, BinaryIO

import cv2
import numpy as np

from pelagos_pipelines.sandbox import Answer


def decode(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Decode concatenated images of ``sizes`` bytes; the answer has the number that could be decoded."""
    content, start, whole = file.read(), 0, 0
    for size in arguments["sizes"]:
        image = cv2.imdecode(np.frombuffer(content, np.uint8, size, start), cv2.IMREAD_COLOR)
        whole += image is not None
        start += size
    return Answer({"whole": whole})
