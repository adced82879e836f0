"""A child process: drops what it does not need, then answers one task after another until its socket closes.

Forked by zygote.py. Its input may be hostile, so it limits itself before it reads anything. A request is
``{"task", "arguments"}``. It carries the descriptor of a file unless the content is in the shared input file, and that of a
folder if the task writes files; the task finds the folder in its arguments as ``into``. A reply is ``{"document", "size"}``,
``{"refused", "detail"}``, ``{"limit"}`` or ``{"error"}``. Content goes through two shared files in memory, one for each
direction.
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
"""Bytes of address space that were mapped when this child set its limits."""


@dataclass(frozen=True)
class Descriptors:
    """A child's descriptors: its socket, and the files in memory for input and output."""

    socket: int
    input: int
    output: int


@dataclass(frozen=True)
class _Place:
    descriptors: Descriptors
    limits: dict[str, int]
    tasks: ModuleType


def load(module: str) -> ModuleType:
    """Import the module of tasks, whose memory all children share."""
    tasks = importlib.import_module(module)
    # The garbage collector of a child then ignores these objects: touching them would copy pages that all children share.
    gc.collect()
    gc.freeze()
    return tasks


def complaints() -> str:
    """The messages that libraries have written to standard error during this task. Many decoders report damage only there."""
    sys.stderr.flush()
    return os.pread(2, _COMPLAINT_BYTES, 0).decode(errors="replace")


def forget_complaints() -> None:
    """Empty the captured standard error, so that complaints about one file are not blamed on the next."""
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)


def took_share() -> float:
    """The child's peak memory use as a fraction of its limit."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.partition("VmPeak:")[2].split()[0]) * 1024
    return (peak - _began_with) / max(resource.getrlimit(resource.RLIMIT_AS)[0] - _began_with, 1)


def become(descriptors: Descriptors, limits: dict[str, int], tasks: ModuleType) -> NoReturn:
    """Turn this freshly forked process into a child, which serves tasks until its socket closes."""
    code = 1
    try:
        zygote = os.getppid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The death signal is not sent for a parent that ended before prctl was called. Then nothing would ever end this child.
        if os.getppid() == zygote:
            _give_up(descriptors, limits)
            _serve(_Place(descriptors, limits, tasks))
        code = 0
    except MemoryError:  # outside of a task: the pool reads code 0 without an answer as a memory limit
        code = 0
    finally:
        # Without the zygote's exit handlers, and without returning into its loop.
        os._exit(code)


def _give_up(descriptors: Descriptors, limits: dict[str, int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with contextlib.suppress(OSError):  # when the machine runs out of memory, the kernel kills this process first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    # Standard error becomes a file in memory, so that `complaints` can read it back during the task.
    os.dup2(os.memfd_create("said"), 2)
    os.set_inheritable(2, False)
    # Libraries may have opened files when the zygote loaded them. Code that a hostile file has taken over must not reach those.
    kept = {0, 1, 2, descriptors.socket, descriptors.input, descriptors.output}
    for one in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208 - listed before any is closed
        if one not in kept:
            with contextlib.suppress(OSError):
                os.close(one)
    highest = max(kept) + _SPARE_DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    largest = max(limits["result"], limits["file"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no further processes or threads
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that the write fails with EFBIG instead
    # Last, because memory that is mapped by now, most of it shared with the zygote, does not count against a task's limit.
    global _began_with  # noqa: PLW0603 - each child is a separate process
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
            # RLIMIT_CPU counts from the start of the process, so every task moves the soft limit up. The hard limit stays
            # unlimited, because once lowered it could not be raised for the next task.
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
    """Run a task and return the reply; raw results are in the shared output file by then."""
    try:
        task: Task = getattr(place.tasks, message["task"])
        # Neither descriptor is closed here: the shared file serves all tasks, and `_serve` closes those that were passed.
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
        # Only type and place: the text of an exception may quote the file.
        frames = traceback.extract_tb(error.__traceback__)
        where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        return _encode({"error": f"{type(error).__name__}{where}"})


def _encode(message: dict[str, Any]) -> bytes:
    content = json.dumps(message).encode()
    if len(content) > MESSAGE_BYTES:
        return b'{"limit": "result"}'
    return content
