"""Imports an ONNX model that was trained elsewhere as a package, in the store and in MLflow, without evaluating it.

``python -m pelagos_pipelines.steps.importing`` is run by `pelagos model import`. It reads an `ImportRequest` from standard input,
and prints one JSON object: an `ImportResult`, or ``error``.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from pelagos_contract import disk, imports
from pelagos_contract.imports import ImportRequest, ImportResult, Values
from pelagos_contract.tasks import TASKS, Task
from pelagos_contract.training import Parity
from pelagos_pipelines import output, storage
from pelagos_pipelines.export import package, probes
from pelagos_pipelines.export.confined import Confined, GraphError
from pelagos_pipelines.sandbox import MEBIBYTE, Limits, Pool, SandboxError, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.serving import images, packages
from pelagos_pipelines.serving.decoder import Decoder
from pelagos_pipelines.serving.decoding import ImageRefusedError
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.predictions import Floats, Settings, Thresholds
from pelagos_pipelines.serving.tasks.classification import DEVIATION, MEAN
from pelagos_pipelines.serving.tasks.detection import Detections
from pelagos_pipelines.steps import answering
from pelagos_pipelines.storage import StorageError, StorageRefusedError
from pelagos_pipelines.training import registering
from pelagos_pipelines.training.tracking import TrackingError

MOST_IMAGES = 16
"""The most images that the model is tried on, evenly spread over the folder."""
STRIDE = 32
"""The stride of canvases for detectors whose graph has no fixed size."""
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_CHECKS = "pelagos_pipelines.export.graph_checks"
_NEAR = 1e-3
_USUAL = {Task.DETECTION: Values.UNIT, Task.CLASSIFICATION: Values.IMAGE_NET}
"""The values that servers pass to networks of a task."""


class ImportRefusedError(Exception):
    """The model cannot be imported; the message says why, and what to do."""


@dataclass(frozen=True)
class _Tried:
    """A graph as it will be packed, with the pixels of images, its outputs for these, and notes for people."""

    predictor: Confined
    graph: bytes
    pixels: Sequence[Pixels]
    raws: Sequence[Floats]
    notes: Sequence[str]


def run(request: ImportRequest) -> ImportResult:
    """Import the model as a package into the store, and record it in MLflow.

    Raises:
        ImportRefusedError: the model or the images cannot be used.
        StorageError, StorageRefusedError, TrackingError: the storage or MLflow is unavailable, or refuses us.
        FullError, OSError: the package cannot be written.
    """
    if request.task not in _USUAL:
        raise ImportRefusedError(f"--task {request.task.value}: models of {', '.join(_USUAL)} are imported")
    if len(set(request.labels)) != len(request.labels):
        twice = next(name for name in request.labels if request.labels.count(name) > 1)
        raise ImportRefusedError(f"--classes: {twice!r} stands there twice; each output has a class of its own")
    content = _content(Path(request.onnx))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pelagos-import-")))
        tried = _tried(request, content, stack)
        written, uri = _written(request, tried, scratch)
        source = hashlib.sha256(content).hexdigest()
        made = registering.Made(
            uri=uri,
            folder=written.folder,
            manifest_sha256=written.manifest_sha256,
            onnx_sha256=written.onnx_sha256,
            source_sha256=source,
            described={
                "task": request.task.value,
                "classes": len(request.labels),
                "imageSize": tried.predictor.settings.image_size,
                "values": (request.values or _USUAL[request.task]).value,
                "triedOnImages": len(tried.pixels),
                "file": Path(request.onnx).name,
            },
        )
        run_id, version = registering.register(request.tracked, request.name, made)
    return ImportResult(
        uri=uri,
        manifest_sha256=written.manifest_sha256,
        onnx_sha256=written.onnx_sha256,
        model=request.name,
        version=version,
        run=run_id,
        image_size=tried.predictor.settings.image_size,
        images=len(tried.pixels),
        notes=list(tried.notes),
    )


def _content(path: Path) -> bytes:
    most = Ceilings.read().checkpoint_mebibytes * MEBIBYTE
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(size) if size <= most else b""
    except OSError as error:
        raise ImportRefusedError(f"{path} cannot be read: {error.strerror or error}") from None
    if size > most:
        raise ImportRefusedError(
            f"{path} has {size} bytes; at most {most} are read ({raise_it('checkpoint_mebibytes')})"
        )
    return content


def _tried(request: ImportRequest, content: bytes, stack: ExitStack) -> _Tried:
    """Check the graph, and run it on the images."""
    signature, graph = _checked(request, content, soften=False)
    settings = _settings(request, signature)
    pixels, notes = _images(Path(request.images), settings)
    predictor = stack.enter_context(closing(Confined(graph, settings)))
    raws = _outputs(predictor, pixels)
    if request.task is Task.DETECTION:
        _require_boxes(raws, settings)
        fitted = [predictor.fitted(one) for one in pixels]
        found = [predictor.decode(raw, image, Thresholds()) for raw, image in zip(raws, fitted, strict=True)]
        if not any(len(one.scores) for one in found if isinstance(one, Detections)):
            notes.append(
                f"it finds nothing in the {len(pixels)} images at the usual confidence of {Thresholds().confidence}: are they"
                " such as it was trained on, and are --values right?"
            )
    elif not _are_probabilities(raws, settings):
        _, graph = _checked(request, content, soften=True)
        predictor = stack.enter_context(closing(Confined(graph, settings)))
        raws = _outputs(predictor, pixels)
        notes.append("its outputs were no probabilities, so that the package ends with a softmax")
    return _Tried(predictor, graph, pixels, raws, notes)


def _checked(request: ImportRequest, content: bytes, *, soften: bool) -> tuple[dict[str, Any], bytes]:
    most = Ceilings.read()
    limits = Limits(4 * len(content) + 1024 * MEBIBYTE, 120, 240, len(content) + 16 * MEBIBYTE)
    arguments = {"scale": _scale(request.task, request.values), "soften": soften}
    with Pool(_CHECKS, limits, environment=most.variables()) as pool:
        try:
            answer = pool.run("checked", arguments, content)
        except TaskRefusedError as refusal:
            raise ImportRefusedError(f"{request.onnx}: {refusal}") from None
        except SandboxError as error:
            raise ImportRefusedError(f"{request.onnx} cannot be read as an ONNX model: {error}") from None
    return answer.document, bytes(answer.raw)


def _scale(task: Task, values: Values | None) -> list[list[float]] | None:
    """Factors and offsets that convert the server's values for the task to those that the network expects; None if equal."""
    if values is None or values is _USUAL[task]:
        return None
    factors, offsets = np.ones(3), np.zeros(3)
    if task is Task.CLASSIFICATION:  # back to 0 to 1
        factors, offsets = DEVIATION.astype(float), MEAN.astype(float)
    if values is Values.BYTES:
        factors, offsets = factors * 255, offsets * 255
    if values is Values.IMAGE_NET:
        factors, offsets = factors / DEVIATION, (offsets - MEAN) / DEVIATION
    return [[float(each) for each in factors], [float(each) for each in offsets]]


