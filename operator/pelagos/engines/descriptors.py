"""What an engine for pipelines or serving says of itself: all that others know of it before anything of it is loaded.

A descriptor is light: ``make`` imports the engine. An operator starts as fast, and stays as small, as what it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pelagos.api.permissions import Permission
    from pelagos.engines.diagnosis import Check
    from pelagos.engines.kubernetes.rest import KubernetesRest
    from pelagos.ports.authority import Authority
    from pelagos.ports.leadership import Guard
    from pelagos.ports.objects import Objects
    from pelagos.settings import Settings


@dataclass(frozen=True)
class Site:
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
class Descriptor:
    """One engine. ``name`` is the value of the setting that chooses it, ``system`` what it is called in metrics."""

    name: str
    system: str
    summary: str
    """What it is, for people who choose one."""
    make: Callable[[Site], Any]
    """The engine, behind its port, with ``close``."""
    is_elsewhere: bool = True
    """Whether it does its work on a cluster."""
    contradiction: Callable[[Settings], str | None] = lambda _settings: None
    """Which settings it cannot work with, and what to change."""
    rights: tuple[Permission, ...] = ()
    """What the operator needs for it at the API server, beside what it always needs."""
    diagnose: Check | None = None
    """What `pelagos doctor` looks at; None: whether the engine answers. It imports what it needs, as ``make`` does."""


@dataclass(frozen=True)
class Registry:
    """The engines behind one port. ``setting`` is the environment variable that chooses one."""

    setting: str
    engines: tuple[Descriptor, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The values of the setting that are allowed."""
        return tuple(engine.name for engine in self.engines)

    @property
    def on_cluster(self) -> tuple[Descriptor, ...]:
        """Those for clusters."""
        return tuple(engine for engine in self.engines if engine.is_elsewhere)

    def get(self, name: str) -> Descriptor:
        """The engine of this name.

        Raises ValueError, with all names, when there is none.
        """
        for engine in self.engines:
            if engine.name == name:
                return engine
        raise ValueError(f"{self.setting} is {name!r}; allowed: {', '.join(self.names)}")

    def including(self, more: Sequence[Descriptor]) -> Registry:
        """The same with engines of others, which whoever starts the operator names here. Nothing is ever found by itself.

        Raises ValueError for a name that is taken.
        """
        taken = [engine.name for engine in more if engine.name in self.names]
        if taken:
            raise ValueError(f"there is an engine {taken[0]!r} for {self.setting} already")
        return Registry(self.setting, (*self.engines, *more))
