"""The interface of places that images come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pelagos_contract.remote_sources import Origin
from pelagos_contract.sources import SourceDescription
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.fetching import Client
from pelagos_pipelines.sources.kept import Kept


@dataclass(frozen=True)
class Place:
    """A local place of files. A new one is a module that creates one, and a line in registry.PLACES.

    ``obtain`` takes the place's part of the request, the data volume, and a folder for copies, which need not exist. It returns
    the files on this machine, or refuses: SOURCE_NOT_FOUND, SOURCE_EMPTY, or FORMAT_INVALID for unsafe files.
    """

    description: SourceDescription
    obtain: Callable[[Any, str, Path], SourceFiles]

    @property
    def name(self) -> str:
        """The field of ``spec.source``."""
        return self.description.name


def _untold(done: int, total: int) -> None:
    """The default for ``progress``: reports to nobody."""


@dataclass(frozen=True)
class Errand:
    """The means of fetching: ``client``, the ``secret`` by its keys (empty without a secretRef), a ``scratch`` folder, a
    ``progress`` callback with bytes done and total (0 if unknown), and the images ``kept`` in the Dataset's store."""

    client: Client
    scratch: Path
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)
    progress: Callable[[int, int], None] = _untold
    kept: Kept = field(default_factory=Kept)


@dataclass(frozen=True)
class RemotePlace:
    """A remote place of files. A new one is a module that creates one, and a line in registry.PLACES.

    ``look`` returns the state of the present content without fetching it. ``fetch`` returns the content as files on this machine,
    and its more precise origin. Both take the place's part of the request, and refuse as `Client` and `Place` do; temporary
    failures are FetchErrors.
    """

    description: SourceDescription
    look: Callable[[Any, Errand], Origin]
    fetch: Callable[[Any, Errand, Origin], tuple[SourceFiles, Origin]]

    @property
    def name(self) -> str:
        """The field of ``spec.source``."""
        return self.description.name
