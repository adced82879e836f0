"""Images in, typed predictions out: letterbox, ONNX inference, non-maximum suppression.

Triton's Python backend calls it through model.py, the export through its parity check, and the MobileNet training for its pixels.
It may know numpy, onnxruntime and serving.packages and .geometry only, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.serving import packages
from pelagos_pipelines.serving.geometry import Fit, Fitted, Pixels, fit, fitted

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int32]

CLASS_OFFSET = np.float32(7680)
"""Boxes are moved apart by this many pixels per class, so that suppression never crosses classes."""
MAX_DETECTIONS = 3_000
"""Of one image, where nothing else is said; spec.maxDetections and spec.evaluation.maxDetections have the same default."""
MAX_CANDIDATES = 30_000
"""Boxes of one image that suppression looks at, best first, as in ultralytics. No more than that can be detections."""
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""ImageNet statistics, red first: the scale that classification checkpoints of the field are trained with."""


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class NoGpuError(Exception):
    """A GPU was asked for and cannot be used; the message says why."""


@dataclass(frozen=True)
class Settings:
    """What a package says about its model. ``image_size`` and ``stride`` are in pixels."""

    task: str
    labels: tuple[str, ...]
    image_size: int
    stride: int


@dataclass(frozen=True)
class Thresholds:
    """What turns raw detector output into detections; the defaults are those of ``YOLO.predict``, but for its 300 detections.

    Images of plankton and of the sea floor show thousands of organisms.
    """

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = MAX_DETECTIONS


@dataclass(frozen=True)
class Detections:
    """Boxes of one image: ``[n, 4]`` x1, y1, x2, y2 in pixels of the original; ``scores`` [n] descending; ``class_ids`` [n].

    ``cut``: there are more, and only the best were kept (`Thresholds.max_detections`, MAX_CANDIDATES).
    """

    width: int
    height: int
    boxes: Floats
    scores: Floats
    class_ids: Integers
    cut: bool = False


@dataclass(frozen=True)
class Classification:
    """``probabilities`` [classes] of one image; they add up to 1."""

    width: int
    height: int
    probabilities: Floats


Prediction = Detections | Classification


# --- scaling


def normalise(images: npt.NDArray[np.uint8]) -> Floats:
    """DecodedImages ``[n, h, w, 3]`` blue first to the classifier's input ``[n, 3, h, w]`` red first."""
    values = (images[..., ::-1].astype(np.float32) / np.float32(255) - MEAN) / DEVIATION
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


# --- suppression


def nms(boxes: Floats, scores: Floats, iou: float, limit: int) -> tuple[npt.NDArray[np.int64], bool]:
    """Indices of the boxes ``[n, 4]`` that survive greedy non-maximum suppression, best first, and whether more would.

    The arithmetic of torchvision.ops.nms: float32, a box is dropped when its IoU with a better one is above ``iou``. Each box
    that is kept is compared with those alone whose centres lie close enough for that, so that thousands may be kept.
    """
    centres, reach = _reach(boxes, iou)
    across = np.argsort(centres, kind="stable")
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[across].T)
    areas = (x2 - x1) * (y2 - y1)
    ordered: Any = centres[across]
    first, last = (ordered.searchsorted(centres + reach * side).tolist() for side in (-1, 1))
    places: list[int] = np.argsort(across).tolist()
    alive: Any = np.ones(len(across), bool)
    kept: list[int] = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for index in np.argsort(-scores, kind="stable").tolist():
            at = places[index]
            if not alive[at]:
                continue
            if len(kept) == limit:
                return np.array(kept, np.int64), True
            kept.append(index)
            near = slice(first[index], last[index])
            width = np.minimum(x2[at], x2[near]) - np.maximum(x1[at], x1[near])
            height = np.minimum(y2[at], y2[near]) - np.maximum(y1[at], y1[near])
            shared = np.maximum(width, 0) * np.maximum(height, 0)
            alive[near] &= ~(shared / (areas[at] + areas[near] - shared) > iou)
    return np.array(kept, np.int64), False


