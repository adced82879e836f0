"""Fixtures for tests with real model packages: made once per session by the real exporter, in its own environment."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pelagos.engines.triton.package import Manifest
from pelagos.ports.serving import DesiredService

MakeWant = Callable[..., DesiredService]

ENVIRONMENTS = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[1] / ".venvs"))


DESCRIPTION: dict[str, Any] = {
    "schemaVersion": 2,
    "task": "Detection",
    "family": "colours",
    "architecture": "colour detection",
    "labels": ["Ceratium", "detritus"],
    "onnxSha256": "a" * 64,
    "input": {"imageSize": 64, "stride": 32, "encodings": ["jpeg", "png"]},
    "thresholds": {"confidence": 0.25, "iou": 0.7, "maxDetections": 300},
    "dataset": {"name": "colours", "version": "sha256:0"},
    "parity": {"images": 1, "boxes": 0.0, "scores": 0.001},
    "files": {"model.onnx": "a" * 64, "probe.png": "b" * 64, "probe.json": "c" * 64},
}
"""The content of ``package.json``."""


def described(**changes: Any) -> Manifest:
    """The description with changed fields, parsed as the engines hold it."""
    return Manifest.model_validate(DESCRIPTION | changes)


def altered(package: Path, folder: Path, contents: Mapping[str, bytes], **fields: object) -> tuple[str, str]:
    """A consistent copy in ``folder`` with other files and fields of its description; returns its digest and its graph's."""
    shutil.copytree(package, folder)
    description = json.loads((folder / "package.json").read_text())
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        description["files"][name] = hashlib.sha256(content).hexdigest()
    description["onnxSha256"] = description["files"]["model.onnx"]
    text = json.dumps(description | fields)
    (folder / "package.json").write_text(text)
    return hashlib.sha256(text.encode()).hexdigest(), description["onnxSha256"]


@pytest.fixture(scope="session")
def environments() -> Path:
    """The folder with the environments ``tracking`` and ``triton``."""
    return ENVIRONMENTS


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Model packages made by the real exporter: the folder and the sha256 of the graph by task."""
    folder = tmp_path_factory.mktemp("packages")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # shared by all workers of this run: the first one builds for all
    listing, built = shared / "packages.json", shared / "packages-of-all"
    with (shared / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not listing.exists():
            built.mkdir(exist_ok=True)
            builder = Path(__file__).parent / "build_packages.py"
            command = [ENVIRONMENTS / "pipelines/bin/python", builder, built]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            listing.write_text(done.stdout)
    shutil.copytree(built, folder, dirs_exist_ok=True)
    made = json.loads(listing.read_text()).items()
    return {task: (str(folder / Path(uri).relative_to(built)), digest) for task, (uri, digest) in made}


@pytest.fixture
def make_want(packages: dict[str, tuple[str, str]]) -> MakeWant:
    """Builds the desired state of a service; its digest follows from its fields."""

    def make(task: str = "Detection", **changes: Any) -> DesiredService:
        uri, onnx_sha256 = packages[task]
        fields: dict[str, Any] = {
            "uid": "5f0c", "namespace": "default", "name": "detector", "model_name": "detector",
            "package_uri": uri, "onnx_sha256": onnx_sha256,
            "manifest_sha256": Path(uri).name, "max_batch_size": 4, "max_queue_delay": 1000,
            "instances": 1, "confidence": "0.25", "iou": "0.7", "cpu": 1,
        }  # fmt: skip
        fields |= changes
        return DesiredService(**{"digest": repr(sorted(fields.items())), **fields})

    return make
