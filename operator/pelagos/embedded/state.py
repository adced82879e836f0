"""A supervisor's report about itself and its parts, in ``state.json``.

Written by the supervisor; read by the command line, and by the operator for its metrics.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from pelagos.engines.processes.groups import ProcessId
from pelagos_contract import disk

if TYPE_CHECKING:
    from pathlib import Path


class Phase(enum.StrEnum):
    """The phase of the whole installation."""

    STARTING = "Starting"
    READY = "Ready"
    DEGRADED = "Degraded"
    """It was ready, but some part is not ready now."""
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"
    """The supervisor gave up; ``message`` says why."""


class PartPhase(enum.StrEnum):
    """The phase of one part."""

    WAITING = "Waiting"
    """Not started yet, because it needs other parts."""
    STARTING = "Starting"
    READY = "Ready"
    UNREADY = "Unready"
    """Alive, but unable to do its work now."""
    RESTARTING = "Restarting"
    """It ended, and is restarted after a pause."""
    STOPPED = "Stopped"


@dataclass(frozen=True)
class PartState:
    """One supervised server, as last seen."""

    phase: PartPhase = PartPhase.WAITING
    pid: int | None = None
    """The server's own process id, not its wrapper's."""
    session: ProcessId | None = None
    """The session that the server and its workers run in."""
    url: str = ""
    log: str = ""
    restarts: int = 0
    """How often it was restarted since the supervisor started."""
    last_exit: str = ""
    """How it last ended; empty if it never did."""
    last_exit_at: str = ""
    """When it last ended, as RFC 3339."""
    message: str = ""


@dataclass(frozen=True)
class State:
    """The state of the whole installation. The file outlives the supervisor, so that the next start uses the same ports."""

    phase: Phase
    supervisor: ProcessId
    started_at: str = ""
    kubeconfig: str = ""
    message: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, PartState] = field(default_factory=dict)

    def with_part(self, name: str, part: PartState) -> State:
        """A copy with a new state of one part."""
        return replace(self, parts={**self.parts, name: part})


_ADAPTER = TypeAdapter(State)


def now() -> str:
    """The present time in UTC, as RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def read(path: Path) -> State | None:
    """The last report; None when there is none, or it cannot be parsed."""
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write(path: Path, state: State) -> None:
    """Replace the report atomically. Raises OSError."""
    disk.write_atomically(path, _ADAPTER.dump_json(state, indent=1).decode() + "\n", mode=disk.PRIVATE)
