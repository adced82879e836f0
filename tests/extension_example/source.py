"""A source: a zip archive on the data volume, unpacked below the folder for copies."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from extension_example.descriptions import SOURCE, ArchiveSource
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.sources import VolumeSource
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.sources import volume
from pelagos_pipelines.sources.place import Place

FIELD = "source.archive.file"


def obtain(source: ArchiveSource, data_root: str, scratch: Path) -> SourceFiles:
    """The files in the archive."""
    path = Path(data_root, source.file)
    if not path.is_file():
        raise RefusedError(Reason.SOURCE_NOT_FOUND, f"{source.file!r} is no archive on the data volume", FIELD)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            target = scratch / PurePosixPath(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
    return replace(volume.collect(VolumeSource(path="."), scratch), named_by=FIELD)


PLACE = Place(SOURCE, obtain)
