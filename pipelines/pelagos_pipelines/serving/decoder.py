"""Has images of requests decoded in children with ceilings; what comes back is a canvas for the model, or words.

Called by model.py in the server. A child holds the whole image (images.py); this process never does. It may know numpy, OpenCV
and the sandbox only, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

import numpy as np

from pelagos_pipelines.sandbox import MEBIBYTE, Answer, Pool, SandboxError, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving import decoding, reducing, tasks
from pelagos_pipelines.serving.decoding import ImageRefusedError
from pelagos_pipelines.serving.geometry import Fitted

_TASKS = "pelagos_pipelines.serving.images"
_LARGEST_SIDE = 2**30


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
        if len(data) > self.ceilings.image_mebibytes * MEBIBYTE:
            raise ImageRefusedError(decoding.too_large(len(data), self.ceilings))
        model: dict[str, object] = {
            "task": self._task,
            "head": self._head,
            "size": self._size,
            "stride": self._stride,
            "color": self._color,
        }
        model["longest"] = self._longest
        try:
            answer = self.pool.run("canvas", model, data)
        except TaskRefusedError as refusal:
            raise ImageRefusedError(str(refusal)) from None
        except SandboxError as error:
            raise ImageRefusedError(decoding.explain(error, self.ceilings)) from error
        return self._believed(answer)

    def _believed(self, answer: Answer) -> Fitted:
        """What a child gave, if it can be true: it may have been taken over by the image."""
        width, height = answer.document.get("width"), answer.document.get("height")
        if (
            isinstance(width, int)
            and isinstance(height, int)
            and min(width, height) > 0
            and max(width, height) < _LARGEST_SIDE
        ):
            shown = reducing.size(width, height, self._longest)
            rows, columns = tasks.named(self._task, self._head).shape(*shown, self._size, self._stride)
            if len(answer.raw) == rows * columns * 3:
                return Fitted(np.frombuffer(answer.raw, np.uint8).reshape(rows, columns, 3), width, height, shown)
        raise ImageRefusedError("the image cannot be decoded: its content is damaged or hostile")

    def close(self) -> None:
        """End the children."""
        self.pool.close()
