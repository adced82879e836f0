"""Has images of strangers decoded in a child with ceilings; what comes back is pixels, or words.

The server calls `Decoder`, which keeps the child (images.py). The preparation decodes in a child of its own
(preparation/inspection.py), with the same ceilings and words. It may know numpy and the sandbox only, numpy 1.26 or 2.
"""

from __future__ import annotations

from typing import Any

from pelagos_pipelines.sandbox import (
    MEBIBYTE,
    LimitError,
    Limits,
    Pool,
    SandboxError,
    TaskRefusedError,
)
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it

_TASKS = "pelagos_pipelines.serving.images"


class ImageRefusedError(Exception):
    """The bytes are not an image that is served; the message says why."""


class TooManyPixelsError(ImageRefusedError):
    """The image is larger than the ceiling."""


def limits(ceilings: Ceilings) -> Limits:
    """Of a child that decodes. The deadline is far off: it is for what waits, and busy machines must not refuse images."""
    seconds = ceilings.image_seconds
    return Limits(
        memory=ceilings.image_memory * MEBIBYTE,
        cpu=seconds,
        deadline=30 + 6 * seconds,
        result=max(3 * ceilings.image_megapixels * 1_000_000, ceilings.image_mebibytes * MEBIBYTE),
    )


def environment(ceilings: Ceilings) -> dict[str, str]:
    """What OpenCV reads once, when it is loaded, and what images.py reads."""
    pixels = str(ceilings.image_megapixels * 1_000_000)
    return {"OPENCV_IO_MAX_IMAGE_PIXELS": pixels, "OPENCV_LOG_LEVEL": "SILENT"} | ceilings.variables()


def explain(error: SandboxError, ceilings: Ceilings) -> str:
    """Why an image that gave no answer is refused."""
    if isinstance(error, LimitError):
        field = {"memory": "image_memory", "cpu": "image_seconds"}.get(error.kind)
        return f"the image cannot be decoded: {error}" + (f"; {raise_it(field)}" if field else "")
    return f"the image cannot be decoded: its content is damaged or hostile ({error})"


def too_large(size: int, ceilings: Ceilings) -> str:
    """Why a file of more bytes than the ceiling is refused."""
    allowed = ceilings.image_mebibytes * MEBIBYTE
    return f"the image has {size} bytes; at most {allowed} are accepted ({raise_it('image_mebibytes')})"


class Decoder:
    """Decodes in a child that is kept. Threads may share it."""

    def __init__(self, ceilings: Ceilings | None = None, children: int = 1) -> None:
        """Nothing is started before the first image. Raises ValueError for ceilings that are no numbers."""
        self.ceilings = ceilings or Ceilings.read()
        self._pool = Pool(_TASKS, limits(self.ceilings), children, environment(self.ceilings))

    def decode(self, data: bytes) -> Any:
        """The pixels of an encoded JPEG or PNG, ``[height, width, 3]``, blue first.

        Raises:
            ImageRefusedError: not a whole JPEG or PNG, or above a ceiling.
        """
        import numpy as np

        if len(data) > self.ceilings.image_mebibytes * MEBIBYTE:
            raise ImageRefusedError(too_large(len(data), self.ceilings))
        try:
            answer = self._pool.run("pixels", {}, data)
        except TaskRefusedError as refusal:
            raise ImageRefusedError(str(refusal)) from None
        except SandboxError as error:
            raise ImageRefusedError(explain(error, self.ceilings)) from error
        height, width = answer.document.get("height"), answer.document.get("width")
        if not isinstance(height, int) or not isinstance(width, int) or 3 * height * width != len(answer.raw):
            raise ImageRefusedError("the image cannot be decoded: its content is damaged or hostile")
        return np.frombuffer(answer.raw, np.uint8).reshape(height, width, 3)

    def close(self) -> None:
        """End the child."""
        self._pool.close()
