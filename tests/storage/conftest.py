"""A real S3-compatible server (moto), real steps. Each test has its own scratch folder; no part of the client is replaced."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faulty_proxy import Proxy, proxied
from object_storage import ObjectStorage


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for the test's temporary files, of which each pod has its own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def proxy(object_storage: ObjectStorage, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that all requests of the test go through."""
    with proxied(object_storage.url) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        yield made
