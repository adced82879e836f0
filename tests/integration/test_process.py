"""The operator's process as it is started in production: what it imports before it watches."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from control_plane import ControlPlane

# kopf tries to import the official client, without success: Pelagos withholds it.
VENDORS = {
    "boto3",
    "google",
    "grpc",
    "kfp",
    "kfp_server_api",
    "kserve",
    "kubernetes.client.api_client",
    "mlflow",
    "numpy",
    "obstore",
    "pandas",
    "torch",
    "tritonclient",
}
_LINE = re.compile(r"^import time: +\d+ \| +\d+ \| +(\S+)$", re.MULTILINE)


def loaded(plane: ControlPlane, home: Path) -> set[str]:
    """Modules that ``python -m pelagos`` has imported, or tried to import, by the time that it watches."""
    environment = {
        **os.environ,
        "PELAGOS_HOME": str(home),
        "PELAGOS_KUBECONFIG": str(plane.kubeconfig),
        "PELAGOS_TRACKING_URI": "http://127.0.0.1:9",
    }
    log = home / "log"
    home.mkdir()
    with log.open("wb") as output:
        command = [sys.executable, "-X", "importtime", "-m", "pelagos"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while not (home / "operator.json").exists():
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(2)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    return set(_LINE.findall(log.read_text()))


def test_the_operator_starts_without_the_libraries_of_vendors(plane: ControlPlane, tmp_path: Path) -> None:
    modules = loaded(plane, tmp_path / "home")

    assert {"pelagos", "kopf", "aiohttp"} <= modules
    assert modules & VENDORS == set()
