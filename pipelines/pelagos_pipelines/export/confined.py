"""Runs an untrusted graph in children with ceilings for memory and time.

Called by the import of models and by the evaluation of packages. `outputs` is the task, which keeps the last graph of its child
in memory. `Confined` is a predictor whose graph runs there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np
import onnxruntime  # noqa: F401 - before children are forked
from typing_extensions import override

from pelagos_pipelines.sandbox import MEBIBYTE, Answer, LimitError, Limits, Pool, SandboxError, TaskRefusedError
from pelagos_pipelines.serving import predictor, tasks
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictions import Raw, Settings
from pelagos_pipelines.serving.predictor import Predictor

_TASKS = "pelagos_pipelines.export.confined"
MEMORY = 6 * 1024 * MEBIBYTE
"""Bytes for the tensors of one image."""
SECONDS = 120
"""Processor seconds for one image; the largest detectors take ten."""
LARGEST_OUTPUT = 1024 * MEBIBYTE
"""Most bytes of all outputs for one image: scores of pixels have a number for each class."""
_ABSENT = "absent"
_kept: dict[str, Any] = {}


class GraphError(Exception):
    """The graph cannot be run, or is not what its task needs; the message says why."""


def outputs(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The graph's outputs for values of ``shape``, concatenated.

    ``length`` bytes of the graph precede the values; 0 if this child should already have it, identified by its ``sha256``.
    """
    length, shape = arguments["length"], arguments["shape"]
    if not length and _kept.get("digest") != arguments["sha256"]:
        raise TaskRefusedError("the graph was not given to this child", {_ABSENT: True})
    graph = file.read(length)
    try:
        if length and _kept.get("digest") != arguments["sha256"]:
            _kept.update(digest=arguments["sha256"], session=predictor.session(graph, 1))
        session = _kept["session"]
        values = np.frombuffer(file.read(), np.float32).reshape(shape)
        found = session.run(None, {session.get_inputs()[0].name: values})
    except MemoryError:
        raise
    except Exception as error:
        raise TaskRefusedError(
            f"ONNX Runtime cannot run it on an image of {shape[3]} x {shape[2]} pixels ({type(error).__name__}): its operators do"
            " not fit together, or need more memory than there is for a model"
        ) from None
    if any(getattr(one, "dtype", None) != np.float32 for one in found):
        raise TaskRefusedError("its output is not of float32: export it without half precision")
    raw = b"".join(np.ascontiguousarray(one).tobytes() for one in found)
    return Answer({"shapes": [list(one.shape) for one in found]}, raw)


class Confined(Predictor):
    """A predictor whose graph runs in children, each with one image at a time. It must be closed."""

    def __init__(self, graph: bytes, settings: Settings, children: int = 1, *, is_known: bool = False) -> None:
        """Start no child yet. ``is_known``: its outputs may contain NaN where servers drop such values."""
        self.settings = settings
        self.task = tasks.named(settings.task, settings.head)
        self.onnx_sha256 = hashlib.sha256(graph).hexdigest()
        self._graph, self._children, self._is_known = graph, children, is_known
        self._shapes: dict[tuple[int, ...], list[list[int]]] = {}
        limits = Limits(MEMORY + 4 * len(graph), SECONDS, 3 * SECONDS, LARGEST_OUTPUT)
        self._pool = Pool(_TASKS, limits, children)

    @override
    def outputs(self, images: Sequence[Fitted]) -> list[Raw]:
        """The outputs of the graph for each image, computed in children. Raises GraphError."""
        with ThreadPoolExecutor(self._children) as threads:
            return list(threads.map(self._outputs, images))

    def _outputs(self, image: Fitted) -> Raw:
        values = self.task.values(image.canvas[None])
        try:
            answer = self._asked(values)
        except TaskRefusedError as refusal:
            raise GraphError(str(refusal)) from None
        except LimitError as error:
            raise GraphError(f"it cannot be run on an image: {error}") from None
        except SandboxError as error:
            raise GraphError(f"it cannot be run on an image: {error}") from error
        shapes, raw = answer.document.get("shapes"), np.frombuffer(answer.raw, np.float32)
        # The answer is untrusted, since the graph may have compromised the child.
        if not isinstance(shapes, list) or not shapes or not all(map(_is_shape, shapes)):
            raise GraphError("its output is not that of one image, [1, ...]")
        sizes = [int(np.prod(shape, dtype=object)) for shape in shapes]
        if sum(sizes) != raw.size or not all(sizes):
            raise GraphError("its output is empty")
        if self._shapes.setdefault(values.shape, shapes) != shapes:
            raise GraphError(
                "its output has another shape for another image of the same size: export it without what chooses by value"
            )
        if not self._is_known and not np.isfinite(raw).all():
            raise GraphError("its output is not finite on an image; are --values right?")
        parts = np.split(raw, np.cumsum(sizes)[:-1])
        found = [part.reshape(shape)[0] for part, shape in zip(parts, shapes, strict=True)]
        return found[0] if len(found) == 1 else tuple(found)

    def _asked(self, values: Any) -> Answer:
        arguments = {"length": 0, "shape": list(values.shape), "sha256": self.onnx_sha256}
        try:
            return self._pool.run("outputs", arguments, values.tobytes())
        except TaskRefusedError as refusal:
            if refusal.detail.get(_ABSENT) is not True:
                raise
        return self._pool.run("outputs", arguments | {"length": len(self._graph)}, self._graph + values.tobytes())

    def close(self) -> None:
        """End the children."""
        self._pool.close()


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(type(one) is int and one >= 0 for one in shape) and shape[:1] == [1]
