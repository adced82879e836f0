"""What is remembered of the Triton servers of one service, in ``state.json``. Called by engine and gateway.

Files only. The intent to start a server is written before it starts: without a process, whoever reads it looks for one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pelagos.engines.processes import groups
from pelagos.engines.processes.groups import ProcessId
from pelagos_contract import disk

if TYPE_CHECKING:
    from pathlib import Path

NAME = "state.json"


@dataclass(frozen=True)
class Server:
    """One server; ``number`` names its folder. ``process`` is None from the intent to start one until it is started.

    ``released_at`` is when its successor took over.
    """

    number: int
    model: str
    digest: str
    restarts: int
    started_at: datetime
    process: ProcessId | None
    released_at: datetime | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self.process is not None and groups.is_alive(self.process)


@dataclass(frozen=True)
class State:
    """``current`` gets the requests, ``following`` shall take over when it is proven, ``leaving`` answer what they still have."""

    current: Server | None = None
    following: Server | None = None
    leaving: tuple[Server, ...] = ()

    @property
    def newest(self) -> Server | None:
        """The server of what is wanted now."""
        return self.following or self.current

    @property
    def servers(self) -> tuple[Server, ...]:
        """All of them."""
        return tuple(server for server in (self.current, self.following, *self.leaving) if server is not None)

    def changed(self, server: Server) -> State:
        """With this server in the place of the one with its number."""
        if self.following is not None and self.following.number == server.number:
            return replace(self, following=server)
        return replace(self, current=server)


def read(folder: Path) -> State:
    """What is remembered; nothing when there is nothing."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return State(
            current=_server(content["current"]),
            following=_server(content["following"]),
            leaving=tuple(server for item in content["leaving"] if (server := _server(item)) is not None),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return State()


def write(folder: Path, state: State) -> None:
    """Remember it, for the owner alone."""
    content = {
        "current": _content(state.current),
        "following": _content(state.following),
        "leaving": [_content(server) for server in state.leaving],
    }
    write_json(folder / NAME, content)


def forget(folder: Path) -> None:
    """Remember nothing."""
    (folder / NAME).unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Put a file in the place of another, for the owner alone."""
    disk.write_atomically(path, json.dumps(content, indent=2), mode=disk.PRIVATE)


def _server(content: Any) -> Server | None:
    if content is None:
        return None
    released, process = content.pop("releasedAt"), content.pop("process")
    started = datetime.fromisoformat(content.pop("startedAt"))
    return Server(
        **content,
        started_at=started,
        process=ProcessId(**process) if process else None,
        released_at=datetime.fromisoformat(released) if released else None,
    )


def _content(server: Server | None) -> dict[str, Any] | None:
    if server is None:
        return None
    return {
        "number": server.number,
        "model": server.model,
        "digest": server.digest,
        "restarts": server.restarts,
        "startedAt": server.started_at.isoformat(),
        "process": asdict(server.process) if server.process else None,
        "releasedAt": server.released_at.isoformat() if server.released_at else None,
    }
