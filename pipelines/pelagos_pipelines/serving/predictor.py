"""Encoded images in, typed predictions out: decode, letterbox, ONNX inference, non-maximum suppression.

Triton's Python backend calls it through model.py, the export through its parity check, and the MobileNet training for its pixels.
It may know numpy, OpenCV, onnxruntime and serving.packages only, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from pelagos_pipelines.serving import packages

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int32]
Pixels: TypeAlias = npt.NDArray[np.uint8]
"""An image as OpenCV holds it: ``[height, width, 3]``, blue first."""

MAX_BYTES = 64 * 1024 * 1024
MAX_PIXELS = 100_000_000
"""Decoding needs three bytes a pixel: a request may cost 300 MB, not more."""
PADDING = 114
"""Grey level of letterbox borders, as YOLO is trained with."""
CLASS_OFFSET = np.float32(7680)
"""Boxes are moved apart by this many pixels per class, so that suppression never crosses classes."""
MAX_CANDIDATES = 30_000
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
"""ImageNet statistics, red first: the scale that classification checkpoints of the field are trained with."""


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class NoGpuError(Exception):
    """A GPU was asked for and cannot be used; the message says why."""


class ImageRefusedError(Exception):
    """The bytes are not an image that is served; the message says why."""


@dataclass(frozen=True)
class Settings:
    """What a package says about its model. ``image_size`` and ``stride`` are in pixels."""

    task: str
    labels: tuple[str, ...]
    image_size: int
    stride: int


@dataclass(frozen=True)
class Thresholds:
    """What turns raw detector output into detections; the defaults are those of ``YOLO.predict``."""

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = 300


@dataclass(frozen=True)
class Detections:
    """Boxes of one image: ``[n, 4]`` x1, y1, x2, y2 in pixels of the original; ``scores`` [n] descending; ``class_ids`` [n]."""

    width: int
    height: int
    boxes: Floats
    scores: Floats
    class_ids: Integers


@dataclass(frozen=True)
class Classification:
    """``probabilities`` [classes] of one image; they add up to 1."""

    width: int
    height: int
    probabilities: Floats


Prediction = Detections | Classification


# --- decoding


def decode(data: bytes) -> Pixels:
    """The pixels of an encoded JPEG or PNG.

    Raises:
        ImageRefusedError: not a JPEG or PNG, more than ``MAX_PIXELS`` or ``MAX_BYTES``, truncated, or unreadable.
    """
    if len(data) > MAX_BYTES:
        raise ImageRefusedError(f"the image has {len(data)} bytes; at most {MAX_BYTES} are accepted")
    width, height = dimensions(data)
    if width * height > MAX_PIXELS or min(width, height) < 1:
        raise ImageRefusedError(f"the image has {width} x {height} pixels; from 1 to {MAX_PIXELS} are accepted")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageRefusedError(f"the image cannot be decoded: {error}") from error
    if image is None:
        raise ImageRefusedError("the image cannot be decoded: its content is damaged; send a complete JPEG or PNG")
    return image


def dimensions(data: bytes) -> tuple[int, int]:
    """Width and height in pixels as the header states them, without decoding.

    Raises:
        ImageRefusedError: neither JPEG nor PNG, or the file ends too early.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        if b"IEND" not in data[-64:]:
            raise ImageRefusedError("the PNG is truncated: its end marker is missing; send the complete file")
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_dimensions(data)
    raise ImageRefusedError("the image is neither JPEG nor PNG; encode it as one of these")


def _jpeg_dimensions(data: bytes) -> tuple[int, int]:
    size: tuple[int, int] | None = None
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header; the others are tables
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            size = int.from_bytes(data[position + 7 : position + 9], "big"), height
        if marker == 0xDA:  # the scan starts: what follows is entropy coded
            break
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    # A thumbnail has an end marker of its own, so only one after the start of the scan counts.
    if size is None or data.find(b"\xff\xd9", position) < 0:
        raise ImageRefusedError("the JPEG is truncated: a header or its end marker is missing; send the complete file")
    return size


# --- geometry


@dataclass(frozen=True)
class Fit:
    """How an image was placed on the canvas: resized to ``width`` x ``height``, then moved by ``left``, ``top``."""

    width: int
    height: int
    left: int
    top: int
    canvas_width: int
    canvas_height: int


def fit(width: int, height: int, size: int, stride: int) -> Fit:
    """Where an image goes on the smallest canvas whose sides are multiples of ``stride`` and at most ``size``.

    The same arithmetic as the letterbox of ultralytics (minimum rectangle, centred); ``stride == size`` gives a square.
    """
    ratio = min(size / height, size / width)
    inner_width, inner_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
    spare_x = (size - inner_width) % stride / 2
    spare_y = (size - inner_height) % stride / 2
    left, right = round(spare_x - 0.1), round(spare_x + 0.1)
    top, bottom = round(spare_y - 0.1), round(spare_y + 0.1)
    return Fit(inner_width, inner_height, left, top, inner_width + left + right, inner_height + top + bottom)


