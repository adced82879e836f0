"""Decodes images of requests in children with ceilings. The result is a canvas for the model, or pixels, or a refusal.

Called by model.py in the server, which itself never holds a whole image: its children do (images.py). Also called by the
container image that holds a model, which needs pixels to cut images into tiles and to draw on them. It may import only numpy,
OpenCV and the sandbox, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pelagos_pipelines.sandbox import MEBIBYTE, Pool, SandboxError, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving import decoding, reducing, tasks
from pelagos_pipelines.serving.decoding import ImageRefusedError
from pelagos_pipelines.serving.geometry import Fitted, Pixels

_TASKS = "pelagos_pipelines.serving.images"
Raw = bytes | bytearray | memoryview
_LARGEST_SIDE = 2**30
_HOSTILE = "the image cannot be decoded: its content is damaged or hostile"


class Decoder:
    """Decodes images in children that are kept between calls. Threads may share it."""

    def __init__(  # noqa: PLR0913 - everything that a canvas depends on
        self,
        task: str,
        size: int,
        stride: int,
        children: int = 1,
        *,
        color: str | None = None,
        longest: int | None = None,
        head: str | None = None,
    ) -> None:
        """Decode for the canvases of one model. Raises ValueError for invalid ceilings in the environment."""
        self.ceilings = Ceilings.read()
        self._task, self._head, self._size, self._stride = task, head, size, stride
        self._color, self._longest = color, longest
        self.pool = Pool(_TASKS, decoding.limits(self.ceilings), children, decoding.environment(self.ceilings))

    def start(self) -> None:
        """Start a child. Raises UnavailableError when that is not possible."""
        self.pool.run("nothing", {})

    def decode(self, data: bytes) -> Fitted:
        """An encoded image on its canvas.

        Raises:
            ImageRefusedError: it is damaged, of an unsupported kind, or above a ceiling.
            UnavailableError: no child could be started, which says nothing about the image.
        """
        model: dict[str, object] = {
            "task": self._task,
            "head": self._head,
            "size": self._size,
            "stride": self._stride,
            "color": self._color,
        }
        model["longest"] = self._longest
        raw, width, height = self._asked("canvas", model, data)
        shown = reducing.size(width, height, self._longest)
        rows, columns = tasks.named(self._task, self._head).shape(*shown, self._size, self._stride)
        return Fitted(_shaped(raw, rows, columns), width, height, shown)

    def pixels(self, data: bytes) -> Pixels:
        """All pixels of an encoded image, before reduction, colour correction and canvas. Raises as `decode` does."""
        raw, width, height = self._asked("pixels", {}, data)
        return _shaped(raw, height, width)

    def _asked(self, task: str, arguments: Mapping[str, object], data: bytes) -> tuple[Raw, int, int]:
        """A child's bytes, width and height, if they are plausible: the image may have taken over the child."""
        if len(data) > self.ceilings.image_mebibytes * MEBIBYTE:
            raise ImageRefusedError(decoding.too_large(len(data), self.ceilings))
        try:
            answer = self.pool.run(task, arguments, data)
        except TaskRefusedError as refusal:
            raise ImageRefusedError(str(refusal)) from None
        except SandboxError as error:
            raise ImageRefusedError(decoding.explain(error, self.ceilings)) from error
        width, height = answer.document.get("width"), answer.document.get("height")
        if not (isinstance(width, int) and isinstance(height, int) and min(width, height) > 0):
            raise ImageRefusedError(_HOSTILE)
        if max(width, height) >= _LARGEST_SIDE:
            raise ImageRefusedError(_HOSTILE)
        return answer.raw, width, height

    def close(self) -> None:
        """End the children."""
        self.pool.close()


def _shaped(raw: Raw, rows: int, columns: int) -> Pixels:
    """The bytes as [rows, columns, 3]. Raises ImageRefusedError when their number does not fit."""
    if len(raw) != rows * columns * 3:
        raise ImageRefusedError(_HOSTILE)
    return np.frombuffer(raw, np.uint8).reshape(rows, columns, 3)
