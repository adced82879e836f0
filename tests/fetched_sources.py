"""Datasets whose source is on a server: archives of images in memory, and the preparation step called as an engine calls it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pelagos_contract.dataset import PreparationResult
from pelagos_contract.failures import RefusedError
from pelagos_pipelines.steps.prepare import prepare
from web_servers import Server


def image(seed: int, width: int = 40, height: int = 30) -> bytes:
    """A PNG of noise; ``seed`` makes it unique."""
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


def folder(count: int = 6) -> dict[str, bytes]:
    """An ImageFolder with two classes: content by path."""
    return {f"{'crab' if number % 2 else 'fish'}/{number}.png": image(number) for number in range(count)}


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip archive with these files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return content.getvalue()


@dataclass
class Step:
    """A preparation.

    ``place`` is the field of spec.source, ``source`` its content, ``request`` all other fields of the request.
    """

    server: Server
    root: Path
    place: str
    source: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=lambda: {"task": "Classification"})

    def run(self, retry: str = "", **source: Any) -> PreparationResult:
        """Prepare; ``source`` replaces fields. ``retry`` differs for each new look at the same source."""
        asked = self.request | {"source": {self.place: self.source | source}} | ({"retry": retry} if retry else {})
        prepare(json.dumps(asked), str(self.root / "data"), str(self.root / "store"), str(self.root / "report"))
        return PreparationResult.model_validate_json((self.root / "report" / "result.json").read_bytes())

    def refusal(self, **source: Any) -> RefusedError:
        """The error with which the step refuses, which it also reports."""
        with pytest.raises(RefusedError) as caught:
            self.run(**source)
        told = json.loads((self.root / "report" / "failure.json").read_bytes())
        assert told["reason"] == caught.value.failure.reason
        return caught.value


def allow(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Allow the server in this process, and keep copies below ``tmp_path``."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
