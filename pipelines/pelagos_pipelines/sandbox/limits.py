"""The limits, the answer and the errors of a task in a child. Shared by the pool and the child."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEBIBYTE = 1024 * 1024
_CEILINGS_OF_CONTAINERS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Limits:
    """Ceilings of one task.

    ``memory``: bytes of address space beyond what the child had when it started. ``cpu``: seconds of processor time.
    ``deadline``: seconds until the child is killed. ``result``: bytes that the task may answer with, or
    write to any file. ``file``: bytes that a file it writes may have, if that is more.
    """

    memory: int
    cpu: int
    deadline: float
    result: int = 64 * MEBIBYTE
    file: int = 0


@dataclass(frozen=True)
class Answer:
    """What a task returns: a small JSON document, and raw bytes of at most ``Limits.result``."""

    document: dict[str, Any] = field(default_factory=dict)
    raw: bytes | bytearray | memoryview = b""


class SandboxError(Exception):
    """A task gave no answer. The message says why, and never quotes the file."""


class UnavailableError(Exception):
    """No child could be started. The cause is this machine or installation, not the file. Trying again may help.

    Deliberately not a SandboxError, so that no caller takes it for a verdict on the file.
    """


class LimitError(SandboxError):
    """The task exceeded a ceiling; ``kind`` is memory, cpu, deadline or result."""

    def __init__(self, kind: str, limits: Limits) -> None:
        """Build the message, which names the ceiling and its value."""
        self.kind = kind
        self.limits = limits
        super().__init__(
            {
                "memory": f"it needs more than {limits.memory // MEBIBYTE} MiB of memory",
                "cpu": f"it needs more than {limits.cpu} s of processor time",
                "deadline": f"it is not done after {limits.deadline:g} s",
                "result": f"its content has more than {limits.result // MEBIBYTE} MiB",
            }[kind]
        )


class CrashError(SandboxError):
    """The child ended in the middle of the task."""


class TaskError(SandboxError):
    """The task raised an unexpected exception; the message gives only its type and place."""


class TaskRefusedError(Exception):
    """Raised by a task that refuses its input, and again in the calling process. The message is for people.

    ``detail`` is a small JSON document for callers that report more than the message.
    """

    def __init__(self, message: str, detail: dict[str, Any] | None = None) -> None:
        """Refuse the input for the reason in ``message``."""
        self.detail = detail or {}
        super().__init__(message)


def children_for(limits: Limits, at_most: int) -> int:
    """How many tasks may run at once, by the processors and half of the memory of this container or machine; at least 1."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in map(Path, _CEILINGS_OF_CONTAINERS):
        text = path.read_text(encoding="ascii").strip() if path.is_file() else "max"
        memory = min(memory, int(text)) if text.isdecimal() else memory
    return max(1, min(at_most, len(os.sched_getaffinity(0)), memory // 2 // limits.memory))