def _reach(boxes: Floats, iou: float) -> tuple[Any, Any]:
    """Where boxes have their centres from left to right, and how far from there those of boxes with a higher IoU can be.

    The overlap of two boxes is at most that of their sides: with ``iou`` the sides differ by this factor at most, and the centres
    by (1 - iou) / (1 + iou) of the longer one. A little more is allowed for, because IoU is computed in float32.
    """
    left, right = boxes[:, 0].astype(np.float64), boxes[:, 2].astype(np.float64)
    least = max(iou - 1e-3, 1e-3)
    return (left + right) / 2, (right - left) * (1 - least) / (1 + least) / least + 1e-3


def detections(raw: Floats, at: Fit, original: tuple[int, int], thresholds: Thresholds) -> Detections:
    """Turn a detector's ``[4 + classes, anchors]`` (centre x, y, width, height; class scores) into detections.

    Args:
        raw: output of one image, boxes in pixels of the canvas.
        at: how the image was placed on the canvas.
        original: width and height of the original image in pixels.
        thresholds: confidence, IoU and the number of detections to keep.
    """
    best = raw[4:].max(axis=0)
    raw = raw[:, best > thresholds.confidence].T
    scores, classes = raw[:, 4:].max(axis=1), raw[:, 4:].argmax(axis=1)
    left_out = len(scores) > MAX_CANDIDATES
    if left_out:
        chosen = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
        raw, scores, classes = raw[chosen], scores[chosen], classes[chosen]
    half = raw[:, 2:4] / np.float32(2)
    boxes = np.concatenate((raw[:, :2] - half, raw[:, :2] + half), axis=1)
    apart = classes.astype(np.float32)[:, None] * CLASS_OFFSET
    kept, more = nms(boxes + apart, scores, thresholds.iou, thresholds.max_detections)
    width, height = original
    scale = np.array([at.width / width, at.height / height] * 2, np.float32)
    boxes = (boxes[kept] - np.array([at.left, at.top] * 2, np.float32)) / scale
    boxes = boxes.clip(0, np.array([width, height] * 2, np.float32)).astype(np.float32)
    return Detections(
        width, height, boxes, scores[kept].astype(np.float32), classes[kept].astype(np.int32), cut=more or left_out
    )


# --- inference


def providers(offered: Sequence[str], gpu: int | None) -> list[str | tuple[str, dict[str, str]]]:
    """What computes, of what ONNX Runtime offers, best first. Raises NoGpuError when that cannot use GPU number ``gpu``."""
    if gpu is None:
        return [CPU]
    if CUDA not in offered:
        raise NoGpuError(
            "spec.resources.gpus asks for a GPU, and this serving image computes on the processor only (ONNX Runtime offers "
            f"{', '.join(offered)}): use the serving image for GPUs, or set spec.resources.gpus to 0"
        )
    return [(CUDA, {"device_id": str(gpu)}), CPU]


