"""A child: gives up what it does not need, then answers one task after the other until its socket closes.

Forked by zygote.py. What it reads may be hostile, so it limits itself before it looks at anything. A message in is
``{"task", "arguments", "size"}``, with the descriptor of a file where the content is not in the shared file, and that of a folder
where the task writes files, which it finds in its arguments as ``into``; a message out is
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


def forget_complaints() -> None:
    """Begin anew: what libraries said of the file before is none of the next one's faults."""
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)


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
        # It may have ended just before: then nobody would ever end this one.
        if os.getppid() == zygote:
            _give_up(descriptors, limits)
            _serve(_Place(descriptors, limits, tasks))
        code = 0
    except MemoryError:  # outside of a task: the pool takes an end without an answer for a lack of memory
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
    # What libraries opened when the zygote loaded them is not for code that a file may have taken over.
    kept = {0, 1, 2, descriptors.socket, descriptors.input, descriptors.output}
    for one in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208 - a list before any is closed
        if one not in kept:
            with contextlib.suppress(OSError):
                os.close(one)
    highest = max(kept) + _SPARE_DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    largest = max(limits["result"], limits["file"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no further processes or threads
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # it is an error of the call then
    # Last: what is mapped by now, most of it shared with the zygote, is not taken by a task.
    global _began_with  # noqa: PLW0603 - a child is a process of its own
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _began_with = pages * resource.getpagesize()
    address_space = _began_with + limits["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))


def _serve(place: _Place) -> None:
    with socket.socket(fileno=place.descriptors.socket) as connection:
        while True:
            content, passed, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 2)
            if not content:
                return
            message = json.loads(content)
            # The limit counts from the start of the process, so every task moves it; the hard one could not be raised again.
            used = resource.getrusage(resource.RUSAGE_SELF)
            soft = int(used.ru_utime + used.ru_stime) + 1 + place.limits["cpu"]
            resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
            forget_complaints()
            try:
                answer = _answer(place, message, passed)
            finally:
                for one in passed:
                    os.close(one)
            connection.sendall(answer)


def _answer(place: _Place, message: dict[str, Any], passed: list[int]) -> bytes:
    """What becomes of a task, as a message; larger results are in the shared file by then."""
    try:
        task: Task = getattr(place.tasks, message["task"])
        # Left open: the shared file serves all tasks, and `_serve` closes what was passed, however the task ends.
        if passed:
            with open(passed[0], "rb", closefd=False) as file:
                file.seek(0)
                into = {"into": passed[1]} if passed[1:] else {}
                answer = task(message["arguments"] | into, file)
        else:
            with open(place.descriptors.input, "rb", buffering=0, closefd=False) as shared:
                shared.seek(0)
                answer = task(message["arguments"], shared)
        raw = memoryview(answer.raw).cast("B")
        if len(raw) > place.limits["result"]:
            return _encode({"limit": "result"})
        written = 0
        while written < len(raw):
            written += os.pwrite(place.descriptors.output, raw[written:], written)
        return _encode({"document": answer.document, "size": len(raw)})
    except MemoryError:
        return _encode({"limit": "memory"})
    except TaskRefusedError as refusal:
        return _encode({"refused": str(refusal)[:4000], "detail": refusal.detail})
    except Exception as error:
        # Type and place alone: the text of an exception may quote the file.
        frames = traceback.extract_tb(error.__traceback__)
        where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        return _encode({"error": f"{type(error).__name__}{where}"})


def _encode(message: dict[str, Any]) -> bytes:
    content = json.dumps(message).encode()
    if len(content) > MESSAGE_BYTES:
        return b'{"limit": "result"}'
    return content
