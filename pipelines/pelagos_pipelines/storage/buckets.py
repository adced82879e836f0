"""One prefix of a bucket in S3-compatible storage, by way of obstore: reads, writes, listings and conditional writes.

Used by places, leases and the modules that know what is stored. Service and credentials come from the environment
(AWS_ENDPOINT_URL, AWS_REGION, AWS_CA_BUNDLE, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN). Every method may raise
the errors of storage.errors. Downloads whose body breaks off are repeated.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from pelagos_contract import disk, s3
from pelagos_contract.s3 import Timeouts
from pelagos_pipelines.storage.errors import ChangedError, StorageError, StorageRefusedError, worded

if TYPE_CHECKING:
    from obstore.store import S3Store

AT_ONCE = 8
"""Concurrent transfers."""
TRIES = 4
"""Attempts at a download whose body breaks off. obstore retries failed requests below that."""
TIMEOUTS = Timeouts(timeout=3600, connect=5, read=30, retries=6, retry_timeout=90, first_pause=0.2, longest_pause=10)
"""Seconds: a large object may take an hour, but never 30 seconds without a byte."""
_CHUNK = 1 << 20

Given = TypeVar("Given")


@dataclass(frozen=True)
class Object:
    """A listed object: ``path`` below the prefix, ``size`` in bytes."""

    path: str
    size: int
    etag: str


@dataclass(frozen=True)
class Login:
    """How to reach somebody else's storage. ``credentials`` by obstore's names; without any, requests are not signed."""

    endpoint: str
    region: str
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    authority: bytes = b""

    def connect(self, place: tuple[str, str]) -> S3Store:
        """A client for the bucket and prefix ``place``.

        Our own AWS_ variables are removed while it is created: obstore would read them, and send our credentials to that server.
        """
        ours = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
        try:
            login = self.credentials or {"skip_signature": "true"}
            return s3.connect(place, self.endpoint, self.region, TIMEOUTS, credentials=login, authority=self.authority)
        finally:
            os.environ.update(ours)


def is_remote(uri: str) -> bool:
    """Whether ``uri`` names object storage; False for a folder. Raises StorageRefusedError for any other scheme."""
    if uri.startswith(s3.SCHEME):
        return True
    if "://" in uri:
        raise StorageRefusedError(f"{uri!r} must be an absolute path or s3://bucket/prefix")
    return False


def parse(uri: str) -> tuple[str, str]:
    """The bucket and the prefix in ``s3://bucket/prefix``. Raises StorageRefusedError for anything else."""
    place = s3.parse(uri)
    if place is None:
        raise StorageRefusedError(f"{uri!r} must be s3://bucket/prefix")
    return place


