"""Removes versions from a store, and the images that no remaining version uses. The caller holds the store.

Everything under its final name is complete at every moment: a version is removed before its images, and its manifest before its
other files. A process that is killed in between leaves images that no version names. The next removal, or a preparation that
needs them, finds them. Nothing depends on clocks.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import orjson

from pelagos_contract.collection import CollectionResult
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.preparation import blobs, locks, versions
from pelagos_pipelines.storage import Bucket

AT_ONCE = 200
"""Objects that are removed between two checks that the store is still ours."""
_NAME = re.compile(r"[0-9a-f]{64}")
_MANIFEST = "manifest.json"


def from_folder(store: Path, remove: Sequence[str]) -> CollectionResult:
    """Remove the versions with these digests from a store in a folder. Readers are locked out while it runs.

    Raises:
        RefusedError: DATASET_NOT_READABLE: a remaining version's images are unknown. Nothing was removed.
        locks.BusyError: the store is being read; nothing was removed.
    """
    gone = [digest.removeprefix("sha256:") for digest in remove]
    with locks.unread(store):
        folders = {path.name: path for path in (store / "versions").iterdir() if _NAME.fullmatch(path.name)}
        # Read before anything is removed, because an unreadable manifest may name any of the images.
        kept = _images(
            (name, folder / _MANIFEST, str(folder)) for name, folder in sorted(folders.items()) if name not in gone
        )
        freed = sum(_remove_version(folders[name]) for name in gone if name in folders)
        images = kept_images = kept_bytes = 0
        for blob in _blobs(store):
            seen = blob.stat()
            if blob.parent.name + blob.name in kept:
                kept_images, kept_bytes = kept_images + 1, kept_bytes + seen.st_size
                continue
            blob.unlink()
            # Views of versions may still link to the file. Its space is not free until they are removed.
            images, freed = images + 1, freed + (seen.st_size if seen.st_nlink == 1 else 0)
        return CollectionResult(
            removed=list(remove),
            images=images,
            freed_bytes=freed,
            kept_versions=len(folders.keys() - set(gone)),
            kept_images=kept_images,
            kept_bytes=kept_bytes,
        )


def from_bucket(store: Bucket, remove: Sequence[str], scratch: Path, confirm: Callable[[], None]) -> CollectionResult:
    """Remove the versions with these digests from a store on object storage.

    ``confirm`` raises when the store is no longer ours. It is called before each step that cannot be undone.

    Raises:
        RefusedError: DATASET_NOT_READABLE: a remaining version's images are unknown. Nothing was removed.
        StorageError, StorageRefusedError, TakenOverError: see storage.errors. Part may be removed; the rest is complete.
    """
    gone = {digest.removeprefix("sha256:") for digest in remove}
    files: dict[str, dict[str, int]] = {}
    for entry in store.list("versions"):
        name, _, file = entry.path.removeprefix("versions/").partition("/")
        if _NAME.fullmatch(name):
            files.setdefault(name, {})[file] = entry.size
    # A version without a manifest does not count: its writer was killed, and nobody else writes while the store is ours.
    whole = sorted(name for name, found in files.items() if _MANIFEST in found and name not in gone)
    brought = _manifests(store, whole, files, scratch)
    kept = _images(brought)
    blobs = {entry.path: entry.size for entry in store.list("blobs") if _is_blob(entry.path)}
    unused = sorted(path for path in blobs if path.removeprefix("blobs/").replace("/", "") not in kept)
    unused_bytes = sum(blobs[path] for path in unused)
    for name in sorted(gone & files.keys()):
        confirm()
        # In a separate request before the others: without the manifest, readers no longer see the version.
        store.remove([f"versions/{name}/{_MANIFEST}"])
        store.remove(f"versions/{name}/{file}" for file in files[name] if file != _MANIFEST)
    for start in range(0, len(unused), AT_ONCE):
        confirm()
        store.remove(unused[start : start + AT_ONCE])
    return CollectionResult(
        removed=list(remove),
        images=len(unused),
        freed_bytes=unused_bytes + sum(sum(files[name].values()) for name in gone & files.keys()),
        kept_versions=len(whole),
        kept_images=len(blobs) - len(unused),
        kept_bytes=sum(blobs.values()) - unused_bytes,
    )


def _manifests(
    store: Bucket, names: Iterable[str], files: Mapping[str, Mapping[str, int]], scratch: Path
) -> Iterator[tuple[str, Path, str]]:
    """Download manifests one after another, so that only one of many large ones is on this machine at a time."""
    here = scratch / _MANIFEST
    for name in names:
        where = f"{store.uri}/versions/{name}"
        if files[name][_MANIFEST] > versions.LARGEST[_MANIFEST]:
            raise _unreadable(where, "its manifest.json is larger than any of ours")
        store.download(f"versions/{name}/{_MANIFEST}", here)
        yield name, here, where


def _images(manifests: Iterable[tuple[str, Path, str]]) -> frozenset[str]:
    """The sha256 of all images that versions name; ``manifests`` has each version's digest, file, and name for messages.

    Raises:
        RefusedError: a manifest cannot be read, or belongs to another version.
    """
    found: set[str] = set()
    for name, file, where in manifests:
        try:
            if file.stat().st_size > versions.LARGEST[_MANIFEST]:
                raise _unreadable(where, "its manifest.json is larger than any of ours")
            manifest = orjson.loads(file.read_bytes())
            if manifest["digest"] != f"sha256:{name}":
                raise _unreadable(where, "its manifest.json is of another version")
            for entry in manifest["images"]:
                blobs.path(file.parent, entry["sha256"])
                found.add(entry["sha256"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(where, f"its manifest.json cannot be read ({type(error).__name__})") from error
    return frozenset(found)


def _remove_version(folder: Path) -> int:
    """Remove a version, atomically for its readers: it is renamed first. Returns the bytes of its files."""
    gone = folder.with_name(f"{locks.PARTIAL}{folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    # Includes files beside the version's own, such as a report.
    size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    folder.rename(gone)
    # Synced before images are removed, so that a power cut leaves no version without its images.
    blobs.sync_folder(folder.parent)
    shutil.rmtree(gone)
    return size


def _blobs(store: Path) -> Iterator[Path]:
    for folder in sorted((store / "blobs").glob("[0-9a-f][0-9a-f]")):
        for blob in sorted(folder.iterdir()):
            if _NAME.fullmatch(folder.name + blob.name) and blob.is_file() and not blob.is_symlink():
                yield blob


def _is_blob(path: str) -> bool:
    return re.fullmatch(r"blobs/[0-9a-f]{2}/[0-9a-f]{62}", path) is not None


def _unreadable(where: str, why: str) -> RefusedError:
    return RefusedError(
        Reason.DATASET_NOT_READABLE,
        f"nothing was removed: nobody knows which images the version at {where} has, because {why}; restore it, or remove its"
        " folder",
        "history",
    )
