"""Dataset versions on object storage: publishes them after preparation, and downloads them for steps that read one.

The layout is that of a store in a folder (versions.py). Blobs are uploaded before the version that names them, and a version
exists once its manifest.json does.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from pelagos_contract import disk
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines import storage
from pelagos_pipelines.preparation import blobs, versions
from pelagos_pipelines.preparation.versions import Version
from pelagos_pipelines.storage import buckets, places
from pelagos_pipelines.storage.buckets import Bucket, Object

_FILES = (versions.EXCLUDED, versions.TAXONOMY, "annotations.json", "manifest.json")
"""In the order in which they are uploaded."""


def publish(version: Version, store: Bucket, confirm: Callable[[], None] = lambda: None) -> str:
    """Upload the version to the store, except blobs that exist there. Returns its uri.

    ``confirm`` raises when the store is no longer ours: then another process may be removing what the version needs.

    Raises:
        StorageError, StorageRefusedError: see storage.errors. An incomplete version has no manifest.json.
    """
    present = {entry.path: entry for entry in store.list("blobs")}
    files = {f"blobs/{file.parent.name}/{file.name}": file for file in version.blobs.values()}
    # If any ETag proves to be the MD5 of its file, ETags are digests here: compare content, not only sizes.
    by_content = any(path in present and _has_md5(file, present[path]) for path, file in files.items())
    missing = [path for path, file in files.items() if not _is_there(file, present.get(path), by_content)]
    buckets.at_once(lambda path: store.upload(files[path], path), missing)
    # The manifest comes last, after everything that it names, so that an interrupted preparation leaves nothing that readers see.
    for name in _FILES:
        if name == versions.TAXONOMY and not (version.folder / name).exists():
            continue
        confirm()
        store.upload(version.folder / name, f"versions/{version.digest}/{name}")
    return f"{store.uri}/versions/{version.digest}"


def download(uri: str, scratch: Path, splits: Collection[str]) -> Path:
    """Download a version with the images of ``splits``, each checked against its sha256. Returns its local folder.

    Blobs are kept between steps that share a disk; an interrupted download continues with what is missing.

    Raises:
        RefusedError: DATASET_NOT_READABLE when the version does not exist, or is incomplete or damaged.
        StorageError, StorageRefusedError: see storage.errors.
        OSError: the disk is full; raised before the first image is downloaded.
    """
    store, digest = _store_of(uri)
    folder = scratch / "versions" / digest
    cache = storage.scratch() / "blobs"
    _bring_files(store, digest, folder, uri)
    # Written before the version is read: without this file it counts as whole, and blobs of other splits would be missing.
    disk.write_atomically(folder / versions.HELD, json.dumps(sorted(splits)), parents=True)
    cache.mkdir(parents=True, exist_ok=True)
    # A version's blobs are read from the folder beside ``versions``. A link there makes all steps on this disk share the cache.
    (scratch / "blobs").unlink(missing_ok=True)
    (scratch / "blobs").symlink_to(cache, target_is_directory=True)
    missing = {}
    for entry in _entries(folder, uri):
        if entry["split"] in splits:
            # A cached blob was verified before it got its name. Its size reveals later damage by a full disk or a person.
            file = blobs.path(cache, entry["sha256"])
            if not file.exists() or file.stat().st_size != entry["size"]:
                missing[entry["sha256"]] = Object(_key(entry["sha256"]), entry["size"], "")
    places.require_room(cache, missing.values())
    buckets.at_once(lambda sha256: _bring_blob(store, sha256, cache, uri), missing)
    _require_intact(folder, uri)  # last, because it checks the blobs as well
    return folder


def require_complete(uri: str, scratch: Path) -> None:
    """Check that the version exists with all of its blobs, by the digest of its files and the sizes of blobs.

    Raises:
        RefusedError: DATASET_NOT_READABLE when it does not.
        StorageError, StorageRefusedError: see storage.errors.
    """
    store, digest = _store_of(uri)
    folder = scratch / "versions" / digest
    _bring_files(store, digest, folder, uri)
    disk.write_atomically(folder / versions.HELD, "[]", parents=True)
    _require_intact(folder, uri)
    present = {entry.path: entry.size for entry in store.list("blobs")}
    for entry in _entries(folder, uri):
        if present.get(_key(entry["sha256"])) != entry["size"]:
            raise _unreadable(uri, f"the image {entry['path']} is missing or has another size")


def image(uri: str, sha256: str) -> bytes:
    """The content of an image of the version at ``uri``, downloaded unless its blob is cached on this machine.

    Raises:
        RefusedError: DATASET_NOT_READABLE when it does not exist, or is damaged.
        StorageError, StorageRefusedError: see storage.errors.
        OSError: the disk is full.
    """
    store, _ = _store_of(uri)
    cache = storage.scratch() / "blobs"
    cache.mkdir(parents=True, exist_ok=True)
    if not blobs.path(cache, sha256).exists():
        _bring_blob(store, sha256, cache, uri)
    return blobs.content(cache, sha256)


def _store_of(uri: str) -> tuple[Bucket, str]:
    found = re.fullmatch(r"(s3://.+)/versions/([0-9a-f]{64})/?", uri)
    if found is None:
        raise _unreadable(uri, "it does not end in versions/ and a sha256")
    return Bucket(found.group(1)), found.group(2)


def _require_intact(folder: Path, uri: str) -> None:
    try:
        versions.read(folder)
    except RefusedError as error:  # the message should name the uri, not the local copy
        message = error.failure.message.replace(str(folder), uri)
        raise RefusedError(error.failure.reason, message, error.failure.field) from error


def _bring_files(store: Bucket, digest: str, folder: Path, uri: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name in _FILES:
        try:
            store.download(f"versions/{digest}/{name}", folder / name)
        except FileNotFoundError as error:
            # Whether an optional file must exist follows from the manifest, which `versions.read` checks.
            if name not in versions.OPTIONAL:
                raise _unreadable(uri, f"{name} is not there") from error


def _entries(folder: Path, uri: str) -> Iterable[Mapping[str, Any]]:
    """The manifest's images. Only fields that are used here are checked; `versions.read` checks all."""
    try:
        entries = orjson.loads((folder / "manifest.json").read_bytes())["images"]
        for entry in entries:
            blobs.path(folder, entry["sha256"])
            if not isinstance(entry["size"], int) or not isinstance(entry["path"], str):
                raise TypeError("size or path")
            entry["split"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(uri, f"manifest.json is not one ({type(error).__name__})") from error
    found: list[Mapping[str, Any]] = entries
    return found


def _bring_blob(store: Bucket, sha256: str, cache: Path, uri: str) -> None:
    try:
        file = blobs.path(cache, sha256)
        store.download(_key(sha256), file, sha256=sha256)
        file.chmod(file.stat().st_mode & 0o444)  # read-only, because views are links to it
    except FileNotFoundError as error:
        raise _unreadable(uri, f"the image {_key(sha256)} is not there") from error
    except storage.ChangedError as error:
        raise _unreadable(uri, f"an image is damaged: {error}") from error


def _is_there(file: Path, present: Object | None, by_content: bool) -> bool:
    if present is None or present.size != file.stat().st_size:
        return False
    return not by_content or not _is_md5(present.etag) or _has_md5(file, present)


def _has_md5(file: Path, present: Object) -> bool:
    """Whether the ETag is the MD5 of the content, as after an upload in one request without encryption by a key service."""
    if not _is_md5(present.etag):
        return False
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest() == present.etag.strip('"')


def _is_md5(etag: str) -> bool:
    return re.fullmatch(r'"?[0-9a-f]{32}"?', etag) is not None


def _key(sha256: str) -> str:
    return blobs.path(Path("blobs"), sha256).as_posix()


def _unreadable(uri: str, why: str) -> RefusedError:
    return RefusedError(
        Reason.DATASET_NOT_READABLE,
        f"the dataset version at {uri} is missing, incomplete or changed: {why}; prepare the dataset again",
        "dataset.uri",
    )
