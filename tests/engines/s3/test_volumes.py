"""Volumes on real S3-compatible storage: what the port's contract leaves open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from faulty_proxy import Fault, proxied
from object_storage import ObjectStorage
from pelagos.engines.s3.client import Service
from pelagos.engines.s3.volumes import S3Volumes
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.settings import Settings

if TYPE_CHECKING:
    from pelagos.ports.volumes import Fingerprint


async def look(bucket: str, storage: ObjectStorage, path: str) -> Fingerprint:
    settings = Settings(data_uri=f"s3://{bucket}", s3_endpoint=storage.url)
    found = await S3Volumes.from_settings(settings).fingerprint(path)
    assert found is not None
    return found


async def test_a_listing_of_several_pages_is_one_fingerprint_or_an_outage(
    bucket: str, object_storage: ObjectStorage
) -> None:
    for number in range(1001):
        object_storage.put(bucket, f"samples/{number}.png", "x")
    before = await look(bucket, object_storage, "samples")
    assert before.files == 1001
    object_storage.put(bucket, "samples/1000.png", "y")
    assert (await look(bucket, object_storage, "samples")).digest != before.digest
    with pytest.raises(RejectedError, match="'samples' holds more than 1000 files; divide it"):
        await S3Volumes(f"s3://{bucket}", Service(object_storage.url), max_files=1000).fingerprint("samples")
    with proxied(object_storage.url) as proxy:
        proxy.fail(Fault("answer", 503), part="continuation-token")
        with pytest.raises(OutageError, match="SlowDown"):
            await S3Volumes(f"s3://{bucket}", Service(proxy.url, timeout=2)).fingerprint("samples")


async def test_writing_the_same_again_and_moving_the_folder_change_nothing(
    bucket: str, object_storage: ObjectStorage
) -> None:
    for folder in ("tenant/a", "b"):
        object_storage.put(bucket, f"{folder}/1.png", "x")
    before = await look(bucket, object_storage, "tenant/a")
    object_storage.put(bucket, "tenant/a/1.png", "x")
    assert await look(bucket, object_storage, "tenant/a") == before
    assert await look(bucket, object_storage, "./b/") == before


async def test_a_folder_made_by_a_console_is_no_file(bucket: str, object_storage: ObjectStorage) -> None:
    object_storage.put(bucket, "empty/", "")
    volumes = S3Volumes(f"s3://{bucket}", Service(object_storage.url))
    assert await volumes.fingerprint("empty") is None
    object_storage.put(bucket, "empty/1.png", "x")
    assert (await look(bucket, object_storage, "empty")).files == 1


async def test_a_name_that_is_no_path_is_refused_by_name(bucket: str, object_storage: ObjectStorage) -> None:
    object_storage.put(bucket, "samples//1.png", "x")
    with pytest.raises(RejectedError, match=r"'samples//1\.png' has a name that is not a path"):
        await look(bucket, object_storage, "samples")
