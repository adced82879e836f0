"""A prefix of a bucket, or an archive in it, on a storage other than the installation's, with its own address and login."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pelagos_contract import s3 as known
from pelagos_contract.beneath import Folder
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.remote_sources import Origin, S3Source
from pelagos_contract.source_hosts import AUTHORITY
from pelagos_contract.sources import S3
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.fetching import FetchError, shown_url
from pelagos_pipelines.sources import archives, fetched, volume
from pelagos_pipelines.sources.place import Errand, RemotePlace
from pelagos_pipelines.storage import Bucket, StorageError, StorageRefusedError, places
from pelagos_pipelines.storage.buckets import Login, Object

_OPTIONS = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "token",
}


def look(source: S3Source, errand: Errand) -> Origin:
    """The state by names, sizes and ETags of a listing."""
    with _asking(source, errand) as bucket:
        objects = _objects(source, bucket, errand)
    listed = json.dumps([(each.path, each.size, each.etag) for each in objects]).encode()
    return Origin(
        url=source.uri if source.endpoint is None else f"{shown_url(source.endpoint)} {source.uri}"[:500],
        version=objects[0].etag.strip('"')[:200] if len(objects) == 1 else None,
        files=len(objects),
        bytes=sum(each.size for each in objects),
        state=hashlib.sha256(listed).hexdigest() if all(each.etag for each in objects) else None,
    )


def fetch(source: S3Source, errand: Errand, origin: Origin) -> tuple[SourceFiles, Origin]:
    """Fetch the files below the prefix, or in the archive."""
    name, field = _name(source), errand.client.field
    with _asking(source, errand) as bucket:
        archive = _archive(name, bucket)
        if archive is not None:
            places.require_room(errand.scratch, [archive])
            bucket.download(name, errand.scratch / "archive", etag=archive.etag)
            errand.progress(archive.size, archive.size)
        else:
            left = volume.bring(bucket, name, errand.scratch / "bucket", (source.uri, field))
    if archive is not None:
        return fetched.unpacked(name.rpartition("/")[2], errand.scratch / "archive", errand), origin
    root = errand.scratch / "bucket"
    tree = volume.collected(source.uri, Folder(root, name or "."), root / name, field)
    return replace(tree, excluded=(*tree.excluded, *left)), origin


def _objects(source: S3Source, bucket: Bucket, errand: Errand) -> list[Object]:
    name = _name(source)
    archive = _archive(name, bucket)
    found = [archive] if archive is not None else list(bucket.list(name))
    if not found:
        raise volume.nothing(source.uri, errand.client.field)
    return found


def _archive(name: str, bucket: Bucket) -> Object | None:
    return bucket.find(name) if archives.kind_of(name) is not None else None


def _name(source: S3Source) -> str:
    """The path in the bucket."""
    place = known.parse(source.uri)
    if place is None:
        raise RefusedError(Reason.FORMAT_INVALID, f"{source.uri!r} must be s3://bucket/prefix", "source.s3.uri")
    return place[1]


@contextmanager
def _asking(source: S3Source, errand: Errand) -> Iterator[Bucket]:
    """A context with the bucket; failures of its storage become refusals of the source."""
    endpoint = source.endpoint or f"https://s3.{source.region}.amazonaws.com"
    errand.client.require_allowed(endpoint)
    credentials = {option: errand.secret[key].strip() for key, option in _OPTIONS.items() if key in errand.secret}
    given = os.environ.get(AUTHORITY)
    login = Login(endpoint, source.region, credentials, Path(given).read_bytes() if given else b"")
    _name(source)
    bucket = source.uri.removeprefix(known.SCHEME).partition("/")[0]
    try:
        yield Bucket(known.SCHEME + bucket, login)
    except StorageRefusedError as error:
        hint = "" if credentials else "; no secretRef is set, so that it was asked as nobody"
        raise RefusedError(Reason.SOURCE_ACCESS_DENIED, f"{error}{hint}", errand.client.field) from None
    except StorageError as error:
        raise FetchError(str(error)) from None


PLACE = RemotePlace(S3, look, fetch)
