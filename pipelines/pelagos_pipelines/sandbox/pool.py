"""The calling side: keeps a zygote and a bounded number of children, and raises a distinct error for each kind of failure.

Threads may share a pool. In a forked process, an inherited pool starts another zygote.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pelagos_pipelines.sandbox.limits import (
    MEBIBYTE,
    Answer,
    CrashError,
    LimitError,
    Limits,
    TaskError,
    TaskRefusedError,
    UnavailableError,
)
from pelagos_pipelines.sandbox.zygote import MESSAGE_BYTES

_START_SECONDS = 60.0
_KEPT_BYTES = 16 * MEBIBYTE
"""Shared files that grew beyond this are emptied after the task."""
_TASKS_OF_ONE_CHILD = 5_000
"""A child is replaced after this many tasks, so that nothing accumulates in it."""
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""The only environment variables that children inherit, because ours hold passwords."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * MEBIBYTE),
    "MALLOC_TRIM_THRESHOLD_": str(64 * MEBIBYTE),
}
"""The thresholds that glibc reaches by itself with large tasks. With small ones it returns memory after each task, and faulting
it in again page by page takes half as long as decoding an image."""


@dataclass
class _Child:
    pid: int
    socket: socket.socket
    input: int
    output: int
    tasks: int = 0

    def shrink(self) -> None:
        """Empty shared files that one large task let grow."""
        for shared in (self.input, self.output):
            if os.fstat(shared).st_size > _KEPT_BYTES:
                os.ftruncate(shared, 0)

    def close(self) -> None:
        self.socket.close()
        os.close(self.input)
        os.close(self.output)


class _ZygoteGoneError(Exception):
    """The zygote has ended, and with it all children."""


class Pool:
    """Children that run the tasks of one module within limits.

    Args:
        module: the module whose functions are the tasks.
        limits: the ceilings of each task.
        children: how many tasks run at once; further callers wait.
        environment: variables for the libraries that the module loads.
    """

    def __init__(
        self, module: str, limits: Limits, children: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start nothing yet: the first task starts the zygote."""
        self.limits = limits
        self._module = module
        self._children = children
        self._environment = dict(environment or {})
        self._begin()
        atexit.register(self.close)

    def _begin(self) -> None:
        self._owner = os.getpid()
        self._turns = threading.BoundedSemaphore(self._children)
        self._lock = threading.Lock()
        self._free: list[_Child] = []
        self._zygote: _Zygote | None = None

    def __enter__(self) -> Pool:
        """Return the pool, which is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pool."""
        self.close()

    def run(
        self,
        task: str,
        arguments: Mapping[str, Any],
        content: bytes | memoryview = b"",
        file: int | None = None,
        into: int | None = None,
    ) -> Answer:
        """Run a task of the module on ``content``, or on the open ``file``, whose descriptor is passed to the child.

        With a file, ``into`` may be the descriptor of a folder, in which the task writes files.

        Raises:
            TaskRefusedError: the task refused its input.
            LimitError: the task reached a ceiling.
            CrashError: the child ended during the task.
            TaskError: the task raised something else.
            UnavailableError: no process could be started; that says nothing about the content.
        """
        # After a fork, the inherited sockets still belong to the parent. Two processes that use one socket would read each
        # other's answers.
        if self._owner != os.getpid():
            self._begin()
        request = json.dumps({"task": task, "arguments": dict(arguments)}).encode()
        if len(request) > MESSAGE_BYTES:
            raise ValueError(f"the arguments of a task have {len(request)} bytes; at most {MESSAGE_BYTES} fit")
        descriptors = [one for one in (file, into) if one is not None]
        with self._turns:
            try:
                return self._run(request, content, descriptors)
            except _ZygoteGoneError:  # another task may have caused that, so this one gets a second try
                try:
                    return self._run(request, content, descriptors)
                except _ZygoteGoneError:
                    raise CrashError("the processes that read it end again and again") from None

    def _run(self, request: bytes, content: bytes | memoryview, passed: Sequence[int]) -> Answer:
        child = self._take()
        # False until the child has given a valid answer. After a reached limit or a malformed reply its state is unknown.
        usable = False
        try:
            answer = _judge(self._ask(child, request, content, passed), child, self.limits)
            usable = True
            return answer
        except TaskRefusedError:
            usable = True
            raise
        finally:
            self._give_back(child, usable)

    def close(self) -> None:
        """End the zygote and all children."""
        atexit.unregister(self.close)
        if self._owner != os.getpid():
            return
        with self._lock:
            self._drop()

    def _take(self) -> _Child:
        with self._lock:
            if self._zygote is not None and not self._zygote.lives():
                self._drop()
            if self._free:
                return self._free.pop()
            if self._zygote is None:
                self._zygote = _Zygote(self._module, self._environment)
            try:
                return self._zygote.fork(self.limits)
            except (OSError, EOFError) as error:
                # Its children have ended with it, or will soon: none of the free ones can be used.
                self._drop()
                raise _ZygoteGoneError from error

    def _drop(self) -> None:
        for child in self._free:
            child.close()
        self._free.clear()
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None

    def _ask(self, child: _Child, request: bytes, content: bytes | memoryview, passed: Sequence[int]) -> dict[str, Any]:
        deadline = time.monotonic() + self.limits.deadline
        try:
            if not passed:
                view, position = memoryview(content), 0
                while position < len(view):
                    position += os.pwrite(child.input, view[position:], position)
                os.ftruncate(child.input, len(view))  # the previous task's content may have been longer
                child.socket.sendall(request)
            else:
                socket.send_fds(child.socket, [request], passed)
            child.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            received = child.socket.recv(MESSAGE_BYTES + 1)
            child.socket.settimeout(None)
        except TimeoutError:
            raise LimitError("deadline", self.limits) from None
        except ConnectionError:
            received = b""
        if not received:
            raise self._death(child)
        try:
            message = json.loads(received)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise CrashError("the process that read it gave no answer that makes sense")
        return message

    def _death(self, child: _Child) -> Exception:
        """The error to raise for a child that ended in the middle of a task."""
        with self._lock:
            code = self._zygote.end(child.pid) if self._zygote is not None else None
        # The child has been reaped, so its process id may be another process's from now on.
        child.pid = 0
        if code is None:
            return _ZygoteGoneError()
        if code == -signal.SIGXCPU:
            return LimitError("cpu", self.limits)
        # Code 0 stands for a MemoryError outside of a task (`child.become`). SIGKILL did not come from here: the kernel sends it
        # when the machine or the container runs out of memory.
        if code in (0, -signal.SIGKILL):
            return LimitError("memory", self.limits)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return CrashError(f"the process that read it {how}")

    def _give_back(self, child: _Child, usable: bool) -> None:
        child.tasks += 1
        if usable:
            child.shrink()
        # A child that is not reused is killed here, because it may still be in the middle of its task and never end by itself.
        with self._lock:
            if usable and child.tasks < _TASKS_OF_ONE_CHILD and self._zygote is not None:
                self._free.append(child)
                return
            if child.pid and self._zygote is not None:
                self._zygote.end(child.pid)
            child.close()


