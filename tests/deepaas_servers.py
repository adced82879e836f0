"""DEEPaaS' real server and command line for tests, on model packages, in the environment ``deepaas``."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import urllib3

from loopback import free_port
from model_packages import ENVIRONMENTS

PYTHON = ENVIRONMENTS / "deepaas" / "bin" / "python"
PATIENCE = 120
_PASSED_ON = ("PATH", "HOME", "LANG", "TESTS_OF_PELAGOS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")


def environment(package: Path, folder: Path, **variables: str) -> dict[str, str]:
    """The environment variables of a package's server, with ``folder`` for its temporary files."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    folder.mkdir(parents=True, exist_ok=True)
    told = {"PELAGOS_PACKAGE": str(package), "PELAGOS_MANIFEST_SHA256": package.name, "PELAGOS_THREADS": "1"}
    return kept | told | {"TMPDIR": str(folder)} | variables


@dataclass
class Server:
    """``deepaas-run`` as a process; ``folder`` holds its temporary files and its log."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    @property
    def said(self) -> str:
        """The log up to now."""
        return (self.folder / "log").read_text(errors="replace")

    def wait(self) -> None:
        """Wait until the server answers."""
        deadline = monotonic() + PATIENCE
        while True:
            with suppress(urllib3.exceptions.HTTPError):
                if self.get("/v2/models/").status == 200:
                    return
            assert self.process.poll() is None, self.said
            assert monotonic() < deadline, self.said
            sleep(0.1)

    def ended(self) -> int:
        """Wait until the process has ended by itself; returns its exit code. One that does not end is killed."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            # Otherwise it would fail other tests as well: as a process that is left, and as one that nobody waits for.
            for each in (*self.workers(), self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            self.process.wait()
            raise

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        """The answer to a GET of a path."""
        return urllib3.request("GET", f"http://127.0.0.1:{self.port}{path}", retries=False, timeout=PATIENCE)

    def post(self, path: str, form: Mapping[str, Any] | None = None, accept: str = "") -> urllib3.BaseHTTPResponse:
        """The answer to a form of values, and files as (name, content)."""
        headers = {"Accept": accept} if accept else None
        url = f"http://127.0.0.1:{self.port}/v2/models/pelagos/{path}"
        return urllib3.request("POST", url, fields=dict(form or {}), headers=headers, retries=False, timeout=PATIENCE)

    def send(self, body: bytes, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """The answer to a raw body, sent where a form with an image is expected."""
        url = f"http://127.0.0.1:{self.port}/v2/models/pelagos/predict/"
        return urllib3.request("POST", url, body=body, headers=headers, retries=False, timeout=PATIENCE)

    def predict(self, image: bytes, accept: str = "", **form: str) -> urllib3.BaseHTTPResponse:
        """The answer to an image."""
        return self.post("predict/", {"image": ("image", image), **form}, accept)

    def uploads(self) -> list[Path]:
        """Uploaded files that still exist."""
        return [each for each in self.folder.glob("pelagos-uploads-*/*") if each.is_file()]

    def workers(self) -> list[int]:
        """Process ids of the processes that compute."""
        listed = subprocess.run(
            ["pgrep", "--parent", str(self.process.pid), "--full", "spawn_main"], capture_output=True, check=False
        )
        return [int(pid) for pid in listed.stdout.split()]

    def stop(self) -> int:
        """End the server as a container is stopped; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.ended()


def start(package: Path, folder: Path, **variables: str) -> Server:
    """Start the server of a package; the caller stops it."""
    told, port = environment(package, folder, **variables), free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PYTHON, "-m", "pelagos_pipelines.deepaas.server", "--listen-ip=127.0.0.1", f"--listen-port={port}"],
            env=told,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    return Server(process, port, folder)


def command(
    package: Path,
    folder: Path,
    *arguments: str | Path,
    around: tuple[str, ...] = (),
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``deepaas-cli`` and wait until it has ended."""
    line = [*around, PYTHON, "-m", "pelagos_pipelines.deepaas.command", *arguments]
    told = environment(package, folder, **(variables or {}))
    return subprocess.run(line, env=told, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=folder)