class Predictor:
    """An ONNX model with everything before and after it. Not thread-safe by promise; Triton gives every instance a process."""

    def __init__(
        self, model: bytes, settings: Settings, threads: int = 1, batch: int = 8, gpu: int | None = None
    ) -> None:
        """Load the graph, onto the GPU of number ``gpu`` if one is given; at most ``batch`` images go through it at once."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A graph is all of a model: weights in other files, wherever they may lie, are refused, and so are other formats.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        chosen = providers(onnxruntime.get_available_providers(), gpu)
        self.settings = settings
        self.onnx_sha256 = hashlib.sha256(model).hexdigest()
        self._session = onnxruntime.InferenceSession(model, options, providers=chosen)
        if gpu is not None and CUDA not in self._session.get_providers():
            # ONNX Runtime would serve on the processor, and only log it.
            raise NoGpuError(f"GPU {gpu} cannot be used: CUDA or cuDNN of the image does not start on this node")
        self._input = self._session.get_inputs()[0].name
        self._batch = batch

    def predict(self, images: Sequence[Pixels], thresholds: Thresholds | None = None) -> list[Prediction]:
        """Predictions in the order of ``images``."""
        settings = self.settings
        placed = [fitted(image, settings.task, settings.image_size, settings.stride) for image in images]
        return self.predict_fitted(placed, thresholds)

    def predict_fitted(self, images: Sequence[Fitted], thresholds: Thresholds | None = None) -> list[Prediction]:
        """Likewise, of images that are on their canvas."""
        chosen = thresholds or Thresholds()
        raws = self.outputs(images)
        return [self.decode(raw, image, chosen) for raw, image in zip(raws, images, strict=True)]

    def outputs(self, images: Sequence[Fitted]) -> list[Floats]:
        """What the network gives for each image, before any threshold; images whose canvases have one shape share a batch."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            groups[image.canvas.shape].append(index)
        results: dict[int, Floats] = {}
        for members in groups.values():
            for chosen in _chunks(members, self._batch):
                canvases = np.stack([images[index].canvas for index in chosen])
                results.update(zip(chosen, self._run(self._values(canvases)), strict=True))
        return [results[index] for index in range(len(images))]

    def decode(self, raw: Floats, image: Fitted, thresholds: Thresholds) -> Prediction:
        """What one of ``outputs`` says of its image."""
        if self.settings.task == "Classification":
            return Classification(image.width, image.height, raw)
        original = image.width, image.height
        at = fit(*original, self.settings.image_size, self.settings.stride)
        return detections(raw, at, original, thresholds)

    def _values(self, canvases: npt.NDArray[np.uint8]) -> Floats:
        if self.settings.task == "Classification":
            return normalise(canvases)
        values = canvases[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32, order="C")
        values /= np.float32(255)
        return values

    def _run(self, values: Floats) -> Any:
        return self._session.run(None, {self._input: values})[0]


def _chunks(members: Sequence[int], size: int) -> list[Sequence[int]]:
    return [members[start : start + size] for start in range(0, len(members), size)]


def load(
    folder: Path, manifest_sha256: str | None = None, threads: int = 1, batch: int = 8, gpu: int | None = None
) -> Predictor:
    """The predictor of the package in a folder; what is loaded is what was compared with the package's digests.

    Raises packages.RefusedError for a package that is missing, altered, or another than the one with ``manifest_sha256``.
    """
    described, _ = packages.read(folder, manifest_sha256)
    with packages.opened(folder / packages.GRAPH) as file:
        graph = file.read(packages.LARGEST[packages.GRAPH])
    packages.require_digest(folder, packages.GRAPH, graph, described.files[packages.GRAPH])
    settings = Settings(described.task, described.labels, described.image_size, described.stride)
    return Predictor(graph, settings, threads, batch, gpu)


# --- rendering


def render_refused(task: str, why: str) -> dict[str, Any]:
    """In the place of an image that was refused, beside others that were not: as an image without results, and why."""
    found = "classes" if task == "Classification" else "detections"
    return {"task": task, "width": 0, "height": 0, found: [], "error": why}


def render(prediction: Prediction, labels: Sequence[str]) -> dict[str, Any]:
    """The JSON shape of the service contract. Boxes keep a hundredth of a pixel, scores and probabilities six digits."""
    if isinstance(prediction, Classification):
        order = np.argsort(-prediction.probabilities, kind="stable")
        classes = [
            {"label": labels[i], "classId": int(i), "probability": round(float(prediction.probabilities[i]), 6)}
            for i in order
        ]
        return {
            "task": "Classification",
            "width": prediction.width,
            "height": prediction.height,
            "classes": classes,
        }
    found = [
        {
            "label": labels[class_id],
            "classId": int(class_id),
            "score": round(float(score), 6),
            "box": [round(float(value), 2) for value in box],
        }
        for box, score, class_id in zip(prediction.boxes, prediction.scores, prediction.class_ids, strict=True)
    ]
    return {
        "task": "Detection",
        "width": prediction.width,
        "height": prediction.height,
        "cut": prediction.cut,
        "detections": found,
    }
