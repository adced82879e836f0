"""Tasks of serving.images with a decoder that crashes on one image."""

from __future__ import annotations

import ctypes
import io
from typing import Any, BinaryIO

from pelagos_pipelines.sandbox import Answer
from pelagos_pipelines.serving import images
from pelagos_pipelines.serving.images import nothing

__all__ = ["canvas", "nothing"]


def canvas(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """Crash if the content asks for it."""
    content = file.read()
    if content == b"crash":
        ctypes.string_at(0)
    return images.canvas(arguments, io.BytesIO(content))
