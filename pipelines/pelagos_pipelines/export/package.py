"""The model package: the folder that a ModelService serves, named by the digest of its graph (contract 0001).

Called by the export task when parity is proven. A package is written beside its final place, synced and renamed, so a
folder with the final name is always whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from pelagos_pipelines.contract import Parity
from pelagos_pipelines.export import triton
from pelagos_pipelines.serving import predictor
from pelagos_pipelines.serving.predictor import Pixels, Prediction, Settings, Thresholds

SCHEMA_VERSION = 1
CODE = ("model.py", "predictor.py")


@dataclass(frozen=True)
class Content:
    """What goes into a package. ``known`` is what the training framework predicts for ``probe``."""

    family: str
    architecture: str
    dataset: dict[str, str]
    settings: Settings
    onnx: Path
    parity: Parity
    probe: Pixels
    known: Prediction


def write(content: Content, store: Path) -> tuple[Path, str]:
    """Write the package below ``store`` and return its folder and the sha256 of its graph.

    An existing package of the same graph is left as it is.
    """
    digest = _sha256(content.onnx)
    target = store / digest
    if target.exists():
        return target, digest
    partial = store / f".{digest}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    version = partial / "triton" / "1"
    version.mkdir(parents=True)
    shutil.copyfile(content.onnx, version / "model.onnx")
    for name in CODE:
        shutil.copyfile(Path(predictor.__file__).with_name(name), version / name)
    (version / "model.json").write_text(predictor.render_settings(content.settings), encoding="utf-8")
    _write_json(partial / "triton" / "config.json", triton.model_config(f"model-{digest[:12]}", content.settings))
    cv2.imwrite(str(partial / "probe.png"), content.probe)
    _write_json(partial / "probe.json", predictor.render(content.known, content.settings.labels))
    _write_json(partial / "package.json", _description(content, digest, partial))
    _sync(partial)
    partial.rename(target)
    _sync_folder(store)
    return target, digest


def _description(content: Content, digest: str, folder: Path) -> dict[str, Any]:
    settings, thresholds = content.settings, Thresholds()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "schemaVersion": SCHEMA_VERSION,
        "task": settings.task,
        "family": content.family,
        "architecture": content.architecture,
        "labels": list(settings.labels),
        "onnxSha256": digest,
        "input": {"imageSize": settings.image_size, "stride": settings.stride, "encodings": ["jpeg", "png"]},
        "thresholds": {
            "confidence": thresholds.confidence,
            "iou": thresholds.iou,
            "maxDetections": thresholds.max_detections,
        },
        "dataset": content.dataset,
        "parity": content.parity.model_dump(by_alias=True),
        "files": {path.relative_to(folder).as_posix(): _sha256(path) for path in files},
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
