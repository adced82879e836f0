"""The records of the local pipeline engine and its runner processes: one folder per run.

The files, and who writes which, are described in the data plane's ``local_runner``, the only other reader. Everything here
blocks; the engine calls it in threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Any

from pelagos.engines.processes import groups, orderly
from pelagos.engines.processes.groups import ProcessId
from pelagos.ports.pipelines import (
    FINISHED,
    PipelineRun,
    RunName,
    RunRequest,
    RunResources,
    RunState,
    SourceSecret,
    is_valid_name,
    log_command,
)
from pelagos.ports.placement import Placement
from pelagos_contract import disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOG = "log.txt"
_DELETED = ".deleted-"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Stored:
    """The content of ``request.json``."""

    request: RunRequest
    attempts_with_key: int
    submitted_at: datetime


@dataclass(frozen=True)
class Begun:
    """The content of ``process.json``. ``process`` is None if the machine has been restarted since."""

    attempt: int
    process: ProcessId | None
    started_at: datetime

    def ran(self) -> timedelta | None:
        """How long ago its process started, by a monotonic clock; None after a restart of the machine."""
        return groups.age(self.process) if self.process is not None else None


@dataclass(frozen=True)
class Ended:
    """The content of ``outcome.json``."""

    attempt: int
    state: RunState
    message: str
    finished_at: datetime
    ran: timedelta | None
    """The run time by a monotonic clock; None in records of earlier versions."""


@dataclass(frozen=True)
class Look:
    """One look at a run. ``begun`` may be of an earlier attempt; ``ended`` is of this one. ``locked``: its runner is alive.

    ``in_order``: the installation was shut down on purpose while this attempt was in progress.
    """

    stored: Stored
    canceled: bool
    begun: Begun | None
    locked: bool
    ended: Ended | None
    log: Path
    in_order: bool = False

    @property
    def has_begun(self) -> bool:
        """Whether this attempt has begun."""
        return self.begun is not None and self.begun.attempt == self.stored.request.attempt

    @property
    def state(self) -> RunState:
        """The state of the run, derived from its records."""
        # A run that succeeded before it was canceled has succeeded: its result is complete.
        if self.canceled and not (self.ended and self.ended.state is RunState.SUCCEEDED):
            return RunState.CANCELED
        interrupted = RunState.CANCELED if self.in_order else RunState.INTERRUPTED
        if self.ended:
            return interrupted if self.ended.state is RunState.INTERRUPTED else self.ended.state
        if self.has_begun:
            return RunState.RUNNING if self.locked else interrupted
        return RunState.PENDING

    @property
    def settled(self) -> bool:
        """Whether the run is in progress, or its end is recorded; otherwise its end must be cleaned up and recorded."""
        return self.ended is not None or self.state not in FINISHED

    def run(self) -> PipelineRun:
        """The run in the port's terms."""
        request = self.stored.request
        begun = self.begun if self.has_begun else None
        # Measured by the process's age while it exists, and recorded at its end: the time of day may be changed in between.
        ran = self.ended.ran if self.ended is not None else begun.ran() if begun is not None else None
        return PipelineRun(
            name=request.name,
            state=self.state,
            attempt=request.attempt,
            retry_key=request.retry_key,
            attempts_with_key=self.stored.attempts_with_key,
            message=self._message(),
            url=str(self.log),
            started_at=begun.started_at if begun else None,
            finished_at=self.ended.finished_at if self.ended else None,
            ran=ran,
        )

    def _message(self) -> str:
        """How it ended; for a failed run also the command that shows its log, for people without access to this machine."""
        if self.ended is None:
            return ""
        command = log_command(self.stored.request.labels) if self.ended.state is RunState.FAILED else ""
        return f"{self.ended.message}; {command} shows its log" if command else self.ended.message


