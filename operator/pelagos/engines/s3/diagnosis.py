"""The checks of ``pelagos doctor`` for S3-compatible storage. Called through the descriptors."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from pelagos.engines.diagnosis import NOBODY, DoctorContext, Finding, failure, ok
from pelagos.engines.s3.objects import S3Objects
from pelagos.engines.s3.volumes import S3Volumes
from pelagos.ports.errors import OutageError, RejectedError


async def objects(context: DoctorContext) -> Iterable[Finding]:
    """Check the storage of versions, packages and reports."""
    given = context.settings
    asked = S3Objects.from_settings(given).exists(NOBODY)
    return [await _answered(context, "objects", "PELAGOS_OBJECTS_URI", given.objects_uri, asked)]


async def data(context: DoctorContext) -> Iterable[Finding]:
    """Check the storage of users' images."""
    given = context.settings
    asked = S3Volumes.from_settings(given).fingerprint(NOBODY)
    return [await _answered(context, "data", "PELAGOS_DATA_URI", given.data_uri, asked)]


async def _answered(context: DoctorContext, subject: str, setting: str, uri: str, asked: Awaitable[object]) -> Finding:
    try:
        await asked
    except (OutageError, RejectedError) as error:
        keys = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"
        return failure(subject, str(error), f"Correct {setting}, PELAGOS_S3_ENDPOINT or the credentials ({keys}).")
    return ok(subject, f"{uri} at {context.settings.s3_endpoint or 'AWS'}")
