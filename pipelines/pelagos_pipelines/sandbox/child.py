"""A child: gives up what it does not need, then answers one task after the other until its socket closes.

Forked by zygote.py. What it reads may be hostile, so it limits itself before it looks at anything. A message in is
``{"task", "arguments", "size"}``, with the descriptor of a file where the content is not in the shared file; a message out is
``{"document", "size"}``, ``{"refused", "detail"}``, ``{"limit"}`` or ``{"error"}``. Larger things go through two shared files
in memory, one for each direction.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NoReturn

from pelagos_pipelines.sandbox.limits import Answer, TaskRefusedError
from pelagos_pipelines.sandbox.zygote import MESSAGE_BYTES

Task = Callable[[dict[str, Any], BinaryIO], Answer]

_SPARE_DESCRIPTORS = 16
_COMPLAINT_BYTES = 4096
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_libc = ctypes.CDLL(None, use_errno=True)
_began_with = 0
"""Bytes of address space that this child was born with."""


@dataclass(frozen=True)
class Descriptors:
    """What a child is given: its socket, and the files in memory for what goes in and what comes out."""

    socket: int
    input: int
    output: int


@dataclass(frozen=True)
class _Place:
    descriptors: Descriptors
    limits: dict[str, int]
    tasks: ModuleType


def load(module: str) -> ModuleType:
    """Import the tasks' module; what it loads is shared by all children."""
    tasks = importlib.import_module(module)
    gc.collect()
    gc.freeze()
    return tasks


def complaints() -> str:
    """What libraries have written to standard error during this task, which is how many decoders speak of damage."""
    sys.stderr.flush()
    return os.pread(2, _COMPLAINT_BYTES, 0).decode(errors="replace")


def took_share() -> float:
    """The largest share of its memory that this child has ever taken."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.partition("VmPeak:")[2].split()[0]) * 1024
    return (peak - _began_with) / max(resource.getrlimit(resource.RLIMIT_AS)[0] - _began_with, 1)


def become(descriptors: Descriptors, limits: dict[str, int], tasks: ModuleType) -> NoReturn:
    """Be a child from now on."""
    code = 1
    try:
        zygote = os.getppid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == zygote:
            _give_up(descriptors, limits)
            _serve(_Place(descriptors, limits, tasks))
        code = 0
    except MemoryError:
        code = 0
    finally:
        os._exit(code)


def _give_up(descriptors: Descriptors, limits: dict[str, int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with contextlib.suppress(OSError):  # when memory is short on the machine, it is us
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(os.memfd_create("said"), 2)
    os.set_inheritable(2, False)
    kept = {0, 1, 2, descriptors.socket, descriptors.input, descriptors.output}
    for one in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208 - a list before any is closed
        if one not in kept:
            with contextlib.suppress(OSError):
                os.close(one)
    highest = max(kept) + _SPARE_DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["result"], limits["result"]))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no further processes or threads
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # it is an error of the call then
    global _began_with  # noqa: PLW0603 - a child is a process of its own
    _began_with = _mapped()
    address_space = _began_with + limits["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))


def _mapped() -> int:
    """Bytes of address space in use."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _serve(place: _Place) -> None:
    with socket.socket(fileno=place.descriptors.socket) as connection:
        while True:
            content, passed, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 1)
            if not content:
                return
            message = json.loads(content)
            _more_time(place.limits["cpu"])
            _forget_complaints()
            try:
                answer = _answer(place, message, passed)
            finally:
                for one in passed:
                    os.close(one)
            connection.sendall(answer)


def _more_time(seconds: int) -> None:
    """The limit counts from the start of the process, so every task moves it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _forget_complaints() -> None:
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)


def _answer(place: _Place, message: dict[str, Any], passed: list[int]) -> bytes:
    try:
        return _done(place, _run(place, message, passed))
    except MemoryError:
        return _encode({"limit": "memory"})
    except TaskRefusedError as refusal:
        return _encode({"refused": str(refusal)[:4000], "detail": refusal.detail})
    except Exception as error:
        return _encode({"error": _where(error)})


def _run(place: _Place, message: dict[str, Any], passed: list[int]) -> Answer:
    task: Task = getattr(place.tasks, message["task"])
    if passed:
        with open(passed[0], "rb", closefd=False) as file:
            file.seek(0)
            return task(message["arguments"], file)
    with open(place.descriptors.input, "rb", buffering=0, closefd=False) as shared:
        shared.seek(0)
        return task(message["arguments"], shared)


def _done(place: _Place, answer: Answer) -> bytes:
    raw = memoryview(answer.raw).cast("B")
    if len(raw) > place.limits["result"]:
        return _encode({"limit": "result"})
    written = 0
    while written < len(raw):
        written += os.pwrite(place.descriptors.output, raw[written:], written)
    return _encode({"document": answer.document, "size": len(raw)})


def _encode(message: dict[str, Any]) -> bytes:
    content = json.dumps(message).encode()
    if len(content) > MESSAGE_BYTES:
        return b'{"limit": "result"}'
    return content


def _where(error: Exception) -> str:
    """Type and place; the text of an exception may quote the file."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
