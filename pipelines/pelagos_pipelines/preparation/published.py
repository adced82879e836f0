"""Dataset versions on object storage: published after preparation, and brought to the disk of a step that reads one.

The layout is that of a store in a folder (versions.py). Blobs are there before the version that names them, and a version is
there when its manifest.json is.
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
"""In the order in which they are written."""


def publish(version: Version, store: Bucket, confirm: Callable[[], None] = lambda: None) -> str:
    """Write the version below the store; blobs that are there already are left alone. Returns its uri.

    ``confirm`` raises when the store is not ours any more: then somebody may be removing what the version needs.

    Raises:
        StorageError, StorageRefusedError: see storage.errors; a version that is half there has no manifest.json.
    """
    present = {entry.path: entry for entry in store.list("blobs")}
    files = {f"blobs/{file.parent.name}/{file.name}": file for file in version.blobs.values()}
    # Where ETags are digests at all, one of them shows it; then content is compared, and not the size alone.
    by_content = any(path in present and _has_md5(file, present[path]) for path, file in files.items())
    missing = [path for path, file in files.items() if not _is_there(file, present.get(path), by_content)]
    buckets.at_once(lambda path: store.upload(files[path], path), missing)
    # The manifest last, after all that it names: a preparation that ends in between leaves nothing that readers would find.
    for name in _FILES:
        if name == versions.TAXONOMY and not (version.folder / name).exists():
            continue
        confirm()
        store.upload(version.folder / name, f"versions/{version.digest}/{name}")
    return f"{store.uri}/versions/{version.digest}"


def download(uri: str, scratch: Path, splits: Collection[str]) -> Path:
    """The folder of a version on this machine, with the images of ``splits``, each held against its sha256.

    Blobs are kept between steps that share a disk; an interrupted download goes on with what is missing.

    Raises:
        RefusedError: DATASET_NOT_READABLE when it is not there, incomplete or damaged.
        StorageError, StorageRefusedError: see storage.errors.
        OSError: the disk is full; known before the first image is brought.
    """
    store, digest = _store_of(uri)
    folder = scratch / "versions" / digest
    cache = storage.scratch() / "blobs"
    _bring_files(store, digest, folder, uri)
    # Before it is read: without this file a version counts as whole, and blobs of other splits would be missed.
    disk.write_atomically(folder / versions.HELD, json.dumps(sorted(splits)), parents=True)
    cache.mkdir(parents=True, exist_ok=True)
    (scratch / "blobs").unlink(missing_ok=True)
    (scratch / "blobs").symlink_to(cache, target_is_directory=True)
    missing = {}
    for entry in _entries(folder, uri):
        if entry["split"] in splits:
            # Blobs get their names after they were verified; a size tells what a full disk or a person did to one.
            file = blobs.path(cache, entry["sha256"])
            if not file.exists() or file.stat().st_size != entry["size"]:
                missing[entry["sha256"]] = Object(_key(entry["sha256"]), entry["size"], "")
    places.require_room(cache, missing.values())
    buckets.at_once(lambda sha256: _bring_blob(store, sha256, cache, uri), missing)
    _require_intact(folder, uri)  # last, for it wants the blobs to be there
    return folder


def require_complete(uri: str, scratch: Path) -> None:
    """Whether the version is there with all of its blobs, by digest of its files and sizes of blobs.

    Raises:
        RefusedError: DATASET_NOT_READABLE when it is not.
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
    """The content of an image of the version at ``uri``, from the blobs that are kept on this machine, or brought there.

    Raises:
        RefusedError: DATASET_NOT_READABLE when it is not there, or damaged.
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
    except RefusedError as error:  # in the words of its readers, who do not know the copy
        message = error.failure.message.replace(str(folder), uri)
        raise RefusedError(error.failure.reason, message, error.failure.field) from error


def _bring_files(store: Bucket, digest: str, folder: Path, uri: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name in _FILES:
        try:
            store.download(f"versions/{digest}/{name}", folder / name)
        except FileNotFoundError as error:
            # The manifest says whether the list of what was left out must be there.
            if name not in versions.OPTIONAL:
                raise _unreadable(uri, f"{name} is not there") from error


def _entries(folder: Path, uri: str) -> Iterable[Mapping[str, Any]]:
    """Of the manifest; only the fields that are used here are checked, `versions.read` checks all."""
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
        file.chmod(file.stat().st_mode & 0o444)  # views are links to it
    except FileNotFoundError as error:
        raise _unreadable(uri, f"the image {_key(sha256)} is not there") from error
    except storage.ChangedError as error:
        raise _unreadable(uri, f"an image is damaged: {error}") from error


def _is_there(file: Path, present: Object | None, by_content: bool) -> bool:
    if present is None or present.size != file.stat().st_size:
        return False
    return not by_content or not _is_md5(present.etag) or _has_md5(file, present)


def _has_md5(file: Path, present: Object) -> bool:
    """Whether the ETag is the MD5 of the content, as for what was written in one request without a key service."""
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
