"""One prefix of a bucket in S3-compatible storage, through obstore. Used by objects and volumes.

Vendors' error messages are long and quote the request, so errors get their own wording here. The client is created at the
first call, and again when credentials or the certificate authority have changed: both are rotated while the operator runs.
"""

from __future__ import annotations

import asyncio
import configparser
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pelagos.api import reasons
from pelagos.ports.errors import OutageError, RejectedError
from pelagos_contract import s3
from pelagos_contract.s3 import Failing, Timeouts

if TYPE_CHECKING:
    from obstore.store import S3Store

    from pelagos.settings import Settings

TIMEOUT = 20.0
"""Time limit of a request in seconds. A page of a listing, or the largest report, takes far less."""
AT_ONCE = 16
"""Most concurrent requests; more would only queue in the service."""


@dataclass(frozen=True)
class Service:
    """How to reach an S3-compatible service. ``endpoint`` is "" for AWS."""

    endpoint: str = ""
    region: str = "us-east-1"
    ca_file: Path | None = None
    timeout: float = TIMEOUT

    @classmethod
    def from_settings(cls, settings: Settings) -> Service:
        """The service that the installation's settings name."""
        endpoint = settings.s3_endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
        return cls(endpoint, settings.s3_region, settings.s3_ca_file)


@dataclass(frozen=True)
class Entry:
    """One object: ``path`` below the prefix of the bucket, ``size`` in bytes."""

    path: str
    size: int
    etag: str
    written_at: datetime


class Prefix:
    """All objects of a bucket below a prefix. ``system`` names it in errors. Safe for concurrent use.

    Every method may raise OutageError, and RejectedError for refusals that do not pass by themselves.
    """

    def __init__(self, system: str, uri: str, service: Service) -> None:
        self.uri = uri.rstrip("/")
        place = s3.parse(uri)
        if place is None:
            raise RejectedError(system, f"{uri!r} must be s3://bucket/prefix, for example s3://pelagos/objects")
        self._bucket, self._prefix = place
        self._system, self._service = system, service
        self._free = asyncio.Semaphore(AT_ONCE)
        self._connected: tuple[object, S3Store] | None = None

    async def get(self, path: str, limit: int) -> bytes | None:
        """The content of an object; None when it does not exist. Raises RejectedError if it has more than ``limit`` bytes."""
        import obstore

        store = self._store()
        async with self._free:
            with self._failing(f"reading {path}"):
                try:
                    found = await obstore.get_async(store, path)
                except FileNotFoundError as error:
                    self._require_bucket(error)
                    return None
                if found.meta["size"] > limit:
                    raise RejectedError(self._system, f"{self.uri}/{path} is larger than {limit} bytes")
                # Read the body only after the size in the header was checked, so that an oversized object is never loaded.
                content = bytes(await found.bytes_async())
        if len(content) != found.meta["size"]:
            raise OutageError(self._system, f"{self.uri}/{path}: the answer ended early")
        return content

    async def find(self, path: str) -> Entry | None:
        """The object of exactly this name; None when it does not exist."""
        import obstore

        store = self._store()
        async with self._free:
            with self._failing(f"looking for {path}"):
                try:
                    found = await obstore.head_async(store, path)
                except FileNotFoundError:
                    return None
        return Entry(path, found["size"], found["e_tag"] or "", found["last_modified"])

    async def pages(self, path: str) -> AsyncIterator[Sequence[Entry]]:
        """Yield the objects below the folder ``path`` ("" is the prefix itself), at most ``s3.PAGE`` at a time."""
        import obstore

        store = self._store()
        with self._failing(f"listing {path or 'the prefix'}"):
            stream = obstore.list(store, path or None, chunk_size=s3.PAGE)
        while True:
            async with self._free:
                with self._failing(f"listing {path or 'the prefix'}"):
                    try:
                        page = await stream.__anext__()
                    except StopAsyncIteration:
                        return
            yield [Entry(found["path"], found["size"], found["e_tag"] or "", found["last_modified"]) for found in page]

    async def names(self, path: str) -> tuple[str, ...]:
        """Sorted names of the objects and folders directly below the folder ``path``."""
        import obstore

        store = self._store()
        async with self._free:
            with self._failing(f"listing {path}"):
                found = await obstore.list_with_delimiter_async(store, path)
        paths = (*found["common_prefixes"], *(entry["path"] for entry in found["objects"]))
        return tuple(sorted({entry.rstrip("/").rsplit("/", 1)[-1] for entry in paths}))

    async def put(self, path: str, content: bytes) -> None:
        """Write an object, replacing an existing one."""
        import obstore

        store = self._store()
        async with self._free:
            with self._failing(f"writing {path}"):
                await obstore.put_async(store, path, content)

    async def delete(self, paths: Sequence[str]) -> None:
        """Delete objects, at most ``s3.PAGE``; no effect on missing ones."""
        import obstore

        store = self._store()
        async with self._free:
            with self._failing("deleting"):
                try:
                    await obstore.delete_async(store, list(paths))
                except FileNotFoundError as error:
                    self._require_bucket(error)

    def _store(self) -> S3Store:
        """A client with the current credentials and certificate authority."""
        credentials = _credentials(self._system)
        authority = self._authority()
        key = (tuple(credentials.items()), authority)
        if self._connected is None or self._connected[0] != key:
            service, place = self._service, (self._bucket, self._prefix)
            # Short, because reconcilers come back by themselves, and other requests wait for their turn.
            timeouts = Timeouts(
                timeout=service.timeout,
                connect=3,
                read=None,
                retries=2,
                retry_timeout=service.timeout,
                first_pause=0.1,
                longest_pause=2,
            )
            store = s3.connect(
                place, service.endpoint, service.region, timeouts, credentials=credentials, authority=authority
            )
            self._connected = (key, store)
        return self._connected[1]

    def _authority(self) -> bytes:
        file = self._service.ca_file
        if file is None:
            return b""
        try:
            return file.read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            message = f"the certificate authority {file} cannot be read: {reason}; correct PELAGOS_S3_CA_FILE"
            raise RejectedError(self._system, message) from error

    @contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        """Translate obstore's errors into RejectedError and OutageError."""
        from obstore import exceptions

        try:
            yield
        except exceptions.InvalidPathError as error:
            raise RejectedError(self._system, f"{self._where}: {s3.odd_name(error)}") from None
        except (exceptions.BaseError, ValueError, OSError) as error:
            raise self._worded(doing, error) from None

    def _require_bucket(self, error: FileNotFoundError) -> None:
        """Raise if the bucket is missing, which must not be taken for a missing object."""
        if s3.is_bucket_missing(error):
            raise self._worded("reading", error) from None

    def _worded(self, doing: str, error: Exception) -> OutageError | RejectedError:
        failure = s3.failure(error, authority="PELAGOS_S3_CA_FILE")
        said = failure.said
        if failure.kind is Failing.NO_BUCKET:
            message = "there is no such bucket; create it, or correct PELAGOS_OBJECTS_URI or PELAGOS_DATA_URI"
            return RejectedError(self._system, f"{self._where}: {message}", reason=reasons.BUCKET_NOT_FOUND)
        if failure.kind is Failing.DENIED:
            message = (
                f"access is refused ({said}) while {doing}; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the operator, "
                "and their rights in this bucket"
            )
        elif failure.kind is Failing.MISUNDERSTOOD:
            message = f"the service does not understand ({said}) while {doing}; check PELAGOS_S3_ENDPOINT and PELAGOS_S3_REGION"
        else:
            return OutageError(self._system, f"{self._where}: {doing}: {said}")
        return RejectedError(self._system, f"{self._where}: {message}")

    @property
    def _where(self) -> str:
        return f"{s3.SCHEME}{self._bucket} at {self._service.endpoint or 'AWS'}"


