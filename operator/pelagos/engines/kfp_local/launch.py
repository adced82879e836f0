"""Starts the runner process of a local pipeline run: through the fork server when there is one, else directly.

Starting twice is harmless (the runner makes sure of that), so in doubt a runner is started again. Everything here blocks; the
engine calls it in threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos.engines.processes import groups
from pelagos.ports.pipelines import STEP_ENVIRONMENT
from pelagos_contract import cost, extensions, remote_sources, source_hosts
from pelagos_contract.flows import FLOWS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pelagos.engines.kfp_local.records import RunFolder
    from pelagos.ports.pipelines import RunRequest

_PASSED_ON = (
    *("HOME", "USER", "LOGNAME", "LANG", "TZ", "LD_LIBRARY_PATH"),
    *(extensions.VARIABLE, source_hosts.VARIABLE, source_hosts.AUTHORITY),
)
_PASSED_ON_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "PELAGOS_MAX_", cost.PREFIX)
"""The variables and prefixes that pipelines inherit from our environment: none that could contain a secret."""
if TYPE_CHECKING:
    StepKeys = Callable[[str, str, int], Mapping[str, str]]
    """Returns the environment with a run's key, by namespace, name and attempt."""
IDLE_SECONDS = 30
_CONNECT_SECONDS = 1.0
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Login:
    """The MLflow user of steps, in private files. Steps get it by environment, because command lines are public."""

    username_file: Path | None = None
    password_file: Path | None = None

    def environment(self) -> dict[str, str]:
        """The variables that mlflow's client reads; empty when there is no login. Raises OSError."""
        if self.username_file is None or self.password_file is None:
            return {}
        return {
            "MLFLOW_TRACKING_USERNAME": self.username_file.read_text(encoding="utf-8").strip(),
            "MLFLOW_TRACKING_PASSWORD": self.password_file.read_text(encoding="utf-8").strip(),
        }


def keyless(namespace: str, run: str, attempt: int) -> dict[str, str]:
    """A StepKeys without keys: reports are not sealed."""
    del namespace, run, attempt
    return {}


class Launcher:
    """``home`` is the engine's folder, ``python`` the interpreter of the pipelines environment, ``compiled`` the flows.

    ``login`` is passed only to flows that are tracked: others read untrusted files and have nothing to report to MLflow. ``keys``
    are passed to every run. Both are passed by environment, so that no record and no command line contains them.
    """

    def __init__(
        self, *, home: Path, python: Path, compiled: Path, login: Login | None = None, keys: StepKeys = keyless
    ) -> None:
        self._home = home
        self._keys = keys
        self._python = python
        self._compiled = compiled
        self._login = login or Login()

    def pipeline(self, request: RunRequest) -> Path:
        """The compiled flow of a request."""
        return self._compiled / request.compiled

    def start(
        self, folder: RunFolder, request: RunRequest, secret: Mapping[str, str] | None = None
    ) -> groups.ProcessId:
        """Start the runner process of an attempt; returns before it has begun. Raises OSError.

        ``secret`` is the content of the user's Secret for the run's source.
        """
        arguments = [str(folder.path), str(request.attempt), str(self.pipeline(request)), str(self._temporary(folder))]
        # The key seals this attempt's report. It is derived for this attempt only, so that an earlier attempt that is still
        # alive, or another run, cannot report for it. Passed by environment, because others can read command lines and records.
        environment = {**self._environment(), **self._keys(request.namespace, request.name, request.attempt)}
        if FLOWS.named(request.flow).is_tracked:
            environment |= self._login.environment()
        if secret is not None:
            environment[remote_sources.SECRET_CONTENT] = json.dumps(dict(secret))
        message: dict[str, object] = {"arguments": arguments, "environment": environment, "output": str(folder.log)}
        pid = self._ask_server(message)
        if pid is not None:
            # Start time 0 if it has ended already: no process has that start time, so it is never mistaken for another one.
            return groups.identify(pid) or groups.ProcessId(pid, 0)
        command: list[str | Path] = [self._python, "-m", "pelagos_pipelines.local_runner", *arguments]
        return groups.start_detached(command, environment=environment, output=folder.log)

    def warm_up(self) -> None:
        """Start a fork server unless one is alive. It takes seconds to start, and then saves them for each run."""
        server = self.server()
        if server is not None and groups.is_alive(server):
            return
        command: list[str | Path] = [
            self._python,
            "-m",
            "pelagos_pipelines.local_fork_server",
            self._socket,
            str(IDLE_SECONDS),
        ]
        log = self._home / "fork-server.log"
        log.unlink(missing_ok=True)
        server = groups.start_detached(command, environment=self._environment(), output=log)
        self._server_record.write_text(json.dumps([server.pid, server.started]), encoding="utf-8")

    def server(self) -> groups.ProcessId | None:
        """The fork server that was last started, by us or an earlier operator; None when none is recorded."""
        with contextlib.suppress(OSError, ValueError):
            pid, started = json.loads(self._server_record.read_text(encoding="utf-8"))
            return groups.ProcessId(pid, started)
        return None

    def clear_temporary(self, folder: RunFolder) -> None:
        """Remove the folder for temporary files of a run's processes."""
        shutil.rmtree(self._temporary(folder), ignore_errors=True)

    @property
    def _server_record(self) -> Path:
        return self._home / "fork-server.json"

    @property
    def _socket(self) -> Path:
        return self._home / "fork-server.sock"

    def _temporary(self, folder: RunFolder) -> Path:
        # Not below the run's folder: libraries create sockets in it, whose paths are limited to 107 bytes.
        return self._home / "tmp" / hashlib.sha256(folder.name.encode()).hexdigest()[:12]

    def _environment(self) -> dict[str, str]:
        passed_on = {
            key: value for key, value in os.environ.items() if key in _PASSED_ON or key.startswith(_PASSED_ON_PREFIXES)
        }
        # Set explicitly: runs that the fork server starts do not inherit it from the operator.
        if groups.INSTALLATION in os.environ:
            passed_on[groups.INSTALLATION] = os.environ[groups.INSTALLATION]
        cache = self._home / "cache"
        own = {
            "PATH": f"{self._python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "MPLCONFIGDIR": str(cache / "matplotlib"),
            "YOLO_CONFIG_DIR": str(cache / "ultralytics"),
        }
        return {**passed_on, **STEP_ENVIRONMENT, **own}

    def _ask_server(self, message: dict[str, object]) -> int | None:
        """The id of the process that the server forked; None when there is no server, or no valid answer."""
        if not self._socket.exists():
            return None
        # Treat any error as no answer: then a runner is started directly, and of two runners of one attempt one exits.
        with contextlib.suppress(OSError, ValueError, KeyError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_CONNECT_SECONDS)
            # Connect through the folder's descriptor, because a socket's address has only 108 bytes.
            folder = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                connection.connect(f"/proc/self/fd/{folder}/{self._socket.name}")
            finally:
                os.close(folder)
            connection.settimeout(_ANSWER_SECONDS)
            connection.sendall(json.dumps(message).encode() + b"\n")
            with connection.makefile("r", encoding="utf-8") as answer:
                return int(json.loads(answer.readline())["pid"])
        return None