class _Zygote:
    """Our handle on the process that forks children."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        # SOCK_SEQPACKET keeps message boundaries: a message is received whole or not at all.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # We close their end once they have it. While we held a copy, we would not see end of file when they end.
        with theirs:
            self._process = subprocess.Popen(
                [
                    interpreter(),
                    "-I",
                    str(Path(__file__).with_name("zygote.py")),
                    str(theirs.fileno()),
                    str(os.getpid()),
                ],
                env=kept | _ONE_THREAD | _KEPT_MEMORY | dict(environment),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._socket = ours
        self._socket.settimeout(_START_SECONDS)
        try:
            self._talk({"path": [str(Path(entry).absolute()) for entry in sys.path], "module": module})
        except (OSError, EOFError, ValueError) as error:
            self.close()
            raise UnavailableError(f"the process for {module} did not start: {error}") from error

    def fork(self, limits: Limits) -> _Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        shared = [os.memfd_create(name) for name in ("input", "output")]
        try:
            # One socket pair for each child: no other process receives its replies, and its end shows at once, even mid-task.
            message = {"fork": True, "limits": asdict(limits)}
            pid = self._talk(message, [theirs.fileno(), *shared])["pid"]
        except BaseException:
            ours.close()
            for one in shared:
                os.close(one)
            raise
        finally:
            theirs.close()
        return _Child(pid, ours, *shared)

    def end(self, pid: int) -> int | None:
        """Kill and reap the child; its exit code as by `os.waitstatus_to_exitcode`, or None when the zygote has ended."""
        try:
            status: int = self._talk({"end": pid})["status"]
        except (OSError, EOFError):
            return None
        return status

    def lives(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        # The zygote ends, and ends its children, when it sees the socket close. It is killed only if it does not.
        self._socket.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _talk(self, message: dict[str, Any], descriptors: list[int] | None = None) -> dict[str, Any]:
        socket.send_fds(self._socket, [json.dumps(message).encode()], descriptors or [])
        received = self._socket.recv(MESSAGE_BYTES)
        if not received:
            raise EOFError("it ended")
        answer: dict[str, Any] = json.loads(received)
        return answer


def interpreter() -> str:
    """The path of this environment's Python; in Triton's Python backend ``sys.executable`` is something else."""
    named = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys.executable), *(Path(prefix) / "bin" / named for prefix in (sys.prefix, sys.base_prefix))]
    for candidate in candidates:
        if candidate.name.startswith("python") and os.access(candidate, os.X_OK):
            return str(candidate)
    return named


def _judge(message: dict[str, Any], child: _Child, limits: Limits) -> Answer:
    """Turn a child's message into an answer or an error. All of it may be forged, so only the expected types are accepted."""
    detail, size, limit = message.get("detail"), message.get("size"), message.get("limit")
    if isinstance(refused := message.get("refused"), str):
        raise TaskRefusedError(_printable(refused), detail if isinstance(detail, dict) else None)
    if limit in ("memory", "result"):
        raise LimitError(limit, limits)
    if isinstance(error := message.get("error"), str):
        raise TaskError(_printable(error))
    document = message.get("document")
    if not isinstance(document, dict) or not isinstance(size, int) or not 0 <= size <= limits.result:
        raise CrashError("the process that read it gave no answer that makes sense")
    return Answer(document, _read(child.output, size))


def _read(descriptor: int, size: int) -> bytearray:
    """Copy ``size`` bytes out of the shared file, so that the child cannot change them once they have been checked."""
    content = bytearray(size)
    view, position = memoryview(content), 0
    while position < size:
        got = os.preadv(descriptor, [view[position:]], position)
        if got == 0:
            raise CrashError("the process that read it gave less than it announced")
        position += got
    return content


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:4000]
