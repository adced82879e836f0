"""Descriptors of engines, trackers and stores: all that the rest of the operator knows about one before it is loaded.

A descriptor is cheap to import: only ``make`` imports the engine itself. So an operator pays, in start-up time and memory, only
for the engines that it uses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from pelagos.api.permissions import Permission
    from pelagos.engines.diagnosis import Check
    from pelagos.engines.kubernetes.rest import KubernetesRest
    from pelagos.ports.authority import Authority
    from pelagos.ports.leadership import Guard
    from pelagos.ports.objects import Objects
    from pelagos.ports.registry import Registry as Models
    from pelagos.ports.tracking import Tracking
    from pelagos.settings import Settings

From = TypeVar("From")
"""The argument of ``make``: an `EngineContext` for engines and trackers, the settings for stores."""


@dataclass(frozen=True)
class EngineContext:
    """The dependencies of an engine; ``namespace_of`` maps a resource's uid to its namespace, None when it is unknown."""

    settings: Settings
    api: KubernetesRest
    authority: Authority
    objects: Objects
    namespace_of: Callable[[str], str | None]
    guard: Guard
    flows: Path
    """Folder of the compiled pipelines."""


@dataclass(frozen=True)
class Tracker:
    """A tracker that was made: both of its ports, and how to close it."""

    tracking: Tracking
    registry: Models
    close: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Descriptor(Generic[From]):
    """An engine, tracker or store. ``name`` is the value of the setting that selects it, ``system`` its label in metrics."""

    name: str
    system: str
    summary: str
    """A short description, for people who choose one."""
    make: Callable[[From], Any]
    """Returns the engine behind its port, with ``close``; or a `Tracker`; or the store behind its port."""
    is_elsewhere: bool = True
    """For engines: whether the work is done on a cluster rather than on this machine."""
    contradiction: Callable[[Settings, bool], str | None] = lambda _settings, _on_cluster: None
    """Says which settings it cannot work with, and what to change; None when all fit.

    The second argument says whether any engine works on a cluster.
    """
    rights: tuple[Permission, ...] = ()
    """For engines: the rights that the operator needs for it at the API server, in addition to those it always needs."""
    secrets: tuple[frozenset[str], ...] = ()
    """For trackers and stores: the sets of Secret keys by which pods can log in; one set must be complete. Empty: no login."""
    diagnose: Check | None = None
    """The check of `pelagos doctor`; None checks only whether it answers. Imports happen when it is called, as in ``make``."""


@dataclass
class Registry(Generic[From]):
    """The engines behind one port. ``setting`` is the environment variable that selects one."""

    setting: str
    engines: tuple[Descriptor[From], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The allowed values of the setting."""
        return tuple(engine.name for engine in self.engines)

    @property
    def on_cluster(self) -> tuple[Descriptor[From], ...]:
        """The engines that can be used on a cluster."""
        return tuple(engine for engine in self.engines if engine.is_elsewhere)

    def get(self, name: str) -> Descriptor[From]:
        """The engine of this name.

        Raises ValueError, with all names, when there is none.
        """
        for engine in self.engines:
            if engine.name == name:
                return engine
        raise ValueError(f"{self.setting} is {name!r}; allowed: {', '.join(self.names)}")

    def by_uri(self, uri: str) -> Descriptor[From]:
        """For stores: the one whose name is the scheme of ``uri``; for an empty ``uri`` the first, which needs no scheme.

        Raises ValueError, with all schemes, when there is none.
        """
        first, *others = self.engines
        if not uri:
            return first
        for store in others:
            if uri.startswith(f"{store.name}://"):
                return store
        schemes = ", ".join(f"{store.name}://..." for store in others)
        raise ValueError(f"{self.setting} is {uri!r}; allowed: {schemes}, or nothing ({first.summary})")

    def register(self, engine: Descriptor[From]) -> None:
        """Add a third-party engine; called by modules that PELAGOS_EXTENSIONS names. Raises as ``including`` does."""
        self.engines = self.including([engine]).engines

    def including(self, more: Sequence[Descriptor[From]]) -> Registry[From]:
        """This registry with third-party engines added. They must be named explicitly: nothing is ever discovered.

        Raises ValueError for a name that is taken.
        """
        taken = [engine.name for engine in more if engine.name in self.names]
        if taken:
            raise ValueError(f"there is already an engine {taken[0]!r} for {self.setting}")
        return Registry(self.setting, (*self.engines, *more))
