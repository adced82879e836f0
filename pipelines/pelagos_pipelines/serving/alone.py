"""A whole model server in one container: ``python -m pelagos_pipelines.serving.alone``, for places without pods of several.

If the package is not in the image, it is fetched first (fetch). Then the server (entrypoint) and the Envoy in front of it
(gateway) run side by side as in a pod, and when one of them ends, everything ends with its exit code. At SIGTERM, requests in
progress are finished as far as time allows. Fetching needs the storage's keys; this process drops them before untrusted requests
arrive. Its variables are those of the three programs (docs/design/0004-cluster-mode.md), and ``PELAGOS_STORAGE_CA``, the
storage's certificate authorities in PEM. Imports the standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pelagos_contract import lone_servers
from pelagos_contract.text import shown
from pelagos_pipelines.serving import entrypoint

DRAIN_SECONDS = 20.0
"""Seconds for draining, of the 30 that a container usually has after SIGTERM."""
END_SECONDS = 5.0
_PROGRAMS = "pelagos_pipelines.serving"
_SERVE = "serve"


def main() -> NoReturn:
    """Fetch, drop the keys, serve. Ends the process with the code of the program that ended."""
    if sys.argv[1:] == [_SERVE]:
        sys.exit(serve(os.environ))
    try:
        fetch(os.environ)
        # /proc shows a process's initial environment for as long as it lives, so a new program continues without the keys.
        command = [sys.executable, "-m", f"{_PROGRAMS}.alone", _SERVE]
        os.execve(sys.executable, command, without_keys(os.environ))  # noqa: S606 - arguments are a list
    except OSError as error:
        entrypoint.fail(entrypoint.failure(error), os.EX_IOERR)


def fetch(variables: Mapping[str, str]) -> None:
    """Fetch the package, unless it is in the image. On failure, ends the process with the exit code of fetch, which said why."""
    if not variables.get("PELAGOS_PACKAGE_URI"):
        return
    _say(f"brings the model package {shown(variables['PELAGOS_PACKAGE_URI'])}")
    Path(variables.get("PELAGOS_PACKAGE") or entrypoint.PACKAGE).mkdir(parents=True, exist_ok=True)
    given = dict(variables)
    authorities = given.pop("PELAGOS_STORAGE_CA", "")
    with tempfile.NamedTemporaryFile("w", suffix=".crt", encoding="utf-8") as file:
        if authorities:
            file.write(authorities)
            file.flush()
            given["AWS_CA_BUNDLE"] = file.name
        done = subprocess.run([sys.executable, "-m", f"{_PROGRAMS}.fetch"], env=given, check=False)
    if done.returncode != 0:
        sys.exit(_told(lone_servers.NOT_FETCHED, done.returncode))


def without_keys(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables without keys of the storage and tokens of the platform, which serving does not need."""
    kept = ("PELAGOS_STORAGE_", "AWS_", "OSCAR_")
    return {name: value for name, value in variables.items() if not name.startswith(kept)}


def serve(variables: Mapping[str, str]) -> int:
    """Run server and gateway until one of them ends. Returns its exit code; after SIGTERM the process ends with 0."""
    # A healthy server logs nothing, so this line shows in the log that it has begun.
    _say("starts the server")
    sockets = entrypoint.sockets(variables)
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    children = {}
    for name in ("entrypoint", "gateway"):
        child = subprocess.Popen([sys.executable, "-m", f"{_PROGRAMS}.{name}"], env=dict(variables))
        children[child.pid] = child

    def end(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _drain(variables)
        _end(children)
        # Exit at once instead of raising an exception, which could surface anywhere in the main loop.
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        # As process 1 of a container, this process also reaps orphaned processes, which are not among its children here.
        pid, status = os.wait()
        if pid in children:
            code = os.waitstatus_to_exitcode(status)
            children.pop(pid).returncode = code
            _end(children)
            return _told(lone_servers.ENDED, code)


def _say(what: str) -> None:
    print(f"pelagos: {what}", file=sys.stderr, flush=True)  # noqa: T201 - the container's log


def _told(what: str, code: int) -> int:
    """Write the last words to the log, and return the exit code as a shell would: 128 plus the signal if killed."""
    told = code if code >= 0 else 128 - code
    print(lone_servers.last_words(what, told), file=sys.stderr, flush=True)  # noqa: T201 - the container's log
    return told


def _drain(variables: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", f"{_PROGRAMS}.gateway", "drain"]
    try:
        subprocess.run(command, env=dict(variables), check=False, timeout=DRAIN_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return


def _end(children: Mapping[int, subprocess.Popen[bytes]]) -> None:
    for child in children.values():
        child.terminate()
    for child in children.values():
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


if __name__ == "__main__":
    main()
