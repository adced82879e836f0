"""Fixtures for tests with real model packages: made once per session by the real exporter, in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pelagos.ports.serving import ServiceWant

MakeWant = Callable[..., ServiceWant]

ENVIRONMENTS = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[1] / ".venvs"))


@pytest.fixture(scope="session")
def environments() -> Path:
    """The folder with the environments ``tracking`` and ``triton``."""
    return ENVIRONMENTS


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Model packages made by the real exporter: the folder and the sha256 of the graph by task."""
    folder = tmp_path_factory.mktemp("packages")
    builder = Path(__file__).parent / "engines/build_packages.py"
    command = [ENVIRONMENTS / "pipelines/bin/python", builder, folder]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {task: (uri, digest) for task, (uri, digest) in json.loads(done.stdout).items()}


@pytest.fixture
def make_want(packages: dict[str, tuple[str, str]]) -> MakeWant:
    """Build the want of a service; its digest follows from its fields."""

    def make(task: str = "Detection", **changes: Any) -> ServiceWant:
        uri, onnx_sha256 = packages[task]
        fields: dict[str, Any] = {
            "uid": "5f0c", "namespace": "default", "name": "detector", "model_name": "detector",
            "package_uri": uri, "onnx_sha256": onnx_sha256, "max_batch_size": 4, "max_queue_delay": 1000,
            "instances": 1, "confidence": "0.25", "iou": "0.7", "cpu": 1,
        }  # fmt: skip
        fields |= changes
        return ServiceWant(**{"digest": repr(sorted(fields.items())), **fields})

    return make
