"""One pipeline run on this machine: executes a compiled flow with kfp.local and records its outcome.

The control plane's local engine starts this as a detached process, directly or through local_fork_server. They share the
run's folder and nothing else:

- ``request.json``: what to run; written completely by the engine before it starts this process
- ``lock``: created by the engine; locked by this process (open-file-description lock) during its whole life
- ``canceled.json``: the attempt that must not begin, or is being ended; written by the engine
- ``process.json``: the attempt that has begun, and our process; written by us before anything else happens
- ``outcome.json``: how that attempt ended; our last act, or the engine's when we died without it
- ``log.txt``: the output of all attempts; bounded. Each begins with ``--- <run>, attempt <number>, <time>``, each step with
  ``--- step <name> <time>``, for `pelagos logs`

An attempt begins at most once, however often a process is started for it: the process that gets the lock first checks whether
the attempt has begun. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import struct
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pelagos_contract import disk
from pelagos_contract.flows import TRAINING
from pelagos_pipelines import local_log, local_steps

NICENESS = 5
"""Trainings yield the processor to preparations, serving and the control plane."""
_INTERRUPTIONS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL})
"""Signals from outside; all others, such as a segmentation fault, are failures of the step itself."""
_KFP_WITHOUT_CLIENT = "_KFP_RUNTIME"
"""The variable by which kfp's own steps import it."""


@dataclass(frozen=True)
class Launch:
    """The engine's arguments: the run's folder, the attempt, the compiled flow, and a short path for temporary files."""

    folder: Path
    attempt: int
    pipeline: Path
    temporary: Path

    @classmethod
    def parse(cls, arguments: list[str]) -> Launch:
        """Parse the command line, in the order of the fields."""
        folder, attempt, pipeline, temporary = arguments
        return cls(Path(folder), int(attempt), Path(pipeline), Path(temporary))


def run(launch: Launch) -> None:
    """Execute the attempt, unless it has begun, was canceled, or is not the requested one any more."""
    lock = _lock(launch.folder / "lock")
    if lock is None:
        return
    # Under the lock, so that no other process can begin the attempt between this check and the record that it has begun.
    request = _read(launch.folder / "request.json")
    if request is None or request["attempt"] != launch.attempt or _is_settled(launch):
        return
    # Before anything that must not happen twice: from here on the attempt has begun, and if it dies the engine records the end.
    _record_process(launch)
    began = time.clock_gettime(time.CLOCK_BOOTTIME)  # Setting the time of day does not change how long a run takes.
    if request["flow"] == TRAINING.name:
        os.nice(NICENESS)
    launch.temporary.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(launch.temporary)
    os.environ["OMP_NUM_THREADS"] = str(request["resources"]["cpu"])
    # Waiting threads must sleep: beside other programs, spinning made trainings two to four times slower (measured).
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["PYTHONUNBUFFERED"] = "1"
    with local_log.capture(launch.folder / "log.txt") as log:
        log.write(f"--- {request['name']}, attempt {launch.attempt}, {_now()}\n")
        state, message = _execute(request["parameters"], launch, log)
        log.write(f"--- {state} {_now()} {message}\n")
    shutil.rmtree(launch.temporary, ignore_errors=True)
    outcome = {
        "attempt": launch.attempt,
        "state": state,
        "message": message,
        "finishedAt": _now(),
        "seconds": round(time.clock_gettime(time.CLOCK_BOOTTIME) - began, 3),
    }
    # The lock is released after the outcome: a free lock without an outcome means that this process died without one.
    disk.write_atomically(launch.folder / "outcome.json", json.dumps(outcome, indent=2) + "\n", parents=True)
    os.close(lock)


def _lock(path: Path) -> int | None:
    """The lock's descriptor, which must stay open; None when another process has it, or the run was deleted."""
    try:
        # Not created, so that a deleted run does not reappear. Not inherited, as a step that outlives this process would keep it.
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    # A lock of the open file description: a lock of the process would be lost when any of its code opens and closes the file.
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_settled(launch: Launch) -> bool:
    records = (_read(launch.folder / name) for name in ("process.json", "outcome.json", "canceled.json"))
    return any(record is not None and record["attempt"] >= launch.attempt for record in records)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return document


def _record_process(launch: Launch) -> None:
    # Start time and boot id distinguish this process from a later one with the same id.
    stat = Path("/proc/self/stat").read_text(encoding="utf-8")
    process = {
        "attempt": launch.attempt,
        "pid": os.getpid(),
        "started": int(stat.rpartition(")")[2].split()[19]),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip(),
        "startedAt": _now(),
    }
    disk.write_atomically(launch.folder / "process.json", json.dumps(process, indent=2) + "\n", parents=True)


def _execute(parameters: dict[str, str], launch: Launch, log: local_log.Log) -> tuple[str, str]:
    """Execute the flow; returns its final state and message."""
    steps: list[local_steps.Step] = []
    try:
        # Within the try block, so that errors of imports or compilation are reported as failures of the run.
        import_kfp()
        from kfp import local
        from kfp.components import load_component_from_file
        from kfp.local import subprocess_task_handler

        def observed(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
            log.write(f"--- step {local_steps.name_of(full_command)} {_now()}\n")
            steps.append(local_steps.run(full_command, env_vars or {}, log))
            return steps[-1].code

        subprocess_task_handler.run_local_subprocess = observed
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(launch.temporary / "outputs"),
            workspace_root=str(launch.temporary / "workspace"),
            raise_on_error=True,
            enable_caching=False,
        )
        load_component_from_file(str(launch.pipeline))(**parameters)
    except Exception as error:
        return _judge(steps[-1] if steps else None, error)
    return "Succeeded", ""


def import_kfp() -> None:
    """Import the package kfp without its client for pipeline servers, which takes most of its time and half of its memory.

    The modules that run flows can be imported as usual afterwards.
    """
    os.environ[_KFP_WITHOUT_CLIENT] = "true"
    try:
        import kfp  # noqa: F401
    finally:
        del os.environ[_KFP_WITHOUT_CLIENT]


def _judge(step: local_steps.Step | None, error: Exception) -> tuple[str, str]:
    """State and message of a run that did not succeed."""
    if step is None or step.code == 0:
        words = re.sub(r"\s+", " ", str(error)).strip()[:1000]
        return "Failed", f"the pipeline could not be executed: {type(error).__name__}: {words}"
    if step.signal is None:
        return "Failed", f"step {step.name} ended with exit code {step.code}: {step.last_words}"
    if step.signal not in _INTERRUPTIONS:
        return "Failed", f"step {step.name} crashed with {step.signal.name}"
    cause = "; if nobody did that, the machine ran out of memory" if step.signal is signal.SIGKILL else ""
    return "Interrupted", f"step {step.name} was ended with {step.signal.name}{cause}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    run(Launch.parse(sys.argv[1:]))
