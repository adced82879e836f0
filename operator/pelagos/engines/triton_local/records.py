"""The record of a service's Triton servers, in ``state.json``. Called by engine and gateway.

Files only. The intent to start a server is written before it starts: a reader who finds a server without a process looks for one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.alias_generators import to_camel

from pelagos.engines.processes import groups
from pelagos.engines.processes.groups import ProcessId
from pelagos_contract import disk

if TYPE_CHECKING:
    from pathlib import Path

NAME = "state.json"
_NAMED = ConfigDict(alias_generator=to_camel, populate_by_name=True)
"""Keys in the file are in camel case, as in all our JSON."""


@dataclass(frozen=True)
class Server:
    """One server; ``number`` names its folder. ``process`` is None from the intent to start it until it has started.

    ``released_at`` is when its successor took over; None before that.
    """

    __pydantic_config__ = _NAMED

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
    """``current`` gets the requests; ``following`` takes over once it is proven; ``leaving`` finish their last requests."""

    current: Server | None = None
    following: Server | None = None
    leaving: tuple[Server, ...] = ()

    @property
    def newest(self) -> Server | None:
        """The server for the present desired service; None when there is none."""
        return self.following or self.current

    @property
    def servers(self) -> tuple[Server, ...]:
        """All recorded servers."""
        return tuple(server for server in (self.current, self.following, *self.leaving) if server is not None)

    def changed(self, server: Server) -> State:
        """The state with ``server`` in place of the one with the same number."""
        if self.following is not None and self.following.number == server.number:
            return replace(self, following=server)
        return replace(self, current=server)


_STATE = TypeAdapter(State)


def read(folder: Path) -> State:
    """The recorded state; an empty one when there is no record, or it was altered."""
    try:
        return _STATE.validate_json((folder / NAME).read_bytes())
    except (OSError, ValueError):
        return State()


def write(folder: Path, state: State) -> None:
    """Write the record, readable by its owner only."""
    write_json(folder / NAME, _STATE.dump_python(state, mode="json", by_alias=True))


def forget(folder: Path) -> None:
    """Delete the record."""
    (folder / NAME).unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically, readable by its owner only."""
    disk.write_atomically(path, json.dumps(content, indent=2), mode=disk.PRIVATE)
