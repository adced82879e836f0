"""The main job on one machine, with nothing replaced: real API server, operator, pipelines, MLflow and Triton, real images.

One installation serves all tests of this folder. Images: the samples, composed again from the wheel that `make samples` fetched.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from installations import ENVIRONMENTS, ROOT, Installation

SAMPLES = Path(os.environ.get("PELAGOS_SAMPLES", ROOT / ".pelagos" / "data" / "samples"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running installation with the samples on its data volume."""
    if not (ENVIRONMENTS / "pipelines").is_dir() or not SAMPLES.is_dir():
        pytest.fail("the main job needs `make install samples`")
    # With gateway and hub, if they are installed: their tests are in this folder.
    monkeypatch = pytest.MonkeyPatch()
    for part in ("gateway", "hub"):
        monkeypatch.setenv(f"PELAGOS_EMBEDDED_{part.upper()}", str((ENVIRONMENTS / part).is_dir()).lower())
    made = Installation(tmp_path_factory.mktemp("site"))
    shutil.copytree(SAMPLES, made.home / "data" / "samples")
    made.pelagos("up")
    yield made
    made.pelagos("down")
    monkeypatch.undo()