def place(image: Pixels, place_at: Fit, interpolation: int = cv2.INTER_LINEAR) -> Pixels:
    """The canvas ``[canvas_height, canvas_width, 3]`` with the image on it and grey around."""
    if image.shape[:2] != (place_at.height, place_at.width):
        image = cv2.resize(image, (place_at.width, place_at.height), interpolation=interpolation)
    if (place_at.canvas_height, place_at.canvas_width) == image.shape[:2]:
        return image
    canvas: Pixels = np.full((place_at.canvas_height, place_at.canvas_width, 3), PADDING, np.uint8)
    canvas[
        place_at.top : place_at.top + place_at.height,
        place_at.left : place_at.left + place_at.width,
    ] = image
    return canvas


def square(image: Pixels, size: int) -> Pixels:
    """The image on a square canvas, as classifiers see it; shrinking averages, so that thin organisms do not vanish."""
    at = fit(image.shape[1], image.shape[0], size, stride=size)
    shrinks = at.width < image.shape[1]
    return place(image, at, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def normalise(images: npt.NDArray[np.uint8]) -> Floats:
    """Canvases ``[n, h, w, 3]`` blue first to the classifier's input ``[n, 3, h, w]`` red first."""
    values = (images[..., ::-1].astype(np.float32) / np.float32(255) - MEAN) / DEVIATION
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


# --- suppression


def suppress(boxes: Floats, scores: Floats, iou: float, limit: int) -> npt.NDArray[np.int64]:
    """Indices of the boxes ``[n, 4]`` that survive greedy non-maximum suppression, best first.

    The arithmetic of torchvision.ops.nms: float32, a box is dropped when its IoU with a better one is above ``iou``.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes[order].T
    areas = (x2 - x1) * (y2 - y1)
    alive: Any = np.ones(len(order), bool)
    kept: list[int] = []
    for index in range(len(order)):
        if not alive[index]:
            continue
        kept.append(index)
        if len(kept) == limit:
            break
        rest = slice(index + 1, None)
        width = np.maximum(np.minimum(x2[index], x2[rest]) - np.maximum(x1[index], x1[rest]), 0)
        height = np.maximum(np.minimum(y2[index], y2[rest]) - np.maximum(y1[index], y1[rest]), 0)
        shared = width * height
        with np.errstate(invalid="ignore", divide="ignore"):
            alive[rest] &= ~(shared / (areas[index] + areas[rest] - shared) > iou)
    return order[kept]


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
    if len(scores) > MAX_CANDIDATES:
        chosen = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
        raw, scores, classes = raw[chosen], scores[chosen], classes[chosen]
    half = raw[:, 2:4] / np.float32(2)
    boxes = np.concatenate((raw[:, :2] - half, raw[:, :2] + half), axis=1)
    apart = classes.astype(np.float32)[:, None] * CLASS_OFFSET
    kept = suppress(boxes + apart, scores, thresholds.iou, thresholds.max_detections)
    width, height = original
    scale = np.array([at.width / width, at.height / height] * 2, np.float32)
    boxes = (boxes[kept] - np.array([at.left, at.top] * 2, np.float32)) / scale
    boxes = boxes.clip(0, np.array([width, height] * 2, np.float32)).astype(np.float32)
    return Detections(width, height, boxes, scores[kept].astype(np.float32), classes[kept].astype(np.int32))


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
        self._session = onnxruntime.InferenceSession(model, options, providers=chosen)
        if gpu is not None and CUDA not in self._session.get_providers():
            # ONNX Runtime would serve on the processor, and only log it.
            raise NoGpuError(f"GPU {gpu} cannot be used: CUDA or cuDNN of the image does not start on this node")
        self._input = self._session.get_inputs()[0].name
        self._batch = batch

    def predict(self, images: Sequence[Pixels], thresholds: Thresholds | None = None) -> list[Prediction]:
        """Predictions in the order of ``images``. Images that letterbox to one shape share a batch."""
        if self.settings.task == "Classification":
            return self._classify(images)
        return self._detect(images, thresholds or Thresholds())

    def _detect(self, images: Sequence[Pixels], thresholds: Thresholds) -> list[Prediction]:
        size, stride = self.settings.image_size, self.settings.stride
        fits = [fit(image.shape[1], image.shape[0], size, stride) for image in images]
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, at in enumerate(fits):
            groups[at.canvas_height, at.canvas_width].append(index)
        results: dict[int, Prediction] = {}
        for members in groups.values():
            for chosen in _chunks(members, self._batch):
                canvases = np.stack([place(images[index], fits[index]) for index in chosen])
                values = canvases[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32, order="C")
                values /= np.float32(255)
                for index, raw in zip(chosen, self._run(values), strict=True):
                    original = images[index].shape[1], images[index].shape[0]
                    results[index] = detections(raw, fits[index], original, thresholds)
        return [results[index] for index in range(len(images))]

    def _classify(self, images: Sequence[Pixels]) -> list[Prediction]:
        results: list[Prediction] = []
        for chosen in _chunks(range(len(images)), self._batch):
            canvases = np.stack([square(images[index], self.settings.image_size) for index in chosen])
            for index, probabilities in zip(chosen, self._run(normalise(canvases)), strict=True):
                results.append(Classification(images[index].shape[1], images[index].shape[0], probabilities))
        return results

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
    return {"task": "Detection", "width": prediction.width, "height": prediction.height, "detections": found}