class RunFolder:
    """The folder of one run. Methods raise OSError, and ValueError for files that were altered."""

    def __init__(self, runs: Path, name: RunName) -> None:
        self.name = name
        self.path = runs / name
        self.log = self.path / LOG

    def look(self) -> Look | None:
        """Read all records of the run; None when it does not exist."""
        # The order of these reads matters, because a runner may be writing: read last what it writes last. Then a free lock
        # without an outcome means that the runner died, and not that it ended between two reads.
        stored = self._stored()
        if stored is None:
            return None
        attempt = stored.request.attempt
        canceled = self._read("canceled.json") or {"attempt": 0}
        begun = self._begun()
        locked = self._is_locked()
        # After the lock, because a runner writes its outcome before it releases the lock.
        ended = self._ended()
        ended = ended if ended and ended.attempt == attempt else None
        gone = ended.finished_at if ended else None
        return Look(
            stored=stored,
            canceled=canceled["attempt"] == attempt,
            begun=begun,
            locked=locked,
            ended=ended,
            log=self.log,
            in_order=begun is not None and orderly.has_ended(self.path.parents[1], begun.started_at, gone),
        )

    def request(self, stored: Stored) -> None:
        """Record the run, or its next attempt. The lock file is created first, because a run without one never begins."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "lock").touch()
        self.log.touch()
        request = stored.request
        document = {
            "name": request.name,
            "flow": request.flow,
            "parameters": dict(request.parameters),
            "attempt": request.attempt,
            "retryKey": request.retry_key,
            "resources": {
                "cpu": request.resources.cpu,
                "gpus": request.resources.placement.gpus,
                "memory": request.resources.placement.memory_limit or request.resources.placement.memory,
            },
            "labels": dict(request.labels),
            "namespace": request.namespace,
            "secret": request.secret.name if request.secret is not None else None,
            "attemptsWithKey": stored.attempts_with_key,
            "submittedAt": stored.submitted_at.isoformat(),
        }
        self._write("request.json", document)

    def mark_canceled(self, attempt: int) -> None:
        """Keep the attempt from beginning; if it has begun, record that it was ended on purpose."""
        self._write("canceled.json", {"attempt": attempt, "canceledAt": now().isoformat()})

    def write_outcome(self, attempt: int, state: RunState, message: str) -> bool:
        """Record the end of an attempt whose runner has died, unless it is recorded; False if a runner still has the lock.

        True also if the run has been deleted, since there is nothing left to record.
        """
        if not self.path.exists():
            return True
        # Under the runner's own lock, so that a runner that is just starting either sees the end and exits, or is noticed here.
        with self._lock() as locked:
            if not locked:
                return False
            # Read again now that nobody else can write: the runner may have recorded its end after the last look.
            ended = self._ended()
            if ended is None or ended.attempt < attempt:
                begun = self._begun()
                ran = begun.ran() if begun is not None and begun.attempt == attempt else None
                document = {
                    "attempt": attempt,
                    "state": state.value,
                    "message": message,
                    "finishedAt": now().isoformat(),
                    "seconds": ran.total_seconds() if ran is not None else None,
                }
                self._write("outcome.json", document)
            return True

    def tail(self) -> str:
        """The last non-empty line of the log; "" if there is none."""
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def remove(self) -> None:
        """Remove the folder; from the start of this call no process can begin in it."""
        # Rename it first: a late runner finds no lock file at its path, and a half-removed folder is never taken for a run.
        aside = self.path.with_name(f"{_DELETED}{self.name}-{time_ns()}")
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(aside)
            shutil.rmtree(aside)

    def _stored(self) -> Stored | None:
        document = self._read("request.json")
        if document is None:
            return None
        request = RunRequest(
            name=RunName(document["name"]),
            flow=document["flow"],
            parameters=document["parameters"],
            attempt=document["attempt"],
            retry_key=document["retryKey"],
            resources=_resources(document["resources"]),
            labels=document["labels"],
            namespace=document.get("namespace", ""),
            secret=SourceSecret(document["secret"]) if document.get("secret") else None,
        )
        return Stored(request, document["attemptsWithKey"], datetime.fromisoformat(document["submittedAt"]))

    def _begun(self) -> Begun | None:
        document = self._read("process.json")
        if document is None:
            return None
        # After a restart of the machine, process id and start time mean nothing: both count from the boot.
        same_boot = document["boot"] == _BOOT.read_text(encoding="utf-8").strip()
        process = ProcessId(document["pid"], document["started"]) if same_boot else None
        return Begun(document["attempt"], process, datetime.fromisoformat(document["startedAt"]))

    def _ended(self) -> Ended | None:
        document = self._read("outcome.json")
        if document is None:
            return None
        seconds = document.get("seconds")
        return Ended(
            attempt=document["attempt"],
            state=RunState(document["state"]),
            message=document["message"],
            finished_at=datetime.fromisoformat(document["finishedAt"]),
            ran=timedelta(seconds=seconds) if seconds is not None else None,
        )

    def _is_locked(self) -> bool:
        """Whether a runner has the lock. Asks without taking it, even briefly: a runner that starts just then would exit."""
        # Use open-file-description locks: a process's POSIX lock is lost when it closes any descriptor of the file.
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _lock_request())
        finally:
            os.close(descriptor)
        kind: int = struct.unpack("hhqqi4x", answer)[0]
        return kind != fcntl.F_UNLCK

    @contextlib.contextmanager
    def _lock(self) -> Iterator[bool]:
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock_request())
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return document

    def _write(self, name: str, document: Mapping[str, object]) -> None:
        disk.write_atomically(self.path / name, json.dumps(document, indent=2) + "\n")


def all_runs(runs: Path) -> list[RunFolder]:
    """The folders of all runs. Also finishes interrupted removals."""
    if not runs.is_dir():
        return []
    entries = list(runs.iterdir())
    for entry in entries:
        if entry.name.startswith(_DELETED):
            shutil.rmtree(entry, ignore_errors=True)
    return [RunFolder(runs, RunName(entry.name)) for entry in entries if is_valid_name(entry.name)]


def _resources(document: Mapping[str, Any]) -> RunResources:
    """The recorded resources of a run; earlier versions recorded no GPUs and no memory."""
    placement = Placement(gpus=document.get("gpus", 0), memory=document.get("memory", ""))
    return RunResources(cpu=document["cpu"], placement=placement)


def _lock_request() -> bytes:
    """``struct flock`` for the whole file; open-file-description locks require its last field to be zero."""
    return struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def now() -> datetime:
    """The time in UTC, for the records."""
    return datetime.now(UTC)
