"""Runs a graph that nobody has tried yet: in children with ceilings for memory and time. Called by the import of models.

`outputs` is the task, which keeps the graph that a child was given last. `Confined` is a predictor whose graph runs there.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import onnxruntime  # noqa: F401 - before children are forked

from pelagos_pipelines.sandbox import MEBIBYTE, Answer, LimitError, Limits, Pool, SandboxError, TaskRefusedError
from pelagos_pipelines.serving import predictor, tasks
from pelagos_pipelines.serving.geometry import Fitted
from pelagos_pipelines.serving.predictions import Floats, Settings
from pelagos_pipelines.serving.predictor import Predictor

_TASKS = "pelagos_pipelines.export.confined"
MEMORY = 6 * 1024 * MEBIBYTE
"""For the tensors of one image on its way through."""
SECONDS = 120
"""Of processor time for one image; the largest detectors take ten."""
LARGEST_OUTPUT = 256 * MEBIBYTE
_HEAD = struct.Struct("<QII")
_kept: dict[str, Any] = {}


class GraphError(Exception):
    """The graph cannot be run, or is not what its task needs; the message says why."""


def outputs(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """What the graph of ``length`` bytes at the beginning of ``file`` gives for the values behind it, of ``shape``."""
    length, shape = arguments["length"], arguments["shape"]
    graph = file.read(length)
    digest = hashlib.sha256(graph).hexdigest()
    try:
        if _kept.get("digest") != digest:
            _kept.update(digest=digest, session=predictor.session(graph, 1))
        session = _kept["session"]
        values = np.frombuffer(file.read(), np.float32).reshape(shape)
        (found,) = session.run(None, {session.get_inputs()[0].name: values})
    except MemoryError:
        raise
    except Exception as error:
        raise TaskRefusedError(
            f"ONNX Runtime cannot run it on an image of {shape[3]} x {shape[2]} pixels ({type(error).__name__}): its operators do"
            " not fit together, or need more memory than there is for a model"
        ) from None
    if found.dtype != np.float32:
        raise TaskRefusedError("its output is not of float32: export it without half precision")
    return Answer({"shape": list(found.shape)}, np.ascontiguousarray(found).tobytes())


class Confined(Predictor):
    """A predictor whose graph runs in a child, one image at a time. Close it."""

    def __init__(self, graph: bytes, settings: Settings) -> None:
        """Start nothing yet."""
        self.settings = settings
        self.task = tasks.named(settings.task)
        self.onnx_sha256 = hashlib.sha256(graph).hexdigest()
        self._graph = graph
        self._shapes: dict[tuple[int, ...], list[int]] = {}
        limits = Limits(MEMORY + 4 * len(graph), SECONDS, 3 * SECONDS, LARGEST_OUTPUT)
        self._pool = Pool(_TASKS, limits)

    def outputs(self, images: Sequence[Fitted]) -> list[Floats]:
        """See `Predictor.outputs`. Raises GraphError."""
        return [self._output(image) for image in images]

    def _output(self, image: Fitted) -> Floats:
        values = self.task.values(image.canvas[None])
        arguments = {"length": len(self._graph), "shape": list(values.shape)}
        try:
            answer = self._pool.run("outputs", arguments, self._graph + values.tobytes())
        except TaskRefusedError as refusal:
            raise GraphError(str(refusal)) from None
        except LimitError as error:
            raise GraphError(f"it cannot be run on an image: {error}") from None
        except SandboxError as error:
            raise GraphError(f"it cannot be run on an image: {error}") from error
        shape = answer.document.get("shape")
        raw = np.frombuffer(answer.raw, np.float32)
        # What a child says that its graph may have taken over.
        if not isinstance(shape, list) or not all(type(one) is int and one >= 0 for one in shape) or shape[:1] != [1]:
            raise GraphError("its output is not that of one image, [1, ...]")
        if int(np.prod(shape, dtype=object)) != raw.size or not raw.size:
            raise GraphError("its output is empty")
        if self._shapes.setdefault(values.shape, shape) != shape:
            raise GraphError(
                "its output has another shape for another image of the same size: export it without what chooses by value"
            )
        if not np.isfinite(raw).all():
            raise GraphError("its output is not finite on an image; are --values right?")
        return raw.reshape(shape)[0]

    def close(self) -> None:
        """End the children."""
        self._pool.close()
