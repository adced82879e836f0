"""What a place that images come from must offer."""

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
    """Where files come from. A new one is a module that makes one, and a line in registry.PLACES.

    ``obtain`` takes the part of the request that belongs to the place, the data volume, and a folder for copies, which need not
    exist. It gives the files, on this machine, or refuses: SOURCE_NOT_FOUND, SOURCE_EMPTY, or FORMAT_INVALID for files that no
    reader should see.
    """

    description: SourceDescription
    obtain: Callable[[Any, str, Path], SourceFiles]

    @property
    def name(self) -> str:
        """The field of ``spec.source``."""
        return self.description.name


def _untold(done: int, total: int) -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class Errand:
    """With what a place is asked: ``client``, the ``secret`` by its keys (empty without a secretRef), a folder for what is
    brought, whom to tell how many bytes, of how many or 0, are here, and what of the source the Dataset's store holds."""

    client: Client
    scratch: Path
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)
    progress: Callable[[int, int], None] = _untold
    kept: Kept = field(default_factory=Kept)


@dataclass(frozen=True)
class RemotePlace:
    """Where files are fetched from. A new one is a module that makes one, and a line in registry.PLACES.

    ``look`` says, without bringing it, which content is there now; ``fetch`` brings that content, as files on this machine, and
    what became known of it meanwhile. Both take the part of the request that belongs to the place, and refuse as `Client` and
    `Place` do; what passes by itself is a FetchError.
    """

    description: SourceDescription
    look: Callable[[Any, Errand], Origin]
    fetch: Callable[[Any, Errand, Origin], tuple[SourceFiles, Origin]]

    @property
    def name(self) -> str:
        """The field of ``spec.source``."""
        return self.description.name