def _settings(request: ImportRequest, signature: dict[str, Any]) -> Settings:
    """The network's settings. Canvases are squares of the size in its graph, or of the requested size if that is open."""
    height, width, asked = signature["height"], signature["width"], request.image_size
    if height != width:
        raise ImportRefusedError(
            f"{request.onnx}: its input is {height or 'any'} x {width or 'any'} pixels, and squares are served: export it with"
            " the same height and width, or with both of any size"
        )
    if height is not None and asked not in {None, height}:
        raise ImportRefusedError(
            f"--image-size {asked}: the graph takes {height} x {height} pixels alone; leave it out"
        )
    size = int(height or asked or TASKS[request.task].image_size)
    if size < 32:
        raise ImportRefusedError(f"{request.onnx}: its input has {size} pixels of a side; at least 32 are served")
    is_open = height is None and request.task is Task.DETECTION
    if is_open and size % STRIDE:
        raise ImportRefusedError(f"--image-size {size}: must be a multiple of {STRIDE}, as the graph takes any")
    return Settings(request.task.value, tuple(request.labels), size, STRIDE if is_open else size)


def _images(folder: Path, settings: Settings) -> tuple[list[Pixels], list[str]]:
    """Images of the folder, each decoded in a sandboxed child first, and notes on those that cannot be used."""
    if not folder.is_dir():
        raise ImportRefusedError(
            f"--images {folder}: is no folder; name one with images as the model is to be asked about"
        )
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    chosen, notes, pixels = files[:: max(len(files) // MOST_IMAGES, 1)][:MOST_IMAGES], [], []
    decoder = Decoder(settings.task, settings.image_size, settings.stride)
    try:
        for path in chosen:
            with path.open("rb") as file:
                content = file.read(decoder.ceilings.image_mebibytes * MEBIBYTE + 1)
            try:
                decoder.decode(content)
                pixels.append(images.decode_known(content))
            except ImageRefusedError as error:
                notes.append(f"{path.name} is not used: {error}")
    finally:
        decoder.close()
    if not pixels:
        more = f"; {notes[0]}" if notes else ""
        raise ImportRefusedError(f"--images {folder}: there is no JPEG or PNG that can be used{more}")
    return pixels, notes


def _outputs(predictor: Confined, pixels: Sequence[Pixels]) -> list[Floats]:
    try:
        return predictor.outputs([predictor.fitted(one) for one in pixels])
    except GraphError as error:
        raise ImportRefusedError(f"the model cannot be used: {error}") from None


def _require_boxes(raws: Sequence[Floats], settings: Settings) -> None:
    """Require outputs that servers can decode: [4 + classes, anchors], centre and size in pixels, and scores from 0 to 1."""
    count = len(settings.labels)
    # With canvases of several sizes, any of the outputs may have a wrong shape.
    shape = next((raw.shape for raw in raws if raw.ndim != 2 or len(raw) != 4 + count), raws[0].shape)
    wanted = f"[{4 + count}, anchors]: centre x, y, width, height in pixels of the input, and a score for each of {count} classes"
    if len(shape) != 2:
        raise ImportRefusedError(f"its output for an image is {list(shape)} and must be {wanted}")
    if shape[0] != 4 + count:
        hint = ""
        if shape[1] in {6, 4 + count, 5 + count}:
            hint = (
                "; it looks like boxes after suppression, or like anchors first, as of YOLOv5: export it as ultralytics exports"
                " YOLOv8, without NMS"
            )
        elif 4 < shape[0] < shape[1]:
            hint = f"; it has {shape[0] - 4} classes, and --classes names {count}"
        raise ImportRefusedError(f"its output for an image is {list(shape)} and must be {wanted}{hint}")
    scores = [raw[4:] for raw in raws]
    if min(one.min() for one in scores) < -_NEAR or max(one.max() for one in scores) > 1 + _NEAR:
        raise ImportRefusedError(
            f"its scores are not from 0 to 1: export it with their sigmoid. Its output must be {wanted}"
        )
    reach = max(float(np.abs(raw[:4]).max()) for raw in raws)
    if reach <= 2 or min(float(raw[2:4].min()) for raw in raws) < -_NEAR * settings.image_size:
        raise ImportRefusedError(
            f"its boxes are not in pixels, or have negative sides (the largest number is {reach:.3g}):"
            f" its output must be {wanted}"
        )


def _are_probabilities(raws: Sequence[Floats], settings: Settings) -> bool:
    """Whether a classifier's outputs are probabilities that add up to 1; False for logits."""
    shape, count = raws[0].shape, len(settings.labels)
    if shape != (count,):
        raise ImportRefusedError(
            f"its output for an image is {list(shape)} and must be [{count}], a number for each class that --classes names"
        )
    within = all(raw.min() >= -_NEAR and raw.max() <= 1 + _NEAR for raw in raws)
    adding_up = all(abs(float(raw.sum()) - 1) <= 10 * _NEAR for raw in raws)
    if within and not adding_up and count > 1:
        raise ImportRefusedError(
            "its outputs are from 0 to 1 and do not add up to 1, as of independent classes (sigmoid), which are not served as"
            " Classification: export it with a softmax, or with logits"
        )
    return within and adding_up


def _written(request: ImportRequest, tried: _Tried, scratch: Path) -> tuple[package.Written, str]:
    """Write the package, with the graph's own answer for one of the images as the known one. Returns it and its uri."""
    predictor, thresholds = tried.predictor, Thresholds(max_detections=1_000)
    fitted = [predictor.fitted(one) for one in tried.pixels]
    candidates = [
        probes.Candidate(image, raw, raw, predictor.decode(raw, image, thresholds))
        for image, raw in zip(fitted, tried.raws, strict=True)
    ]
    try:
        chosen, outputs = probes.choose(predictor, candidates, thresholds)
    except GraphError as error:
        raise ImportRefusedError(f"the model cannot be used: {error}") from None
    place = storage.Place(request.store, scratch / "store")
    place.folder.mkdir(parents=True, exist_ok=True)
    onnx = scratch / "model.onnx"
    with disk.written(onnx):
        onnx.write_bytes(tried.graph)
    content = package.Content(
        family=imports.FAMILY,
        architecture=imports.FAMILY,
        dataset={"name": "unknown", "version": imports.NOT_EVALUATED},
        settings=predictor.settings,
        onnx=onnx,
        parity=Parity(images=0, boxes=0, scores=0),
        probe=tried.pixels[chosen],
        known=candidates[chosen].known,
        outputs=outputs,
        thresholds=Thresholds(),
    )
    try:
        written = package.write(content, place.folder)
    except packages.RefusedError as error:
        raise ImportRefusedError(f"it cannot be packed: {error}") from None
    place.push(lambda path: not path.startswith("."), lambda path: int(path.endswith(f"/{packages.DESCRIPTION}")))
    return written, place.kept_as(written.folder)


def main() -> int:
    """Import the model that standard input describes, and print the result. Returns the exit code."""
    output.guard_output()

    def answered() -> ImportResult:
        return run(ImportRequest.model_validate_json(sys.stdin.buffer.read()))

    expected = (ImportRefusedError, StorageError, StorageRefusedError, TrackingError, OSError, ValidationError)
    return answering.answer(answered, expected)


if __name__ == "__main__":
    sys.exit(main())
