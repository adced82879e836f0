"""The gateway that clients of a pod reach: ``python -m pelagos_pipelines.serving.gateway`` becomes the Envoy before the server.

Runs in its own container beside the entrypoint's, from the same image. It waits until the server answers on its socket, so
that no port is open before the model is ready, and then becomes Envoy with the configuration that the control plane has rendered.
With the argument ``drain`` it is the hook before the pod's end, which lets requests in progress finish. The variables are listed
in docs/design/0004-cluster-mode.md. Imports the standard library only.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import util
from pathlib import Path

from pelagos_pipelines.serving import entrypoint
from pelagos_pipelines.serving.packages import RefusedError

ADMIN = "admin"
DRAIN_SECONDS = 5
"""The time in which routes to the pod are removed. New connections are still accepted, and clients are asked to go elsewhere."""
LONGEST_SECONDS = 30
"""How long to wait for requests in progress; the server ends after the same time."""
_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 2.0


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket; an answer may take at most ``seconds``."""

    def __init__(self, path: Path, seconds: float = _ANSWER_SECONDS) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path
        self._seconds = seconds

    def connect(self) -> None:
        """Connect the socket; the base class calls this."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self._seconds)
        self.sock.connect(str(self._path))


def main() -> None:
    """Wait for the server and become Envoy, or drain it. On failure, ends the process with a message."""
    folder = entrypoint.sockets(os.environ)
    if sys.argv[1:] == ["drain"]:
        drain(folder)
        return
    try:
        command = launch(os.environ)
    except RefusedError as error:
        entrypoint.fail(str(error), os.EX_DATAERR)
    except OSError as error:
        entrypoint.fail(entrypoint.failure(error), os.EX_IOERR)
    # The command is built first, so that a pod that cannot become Envoy fails at once, and not only when its model has loaded.
    await_server(folder)
    # Envoy needs none of our variables, and its files must be readable by this user alone.
    os.umask(0o077)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PELAGOS_", "AWS_"))}
    os.execve(command[0], command, kept)  # noqa: S606 - arguments are a list


def launch(variables: Mapping[str, str]) -> list[str]:
    """Write the configuration to a file, and return Envoy's command. Raises RefusedError when something is missing."""
    config = variables.get("PELAGOS_GATEWAY_CONFIG")
    if not config:
        message = "PELAGOS_GATEWAY_CONFIG is not set; the operator sets it, see docs/design/0004-cluster-mode.md"
        raise RefusedError(message)
    program = _program(variables.get("PELAGOS_TRITON_HOME"))
    path = Path(tempfile.mkdtemp(prefix="pelagos-")) / "envoy.json"
    path.write_text(config, encoding="utf-8")
    settings = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]
    return [str(program), "--config-path", str(path), *settings, "--drain-time-s", str(DRAIN_SECONDS)]


def await_server(folder: Path, pause: Callable[[float], None] = time.sleep) -> None:
    """Return when the server has loaded its model. If that takes too long, the cluster's probes end the pod."""
    while ask(folder / "http", "GET", "/v2/health/ready") is None:
        pause(_POLL_SECONDS)


def drain(folder: Path) -> None:
    """Send clients elsewhere, and return when no request is in progress, or after LONGEST_SECONDS."""
    admin = folder / ADMIN
    ask(admin, "POST", "/drain_listeners?graceful")
    time.sleep(DRAIN_SECONDS)
    until = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < until:
        # The numbers of requests in progress by listener, without those to the admin listener, which are our own.
        answer = ask(admin, "GET", "/stats?filter=http%5C..%2A%5C.downstream_rq_active%24") or ""
        counts = (line.rpartition(": ")[2] for line in answer.splitlines() if not line.startswith("http.admin."))
        if not any(count.isdecimal() and int(count) for count in counts):
            return
        time.sleep(_POLL_SECONDS)


def ask(path: Path, method: str, target: str) -> str | None:
    """The answer's body; None when there is no answer, or its status is not 200."""
    connection = Connection(path)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        return body if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _program(home: str | None) -> Path:
    if home:
        found = sorted(Path(home).glob("lib/python3.*/site-packages/envoy/_bin/envoy"))
    else:
        spec = util.find_spec("envoy")
        folders = spec.submodule_search_locations if spec else None
        found = [Path(folder) / "_bin/envoy" for folder in folders or ()]
    if not found or not found[-1].is_file():
        raise RefusedError("envoy is not installed: this is not a serving image")
    return found[-1]


if __name__ == "__main__":
    main()
