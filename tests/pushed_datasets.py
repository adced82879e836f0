"""A Dataset whose images are pushed to annotation tools, a service whose model suggests annotations, and the command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pelagos.cli.main import app
from pelagos.engines.triton import inference
from pelagos_contract.looks import Seen
from resource_servers import ApiServer

CLASSES = ("cod", "eel")


def version(store: Path, images: Iterable[tuple[str, bytes]], split: str = "test") -> Path:
    """Write a version with these images, by path, to a store; returns its folder."""
    entries = []
    for path, content in images:
        digest = hashlib.sha256(content).hexdigest()
        blob = store / "blobs" / digest[:2] / digest[2:]
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        entries.append({"path": path, "sha256": digest, "split": split})
    folder = store / "versions" / "ab"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"images": entries}))
    return folder


def declare(api: ApiServer, folder: Path, task: str = "Detection") -> None:
    """Add the Dataset ``fish`` with that version, and the Ready service ``finder``."""
    classes = [{"name": name} for name in CLASSES]
    status = {"uri": str(folder), "version": "sha256:ab", "task": task, "classes": classes}
    api.add("fish", status, kind="Dataset")
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": ""}
    served = {"name": "detector", "onnxSha256": "0" * 64}
    api.add("finder", {"conditions": [ready], "url": "grpc://127.0.0.1:1", "model": served}, kind="ModelService")


def answer_with(monkeypatch: pytest.MonkeyPatch, answers: Mapping[bytes, Mapping[str, Any]]) -> list[bytes]:
    """Have the model answer these images and refuse others; returns the list of images that it was asked about."""
    asked: list[bytes] = []

    async def infer(address: str, name: str, image: bytes, timeout: float) -> tuple[Mapping[str, Any], float]:
        asked.append(image)
        if image not in answers:
            raise inference.InferenceError("the image was refused: too small")
        return answers[image], 0.01

    monkeypatch.setattr(inference, "infer", infer)
    return asked


def detections(*scores: float, label: str = "cod") -> dict[str, Any]:
    """The answer of a detector that found a box for each score."""
    found = [{"label": label, "score": score, "box": [10.0, 20.0, 30.0, 60.0]} for score in scores]
    return {"task": "Detection", "width": 100, "height": 80, "detections": found}


def push(*arguments: object) -> Result:
    """Push ``fish`` with the suggestions of ``finder`` to the tool of the Secret ``crew``."""
    wanted = ("annotate", "push", "fish", "--service", "finder", "--to", "crew")
    return CliRunner().invoke(app, [*wanted, *map(str, arguments)])


def note_looks(folder: Path, looks: Mapping[bytes, Seen]) -> None:
    """Write what the preparation recorded of the looks of images, beside a version."""
    rows: list[list[object]] = []
    for content, seen in looks.items():
        look = None if seen.look is None else seen.look.hex()
        rows.append(
            [hashlib.sha256(content).hexdigest(), len(content), 1, 1, "", look, None, [], None, [1, 1, 1, 1], None]
        )
    (folder.parents[1] / "inspections.json").write_text(json.dumps({"version": "9", "inspections": rows}))
