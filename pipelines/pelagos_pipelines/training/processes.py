"""Runs a training in several processes, one for each accelerator of the machine. Called by families and by the loop.

The step also uses this module to run each of several concurrent trainings in a separate process.

The calling process computes nothing. It starts the others, keeps the history that the first of them reports, and kills all of
them when one has failed or died. So no process waits for one that has died, and the step reports the cause of death.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from pelagos_contract import disk, extensions
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.training import Threads, TrainingRequest
from pelagos_pipelines import output
from pelagos_pipelines.training.families import Job, family_of
from pelagos_pipelines.training.training_history import TrainingHistory

if TYPE_CHECKING:
    from pelagos_pipelines.training.distributed import World

VARIABLE = "PELAGOS_TRAINING_PROCESSES"
"""How many processes share a training on a CPU. For tests: one process uses all cores as well as several do."""
_PR_SET_PDEATHSIG = 1
_GRACE = 3.0
"""Seconds that the other processes have to report their own failure once one has failed."""
_LOCAL = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""The processes connect over the loopback interface, whatever address the host name resolves to."""


class ProcessFailedError(Exception):
    """One of the processes failed with an error that is not a refusal, or was killed."""


def wanted(request: TrainingRequest) -> int:
    """How many processes share the training: one for each available accelerator, up to the number requested; at least 1."""
    import torch

    if torch.cuda.is_available():
        return max(min(request.resources.gpus, int(torch.cuda.device_count())), 1)
    return int(os.environ.get(VARIABLE, "1"))


@dataclass
class _Process:
    """One of the processes. ``fate`` is its last message, or ``("died", exit code)``; None while it runs."""

    rank: int
    popen: subprocess.Popen[bytes]
    connection: Connection
    fate: tuple[Any, ...] | None = None


class Share(Protocol):
    """The work of each process: `families.Family.train`, done together with the others. It is sent to them by pickle."""

    def __call__(self, job: Job, history: TrainingHistory, world: World) -> int:
        """Train, and return the best epoch's number. Only the leading process writes to ``history``."""
        ...


def train(share: Share, job: Job, history: TrainingHistory, count: int) -> int:
    """Like `families.Family.train`, in ``count`` processes.

    Raises:
        RefusedError: one of the processes raised it.
        ProcessFailedError: one of the processes failed otherwise, or was killed.
        OSError: the disk of one of the processes is full.
    """
    return _train(share, job, history, count, Way())


@dataclass(frozen=True)
class Way:
    """Additional environment variables of the processes, and the function that waits for their messages."""

    environment: Mapping[str, str] = field(default_factory=dict)
    wait: Callable[[Sequence[Connection], float | None], Sequence[Any]] = wait


def train_apart(job: Job, history: TrainingHistory, way: Way) -> int:
    """Like `families.Family.train`, in one other process, which is killed when this one ends.

    Raises what `train` raises, and what ``way.wait`` raises.
    """
    return _train(_whole, job, history, 1, way)


def _whole(job: Job, history: TrainingHistory, world: World) -> int:
    """A `Share` that does the whole training; the family may start further processes for it."""
    return family_of(job.request).train(job, history)


