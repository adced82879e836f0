"""The process of one step of a local pipeline run. Used by local_runner in place of kfp.local's own way to run one.

kfp.local waits for the end of a step's output, for ever when a child of the step has outlived it; stops at output that is
not UTF-8; and only distinguishes success from failure, although a step that was killed from outside can be started again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pelagos_pipelines.local_log import Log

_PROC = Path("/proc")
_SECONDS = 10.0
"""Time for processes to end after SIGKILL."""


@dataclass(frozen=True)
class Step:
    """An ended step; ``code`` is the exit code as a shell reports it, ``last_words`` the end of its output."""

    name: str
    code: int
    last_words: str

    @property
    def signal(self) -> signal.Signals | None:
        """The signal that ended it, if one did."""
        number = self.code - 128 if self.code > 128 else -self.code
        return signal.Signals(number) if number in set(signal.Signals) else None


def run(command: Sequence[str], environment: Mapping[str, str], log: Log) -> Step:
    """Run a step to its end, with its output in the log. Processes that it leaves behind are killed."""
    log.forget_words()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="backslashreplace",
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=_copy, args=(process.stdout, log), daemon=True)
        reader.start()
        code = process.wait()
        # Before waiting for the rest of the output, which only ends with the last process that can write to it.
        _end_others_of_our_session()
        reader.join(_SECONDS)
    return Step(name_of(command), code, log.last_words)


def name_of(command: Sequence[str]) -> str:
    """The name of the step that kfp.local executes by this command, from its function's name, in which _ stands for -."""
    return command[command.index("--function_to_execute") + 1].replace("_", "-")


def _copy(output: IO[str], log: Log) -> None:
    for line in output:
        log.write(line)


def _end_others_of_our_session() -> None:
    """Kill all other processes of this session. The step is the only child at a time, so they are its descendants."""
    deadline = time.monotonic() + _SECONDS
    while others := _others_of_our_session():
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


def _others_of_our_session() -> list[int]:
    session, ourselves = os.getsid(0), os.getpid()
    # A session with another leader, such as a shell, has unrelated processes.
    if session != ourselves:
        return []
    return [
        int(entry.name)
        for entry in _PROC.iterdir()
        if entry.name.isdigit() and int(entry.name) != ourselves and _runs_in(entry, session)
    ]


def _runs_in(entry: Path, session: int) -> bool:
    try:
        fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX" and int(fields[3]) == session
