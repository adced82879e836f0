"""Writes model packages: the folder that a ModelService serves, named by the digest of its description (contract 0001).

Called by the step export after parity is proven. A package is written beside its final place, synced and renamed, so that a
folder with the final name is always complete. It only has data; the code that serves it is in serving.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from pelagos_contract import disk
from pelagos_contract.training import Parity
from pelagos_pipelines.serving import packages
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.predictions import Prediction, Settings, Thresholds


@dataclass(frozen=True)
class Content:
    """The content of a package. ``known`` is the training framework's prediction for ``probe``, ``outputs`` the sketch of the
    graph's outputs for it, see probes. ``thresholds`` are those of the training's evaluation.
    """

    family: str
    architecture: str
    dataset: dict[str, str]
    settings: Settings
    onnx: Path
    parity: Parity
    probe: Pixels
    known: Prediction
    outputs: Mapping[str, Any] | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True)
class Written:
    """The package's folder, the SHA-256 of its description, which pins the whole package, and that of its graph."""

    folder: Path
    manifest_sha256: str
    onnx_sha256: str


def write(content: Content, store: Path) -> Written:
    """Write the package below ``store``. A complete existing one is kept."""
    partial = store / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk.written(partial):
            partial.mkdir(parents=True)
            return _put(content, partial, store)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put(content: Content, partial: Path, store: Path) -> Written:
    settings, thresholds = content.settings, content.thresholds
    is_calibrated = settings.scaling is not None or bool(settings.confidences)
    shutil.copyfile(content.onnx, partial / packages.GRAPH)
    # Encoded in memory, since OpenCV does not report files that it cannot write.
    (partial / packages.IMAGE).write_bytes(cv2.imencode(".png", content.probe)[1].data)
    _write_json(partial / packages.ANSWER, content.known.render(settings.labels))
    digests = {name: _sha256(partial / name) for name in packages.FILES}
    description = {
        "schemaVersion": packages.CALIBRATED_VERSION if is_calibrated else packages.SCHEMA_VERSION,
        "task": settings.task,
        **({"head": settings.head} if settings.head is not None else {}),
        "family": content.family,
        "architecture": content.architecture,
        "labels": list(settings.labels),
        **({"stuff": list(settings.stuff)} if settings.stuff else {}),
        "onnxSha256": digests[packages.GRAPH],
        "input": {"imageSize": settings.image_size, "stride": settings.stride, "encodings": ["jpeg", "png"]}
        | ({"color": settings.color} if settings.color is not None else {})
        | ({"resize": {"longest": settings.longest}} if settings.longest is not None else {})
        | ({"tile": dict(zip(("size", "overlap"), settings.tile, strict=True))} if settings.tile is not None else {}),
        "thresholds": {
            "confidence": thresholds.confidence,
            "iou": thresholds.iou,
            "maxDetections": thresholds.max_detections,
        }
        | ({"classes": dict(settings.confidences)} if settings.confidences else {}),
        **({"calibration": dataclasses.asdict(settings.scaling)} if settings.scaling is not None else {}),
        "dataset": content.dataset,
        "parity": content.parity.model_dump(by_alias=True),
        "files": digests,
    }
    # Written last, since it pins the package by the digests of all other files.
    _write_json(
        partial / packages.DESCRIPTION,
        description | ({"probe": content.outputs} if content.outputs is not None else {}),
    )
    manifest = _sha256(partial / packages.DESCRIPTION)
    # The check of servers, so that a package that could not be served is not created.
    packages.verify(partial, manifest)
    written = Written(store / manifest, manifest, digests[packages.GRAPH])
    if _is_whole(written):
        return written
    for path in partial.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    # Synced before the rename: after a power failure there is a complete package or none.
    _sync_folder(partial)
    # An existing folder at this point was altered after it was written.
    shutil.rmtree(written.folder, ignore_errors=True)
    partial.rename(written.folder)
    _sync_folder(store)
    return written


def _is_whole(written: Written) -> bool:
    try:
        packages.verify(written.folder, written.manifest_sha256)
    except packages.RefusedError:
        return False
    return True


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
