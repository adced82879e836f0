"""A real MLflow server on SQLite, in its own environment, for tests of both planes; a test may kill it and start it again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

TRACKING = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[1] / ".venvs")) / "tracking"


class MlflowServer:
    """One address and one store; the process can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        # The worker that ``mlflow server`` starts, without the parent process, which would only start it and wait.
        command = [
            *(str(TRACKING / "bin" / "python"), "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(self._port)),
            "mlflow.server.fastapi_app:app",
        ]
        environment = {
            "PATH": f"{TRACKING / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self._folder),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{self._folder}/mlflow.db",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(self._folder / "artifacts"),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SGI_NAME": "uvicorn",
        }
        log = self._folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                # The first request creates the database, which takes longer than clients would wait.
                with urllib.request.urlopen(f"{self.uri}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=120):
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"MLflow did not start:\n{log.read_text(errors='replace')[-3000:]}")

    def kill(self) -> None:
        """Send SIGKILL to the server's process group."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
