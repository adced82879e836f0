"""Predicts: the task's preprocessing of images, ONNX inference, and the task's decoding into typed predictions.

Triton's Python backend calls it through model.py, the export through its parity check. It may import only numpy, onnxruntime and
serving, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pelagos_pipelines.serving import color, packages, reducing, tasks
from pelagos_pipelines.serving.geometry import Fitted, Pixels
from pelagos_pipelines.serving.predictions import Prediction, Raw, Scaling, Settings, Thresholds

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class NoGpuError(Exception):
    """A GPU was requested and cannot be used; the message says why."""


def providers(offered: Sequence[str], gpu: int | None) -> list[str | tuple[str, dict[str, str]]]:
    """ONNX Runtime's providers to use, best first. Raises NoGpuError if ``offered`` has none for the GPU number ``gpu``."""
    if gpu is None:
        return [CPU]
    if CUDA not in offered:
        raise NoGpuError(
            "spec.resources.gpus asks for a GPU, but this serving image computes only on the processor (ONNX Runtime offers "
            f"{', '.join(offered)}): use the serving image for GPUs, or set spec.resources.gpus to 0"
        )
    return [(CUDA, {"device_id": str(gpu)}), CPU]


def session(model: bytes, threads: int, gpu: int | None = None) -> Any:
    """A session of ONNX Runtime for the graph. Raises NoGpuError, and ONNX Runtime's own errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A graph must contain the whole model: weights in other files, and other formats, are refused.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    chosen = providers(onnxruntime.get_available_providers(), gpu)
    return onnxruntime.InferenceSession(model, options, providers=chosen)


class Predictor:
    """An ONNX model with its preprocessing and decoding. Not thread-safe; Triton gives every instance a process."""

    def __init__(
        self, model: bytes, settings: Settings, threads: int = 1, batch: int = 8, gpu: int | None = None
    ) -> None:
        """Load the graph, onto the GPU number ``gpu`` if given. At most ``batch`` images go through it at a time."""
        self.settings = settings
        self.task = tasks.named(settings.task, settings.head)
        self.onnx_sha256 = hashlib.sha256(model).hexdigest()
        self._session = session(model, threads, gpu)
        if gpu is not None and CUDA not in self._session.get_providers():
            # ONNX Runtime would silently fall back to the CPU, and only log it.
            raise NoGpuError(f"GPU {gpu} cannot be used: CUDA or cuDNN of the image does not start on this node")
        (given,) = self._session.get_inputs()
        self._input = given.name
        # Imported graphs may have a fixed batch size.
        fixed = given.shape[0] if isinstance(given.shape[0], int) else batch
        self._batch = min(fixed, self.task.at_once or fixed)

    def predict(self, images: Sequence[Pixels], thresholds: Thresholds | None = None) -> list[Prediction]:
        """The predictions for ``images``, in order."""
        return self.predict_fitted([self.fitted(image) for image in images], thresholds)

    def fitted(self, image: Pixels) -> Fitted:
        """A decoded image, reduced and colour-corrected, on the model's canvas."""
        shown = color.corrected(reducing.reduced(image, self.settings.longest), self.settings.color)
        found = self.task.fitted(shown, self.settings.image_size, self.settings.stride)
        return Fitted(found.canvas, image.shape[1], image.shape[0], (shown.shape[1], shown.shape[0]))

    def predict_fitted(self, images: Sequence[Fitted], thresholds: Thresholds | None = None) -> list[Prediction]:
        """The predictions for images that are on their canvas, in order."""
        chosen = thresholds or Thresholds()
        raws = self.outputs(images)
        return [self.decode(raw, image, chosen) for raw, image in zip(raws, images, strict=True)]

    def outputs(self, images: Sequence[Fitted]) -> list[Raw]:
        """The network's output for each image, before any threshold. Images whose canvases have the same shape share a batch."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            groups[image.canvas.shape].append(index)
        results: dict[int, Raw] = {}
        for members in groups.values():
            for start in range(0, len(members), self._batch):
                chosen = members[start : start + self._batch]
                values = self.task.values(np.stack([images[index].canvas for index in chosen]))
                found = self._session.run(None, {self._input: values})
                results.update(zip(chosen, found[0] if len(found) == 1 else zip(*found, strict=True), strict=True))
        return [results[index] for index in range(len(images))]

    def decode(self, raw: Raw, image: Fitted, thresholds: Thresholds) -> Prediction:
        """Decode one of `outputs` for its image. ``thresholds`` apply to calibrated scores."""
        scaling = self.settings.scaling
        found = self.task.decode(raw, image, self.settings, self.task.asked(thresholds, scaling))
        return found if scaling is None and thresholds.by_class is None else found.told(thresholds, scaling)


def load(
    folder: Path, manifest_sha256: str | None = None, threads: int = 1, batch: int = 8, gpu: int | None = None
) -> Predictor:
    """The predictor of the package in a folder. Raises as `read` does."""
    graph, settings = read(folder, manifest_sha256)
    return Predictor(graph, settings, threads, batch, gpu)


def read(folder: Path, manifest_sha256: str | None = None) -> tuple[bytes, Settings]:
    """The graph of the package in a folder, compared with its digest, and the package's settings.

    Raises packages.RefusedError for a package that is missing, altered, or another than the one with ``manifest_sha256``.
    """
    described, _ = packages.read(folder, manifest_sha256)
    # Read once, compared, and passed to ONNX Runtime from memory, so that nobody can replace the file after the comparison.
    with packages.opened(folder / packages.GRAPH) as file:
        graph = file.read(packages.LARGEST[packages.GRAPH])
    packages.require_digest(folder, packages.GRAPH, graph, described.files[packages.GRAPH])
    geometry = described.image_size, described.stride, described.color, described.tile, described.longest
    scaling = None if described.scaling is None else Scaling(*described.scaling)
    more = described.head, described.stuff, scaling, described.confidences
    return graph, Settings(described.task, described.labels, *geometry, *more)
