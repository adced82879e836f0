"""kopf's side: login, watches, start and stop. A real API server without our kinds, unless the test creates them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane import ControlPlane, start_control_plane

PROGRAM = Path(__file__).parents[1] / "leadership" / "operator_program.py"


@dataclass
class Starting:
    """An operator's process, which may never become ready."""

    process: subprocess.Popen[bytes]
    home: Path

    def ask(self, path: str) -> tuple[int, str]:
        """GET from its own server; (0, "") when it does not answer."""
        try:
            port = json.loads((self.home / "operator.json").read_text())["metrics_port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (OSError, ValueError):
            return 0, ""

    def submitted(self) -> int:
        """How many runs were submitted."""
        journal = self.home / "journal.jsonl"
        return len(journal.read_text().splitlines()) if journal.exists() else 0


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One API server for all tests."""
    running = start_control_plane(tmp_path_factory.mktemp("plane"))
    yield running
    running.stop()


@pytest.fixture
def bare(server: ControlPlane) -> Iterator[ControlPlane]:
    """An API server without our kinds."""
    yield server
    server.remove_crds()


@pytest.fixture
def starting(bare: ControlPlane, tmp_path: Path) -> Iterator[Starting]:
    """An operator that was just started."""
    home = tmp_path / "home"
    home.mkdir()
    ours = {
        "PELAGOS_HOME": str(home),
        "PELAGOS_KUBECONFIG": str(bare.kubeconfig),
        "PELAGOS_NAMESPACE": "default",
        "SHARED_FOLDER": str(home),
        "NO_PROXY": "127.0.0.1",
    }
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, str(PROGRAM)], env={**os.environ, **ours}, stdout=log, stderr=log)
    yield Starting(process, home)
    process.kill()
    process.wait()
