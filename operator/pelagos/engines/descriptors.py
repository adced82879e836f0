"""What an engine, a tracker or a store says of itself: all that others know of it before anything of it is loaded.

A descriptor is light: ``make`` imports the engine. An operator starts as fast, and stays as small, as what it uses.
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
"""What one is made from: engines and trackers from their `EngineContext`, stores from settings."""


@dataclass(frozen=True)
class EngineContext:
    """What an engine is made from; ``namespace_of`` tells a resource's namespace by its uid, None when unknown."""

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
    """What a tracker is made into: both of its ports, and how to close it."""

    tracking: Tracking
    registry: Models
    close: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Descriptor(Generic[From]):
    """One of them. ``name`` is what its setting says to choose it, ``system`` what it is called in metrics."""

    name: str
    system: str
    summary: str
    """What it is, for people who choose one."""
    make: Callable[[From], Any]
    """An engine, behind its port, with ``close``; a `Tracker`; a store, behind its port."""
    is_elsewhere: bool = True
    """Of engines: whether it does its work on a cluster."""
    contradiction: Callable[[Settings, bool], str | None] = lambda _settings, _on_cluster: None
    """Which settings it cannot work with, and what to change; also told is whether any engine works on a cluster."""
    rights: tuple[Permission, ...] = ()
    """Of engines: what the operator needs for it at the API server, beside what it always needs."""
    secrets: tuple[frozenset[str], ...] = ()
    """Of trackers and stores: the keys of a Secret by which pods log in to it, all of one of these sets; none: no login."""
    diagnose: Check | None = None
    """What `pelagos doctor` looks at; None: whether it answers. It imports what it needs, as ``make`` does."""


@dataclass
class Registry(Generic[From]):
    """The engines behind one port. ``setting`` is the environment variable that chooses one."""

    setting: str
    engines: tuple[Descriptor[From], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The values of the setting that are allowed."""
        return tuple(engine.name for engine in self.engines)

    @property
    def on_cluster(self) -> tuple[Descriptor[From], ...]:
        """Those for clusters."""
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
        """Of stores: the one whose name is the scheme of ``uri``; for an empty uri the first, which needs none.

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
        """Add one of others: what a module that PELAGOS_EXTENSIONS names calls. Raises as ``including`` does."""
        self.engines = self.including([engine]).engines

    def including(self, more: Sequence[Descriptor[From]]) -> Registry[From]:
        """The same with engines of others, which whoever starts the operator names here. Nothing is ever found by itself.

        Raises ValueError for a name that is taken.
        """
        taken = [engine.name for engine in more if engine.name in self.names]
        if taken:
            raise ValueError(f"there is an engine {taken[0]!r} for {self.setting} already")
        return Registry(self.setting, (*self.engines, *more))