def _train(share: Share, job: Job, history: TrainingHistory, count: int, way: Way) -> int:
    if count > 1:
        cores = max(job.request.resources.cpu // count, 1)
        job = replace(job, request=job.request.model_copy(update={"resources": Threads(cpu=cores)}))
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        started: list[_Process] = []
        try:
            started.extend(_start(rank, way.environment) for rank in range(count))
            for process in started:
                _tell(process, (share, job, process.rank, count, Path(folder) / "store"))
            return _follow(started, history, way)
        finally:
            # After a failure the others may be waiting for the process that failed, and would never end by themselves.
            for process in started:
                process.popen.kill()
                process.popen.wait()
                process.connection.close()


def _start(rank: int, more: Mapping[str, str]) -> _Process:
    ours, theirs = Pipe()
    environment = {**os.environ, **_LOCAL, **more, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", __spec__.name, str(theirs.fileno()), str(os.getpid())]
    popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment)
    # Only the process may hold its end: when the process dies, ours then reads end of file.
    theirs.close()
    return _Process(rank, popen, ours)


def _tell(process: _Process, message: Any) -> None:
    try:
        process.connection.send(message)
    except OSError:  # It has died, which `_listen` notices.
        return


def _follow(processes: Sequence[_Process], history: TrainingHistory, way: Way) -> int:
    """Serve the first process's calls of the history until all processes are done. Returns the best epoch's number.

    When one has failed, the others are listened to for ``_GRACE`` seconds more, because the first failure to arrive is often only
    the loss of a process that died: see `_cause`.
    """
    going, failed, deadline = list(processes), list[_Process](), math.inf
    while going and time.monotonic() < deadline:
        left = None if not failed else max(deadline - time.monotonic(), 0)
        for connection in way.wait([process.connection for process in going], left):
            process = next(one for one in going if one.connection is connection)
            _listen(process, history)
            if process.fate is None:
                continue
            going.remove(process)
            if process.fate[0] != "done":
                failed.append(process)
                deadline = min(deadline, time.monotonic() + _GRACE)
    if failed:
        raise _cause(failed, len(processes))
    assert processes[0].fate is not None
    return int(processes[0].fate[1])


def _listen(process: _Process, history: TrainingHistory) -> None:
    """Handle one message of a process: a call of the history, which is answered, or how the process ended."""
    try:
        message = process.connection.recv()
    except (EOFError, OSError):
        process.fate = ("died", process.popen.wait())
        return
    if message[0] == "call":
        _tell(process, getattr(history, message[1])(*message[2]))
        return
    process.fate = message


def _cause(failed: Sequence[_Process], count: int) -> Exception:
    """The error to raise when processes failed: a refusal before a full disk, before a death, before any other failure.

    Other failures come last, because the death of one process makes the others fail in turn.
    """
    order = ("refused", "full", "died", "failed")
    process = min(failed, key=lambda one: order.index(one.fate[0]) if one.fate else len(order))
    assert process.fate is not None
    return _error(process.rank, count, process.fate)


def _error(rank: int, count: int, fate: tuple[Any, ...]) -> Exception:
    which = f"process {rank + 1} of the {count} that share the training" if count > 1 else "the process of the training"
    match fate:
        case ("refused", reason, message, field):
            return RefusedError(Reason(reason), message, field)
        case ("full", number, words, file):
            return OSError(number, words, file)
        case ("died", code) if code < 0:
            cause = "; if nobody did that, the machine ran out of memory" if -code == signal.SIGKILL else ""
            return ProcessFailedError(f"{which} was ended with {signal.Signals(-code).name}{cause}")
        case ("died", code):
            return ProcessFailedError(f"{which} ended with exit code {code}; see the log")
        case _:
            return ProcessFailedError(f"{which} failed: {fate[1]}")


class _Told:
    """The history as the leading process sees it: calls go to the parent process, which keeps it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _call(self, name: str, *arguments: Any) -> Any:
        self._connection.send(("call", name, arguments))
        return self._connection.recv()

    def continue_after(self, epoch: int) -> None:
        """See `TrainingHistory.continue_after`."""
        self._call("continue_after", epoch)

    def record(self, epoch: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """See `TrainingHistory.record`."""
        known: dict[str, float] = self._call("record", epoch, dict(metrics))
        return known

    def keep(self) -> None:
        """See `TrainingHistory.keep`."""
        self._call("keep")


def _be_one(connection: Connection, parent: int) -> None:
    """Run as one of a training's processes: receive the work, do it, and send how it ended."""
    # However the step ends, even by SIGKILL, this process is killed with it. The signal is not sent if the parent ended before
    # this call, so that is checked next.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    output.guard_output()
    try:
        extensions.load(os.environ.get(extensions.VARIABLE, ""), extensions.Plane.DATA)
        share, job, rank, count, store = connection.recv()
        from pelagos_pipelines.training import distributed

        with distributed.member(rank, count, store) if count > 1 else nullcontext(distributed.ALONE) as world:
            best = share(job, cast("TrainingHistory", _Told(connection)), world)
        fate: tuple[Any, ...] = ("done", best)
    except RefusedError as error:
        fate = ("refused", error.failure.reason.value, error.failure.message, error.failure.field)
    except Exception as error:
        traceback.print_exc()
        fate = ("failed", f"{type(error).__name__}: {error}")
        if isinstance(error, OSError) and error.errno in disk.FULL:
            fate = ("full", error.errno, error.strerror, error.filename)
    connection.send(fate)


if __name__ == "__main__":
    _be_one(Connection(int(sys.argv[1])), int(sys.argv[2]))
