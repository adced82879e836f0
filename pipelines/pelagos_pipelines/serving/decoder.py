"""Has images of requests decoded in children with ceilings; what comes back is a canvas for the model, or pixels, or words.

Called by model.py in the server, which never holds a whole image, as its children do (images.py); and by the container image that
holds a model, which is given pixels: it cuts images into tiles and draws on them. It may know numpy, OpenCV and the sandbox only,
and runs with numpy 1.26 and 2.
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
    """Decodes in children that are kept. Threads may share it."""

    def __init__(  # noqa: PLR0913 - all that a canvas depends on
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
        """For the canvases of a model. Raises ValueError for ceilings that are no numbers."""
        self.ceilings = Ceilings.read()
        self._task, self._head, self._size, self._stride = task, head, size, stride
        self._color, self._longest = color, longest
        self.pool = Pool(_TASKS, decoding.limits(self.ceilings), children, decoding.environment(self.ceilings))

    def start(self) -> None:
        """Have a child ready. Raises UnavailableError when none can be started."""
        self.pool.run("nothing", {})

    def decode(self, data: bytes) -> Fitted:
        """An encoded image on its canvas.

        Raises:
            ImageRefusedError: not a whole image of a kind that is read, or above a ceiling.
            UnavailableError: no child could be started, whatever the image is.
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
        """All pixels of an encoded image, as a model sees them before they are on a canvas. Raises as above."""
        raw, width, height = self._asked("pixels", {}, data)
        return _shaped(raw, height, width)

    def _asked(self, task: str, arguments: Mapping[str, object], data: bytes) -> tuple[Raw, int, int]:
        """What a child gave, if it can be true, and width and height: it may have been taken over by the image."""
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
    """[rows, columns, 3]. Raises ImageRefusedError when it is not that many."""
    if len(raw) != rows * columns * 3:
        raise ImageRefusedError(_HOSTILE)
    return np.frombuffer(raw, np.uint8).reshape(rows, columns, 3)
