"""Starts local pipeline runs without their start-up cost: imports kfp once, then forks one detached process per run.

`python -m pelagos_pipelines.local_fork_server SOCKET IDLE_SECONDS`, started by the control plane's local engine when many
runs wait. It is an optimization: nothing depends on its existence, and runs do not notice its end. A request is one line of
JSON, ``{"arguments": [...], "environment": {...}, "output": path}``; the answer is ``{"pid": ...}``. It serves one
request at a time, since a fork takes milliseconds, and ends after ``IDLE_SECONDS`` without a request.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from pelagos_pipelines import local_runner

_REQUEST_SECONDS = 5.0
"""Timeout of a request, so that a silent client cannot block others."""


def serve(path: Path, idle_seconds: float) -> None:
    """Accept requests until idle. A newer server replaces the socket; this one then times out."""
    local_runner.import_kfp()
    import kfp.components
    import kfp.local
    import kfp.local.orchestrator.dag_orchestrator
    import kfp.local.subprocess_task_handler  # noqa: F401 - for the children

    gc.freeze()  # keeps memory pages shared with the children, since the collector does not write to frozen objects
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel collects our children's exit status
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        # Bind only now that requests can be served at once, since clients expect a server behind an existing socket.
        identity = _bind(listener, path)
        listener.settimeout(idle_seconds)
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                break
            with connection, contextlib.suppress(OSError, ValueError):
                _answer(connection, listener)
    # Remove only our own socket: a newer server may have replaced it.
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == identity:
            path.unlink()


def _bind(listener: socket.socket, path: Path) -> int:
    """Bind atomically: clients find either no socket or one that will answer. Returns the socket's inode."""
    # Through the folder's descriptor, because a socket address is limited to 108 bytes.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        mask = os.umask(0o177)
        listener.bind(f"/proc/self/fd/{folder}/{partial.name}")
        os.umask(mask)
        listener.listen(64)
        partial.replace(path)
        return path.stat().st_ino
    finally:
        os.close(folder)


def _answer(connection: socket.socket, listener: socket.socket) -> None:
    connection.settimeout(_REQUEST_SECONDS)
    with connection.makefile("r", encoding="utf-8") as lines:
        request: dict[str, Any] = json.loads(lines.readline())
    # Parsed before the fork, so that an invalid request starts no process.
    launch = local_runner.Launch.parse(request["arguments"])
    pid = os.fork()
    if pid == 0:
        _become_run(launch, request, (connection, listener))
    connection.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def _become_run(launch: local_runner.Launch, request: dict[str, Any], inherited: tuple[socket.socket, ...]) -> None:
    """In the child: detach from the server, execute the run, and exit without returning into the server's code."""
    code = 1
    try:
        # A session of its own, so that it survives the server, and its steps can be found by the session.
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the run waits for its steps itself
        for one in inherited:
            one.close()
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(nothing)
        os.close(output)
        # The environment of the requester, not of the process that started this server.
        os.environ.clear()
        os.environ.update(request["environment"])
        local_runner.run(launch)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        # No return or sys.exit: the calling frames and the exit handlers are the server's.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), float(sys.argv[2]))
