"""The descriptors of S3-compatible storage; see engines/descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.engines.descriptors import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pelagos.engines.diagnosis import DoctorContext, Finding
    from pelagos.engines.s3.objects import S3Objects
    from pelagos.engines.s3.volumes import S3Volumes
    from pelagos.settings import Settings

SECRETS = (frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}),)
"""Named like the environment variables that clients read."""


def _make_objects(settings: Settings) -> S3Objects:
    from pelagos.engines.s3.objects import S3Objects

    return S3Objects.from_settings(settings)


def _make_volumes(settings: Settings) -> S3Volumes:
    from pelagos.engines.s3.volumes import S3Volumes

    return S3Volumes.from_settings(settings)


async def _diagnose_objects(context: DoctorContext) -> Iterable[Finding]:
    from pelagos.engines.s3 import diagnosis

    return await diagnosis.objects(context)


async def _diagnose_volumes(context: DoctorContext) -> Iterable[Finding]:
    from pelagos.engines.s3 import diagnosis

    return await diagnosis.data(context)


OBJECTS = Descriptor(
    name="s3",
    system="s3",
    summary="S3-compatible storage",
    make=_make_objects,
    secrets=SECRETS,
    diagnose=_diagnose_objects,
)
VOLUMES = Descriptor(
    name="s3",
    system="s3",
    summary="S3-compatible storage",
    make=_make_volumes,
    secrets=SECRETS,
    diagnose=_diagnose_volumes,
)