def checked_path(system: str, path: str) -> str:
    """``path``, if it is relative, with forward slashes and without "." or ".."; raises RejectedError for anything else."""
    if not path or any(part in ("", ".", "..") for part in path.split("/")) or not path.isprintable():
        raise RejectedError(system, f"{path!r} must be a relative path with forward slashes inside of the store")
    return path


def _credentials(system: str) -> dict[str, str]:
    """Credentials from the environment, else from AWS_SHARED_CREDENTIALS_FILE; empty where the platform provides them."""
    names = {
        "access_key_id": "AWS_ACCESS_KEY_ID",
        "secret_access_key": "AWS_SECRET_ACCESS_KEY",
        "session_token": "AWS_SESSION_TOKEN",
    }
    found = {option: os.environ[name] for option, name in names.items() if os.environ.get(name)}
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    if file and "access_key_id" not in found:
        found = _profile(system, Path(file), {option: name.lower() for option, name in names.items()})
    if not {"access_key_id", "secret_access_key"} <= found.keys() and not s3.platform_has_credentials():
        raise RejectedError(
            system,
            "there are no credentials for the object storage; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
            " or AWS_SHARED_CREDENTIALS_FILE, in the environment of the operator",
        )
    return found


def _profile(system: str, file: Path, names: dict[str, str]) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, default_section="-")
    profile = os.environ.get("AWS_PROFILE", "default")
    try:
        parser.read_string(file.read_text(encoding="utf-8"))
        section = parser[profile]
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
        # Leave out the error's own message: a parser quotes the line that it fails on, which may hold a secret.
        message = f"AWS_SHARED_CREDENTIALS_FILE {file} has no readable profile {profile!r} ({type(error).__name__})"
        raise RejectedError(system, message) from None
    return {option: section[name] for option, name in names.items() if section.get(name)}
