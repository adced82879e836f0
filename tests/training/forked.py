"""Processes that share a training, forked from a server that has already imported torch, because importing it takes seconds.

They act as a step's own processes do once started. How real ones are started is tested in test_processes.py.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from typing import Any

import pytest

from pelagos_pipelines.training import processes

_IMPORTED = (
    "pelagos_pipelines.training.loop",
    "pelagos_pipelines.training.mask2former",
    "pelagos_pipelines.training.maskrcnn",
    "pelagos_pipelines.training.yolov8",
    "pelagos_pipelines.training.yolov8_trainer",
)
_LARGEST = 1 << 20


class _Forked:
    """The part of Popen's interface that `processes` uses."""

    def __init__(self, pid: int, server: Server) -> None:
        self.pid, self._server = pid, server
        self._code: int | None = None

    def kill(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        if self._code is None:
            # Only its parent can await a process, and that is the forking one.
            self._code = self._server.ask({"wait": self.pid})
        return self._code


class Server:
    """Starts the forking process, and asks it to start and to await processes."""

    def __init__(self) -> None:
        # Packets keep their bounds: one receive yields one question, with its file descriptor.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", __spec__.name, str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
        theirs.close()
        self._socket = ours

    def ask(self, question: Mapping[str, Any], *files: int) -> int:
        socket.send_fds(self._socket, [pickle.dumps(dict(question))], [*files])
        return int(pickle.loads(self._socket.recv(_LARGEST)))

    def start(self, rank: int, more: Mapping[str, str]) -> processes._Process:
        """Replaces `processes._start`."""
        ours, theirs = Pipe()
        environment = {**os.environ, **processes._LOCAL, **more}
        pid = self.ask({"environment": environment, "path": sys.path}, theirs.fileno())
        # The new process has its own copy. With ours open, its death would not end the pipe.
        theirs.close()
        popen: Any = _Forked(pid, self)
        return processes._Process(rank, popen, ours)

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


@contextmanager
def starting() -> Iterator[None]:
    """Inside this context, trainings are shared by forked processes."""
    server = Server()
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(processes, "_start", server.start)
            yield
    finally:
        server.close()


def _serve(connection: socket.socket) -> None:
    while True:
        content, files, _, _ = socket.recv_fds(connection, _LARGEST, 1)
        if not content:
            return
        question = pickle.loads(content)
        if "wait" in question:
            _, status = os.waitpid(question["wait"], 0)
            connection.send(pickle.dumps(os.waitstatus_to_exitcode(status)))
            continue
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            connection.close()
            os.environ.clear()
            os.environ.update(question["environment"])
            sys.path[:] = question["path"]
            try:
                processes._be_one(Connection(files[0]), parent)
            finally:
                # Neither the loop above nor exit handlers of the forking process may run in this copy.
                os._exit(0)
        os.close(files[0])
        connection.send(pickle.dumps(pid))


def main() -> None:
    """Import the modules, then fork on request until the client closes its socket."""
    import importlib

    for name in _IMPORTED:
        importlib.import_module(name)
    _serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
