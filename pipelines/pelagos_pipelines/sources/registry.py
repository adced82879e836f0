"""The places that a Dataset may name, and the choice of one. A new place is a module with ``collect``, and an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pelagos_contract.sources import Source
from pelagos_pipelines import storage
from pelagos_pipelines.annotations.model import Exclusion, SourceFiles
from pelagos_pipelines.sources import volume


class Place(Protocol):
    """Where files come from; ``source`` is the part of the request that belongs to the place."""

    def collect(self, source: Any, data_root: Path) -> SourceFiles:
        """The files, on this machine.

        Raises:
            RefusedError: SOURCE_NOT_FOUND, SOURCE_EMPTY, or FORMAT_INVALID for files that no reader should see.
        """


PLACES: Mapping[str, Place] = {"volume": volume}
"""By the field of ``spec.source``."""


def download(source: Source, data_root: str, scratch: Path) -> tuple[Path, tuple[Exclusion, ...]]:
    """The data volume as a folder, with what the source names in it; a copy below ``scratch`` where it is on object storage.

    Beside it, the files that were left there.

    Raises:
        RefusedError: see volume.download.
        StorageError, StorageRefusedError: see storage.errors.
    """
    if not storage.is_remote(data_root):
        return Path(data_root), ()
    return scratch, volume.download(source.volume, data_root, scratch)


def collect(source: Source, data_root: Path) -> SourceFiles:
    """The files of the only field that is set."""
    field = next(name for name in PLACES if getattr(source, name) is not None)
    return PLACES[field].collect(getattr(source, field), data_root)
