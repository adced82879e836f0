"""The places that a Dataset may name, and the choice of one. A new place is a module with a `Place`, and a line here."""

from __future__ import annotations

from pathlib import Path

from pelagos_contract.registry import Registry
from pelagos_contract.sources import Source
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.sources import volume

PLACES = Registry("source", (volume.PLACE,))


def obtain(source: Source, data_root: str, scratch: Path) -> SourceFiles:
    """The files of the place that the source names, on this machine; copies of them are below ``scratch``.

    Raises:
        RefusedError: see Place.
        StorageError, StorageRefusedError: see storage.errors.
    """
    return PLACES.named(source.place).obtain(getattr(source, source.place), data_root, scratch)
