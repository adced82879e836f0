"""The places that a Dataset can name, and the choice of one. A new place is a module with a place, and a line here."""

from __future__ import annotations

from pathlib import Path

from pelagos_contract.registry import Registry
from pelagos_contract.sources import Source
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.sources import biigle, cvat, http, label_studio, labelbox, roboflow, s3, volume, zenodo
from pelagos_pipelines.sources.place import Place, RemotePlace

PLACES: Registry[Place | RemotePlace] = Registry(
    "source",
    (
        volume.PLACE,
        http.PLACE,
        s3.PLACE,
        zenodo.PLACE,
        cvat.PLACE,
        label_studio.PLACE,
        biigle.PLACE,
        roboflow.PLACE,
        labelbox.PLACE,
    ),
)


def remote(source: Source) -> RemotePlace | None:
    """The remote place that the source names; None for a local one."""
    place = PLACES.named(source.place)
    return place if isinstance(place, RemotePlace) else None


def obtain(source: Source, data_root: str, scratch: Path) -> SourceFiles:
    """The files of the local place that the source names; copies of them are below ``scratch``.

    Remote places need `fetched.errand` instead.
    Raises:
        RefusedError: see Place.
        StorageError, StorageRefusedError: see storage.errors.
    """
    place = PLACES.named(source.place)
    assert isinstance(place, Place)
    return place.obtain(getattr(source, source.place), data_root, scratch)