class Bucket:
    """All objects below the prefix that ``uri`` names. Threads may share it."""

    def __init__(self, uri: str, login: Login | None = None) -> None:
        """Open no connection. Raises StorageRefusedError unless it is an s3:// uri and there are credentials.

        ``login`` is for a storage that is not ours; the environment is not used then.
        """
        self.uri = uri.rstrip("/")
        self._store = _connect(parse(uri)) if login is None else login.connect(parse(uri))

    def list(self, folder: str = "") -> Sequence[Object]:
        """All objects below ``folder``, sorted by path."""
        import obstore

        found: list[Object] = []
        with worded(self.uri, f"listing {folder or 'it'}"):
            for page in obstore.list(self._store, folder or None, chunk_size=s3.PAGE):
                found += [Object(entry["path"], entry["size"], entry["e_tag"] or "") for entry in page]
        return sorted(found, key=lambda entry: entry.path)

    def find(self, path: str) -> Object | None:
        """The object with exactly this name, or None."""
        import obstore

        with worded(self.uri, f"looking for {path}"):
            try:
                found = obstore.head(self._store, path)
            except FileNotFoundError:
                return None
        return Object(path, found["size"], found["e_tag"] or "")

    def read(self, path: str) -> tuple[bytes, str] | None:
        """Content and ETag, or None when there is no such object. For small objects: the content is read into memory."""
        import obstore

        def once() -> tuple[bytes, str] | None:
            with worded(self.uri, f"reading {path}"):
                try:
                    found = obstore.get(self._store, path)
                except FileNotFoundError as error:
                    if s3.is_bucket_missing(error):
                        raise
                    return None
                content = bytes(found.bytes())
            if len(content) != found.meta["size"]:
                raise StorageError(f"{self.uri}/{path}: the answer ended early")
            return content, found.meta["e_tag"] or ""

        return _trying(once)

    def download(self, path: str, target: Path, *, etag: str = "", sha256: str = "") -> None:
        """Write the object to ``target``, whole or not at all.

        Raises:
            FileNotFoundError: there is no such object.
            ChangedError: its ETag is not ``etag``, or its content does not have ``sha256``.
            OSError: the file could not be written, for example because the disk is full.
        """
        import obstore

        def once() -> None:
            digest, size = hashlib.sha256(), 0
            with worded(self.uri, f"reading {path}"):
                found = obstore.get(self._store, path, options={"if_match": etag} if etag else None)
                with partial.open("wb") as file:
                    for chunk in found.stream(_CHUNK):
                        digest.update(chunk)
                        size += file.write(chunk)
            if size != found.meta["size"]:
                raise StorageError(f"{self.uri}/{path}: the answer ended early")
            if sha256 and digest.hexdigest() != sha256:
                raise ChangedError(
                    f"{self.uri}/{path}: its content has sha256 {digest.hexdigest()} instead of {sha256}"
                )

        target.parent.mkdir(parents=True, exist_ok=True)
        # A random name, because steps that share a disk may download the same object at the same time.
        with disk.written(target.with_name(f".{uuid4().hex}.partial")) as partial:
            _trying(once)
            partial.replace(target)

    def upload(self, file: Path, path: str) -> None:
        """Upload a file; readers see either the old object or the new one."""
        import obstore

        with worded(self.uri, f"writing {path}"):
            obstore.put(self._store, path, file)

    def write(self, path: str, content: bytes) -> None:
        """Write bytes; readers see either the old object or the new one."""
        import obstore

        with worded(self.uri, f"writing {path}"):
            obstore.put(self._store, path, content)

    def write_if(self, path: str, content: bytes, etag: str) -> str | None:
        """Write only if the object still has ``etag``, or for "" only if there is none. Returns the new ETag, None if refused."""
        import obstore
        from obstore import exceptions

        with worded(self.uri, f"writing {path}"):
            try:
                written = obstore.put(self._store, path, content, mode={"e_tag": etag} if etag else "create")
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                return None
        return written["e_tag"] or ""

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects; absent ones are ignored."""
        import obstore

        if listed := list(paths):
            with worded(self.uri, "removing"), contextlib.suppress(FileNotFoundError):
                obstore.delete(self._store, listed)


def at_once(work: Callable[[Given], None], items: Iterable[Given]) -> None:
    """Call ``work`` for all items, up to ``AT_ONCE`` concurrently. The first error cancels those not yet started."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _trying(once: Callable[[], Given]) -> Given:
    """Call ``once``, up to ``TRIES`` times when it raises StorageError. ChangedError is final: the object stays changed."""
    for left in reversed(range(TRIES)):
        try:
            return once()
        except ChangedError:
            raise
        except StorageError:
            if not left:
                raise
            time.sleep(0.2 * (TRIES - left))
    raise AssertionError("unreachable")


def _connect(place: tuple[str, str]) -> S3Store:
    # Refused here, because obstore would wait for a cloud's metadata service and then complain about that instead.
    own = all(os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    if not own and not s3.platform_has_credentials():
        raise StorageRefusedError(
            "there are no credentials for the object storage; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY come from the Secret"
            " that PELAGOS_OBJECTS_SECRET, or objectsSecret of the tenant, names"
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    authority = b""
    if file := os.environ.get("AWS_CA_BUNDLE"):
        try:
            authority = Path(file).read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StorageRefusedError(f"AWS_CA_BUNDLE {file} cannot be read: {reason}") from error
    return s3.connect(place, endpoint, region, TIMEOUTS, authority=authority)
