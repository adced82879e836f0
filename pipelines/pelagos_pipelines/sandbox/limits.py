"""What a task in a child may use, what it answers, and how it can fail. Known to the pool and to the child."""

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

    ``memory``: bytes of address space beside what the child had when it was started; ``cpu``: seconds of processor time;
    ``deadline``: seconds until the child is killed; ``result``: bytes that the task may answer with, or write anywhere.
    ``file``: bytes of a file that it may write, where that is more.
    """

    memory: int
    cpu: int
    deadline: float
    result: int = 64 * MEBIBYTE
    file: int = 0


@dataclass(frozen=True)
class Answer:
    """What a task returns: a small document of JSON, and bytes of any size below the ceiling."""

    document: dict[str, Any] = field(default_factory=dict)
    raw: bytes | bytearray | memoryview = b""


class SandboxError(Exception):
    """A task gave no answer; the message says why, and never what the file holds."""


class UnavailableError(Exception):
    """No child could be started: the fault is this machine's or this installation's, and no file's. Trying again may help.

    It is no SandboxError on purpose, so that nobody takes it for a verdict about what was to be read.
    """


class LimitError(SandboxError):
    """The task wanted more than its ceiling; ``kind`` is memory, cpu, deadline or result."""

    def __init__(self, kind: str, limits: Limits) -> None:
        """Say which ceiling it was, and where it is."""
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
    """The task failed in a way that nobody foresaw; the message names the exception's type and place alone."""


class TaskRefusedError(Exception):
    """Raised by a task that refuses its input, and in the process that asked; the message is for people.

    ``detail`` is a small document of JSON for those that want to say more.
    """

    def __init__(self, message: str, detail: dict[str, Any] | None = None) -> None:
        """Refuse for the reason that ``message`` gives."""
        self.detail = detail or {}
        super().__init__(message)


def children_for(limits: Limits, at_most: int) -> int:
    """How many tasks may run at once: what processors and half of the memory of this container or machine allow."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in map(Path, _CEILINGS_OF_CONTAINERS):
        text = path.read_text(encoding="ascii").strip() if path.is_file() else "max"
        memory = min(memory, int(text)) if text.isdecimal() else memory
    return max(1, min(at_most, len(os.sched_getaffinity(0)), memory // 2 // limits.memory))
