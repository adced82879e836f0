"""The descriptors of folders as stores; see engines/descriptors.

On a cluster they are on claims, which steps and model servers mount.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.engines.descriptors import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pelagos.engines.diagnosis import DoctorContext, Finding
    from pelagos.engines.folders.objects import FolderObjects
    from pelagos.engines.folders.volumes import FolderVolumes
    from pelagos.settings import Settings


def _make_objects(settings: Settings) -> FolderObjects:
    from pelagos.engines.folders.objects import FolderObjects

    return FolderObjects(settings.objects)


def _make_volumes(settings: Settings) -> FolderVolumes:
    from pelagos.engines.folders.volumes import FolderVolumes

    return FolderVolumes(settings.data)


async def _diagnose_objects(context: DoctorContext) -> Iterable[Finding]:
    from pelagos.engines.folders import diagnosis

    return await diagnosis.objects(context)


async def _diagnose_volumes(context: DoctorContext) -> Iterable[Finding]:
    from pelagos.engines.folders import diagnosis

    return await diagnosis.data(context)


OBJECTS = Descriptor(
    name="folder",
    system="objects",
    summary="the folder PELAGOS_OBJECTS_ROOT",
    make=_make_objects,
    diagnose=_diagnose_objects,
)
VOLUMES = Descriptor(
    name="folder",
    system="volumes",
    summary="the folder PELAGOS_DATA_ROOT",
    make=_make_volumes,
    diagnose=_diagnose_volumes,
)
