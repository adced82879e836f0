"""Starts and stops the supervisor from outside. Used by `pelagos up`, `down` and `status`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pelagos.embedded import locking, logs, orphans, state
from pelagos.embedded.failures import StartError
from pelagos.embedded.state import Phase, State
from pelagos.engines.processes import groups

if TYPE_CHECKING:
    from pelagos.embedded.layout import Layout
    from pelagos.engines.processes.groups import ProcessId
    from pelagos.settings import Settings

_STOP_SECONDS = 15.0
"""How long to wait for a supervisor, which needs up to 10 seconds to stop."""
_GRACE_SECONDS = 2.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Found:
    """The state of an installation as seen from outside."""

    state: State | None
    """The last report, if it can be read."""
    runs: bool
    """Whether a supervisor is running. If not, ``state`` is from an earlier one."""
    orphans: int
    """Number of processes that run without a supervisor."""

    @property
    def crashed(self) -> bool:
        """Whether the supervisor ended without stopping: it was killed, or the machine went down."""
        ended = {Phase.STOPPED, Phase.FAILED}
        return not self.runs and self.state is not None and self.state.phase not in ended


def look(layout: Layout) -> Found:
    """Look at the installation now."""
    runs = locking.is_locked(layout)
    return Found(state.read(layout.state), runs, 0 if runs else len(orphans.find(layout.home)))


def start(settings: Settings, layout: Layout) -> ProcessId:
    """Start a supervisor in the background. Raises StartError."""
    log = layout.log("supervisor")
    logs.rotate(log)
    environment = {
        **os.environ,
        "PELAGOS_HOME": str(layout.home),
        "PELAGOS_ENVIRONMENTS": str(settings.environments.absolute()),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "pelagos.embedded"]
    try:
        return groups.start_detached(command, environment=environment, output=log)
    except OSError as error:
        raise StartError(f"The supervisor could not be started: {error}") from error


def report(layout: Layout, process: ProcessId) -> State | None:
    """The report of this supervisor; None as long as it has written none, or another one has."""
    current = state.read(layout.state)
    return current if current is not None and current.supervisor == process else None


def stop(layout: Layout) -> bool:
    """Stop the supervisor, its parts and everything they started. Returns whether there was anything to stop.

    Also cleans up after a supervisor that was killed. Raises StartError when the supervisor cannot be found or ended.
    """
    ran = locking.is_locked(layout)
    if ran:
        _end_supervisor(layout)
    swept = asyncio.run(orphans.end(layout.home, _GRACE_SECONDS))
    last = state.read(layout.state)
    if last is not None and last.phase not in {Phase.STOPPED, Phase.FAILED}:
        # A killed supervisor could not report its end, so do it here. The ports are kept for the next start.
        stopped = {
            name: replace(part, phase=state.PartPhase.STOPPED, pid=None, session=None)
            for name, part in last.parts.items()
        }
        with contextlib.suppress(OSError):
            state.write(layout.state, replace(last, phase=Phase.STOPPED, parts=stopped))
    return ran or swept > 0


def _end_supervisor(layout: Layout) -> None:
    last = state.read(layout.state)
    process = last.supervisor if last is not None else None
    if process is None or not groups.is_alive(process):
        raise StartError(
            f"A supervisor holds {layout.lock}, but {layout.state} does not say which process it is. "
            f"Find it with `fuser {layout.lock}`, and end it with `kill <process id>`."
        )
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    if not _ends(process, _STOP_SECONDS):
        os.kill(process.pid, signal.SIGKILL)
        _ends(process, _GRACE_SECONDS)


def _ends(process: ProcessId, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while groups.is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
