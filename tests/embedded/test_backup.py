"""Runs the commands for one machine in docs/backup.md verbatim; the folder is removed in between."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from embedded.test_whole import ENVIRONMENTS, Installation, installation

__all__ = ["installation"]
pytestmark = [pytest.mark.embedded, pytest.mark.timeout(900)]

PAGE = (Path(__file__).parents[2] / "docs/backup.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.+)$", PAGE[PAGE.index("## On one machine") : PAGE.index("## Trying it")], re.M)
RESOURCE = {
    "apiVersion": "pelagos.dev/v1alpha1",
    "kind": "Dataset",
    "metadata": {"name": "nowhere", "namespace": "default"},
    "spec": {"source": {"volume": {"path": "nowhere"}}, "task": "Detection"},
}


def run(found: Installation, command: str, folder: Path) -> None:
    """Run a command as a person's shell does."""
    programs = f"{ENVIRONMENTS / 'control-plane' / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {"PELAGOS_HOME": str(found.layout.home), "PELAGOS_ENVIRONMENTS": str(ENVIRONMENTS)}
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment | {"PATH": programs},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, command + done.stdout + done.stderr


def test_a_folder_that_was_lost_is_restored_with_status_tracking_and_key(
    installation: Installation, tmp_path: Path
) -> None:
    down, pack, make, unpack, up = COMMANDS
    assert installation.run("up").returncode == 0
    installation.kubectl("apply", "-f", "-", given=json.dumps(RESOURCE))
    installation.kubectl("wait", "dataset/nowhere", "--for=jsonpath={.status.observedGeneration}=1", "--timeout=60s")
    before = json.loads(installation.kubectl("get", "dataset", "nowhere", "--output=json"))
    experiment = installation.mlflow("experiments/create", {"name": "kept"})
    key = (installation.layout.home / "authority" / "current").read_bytes()

    run(installation, down, tmp_path)
    run(installation, pack, tmp_path)
    shutil.rmtree(installation.layout.home)
    for command in (make, unpack, up):
        run(installation, command, tmp_path)

    after = json.loads(installation.kubectl("get", "dataset", "nowhere", "--output=json"))
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["conditions"] == before["status"]["conditions"]
    found = installation.mlflow(f"experiments/get?experiment_id={experiment['experiment_id']}")
    assert found["experiment"]["name"] == "kept"
    assert (installation.layout.home / "authority" / "current").read_bytes() == key
    assert installation.layout.home.stat().st_mode & 0o077 == 0
    assert installation.run("down").returncode == 0
